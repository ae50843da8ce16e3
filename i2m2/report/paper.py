"""What a table of the paper looks like: `paper.yaml` of each data-set folder, read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from i2m2.errors import SettingsError
from i2m2.files import Plain
from i2m2.names import PRODUCT
from i2m2.reading.yaml12 import load_yaml
from i2m2.report.specs import EXAMPLE, TableSpec, refuse_mistakes, refuse_same_files
from i2m2.runs import RunRecord
from i2m2.settings import defaults_of, flatten, merge_preset, with_role
from i2m2.stats.predictions import Predictions
from i2m2.stats.summary import CustomMetrics

Runs = Sequence[RunRecord]
Labels = Mapping[str, str]  # {run: label of its row}, in the order of the rows


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
