"""python -m VQA_and_NLVR2.train --config VQA_and_NLVR2/configs/vqa_vs.yaml --method i2m2 --seed 0

python -m VQA_and_NLVR2.train --config VQA_and_NLVR2/configs/nlvr2.yaml --method inter
"""

from __future__ import annotations

from i2m2.errors import run_command
from i2m2.training import commands
from VQA_and_NLVR2.datasets import DATASETS


def main(argv: list[str] | None = None) -> None:
    commands.train(DATASETS, argv, "VQA_and_NLVR2.train")


if __name__ == "__main__":
    run_command(main)
