"""What the start of a run costs: as `python -m`, and as a sweep on this machine starts it.

python -m benchmarks.launch [--rounds 7]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.measuring.process import ROOT
from benchmarks.measuring.timing import alternate, beside, machine, table
from i2m2.sweep.local import Launcher
from i2m2.sweep.plan import Job, epochs_of, plan

PROGRAM = "AVMNIST_and_MIMIC.train"
CONFIG = "AVMNIST_and_MIMIC/configs/avmnist_digits.yaml"
TARGET = "<= 0.5"  # seconds, of a run that a sweep starts
Way = Callable[[Job], None]


def as_a_command(job: Job) -> None:
    """A process that imports everything."""
    command = [sys.executable, "-m", job.program, *job.arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def by_a_sweep(launch: Launcher, folder: Path, job: Job) -> None:
    """A copy of a process that has imported everything."""
    process = launch(job, 0, folder)
    while process.exitcode is None:
        time.sleep(0.005)
    assert process.exitcode == 0


def main(argv: list[str] | None = None) -> None:
    """Print a table: a run of one epoch on the embedded digits, medians of alternating rounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.launch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="that count; one goes before them")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        overrides = ["--out", folder, "--optim.epochs", "1", "--device", "cpu"]
        job = plan(["unimodal_image"], ["0"], PROGRAM, ["--config", CONFIG], overrides)[0]
        launch = Launcher(job, 1)
        epochs: list[float] = []  # not of `python -m`, which imports within them too
        tasks = {
            "python -m": partial(_new_run, out, job, as_a_command, []),
            "sweep": partial(_new_run, out, job, partial(by_a_sweep, launch, out), epochs),
        }
        seconds = alternate(tasks, args.rounds)
    epoch = median(epochs[1:])
    rows = []
    for name, value in seconds.items():
        start = beside(value - epoch, TARGET) if name == "sweep" else [f"{value - epoch:.2f}", ""]
        rows.append([name, f"{value:.2f}", *start])
    print(machine())
    title = f"A run of one epoch on the digits, of which training takes {epoch:.2f} s"
    print(table(title, ["started by", "seconds", "without its epoch", "target"], rows))


def _new_run(out: Path, job: Job, way: Way, epochs: list[float]) -> None:
    """A run from the beginning; the seconds of its epoch are added to `epochs`."""
    folder = out / "avmnist-digits/unimodal_image/seed0"
    shutil.rmtree(folder, ignore_errors=True)
    way(job)
    epochs += [record["seconds"] for record in epochs_of(folder)]


if __name__ == "__main__":
    main()
