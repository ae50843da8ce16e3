"""python -m VQA_and_NLVR2.evaluate results/vqa_vs/i2m2/seed0 --predictions-json predictions.json"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.settings import RunConfig
from i2m2.training import commands
from VQA_and_NLVR2.datasets import DATASETS
from VQA_and_NLVR2.vqa_vs.answers import Vocabulary
from VQA_and_NLVR2.vqa_vs.scores import write_predictions

SAVE_ALL = "--save-all"


def main(argv: list[str] | None = None) -> None:
    """Print the scores of a run; of VQA-VS, also write its answers."""
    program, example = "VQA_and_NLVR2.evaluate", "results/vqa_vs/i2m2/seed0"
    run, predictions, args = commands.evaluate(
        DATASETS, argv, program, example, _options, _overrides
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
            f"{args.run}: {left_out:,} questions of the {args.split} split have no answer, since "
            "their images were left out, and the benchmark's scorer pairs answers and questions "
            "by position; extract the features of these images and train again"
        )
    vocabulary = Vocabulary(tuple(predictions["vocabulary"].tolist()))
    best = predictions["product_top"][:, 0]
    write_predictions(args.predictions_json, predictions["id"], best, vocabulary)
    print(f"written: {args.predictions_json}")


def _options(parser: CommandParser) -> None:
    about = "VQA-VS only: file to write the answers to, as the benchmark's scorer reads them"
    parser.add_argument("--predictions-json", type=Path, metavar="FILE", help=about)
    about = (
        "VQA-VS only: predict again, keeping the log-probabilities of all answers "
        "(3,129: 2 GB for the test)"
    )
    parser.add_argument(SAVE_ALL, action="store_true", help=about)


def _overrides(args: Namespace, config: RunConfig) -> list[str]:
    """The settings that the options stand for. SettingsError for another data set than VQA-VS,
    before anything is predicted."""
    if not args.save_all:
        return []
    if config.dataset != "vqa_vs":
        raise SettingsError(
            f"{SAVE_ALL} is for VQA-VS; the predictions of another data set are whole as they are"
        )
    return ["--save_all", "true"]


if __name__ == "__main__":
    run_command(main)
