"""Tests of two methods on the same examples, from arrays: McNemar, DeLong, and Holm's correction of
a family of p-values.

McNemar and DeLong take two trained models as given and each example as independent of the others.
Where examples come in groups (slices of a volume) both are too sure of themselves: believe the
bootstrap over groups (i2m2.stats.intervals) instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Examples that only the first, or the second, gets right; exact p, less conservative mid-p."""

    won: int
    lost: int
    p: float
    mid_p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Whether two models are right equally often: [n] bool each -> two-sided exact p of
    Binomial(won + lost, 1/2).

    The mid-p counts the observed outcome by half (Fagerland, Lydersen and Laake 2013 recommend it).
    """
    from scipy import stats  # here: it takes a second to import

    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    fewer = stats.binom(won + lost, 0.5)
    tail = 2 * fewer.cdf(min(won, lost))
    mid_p = float(min(1, tail - fewer.pmf(min(won, lost))))
    return McNemar(won=won, lost=lost, p=float(min(1, tail)), mid_p=mid_p)


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """Two areas under the ROC curve, the variance of their difference, and its two-sided p."""

    first: float
    second: float
    variance: float
    p: float

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return self.variance**0.5


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """Whether two scores rank alike (DeLong, DeLong and Clarke-Pearson 1988), through midranks (Sun
    and Xu 2014): [n] bool, [n] scores of the positive class each.

    NaN variance and p with fewer than two examples of a class.
    """
    from scipy import stats  # here: it takes a second to import

    scores, m, n = np.stack([first, second]), int(positive.sum()), int((~positive).sum())
    areas, variance, p = np.full(2, np.nan), np.nan, np.nan
    if min(m, n) > 0:
        ranks = stats.rankdata(scores, axis=1)
        # Shares of negatives below each positive, of positives above each negative; ties: half.
        above = (ranks[:, positive] - stats.rankdata(scores[:, positive], axis=1)) / n
        below = 1 - (ranks[:, ~positive] - stats.rankdata(scores[:, ~positive], axis=1)) / m
        areas = above.mean(axis=1)
    if min(m, n) > 1:
        covariance = np.cov(above) / m + np.cov(below) / n
        variance = np.maximum(0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        difference = abs(areas[0] - areas[1])
        # No variance: both rank every pair alike.
        p = 2 * stats.norm.sf(difference / np.sqrt(variance)) if variance else difference == 0
    areas = areas.tolist()
    return DeLong(first=areas[0], second=areas[1], variance=float(variance), p=float(p))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction: the chance of any false alarm in the family stays below the
    level at which the adjusted values are read. NaN (no test) is no member and stays NaN."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted
