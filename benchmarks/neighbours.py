"""What busy neighbours cost a training step: ours beside torch as it comes, measured in turn.

python -m benchmarks.neighbours [--rounds 5] [--rows avmnist:audio,mimic:series] [--seconds 0.2]
                                [--settings ours,torch,0,10000]

A neighbour is a process that computes without a pause on one thread. Every setting trains in a
process of its own: `ours` as a run does; `torch` with PyTorch's choice of threads and none of
i2m2.machine.neighbours; a number like `torch`, with that GOMP_SPINCOUNT. The target beside n
neighbours is 1.15 times the 1 + n that equal shares of the machine would cost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

from AVMNIST_and_MIMIC.avmnist.digits import make_digits
from AVMNIST_and_MIMIC.avmnist.experiment import load_avmnist
from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTData
from AVMNIST_and_MIMIC.mimic.experiment import load_mimic
from benchmarks.compared import avmnist_loops, mimic_loops
from benchmarks.compared.training import Ours, subset
from benchmarks.measuring.process import ROOT
from benchmarks.measuring.timing import beside, choices, machine, table
from benchmarks.mimic import make_arrays
from i2m2.machine.neighbours import sharing_cores
from i2m2.training.data import ArrayDataset

LOOPS = {"avmnist": avmnist_loops, "mimic": mimic_loops}
ROWS = [f"{dataset}:{row}" for dataset, loops in LOOPS.items() for row in loops.ROWS]
NEIGHBOURS = (0, 1, 2)
STAYS = 2000
FAIR = 1.15
REST = 0.6  # seconds until ours has seen which neighbours are awake
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SERVE = "import sys; from benchmarks.neighbours import serve; serve(*sys.argv[1:])"


def serve(folder: str, setting: str) -> None:
    """In a process of its own: train the steps that every line of the input asks for -> seconds."""
    ours = setting == "ours"
    splits = {
        "avmnist": load_avmnist(AVMNISTData(dir=f"{folder}/avmnist")).splits["train"],
        "mimic": load_mimic(mimic_loops.config_of("static", Path(folder, "mimic"))).splits["train"],
    }
    made: dict[str, Ours] = {}
    with sharing_cores() if ours else nullcontext():
        for line in sys.stdin:
            if line not in made:
                made[line] = trainer_of(splits, *json.loads(line))
            train = made[line].pass_of_a_run if ours else made[line].one_pass
            began = time.perf_counter()
            train()
            print(time.perf_counter() - began, flush=True)


def trainer_of(splits: Mapping[str, ArrayDataset], name: str, steps: int) -> Ours:
    dataset, _, row = name.partition(":")
    config = LOOPS[dataset].config_of(row)
    train = subset(splits[dataset], steps * config.optim.batch_size)
    return Ours(config, LOOPS[dataset].new_model(config), train)


class Setting:
    """A process that trains under one setting."""

    def __init__(self, name: str, folder: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
        spins = {"GOMP_SPINCOUNT": name} if name.isdigit() else {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder), name],
            cwd=ROOT,
            env=kept | spins,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, row: str, steps: int) -> float:
        """Of so many steps of a row."""
        time.sleep(REST)
        self.process.stdin.write(json.dumps([row, steps]) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextmanager
def processes(names: list[str], folder: Path) -> Iterator[tuple[dict[str, Setting], list]]:
    """A process per setting, and the neighbours, who sleep."""
    settings = {name: Setting(name, folder) for name in names}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in NEIGHBOURS[1:]]
    try:
        for neighbour in busy:
            neighbour.send_signal(signal.SIGSTOP)
        yield settings, busy
    finally:
        for process in [*busy, *(setting.process for setting in settings.values())]:
            process.kill()
            process.wait()


@contextmanager
def awake(neighbours: list[subprocess.Popen]) -> Iterator[None]:
    for neighbour in neighbours:
        neighbour.send_signal(signal.SIGCONT)
    yield
    for neighbour in neighbours:
        neighbour.send_signal(signal.SIGSTOP)


def measure(
    settings: Mapping[str, Setting], busy: list, row: str, seconds: float, rounds: int
) -> tuple[int, dict[tuple[str, int], float]]:
    """-> steps, {(setting, neighbours): median seconds}; `seconds`: what the steps take alone."""
    each = min(setting.seconds(row, 4) for setting in settings.values()) / 4
    steps = max(4, round(seconds / each))
    for setting in settings.values():
        setting.seconds(row, steps)
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in NEIGHBOURS:
            for name, setting in settings.items():
                with awake(busy[:count]):
                    found.setdefault((name, count), []).append(setting.seconds(row, steps))
    return steps, {key: median(values) for key, values in found.items()}


def cells(row: str, steps: int, found: Mapping[tuple[str, int], float]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in found))
    first = names[0]
    shown = [row, f"{found[first, 0] / steps * 1e3:.1f}"]
    for name in names:
        ratios = [found[name, count] / found[name, 0] for count in NEIGHBOURS[1:]]
        shown += [] if name == first else [f"{found[first, 0] / found[name, 0]:.2f}"]
        shown += [f"{ratio:.2f}" for ratio in ratios]
        if name == first:
            worst = max(r / (1 + n) for r, n in zip(ratios, NEIGHBOURS[1:], strict=True))
            shown += beside(worst, f"<= {FAIR}")
    return shown


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.2, help="that the steps of a round take alone")
    about = "rows of Tables 1 and 2, separated by commas"
    add("--rows", type=choices(ROWS), default=",".join(ROWS), help=about)
    add("--settings", default="ours,torch", help="the first is compared with the others")
    args = parser.parse_args(argv)
    names, rows = args.settings.split(","), []
    print(f"Machine: {machine()}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_digits(folder / "avmnist")
        (folder / "mimic").mkdir()
        make_arrays(folder / "mimic", STAYS)
        with processes(names, folder) as (settings, busy):
            for row in args.rows:
                rows.append(cells(row, *measure(settings, busy, row, args.seconds, args.rounds)))
                print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    columns = ["row", f"{names[0]} alone, ms a step"]
    for name in names:
        columns += [] if name == names[0] else [f"alone: {names[0]} / {name}"]
        columns += [f"{name}, {count} busy / alone" for count in NEIGHBOURS[1:]]
        columns += ["over fair shares", "target"] if name == names[0] else []
    print(table(f"Neighbours: {args.rounds} rounds", columns, rows))


if __name__ == "__main__":
    main()
