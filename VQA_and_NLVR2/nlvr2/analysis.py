"""NLVR2's scores from saved predictions, which hold `sentence` (examples with the same sentence, of
a set) and which examples are `balanced` and `unbalanced`. `group` is the set: all its sentences,
each with all its pairs of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from i2m2.metrics import score
from i2m2.stats.predictions import Predictions
from i2m2.stats.resampling import BootstrapStatistic, ratio
from i2m2.stats.summary import CustomMetric
from VQA_and_NLVR2.nlvr2.files import SUBSETS
from VQA_and_NLVR2.nlvr2.scores import accuracy, consistency


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: {metric: value}}: see `metrics_of`."""
    return {split: metrics_of(p, p["log_prob"]) for split, p in predictions.items()}


def metrics_of(predictions: Predictions, log_prob: np.ndarray) -> dict[str, float]:
    """The general metrics, consistency, and accuracy on the balanced and unbalanced subsets (NaN
    without such examples)."""
    right = log_prob.argmax(axis=-1) == predictions["y"]
    metrics = score(predictions["y"], log_prob)
    metrics["consistency"] = consistency(predictions["sentence"], right)
    return metrics | {f"accuracy_{name}": accuracy(right[predictions[name]]) for name in SUBSETS}


def _right(predictions: Predictions) -> np.ndarray:
    return predictions["log_prob"].argmax(axis=-1) == predictions["y"]


def _consistency(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    _, first, sentence = np.unique(predictions["sentence"], return_index=True, return_inverse=True)
    whole = np.bincount(sentence.reshape(-1), ~_right(predictions)) == 0
    group = index[first]  # of each sentence
    return _share(np.bincount(group, whole, groups), np.bincount(group, minlength=groups))


def _accuracy_on(subset: str) -> CustomMetric:
    """Accuracy on a subset of the examples drawn."""

    def metric(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
        inside = predictions[subset]
        right = np.bincount(index, _right(predictions) & inside, groups)
        return _share(right, np.bincount(index, inside, groups))

    return metric


def _share(parts: np.ndarray, wholes: np.ndarray) -> BootstrapStatistic:
    """Of each group how many there are, and how many of them count -> the share that counts."""
    wholes = wholes.astype(np.float64)
    return lambda counts: ratio(counts @ parts, counts @ wholes)


# For intervals and differences by resampled sets.
CUSTOM_METRICS: dict[str, CustomMetric] = {"consistency": _consistency}
CUSTOM_METRICS |= {f"accuracy_{name}": _accuracy_on(name) for name in SUBSETS}
