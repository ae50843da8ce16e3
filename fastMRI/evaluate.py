"""python -m fastMRI.evaluate results/fastmri/i2m2/seed0 --split test"""

from __future__ import annotations

from fastMRI.experiment import FASTMRI
from fastMRI.scores import report
from i2m2.errors import run_command
from i2m2.training import experiment


def main(argv: list[str] | None = None) -> None:
    """Print the general scores, then those of fastMRI: by label, at the operating point, by volume,
    with intervals."""
    run, predictions, _ = experiment.evaluate(
        lambda _: FASTMRI, argv, "fastMRI.evaluate", "results/fastmri/i2m2/seed0"
    )
    val = run.load_predictions("val") or experiment.predict_again(FASTMRI, run, "val")
    print("\n" + report(val, predictions))


if __name__ == "__main__":
    run_command(main)
