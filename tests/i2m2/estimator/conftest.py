"""What the estimators' tests share: settings that train in a moment, and a small data set of two
modalities."""

import numpy as np

QUICK = {"folds": 2, "network": {"epochs": 3, "width": 4, "hidden": 4}}
ROWS = 60


def two_blocks(rows: int = ROWS, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A table [n, 3] and series [n, 6, 2] that both know something of the labels [n], 0 or 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    table = rng.normal(size=(rows, 3)) + y[:, None]
    series = rng.normal(size=(rows, 6, 2)) + 0.5 * y[:, None, None]
    return {"static": table, "series": series}, y


def without(block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The block with NaN in these rows."""
    found = np.array(block, dtype=float)
    found[rows] = np.nan
    return found
