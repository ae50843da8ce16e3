"""The bootstrap of saved predictions: groups of examples (volumes, patients, images) are drawn with
replacement.

A metric is turned once into a function of how often each group was drawn, so that a resample costs
a product of matrices or a pass over sorted scores, and never a loop over examples. Its value for
`1, 1, ..., 1` is that of `i2m2.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from i2m2.metrics import ECE_BINS

RESAMPLES = 2000
BLOCK = 1 << 17  # draws held at a time: 1 MB, which stays in the cache

Resampled = Callable[
    [np.ndarray], np.ndarray
]  # how often each group was drawn [R, G] -> the metric in each resample [R]


def group_index(group: np.ndarray) -> tuple[np.ndarray, int]:
    """`group` of predictions [n] -> each example's place 0..G-1 among the groups [n], and G."""
    groups, index = np.unique(group, return_inverse=True)
    return index.reshape(-1), len(groups)


def draws(
    groups: int, resamples: int = RESAMPLES, seed: int = 0, width: int = 0
) -> Iterator[np.ndarray]:
    """How often each group was drawn, [R, G] float64 in blocks of rows whose draws, whatever the
    blocks, depend on `seed` alone.

    `width`: of the widest array that a row becomes later, where it is more than G.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // max(groups, width))
    for begin in range(0, resamples, rows):
        count = min(rows, resamples - begin)
        drawn = rng.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        yield (
            np.bincount(drawn.ravel(), minlength=count * groups)
            .reshape(count, groups)
            .astype(np.float64)
        )


def bootstrap(
    metrics: Sequence[Resampled],
    groups: int,
    examples: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """-> (the metrics [K], what they are in each resample [R, K]); all see the same draws. NaN
    where a metric is not defined."""
    whole = np.array([metric(np.ones((1, groups)))[0] for metric in metrics])
    blocks = [
        np.stack([metric(drawn) for metric in metrics], axis=1)
        for drawn in draws(groups, resamples, seed, examples)
    ]
    return whole, np.concatenate(blocks)


def resampled(
    name: str, y: np.ndarray, log_prob: np.ndarray, index: np.ndarray, groups: int
) -> Resampled:
    """The metric `name` of i2m2.metrics for [n] classes and [n, C] log-probabilities, `index` [n]
    being each example's group."""
    if name in VALUES:
        return mean_of(VALUES[name](y, log_prob.astype(np.float64)), index, groups)
    if name in OVER_THE_REST:
        return _mean_over_classes(OVER_THE_REST[name], y, log_prob.astype(np.float64), index)
    return {"ece": _ece, "balanced_accuracy": _balanced_accuracy}[name](y, log_prob, index, groups)


def mean_of(values: np.ndarray, index: np.ndarray, groups: int) -> Resampled:
    """The mean of a score that each example has by itself, [n]. NaN throughout if any is not
    finite."""
    sums, sizes = (np.bincount(index, weights, minlength=groups) for weights in (values, None))
    if not np.isfinite(values).all():
        return lambda drawn: np.full(len(drawn), np.nan)
    return lambda drawn: drawn @ sums / (drawn @ sizes.astype(np.float64))


def _accuracy(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    return (log_prob.argmax(-1) == y).astype(np.float64)


def _nll(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_prob, y[:, None], axis=1)[:, 0]


def _brier(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    p = np.exp(log_prob)
    p /= p.sum(-1, keepdims=True)
    return (p**2).sum(-1) - 2 * np.take_along_axis(p, y[:, None], axis=1)[:, 0] + 1


def _entropy(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    return -(np.exp(log_prob) * np.maximum(log_prob, -1e3)).sum(-1)


VALUES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "nll": _nll,
    "brier": _brier,
    "entropy": _entropy,
}  # [n] classes, [n, C] log-probabilities -> the score of each example [n], whose mean is the metric


def _ece(y: np.ndarray, log_prob: np.ndarray, index: np.ndarray, groups: int) -> Resampled:
    confidence = np.exp(log_prob.max(-1).astype(np.float64))
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    cells = np.bincount(
        index * ECE_BINS + bins,
        (log_prob.argmax(-1) == y) - confidence,
        minlength=groups * ECE_BINS,
    )
    gaps, sizes = (
        cells.reshape(groups, ECE_BINS),
        np.bincount(index, minlength=groups).astype(np.float64),
    )
    return lambda drawn: np.abs(drawn @ gaps).sum(1) / (drawn @ sizes)


def _balanced_accuracy(
    y: np.ndarray, log_prob: np.ndarray, index: np.ndarray, groups: int
) -> Resampled:
    classes, place = np.unique(y, return_inverse=True)
    cells = index * len(classes) + place
    shape = (groups, len(classes))
    hits, sizes = (
        np.bincount(cells, weights, minlength=groups * len(classes))
        .reshape(shape)
        .astype(np.float64)
        for weights in (_accuracy(y, log_prob), None)
    )

    def metric(drawn: np.ndarray) -> np.ndarray:
        there = drawn @ sizes
        recall = drawn @ hits / np.maximum(there, 1)
        return recall.sum(1) / (there > 0).sum(1)  # a class that was not drawn has no hits either

    return metric


def resampled_auroc(positive: np.ndarray, scores: np.ndarray, index: np.ndarray) -> Resampled:
    """Area under the ROC curve: [n] bool, [n] scores of which the positives' should be higher. NaN
    where a class is not drawn."""
    order = np.argsort(scores[~positive], kind="stable")
    ranked, below_of = scores[~positive][order], index[~positive][order]
    above_of = index[positive]
    # A positive counts the negatives below it, and half of those at its own score.
    first, last = (
        np.searchsorted(ranked, scores[positive], side=side) for side in ("left", "right")
    )

    def metric(drawn: np.ndarray) -> np.ndarray:
        below = np.zeros((len(drawn), len(ranked) + 1))
        np.cumsum(drawn[:, below_of], axis=1, out=below[:, 1:])
        weights = drawn[:, above_of]
        won = np.einsum("rp,rp->r", weights, below[:, first]) + np.einsum(
            "rp,rp->r", weights, below[:, last]
        )
        return _ratio(won / 2, weights.sum(1) * below[:, -1])

    return metric


def resampled_auprc(positive: np.ndarray, scores: np.ndarray, index: np.ndarray) -> Resampled:
    """Average precision: precision at the score of each positive, averaged over the positives. NaN
    where a class is not drawn."""
    order = np.argsort(-scores, kind="stable")
    all_of, above_of = index[order], index[order][positive[order]]
    found = -scores[order][positive[order]]
    # What lies at a positive's own score belongs to the answers given at that threshold.
    ends, ends_above = (
        np.searchsorted(ranked, found, side="right") - 1 for ranked in (-scores[order], found)
    )

    def metric(drawn: np.ndarray) -> np.ndarray:
        weights, given = drawn[:, above_of], np.cumsum(drawn[:, all_of], axis=1)
        hits = np.cumsum(weights, axis=1)[:, ends_above]
        area = np.einsum("rp,rp->r", weights, hits / np.maximum(given[:, ends], 1))
        positives = weights.sum(1)
        return np.where(positives < given[:, -1], _ratio(area, positives), np.nan)

    return metric


OVER_THE_REST = {"auroc": resampled_auroc, "auprc": resampled_auprc}


def _mean_over_classes(
    one: Callable, y: np.ndarray, log_prob: np.ndarray, index: np.ndarray
) -> Resampled:
    """As i2m2.metrics does: by the log-odds of two classes, else the mean over the classes that
    occur, in each resample."""
    log_odds = {1: log_prob[:, 1] - log_prob[:, 0]}
    scores = log_odds if log_prob.shape[1] == 2 else {c: log_prob[:, c] for c in np.unique(y)}
    metrics = [
        one(y == c, np.nan_to_num(s), index)
        for c, s in scores.items()
        if 0 < (y == c).sum() < len(y)
    ]

    def metric(drawn: np.ndarray) -> np.ndarray:
        total, defined = np.zeros(len(drawn)), np.zeros(len(drawn))
        for each in metrics:
            values = each(drawn)
            total, defined = total + np.nan_to_num(values), defined + np.isfinite(values)
        return _ratio(total, defined)

    return metric


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where that is 0 / 0."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
