"""`--status OUT`: the state of every run that a sweep has planned there."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from i2m2.errors import DataError, SettingsError, aligned, there_and_now
from i2m2.runs import is_done, read_config, read_environment
from i2m2.settings import RunConfig
from i2m2.sweep import records
from i2m2.sweep.plan import differing, epochs_of, folders_of, settings_of
from i2m2.training.commands import split_seeds
from i2m2.training.config import read_words, shell_command

COLUMNS = ["run", "state", "job", "node", "epoch", ""]
# What torchrun says of a failure, to the last rule of its summary; and that it ends a process.
TORCHRUN = re.compile(
    r"^E\d{4} .* failed \(exitcode.*\n(?:.*\n)*?={60}\n(?:.*\n)*?={60}$"
    r"|^W\d{4} .*torch/distributed/elastic.*$",
    re.M,
)
NOT_IN_TITLE = ("--config", "--method", "--fusion", "--out")


class Queued(NamedTuple):
    """A job in SLURM's queue."""

    state: str  # PENDING, RUNNING, ...
    node: str
    reason: str  # why it waits


@dataclass
class Status:
    """Of a job: waiting, running, done, failed, cancelled or not started; and why."""

    planned: records.Planned
    state: str
    where: tuple[str, str] = ("", "")  # its job in SLURM or its process, its node
    epoch: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """What the runs of a table have in common: `mimic --task icd9_7`."""
        arguments, _ = _split_seeds(self.planned["arguments"])
        words = read_words(arguments)
        if "--method" not in words:
            return self.planned["program"]
        shared = shell_command(arguments, "", NOT_IN_TITLE)
        table = Path(words.get("--config") or self.planned["program"]).stem
        return f"{table}{shared.removeprefix(shell_command([], ''))}"


def show(out: Path) -> str:
    """A line for every planned run, table by table, then how many are in each state. SettingsError
    where no sweep has been."""
    tables: dict[str, list[list[str]]] = {}
    found = statuses(out)
    for status in found:
        line = [status.planned["name"], status.state, *status.where, status.epoch, status.note]
        tables.setdefault(status.title, [COLUMNS]).append(line)
    parts = [f"{title}\n{aligned(lines, others='left')}\n" for title, lines in tables.items()]
    counts = Counter(status.state for status in found)
    return "\n".join([*parts, ", ".join(f"{n} {state}" for state, n in counts.items())])


def statuses(out: Path) -> list[Status]:
    """The state of every job on record, in the order planned."""
    on_record = records.all_planned(out)
    if not on_record:
        raise SettingsError(f"{out}/{records.FOLDER}: no run is planned there; is it the --out?")
    queue = cache(queued)  # asked where files do not say how a job has ended
    found = [_status(folder, queue, planned, out) for folder, planned in on_record.items()]
    by_name = {(status.title, status.planned["name"]): status for status in found}
    by_job = {status.planned["slurm"]: status for status in found}
    for status in sorted(found, key=lambda status: max(map(len, _needs(status)))):
        names, ids = _needs(status)
        keys = [(status.title, name) for name in names]
        needed = [by_name[key] for key in keys if key in by_name]
        _look_at_needs(status, [*needed, *(by_job[job] for job in ids if job in by_job)], out)
    return found


def _needs(status: Status) -> tuple[Sequence[str], Sequence[str]]:
    """What a job needs: by name within its table, by ids in SLURM."""
    return status.planned["needs"], status.planned.get("after", [])


def queued() -> dict[str, Queued]:
    """The user's jobs in SLURM's queue by their ids. SettingsError where it does not answer."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i|%T|%N|%r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise SettingsError("there is no SLURM here (squeue); go where there is") from None
    except subprocess.CalledProcessError as error:
        raise SettingsError(f"SLURM does not answer: {error.stderr}") from error
    lines = [line.split("|", 3) for line in done.stdout.splitlines()]
    return {name: Queued(*about) for name, *about in lines}


def _status(
    folder: Path, queue: Callable[[], dict[str, Queued]], planned: records.Planned, out: Path
) -> Status:
    """What can be said of a job without those that it needs; its runs lie below `out`, wherever
    that has been moved or copied."""
    state, configs = records.read_state(folder), settings_on_record(planned)
    configs = [replace(config, out=str(out)) for config in configs]
    runs = [next(folders_of(config), None) for config in configs]
    behind = min((len(epochs_of(run)) for run in runs if run), default=0)
    epoch = f"{behind}/{configs[0].optim.epochs}" if any(runs) else ""
    slurm = planned["slurm"] or ""
    if runs and all(run and is_done(run) for run in runs):
        return Status(planned, "done", epoch=epoch)
    if state and state["code"] == 0:
        made = [_made_otherwise(planned, config, out) for config in configs]
        gone = Status(planned, "not started", note="there are no results of its settings here")
        return Status(planned, "done", note=" ".join(made[:1])) if all(made) else gone
    if slurm and (job := queue().get(slurm)):
        if job.state == "PENDING":
            return Status(planned, "waiting", (slurm, ""), epoch, job.reason)
        return Status(planned, "running", (slurm, job.node), epoch)
    if state and state["code"] is None and records.is_alive(state):
        return Status(planned, "running", (f"process {state['pid']}", state["host"]), epoch)
    if state:
        killed = "" if state["code"] else "killed; "
        last = f"{killed}{_last_line(folder / 'log.txt') or f'see {folder}'}"
        return Status(planned, "failed", (slurm, state["host"]), epoch, last)
    waits = not slurm and records.is_alive(planned)
    return Status(planned, "waiting" if waits else "not started", (slurm, ""), epoch)


def _made_otherwise(planned: records.Planned, config: RunConfig, out: Path) -> str:
    """In what the run that a job has made differs from the settings that its command has now, as
    after a change of the config file; empty where there is none, or it does not."""
    command = " ".join(["-m", planned["program"], *planned["arguments"]])
    for folder in sorted(out.glob(f"*/*/seed{config.seed}")):
        with suppress(DataError):
            by = read_environment(folder).get("command", "")
            if by.endswith(command) and is_done(folder) and read_config(folder):
                differs = there_and_now(differing(folder, config))
                return differs and f"with other settings: {differs}"
    return ""


def _look_at_needs(status: Status, needed: Sequence[Status], out: Path) -> None:
    """Say of a job that has not begun what it waits for, or that it never will."""
    bad = [need for need in needed if need.state in ("failed", "cancelled")]
    if status.state == "not started" and bad:
        status.state, status.note = "cancelled", f"needs {_names(bad)}"
    elif status.state == "not started" and not status.note and (slurm := status.planned["slurm"]):
        status.state = "failed"
        said = _last_line(out / records.FOLDER / f"submitit/{slurm}_0_log.err")
        status.note = f"it left the queue before it began: {said or 'cancelled, or by its setup'}"
    elif status.state == "waiting":
        missing = [need for need in needed if need.state != "done"]
        status.note = f"for {_names(missing)}" if missing else status.note


def _names(statuses: Sequence[Status]) -> str:
    return ", ".join(dict.fromkeys(status.planned["name"] for status in statuses))


def settings_on_record(planned: records.Planned) -> list[RunConfig]:
    """The settings of a job's runs; none where they are no training's, or not possible any more."""
    words, seeds = _split_seeds(planned["arguments"])
    begins = planned.get("cwd", "")
    words = [  # the file is found from any other folder, too
        str(Path(begins, word)) if before == "--config" else word
        for before, word in pairwise(["", *words])
    ]
    with suppress(SettingsError):
        if config := _settings_of_row(planned["program"], tuple(words)):
            return [replace(config, seed=seed) for seed in seeds]
    return []


def _split_seeds(arguments: Sequence[str]) -> tuple[list[str], list[int]]:
    """Arguments without their seeds, and these."""
    words = ["--seeds" if word == "--seed" else word for word in arguments]
    words, seeds = split_seeds(words)
    return words, seeds or []


@cache  # rows have many seeds, and reading settings takes a while
def _settings_of_row(program: str, words: tuple[str, ...]) -> RunConfig | None:
    return settings_of(program, list(words))


def _last_line(log: Path) -> str:
    """Of what the run itself said: torchrun's own account of a failure comes after it. Empty where
    it said nothing."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in TORCHRUN.sub("", text).splitlines() if line.strip()]
    return lines[-1] if lines else ""
