"""The cluster bootstrap of saved predictions: groups of examples (volumes, patients, images) are
drawn with replacement.

A metric is turned once into a function of how often each group was drawn (its bootstrap statistic;
for counts of `1, 1, ..., 1` the metric itself), so that a resample costs a product of matrices or a
pass over sorted scores. Shapes: n examples, G groups, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 2000
BLOCK = 1 << 17  # counts held at a time: 1 MB, which stays in the cache

# How often each group was drawn [R, G] -> the metric in each resample [R]
BootstrapStatistic = Callable[[np.ndarray], np.ndarray]


def group_index(group: np.ndarray) -> tuple[np.ndarray, int]:
    """`group` of predictions [n] -> each example's place 0..G-1 among the groups [n], and G."""
    groups, index = np.unique(group, return_inverse=True)
    return index.reshape(-1), len(groups)


def draw_counts(
    groups: int, resamples: int = RESAMPLES, seed: int = 0, width: int = 0
) -> Iterator[np.ndarray]:
    """How often each group was drawn, [R, G] float64 in blocks, the same numbers whatever these.

    `width`: columns of the widest array that is made of a row later, where they are more than G.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // max(groups, width))
    for begin in range(0, resamples, rows):
        size = min(rows, resamples - begin)
        drawn = rng.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * groups)
        yield counts.reshape(size, groups).astype(np.float64)


def bootstrap(
    statistics: Sequence[BootstrapStatistic],
    groups: int,
    examples: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """-> (the metrics [K], what they are in each resample [R, K]); all see the same draws."""
    whole = np.array([statistic(np.ones((1, groups)))[0] for statistic in statistics])
    blocks = [
        np.stack([statistic(counts) for statistic in statistics], axis=1)
        for counts in draw_counts(groups, resamples, seed, examples)
    ]
    return whole, np.concatenate(blocks)


def mean_of(values: np.ndarray, index: np.ndarray, groups: int) -> BootstrapStatistic:
    """The mean of a score that each example has by itself, [n]; NaN if any is not finite."""
    if not np.isfinite(values).all():
        return lambda counts: np.full(len(counts), np.nan)
    sums = np.bincount(index, values, minlength=groups)
    sizes = np.bincount(index, minlength=groups).astype(np.float64)
    return lambda counts: counts @ sums / (counts @ sizes)


def auroc_statistic(
    positive: np.ndarray, scores: np.ndarray, index: np.ndarray
) -> BootstrapStatistic:
    """Area under the ROC curve, of [n] bool and [n] scores. NaN where a class is not drawn."""
    order = np.argsort(scores[~positive], kind="stable")
    negatives = scores[~positive][order]
    group_of_negative = index[~positive][order]
    group_of_positive = index[positive]
    # A positive counts the negatives below it, and half of those at its own score.
    first = np.searchsorted(negatives, scores[positive], side="left")
    last = np.searchsorted(negatives, scores[positive], side="right")

    def statistic(counts: np.ndarray) -> np.ndarray:
        below = np.zeros((len(counts), len(negatives) + 1))
        np.cumsum(counts[:, group_of_negative], axis=1, out=below[:, 1:])
        weights = counts[:, group_of_positive]
        won = np.einsum("rp,rp->r", weights, below[:, first])
        won = won + np.einsum("rp,rp->r", weights, below[:, last])
        return ratio(won / 2, weights.sum(1) * below[:, -1])

    return statistic


def auprc_statistic(
    positive: np.ndarray, scores: np.ndarray, index: np.ndarray
) -> BootstrapStatistic:
    """Mean over the positives of the precision at their score. NaN where a class is not drawn."""
    order = np.argsort(-scores, kind="stable")
    group = index[order]
    group_of_positive = group[positive[order]]
    ranked, ranked_positives = -scores[order], -scores[order][positive[order]]
    # What lies at a positive's own score belongs to the answers given at that threshold.
    ends = np.searchsorted(ranked, ranked_positives, side="right") - 1
    ends_positive = np.searchsorted(ranked_positives, ranked_positives, side="right") - 1

    def statistic(counts: np.ndarray) -> np.ndarray:
        weights, answers = counts[:, group_of_positive], np.cumsum(counts[:, group], axis=1)
        hits = np.cumsum(weights, axis=1)[:, ends_positive]
        area = np.einsum("rp,rp->r", weights, hits / np.maximum(answers[:, ends], 1))
        positives = weights.sum(1)
        return np.where(positives < answers[:, -1], ratio(area, positives), np.nan)

    return statistic


def nanmean_of(statistics: Sequence[BootstrapStatistic]) -> BootstrapStatistic:
    """The mean of several in each resample, over those that are defined there."""

    def statistic(counts: np.ndarray) -> np.ndarray:
        values = np.array([each(counts) for each in statistics]).reshape(-1, len(counts))
        return ratio(np.nan_to_num(values).sum(axis=0), np.isfinite(values).sum(axis=0))

    return statistic


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where that is 0 / 0."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
