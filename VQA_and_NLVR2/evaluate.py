"""python -m VQA_and_NLVR2.evaluate results/vqa_vs/i2m2/seed0 --split test --predictions-json predictions.json"""

from __future__ import annotations

import sys
from pathlib import Path

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.training import experiment
from i2m2.training.experiment import Experiment
from VQA_and_NLVR2.datasets import dataset_of
from VQA_and_NLVR2.vqa_vs.answers import Vocabulary
from VQA_and_NLVR2.vqa_vs.experiment import VQAConfig
from VQA_and_NLVR2.vqa_vs.scores import write_predictions

SAVE_ALL = "--save-all"


def main(argv: list[str] | None = None) -> None:
    """Print the scores of a run; of VQA-VS, also write its answers."""
    argv = sys.argv[1:] if argv is None else list(argv)
    more = ["--save_all", "true"] if SAVE_ALL in argv else []
    run, predictions, args = experiment.evaluate(
        lambda stored: (
            _refuse_save_all(dataset_of([*stored, *more])) if more else dataset_of(stored)
        ),
        [*argv, *(["--again"] if more else [])],
        "VQA_and_NLVR2.evaluate",
        "results/vqa_vs/i2m2/seed0",
        _options,
    )
    if args.predictions_json is None:
        return
    if run.config.dataset != "vqa_vs":
        raise SettingsError(
            f"--predictions-json is for VQA-VS, and {args.run} is a run of {run.config.dataset}"
        )
    left_out = run.facts["sizes"][args.split]["without_image"]
    if left_out:
        raise DataError(
            f"{args.run}: {left_out:,} questions of the {args.split} split have no answer, since their images were left out, and "
            "the benchmark's scorer pairs answers and questions by position; extract the features of these images and train again"
        )
    vocabulary = Vocabulary(tuple(predictions["vocabulary"].tolist()))
    write_predictions(
        args.predictions_json, predictions["id"], predictions["product_top"][:, 0], vocabulary
    )
    print(f"written: {args.predictions_json}")


def _refuse_save_all(experiment: Experiment) -> Experiment:
    """SettingsError for another data set than VQA-VS, before anything is predicted."""
    if experiment.config is not VQAConfig:
        raise SettingsError(
            f"{SAVE_ALL} is for VQA-VS; the predictions of another data set are whole as they are"
        )
    return experiment


def _options(parser: CommandParser) -> None:
    help_ = "of VQA-VS: write the answers there as the benchmark's scorer reads them"
    parser.add_argument("--predictions-json", type=Path, metavar="FILE", help=help_)
    help_ = "of VQA-VS: predict again, keeping the log-probabilities of all answers (3,129: 2 GB for the test)"
    parser.add_argument(SAVE_ALL, action="store_true", help=help_)


if __name__ == "__main__":
    run_command(main)
