"""python -m fastMRI.train --config fastMRI/configs/fastmri.yaml --method i2m2 --seed 0"""

from __future__ import annotations

import sys

from fastMRI.experiment import FASTMRI
from i2m2.errors import run_command
from i2m2.training import experiment


def main(argv: list[str] | None = None) -> None:
    experiment.train(FASTMRI, sys.argv[1:] if argv is None else argv, "fastMRI.train")


if __name__ == "__main__":
    run_command(main)
