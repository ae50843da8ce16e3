"""`python -m i2m2.combine RUN RUN ...`: the product of runs that were trained separately, from
their saved predictions.

What joint training adds is measured against it: the paper's Fig. 3 has it as the parts "not trained
jointly".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import finite, write_atomic, write_json, write_text
from i2m2.model import product_of_experts
from i2m2.names import EXPERT
from i2m2.runs import read_facts, read_predictions
from i2m2.settings import flatten, nest
from i2m2.stats.predictions import Predictions, labels_of
from i2m2.training.evaluate import scores_of, table_of
from i2m2.training.experiment import Scores
from i2m2.training.run import environment


def combine(predictions: Mapping[str, Predictions]) -> dict[str, np.ndarray]:
    """Predictions of several runs on the same examples, by name -> those of their product, each run
    as an expert of it.

    DataError if the runs did not predict the same examples.
    """
    first, *others = predictions
    kept = {
        key: predictions[first][key]
        for key in ("id", "group", "y", "labels")
        if key in predictions[first]
    }
    for name in others:
        if not np.array_equal(predictions[name]["id"], kept["id"]) or not np.array_equal(
            predictions[name]["y"], kept["y"]
        ):
            raise DataError(
                f"{first} and {name} predicted other examples; combine runs of the same data and split"
            )
    log_probs = {name: torch.from_numpy(p["log_prob"]).double() for name, p in predictions.items()}
    product = product_of_experts(log_probs.values()).numpy()
    return (
        kept
        | {"log_prob": product}
        | {f"{EXPERT}{name}": value.numpy() for name, value in log_probs.items()}
    )


def read_runs(runs: Sequence[Path], split: str) -> dict[str, Predictions]:
    """Saved predictions of finished runs, by their folders. SettingsError for a run without any, or
    given twice."""
    predictions = {}
    for run in runs:
        if str(run) in predictions:
            raise SettingsError(f"{run} is given twice; each run is one factor of the product")
        if (found := read_predictions(run, split)) is None:
            raise SettingsError(
                f"{run} has no predictions of the {split} split; give the folders of finished runs"
            )
        predictions[str(run)] = found
    return predictions


def save_product(
    directory: Path, runs: Sequence[Path], scores: Scores
) -> dict[str, dict[str, float]]:
    """Keep the product of finished runs as a folder of its own, which tables read as they read a
    run's -> its result.

    Its config.yaml holds `method: product` and what the runs' settings have in common, its env.json
    names them.
    """
    predictions = {split: combine(read_runs(runs, split)) for split in ("val", "test")}
    result = scores(predictions)
    configs = [
        flatten(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))) for run in runs
    ]
    common = {
        key: value
        for key, value in configs[0].items()
        if all(other.get(key) == value for other in configs)
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "DONE").unlink(missing_ok=True)
    for split, arrays in predictions.items():
        write_atomic(
            directory / f"predictions_{split}.npz",
            lambda path, arrays=arrays: np.savez(path, **arrays),
        )
    write_text(
        directory / "config.yaml",
        yaml.safe_dump(nest(common | {"method": "product"}), sort_keys=False),
    )
    write_json(
        directory / "env.json",
        environment() | {"data": read_facts(runs[0]), "product_of": list(map(str, runs))},
    )
    write_json(directory / "result.json", finite(result))
    write_text(directory / "DONE", "")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Print the scores of the product and of each run."""
    parser = CommandParser(
        prog="python -m i2m2.combine",
        description="Score the product of runs that were trained separately.",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folders such as results/avmnist/unimodal_image/seed0",
    )
    parser.add_argument("--split", choices=("val", "test"), default="test")
    args = parser.parse_args(argv)
    predictions = read_runs(args.runs, args.split)
    data = dict.fromkeys(
        str(read_facts(run).get("description", "not described")) for run in args.runs
    )
    combined = combine(predictions)
    print(
        f"product of {len(predictions)} runs, {args.split} split, {len(combined['y'])} examples, data: {'; '.join(data)}"
    )
    print(table_of(scores_of(combined, labels_of(combined))))


if __name__ == "__main__":
    run_command(main)
