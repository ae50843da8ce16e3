"""Metrics of several runs on the same examples, resampled together, and what is said of each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS, metric_of
from i2m2.stats.intervals import interval, no_interval
from i2m2.stats.predictions import Predictions, label_names, log_prob_of
from i2m2.stats.resampling import RESAMPLES, BootstrapStatistic, bootstrap, group_index

# A metric that a data set has beside those of i2m2.metrics: (predictions, each example's group [n],
# number of groups) -> its bootstrap statistic. Of a score per example: `lambda p, index, groups:
# mean_of(p["score"], index, groups)`.
CustomMetric = Callable[[Predictions, np.ndarray, int], BootstrapStatistic]
CustomMetrics = Mapping[str, CustomMetric]

UNBOUNDED = (-np.inf, np.inf)


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A metric, or a difference of two rows in it, over the seeds: fractions (NLL and entropy in
    nats), None where a number does not exist.

    `values`: one per seed, with their `mean` and sample `std`. `low`, `high`: 95 % interval, and
    the `rule` it follows, or why there is none. `resamples_left_out`: those in which the metric is
    not defined. `p`: of a difference, two-sided, of its being 0.
    """

    mean: float | None
    std: float | None
    values: list[float | None]
    low: float | None
    high: float | None
    rule: str
    resamples_left_out: int
    p: float | None | msgspec.UnsetType = msgspec.UNSET


def summarise(
    name: str,
    values: np.ndarray,
    resampled: np.ndarray,
    groups: int,
    difference: bool = False,
    shared: bool = False,
) -> Summary:
    """[S] values of the metric `name` and their [R, S] resamples -> what is said of it.

    `shared`: the seeds are not independent (reused models), so their spread says too little; there
    is no interval then.
    """
    metric = metric_of(name)
    if shared:
        found = no_interval(values, "its seeds share networks")
    else:
        bounds = UNBOUNDED if difference else metric.bounds
        found = interval(values, resampled, groups, bounds, metric.biased)
    several = len(values) > 1 and np.isfinite(values).all()
    return Summary(
        mean=_known(found.value),
        std=statistics.stdev(values.tolist()) if several else None,
        values=[_known(value) for value in values],
        low=_known(found.low),
        high=_known(found.high),
        rule=found.rule,
        resamples_left_out=found.left_out,
        p=_known(found.p) if difference else msgspec.UNSET,
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def resample(
    predictions: Sequence[Predictions],
    names: Iterable[str],
    custom: CustomMetrics | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{metric: (its value for each of [S] predictions of the same examples, what it is in each
    resample [R, S])}.

    Of several labels a metric's name stands for their mean and brings every label's own. DataError
    for a column that the predictions lack, SettingsError for an unknown metric.
    """
    index, groups = group_index(predictions[0]["group"])
    custom, labels = custom or {}, label_names(predictions[0])
    columns: dict[str, list[BootstrapStatistic]] = {}
    means: dict[str, list[str]] = {}  # a metric's name -> the columns of its labels
    for name in dict.fromkeys(names):
        if name in custom:
            columns[name] = [_custom(name, custom[name], p, index, groups) for p in predictions]
            continue
        metric, places = _metric_and_places(name, labels, custom)
        if labels and metric == name:
            means[name] = list(places)
        statistic = METRICS[metric].statistic
        for column, place in places.items():
            columns[column] = [statistic(*_at(p, place), index, groups) for p in predictions]
    every = [statistic for column in columns.values() for statistic in column]
    whole, resampled = bootstrap(every, groups, len(index), resamples)
    seeds = len(predictions)
    found = {}
    for k, name in enumerate(columns):
        place = slice(k * seeds, (k + 1) * seeds)
        found[name] = (whole[place], resampled[:, place])
    return {name: _mean_over_labels(found, parts) for name, parts in means.items()} | found


def _custom(
    name: str, metric: CustomMetric, predictions: Predictions, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    try:
        return metric(predictions, index, groups)
    except KeyError as error:
        raise DataError(
            f"metric {name!r} needs a column {error} that these predictions do not have"
        ) from error


def _mean_over_labels(
    found: Mapping[str, tuple[np.ndarray, np.ndarray]], parts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """As i2m2.metrics.score: a label for which the metric is not defined is left out."""
    defined = [found[part] for part in parts if np.isfinite(found[part][0]).all()]
    whole, resampled = zip(*(defined or [found[parts[0]]]), strict=True)
    return np.mean(whole, axis=0), np.mean(resampled, axis=0)


def _at(predictions: Predictions, place: int | None) -> tuple[np.ndarray, np.ndarray]:
    """One label's y and log-probabilities."""
    y, log_prob = predictions["y"], log_prob_of(predictions)
    return (y, log_prob) if place is None else (y[:, place], log_prob[:, place])


def _metric_and_places(
    name: str, labels: Sequence[str], custom: Iterable[str]
) -> tuple[str, dict[str, int | None]]:
    """'auroc' or 'auroc_acl' -> 'auroc', {column: which label it is of}."""
    if name in METRICS and not labels:
        return name, {name: None}
    if name in METRICS:
        return name, {f"{name}_{label}": place for place, label in enumerate(labels)}
    for place, label in enumerate(labels):
        if (metric := name.removesuffix(f"_{label}")) in METRICS:
            return metric, {name: place}
    hint = f"; for one label, add _{', _'.join(labels)}" if labels else ""
    choices = ", ".join([*METRICS, *custom])
    raise SettingsError(f"metric {name!r} is unknown; choose from {choices}{hint}")
