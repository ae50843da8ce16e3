"""`python -m i2m2.sweep`: the runs of a table, each in a process of its own, JOBS at a time.

    python -m i2m2.sweep --train AVMNIST_and_MIMIC.train \\
        --config AVMNIST_and_MIMIC/configs/avmnist.yaml \\
        --rows "unimodal_image, unimodal_audio, inter --fusion concat, i2m2 --fusion concat" \\
        --seeds "0 1 2" [overrides]

`intra` and `i2m2` wait for the rows they start from. CPU threads are divided between the jobs, GPUs
given out one to each. What needs a run that failed is left out; the others are still made, except
after a mistake in the settings or the data (exit codes 2 and 3), which they would share. A run that
another process is at work on (exit code 4) is left to it.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from i2m2.errors import CommandParser, DataError, SettingsError, run_command

MISTAKES = {SettingsError.exit_code, DataError.exit_code}
Running = dict[str, tuple[subprocess.Popen, int]]  # name of a job -> its process, its slot
PATIENCE = 10  # seconds until a run that was asked to end is killed


@dataclass
class Job:
    """One run to make, and the runs of the same seed it starts from."""

    name: str
    command: list[str]
    needs: list[str] = field(default_factory=list)


def main(argv: list[str] | None = None) -> None:
    """Make the runs of a table; exits with the code of the first that failed."""
    parser = CommandParser(
        prog="python -m i2m2.sweep",
        description="Make the runs of a table, several at a time. All other options, --out among "
        "them, go to the training program.",
        allow_abbrev=False,
    )
    program = "training program, such as AVMNIST_and_MIMIC.train"
    parser.add_argument("--train", required=True, metavar="MODULE", help=program)
    config = "YAML file of settings of the training program"
    parser.add_argument("--config", required=True, metavar="FILE", help=config)
    rows = "rows of the table, separated by commas: method and its arguments"
    parser.add_argument("--rows", required=True, help=rows)
    seeds = "seeds, separated by spaces (environment: SEEDS; default: 0)"
    parser.add_argument("--seeds", default=os.environ.get("SEEDS", "0"), help=seeds)
    jobs = "number of runs at a time (environment: JOBS; default: 1)"
    parser.add_argument("--jobs", type=int, default=os.environ.get("JOBS", "1"), help=jobs)
    args, overrides = parser.parse_known_args(argv)
    if args.jobs < 1 or not args.seeds.split():
        raise SettingsError(
            f"JOBS={args.jobs}, SEEDS={args.seeds!r}: at least one job and one seed are needed"
        )
    base = [sys.executable, "-m", args.train, "--config", args.config]
    rows, seeds = rows_of(args.rows), seeds_of(args.seeds)
    codes = run_jobs(plan(rows, seeds, base, overrides), args.jobs)
    if failed := {name: code for name, code in codes.items() if code}:
        why = "the lines above say why; once that is mended, the same command makes them"
        print(f"error: not made: {', '.join(failed)}; {why}", file=sys.stderr)
        sys.exit(next(iter(failed.values())))


def rows_of(text: str) -> list[str]:
    """`intra, inter --fusion concat` -> its rows, each once. SettingsError for what are none."""
    rows = list(dict.fromkeys(row.strip() for row in text.split(",")))
    try:
        if not all(map(shlex.split, rows)):
            raise ValueError("one is empty")
    except ValueError as error:
        raise SettingsError(
            f"--rows {text!r}: {error}; give methods and their arguments, separated by commas"
        ) from error
    return rows


def seeds_of(text: str) -> list[str]:
    """`0 1 01` -> its seeds, each once: two jobs of one name would be taken for one."""
    if not re.fullmatch(r"[0-9\s]+", text):
        raise SettingsError(f"SEEDS={text!r}: seeds are whole numbers, separated by spaces")
    return list(dict.fromkeys(seed.lstrip("0") or "0" for seed in text.split()))


def plan(rows: list[str], seeds: list[str], base: list[str], overrides: list[str]) -> list[Job]:
    """A job per row and seed, seed by seed, rows in the order given."""
    from i2m2.training.config import read_words  # here: the parser of settings takes a while

    scratch = read_words(overrides).get("--init") == "scratch"
    jobs = []
    for seed in seeds:
        for row in rows:
            words = shlex.split(row)
            command = [*base, "--method", *words, "--seed", seed, *overrides]
            needs = [] if scratch else [f"{need} seed {seed}" for need in _needs(words, rows)]
            jobs.append(Job(f"{row} seed {seed}", command, needs))
    return jobs


def _needs(words: list[str], rows: list[str]) -> list[str]:
    """The rows that a row starts from: the unimodal ones, and for i2m2 the inter row like it."""
    method, *arguments = words
    if method not in ("intra", "i2m2"):
        return []
    inter = ["inter", *arguments] if method == "i2m2" else None
    return [row for row in rows if row.startswith("unimodal_") or shlex.split(row) == inter]


def run_jobs(jobs: list[Job], at_a_time: int) -> dict[str, int]:
    """Run all jobs, each after those it needs -> {name: exit code}; a job that is left out has that
    of the job it needs, or of the mistake that it would share."""
    codes: dict[str, int] = {}
    waiting = list(jobs)
    running: Running = {}
    slots = list(range(at_a_time))
    with _ending_with_us(running):
        while waiting or running:
            for job in list(waiting):
                bad = {name: code for name, code in codes.items() if code}
                failed = [c for name, c in bad.items() if c in MISTAKES or name in job.needs]
                if failed:
                    codes[job.name] = failed[0]
                    waiting.remove(job)
                elif slots and codes.keys() >= set(job.needs):
                    slot = slots.pop()
                    environment = _environment(slot, at_a_time)
                    process = subprocess.Popen(
                        job.command, env=environment, preexec_fn=_end_with_parent
                    )
                    running[job.name] = (process, slot)
                    waiting.remove(job)
            for name, (process, slot) in list(running.items()):
                if process.poll() is not None:
                    codes[name] = process.returncode
                    slots.append(slot)
                    del running[name]
            time.sleep(0.05)
    return codes


@contextmanager
def _ending_with_us(running: Running) -> Iterator[None]:
    """End what is `running` on the way out, which a request to end or the terminal's going takes
    like Ctrl-C; a signal that is ignored (nohup) stays so. Each resumes later from its last
    finished epoch."""

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else end)
        yield
    finally:
        _end([process for process, _ in running.values()])
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Where Linux can, have this process end even when its parent is killed, which sees nothing."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Terminate processes and wait until they have freed their runs."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(slot: int, at_a_time: int) -> dict[str, str]:
    """CPU threads divided between the jobs; one GPU to each where there are several."""
    environment = dict(os.environ)
    if at_a_time > 1:
        first = re.match("[0-9]+", os.environ.get("OMP_NUM_THREADS", ""))  # of a list, perhaps
        threads = int(first[0]) if first else os.cpu_count() or 1
        environment["OMP_NUM_THREADS"] = str(max(1, threads // at_a_time))
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        gpus = [gpu for gpu in named if gpu]
        if not gpus:
            import torch  # here: it takes seconds, and only several jobs need it

            gpus = [str(place) for place in range(torch.cuda.device_count())]
        if len(gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


if __name__ == "__main__":
    run_command(main)
