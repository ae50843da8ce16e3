"""python -m AVMNIST_and_MIMIC.evaluate results/avmnist/i2m2-concat/seed0 --split test"""

from __future__ import annotations

from AVMNIST_and_MIMIC.datasets import dataset_of
from i2m2.errors import run_command
from i2m2.training import experiment


def main(argv: list[str] | None = None) -> None:
    experiment.evaluate(
        dataset_of, argv, "AVMNIST_and_MIMIC.evaluate", "results/avmnist/i2m2-concat/seed0"
    )


if __name__ == "__main__":
    run_command(main)
