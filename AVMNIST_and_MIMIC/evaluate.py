"""python -m AVMNIST_and_MIMIC.evaluate results/avmnist/i2m2-concat/seed0 --split test"""

from __future__ import annotations

from AVMNIST_and_MIMIC.datasets import DATASETS
from i2m2.errors import run_command
from i2m2.training import commands

EXAMPLE = "results/avmnist/i2m2-concat/seed0"


def main(argv: list[str] | None = None) -> None:
    commands.evaluate(DATASETS, argv, "AVMNIST_and_MIMIC.evaluate", EXAMPLE)


if __name__ == "__main__":
    run_command(main)
