"""python -m fastMRI.evaluate results/fastmri/i2m2/seed0 --split test"""

from __future__ import annotations

from fastMRI.experiment import FASTMRI
from i2m2 import experiment
from i2m2.errors import run_command


def main(argv: list[str] | None = None) -> None:
    experiment.evaluate(lambda _: FASTMRI, argv, "fastMRI.evaluate", "results/fastmri/i2m2/seed0")


if __name__ == "__main__":
    run_command(main)
