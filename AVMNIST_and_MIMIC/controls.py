"""Multiply AV-MNIST's networks that were trained separately, from saved predictions.

python -m AVMNIST_and_MIMIC.controls results/avmnist

Each product has as many parameters as intra or I2M2, without its joint training. Nothing is
trained; the products are kept beside the runs, and `python -m i2m2.results` makes their table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from i2m2.errors import CommandParser, run_command
from i2m2.report.robustness import finished_runs
from i2m2.runs import collect

UNIMODAL = ("unimodal_image", "unimodal_audio")
PRODUCTS = {  # name of the product -> the runs it is made of, of one seed
    "product-image-audio": UNIMODAL,
    "product-image-audio-inter-concat": (*UNIMODAL, "inter-concat"),
    "product-image-audio-inter-low_rank_tensor": (*UNIMODAL, "inter-low_rank_tensor"),
}


def main(argv: list[str] | None = None) -> None:
    """Make every product whose parts are finished; name those that have none."""
    results = _parser().parse_args(argv).results
    below = sorted(results.glob("avmnist*")) if not collect(results) else []
    for folder in below or [results]:
        make_products(folder)


def make_products(folder: Path) -> None:
    """Save every product of a results folder, for each seed that its parts have in common, and
    print its accuracy."""
    from i2m2.combine import save_product  # here: they need torch, and --help does not
    from i2m2.training.evaluate import general_scores

    finished = {(run.name, run.seed) for run in finished_runs(folder)}
    seeds = sorted({seed for _, seed in finished})
    for name, parts in PRODUCTS.items():
        common = [seed for seed in seeds if finished.issuperset((part, seed) for part in parts)]
        for seed in common:
            directory = folder / name / f"seed{seed}"
            runs = [folder / part / f"seed{seed}" for part in parts]
            result = save_product(directory, runs, general_scores)
            print(f"{directory}: test accuracy {result['test']['accuracy']:.4f}")
        if not common:
            print(f"{folder / name}: not made, no seed of {', '.join(parts)} is finished")


def _parser() -> CommandParser:
    parser = CommandParser(
        "python -m AVMNIST_and_MIMIC.controls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = "folder that holds <run>/seed<k>, such as results/avmnist, or several such folders"
    parser.add_argument("results", type=Path, help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
