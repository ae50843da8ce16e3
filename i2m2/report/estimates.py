"""What finished runs are worth, from their saved predictions: intervals over seeds and examples,
and differences of two methods.

The results are JSON-able: fractions (NLL and entropy in nats), null where a number does not exist.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS, kind
from i2m2.predictions import read_predictions
from i2m2.stats.intervals import LEVEL, interval, no_interval
from i2m2.stats.paired_tests import delong, mcnemar
from i2m2.stats.resampling import RESAMPLES, Resampled, bootstrap, group_index, resampled
from i2m2.training.evaluate import EXPERT
from i2m2.training.experiment import Predictions, labels_of
from i2m2.training.run import finite

# A metric that a data set has beside those of i2m2.metrics: (predictions, each example's group [n],
# number of groups) -> what it is in a resample. Of a score per example: `lambda p, index, groups:
# mean_of(p["score"], index, groups)`.
Own = Callable[[Predictions, np.ndarray, int], Resampled]
BOUNDS = {
    "nll": (0, np.inf),
    "entropy": (0, np.inf),
    "brier": (0, 2),
}  # the others, a data set's own among them, are shares
BIASED = "ece"  # see i2m2.stats.intervals


def statistics_of(
    runs: Sequence[Path],
    metrics: Iterable[str],
    split: str = "test",
    own: Mapping[str, Own] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Of one method's finished runs, a folder per seed: {"metrics": {metric: `summary`}} and the
    `facts` that they rest on.

    `metrics`: of i2m2.metrics or `own`; of several labels a name alone stands for their mean and
    every label, `auroc_acl` for one. DataError if the runs did not predict the same examples,
    SettingsError for a run without predictions or an unknown metric.
    """
    predictions = [read_seed(run, split) for run in runs]
    refuse_other_examples(dict(zip(map(str, runs), predictions, strict=True)))
    found = resample(predictions, metrics, own, resamples)
    groups = len(np.unique(predictions[0]["group"]))
    return facts(runs, predictions, split, resamples) | {
        "metrics": {
            name: summary(name, values, drawn, groups) for name, (values, drawn) in found.items()
        }
    }


def comparison_of(
    first: Sequence[Path],
    second: Sequence[Path],
    metrics: Iterable[str],
    split: str = "test",
    own: Mapping[str, Own] | None = None,
    resamples: int = RESAMPLES,
    shared: tuple[bool, bool] = (False, False),
) -> dict[str, Any]:
    """Of two methods' finished runs, as many of each, paired in the order given: {"metrics":
    {metric: {"first", "second", "difference": `summary`}}, "tests": [`paired_tests` of each pair]}
    and `facts`. Difference: first - second, with the p-value of its being 0.

    Every resample draws the same examples for all; `shared`: of which of the two the seeds have
    networks in common. Errors as in `statistics_of`.
    """
    runs, seeds = [*first, *second], len(first)
    predictions = [read_seed(run, split) for run in runs]
    refuse_other_examples(dict(zip(map(str, runs), predictions, strict=True)))
    groups = len(np.unique(predictions[0]["group"]))
    compared = {}
    for name, (values, drawn) in resample(predictions, metrics, own, resamples).items():
        (a, b), (a_drawn, b_drawn) = (
            (values[:seeds], values[seeds:]),
            (drawn[:, :seeds], drawn[:, seeds:]),
        )
        compared[name] = {
            "first": summary(name, a, a_drawn, groups, shared=shared[0]),
            "second": summary(name, b, b_drawn, groups, shared=shared[1]),
            "difference": summary(
                name, a - b, a_drawn - b_drawn, groups, difference=True, shared=any(shared)
            ),
        }
    described = {"first": list(map(str, first)), "second": list(map(str, second))}
    pairs = zip(predictions[:seeds], predictions[seeds:], strict=True)
    tests = [paired_tests(a, b) if "log_prob" in a and "log_prob" in b else {} for a, b in pairs]
    return (
        facts(runs, predictions, split, resamples)
        | described
        | {"metrics": compared, "tests": tests}
    )


def paired_tests(first: Predictions, second: Predictions) -> dict[str, dict[str, dict[str, Any]]]:
    """{label, or "" where there is one: {"mcnemar": ..., "delong": ...}} of two runs; DeLong where
    there are two classes."""
    y, a, b = first["y"], first["log_prob"], second["log_prob"]
    if labels := _labels(first):
        return {label: _tests(y[:, k], a[:, k], b[:, k]) for k, label in enumerate(labels)}
    return {"": _tests(y, a, b)}


def _tests(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, dict[str, Any]]:
    tests = {"mcnemar": asdict(mcnemar(first.argmax(-1) == y, second.argmax(-1) == y))}
    if first.shape[-1] == 2:
        # As i2m2.metrics.auroc ranks.
        a, b = (
            np.nan_to_num(log_prob[:, 1].astype(np.float64) - log_prob[:, 0])
            for log_prob in (first, second)
        )
        tests["delong"] = asdict(delong(y == 1, a, b))
    return finite(tests)


def resample(
    predictions: Sequence[Predictions],
    names: Iterable[str],
    own: Mapping[str, Own] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{metric: (its value for each of [S] predictions of the same examples, what it is in each
    resample [R, S])}."""
    index, groups = group_index(predictions[0]["group"])
    own, labels = own or {}, _labels(predictions[0])
    columns: dict[str, list[Resampled]] = {}
    means: dict[str, list[str]] = {}  # a metric's name -> the columns of its labels
    for name in dict.fromkeys(names):
        if name in own:
            try:
                columns[name] = [own[name](p, index, groups) for p in predictions]
            except KeyError as error:
                raise DataError(
                    f"metric {name!r} needs a column {error} that these predictions do not have"
                ) from error
            continue
        metric, places = _metric_and_places(name, labels, own)
        if labels and metric == name:
            means[name] = list(places)
        for column, place in places.items():
            columns[column] = [
                resampled(metric, *_at(p, place), index, groups) for p in predictions
            ]
    whole, drawn = bootstrap(
        [one for column in columns.values() for one in column], groups, len(index), resamples
    )
    seeds = len(predictions)
    found = {
        name: (whole[k * seeds :][:seeds], drawn[:, k * seeds :][:, :seeds])
        for k, name in enumerate(columns)
    }
    averaged = {}
    for (
        name,
        parts,
    ) in (
        means.items()
    ):  # as i2m2.metrics.score, a label for which the metric is not defined is left out
        defined = [found[part] for part in parts if np.isfinite(found[part][0]).all()] or [
            found[parts[0]]
        ]
        averaged[name] = tuple(np.mean(arrays, axis=0) for arrays in zip(*defined, strict=True))
    return averaged | found


def _labels(predictions: Predictions) -> list[str]:
    """Names of the labels; none where an example has one class."""
    if "log_prob" not in predictions or predictions["log_prob"].ndim == 2:
        return []
    return labels_of(predictions) or [
        str(place) for place in range(predictions["log_prob"].shape[1])
    ]


def _at(predictions: Predictions, place: int | None) -> tuple[np.ndarray, np.ndarray]:
    log_prob, y = log_prob_of(predictions), predictions["y"]
    return (y, log_prob) if place is None else (y[:, place], log_prob[:, place])


def _metric_and_places(
    name: str, labels: Sequence[str], own: Iterable[str]
) -> tuple[str, dict[str, int | None]]:
    """'auroc' or 'auroc_acl' -> 'auroc', {column: which label it is of}."""
    if name in METRICS:
        return name, {f"{name}_{label}": place for place, label in enumerate(labels)} or {
            name: None
        }
    for place, label in enumerate(labels):
        if (metric := name.removesuffix(f"_{label}")) in METRICS:
            return metric, {name: place}
    choices = ", ".join([*METRICS, *own]) + (
        f"; for one label, add _{', _'.join(labels)}" if labels else ""
    )
    raise SettingsError(f"metric {name!r} is unknown; choose from {choices}")


def log_prob_of(predictions: Predictions) -> np.ndarray:
    """DataError for the compact predictions of thousands of answers, which do not hold it."""
    if "log_prob" not in predictions:
        raise DataError(
            "these predictions hold no log_prob: with thousands of answers only the best are kept; "
            "score them by the evaluate command of their data set (such as python -m VQA_and_NLVR2.evaluate RUN)"
        )
    return predictions["log_prob"]


def summary(
    name: str,
    values: np.ndarray,
    drawn: np.ndarray,
    groups: int,
    difference: bool = False,
    shared: bool = False,
) -> dict[str, Any]:
    """[S] values and [R, S] resamples -> mean, sample std and values over the seeds, interval,
    rule, and for a difference its p.

    `shared`: the seeds have networks in common, so their spread says too little; there is no
    interval then.
    """
    metric = kind(name)
    bounds = (-np.inf, np.inf) if difference else BOUNDS.get(metric, (0, 1))
    if shared:
        found = no_interval(values, "its seeds share networks")
    else:
        found = interval(values, drawn, groups, bounds, biased=metric == BIASED)
    result = {
        "mean": found.value,
        "std": statistics.stdev(values.tolist())
        if len(values) > 1 and np.isfinite(values).all()
        else None,
        "values": [float(value) if np.isfinite(value) else None for value in values],
        "low": found.low,
        "high": found.high,
        "rule": found.rule,
        "resamples_left_out": found.left_out,
    }
    return finite(result | ({"p": found.p} if difference else {}))


def facts(
    runs: Sequence[Path], predictions: Sequence[Predictions], split: str, resamples: int
) -> dict[str, Any]:
    """What the numbers rest on."""
    return {
        "runs": list(map(str, runs)),
        "split": split,
        "examples": len(predictions[0]["id"]),
        "groups": len(np.unique(predictions[0]["group"])),
        "resamples": resamples,
        "level": LEVEL,
    }


def read_seed(run: Path, split: str) -> Predictions:
    """Saved predictions of a finished run. SettingsError if it has none, DataError if they are not
    what predictions are."""
    if (found := read_predictions(run, split)) is None:
        raise SettingsError(
            f"{run} has no predictions of the {split} split; give finished runs, or the folder above their seeds"
        )
    if wrong := _fault(found):
        raise DataError(
            f"{run / f'predictions_{split}.npz'}: {wrong}; delete it and predict again (evaluate --again)"
        )
    return found


def _fault(predictions: Predictions) -> str:
    """What is wrong with saved predictions: their columns, sizes, labels or numbers; '' if nothing
    is."""
    if missing := [name for name in ("id", "group") if name not in predictions]:
        return f"has no {' and no '.join(missing)}"
    n = len(predictions["id"])
    if len(predictions["group"]) != n or n == 0:
        return f"has {n:,} ids and {len(predictions['group']):,} groups; it needs one group per id"
    log_probs = {
        name: predictions[name]
        for name in predictions
        if name == "log_prob" or name.startswith(EXPERT)
    }
    if not log_probs:
        return ""  # a data set's own form, which its own statistics read
    y, shape = (
        predictions.get("y"),
        predictions.get("log_prob", next(iter(log_probs.values()))).shape,
    )
    if y is None or y.shape != shape[:-1] or len(y) != n or not np.issubdtype(y.dtype, np.integer):
        return f"needs integers y of the shape {shape[:-1]} of log_prob, for {n:,} ids"
    if y.min() < 0 or y.max() >= shape[-1]:
        return f"has labels {y.min()} to {y.max()}, but log_prob is of {shape[-1]} classes"
    for name, value in log_probs.items():
        if value.shape != shape:
            return f"{name} has the shape {value.shape}, not that of log_prob, {shape}"
        if np.isnan(value).any() or (value > 1e-3).any():
            return f"{name} holds {'NaN' if np.isnan(value).any() else 'numbers above 0, which are no log-probabilities'}"
    return ""


def refuse_other_examples(predictions: Mapping[str, Predictions]) -> None:
    """DataError unless all predicted the same examples, in the same groups."""
    first, *others = predictions
    for name in others:
        if not same_examples(predictions[first], predictions[name]):
            raise DataError(
                f"{first} and {name} predicted other examples, or in another order; compare runs of the same data and split"
            )


def same_examples(first: Predictions, second: Predictions) -> bool:
    """Whether both are of the same examples, in the same groups and order."""
    return all(map(np.array_equal, _examples_of(first), _examples_of(second)))


def _examples_of(predictions: Predictions) -> list[np.ndarray]:
    return [predictions.get(column, np.empty(0)) for column in ("id", "y", "group", "labels")]
