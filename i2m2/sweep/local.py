"""Runs in processes of this machine, some at a time.

A run begins in a copy of a process that has imported everything already (`forkserver`), so that it
starts in a tenth of a second and not in seconds; else it is what `python -m` would make of it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from i2m2.errors import DataError, SettingsError
from i2m2.sweep import records
from i2m2.sweep.plan import Job, dataset

MISTAKES = {SettingsError.exit_code, DataError.exit_code}
Running = dict[str, tuple[BaseProcess, int]]  # name of a job -> its process, its slot
PATIENCE = 10  # seconds until a run that was asked to end is killed
# What every training imports, at the latest in its first step. None of it starts a thread or runs
# an operation of PyTorch, whose threads a copy would lack.
IMPORTED = ("i2m2.training.experiment", "torch._dynamo", "sklearn.metrics")


def run_jobs(jobs: list[Job], at_a_time: int, out: Path) -> dict[str, int]:
    """Run all jobs, each after those it needs -> {name: exit code}; a job that is left out has that
    of the job it needs, or of the mistake that it would share."""
    codes: dict[str, int] = {}
    waiting = list(jobs)
    running: Running = {}
    at_a_time = min(at_a_time, len(jobs))
    slots = list(range(at_a_time))
    launch = Launcher(jobs[0], at_a_time)
    records.announce(out, jobs)
    with _ending_with_us(running):
        while waiting or running:
            _end_with_scripts()
            for job in list(waiting):
                bad = {name: code for name, code in codes.items() if code}
                failed = [c for name, c in bad.items() if c in MISTAKES or name in job.needs]
                if failed:
                    codes[job.name] = failed[0]
                    waiting.remove(job)
                elif slots and codes.keys() >= set(job.needs):
                    slot = slots.pop()
                    running[job.name] = (launch(job, slot, records.folder_of(out, job)), slot)
                    waiting.remove(job)
            for name, (process, slot) in list(running.items()):
                if (code := process.exitcode) is not None:
                    codes[name] = code
                    slots.append(slot)
                    del running[name]
            time.sleep(0.02)
    return codes


class Launcher:
    """Starts a job in a new process, with its share of the CPU threads and of the GPUs."""

    def __init__(self, job: Job, at_a_time: int) -> None:
        if at_a_time > 1:
            first = re.match("[0-9]+", os.environ.get("OMP_NUM_THREADS", ""))  # of a list, perhaps
            threads = int(first[0]) if first else os.cpu_count() or 1
            # Before the process that is copied begins, since numpy and PyTorch read it once.
            os.environ["OMP_NUM_THREADS"] = str(max(1, threads // at_a_time))
        # Elsewhere the system's own libraries do not bear a copy.
        way = "forkserver" if sys.platform == "linux" else "spawn"
        self.context = multiprocessing.get_context(way)
        if spec := dataset(job.program, job.arguments):
            self.context.set_forkserver_preload([*IMPORTED, spec.module])
        self.gpus = self._gpus() if at_a_time > 1 else []

    def __call__(self, job: Job, slot: int, record: Path) -> BaseProcess:
        environment = dict(os.environ)
        if len(self.gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        work = (job.program, job.arguments, environment, record)
        process = self.context.Process(target=_run, args=work, name=job.name)
        process.start()
        return process

    def _gpus(self) -> list[str]:
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if gpus := [gpu for gpu in named if gpu]:
            return gpus
        with self.context.Pool(1) as pool:  # counting may open them, which no run should inherit
            return [str(place) for place in range(pool.apply(_count_gpus))]


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _run(program: str, arguments: list[str], environment: Mapping[str, str], record: Path) -> None:
    """What `python -m program arguments` does, in a process that has begun already."""
    _end_with_parent()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    sys.modules.pop(program, None)
    with records.recorded(record):
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    """Have this process end when the sweep does, even if that is killed, which sees nothing."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:  # Linux: with the process that it is a copy of
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    def wait() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


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


def _end_with_scripts() -> None:
    """Exit if a script that has led here is gone: bash, ended by its number, tells nobody."""
    for script in os.environ.get("I2M2_SCRIPTS", "").split():  # of scripts/setup.sh
        host, _, pid = script.rpartition(":")
        if host == socket.gethostname() and not records.is_running(int(pid)):
            sys.exit(128 + signal.SIGTERM)


def _end(processes: Sequence[BaseProcess]) -> None:
    """Terminate processes and wait until they have freed their runs."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
