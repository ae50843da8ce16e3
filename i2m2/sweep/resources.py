"""What a run gets from SLURM: `--slurm FILE`, and options that replace what stands there."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from i2m2.errors import DataError, SettingsError

HELP = {
    "partition": "partition (default: the cluster's own)",
    "nodes": "nodes of a run (default: 1)",
    "gpus": "GPUs on each node (default: 0)",
    "cpus": "CPU cores on each node (default: 4)",
    "memory": "GB of memory on each node (default: 16)",
    "time": "hours after which a job is requeued, and its run goes on (default: 24)",
    "setup": "line of shell before a run, such as 'module load cuda'; repeatable; in a FILE a list",
}
TYPES = {"nodes": int, "gpus": int, "cpus": int, "memory": float, "time": float}
# The end is announced 90 seconds before it comes; a run needs some time before that.
LEAST = {"nodes": 1, "gpus": 0, "cpus": 1, "memory": 0.1, "time": 0.05}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of one run; `sbatch`: further options of that command, such as account."""

    partition: str | None = None
    nodes: int = 1
    gpus: int = 0
    cpus: int = 4
    memory: float = 16
    time: float = 24
    setup: list[str] = field(default_factory=list)
    sbatch: dict[str, Any] = field(default_factory=dict)


def add_options(parser: ArgumentParser, default: str | None) -> None:
    """Options for all of it; `default`: the FILE if none is given."""
    group = parser.add_argument_group("with --launcher slurm")
    file = (
        "YAML file of the following (partition: gpu, ...) and, under `sbatch`, further options of "
        "sbatch, such as account (environment: CLUSTER)"
    )
    group.add_argument("--slurm", metavar="FILE", default=default, help=file)
    for name, text in HELP.items():
        kind = TYPES.get(name, str)
        action = "append" if name == "setup" else "store"
        options = {"type": kind, "action": action, "metavar": name.upper(), "help": text}
        group.add_argument(f"--slurm.{name}", **options)


def resources_of(args: Mapping[str, object], others: Sequence[str], slurm: bool) -> Resources:
    """The resources that the options name. SettingsError for what cannot be, for `others` that look
    like such options, and for options without `slurm`."""
    if unknown := [word for word in others if word.startswith("--slurm")]:
        choices = ", ".join(f"--slurm.{name}" for name in HELP)
        raise SettingsError(f"{unknown[0]} is no option; there are --slurm FILE, {choices}")
    given = {name: args[f"slurm.{name}"] for name in HELP}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not slurm:
        raise SettingsError(f"--slurm.{next(iter(given))} is of LAUNCHER=slurm, which is not set")
    resources = _convert({**_in_file(args["slurm"]), **given}, args["slurm"] or "--slurm")
    for name, least in LEAST.items():
        value = getattr(resources, name)
        if not math.isfinite(value):
            raise SettingsError(f"slurm.{name}={value:g} is no amount; give a number")
        if value < least:
            raise SettingsError(f"slurm.{name}={value:g} is too small; give at least {least}")
    return resources


def _in_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    from i2m2.training.config import read_yaml

    values = read_yaml(path, "--slurm")
    known = [f.name for f in fields(Resources)]
    if unknown := sorted(set(values) - set(known)):
        choices = ", ".join(known)
        raise SettingsError(f"{path}: {unknown[0]} is nothing that a run gets; there are {choices}")
    return values


def _convert(values: Mapping[str, object], where: str) -> Resources:
    from i2m2.reading.records import as_record

    try:
        return as_record(Path(where), values, Resources, "correct it")
    except DataError as error:
        raise SettingsError(str(error)) from error
