"""What every benchmark needs: medians of alternating rounds, facts of the machine, tables."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

Key = TypeVar("Key")


def alternate(
    tasks: Mapping[Key, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[Key, float]:
    """Median seconds of every task, run in turn (A B A B ...).

    So a slow moment of the machine hits all of them alike. The first `warmup` rounds do not count.
    """
    seconds: dict[Key, list[float]] = {name: [] for name in tasks}
    for _ in range(warmup + rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - began)
    return {name: median(values[warmup:]) for name, values in seconds.items()}


def machine() -> str:
    """CPU, cores, threads, load and versions in one line."""
    load = f"{os.getloadavg()[0]:.1f}"
    return (
        f"{_cpu()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, load before {load}; "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown: a heading, then the first column to the left and the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return f"\n### {title}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def beside(value: float, target: str, digits: int = 2) -> list[str]:
    """A measured value and its target, such as '<= 1.25', with the verdict.

    -> ['1.31', '<= 1.25: missed'].
    """
    comparison, bound = target.split()
    met = value <= float(bound) if comparison == "<=" else value >= float(bound)
    return [f"{value:.{digits}f}", f"{target}: {'met' if met else 'missed'}"]


def choices(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Type of a command-line option that takes some of these, separated by commas."""
    names = list(names)

    def parse(given: str) -> list[str]:
        if unknown := set(given.split(",")) - set(names):
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(names)}"
            )
        return given.split(",")

    return parse
