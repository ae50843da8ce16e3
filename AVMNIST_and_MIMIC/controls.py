"""Multiply AV-MNIST's networks that were trained separately, from saved predictions.

python -m AVMNIST_and_MIMIC.controls results/avmnist

Each product has as many parameters as intra or I2M2, without its joint training. Nothing is
trained; the products are kept beside the runs, and `python -m i2m2.results` makes their table.
"""

from __future__ import annotations

from pathlib import Path

from i2m2.errors import CommandParser, SettingsError, run_command
from i2m2.report.robustness import faults_of, finished_runs
from i2m2.runs import collect

UNIMODAL = ("unimodal_image", "unimodal_audio")
PRODUCTS = {  # name of the product -> the runs it is made of, of one seed
    "product-image-audio": UNIMODAL,
    "product-image-audio-inter-concat": (*UNIMODAL, "inter-concat"),
    "product-image-audio-inter-low_rank_tensor": (*UNIMODAL, "inter-low_rank_tensor"),
}


def main(argv: list[str] | None = None) -> None:
    """Make every product whose parts are finished; name those that have none. DataError, once all
    others are made, for parts that cannot be read."""
    parser = CommandParser("python -m AVMNIST_and_MIMIC.controls", __doc__)
    about = "folder that holds <run>/seed<k>, such as results/avmnist, or several such folders"
    parser.add_argument("results", type=Path, help=about)
    results = parser.parse_args(argv).results
    _refuse_others(results)
    below = [path for path in sorted(results.glob("avmnist*")) if _has_finished(path)]
    folders = below if below and not collect(results) else [results]
    products = {to: runs for folder in folders for to, runs in products_of(folder).items()}
    from i2m2.combine import save_products  # here: they need torch, and --help does not
    from i2m2.training.evaluate import general_scores

    faults = [fault for folder in folders for fault in faults_of(folder)]
    save_products(products, general_scores, "accuracy", faults)


def products_of(folder: Path) -> dict[Path, list[Path]]:
    """{folder of a product: its runs}, for each seed that these have in common."""
    finished = {(run.name, run.seed): run.dir for run in finished_runs(folder)}
    seeds = sorted({seed for _, seed in finished})
    products = {}
    for name, parts in PRODUCTS.items():
        common = [seed for seed in seeds if all((part, seed) in finished for part in parts)]
        for seed in common:
            products[folder / name / f"seed{seed}"] = [finished[part, seed] for part in parts]
        if not common:
            why = f"no seed is finished of each of {', '.join(parts)}"
            print(f"{folder / name}: not made, {why} (those with a --tag or --preset are others)")
    return products


def _refuse_others(results: Path) -> None:
    """SettingsError for runs that are all of another data set."""
    runs = [run for folder in (results, *results.glob("*")) for run in collect(folder)]
    # One that cannot be read may be any.
    if runs and not any(run.config.get("dataset", "avmnist") == "avmnist" for run in runs):
        raise SettingsError(
            f"{results}: holds no run of AV-MNIST, whose products alone are made here; "
            "give a folder of its runs, such as results/avmnist"
        )


def _has_finished(folder: Path) -> bool:
    return any(run.test is not None for run in collect(folder))


if __name__ == "__main__":
    run_command(main)
