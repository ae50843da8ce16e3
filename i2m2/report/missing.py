"""Which runs a table lacks, and the commands that make them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from i2m2.report.notes import departures_of
from i2m2.report.tables import Entry, Row
from i2m2.runs import RunRecord, lookup

# What a missing run has to repeat of a run beside it, wherever that differs from the config file
# its command names, beside what `departures_of` finds. Not the preset, the tag and a start from
# scratch: a row of which they are part has them in its arguments.
REPEATED = (
    "task",
    "optim.epochs",
    "data.dir",
    "data.images",
    "features.dir",
    "backbone.checkpoint",
    "data.source",
    "data.train_size",
)


def missing_seeds(entry: Entry, runs: list[RunRecord]) -> dict[str, list[int]]:
    """{row: the seeds that it lacks and that any row has (seed 0 if none has any)}.

    A row that is not trained is missing if it has no seed at all.
    """
    listed = {row.run for row in entry.rows}
    there = {(run.name, run.seed) for run in runs if run.name in listed}
    seeds = sorted({seed for _, seed in there} or {0})
    made = {name for name, _ in there}
    return {
        row.run: ([] if row.run in made else seeds[:1])
        if row.command
        else [s for s in seeds if (row.run, s) not in there]
        for row in entry.rows
    }


def missing(entry: Entry, runs: list[RunRecord], folder: Path) -> list[str]:
    """The seeds that the paper's rows lack, each with the command that makes it."""
    listed = {row.run for row in entry.rows}
    rows = [run for run in runs if run.name in listed]
    lacking = missing_seeds(entry, runs)
    return [
        f"{row.label}, seed {seed}{_quoted(command(entry, row, seed, folder, rows))}"
        for row in entry.rows
        for seed in lacking[row.run]
    ]


def unfinished(entry: Entry, runs: list[RunRecord], folder: Path) -> list[str]:
    """The runs without DONE, each with the command that goes on with it: from its own config, which
    holds every override."""
    rows = {row.run: row for row in entry.rows}
    items = []
    for run in (run for run in runs if run.test is None):
        text = (
            f"{entry.train} --config {shlex.quote(str(run.dir / 'config.yaml'))}"
            if entry.train and run.config
            else ""
        )
        if not text and run.name in rows:
            text = command(
                entry,
                rows[run.name],
                run.seed,
                folder,
                [other for other in runs if other.name in rows],
            )
        items.append(f"{run.dir}{_quoted(text)}")
    return items


def command(entry: Entry, row: Row, seed: int, folder: Path, siblings: list[RunRecord]) -> str:
    """The command for one run of the table, with what the runs beside it override; of those the
    same row's count first."""
    if row.command:
        return row.command.format(folder=shlex.quote(str(folder)))
    if not entry.train:
        return ""
    siblings = sorted(
        (run for run in siblings if run.config),
        key=lambda run: (run.name != row.run, run.test is None),
    )
    words = [
        entry.train,
        "--config",
        entry.config,
        row.args,
        "--seed",
        str(seed),
        "--out",
        shlex.quote(str(folder.parent)),
    ]
    for key, value in overrides(entry, row, siblings).items():
        words += [f"--{key}", shlex.quote(value if isinstance(value, str) else json.dumps(value))]
    return " ".join(words)


def overrides(entry: Entry, row: Row, siblings: list[RunRecord]) -> dict[str, Any]:
    """{dotted setting: value} that a run of the row has to repeat of the runs beside it: what
    another seed of it was given beside its config file, else what all of them were."""
    config = siblings[0].config if siblings else {}
    same_row = bool(siblings) and siblings[0].name == row.run
    # Epochs may be a method's own number; where that is known, `departures_of` tells.
    epochs_too = not (entry.defaults and config.get("method")) and (
        same_row or "per_method" not in entry.defaults
    )
    keys = [key for key in REPEATED if key != "optim.epochs" or epochs_too]
    found = {
        key: value
        for key in keys
        if (value := lookup(config, key)) is not None and value != lookup(entry.defaults, key)
    }
    given = [departures_of(entry, run, siblings) for run in siblings]
    if given and not same_row:
        given[0] = {
            key: v
            for key, v in given[0].items()
            if all(key in one and one[key] == v for one in given)
        }
    return found | (given[0] if given else {})


def _quoted(text: str) -> str:
    return f": `{text}`" if text else ""
