"""Scores of fastMRI from saved predictions: per label, by slice and by volume, at an operating
point chosen on validation.

`y` [n] is 0 or 1, `log_odds` [n] is log p(1) - log p(0): a score of class 1 alone ranks differently
where experts are not normalised alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from i2m2.metrics import score
from i2m2.stats.predictions import Predictions
from i2m2.stats.resampling import (
    RESAMPLES,
    BootstrapStatistic,
    auroc_statistic,
    group_index,
)
from i2m2.stats.summary import CustomMetrics, Summary, resample, summarise

SENSITIVITY = 0.9  # that the operating point must exceed
FALSE_POSITIVES = 0.25  # else its share of false positives exceeds this

# Names in result.json; `balanced_accuracy` there is at the most probable class.
OPERATING = ("sensitivity", "specificity", "balanced_accuracy_operating")


def log_odds_of(log_prob: np.ndarray) -> np.ndarray:
    """Log-probabilities [..., 2] -> log p(1) - log p(0) [...], float64."""
    return log_prob[..., 1].astype(np.float64) - log_prob[..., 0]


def auroc(y: np.ndarray, log_odds: np.ndarray) -> float:
    """Area under the ROC curve; NaN if one class is absent."""
    from sklearn.metrics import roc_auc_score  # here: it takes a second to import

    return float(roc_auc_score(y, log_odds)) if 0 < y.sum() < len(y) else float("nan")


def operating_point(y: np.ndarray, log_odds: np.ndarray) -> float:
    """The highest threshold of the validation ROC with a sensitivity above 0.9; if there is none,
    the first with false positives above 0.25.

    Positive is `log_odds >= threshold`. NaN if one class is absent.
    """
    from sklearn.metrics import roc_curve  # slow to import

    if not 0 < y.sum() < len(y):
        return float("nan")
    false_positive, sensitivity, thresholds = roc_curve(y, log_odds, drop_intermediate=False)
    for enough in (sensitivity > SENSITIVITY, false_positive > FALSE_POSITIVES):
        if enough.any():
            return float(thresholds[enough.argmax()])
    return float("nan")


def at_threshold(y: np.ndarray, log_odds: np.ndarray, threshold: float) -> dict[str, float]:
    """{name in OPERATING: sensitivity, specificity, their mean}; NaN where there is no threshold or
    no such slice."""
    positive = log_odds >= threshold
    sensitivity = specificity = float("nan")
    if (y == 1).any() and not np.isnan(threshold):
        sensitivity = float(positive[y == 1].mean())
    if (y == 0).any() and not np.isnan(threshold):
        specificity = float((~positive[y == 0]).mean())
    values = (sensitivity, specificity, (sensitivity + specificity) / 2)
    return dict(zip(OPERATING, values, strict=True))


def by_volume(
    y: np.ndarray, log_odds: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A volume is positive if any of its slices is, and scores as its highest slice: [n], [n] ->
    [volumes], [volumes]."""
    volume, volumes = group_index(group)
    highest, any_positive = np.full(volumes, -np.inf), np.zeros(volumes, y.dtype)
    np.maximum.at(highest, volume, log_odds)
    np.maximum.at(any_positive, volume, y)
    return any_positive, highest


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: {metric: value}}: the general metrics and those of `_scores_at`."""
    thresholds = _thresholds(predictions["val"])
    result = {}
    for split, p in predictions.items():
        result[split] = score(p["y"], p["log_prob"], labels=p["labels"].tolist())
        result[split] |= _scores_at(thresholds, p)
    return result


def _thresholds(val: Predictions) -> list[float]:
    """The operating point of every label."""
    y, log_odds = val["y"], log_odds_of(val["log_prob"])
    return [operating_point(y[:, label], log_odds[:, label]) for label in range(y.shape[1])]


def _scores_at(thresholds: list[float], predictions: Predictions) -> dict[str, float]:
    """Sensitivity, specificity and their mean at every label's threshold, and the AUROC by volume:
    the mean over the labels, and each label's own as `<metric>_<label>`."""
    by_label: dict[str, dict[str, float]] = {}
    for place, label in enumerate(predictions["labels"].tolist()):
        y, log_odds = predictions["y"][:, place], log_odds_of(predictions["log_prob"][:, place])
        metrics = at_threshold(y, log_odds, thresholds[place])
        metrics["auroc_volume"] = auroc(*by_volume(y, log_odds, predictions["group"]))
        by_label[label] = metrics
    result = {}
    for name in (*OPERATING, "auroc_volume"):
        values = {label: metrics[name] for label, metrics in by_label.items()}
        defined = [value for value in values.values() if np.isfinite(value)]
        result[name] = float(np.mean(defined)) if defined else float("nan")
        result |= {f"{name}_{label}": value for label, value in values.items()}
    return result


def auroc_intervals(predictions: Predictions, resamples: int = RESAMPLES) -> dict[str, Summary]:
    """{'auroc', and 'auroc_<label>' for each: value and 95 % interval}, from resampled volumes:
    slices of one volume depend on each other."""
    _, volumes = group_index(predictions["group"])
    resampled = resample([predictions], ["auroc"], resamples=resamples)
    return {name: summarise(name, *values, volumes) for name, values in resampled.items()}


def _auroc_by_volume(
    predictions: Predictions, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    """The mean over the labels of the AUROC by volume, among the volumes drawn."""
    log_odds, volume = log_odds_of(predictions["log_prob"]), np.arange(groups)
    curves = []
    for label in range(log_odds.shape[1]):
        y, highest = by_volume(predictions["y"][:, label], log_odds[:, label], predictions["group"])
        if 0 < y.sum() < len(y):
            curves.append(auroc_statistic(y == 1, highest, volume))

    def statistic(counts: np.ndarray) -> np.ndarray:
        if not curves:
            return np.full(len(counts), np.nan)
        return np.mean([curve(counts) for curve in curves], axis=0)

    return statistic


# Beside the general metrics: what tables resample by volume too.
CUSTOM_METRICS: CustomMetrics = {"auroc_volume": _auroc_by_volume}
