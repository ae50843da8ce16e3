"""A filled table: its rows and cells, as it is read and as CSV."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from i2m2.metrics import metric_of
from i2m2.report.render import RenderedTable, Strong, csv_text
from i2m2.report.significance import Judgement
from i2m2.report.specs import PaperValue, TableSpec
from i2m2.runs import RunRecord
from i2m2.stats.intervals import sample_std

NOT_JUDGED = "not judged: "  # in a verdict that is none, before the reason
LONG = 1e9  # from here on a number is shown by its power of ten
BASELINE = "Majority class (class frequencies)"


@dataclass(kw_only=True)
class ResultRow:
    """A row of a table: for each metric one fraction per finished run, and the paper's numbers."""

    label: str
    run: str
    runs: Sequence[RunRecord]  # the finished ones
    values: Mapping[str, Sequence[float]]
    paper: Mapping[str, PaperValue] = field(default_factory=dict)
    verdict: str = ""
    missing: Sequence[int] = ()  # seeds

    @property
    def is_judged(self) -> bool:
        """Whether by any metric."""
        return any(NOT_JUDGED not in of_metric for of_metric in self.verdict.split("; "))


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table of the paper, filled with the runs of one results folder."""

    spec: TableSpec
    about: str  # data set, variant, real or SYNTHETIC, number of seeds
    data: str  # real, synthetic or not recorded
    compared: Sequence[str]  # metrics that stand beside the paper's: of real data alone
    rows: Sequence[ResultRow]  # the paper's, in its order
    further: Sequence[ResultRow]  # finished runs that are no rows of it
    notes: Sequence[str]
    todo: Mapping[str, Sequence[str]]  # heading -> commands
    baseline: Mapping[str, float]  # scores of class frequencies
    judgement: Judgement
    faults: Sequence[str]  # of damaged runs, which are not in it

    @property
    def best(self) -> PaperValue | None:
        """The paper's number of the best of several rows, where numbers are compared."""
        return self.spec.best if self.compared else None

    @property
    def with_interval(self) -> Sequence[str]:
        """The metrics whose interval is shown: all, where no paper says which is the main one."""
        return self.spec.metrics[:1] if self.spec.published else self.spec.metrics


def in_percent(metric: str) -> bool:
    """Whether a metric is a share; NLL and the like are not."""
    return metric_of(metric).percent


def number(value: float | None, metric: str = "accuracy") -> str:
    """0.7215 -> '72.2', halves rounded up; not `in_percent`: three decimals; None -> '-'. Of a run
    that has diverged: 4.1e29 -> '4.100e+29'."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    shown = metric_of(metric)
    scaled = shown.scale * value
    if abs(scaled) >= LONG:
        return f"{scaled:.3e}"
    exact = Decimal(repr(round(scaled, 9)))
    return str(exact.quantize(Decimal(1).scaleb(-shown.decimals), ROUND_HALF_UP))


def cell(
    values: Sequence[float], metric: str = "accuracy", interval: tuple[float, float] | None = None
) -> str:
    """[0.71, 0.73] -> '72.0 ± 1.4 [70.1, 73.9] (2)': mean, sample standard deviation, interval (if
    given), number of seeds; [] -> 'missing'."""
    if not values:
        return "missing"
    spread = f" ± {number(sample_std(values), metric)}" if len(values) > 1 else ""
    ends = f" [{number(interval[0], metric)}, {number(interval[1], metric)}]" if interval else ""
    return f"{number(statistics.fmean(values), metric)}{spread}{ends} ({len(values)})"


def rendered(table: ResultTable) -> RenderedTable:
    """The table as text."""
    grids = {"": _grid(table, table.rows, "model", table.spec.published)}
    if table.further:
        grids["Further runs"] = _grid(table, table.further, "run", judged=False)
    plain = [metric for metric in table.spec.metrics if not in_percent(metric)]
    but = f" (not {', '.join(plain)})" if plain else ""
    units = f"In percent{but}: mean ± sample standard deviation over the seeds"
    shown = [
        metric
        for metric in table.with_interval
        if any(table.judgement.interval(row.run, metric) for row in table.rows)
    ]
    if shown:
        units += f", 95 % interval of {', '.join(shown)}"
    return RenderedTable(
        title=table.spec.heading,
        about=table.about,
        grids=grids,
        units=f"{units} (number of seeds).",
        notes=table.notes,
        todo=table.todo,
    )


def _grid(
    table: ResultTable, rows: Sequence[ResultRow], first: str, judged: bool
) -> list[list[str]]:
    """Cells: label, a column per metric, and in rows that are `judged` the paper's values and the
    verdict, as far as there are any. Scores of the class frequencies alone stand above, where they
    are recorded."""
    compared = [m for m in table.compared if judged and any(m in row.paper for row in rows)]
    metrics = table.spec.metrics
    verdicts = judged and any(row.is_judged for row in table.rows)  # where not, a note says why
    header = [first, *metrics, *(f"{metric}, paper" for metric in compared)]
    grid = [header + ["verdict"] * verdicts]
    if table.baseline:
        scores = [number(table.baseline.get(metric), metric) for metric in metrics]
        grid.append([BASELINE, *scores] + ["-"] * (len(compared) + verdicts))
    for row in rows:
        cells = [row.label, *(_cell_of(table, row, metric) for metric in metrics)]
        cells += [str(row.paper.get(metric, "-")) for metric in compared]
        grid.append(cells + [row.verdict] * verdicts)
    return grid


def _cell_of(table: ResultTable, row: ResultRow, metric: str) -> str:
    """A cell: `missing` without a finished run, a dash where its runs do not define the metric."""
    values, judgement = row.values[metric], table.judgement
    if not values and any(row.values.values()):
        return "-"
    interval = judgement.interval(row.run, metric) if metric in table.with_interval else None
    text = cell(values, metric, interval)
    if judgement.best.get(metric) == row.run:
        return Strong(text)
    return f"{text} †" if judgement.is_undistinguished(row.run, metric) else text


COLUMNS = (
    "row", "run", "metric", "mean", "std", "low", "high", "seeds", "paper", "data", "verdict",
    "missing",
)  # fmt: skip


def values_csv(table: ResultTable) -> str:
    """The table's values as CSV, fractions: a line per row and metric. The paper's best of several
    rows has a line of its own."""
    lines: list[dict[str, object]] = []
    for metric, value in table.baseline.items():
        if metric in table.spec.metrics and value is not None:
            lines.append({"row": BASELINE, "metric": metric, "mean": value, "seeds": 0})
    for row in (*table.rows, *table.further):
        lines += [_csv_line(table, row, metric) for metric in row.values]
    if table.best is not None:
        paper = table.best.value / table.best.scale
        row = f"the best of {table.spec.names_of_best}"
        lines.append({"row": row, "metric": table.spec.metrics[0], "seeds": 0, "paper": paper})
    rows = []
    for line in lines:
        cells = [(line | {"data": table.data}).get(column) for column in COLUMNS]
        rows.append([f"{c:.10g}" if isinstance(c, float) else c for c in cells])
    return csv_text([COLUMNS, *rows])


def _csv_line(table: ResultTable, row: ResultRow, metric: str) -> dict[str, object]:
    values = row.values[metric]
    known = row.paper.get(metric) if metric in table.compared else None
    summary = table.judgement.rows.get(row.run, {}).get(metric)
    return {
        "row": row.label,
        "run": row.run,
        "metric": metric,
        "mean": statistics.fmean(values) if values else None,
        "std": sample_std(values),
        "low": summary and summary.low,
        "high": summary and summary.high,
        "seeds": len(values),
        "paper": known and known.value / known.scale,
        "verdict": row.verdict,
        "missing": " ".join(map(str, row.missing)),
    }
