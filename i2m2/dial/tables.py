"""Tables of probabilities: entropy, information, accuracy, and the best sum of tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from i2m2.stats.calibration import log_softmax

MOST_SWEEPS = 20_000
MOMENT_TOLERANCE = 1e-10  # of probabilities; it leaves information an error of about 1e-12 nats
TIE = 1e-6  # of log-probabilities
TINY = np.finfo(np.float64).tiny


def all_cells(classes: int, modalities: int) -> list[np.ndarray]:
    """Index arrays of all combinations of c_1..c_M, which broadcast to [K, .., K]."""
    return list(np.ogrid[(slice(classes),) * modalities])


def sum_of_tables(tables: Sequence[np.ndarray], index: Sequence[np.ndarray]) -> np.ndarray:
    """sum_m table_m[index_m]: tables [K, K], indices that broadcast to a shape -> [*shape, K]."""
    return sum(table[at] for table, at in zip(tables, index, strict=True))


def finite_log(p: np.ndarray) -> np.ndarray:
    """log p, finite for p = 0 too, so that 0 log 0 = 0."""
    return np.log(np.maximum(p, TINY))


def entropy_of(p: np.ndarray) -> float:
    """Entropy of a table of probabilities, in nats."""
    return -float((p * finite_log(p)).sum())


def mutual_information(joint: np.ndarray) -> float:
    """Mutual information of the two axes of a table of probabilities."""
    independent = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True)
    return max(0.0, float((joint * (finite_log(joint) - finite_log(independent))).sum()))


def accuracy_of(joint: np.ndarray, log_prob: np.ndarray) -> float:
    """How often the class of the largest `log_prob` [.., K] is right under `joint` [.., K]; classes
    that tie are chosen with equal probability."""
    best = log_prob > log_prob.max(axis=-1, keepdims=True) - TIE
    return float((joint * best / best.sum(axis=-1, keepdims=True)).sum())


def fit_additive(joint: np.ndarray) -> list[np.ndarray]:
    """p(c_1..c_M, y) -> tables [K, K] by c_m and y whose sum has the largest expected likelihood.

    Iterative scaling (Darroch and Ratcliff, 1972): the maximum is where the model's p(c_m, y) are
    the given ones for every m, and scaling a table to its own never lowers the likelihood.
    FloatingPointError after MOST_SWEEPS, which labels that are nearly certain can need.
    """
    modalities = joint.ndim - 1
    grid = all_cells(joint.shape[-1], modalities)
    others = [tuple(a for a in range(modalities) if a != m) for m in range(modalities)]
    given = [joint.sum(axis=axes) for axes in others]
    weight = joint.sum(axis=-1, keepdims=True)
    tables = [finite_log(moment) for moment in given]
    for _ in range(MOST_SWEEPS):
        gap = 0.0
        for m, axes in enumerate(others):
            model = (weight * np.exp(log_softmax(sum_of_tables(tables, grid)))).sum(axis=axes)
            gap = max(gap, float(np.abs(model - given[m]).max()))
            tables[m] = tables[m] + finite_log(given[m]) - finite_log(model)
        if gap < MOMENT_TOLERANCE:
            return tables
    what = f"the best product of experts is not found within {MOST_SWEEPS:,} sweeps"
    raise FloatingPointError(f"{what}; with copies alpha can be up to about 9")
