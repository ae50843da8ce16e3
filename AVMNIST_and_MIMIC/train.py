"""python -m AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/avmnist.yaml --method i2m2 --fusion concat --seed 0

python -m AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/mimic.yaml --task icd9_1 --method intra
"""

from __future__ import annotations

import sys

from AVMNIST_and_MIMIC.datasets import dataset_of
from i2m2.errors import run_command
from i2m2.training import experiment


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    experiment.train(dataset_of(argv), argv, "AVMNIST_and_MIMIC.train")


if __name__ == "__main__":
    run_command(main)
