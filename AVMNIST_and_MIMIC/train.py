r"""Make one run of AV-MNIST or MIMIC-III, or resume it.

python -m AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/avmnist.yaml \
    --method i2m2 --fusion concat --seed 0
python -m AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/mimic.yaml \
    --task icd9_1 --method intra
"""

from __future__ import annotations

from AVMNIST_and_MIMIC.datasets import DATASETS
from i2m2.errors import run_command
from i2m2.training import commands


def main(argv: list[str] | None = None) -> None:
    commands.train(DATASETS, argv, "AVMNIST_and_MIMIC.train")


if __name__ == "__main__":
    run_command(main)
