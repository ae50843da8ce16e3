"""python -m fastMRI.evaluate results/fastmri/i2m2/seed0 --split test"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastMRI.settings import DATASETS
from i2m2.errors import run_command
from i2m2.runs import read_predictions
from i2m2.training import commands

if TYPE_CHECKING:
    from i2m2.stats.predictions import Predictions
    from i2m2.stats.summary import Summary


def main(argv: list[str] | None = None) -> None:
    """Print the general scores, then those of fastMRI: by label, at the operating point, by volume,
    with intervals."""
    run, predictions, _ = commands.evaluate(
        DATASETS, argv, "fastMRI.evaluate", "results/fastmri/i2m2/seed0"
    )
    val = read_predictions(run.dir, "val")
    if val is None:
        from i2m2.training.experiment import predict_again  # needs torch

        val = predict_again(DATASETS["fastmri"].experiment(), run, "val")
    print("\n" + report(val, predictions))


def report(val: Predictions, predictions: Predictions) -> str:
    """A line per label: AUROC of the product with its interval, AUROC by volume, and the scores at
    the operating point of `val`."""
    # Here, since they need torch or scipy, and --help does not.
    from fastMRI.scores import OPERATING, SENSITIVITY, auroc_intervals, scores
    from i2m2.stats.resampling import RESAMPLES, group_index
    from i2m2.training.evaluate import aligned

    result = scores({"val": val, "scored": predictions})["scored"]
    intervals = auroc_intervals(predictions)
    columns = ("auroc_volume", *OPERATING)
    rows = [["", "auroc", "95 % interval", "left out", *columns]]
    for label in ("mean", *predictions["labels"].tolist()):
        end = "" if label == "mean" else f"_{label}"
        summary = intervals[f"auroc{end}"]
        values = [f"{result[column + end]:.4f}" for column in columns]
        left_out = str(summary.resamples_left_out)
        rows.append([label, f"{result['auroc' + end]:.4f}", shown(summary), left_out, *values])
    rules = "; ".join(dict.fromkeys(summary.rule for summary in intervals.values()))
    _, volumes = group_index(predictions["group"])
    return (
        f"{aligned(rows, first='right')}\n"
        f"intervals: {rules}; {RESAMPLES:,} resamples of the {volumes} volumes; left out: those "
        f"without both classes; operating point: sensitivity above {SENSITIVITY} on validation"
    )


def shown(summary: Summary) -> str:
    """'0.7512 .. 0.8034', '-' where there is no interval."""
    if summary.low is None:
        return "-"
    return f"{summary.low:.4f} .. {summary.high:.4f}"


if __name__ == "__main__":
    run_command(main)
