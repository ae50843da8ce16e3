"""What a table of the paper looks like (`paper.yaml`), and a filled one, as CSV or ready to be
rendered."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from i2m2.errors import SettingsError
from i2m2.metrics import metric_of
from i2m2.report.render import Sheet, Strong


def in_percent(metric: str) -> bool:
    """Whether a metric is a share, and shown in percent."""
    return metric_of(metric).percent


@dataclass(frozen=True, kw_only=True)
class Known:
    """A number the paper reports, in `unit` (percent, or the metric's own such as nats), and how
    far it can be trusted.

    In a table's `best` it belongs to the best of `rows` (run names), where the source does not say
    which of them it is.
    """

    value: float
    std: float | None = None
    unit: str = "percent"
    source: str = ""
    certainty: str = ""
    rows: Sequence[str] = ()

    @property
    def scale(self) -> int:
        """What a value of ours, a fraction, is multiplied by to be compared with it."""
        return 100 if self.unit == "percent" else 1

    def __str__(self) -> str:
        return f"{self.value:.2f}" + (f" ± {self.std:.2f}" if self.std is not None else "")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the paper's table: its label there, our run's folder name, and the arguments that
    make that run.

    `command` makes a row that is not trained; `{folder}` in it stands for the results folder.
    """

    label: str
    run: str
    args: str = ""
    command: str = ""
    paper: dict[str, Known] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A table of the paper, as a `paper.yaml` describes it; `defaults` is the content of its config
    file.

    `folder` is the results folder it is listed under; `published` is False for what no `paper.yaml`
    knows; `drawn` are the metrics of its figure, a panel each. A row reproduces the paper if its
    mean over at least `seeds` is within `tolerance` points (percent) of the paper's value;
    `backbone`: how the name of the paper's begins, where there are several; `variants`: of the data
    that count as the paper's, any if none is named. `own`: module of the data set's own statistics,
    see `custom_statistics_of`.
    """

    folder: str
    name: str
    title: str
    metrics: list[str]
    rows: list[Row]
    train: str = ""
    config: str = ""
    source: str = ""
    synthetic: bool = False
    published: bool = True
    best: Known | None = None
    drawn: Sequence[str] = ()
    seeds: int = 5
    tolerance: float = 1.0
    backbone: str = ""
    variants: Sequence[str] = ()
    own: str = ""
    defaults: dict[str, Any]


def read_entries() -> dict[str, list[Entry]]:
    """Results folder -> its tables, from the `paper.yaml` files of this repository and of the
    current directory (which wins)."""
    roots = (Path(__file__).resolve().parents[2], Path.cwd())
    paths = [path for root in roots for path in sorted(root.glob("*/paper.yaml"))]
    return {key: entries for path in paths for key, entries in read_paper(path).items()}


def listed_under(folder: str, entries: Mapping[str, list[Entry]]) -> list[Entry]:
    """The tables of a results folder: under its name, else under the longest part of it (`avmnist`
    for `avmnist-x`), else none."""
    keys = [key for key in entries if folder == key or folder.startswith(f"{key}-")]
    return entries[max(keys, key=len)] if keys else []


def read_paper(path: Path) -> dict[str, list[Entry]]:
    """The tables of one `paper.yaml` by results folder. Keys starting with `_` only hold what
    others repeat by an anchor."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        listed = {key: tables for key, tables in content.items() if not key.startswith("_")}
        return {
            key: [_entry(path, folder=key, **entry) for entry in tables]
            for key, tables in listed.items()
        }
    except (TypeError, ValueError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise SettingsError(
            f"{path} or a config file it names: {error}; AVMNIST_and_MIMIC/paper.yaml says what an entry holds"
        ) from error


def _entry(path: Path, *, rows: list[dict], best: dict | None = None, **rest: Any) -> Entry:
    config = path.parents[1] / rest.get("config", "")
    paper = [
        {metric: Known(**known) for metric, known in row.get("paper", {}).items()} for row in rows
    ]
    return Entry(
        rows=[Row(**row | {"paper": known}) for row, known in zip(rows, paper, strict=True)],
        best=Known(**best) if best else None,
        defaults=(yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None)
        or {},
        **rest,
    )


class CustomStatistics(NamedTuple):
    """What a data set's predictions have of their own: metrics, as `statistics.resample` takes
    them, and what stands in for `studies.study` and `studies.combination`."""

    metrics: Mapping[str, Any] = MappingProxyType({})
    study: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    combination: Callable[..., dict[str, Any]] | None = None


def custom_statistics_of(entries: Sequence[Entry]) -> CustomStatistics:
    """Those of the module that the entries name: its CUSTOM_METRICS holds metrics, `study` and `combination`
    are functions, if it has them."""
    if not entries or not entries[0].own:
        return CustomStatistics()
    module = import_module(entries[0].own)
    return CustomStatistics(
        module.CUSTOM_METRICS, getattr(module, "study", None), getattr(module, "combination", None)
    )


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table: for each metric one fraction per finished seed, and the paper's numbers."""

    label: str
    run: str
    values: dict[str, list[float]]
    paper: dict[str, Known] = field(default_factory=dict)
    verdict: str = ""
    missing: Sequence[int] = ()  # seeds


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is shown of one results folder. `compared`: metrics that stand beside the paper's, which
    only those of real data may."""

    title: str
    about: str  # data set, variant, real or SYNTHETIC, number of seeds
    metrics: Sequence[str]  # the first one is compared with the paper
    drawn: Sequence[
        str
    ] = ()  # the metrics of its figure, a panel each; the first one if none is named
    data: str  # real, synthetic or not recorded
    compared: Sequence[str] = ()
    judged: bool = True  # whether there is a table of the paper to be reproduced
    lines: list[Line]  # the paper's rows, in its order
    further: list[Line] = field(
        default_factory=list
    )  # finished runs that are not rows of the paper's table
    notes: list[str] = field(default_factory=list)
    todo: dict[str, list[str]] = field(
        default_factory=dict
    )  # heading -> runs to make or go on with, each with its command
    best: Known | None = None
    baseline: dict[str, float] = field(
        default_factory=dict
    )  # metric -> score of the class frequencies; {} where not recorded
    statistics: dict[str, Any] = field(
        default_factory=dict
    )  # of `significance.statistics_for`; {} where there are no predictions

    @property
    def units(self) -> str:
        plain = [metric for metric in self.metrics if not in_percent(metric)]
        but = f" (not {', '.join(plain)})" if plain else ""
        interval = (
            f", 95 % interval of {self.metrics[0]}"
            if any(self.interval(line.run) for line in self.lines)
            else ""
        )
        return f"In percent{but}: mean ± sample standard deviation over the seeds{interval} (number of seeds)."

    def interval(self, run: str) -> tuple[float, float] | None:
        """Of the main metric, as fractions; None where there is none."""
        found = self.statistics.get("rows", {}).get(run, {}).get(self.metrics[0], {})
        return (found["low"], found["high"]) if found.get("low") is not None else None

    def is_best(self, run: str, metric: str) -> bool:
        return self.statistics.get("best", {}).get(metric) == run

    def is_undistinguished(self, run: str, metric: str) -> bool:
        """From the best of the column."""
        p = self.statistics.get("p", {}).get(metric, {}).get(run)
        return p is not None and p >= ALPHA


BASELINE = "Majority class (class frequencies)"
ALPHA = 0.05  # above it, a corrected p leaves a row undistinguished from the best


def number(value: float, metric: str = "accuracy") -> str:
    """0.7215 -> '72.2', in percent unless the metric is none; NLL and the like with three decimals.
    Halves are rounded up."""
    scale, step = (100, "0.1") if in_percent(metric) else (1, "0.001")
    if not math.isfinite(value):
        return str(value)
    return str(Decimal(repr(round(scale * value, 9))).quantize(Decimal(step), ROUND_HALF_UP))


def cell(
    values: list[float], metric: str = "accuracy", interval: tuple[float, float] | None = None
) -> str:
    """[0.71, 0.73] -> '72.0 ± 1.4 (2)': mean, sample standard deviation, number of seeds; [] ->
    'missing'.

    With an interval: '72.0 ± 1.4 [70.1, 73.9] (2)'.
    """
    if not values:
        return "missing"
    spread = f" ± {number(statistics.stdev(values), metric)}" if len(values) > 1 else ""
    ends = f" [{number(interval[0], metric)}, {number(interval[1], metric)}]" if interval else ""
    return f"{number(statistics.fmean(values), metric)}{spread}{ends} ({len(values)})"


def grid(table: Table, lines: list[Line], first: str, judged: bool) -> list[list[str]]:
    """The table as text, header first: label, a column per metric, and of rows that are `judged`
    the paper's values of the metrics that may be compared, and the verdict. What the class
    frequencies alone reach stands above, where it is recorded."""
    rows = [[line.label, *(_cell_of(table, line, m) for m in table.metrics)] for line in lines]
    header = [first, *table.metrics]
    if judged:
        header += [*(f"{metric}, paper" for metric in table.compared), "verdict"]
        for row, line in zip(rows, lines, strict=True):
            row += [*(str(line.paper.get(metric, "-")) for metric in table.compared), line.verdict]
    if table.baseline:
        values = [table.baseline.get(m) for m in table.metrics]
        rows.insert(
            0,
            [
                BASELINE,
                *(
                    "-" if v is None else number(v, m)
                    for v, m in zip(values, table.metrics, strict=True)
                ),
            ],
        )
        rows[0] += ["-"] * (len(header) - len(rows[0]))
    return [header, *rows]


def _cell_of(table: Table, line: Line, metric: str) -> str:
    """`missing` is a row without a finished run; a metric that is undefined for its runs is a dash.
    The best is in bold."""
    if not line.values[metric] and any(line.values.values()):
        return "-"
    text = cell(
        line.values[metric],
        metric,
        table.interval(line.run) if metric == table.metrics[0] else None,
    )
    if table.is_best(line.run, metric):
        return Strong(text)
    return f"{text} †" if table.is_undistinguished(line.run, metric) else text


def sheet_of(table: Table) -> Sheet:
    """The table as it is read."""
    grids = {"": grid(table, table.lines, "model", table.judged)}
    if table.further:
        grids["Further runs"] = grid(table, table.further, "run", False)
    return Sheet(
        title=table.title,
        about=table.about,
        grids=grids,
        units=table.units,
        notes=table.notes,
        todo=table.todo,
    )


COLUMNS = (
    "row",
    "run",
    "metric",
    "mean",
    "std",
    "low",
    "high",
    "seeds",
    "paper",
    "data",
    "verdict",
    "missing",
)


def to_csv(table: Table) -> str:
    """A line per row and metric: mean, sample std, interval and the paper's value as fractions,
    empty where there is none; the verdict, and the seeds that are missing. The paper's best of
    several rows has a line of its own."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for metric, value in table.baseline.items():
        if metric in table.metrics and value is not None:
            writer.writerow(
                {
                    "row": BASELINE,
                    "metric": metric,
                    "mean": f"{value:.10g}",
                    "seeds": 0,
                    "data": table.data,
                }
            )
    for line in table.lines + table.further:
        missing = " ".join(map(str, line.missing))
        for metric, values in line.values.items():
            known = line.paper.get(metric) if metric in table.compared else None
            found = table.statistics.get("rows", {}).get(line.run, {}).get(metric, {})
            numbers = {
                "mean": statistics.fmean(values) if values else None,
                "std": statistics.stdev(values) if len(values) > 1 else None,
                **{end: found.get(end) for end in ("low", "high")},
                "paper": known.value / known.scale if known else None,
            }
            row = {
                "row": line.label,
                "run": line.run,
                "metric": metric,
                "seeds": len(values),
                "data": table.data,
            }
            row |= {"verdict": line.verdict, "missing": missing}
            writer.writerow(
                row
                | {name: f"{value:.10g}" for name, value in numbers.items() if value is not None}
            )
    if table.best is not None:
        labels = {line.run: line.label for line in table.lines}
        row = f"the best of {' and '.join(labels.get(run, run) for run in table.best.rows)}"
        paper = f"{table.best.value / table.best.scale:.10g}"
        writer.writerow(
            {"row": row, "metric": table.metrics[0], "seeds": 0, "paper": paper, "data": table.data}
        )
    return file.getvalue()
