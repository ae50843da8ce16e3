"""Work that is shared by several processes and dies with the one that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from typing import TypeVar

from tqdm import tqdm

from i2m2.errors import SettingsError

Job = TypeVar("Job")
Result = TypeVar("Result")


def each(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, what: str
) -> Iterator[Result]:
    """function(job) of every job, in the order of completion, behind a progress bar. The first
    error ends it all."""
    with tqdm(total=len(jobs), desc=what, unit="volume", leave=False, disable=None) as bar:
        for result in _results(function, jobs, min(workers, len(jobs))):
            bar.update()
            yield result


def _results(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    if workers <= 1:
        yield from map(function, jobs)
        return
    # Started afresh rather than forked: HDF5 and the progress bar's thread do not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            yield future.result()
    except BrokenExecutor as error:
        raise SettingsError(
            f"one of {workers} worker processes was killed, most likely because memory ran out; "
            "give fewer --workers (what was finished is kept)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a worker: leave Ctrl-C to the parent, and end if the parent is killed, which a pool's
    workers do not do by themselves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
