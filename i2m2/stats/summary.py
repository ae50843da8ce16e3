"""Metrics of several runs on the same examples, resampled together, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from i2m2.errors import DamagedError, DataError, SettingsError
from i2m2.metrics import METRICS, Metric, metric_of
from i2m2.stats.intervals import Spread, Summary, interval, summary_of
from i2m2.stats.predictions import Predictions, label_names, log_prob_of
from i2m2.stats.resampling import RESAMPLES, BootstrapStatistic, bootstrap, group_index

# A metric that a data set has beside those of i2m2.metrics: (predictions, each example's group [n],
# number of groups) -> its bootstrap statistic. For a score per example: `lambda p, index, groups:
# mean_of(p["score"], index, groups)`.
CustomMetric = Callable[[Predictions, np.ndarray, int], BootstrapStatistic]
CustomMetrics = Mapping[str, CustomMetric]


def summarise(
    name: str,
    values: np.ndarray,
    resampled: np.ndarray,
    groups: int,
    difference: bool = False,
    shared: bool = False,
    usual: Spread | None = None,
    unseen: float = np.inf,
) -> Summary:
    """Mean and interval of [S] values of the metric `name`, from their [R, S] resamples. `shared`:
    the seeds are not independent (reused models), their spread says too little: no interval.
    `usual`: their spread, as far as other rows tell; `unseen`: see `unseen_difference`."""
    metric = metric_of(name)
    bounds = metric.difference_bounds if difference else metric.bounds
    if shared:
        found = summary_of(values, "no interval: its seeds share networks")
    else:
        found = interval(values, resampled, groups, bounds, metric.biased, usual, unseen)
    return found if difference else replace(found, p=UNSET)


def unseen_difference(metric: Metric, averages: bool, same: bool) -> float:
    """How far apart two rows can be on an example that is unlike all that are here: not at all if
    they give the `same` predictions; not known unless the metric `averages` over examples."""
    if same:
        return 0.0
    return metric.difference_bounds[1] if averages else np.inf


def resample(
    predictions: Sequence[Predictions],
    names: Iterable[str],
    custom: CustomMetrics | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{metric: its values for [S] predictions of the same examples, and in each resample [R, S]}.

    With several labels a metric's name stands for their mean and brings each label's. DataError for
    a column that the predictions lack, SettingsError for an unknown metric.
    """
    index, groups = group_index(predictions[0]["group"])
    custom, labels = custom or {}, label_names(predictions[0])
    known = {metric: partial(_general, metric, None) for metric in METRICS if not labels}
    for place, label in enumerate(labels):
        known |= {f"{metric}_{label}": partial(_general, metric, place) for metric in METRICS}
    known |= custom
    means: dict[str, list[str]] = {}  # a metric's name -> the columns of its labels
    columns: dict[str, list[BootstrapStatistic]] = {}
    for name in names:
        if labels and name in METRICS and name not in known:
            means[name] = [f"{name}_{label}" for label in labels]
        elif name not in known:
            hint = f"; for one label, add _{', _'.join(labels)}" if labels else ""
            choices = ", ".join([*METRICS, *custom])
            raise SettingsError(f"metric {name!r} is unknown; choose from {choices}{hint}")
        for column in means.get(name, [name]):
            try:
                columns[column] = [known[column](p, index, groups) for p in predictions]
            except KeyError as error:
                raise DataError(
                    f"metric {name!r} needs a column {error} that these predictions do not have"
                ) from error
    every = [statistic for column in columns.values() for statistic in column]
    whole, resampled = bootstrap(every, groups, len(index), resamples)
    shape = (len(columns), len(predictions))
    whole, resampled = whole.reshape(shape), resampled.reshape(-1, *shape)
    found = {name: (whole[k], resampled[:, k]) for k, name in enumerate(columns)}
    return {name: _mean_over_labels(name, found, parts) for name, parts in means.items()} | found


def resample_defined(
    predictions: Sequence[Predictions],
    names: Iterable[str],
    custom: CustomMetrics,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`resample`, without the metrics that neither i2m2.metrics nor `custom` has, or that need a
    column which these predictions lack."""
    found = {}
    for name in names:
        try:
            found[name] = resample(predictions, [name], custom, resamples)[name]
        except DamagedError:
            raise
        except (SettingsError, DataError):
            continue
    return found


def _general(
    metric: str, place: int | None, predictions: Predictions, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    """The statistic of one of i2m2.metrics, for the label at `place` where there are several."""
    log_prob, y = log_prob_of(predictions), predictions["y"]
    if place is not None:
        log_prob, y = log_prob[:, place], y[:, place]
    return METRICS[metric].statistic(y, log_prob, index, groups)


def _mean_over_labels(
    name: str, found: Mapping[str, tuple[np.ndarray, np.ndarray]], parts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean as i2m2.metrics.score takes it, without labels that do not define the metric. A mean
    over examples is defined of every label, and its NaN stands for infinity, which remains."""
    always = METRICS[name].averages
    defined = [found[part] for part in parts if always or np.isfinite(found[part][0]).all()]
    whole, resampled = zip(*(defined or [found[parts[0]]]), strict=True)
    return np.mean(whole, axis=0), np.mean(resampled, axis=0)
