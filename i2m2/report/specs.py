"""The tables of a `paper.yaml`, and the mistakes in them that their types do not show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import msgspec

from i2m2.errors import SettingsError
from i2m2.files import Plain
from i2m2.metrics import metric_of
from i2m2.report.render import slug
from i2m2.settings import RunConfig

EXAMPLE = "AVMNIST_and_MIMIC/paper.yaml says what an entry holds"
ANSWERS = "answers"  # what stands in statistics.json beside the tables, by their names
FIRST = "table"  # the files of a folder's first table; those of the others bear their names
# What else `i2m2.results` writes beside the tables.
WRITTEN = ("figure", "studies", "reliability", "calibration", "combination")
WRITTEN += ("table_b_6", "table_c_7", "section_4_6")


class PaperValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number the paper reports, in `unit`: percent or fraction, nats of the NLL. A table's
    `best` is the number of the best of `rows` (run names), the paper does not say of which."""

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


class RowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the paper's table: its label there, our run's folder name, and the arguments that
    make that run. `command` makes one that is not trained; `{folder}` in it is the results folder.
    """

    label: str
    run: str
    args: str = ""
    command: str = ""
    paper: Mapping[str, PaperValue] = {}  # by metric


class TableSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the paper. AVMNIST_and_MIMIC/paper.yaml says what its fields mean; besides these,
    `folder` is the results folder it is listed under, `published` is False for what no `paper.yaml`
    knows, `dataset` is then what its runs are of, and `defaults` is the content of its config
    file."""

    folder: str
    name: str
    title: str
    metrics: list[str]
    rows: list[RowSpec]
    train: str = ""
    config: str = ""
    source: str = ""
    synthetic: bool = False
    published: bool = True
    dataset: str = ""
    best: PaperValue | None = None
    drawn: Sequence[str] = ()
    seeds: int = 5
    tolerance: float = 1.0
    backbone: str = ""
    variants: Sequence[str] = ()
    settings: str = ""
    analysis: str = ""
    defaults: Plain = {}

    @property
    def heading(self) -> str:
        return f"{self.name}: {self.title}"

    @property
    def labels(self) -> dict[str, str]:
        """{run: its row's label}, in the order of the rows."""
        return {row.run: row.label for row in self.rows}

    @property
    def names_of_best(self) -> str:
        """The rows of which `best` is the best."""
        return " and ".join(self.labels.get(run, run) for run in self.best.rows)

    @property
    def judged_metrics(self) -> list[str]:
        """The main metric, and the others of which any of the paper's values is known."""
        main, *others = self.metrics
        return [main, *(m for m in others if any(m in row.paper for row in self.rows))]

    def settings_class(self) -> type[RunConfig]:
        """The class of the runs' settings; the core's where none is named. SettingsError for what
        is no such class."""
        if not self.settings:
            return RunConfig
        module, _, name = self.settings.rpartition(".")
        with self._named("settings"):
            found = getattr(import_module(module), name)
            if not issubclass(found, RunConfig):
                raise TypeError("it is no RunConfig of i2m2.settings")
        return found

    def analysis_module(self) -> ModuleType:
        """The module with the data set's own metrics. SettingsError where it is not there, or has
        none."""
        with self._named("analysis"):
            module = import_module(self.analysis)
            module.CUSTOM_METRICS  # noqa: B018 (AttributeError where it has none)
        return module

    @contextmanager
    def _named(self, field: str) -> Iterator[None]:
        """SettingsError, with the entry and its field, where what that names cannot be had."""
        try:
            yield
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(
                f"paper.yaml, {self.folder}: {field}: {getattr(self, field)}: {error}; {EXAMPLE}"
            ) from error


def refuse_mistakes(spec: TableSpec) -> None:
    """ValueError for a metric or a row that is named, but is none of the table, or is named twice,
    and for a number of the paper's that its unit does not fit."""
    _refuse_unlisted(spec)
    if twice := _twice(spec.metrics):
        raise ValueError(f"{spec.name}: metrics: {twice} is listed twice; list it once")
    if twice := _twice(row.run for row in spec.rows):
        labels = [row.label for row in spec.rows if row.run == twice]
        raise ValueError(
            f"{spec.name}: rows: {' and '.join(labels)} have the same run, {twice}; "
            "give each row a run of its own"
        )
    if not (math.isfinite(spec.tolerance) and spec.tolerance >= 0):
        raise ValueError(f"{spec.name}: tolerance: {spec.tolerance:g} is no number from 0 up")
    for place, metric, value in _paper_values(spec):
        if fault := _fault_of(value, metric):
            raise ValueError(f"{spec.name}: {place}: {fault}")


def refuse_same_files(specs: Sequence[TableSpec]) -> None:
    """ValueError where two tables of a results folder would be written over each other, or one over
    something else."""
    if any(spec.name == ANSWERS for spec in specs):
        raise ValueError(f"name: {ANSWERS} is the name of what is no table; give it another")
    first, *others = specs
    owners = {name: f"what is called {name}.* there" for name in (FIRST, *WRITTEN)}
    owners[slug(first.heading)] = f"those of {first.name}"
    for spec in others:
        name = slug(spec.heading)
        if not name:
            raise ValueError(f"name: {spec.name} has no letter a-z and no digit to name files by")
        if name in owners:
            raise ValueError(
                f"name: the files of {spec.name} would be written over {owners[name]}; "
                "give it another name"
            )
        owners[name] = f"those of {spec.name}"


def _twice(names: Iterable[str]) -> str:
    """The first name that is not alone, '' if all are."""
    return next((name for name, times in Counter(names).items() if times > 1), "")


def _refuse_unlisted(spec: TableSpec) -> None:
    if not spec.metrics:
        raise ValueError("metrics: a table needs one or more")
    named = {"drawn": spec.drawn}
    named |= {f"rows, {row.label}, paper": row.paper for row in spec.rows}
    for field, metrics in named.items():
        if unknown := [metric for metric in metrics if metric not in spec.metrics]:
            raise ValueError(f"{field}: {unknown[0]} is none of metrics, {', '.join(spec.metrics)}")
    if spec.best is None:
        return
    if not spec.best.rows:
        raise ValueError("best: it needs rows, the runs of which it is the best")
    if unknown := [run for run in spec.best.rows if run not in spec.labels]:
        raise ValueError(f"best: rows: {unknown[0]} is the run of no row; {', '.join(spec.labels)}")


def _paper_values(spec: TableSpec) -> Iterator[tuple[str, str, PaperValue]]:
    """(where it stands, its metric, the number) of all that the paper reports."""
    for row in spec.rows:
        for metric, value in row.paper.items():
            yield f"rows, {row.label}, paper, {metric}", metric, value
    if spec.best is not None:
        yield f"best, {spec.metrics[0]}", spec.metrics[0], spec.best


def _fault_of(value: PaperValue, metric: str) -> str:
    """What is wrong with a number of the paper's, and what to write; '' if nothing is."""
    units = _units_of(metric)
    if value.unit not in units:
        return f"unit: {value.unit} is none of {metric}; write unit: {' or '.join(units)}"
    numbers = {"value": value.value} | ({} if value.std is None else {"std": value.std})
    low, high = (value.scale * bound for bound in metric_of(metric).bounds)
    for field, number in numbers.items():
        if not (math.isfinite(number) and low <= number <= high):
            upper = f"to {high:g}" if math.isfinite(high) else "up"
            return (
                f"{field}: {number:g} is no {metric} in {value.unit}; "
                f"write a number from {low:g} {upper}, or leave it out where it is not known"
            )
    return ""


def _units_of(metric: str) -> Sequence[str]:
    """The units in which a metric may be reported."""
    known = metric_of(metric)
    if known.percent:
        return ("percent", "fraction")
    return ("nats",) if math.isinf(known.bounds[1]) else ("fraction",)
