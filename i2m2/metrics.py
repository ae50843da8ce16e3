"""Scores from saved predictions: pure functions of arrays. Fractions, not percent.

Each takes `y` [n] integer classes and `log_prob` [n, C]; `score` also takes [n, L] and [n, L, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import metrics as sk

LOWER_IS_BETTER = {"nll", "brier", "ece", "entropy"}
ECE_BINS = 15


def kind(name: str) -> str:
    """'nll_acl' -> 'nll': the metric that a name stands for, of one label or part; a data set's own
    stays as it is."""
    return max(
        (metric for metric in METRICS if name == metric or name.startswith(f"{metric}_")),
        key=len,
        default=name,
    )


def accuracy(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Share of examples whose most probable class is theirs."""
    return float(sk.accuracy_score(y, log_prob.argmax(-1)))


def balanced_accuracy(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their examples found."""
    predicted = log_prob.argmax(-1)
    # Recall over the classes that occur in y: scikit-learn's balanced_accuracy_score warns where a
    # predicted class does not.
    return float(sk.recall_score(y, predicted, labels=np.unique(y), average="macro"))


def auroc(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Area under the ROC curve: of class 1 for two classes (by the log-odds), else the mean over
    the classes that occur, each against the rest. NaN where there is nothing to rank."""
    return _one_against_rest(sk.roc_auc_score, y, log_prob)


def auprc(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Average precision (area under the precision-recall curve), of the classes as in `auroc`."""
    return _one_against_rest(sk.average_precision_score, y, log_prob)


def nll(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Mean negative log-likelihood, in nats. Not clipped: one certain and wrong answer makes it
    infinite."""
    return float(-np.take_along_axis(log_prob.astype(np.float64), y[:, None], axis=1).mean())


def brier(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Mean squared distance between the probabilities and the one-hot class, summed over the
    classes: 0..2."""
    return float(
        sk.brier_score_loss(
            y, _probabilities(log_prob), labels=np.arange(log_prob.shape[1]), scale_by_half=False
        )
    )


def ece(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Expected calibration error: |accuracy - confidence| of the predicted class, 15 equal bins of
    confidence, weighted by size."""
    confidence = np.exp(log_prob.max(-1).astype(np.float64))
    right = log_prob.argmax(-1) == y
    # Bin k holds (k/15, (k+1)/15]: certainty belongs to the last bin.
    index = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gap = np.bincount(index, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(y))


def entropy(y: np.ndarray, log_prob: np.ndarray) -> float:
    """Mean entropy of the predicted distributions, in nats (the paper's Table C.7); `y` plays no
    part."""
    log_prob = log_prob.astype(np.float64)
    return float(-(np.exp(log_prob) * np.maximum(log_prob, -1e3)).sum(-1).mean())


def label_entropy(y: np.ndarray) -> float:
    """Entropy of the class frequencies, in nats: what a prediction that knows nothing but them has."""
    share = np.bincount(y) / len(y)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


METRICS = {
    metric.__name__: metric
    for metric in (accuracy, balanced_accuracy, auroc, auprc, nll, brier, ece, entropy)
}


def score(
    y: np.ndarray,
    log_prob: np.ndarray,
    names: Sequence[str] = tuple(METRICS),
    labels: Sequence[str] | None = None,
) -> dict[str, float]:
    """{metric: value}. With L labels: the mean over them, and each label's own as
    `<metric>_<label>`.

    A metric that is not defined (the AUROC of one class) is NaN, and is left out of the mean over
    the labels.
    """
    if log_prob.ndim == 2:
        return {name: METRICS[name](y, log_prob) for name in names}
    labels = labels or [str(i) for i in range(log_prob.shape[1])]
    scores = {}
    for name in names:
        each = [METRICS[name](y[:, i], log_prob[:, i]) for i in range(log_prob.shape[1])]
        scores[name] = float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")
        scores |= {f"{name}_{label}": value for label, value in zip(labels, each, strict=True)}
    return scores


def _one_against_rest(metric, y: np.ndarray, log_prob: np.ndarray) -> float:
    log_prob = log_prob.astype(np.float64)
    log_odds = {1: log_prob[:, 1] - log_prob[:, 0]}
    scores = log_odds if log_prob.shape[1] == 2 else {c: log_prob[:, c] for c in np.unique(y)}
    areas = [
        metric(y == c, np.nan_to_num(s)) for c, s in scores.items() if 0 < (y == c).sum() < len(y)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def _probabilities(log_prob: np.ndarray) -> np.ndarray:
    """Renormalised in float64, since scikit-learn asks for sums of one to its own rounding."""
    p = np.exp(log_prob.astype(np.float64))
    return p / p.sum(-1, keepdims=True)
