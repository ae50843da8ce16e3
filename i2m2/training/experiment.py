"""Training and evaluating one data set's runs: what every `train.py` and `evaluate.py` does, given
the data set's own parts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from i2m2.errors import CommandParser, SettingsError
from i2m2.losses import negative_log_likelihood
from i2m2.metrics import score
from i2m2.model import ProductOfExperts
from i2m2.training.config import RunConfig, load_config
from i2m2.training.data import Data, seed_everything
from i2m2.training.evaluate import Keep, keep_all, predict, scores_of, table_of
from i2m2.training.loop import Loss, fit, make_accelerator, start_tracker
from i2m2.training.run import Run, run_dir
from i2m2.training.warm_start import training_command, warm_start

Predictions = Mapping[str, np.ndarray]  # of one split: id, group, y, log_prob, expert_<name>
Scores = Callable[
    [Mapping[str, Predictions]], dict[str, dict[str, float]]
]  # {split: predictions} -> {split: {metric: value}}


def likelihood(config: RunConfig, data: Data, device: torch.device) -> Loss:
    """The loss where a data set has none of its own."""
    return negative_log_likelihood


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: {metric: value}}, where a data set has no scores of its own."""
    return {
        split: score(p["y"], p["log_prob"], labels=labels_of(p)) for split, p in predictions.items()
    }


def labels_of(predictions: Predictions) -> list[str] | None:
    """Names of the labels, where there are several."""
    return predictions["labels"].tolist() if "labels" in predictions else None


class Experiment(NamedTuple):
    """What a data set brings: its settings, loader and models, and where it has them, loss and
    scores of its own."""

    config: type[RunConfig]
    load: Callable[[Any], Data]
    build_model: Callable[[Any], ProductOfExperts]
    loss: Callable[[Any, Data, torch.device], Loss] = likelihood
    scores: Scores = scores
    parameters: Callable[[Any, ProductOfExperts], list[dict[str, Any]]] | None = (
        None  # groups of the optimiser; None: all alike
    )
    keep: Keep = keep_all  # of predictions
    validate: Callable[[Predictions], dict[str, float]] | None = (
        None  # per epoch; None: accuracy, NLL and `optim.select`
    )
    report: Callable[[Predictions], str] | None = (
        None  # what `evaluate` prints; None: all metrics of product and experts
    )


def train(experiment: Experiment, argv: list[str], program: str) -> None:
    """Make the run that the command line describes, or go on with it; a finished one is left alone."""
    config = load_config(experiment.config, argv, program)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        data = experiment.load(config)
        run = Run.open(
            run_dir(config, data.variant), config, data.facts, writes=accelerator.is_main_process
        )
    if run.done:
        return accelerator.print(f"{run.dir}: already done")
    config = run.config
    torch.set_num_threads(config.threads)
    start_tracker(accelerator, run)
    seed_everything(config.seed)
    model = experiment.build_model(config)
    splits = {name: split.only(model.modalities) for name, split in data.splits.items()}
    if config.init == "warm" and not run.started:
        run.add_to_environment(warm_start=warm_start(model, run, training_command(program, argv)))
    loss, groups = experiment.loss(config, data, accelerator.device), None
    if experiment.parameters:
        groups = experiment.parameters(config, model)
    fit(
        model,
        splits["train"],
        splits["val"],
        run,
        accelerator,
        loss,
        groups,
        experiment.keep,
        experiment.validate,
    )
    predictions = {}
    for split in ("val", "test"):
        predictions[split] = predict(
            model, splits[split], accelerator, config.step_size, config.workers, experiment.keep
        )
        run.save_predictions(split, predictions[split])
    result = experiment.scores(predictions)
    run.finish(result)
    accelerator.end_training()
    main, value = config.optim.select, result["test"][config.optim.select]
    accelerator.print(f"{run.dir}: test {main} {value:.4f} (data: {data.facts['description']})")


def evaluate(
    experiment_of: Callable[[list[str]], Experiment],
    argv: list[str] | None,
    program: str,
    example: str,
    options: Callable[[CommandParser], object] = lambda parser: None,
) -> tuple[Run, Predictions, Namespace]:
    """Print the scores of a run from its saved predictions, or from its weights where there are
    none.

    -> run, predictions, arguments. `options` adds a data set's own to the command line.
    """
    description = "Score a run: the product and each of its experts."
    parser = CommandParser(prog=f"python -m {program}", description=description, allow_abbrev=False)
    parser.add_argument("run", type=Path, help=f"folder of the run, such as {example}")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument(
        "--combine",
        choices=("product", "mixture"),
        default="product",
        help="mixture: their mean probability",
    )
    parser.add_argument(
        "--data.dir",
        dest="data_dir",
        metavar="DIR",
        help="where the data lie, if not where the run found them",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument(
        "--again",
        action="store_true",
        help="predict again from the weights instead of scoring saved predictions",
    )
    options(parser)
    args = parser.parse_args(argv)
    stored = ["--config", str(args.run / "config.yaml")]
    if not (args.run / "config.yaml").exists():
        raise SettingsError(f"{args.run} has no config.yaml; give a run's folder such as {example}")
    here = [
        "--device",
        args.device,
        "--tracker",
        "null",
        *(["--data.dir", args.data_dir] if args.data_dir else []),
    ]
    experiment = experiment_of(stored)
    if experiment.report and args.combine != "product":
        raise SettingsError(
            f"--combine {args.combine} needs the log-probabilities of all answers; this data set keeps the best"
        )
    run = Run(args.run, load_config(experiment.config, [*stored, *here], program))
    predictions = (None if args.again else run.load_predictions(args.split)) or predict_again(
        experiment, run, args.split
    )
    print(
        f"{args.run}, {args.split} split, {len(predictions['id'])} examples, data: {run.facts['description']}"
    )
    own = experiment.report
    print(
        own(predictions)
        if own
        else table_of(scores_of(predictions, labels_of(predictions), combine=args.combine))
    )
    return run, predictions, args


def predict_again(experiment: Experiment, run: Run, split: str) -> Predictions:
    """Predictions from a run's weights. DataError if its data have changed."""
    data = experiment.load(run.config)
    run.refuse_other_data(data.facts)
    model = experiment.build_model(run.config)
    model.load_state_dict(run.load_best())
    accelerator = make_accelerator(run.config)
    dataset = data.splits[split].only(model.modalities)
    predictions = predict(
        model.to(accelerator.device),
        dataset,
        accelerator,
        run.config.step_size,
        keep=experiment.keep,
    )
    if run.done:  # of a run still in training they would soon be out of date
        run.save_predictions(split, predictions)
    return predictions
