"""Which runs a table lacks, and the commands that make them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from i2m2.report.paper import RowSpec, TableSpec, departures
from i2m2.runs import RunRecord, lookup
from i2m2.settings import settings_of


def missing_seeds(spec: TableSpec, runs: Sequence[RunRecord]) -> dict[str, list[int]]:
    """{row: the seeds that it lacks and that any row has (seed 0 if none has any)}.

    A row that is not trained is missing if it has no seed at all.
    """
    present: dict[str, set[int]] = {run: set() for run in spec.run_names}
    for run in runs:
        if run.name in present:
            present[run.name].add(run.seed)
    seeds = sorted(set().union(*present.values()) or {0})
    lacking = {}
    for row in spec.rows:
        if row.command:
            lacking[row.run] = [] if present[row.run] else seeds[:1]
        else:
            lacking[row.run] = [seed for seed in seeds if seed not in present[row.run]]
    return lacking


def missing(spec: TableSpec, runs: Sequence[RunRecord], folder: Path) -> list[str]:
    """The seeds that the paper's rows lack, each with the command that makes it."""
    siblings = [run for run in runs if run.name in spec.run_names]
    lacking = missing_seeds(spec, runs)
    return [
        f"{row.label}, seed {seed}{_quoted(command(spec, row, seed, folder, siblings))}"
        for row in spec.rows
        for seed in lacking[row.run]
    ]


def unfinished(spec: TableSpec, runs: Sequence[RunRecord], folder: Path) -> list[str]:
    """The runs without DONE, each with the command that goes on with it: from its own config, which
    holds every override."""
    rows = {row.run: row for row in spec.rows}
    siblings = [run for run in runs if run.name in rows]
    items = []
    for run in (run for run in runs if run.test is None):
        text = ""
        if spec.train and run.config:
            text = f"{spec.train} --config {shlex.quote(str(run.dir / 'config.yaml'))}"
        elif run.name in rows:
            text = command(spec, rows[run.name], run.seed, folder, siblings)
        items.append(f"{run.dir}{_quoted(text)}")
    return items


def command(
    spec: TableSpec, row: RowSpec, seed: int, folder: Path, siblings: Sequence[RunRecord]
) -> str:
    """The command for one run of the table, with what the runs beside it override; of those the
    same row's count first."""
    if row.command:
        return row.command.format(folder=shlex.quote(str(folder)))
    if not spec.train:
        return ""
    siblings = sorted(
        (run for run in siblings if run.config),
        key=lambda run: (run.name != row.run, run.test is None),
    )
    out = shlex.quote(str(folder.parent))
    words = [spec.train, "--config", spec.config, row.args, "--seed", str(seed), "--out", out]
    for key, value in overrides(spec, row, siblings).items():
        words += [f"--{key}", shlex.quote(value if isinstance(value, str) else json.dumps(value))]
    return " ".join(words)


def overrides(spec: TableSpec, row: RowSpec, siblings: Sequence[RunRecord]) -> Mapping[str, Any]:
    """{dotted setting: value} that a run of the row has to repeat of the runs beside it: what
    another seed of it was given beside its config file, else what all of them were."""
    if not siblings:
        return {}
    config, same_row = siblings[0].config, siblings[0].name == row.run
    # Epochs may be a method's own number; where that is known, `departures` tells.
    tells = spec.defaults and config.get("method")
    epochs_too = not tells and (same_row or "per_method" not in spec.defaults)
    settings = settings_of(spec.settings_class())
    repeated = [name for name, (_, field) in settings.items() if field.metadata.get("repeat")]
    found = {}
    for key in repeated:
        value = lookup(config, key)
        if value is None or value == lookup(spec.defaults, key):
            continue
        if key != "optim.epochs" or epochs_too:
            found[key] = value
    given = [departures(spec, run, siblings) for run in siblings]
    common = given[0]
    if not same_row:
        common = {k: v for k, v in common.items() if all(k in one and one[k] == v for one in given)}
    return found | common


def _quoted(text: str) -> str:
    return f": `{text}`" if text else ""
