"""What is on record of a job: `OUT/jobs/<name>-<checksum of its command>/`.

planned.json   its command, what it waits for, who has launched it
state.json     the process that it is, and its exit code once it has ended
log.txt        what it has printed, over all attempts
"""

from __future__ import annotations

import io
import os
import re
import socket
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NotRequired, TypedDict

from i2m2.errors import BusyError, DataError
from i2m2.files import write_json
from i2m2.reading.records import read_record
from i2m2.sweep.plan import Job, Stage

FOLDER = "jobs"
REMEDY = "delete it; the next sweep writes it anew"


class Planned(TypedDict):
    """planned.json."""

    name: str
    program: str
    arguments: list[str]
    needs: list[str]  # names of jobs of the same table
    cwd: NotRequired[str]  # where names of files begin
    host: str  # of the launcher
    pid: int
    started: NotRequired[int]  # see `_started`
    slurm: str | None  # the job's id there
    after: NotRequired[list[str]]  # ids there of what has to end well before it
    stage: Stage


class State(TypedDict):
    """state.json."""

    host: str
    pid: int
    started: NotRequired[int]
    code: int | None


class Process(TypedDict):
    """A process, on whatever machine it is."""

    host: str
    pid: int
    started: NotRequired[int]


def folder_of(out: Path, job: Job) -> Path:
    """The folder of a job's record."""
    words = [word for word in job.name.split() if not word.startswith("--")]
    short = re.sub(r"[^\w.-]", "_", "-".join(words))[:80]
    return out / FOLDER / f"{short}-{zlib.crc32(job.command.encode()):08x}"


def announce(
    out: Path, jobs: Sequence[Job], slurm: str | None = None, after: Sequence[str] = ()
) -> None:
    """Write what is planned. Before a job has its id in SLURM: how it has ended before is
    forgotten."""
    for job in jobs:
        folder = folder_of(out, job)
        planned: Planned = {
            "name": job.name,
            "program": job.program,
            "arguments": job.arguments,
            "needs": list(job.needs),
            "cwd": os.getcwd(),
            **_this_process(),
            "slurm": slurm,
            "after": list(after),
            "stage": job.stage,
        }
        write_json(folder / "planned.json", planned)
        if slurm is None and (state := read_state(folder)) and not is_alive(state):
            (folder / "state.json").unlink()


def is_alive(process: Process | Planned | State) -> bool:
    """Whether that process is running, as far as can be told on this machine; another that has its
    number now is none."""
    if process["host"] != socket.gethostname() or not is_running(process["pid"]):
        return False
    then, now = process.get("started"), _started(process["pid"])
    return None in (then, now) or then == now


def is_running(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    with suppress(OSError):
        os.kill(pid, 0)
        # Z: it has ended, and nobody has asked how.
        return _stat(pid)[:1] != [b"Z"]
    return False


def _this_process() -> Process:
    here: Process = {"host": socket.gethostname(), "pid": os.getpid()}
    started = _started(here["pid"])
    return here if started is None else {**here, "started": started}


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None where that is not told."""
    with suppress(OSError, IndexError):
        return int(_stat(pid)[19])
    return None


def _stat(pid: int) -> list[bytes]:
    """What Linux says of a process, from its state on; [] elsewhere. Its name, which comes before
    that in brackets, may hold anything."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_bytes().rpartition(b")")[2].split() if stat.exists() else []


def all_planned(out: Path) -> dict[Path, Planned]:
    """{folder: planned.json} of every job on record, in the order planned. DataError if one is
    damaged."""
    files = sorted((out / FOLDER).glob("*/planned.json"), key=lambda file: file.stat().st_mtime_ns)
    return {file.parent: read_record(file, Planned, REMEDY) for file in files}


def read_state(folder: Path) -> State | None:
    """None where the job has not begun."""
    with suppress(DataError):
        return read_record(folder / "state.json", State, REMEDY)
    return None


def write_state(folder: Path, code: int | None = None, state: State | None = None) -> None:
    """That this process makes the job, and with what exit code it has ended; or another `state`."""
    now: State = {**_this_process(), "code": code}
    with suppress(OSError):  # the run is worth more than its record
        write_json(folder / "state.json", state or now)


def open_log(folder: Path) -> IO[str]:
    """The log of a job's folder, to write on."""
    return open(folder / "log.txt", "a", encoding="utf-8", errors="backslashreplace")


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Record the beginning and the end of what this process makes, and all that it prints."""
    before = read_state(folder)
    write_state(folder)
    with suppress(OSError):
        log = open_log(folder)
        sys.stdout, sys.stderr = _Tee(sys.stdout, log), _Tee(sys.stderr, log)
    code = 1
    try:
        yield
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        busy = code == BusyError.exit_code  # another is at it, whose state it was
        write_state(folder, code, before if busy else None)


class _Tee(io.TextIOWrapper):
    """A stream of which a log gets a copy, and that alone once nobody reads the stream."""

    def __init__(self, stream: io.TextIOWrapper, log: IO[str]) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
        self.log = log

    def write(self, text: str) -> int:
        self.log.write(text)
        self.log.flush()
        try:
            return super().write(text)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(text)
