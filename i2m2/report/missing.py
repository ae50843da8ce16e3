"""Which runs a table lacks, and the commands that make them."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

from i2m2.files import Plain
from i2m2.report.paper import Runs, departures
from i2m2.report.specs import RowSpec, TableSpec
from i2m2.runs import RunRecord, lookup, stamp
from i2m2.settings import settings_of


def missing_seeds(spec: TableSpec, runs: Runs) -> dict[str, list[int]]:
    """{row: the seeds that it lacks and that any row has (seed 0 if none has any)}; a row that is
    not trained lacks one if it has no seed at all. A faulty run is no missing one, and nothing that
    others lack."""
    present = {run: {record.seed for record in runs if record.name == run} for run in spec.labels}
    sound = {run.seed for run in runs if run.name in spec.labels and not run.fault}
    seeds = sorted(sound or {0})
    lacking = {}
    for row in spec.rows:
        lacking[row.run] = [seed for seed in seeds if seed not in present[row.run]]
        if row.command:
            lacking[row.run] = [] if present[row.run] else seeds[:1]
    return lacking


def missing(spec: TableSpec, runs: Runs, folder: Path) -> list[str]:
    """The seeds that the paper's rows lack, each with the command that makes it."""
    lacking = missing_seeds(spec, runs)
    return [
        f"{row.label}, seed {seed}{_quoted(command(spec, row, seed, folder, runs))}"
        for row in spec.rows
        for seed in lacking[row.run]
    ]


def unfinished(spec: TableSpec, runs: Runs, folder: Path) -> list[str]:
    """The runs that are not finished, each with the command that resumes it: by its own config, if
    there is one."""
    rows = {row.run: row for row in spec.rows}
    items = []
    for run in runs:
        if run.test is not None or run.fault or run.copy_of:
            continue
        text = ""
        if spec.train and run.config:
            # The folder may have been moved since, and its config.yaml name another.
            text = f"{spec.train} --config {quote(str(run.dir / 'config.yaml'))}"
            text += f" --out {quote(str(folder.parent))}"
        elif run.name in rows:
            text = command(spec, rows[run.name], run.seed, folder, runs)
        items.append(f"{run.dir}{_quoted(text)}")
    return items


def left_out(spec: TableSpec, runs: Runs) -> list[str]:
    """The finished runs that are not counted, and why; seeds in folders of another name."""
    copies: dict[tuple[str, int], list[RunRecord]] = {}
    for run in runs:
        if run.copy_of or run.test is not None:
            copies.setdefault((run.name, run.seed), []).append(run)
    items = []
    for (name, seed), same in copies.items():
        folders = [run.dir.name for run in same]
        if folders != [f"seed{seed}"]:
            hold = f"the folder {folders[0]} holds"
            if len(folders) > 1:
                hold = f"the folders {', '.join(folders)} all hold"
            row, twice = spec.labels.get(name, name), "; NOT counted twice" * (len(folders) > 1)
            items.append(f"{row}: {hold} seed {seed}, as config.yaml says{twice}")
    return [run.fault for run in runs if run.fault] + items


def command(spec: TableSpec, row: RowSpec, seed: int, folder: Path, runs: Runs) -> str:
    """The command for one run of the table, with what the `runs` of its rows override, or where
    there are none, all of them; those of the same row count first, and those that are not counted
    not at all."""
    if row.command:  # made of predictions: none can be where no run has any (reported/)
        can_be_made = any(stamp(run.dir) for run in runs)
        return row.command.replace("{folder}", quote(str(folder))) if can_be_made else ""
    if not spec.train:
        return ""
    recorded = [run for run in runs if run.config and not run.fault and not run.copy_of]
    beside = [run for run in recorded if run.name in spec.labels] or recorded
    beside.sort(key=lambda run: (run.name != row.run, run.test is None))
    words = [spec.train, "--config", quote(spec.config), row.args, "--seed", str(seed)]
    words += ["--out", quote(str(folder.parent))]
    for key, value in (overrides(spec, row, beside) if beside else {}).items():
        words += [f"--{key}", quote(value if isinstance(value, str) else json.dumps(value))]
    return " ".join(words)


def overrides(spec: TableSpec, row: RowSpec, beside: Runs) -> Plain:
    """{dotted setting: value} that a missing run must repeat so that it matches the finished ones:
    from another seed of the same row, else those that all rows share."""
    config, same_row = beside[0].config, beside[0].name == row.run
    # A method may have its own number of epochs; where the file says it, `departures` compares.
    compared = spec.defaults and config.get("method")
    repeat_epochs = not compared and (same_row or "per_method" not in spec.defaults)
    repeated = {}
    for key, (_, field) in settings_of(spec.settings_class()).items():
        value = lookup(config, key)
        if not field.metadata.get("repeat") or (key == "optim.epochs" and not repeat_epochs):
            continue
        if value is not None and value != lookup(spec.defaults, key):
            repeated[key] = value
    shared, *others = (departures(spec, run, beside) for run in beside)
    if not same_row:
        for other in others:
            shared = {k: v for k, v in shared.items() if k in other and other[k] == v}
    return repeated | shared


def _quoted(text: str) -> str:
    return f": `{text}`" if text else ""
