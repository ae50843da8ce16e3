"""Threads that share their cores with other processes' threads.

PyTorch's threads wait for each other many hundred times in a step. While they wait they spin, for
milliseconds: on a machine of one's own that is fastest, and beside a busy neighbour they take the
core from the one that they wait for. libgomp, the OpenMP of PyTorch on Linux, goes to sleep soon
(after 100 spins instead of 300,000) once it has more threads than there are cores (GCC, libgomp
manual, GOMP_SPINCOUNT). So what is done here, while neighbours are busy, is to keep idle threads.
It changes no number, only who waits how. Measured by benchmarks/neighbours.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import torch

STAT = Path("/proc/stat")
EVERY = 0.25  # seconds between looks, each of some 0.1 ms; the kernel counts in steps of 0.01
USERS_CHOICE = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}  # too many threads would overrule them
LITTLE = 0.2  # cores, what a quiet machine does beside us


@contextmanager
def sharing_cores() -> Iterator[None]:
    """Look out for busy neighbours meanwhile. Does nothing for one thread, where /proc/stat cannot
    be read, nor where the user has said how threads wait."""
    threads = torch.get_num_threads()  # of this thread; in another one it says something else
    if threads == 1 or not os.access(STAT, os.R_OK) or os.environ.keys() & USERS_CHOICE:
        yield
        return
    end = Event()
    watcher = Thread(target=watch, args=(end, threads), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        end.set()
        watcher.join()


def watch(end: Event, threads: int) -> None:
    """Keep idle threads while others need the cores that our threads compute on, until the end."""
    free = (os.cpu_count() or 1) - threads
    left, before = None, cpu_seconds()
    while not end.wait(EVERY):
        now = cpu_seconds()
        elapsed, everyone, ours = (b - a for a, b in zip(before, now, strict=True))
        before, crowded = now, (everyone - ours) / elapsed > free + LITTLE
        if crowded and left is None:
            left = idle_threads(threads)
        elif left is not None and not crowded:
            left.set()
            left = None
    if left is not None:
        left.set()


def cpu_seconds() -> tuple[float, float, float]:
    """The time, and what all processes and this one have used of the cores until then."""
    ticks = STAT.read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _, _, *interrupts = map(int, ticks)
    used = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), used, time.process_time()


def idle_threads(team: int) -> Event:
    """Threads with a team each, so many that they and our own team are more than the cores -> the
    event that ends them."""
    left, cores = Event(), len(os.sched_getaffinity(0))

    def wait() -> None:
        torch.ones(1 << 16).sum()  # large enough for a team of threads, which stays with this one
        left.wait()

    for _ in range((cores - team) // (team - 1) + 1):
        Thread(target=wait, daemon=True).start()
    return left
