"""NLVR2's scores from saved predictions, which hold `sentence` (examples with the same sentence, of
a set) and which examples are `balanced` and `unbalanced`. `group` is the set: all its sentences,
each with all its pairs of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from i2m2.metrics import score
from i2m2.names import EXPERT
from i2m2.stats.predictions import Predictions, experts_in
from i2m2.stats.resampling import BootstrapStatistic
from i2m2.training.evaluate import table_of
from VQA_and_NLVR2.nlvr2.data import SUBSETS
from VQA_and_NLVR2.nlvr2.scores import accuracy, consistency

REPORTED = ("accuracy", "consistency", *(f"accuracy_{which}" for which in SUBSETS), "nll", "ece")


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: {metric: value}}: see `metrics_of`."""
    return {split: metrics_of(p, p["log_prob"]) for split, p in predictions.items()}


def metrics_of(predictions: Predictions, log_prob: np.ndarray) -> dict[str, float]:
    """The general metrics, consistency, and accuracy on the balanced and unbalanced subsets (NaN
    without such examples)."""
    right = log_prob.argmax(axis=-1) == predictions["y"]
    subsets = {f"accuracy_{which}": accuracy(right[predictions[which]]) for which in SUBSETS}
    return (
        score(predictions["y"], log_prob)
        | {"consistency": consistency(predictions["sentence"], right)}
        | subsets
    )


def report(predictions: Predictions) -> str:
    """A table of product and experts."""
    rows = {"product": "log_prob", **{name: f"{EXPERT}{name}" for name in experts_in(predictions)}}
    found = {row: metrics_of(predictions, predictions[column]) for row, column in rows.items()}
    return table_of(
        {row: {name: metrics[name] for name in REPORTED} for row, metrics in found.items()}
    )


def _consistency(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    right = predictions["log_prob"].argmax(axis=-1) == predictions["y"]
    _, first, sentence = np.unique(predictions["sentence"], return_index=True, return_inverse=True)
    whole = np.bincount(sentence.reshape(-1), ~right) == 0
    return _ratio(
        *(np.bincount(index[first], weights, minlength=groups) for weights in (whole, None))
    )


def _on(which: str):
    """Accuracy on a subset of the examples drawn."""

    def own(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
        right, of = predictions["log_prob"].argmax(axis=-1) == predictions["y"], predictions[which]
        return _ratio(
            *(np.bincount(index, weights, minlength=groups) for weights in (right & of, of))
        )

    return own


def _ratio(sums: np.ndarray, sizes: np.ndarray) -> BootstrapStatistic:
    def metric(drawn: np.ndarray) -> np.ndarray:
        there = drawn @ sizes.astype(np.float64)
        return np.divide(drawn @ sums, there, out=np.full(there.shape, np.nan), where=there > 0)

    return metric


# Of this data set's own, for `i2m2.report.estimates`: intervals and differences by resampled sets.
CUSTOM_METRICS = {
    "consistency": _consistency,
    **{f"accuracy_{which}": _on(which) for which in SUBSETS},
}
