"""python -m fastMRI.train --config fastMRI/configs/fastmri.yaml --method i2m2 --seed 0"""

from __future__ import annotations

from fastMRI.settings import DATASETS
from i2m2.errors import run_command
from i2m2.training import commands


def main(argv: list[str] | None = None) -> None:
    commands.train(DATASETS, argv, "fastMRI.train")


if __name__ == "__main__":
    run_command(main)
