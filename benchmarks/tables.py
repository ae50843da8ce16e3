"""`python -m benchmarks.tables`: I2M2 with its defaults beside linear models and boosted trees, on
tables that many know.

Real data that come with scikit-learn, blocks made of their columns, and three GENERATED tables.
Every row is out of fold on the same folds (`i2m2.diagnose`). Printed are the accuracies (R2 of a
regression) of I2M2 and of the best reference, the paired difference in standard errors, and the
same for NLL in nats.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
from sklearn import datasets

from i2m2 import diagnose
from i2m2.diagnose.answer import nll_of
from i2m2.diagnose.predicted import is_reference

Table = tuple[dict[str, np.ndarray], np.ndarray]


def split(x: np.ndarray, *ends: int) -> dict[str, np.ndarray]:
    """Blocks of neighbouring columns."""
    return {f"part{k}": one for k, one in enumerate(np.split(x, ends, axis=1), start=1)}


def digits() -> Table:
    """Rows 0-2, 3-4 and 5-7 of the 8 x 8 pictures."""
    x, y = datasets.load_digits(return_X_y=True)
    return split(x, 24, 40), y


def cancer() -> Table:
    """Mean, error and worst value of ten measurements."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return split(x, 10, 20), y


def wine() -> Table:
    x, y = datasets.load_wine(return_X_y=True)
    return split(x, 5, 9), y


def iris() -> Table:
    x, y = datasets.load_iris(return_X_y=True)
    return split(x, 2), y


def diabetes() -> Table:
    """Age, sex, mass, pressure; six serum values."""
    x, y = datasets.load_diabetes(return_X_y=True)
    return split(x, 4), y


def friedman() -> Table:
    x, y = datasets.make_friedman1(1_000, n_features=10, random_state=0)
    return split(x, 1), y


def moons() -> Table:
    x, y = datasets.make_moons(1_000, noise=0.3, random_state=0)
    return split(x, 1), y


def seven() -> Table:
    x, y = datasets.make_classification(
        1_500, 20, n_informative=8, n_classes=7, n_clusters_per_class=1, random_state=0
    )
    return split(x, 10), y


REAL: dict[str, Callable[[], Table]] = {
    one.__name__: one for one in (digits, cancer, wine, iris, diabetes)
}
GENERATED = {one.__name__: one for one in (friedman, moons, seven)}


def compare(table: Table, seeds: int) -> str:
    """A line of the table: ours, the best reference, the differences in standard errors."""
    blocks, y = table
    found = diagnose(blocks, y, metric="nll", seeds=seeds)
    ours = next(row for row in ("best-i2m2", "i2m2-separate") if row in found.predictions)
    target = y[:, None] if found.classes is None else _places(y, found.classes[0])
    of_row = {
        row: _scores(outputs, target, found.classes is not None)
        for row, outputs in found.predictions.items()
        if row == ours or is_reference(row)
    }
    parts = []
    for metric in (0, 1):
        own = of_row[ours][metric]
        others = {row: one[metric] for row, one in of_row.items() if row != ours}
        best = max(others, key=lambda row: others[row].mean())
        away = own - others[best]
        error = away.std(ddof=1) / np.sqrt(len(away))
        in_errors = away.mean() / error if error > 0 else 0.0
        sign = -1 if metric else 1
        parts.append(f"{sign * own.mean():8.4f} {sign * others[best].mean():8.4f} ({best})")
        parts.append(f"{in_errors:+6.2f}")
    return "  ".join(parts)


def _places(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.searchsorted(classes, y)[:, None]


def _scores(outputs: np.ndarray, y: np.ndarray, classify: bool) -> tuple[np.ndarray, np.ndarray]:
    """What each example adds to accuracy or R2, and to -NLL, mean over the seeds, [n] each."""
    nll = nll_of(outputs, y, classify).mean(axis=0)
    if classify:
        return (outputs.argmax(axis=-1) == y).mean(axis=(0, 2)), -nll
    error = (y - outputs[..., 0]) ** 2
    return (1 - error / y.var(axis=0)).mean(axis=(0, 2)), -nll


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[*REAL, *GENERATED])
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; accuracy or R2: I2M2, best reference, difference in")
    print("standard errors (above 0: I2M2 is better); then the same for NLL")
    for name, make in (REAL | GENERATED).items():
        if args.only is None or name in args.only:
            kind = "GENERATED" if name in GENERATED else "real"
            print(f"{name:9} {kind:9} {compare(make(), args.seeds)}", flush=True)


if __name__ == "__main__":
    main()
