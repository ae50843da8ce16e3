"""Metrics: what each is, how it is resampled, and how it is shown. Pure functions of arrays.

Each takes `y` [n] integer classes and `log_prob` [n, C] and gives a fraction, not percent; `score`
also takes L labels per example, [n, L] and [n, L, C].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps

import numpy as np

from i2m2.stats import resampling
from i2m2.stats.resampling import BootstrapStatistic

ECE_BINS = 15

Value = Callable[[np.ndarray, np.ndarray], float]
# (y, log_prob, each example's group [n], number of groups) -> the metric of resampled groups
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray, int], BootstrapStatistic]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Its value, its bootstrap statistic, and how it is read and shown."""

    value: Value | None = None
    statistic: Statistic | None = None
    lower_is_better: bool = False
    ranks: bool = True  # whether more or less of it is better at all
    bounds: tuple[float, float] = (0.0, 1.0)
    percent: bool = True  # shown in percent; else nats, or its own unit
    biased: bool = False  # noise enlarges it, see i2m2.stats.intervals

    @property
    def scale(self) -> int:
        """What its value is multiplied by to be shown."""
        return 100 if self.percent else 1

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """Least and greatest difference of two values."""
        low, high = self.bounds
        return low - high, high - low

    @property
    def averages(self) -> bool:
        """Whether it is the mean of a score that each example has by itself."""
        return hasattr(self.value, "__wrapped__")

    @property
    def decimals(self) -> int:
        return 1 if self.percent else 3


def mean_over_examples(each: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Value:
    """A metric that is the mean of a score that each example has by itself."""

    @wraps(each)
    def value(y: np.ndarray, log_prob: np.ndarray) -> float:
        return float(each(y, log_prob).mean())

    return value


@mean_over_examples
def accuracy(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """Share of examples whose most probable class is theirs."""
    return (log_prob.argmax(-1) == y).astype(np.float64)


@mean_over_examples
def nll(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """Mean negative log-likelihood, in nats; not clipped: infinite by one certain, wrong answer."""
    return -np.take_along_axis(log_prob.astype(np.float64), y[:, None], axis=1)[:, 0]


@mean_over_examples
def brier(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """Mean squared distance of the probabilities from the one-hot class: 0..2."""
    p = np.exp(log_prob.astype(np.float64))
    one_hot = np.arange(p.shape[1]) == y[:, None]
    return ((one_hot - p / p.sum(-1, keepdims=True)) ** 2).sum(-1)


@mean_over_examples
def entropy(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """Mean entropy of the predicted distributions, in nats (Table C.7); `y` plays no part."""
    log_prob = log_prob.astype(np.float64)
    return -(np.exp(log_prob) * np.maximum(log_prob, -1e3)).sum(-1)


def label_entropy(y: np.ndarray) -> float:
    """Entropy of the class frequencies, in nats: what a prediction has that knows nothing else."""
    share = np.bincount(y) / len(y)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def confidence_of(log_prob: np.ndarray) -> np.ndarray:
    """Probability of the most probable class: [n, C] -> [n]."""
    return np.exp(log_prob.max(-1).astype(np.float64))


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """[n] -> [n], the bin of each: bin k holds (k/15, (k+1)/15]; certainty belongs to the last."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)


def ece(y: np.ndarray, log_prob: np.ndarray) -> float:
    """|accuracy - confidence| of the predicted class in 15 equal bins of confidence, by size."""
    return _of_one_group(_ece_statistic, y, log_prob)


def balanced_accuracy(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their examples found."""
    return _of_one_group(_balanced_accuracy_statistic, y, log_prob)


def auroc(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Area under the ROC curve: of class 1 for two classes (by the log-odds), else the mean over
    the classes that occur, each against the rest. NaN where there is nothing to rank."""
    return _of_one_group(_auroc, y, log_prob)


def auprc(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Average precision (area under the precision-recall curve), of the classes as in `auroc`."""
    return _of_one_group(_auprc, y, log_prob)


def _of_one_group(statistic: Statistic, y: np.ndarray, log_prob: np.ndarray) -> float:
    return float(statistic(y, log_prob, np.zeros(len(y), int), 1)(np.ones((1, 1)))[0])


def _mean_statistic(metric: Value) -> Statistic:
    each = metric.__wrapped__  # the score of each example
    return lambda y, log_prob, index, groups: resampling.mean_of(each(y, log_prob), index, groups)


def _ece_statistic(
    y: np.ndarray, log_prob: np.ndarray, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    confidence = confidence_of(log_prob)
    gap = (log_prob.argmax(-1) == y) - confidence
    cell = index * ECE_BINS + confidence_bin(confidence)
    gaps = np.bincount(cell, gap, minlength=groups * ECE_BINS).reshape(groups, ECE_BINS)
    sizes = np.bincount(index, minlength=groups).astype(np.float64)
    return lambda counts: np.abs(counts @ gaps).sum(1) / (counts @ sizes)


def _balanced_accuracy_statistic(
    y: np.ndarray, log_prob: np.ndarray, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    classes, place = np.unique(y, return_inverse=True)
    cell, shape = index * len(classes) + place, (groups, len(classes))
    right = log_prob.argmax(-1) == y
    hits = np.bincount(cell, right, minlength=groups * len(classes)).reshape(shape)
    sizes = np.bincount(cell, minlength=groups * len(classes)).reshape(shape).astype(np.float64)

    def statistic(counts: np.ndarray) -> np.ndarray:
        drawn = counts @ sizes
        recall = counts @ hits / np.maximum(drawn, 1)
        return recall.sum(1) / (drawn > 0).sum(1)  # a class that was not drawn has no hits either

    return statistic


def _one_against_rest(y: np.ndarray, log_prob: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(whether it is the class, score) [n] of class 1 of two, else of every class that occurs."""
    log_prob = log_prob.astype(np.float64)
    if log_prob.shape[1] == 2:
        scores = {1: log_prob[:, 1] - log_prob[:, 0]}
    else:
        scores = {c: log_prob[:, c] for c in np.unique(y)}
    both = {c: score for c, score in scores.items() if 0 < (y == c).sum() < len(y)}
    return [(y == c, np.nan_to_num(score)) for c, score in both.items()]


def _ranking_statistic(one: Callable[..., BootstrapStatistic]) -> Statistic:
    return lambda y, log_prob, index, groups: resampling.nanmean_of(
        [one(positive, scores, index) for positive, scores in _one_against_rest(y, log_prob)]
    )


_nats = {"lower_is_better": True, "bounds": (0, np.inf), "percent": False}
_auroc, _auprc = map(_ranking_statistic, (resampling.auroc_statistic, resampling.auprc_statistic))
METRICS = {
    "accuracy": Metric(value=accuracy, statistic=_mean_statistic(accuracy)),
    "balanced_accuracy": Metric(value=balanced_accuracy, statistic=_balanced_accuracy_statistic),
    "auroc": Metric(value=auroc, statistic=_auroc),
    "auprc": Metric(value=auprc, statistic=_auprc),
    "nll": Metric(value=nll, statistic=_mean_statistic(nll), **_nats),
    "brier": Metric(value=brier, statistic=_mean_statistic(brier), **_nats | {"bounds": (0, 2)}),
    "ece": Metric(value=ece, statistic=_ece_statistic, lower_is_better=True, biased=True),
    "entropy": Metric(value=entropy, statistic=_mean_statistic(entropy), ranks=False, **_nats),
}
SHARE = Metric()  # a custom metric: more is better


def metric_of(name: str) -> Metric:
    """The metric that a name stands for, of one label too (`nll_acl`); `SHARE` for a custom one."""
    known = [key for key in METRICS if name == key or name.startswith(f"{key}_")]
    return METRICS[max(known, key=len)] if known else SHARE


def score(
    y: np.ndarray,
    log_prob: np.ndarray,
    names: Sequence[str] = tuple(METRICS),
    labels: Sequence[str] | None = None,
) -> dict[str, float]:
    """{metric: value}. With L labels: the mean over them, and each label's as `<metric>_<label>`.

    A metric that is not defined (the AUROC of one class) is NaN, and left out of that mean.
    """
    if log_prob.ndim == 2:
        return {name: METRICS[name].value(y, log_prob) for name in names}
    places = range(log_prob.shape[1])
    labels = labels or [str(i) for i in places]
    scores = {}
    for name in names:
        each = [METRICS[name].value(y[:, i], log_prob[:, i]) for i in places]
        scores[name] = float("nan") if np.isnan(each).all() else float(np.nanmean(each))
        scores |= {f"{name}_{label}": value for label, value in zip(labels, each, strict=True)}
    return scores
