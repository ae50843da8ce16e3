"""`python -m i2m2.combine RUN RUN ...`: the product of runs that were trained separately.

What joint training adds is measured against it: the paper's Fig. 3, parts "not trained jointly".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import write_json, write_text
from i2m2.names import EXPERT, PRODUCT
from i2m2.reading.yaml12 import dump_yaml
from i2m2.runs import is_done, read_config, read_facts, require_predictions
from i2m2.settings import RunConfig, flatten, nest
from i2m2.stats.predictions import Predictions, abstaining, factors_of, refuse_other_examples

# {split: its predictions} -> {split: {metric: value}}.
Scores = Callable[[Mapping[str, Predictions]], dict[str, dict[str, float]]]


def combine(predictions: Mapping[str, Predictions]) -> dict[str, np.ndarray]:
    """Predictions of several runs on the same examples, by name -> those of their product, of which
    each run is an expert; it abstains where all of its own do. DataError if the runs did not
    predict the same examples, or keep the best of thousands of answers alone."""
    import torch  # here, since it takes seconds to import, and --help needs none

    from i2m2.model import product_of_experts

    if compact := [name for name, given in predictions.items() if "log_prob" not in given]:
        raise DataError(
            f"{', '.join(compact)}: no log_prob of all classes, as of VQA-VS, whose runs are not "
            "multiplied here; python -m i2m2.results multiplies the experts of an i2m2 run, "
            "after evaluate --save-all of each (VQA_and_NLVR2/README.md, section VQA-VS)"
        )
    refuse_other_examples(predictions)
    first = next(iter(predictions.values()))
    product = {name: first[name] for name in ("id", "group", "y", "labels") if name in first}
    factors = map(torch.from_numpy, factors_of(predictions).values())
    product["log_prob"] = product_of_experts(factors).numpy()
    for name, of_run in predictions.items():
        answer = of_run["log_prob"].astype(np.float64)
        uniform = -np.log(answer.shape[-1])  # as within a run of who abstains
        product[f"{EXPERT}{name}"] = np.where(abstaining(of_run)[..., None], uniform, answer)
    return product


def read_runs(runs: Sequence[Path], split: str) -> dict[str, Predictions]:
    """Saved predictions of finished runs, by their folders; SettingsError for one given twice, by
    its folder or as a copy of it."""
    for place, run in enumerate(runs):
        config = read_config(run)
        for other in runs[:place]:
            if other == run or (config and config == read_config(other)):
                raise SettingsError(
                    f"{other} and {run} are the same run; each is one factor of the product, once"
                )
    return {str(run): require_predictions(run, split) for run in runs}


def save_products(
    products: Mapping[Path, Sequence[Path]], scores: Scores, metric: str, faults: Sequence[str] = ()
) -> None:
    """Keep the product of each folder's runs, and print its score. DataError, once all others are
    kept, for runs that cannot be read, those with `faults` among them."""
    faults = list(faults)
    for directory, runs in products.items():
        try:
            result = save_product(directory, runs, scores)
        except (SettingsError, DataError) as error:
            faults.append(str(error))
        else:
            print(f"{directory}: test {metric} {result['test'][metric]:.4f}")
    if faults:
        raise DataError("; ".join(dict.fromkeys(faults)))


def save_product(
    directory: Path, runs: Sequence[Path], scores: Scores
) -> dict[str, dict[str, float]]:
    """Keep the product of finished runs as a folder, which tables read as a run's -> its result.

    Its config.yaml holds `method: product` and what the runs' settings have in common.
    """
    from i2m2.machine.environment import environment  # here: they need torch
    from i2m2.training.run import Run

    predictions = {split: combine(read_runs(runs, split)) for split in ("val", "test")}
    result = scores(predictions)
    first, *others = (flatten(read_config(run)) for run in runs)
    common = {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}
    config = nest(common | {"method": "product"})
    facts = {"data": read_facts(runs[0]), "product_of": list(map(str, runs))}
    (directory / "DONE").unlink(missing_ok=True)
    write_text(directory / "config.yaml", dump_yaml(config))
    write_json(directory / "env.json", environment() | facts)
    product = Run(directory, RunConfig(dataset=directory.parents[1].name, method="product"))
    for split, arrays in predictions.items():
        product.save_predictions(split, arrays)
    product.finish(result)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Print the scores of the product and of each run, which are those in its result.json."""
    parser = CommandParser(
        prog="python -m i2m2.combine",
        description="Score the product of runs that were trained separately, and each run.",
    )
    folder = "folder of a finished run, such as results/avmnist/unimodal_image/seed0"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=folder)
    split = "split whose saved predictions are multiplied (default: test)"
    parser.add_argument("--split", choices=("val", "test"), default="test", help=split)
    args = parser.parse_args(argv)
    predictions = read_runs(args.runs, args.split)
    from i2m2.training.evaluate import score_predictions, table_of  # here: it needs torch

    described = [read_facts(run).get("description", "not described") for run in args.runs]
    data = "; ".join(dict.fromkeys(map(str, described)))
    combined = combine(predictions)
    examples = f"{args.split} split, {len(combined['y'])} examples, data: {data}"
    print(f"product of {len(predictions)} runs, {examples}")
    if unfinished := [str(run) for run in args.runs if not is_done(run)]:
        print(f"NOT FINISHED, as DONE is missing: {', '.join(unfinished)}")
    rows = {PRODUCT: combined, **predictions}
    print(table_of({name: score_predictions(of_row) for name, of_row in rows.items()}))


if __name__ == "__main__":
    run_command(main)
