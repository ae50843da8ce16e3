"""Idle threads are kept while neighbours are busy, and only then."""

import os
import threading
import time
from threading import Event

import pytest
import torch

from i2m2.machine import neighbours

needs_linux = pytest.mark.skipif(not neighbours.STAT.exists(), reason="no /proc/stat here")


class Looks:
    """In the place of the event that ends the watch: it comes after so many looks."""

    def __init__(self, count):
        self.left = count

    def wait(self, seconds):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(
    "cores, others, kept",
    [
        (2, [0, 0.1, 1, 1, 0.1, 2], [0, 0, 1, 1, 0, 1]),  # of two cores we need both
        (4, [0, 1.9, 2.1, 2.3, 2.1], [0, 0, 0, 1, 0]),  # of four, two are free for others
    ],
)
def test_idle_threads_are_kept_while_others_use_cores_that_we_need(
    monkeypatch, cores, others, kept
):
    ours, made, seen = 1.7, [], []
    clock = [(0.0, 5.0, 3.0)]
    for share in others:
        now, everyone, own = clock[-1]
        clock.append((now + 0.5, everyone + (share + ours) / 2, own + ours / 2))
    times = iter(clock)

    def cpu_seconds():
        seen.append(sum(not event.is_set() for event in made))
        return next(times)

    def idle_threads(team):
        assert team == 2
        made.append(Event())
        return made[-1]

    monkeypatch.setattr(neighbours, "cpu_seconds", cpu_seconds)
    monkeypatch.setattr(neighbours, "idle_threads", idle_threads)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    neighbours.watch(Looks(len(others)), threads=2)
    # A look sees what the look before it has left.
    assert seen[2:] == kept[:-1]
    assert all(event.is_set() for event in made)
    assert len(made) == sum(b > a for a, b in zip([0, *kept], kept, strict=False))


@needs_linux
def test_what_this_process_uses_is_a_part_of_what_all_use():
    before = neighbours.cpu_seconds()
    sum(range(3_000_000))
    after = neighbours.cpu_seconds()
    elapsed, everyone, ours = (b - a for a, b in zip(before, after, strict=True))
    assert 0 < ours <= everyone + 0.05 and elapsed > 0


@needs_linux
def test_with_the_idle_threads_there_are_more_teams_than_cores_until_they_leave():
    def tasks():
        return len(os.listdir("/proc/self/task"))

    def until(condition):
        for _ in range(200):
            if condition():
                return True
            time.sleep(0.05)
        return False

    cores = len(os.sched_getaffinity(0))
    before = tasks()
    torch.set_num_threads(2)
    left = neighbours.idle_threads(2)
    # Each brings itself and one more, which OpenMP counts beside our team of two.
    assert until(lambda: tasks() >= before + 2 * (cores - 1))
    left.set()
    assert until(lambda: tasks() <= before)


@pytest.mark.parametrize(
    "threads, choice, readable",
    [(1, {}, True), (2, {}, True), (2, {"OMP_WAIT_POLICY": "ACTIVE"}, True), (2, {}, False)],
)
def test_a_watcher_is_there_for_more_than_one_thread_and_leaves_with_us(
    threads, choice, readable, monkeypatch, tmp_path
):
    for name in neighbours.USERS_CHOICE:
        monkeypatch.delenv(name, raising=False)
    for name, value in choice.items():
        monkeypatch.setenv(name, value)
    if not readable:
        monkeypatch.setattr(neighbours, "STAT", tmp_path / "stat")
    torch.set_num_threads(threads)
    before = threading.active_count()
    with neighbours.sharing_cores():
        watched = threads > 1 and not choice and neighbours.STAT.exists()
        assert threading.active_count() == before + watched
    assert threading.active_count() == before
