"""What a table of the paper looks like: `paper.yaml` of each data-set folder, read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import msgspec

from i2m2.errors import SettingsError
from i2m2.files import Plain
from i2m2.names import PRODUCT
from i2m2.reading.yaml12 import load_yaml
from i2m2.report.mistakes import refuse_mistakes, refuse_same_files
from i2m2.runs import RunRecord
from i2m2.settings import RunConfig, defaults_of, flatten, merge_preset, with_role
from i2m2.stats.predictions import Predictions
from i2m2.stats.summary import CustomMetrics

Runs = Sequence[RunRecord]
Labels = Mapping[str, str]  # {run: label of its row}, in the order of the rows

EXAMPLE = "AVMNIST_and_MIMIC/paper.yaml says what an entry holds"


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


def read_specs() -> dict[str, list[TableSpec]]:
    """Results folder -> its tables, of this repository and the current directory (which wins)."""
    specs: dict[str, list[TableSpec]] = {}
    for root in dict.fromkeys((Path(__file__).resolve().parents[2], Path.cwd())):
        for path in sorted(root.glob("*/paper.yaml")):
            specs |= read_paper(path)
    return specs


def listed_under(folder: str, specs: Mapping[str, list[TableSpec]]) -> list[TableSpec]:
    """The tables of a results folder, listed under its name or the longest part of it, or none."""
    keys = [key for key in specs if f"{folder}-".startswith(f"{key}-")]
    return specs[max(keys, key=len)] if keys else []


def read_paper(path: Path) -> dict[str, list[TableSpec]]:
    """The tables of one `paper.yaml` by results folder. Keys starting with `_` are none, and only
    hold anchors. SettingsError for what is no such file."""
    specs, read = {}, cache(_read)  # tables have config files in common
    with _mistakes_in(str(path)):
        content = read(path)
        if not isinstance(content, Mapping):
            raise TypeError("it holds no entries, <results folder>: [tables]")
    for folder, tables in content.items():
        if str(folder).startswith("_"):
            continue
        with _mistakes_in(f"{path}, {folder}"):
            if not isinstance(folder, str):
                raise TypeError("the name of a results folder is a text; put it into quotes")
            if not isinstance(tables, list) or not tables:
                raise TypeError("it is no list of tables, - name: ...")
            specs[folder] = [_table_spec(path, folder, table, read) for table in tables]
            refuse_same_files(specs[folder])
    return specs


@contextmanager
def _mistakes_in(place: str) -> Iterator[None]:
    """SettingsError, with where it is, for what is wrong there."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"{place}: {error}; {EXAMPLE}") from error


def _read(path: Path) -> Any:
    return load_yaml(path.read_text(encoding="utf-8"))


def _table_spec(path: Path, folder: str, table: Plain, read: Callable[[Path], Any]) -> TableSpec:
    if not isinstance(table, Mapping):
        raise TypeError(f"the table {table} has no fields such as name, title, metrics and rows")
    found = {"folder": folder, "defaults": {}} | table
    spec = msgspec.convert(found, TableSpec)
    refuse_mistakes(spec)
    config = path.parents[1] / spec.config
    if not config.is_file():
        return spec
    with _mistakes_in(str(config)):
        defaults = read(config) or {}
        if not isinstance(defaults, Mapping):
            raise TypeError("it holds no settings, <name>: <value>")
    # Commands that name it may be given from elsewhere.
    there = spec.config if Path(spec.config).is_file() else str(config)
    return msgspec.structs.replace(spec, defaults=defaults, config=there)


class Analysis(NamedTuple):
    """What a data set's predictions have of their own: metrics, and what stands in for
    `studies.study` and `studies.combination`."""

    metrics: CustomMetrics = MappingProxyType({})
    study: Callable[[Predictions], Plain] | None = None
    combination: Callable[..., Plain] | None = None


def analysis_of(specs: Sequence[TableSpec]) -> Analysis:
    """CUSTOM_METRICS of the module that the tables name, and its functions, if it has them.
    SettingsError for a module that is not there, or has no CUSTOM_METRICS."""
    if not specs or not specs[0].analysis:
        return Analysis()
    module = specs[0].analysis_module()
    functions = (getattr(module, name, None) for name in ("study", "combination"))
    return Analysis(module.CUSTOM_METRICS, *functions)


def departures(spec: TableSpec, run: RunRecord, runs: Runs) -> Plain:
    """{dotted setting: value} where a run's settings are not those of its table's config file for
    its preset, method and task. What the file leaves out is compared with the default
    of the settings, else with the first of `runs`; what the row's arguments or the run's name say
    is left out."""
    args = next((row.args for row in spec.rows if row.run == run.name), "")
    ignored = {word[2:].partition("=")[0] for word in args.split() if word.startswith("--")}
    ignored |= with_role(spec.settings_class(), "neutral", "location", "rounding", "identity")
    usual = _usual_settings(spec, run, runs)
    settings = flatten(run.config).items()
    given = {key: value for key, value in settings if key in usual and key not in ignored}
    return {key: value for key, value in given.items() if value != usual[key]}


def _usual_settings(spec: TableSpec, run: RunRecord, runs: Runs) -> Plain:
    """What the config file says for a run; without a file, what the row's first run has."""
    alike = [other for other in runs if not spec.defaults and other.name == run.name]
    usual = flatten((alike or runs)[0].config)
    method = run.config.get("method")
    if not spec.defaults or not method:
        return usual
    usual |= defaults_of(spec.settings_class())
    parts = {"per_task": str(run.config.get("task")), "per_method": method}
    try:
        preset = run.config.get("preset", "paper")
        usual |= merge_preset(spec.defaults, spec.config, preset, parts)
    except SettingsError:  # a preset of another version of the config file: its name says so
        return {}
    if method == PRODUCT:  # of runs of other methods, whose own settings are theirs
        for settings in (spec.defaults.get("per_method") or {}).values():
            usual = {key: usual[key] for key in usual.keys() - flatten(settings).keys()}
    return usual
