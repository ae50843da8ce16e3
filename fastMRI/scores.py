"""Scores of fastMRI from saved predictions: per label, by slice and by volume, at an operating
point chosen on validation.

`y` [n] is 0 or 1, `log_odds` [n] is log p(1) - log p(0): a score of class 1 alone ranks differently
where experts are not normalised alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from i2m2.metrics import score
from i2m2.stats.resampling import BootstrapStatistic, group_index, resampled_auroc
from i2m2.stats.resampling import bootstrap as resample

SENSITIVITY = 0.9  # that the operating point must exceed
RESAMPLES = 1000  # of the bootstrap
FALSE_POSITIVES = 0.25  # else its share of false positives exceeds this

Predictions = Mapping[str, np.ndarray]


def log_odds_of(log_prob: np.ndarray) -> np.ndarray:
    """Log-probabilities [..., 2] -> log p(1) - log p(0) [...], float64."""
    return log_prob[..., 1].astype(np.float64) - log_prob[..., 0]


def auroc(y: np.ndarray, log_odds: np.ndarray) -> float:
    """Area under the ROC curve; NaN if one class is absent."""
    return float(roc_auc_score(y, log_odds)) if 0 < y.sum() < len(y) else float("nan")


def operating_point(y: np.ndarray, log_odds: np.ndarray) -> float:
    """The highest threshold of the validation ROC with a sensitivity above 0.9; if there is none,
    the first with false positives above 0.25. Positive is `log_odds >= threshold`. NaN if one class
    is absent."""
    if not 0 < y.sum() < len(y):
        return float("nan")
    false_positive, sensitivity, thresholds = roc_curve(y, log_odds, drop_intermediate=False)
    for enough in (sensitivity > SENSITIVITY, false_positive > FALSE_POSITIVES):
        if enough.any():
            return float(thresholds[enough.argmax()])
    return float("nan")


def at_threshold(y: np.ndarray, log_odds: np.ndarray, threshold: float) -> dict[str, float]:
    """Sensitivity, specificity and their mean; NaN where there is no threshold or no such slice."""
    positive = log_odds >= threshold
    undefined = np.isnan(threshold)
    sensitivity = (
        float(positive[y == 1].mean()) if (y == 1).any() and not undefined else float("nan")
    )
    specificity = (
        float((~positive[y == 0]).mean()) if (y == 0).any() and not undefined else float("nan")
    )
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced": (sensitivity + specificity) / 2,
    }


def by_volume(
    y: np.ndarray, log_odds: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A volume is positive if any of its slices is, and scores as its highest slice: [n], [n] ->
    [volumes], [volumes]."""
    _, volume = np.unique(group, return_inverse=True)
    highest, any_positive = np.full(volume.max() + 1, -np.inf), np.zeros(volume.max() + 1, y.dtype)
    np.maximum.at(highest, volume, log_odds)
    np.maximum.at(any_positive, volume, y)
    return any_positive, highest


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: {metric: value}}: the general metrics, and per label sensitivity, specificity and
    their mean at the threshold of the `val` predictions, and the AUROC by volume; each also as the
    mean over the labels."""
    thresholds = _thresholds(predictions["val"])
    result = {}
    for split, p in predictions.items():
        labels = p["labels"].tolist()
        result[split] = score(p["y"], p["log_prob"], labels=labels)
        added: dict[str, dict[str, float]] = {}
        for place, label in enumerate(labels):
            y, log_odds = p["y"][:, place], log_odds_of(p["log_prob"][:, place])
            for name, value in at_threshold(y, log_odds, thresholds[place]).items():
                added.setdefault(OPERATING[name], {})[label] = value
            added.setdefault("auroc_volume", {})[label] = auroc(*by_volume(y, log_odds, p["group"]))
        for name, values in added.items():
            known = [value for value in values.values() if np.isfinite(value)]
            result[split][name] = float(np.mean(known)) if known else float("nan")
            result[split] |= {f"{name}_{label}": value for label, value in values.items()}
    return result


# Names in result.json; `balanced_accuracy` there is at the most probable class.
OPERATING = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced": "balanced_accuracy_operating",
}


def _thresholds(val: Predictions) -> list[float]:
    return [
        operating_point(val["y"][:, label], log_odds_of(val["log_prob"][:, label]))
        for label in range(val["y"].shape[1])
    ]


def bootstrap(
    predictions: Predictions, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float, int]]:
    """95 % percentile intervals of the AUROC of every label and of their mean, from resampled
    volumes: slices depend on each other.

    -> {label or 'mean': (low, high, resamples without both classes, which are left out)}.
    """
    volume, volumes = group_index(predictions["group"])
    labels, y, log_odds = (
        predictions["labels"].tolist(),
        predictions["y"],
        log_odds_of(predictions["log_prob"]),
    )
    curves = [
        resampled_auroc(y[:, place] == 1, log_odds[:, place], volume)
        for place in range(len(labels))
    ]
    whole, values = resample(curves, volumes, len(y), resamples, seed)
    defined = np.isfinite(whole)  # a label without both classes is in no mean
    mean = values[:, defined].mean(axis=1) if defined.any() else values[:, 0]
    columns = {**dict(zip(labels, values.T, strict=True)), "mean": mean}
    intervals = {}
    for name, column in columns.items():
        known = column[np.isfinite(column)]
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        intervals[name] = (float(low), float(high), int(len(column) - len(known)))
    return intervals


def report(val: Predictions, predictions: Predictions) -> str:
    """A line per label: AUROC of the product with its interval, AUROC by volume, and the scores at
    the operating point of `val`."""
    result = scores({"val": val, "scored": predictions})["scored"]
    intervals = bootstrap(predictions)
    columns = ("auroc_volume", *OPERATING.values())
    lines = [["", "auroc", "95 % interval", "left out", *columns]]
    for label in ("mean", *predictions["labels"].tolist()):
        end = "" if label == "mean" else f"_{label}"
        low, high, left_out = intervals[label]
        found = [f"{result[column + end]:.4f}" for column in columns]
        lines.append(
            [
                label,
                f"{result['auroc' + end]:.4f}",
                f"{low:.4f} .. {high:.4f}",
                str(left_out),
                *found,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    )
    return (
        f"{table}\nintervals from {RESAMPLES:,} resamples of the {len(np.unique(predictions['group']))} volumes; left out: those "
        f"without both classes; operating point: sensitivity above {SENSITIVITY} on validation"
    )


def _auroc_by_volume(
    predictions: Predictions, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    """The mean over the labels of the AUROC by volume, among the volumes drawn."""
    log_odds = log_odds_of(predictions["log_prob"])
    by_label = [
        by_volume(predictions["y"][:, k], log_odds[:, k], predictions["group"])
        for k in range(log_odds.shape[1])
    ]
    both = [
        (positive == 1, highest)
        for positive, highest in by_label
        if 0 < positive.sum() < len(positive)
    ]
    curves = [resampled_auroc(positive, highest, np.arange(groups)) for positive, highest in both]
    return lambda drawn: (
        np.mean([curve(drawn) for curve in curves], axis=0)
        if curves
        else np.full(len(drawn), np.nan)
    )


# Of this data set's own, for `i2m2.report.estimates`: intervals and differences by resampled
# volumes.
CUSTOM_METRICS = {"auroc_volume": _auroc_by_volume}
