"""What a table of the paper looks like: `paper.yaml` of each data-set folder, read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from i2m2.errors import SettingsError
from i2m2.names import PRODUCT
from i2m2.runs import RunRecord
from i2m2.settings import OptimConfig, RunConfig, flatten, merge_preset, to_dict, with_role
from i2m2.stats.predictions import Predictions
from i2m2.stats.summary import CustomMetrics


@dataclass(frozen=True, kw_only=True)
class PaperValue:
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
class RowSpec:
    """A row of the paper's table: its label there, our run's folder name, and the arguments that
    make that run.

    `command` makes a row that is not trained; `{folder}` in it stands for the results folder.
    """

    label: str
    run: str
    args: str = ""
    command: str = ""
    paper: Mapping[str, PaperValue] = field(default_factory=dict)  # by metric


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table of the paper, as a `paper.yaml` describes it; `defaults` is the content of its config
    file.

    `folder` is the results folder it is listed under; `published` is False for what no `paper.yaml`
    knows; `drawn` are the metrics of its figure, a panel each. A row reproduces the paper if its
    mean over at least `seeds` is within `tolerance` points (percent) of the paper's value;
    `backbone`: how the name of the paper's begins, where there are several; `variants`: of the data
    that count as the paper's, any if none is named. `settings`: class of the runs' settings;
    `analysis`: module of what the data set's predictions have of their own, see `analysis_of`.
    """

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
    best: PaperValue | None = None
    drawn: Sequence[str] = ()
    seeds: int = 5
    tolerance: float = 1.0
    backbone: str = ""
    variants: Sequence[str] = ()
    settings: str = ""
    analysis: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_names(self) -> list[str]:
        return [row.run for row in self.rows]

    @property
    def labels(self) -> dict[str, str]:
        """{run: its row's label}."""
        return {row.run: row.label for row in self.rows}

    @property
    def judged_metrics(self) -> list[str]:
        """The main metric, and the others of which any of the paper's values is known."""
        main, *others = self.metrics
        return [main, *(m for m in others if any(m in row.paper for row in self.rows))]

    def settings_class(self) -> type[RunConfig]:
        """Of the runs; the core's where none is named."""
        module, _, name = self.settings.rpartition(".")
        return getattr(import_module(module), name) if module else RunConfig


def read_specs() -> dict[str, list[TableSpec]]:
    """Results folder -> its tables, from the `paper.yaml` files of this repository and of the
    current directory (which wins)."""
    roots = (Path(__file__).resolve().parents[2], Path.cwd())
    paths = [path for root in roots for path in sorted(root.glob("*/paper.yaml"))]
    specs: dict[str, list[TableSpec]] = {}
    for path in paths:
        specs |= read_paper(path)
    return specs


def listed_under(folder: str, specs: Mapping[str, list[TableSpec]]) -> list[TableSpec]:
    """The tables of a results folder: under its name, else under the longest part of it (`avmnist`
    for `avmnist-x`), else none."""
    keys = [key for key in specs if folder == key or folder.startswith(f"{key}-")]
    return specs[max(keys, key=len)] if keys else []


def read_paper(path: Path) -> dict[str, list[TableSpec]]:
    """The tables of one `paper.yaml` by results folder. Keys starting with `_` only hold what
    others repeat by an anchor. SettingsError for what is no such file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        listed = {key: tables for key, tables in content.items() if not key.startswith("_")}
        return {
            key: [_table_spec(path, folder=key, **table) for table in tables]
            for key, tables in listed.items()
        }
    except (TypeError, ValueError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise SettingsError(
            f"{path} or a config file it names: {error}; "
            "AVMNIST_and_MIMIC/paper.yaml says what an entry holds"
        ) from error


def _table_spec(
    path: Path, *, rows: list[dict], best: dict | None = None, **rest: Any
) -> TableSpec:
    config = path.parents[1] / rest.get("config", "")
    defaults = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    return TableSpec(
        rows=[_row_spec(**row) for row in rows],
        best=PaperValue(**best) if best else None,
        defaults=defaults or {},
        **rest,
    )


def _row_spec(*, paper: Mapping[str, dict] = MappingProxyType({}), **rest: str) -> RowSpec:
    return RowSpec(paper={metric: PaperValue(**value) for metric, value in paper.items()}, **rest)


class Analysis(NamedTuple):
    """What a data set's predictions have of their own: metrics, and what stands in for
    `studies.study` and `studies.combination`."""

    metrics: CustomMetrics = MappingProxyType({})
    study: Callable[[Predictions], dict[str, Any]] | None = None
    combination: Callable[..., dict[str, Any]] | None = None


def analysis_of(specs: Sequence[TableSpec]) -> Analysis:
    """Of the module that the tables name: its CUSTOM_METRICS, and its functions `study` and
    `combination`, if it has them."""
    if not specs or not specs[0].analysis:
        return Analysis()
    module = import_module(specs[0].analysis)
    study, combination = (getattr(module, name, None) for name in ("study", "combination"))
    return Analysis(module.CUSTOM_METRICS, study, combination)


def neutral_settings(spec: TableSpec) -> frozenset[str]:
    """Settings that cannot change a result by more than rounding, or that say what a run is."""
    roles = ("neutral", "location", "rounding", "identity")
    return with_role(spec.settings_class(), *roles)


def departures(spec: TableSpec, run: RunRecord, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """{dotted setting: value} where a run's settings are not those of its table's config file, for
    its preset, method and task.

    A setting that the file leaves to its default departs where it is not the core's, or that of the
    first of `runs`.
    """
    args = next((row.args for row in spec.rows if row.run == run.name), "")
    named = {word[2:].partition("=")[0] for word in args.split() if word.startswith("--")}
    ignored = named | neutral_settings(spec)
    usual = _usual_settings(spec, run, runs)
    return {
        key: value
        for key, value in flatten(run.config).items()
        if key not in ignored and key in usual and value != usual[key]
    }


def _usual_settings(spec: TableSpec, run: RunRecord, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What the config file says for a run's preset, method and task; without one, what the row's
    first run has."""
    alike = [other for other in runs if not spec.defaults and other.name == run.name]
    usual = flatten((alike or runs)[0].config)
    method = run.config.get("method")
    if not spec.defaults or not method:
        return usual
    defaults = {f"optim.{name}": value for name, value in to_dict(OptimConfig()).items()}
    usual |= defaults | {"precision": RunConfig.precision}
    parts = {"per_task": str(run.config.get("task")), "per_method": method}
    preset = run.config.get("preset", "paper")
    try:
        usual |= merge_preset(spec.defaults, spec.config, preset, parts)
    except SettingsError:  # a preset of another version of the config file: its name says so
        return {}
    if method == PRODUCT:  # of runs of other methods, whose own settings are theirs
        per_method = (spec.defaults.get("per_method") or {}).values()
        own = {key for of_method in per_method for key in flatten(of_method)}
        usual = {key: value for key, value in usual.items() if key not in own}
    return usual
