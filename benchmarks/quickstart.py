"""What the first command of a newcomer costs after its install: seconds, and epochs of its audio
row at two threads, which tell a slow machine from a slow quickstart.

python -m benchmarks.quickstart [--epochs 4]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.measuring.process import ROOT
from benchmarks.measuring.timing import beside, machine, table
from i2m2.sweep.plan import epochs_of

TARGET = "<= 115"  # epochs of the audio row: four minutes where one takes 2.1 seconds
CONFIG = "AVMNIST_and_MIMIC/configs/avmnist_digits.yaml"


def main(argv: list[str] | None = None) -> None:
    """Print a table: the quickstart once, audio epochs before and after it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quickstart", description=__doc__)
    parser.add_argument(
        "--epochs", type=int, default=4, help="on either side; the first is left out"
    )
    args = parser.parse_args(argv)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        epochs = audio_epochs(f"{folder}/before", args.epochs)
        began = time.perf_counter()
        run(["bash", "scripts/quickstart.sh"], OUT=folder)
        seconds = time.perf_counter() - began
        epochs += audio_epochs(f"{folder}/after", args.epochs)
    epoch = median(epochs)
    row = [f"{seconds:.0f}", f"{epoch:.2f}", *beside(seconds / epoch, TARGET, digits=0)]
    columns = ["seconds", "audio epoch, 2 threads", "quickstart over epoch", "target"]
    print(table("The quickstart after its install", columns, [row]))


def audio_epochs(out: str, epochs: int) -> list[float]:
    """Seconds of every epoch of the audio row but the first."""
    options = ["--method", "unimodal_audio", "--out", out, "--optim.epochs", str(epochs)]
    command = [sys.executable, "-m", "AVMNIST_and_MIMIC.train", "--config", CONFIG, *options]
    run(command, OMP_NUM_THREADS="2")
    seed = Path(out, "avmnist-digits/unimodal_audio/seed0")
    return [record["seconds"] for record in epochs_of(seed)][1:]


def run(command: list[str], **variables: str) -> None:
    """A command of this repository, quietly, to its end."""
    given = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run(command, cwd=ROOT, env=given | variables, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
