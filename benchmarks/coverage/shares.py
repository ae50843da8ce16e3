"""Shares of simulations whose interval holds the truth, or which find a difference where there is
none."""

from __future__ import annotations

import numpy as np

from benchmarks.coverage.simulated import SIZES
from i2m2.stats.intervals import interval, usual_spread
from i2m2.stats.paired_tests import holm


def coverage(
    values: np.ndarray, drawn: np.ndarray, groups: int, truth: float
) -> tuple[float, float]:
    """-> (share of simulations whose interval holds the truth, mean width)."""
    intervals = [interval(values[k], drawn[:, k], groups) for k in range(len(values))]
    share = np.mean([one.low <= truth <= one.high for one in intervals])
    width = np.mean([one.high - one.low for one in intervals])
    return float(share), float(width)


def percentile_coverage(drawn: np.ndarray, truth: float) -> float:
    """The same of plain percentiles of the mean over seeds; of several, drawn with replacement in
    each resample (two levels)."""
    chosen = np.random.default_rng(0).integers(0, drawn.shape[2], drawn.shape)
    means = np.take_along_axis(drawn, chosen, axis=2).mean(axis=2)
    low, high = np.nanpercentile(means, [2.5, 97.5], axis=0)
    return float(np.mean((low <= truth) & (truth <= high)))


def false_alarms(values: np.ndarray, drawn: np.ndarray, seeds: int) -> float:
    """Share of p < 0.05 between the first `seeds` runs and the next ones, which are as good."""
    first, second = values[:, :seeds], values[:, seeds : 2 * seeds]
    apart = drawn[:, :, :seeds] - drawn[:, :, seeds : 2 * seeds]
    groups, _ = SIZES["150 groups of 10"]
    p = [interval(first[k] - second[k], apart[:, k], groups).p for k in range(len(values))]
    return float(np.mean(np.array(p) < 0.05))


def any_differs(values: np.ndarray, drawn: np.ndarray, groups: int) -> bool:
    """Whether any row of [rows, S] values differs from the first, from their [R, rows, S]
    resamples."""
    usual, (first, *others) = usual_spread(values), range(len(values))
    p = [
        interval(values[first] - values[k], drawn[:, first] - drawn[:, k], groups, usual=usual).p
        for k in others
    ]
    return bool((holm(p) < 0.05).any())
