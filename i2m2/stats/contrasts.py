"""Planned contrasts: a few questions asked beforehand, each whether one row is better than another.

A difference is `yes` where it is significant, `no` where its interval shows it to be smaller than
what would matter (the equivalence margin), and `cannot be told` otherwise, with the difference that
the same design would have found. All intervals and tests are those of `i2m2.stats.intervals`:
paired by example and seed, over groups of examples, and over seeds where there are several. Holm's
correction is over the contrasts that are asked together, and over nothing else. It does not correct
for rows that were chosen on the same examples (the best of several).

Predictions out of fold are scored like any others, in one piece: give each example once per seed,
predicted by the model that did not see it, all rows on the same folds. What the folds' models have
in common, their training rows, is in both rows of a difference: its intervals cover 95 % and more
with two to five seeds (benchmarks/coverage, part folds), those of a single row may not.

    rows = ScoredRows.of_predictions({"intra": [seed0, seed1], "i2m2": [...]}, "auroc")
    decide([Contrast(name="interaction", first="i2m2", second="intra")], rows, margin=0.01)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import SHARE, Metric, label_entropy, metric_of
from i2m2.stats.intervals import Summary, interval, standard_errors
from i2m2.stats.paired_tests import holm
from i2m2.stats.predictions import (
    Predictions,
    mark_of,
    mark_of_answers,
    refuse_other_examples,
)
from i2m2.stats.resampling import RESAMPLES, bootstrap, group_index, mean_of
from i2m2.stats.summary import CustomMetrics, resample, unseen_difference

NONE_DETECTABLE = "too few examples or seeds to tell any difference"
ALPHA = 0.05  # of the family, after Holm's correction
POWER = 0.8  # with which the smallest detectable difference is found
MARGIN = 0.01  # a point of a metric shown in percent, 1 % of the labels' entropy in nats

Answer = Literal["yes", "no", "cannot be told"]


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """A question by its name: is the row `first` better than the row `second`?"""

    name: str
    first: str
    second: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a contrast, in the metric's own unit (fractions, or nats).

    `difference`: first - second, turned round where less is better, so that above 0 the first is
    better; None where the metric is not defined. `low`, `high`: its 95 % interval, of this contrast
    alone. `p`: two-sided; `p_holm`: corrected over the contrasts asked together.
    `smallest_detectable`: the true difference that would have been significant with 80 % power at
    this contrast's step of Holm's correction; None where no two rows can be that far apart, or
    there is no test. `text`: the answer with its number.
    """

    contrast: Contrast
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    margin: float
    smallest_detectable: float | None
    answer: Answer
    text: str


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """Rows scored on the same examples, which were resampled for all alike: `values` {row: [S]},
    one per seed, `resampled` {row: [R, S]}, and the number of `groups`. `averages`: whether the
    metric is a mean over examples; `marks` {row: [S]}: equal where the same was predicted.

    The k-th seeds of two rows are a pair; a row of one value (a reference without a seed) is paired
    with each.
    """

    values: Mapping[str, np.ndarray]
    resampled: Mapping[str, np.ndarray]
    groups: int
    averages: bool = False
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_predictions(
        cls,
        rows: Mapping[str, Sequence[Predictions]],
        metric: str,
        custom: CustomMetrics | None = None,
    ) -> ScoredRows:
        """From {row: [S] predictions}; errors as `resample`, and DataError for other examples."""
        flat = {f"{row} ({k})": one for row, seeds in rows.items() for k, one in enumerate(seeds)}
        refuse_other_examples(flat)
        predictions = list(flat.values())
        values, resampled = resample(predictions, [metric], custom)[metric]
        _, groups = group_index(predictions[0]["group"])
        marks = {
            row: np.array([mark_of_answers(of_seed, metric) for of_seed in seeds])
            for row, seeds in rows.items()
        }
        averages = metric not in (custom or {}) and metric_of(metric).averages
        return cls._split(values, resampled, groups, averages, marks)

    @classmethod
    def of_scores(
        cls,
        rows: Mapping[str, np.ndarray],
        group: np.ndarray,
        resamples: int = RESAMPLES,
        answers: Mapping[str, np.ndarray] | None = None,
    ) -> ScoredRows:
        """From {row: a score of each example, [S, n] or [n]} and the `group` of each, [n].
        `answers` {row: [S, ...]}: what was scored, which tells rows that are the same."""
        scores = {row: np.atleast_2d(of_row) for row, of_row in rows.items()}
        index, groups = group_index(group)
        means = [mean_of(one, index, groups) for of_row in scores.values() for one in of_row]
        values, resampled = bootstrap(means, groups, len(index), resamples)
        alone = np.arange(len(means))  # without answers, each row and seed is one of its own
        ends = np.cumsum(list(map(len, scores.values())))[:-1]
        marks = dict(zip(scores, np.split(alone, ends), strict=True))
        if answers is not None:
            marks = {row: np.array(list(map(mark_of, answers[row]))) for row in scores}
        return cls._split(values, resampled, groups, True, marks)

    @classmethod
    def _split(
        cls,
        values: np.ndarray,
        resampled: np.ndarray,
        groups: int,
        averages: bool,
        marks: Mapping[str, np.ndarray],
    ) -> ScoredRows:
        """Columns of all rows in turn, [K] and [R, K] -> each row's own."""
        ends = np.cumsum(list(map(len, marks.values())))[:-1]
        return cls(
            values=dict(zip(marks, np.split(values, ends), strict=True)),
            resampled=dict(zip(marks, np.split(resampled, ends, axis=1), strict=True)),
            groups=groups,
            averages=averages,
            marks=marks,
        )

    def difference(self, contrast: Contrast) -> tuple[np.ndarray, np.ndarray]:
        """First - second: [S] and [R, S]. SettingsError for an unknown row, or other seeds."""
        pair = (contrast.first, contrast.second)
        for row in pair:
            if row not in self.values:
                choices = ", ".join(self.values)
                raise SettingsError(f"{contrast.name}: no row {row!r}; choose from {choices}")
        first, second = (len(self.values[row]) for row in pair)
        if first != second and 1 not in (first, second):
            raise SettingsError(
                f"{contrast.name}: {first} seeds of {contrast.first}, but {second} of "
                f"{contrast.second}; give the seeds that both have"
            )
        values, resampled = ([of[row] for row in pair] for of in (self.values, self.resampled))
        return values[0] - values[1], resampled[0] - resampled[1]

    def unseen(self, contrast: Contrast, metric: Metric) -> float:
        """See `unseen_difference`."""
        first, second = (self.marks.get(row) for row in (contrast.first, contrast.second))
        same = first is not None and second is not None and bool((first == second).all())
        return unseen_difference(metric, self.averages, same)


def usual_margin(metric: str, y: np.ndarray) -> float:
    """The difference below which nobody would care: a point, or 1 % of the entropy of the labels
    [n(, L)] where the metric is in nats. DataError where these are all of one class."""
    if metric_of(metric).percent:
        return MARGIN
    columns = y.reshape(len(y), -1).T
    if not (margin := MARGIN * float(np.mean([label_entropy(column) for column in columns]))):
        raise DataError(
            "the labels of these examples are all of one class, so that nothing can be told; "
            "predict examples of two or more"
        )
    return margin


def decide(
    contrasts: Sequence[Contrast], rows: ScoredRows, margin: float, metric: Metric = SHARE
) -> list[Decision]:
    """Answer every contrast; they are one family for Holm's correction.

    `margin`: a difference below it does not matter, in the unit of the `metric`, which says whether
    less is better. SettingsError for a margin that is not above 0, or as `ScoredRows.difference`.
    """
    if not margin > 0:
        raise SettingsError(f"margin={margin}: it must be above 0, the least that would matter")
    sign = -1 if metric.lower_is_better else 1
    differences = [[sign * part for part in rows.difference(one)] for one in contrasts]
    bounds = metric.difference_bounds
    unseen = [rows.unseen(one, metric) for one in contrasts]
    found = [
        interval(*one, rows.groups, bounds, metric.biased, unseen=most)
        for one, most in zip(differences, unseen, strict=True)
    ]
    p = np.array([np.nan if one.p is None else one.p for one in found], dtype=np.float64)
    detectable = [
        _smallest_detectable(*one, rows.groups, level, bounds[1])
        for one, level in zip(differences, holm_levels(p), strict=True)
    ]
    everything = zip(contrasts, found, holm(p), detectable, strict=True)
    return [_decision(*one, margin, metric) for one in everything]


def holm_levels(p: np.ndarray) -> np.ndarray:
    """[K] p-values -> the level that each is compared with: ALPHA by the number of those that are
    no smaller, itself among them. NaN (no test) is no member and stays NaN."""
    no_smaller = (p[None, :] >= p[:, None]).sum(axis=1)
    return np.where(np.isfinite(p), ALPHA / np.maximum(no_smaller, 1), np.nan)


def _smallest_detectable(
    values: np.ndarray, resampled: np.ndarray, groups: int, level: float, largest: float
) -> float | None:
    """(t(1 - level/2) + t(power)) standard errors; None where there is no test, no error, or that
    is above the `largest` difference that there can be."""
    from scipy import stats  # here: it takes a second to import

    if not np.isfinite(level) or groups < 2:
        return None
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    error, freedom = standard_errors(values, resampled, groups)
    times = stats.t.isf(level / 2, freedom) + stats.t.isf(1 - POWER, freedom)
    smallest = float((times * error).max())
    return smallest if 0 < smallest <= largest else None


def _decision(
    contrast: Contrast,
    found: Summary,
    p_holm: float,
    smallest: float | None,
    margin: float,
    metric: Metric,
) -> Decision:
    answer: Answer = "cannot be told"
    if found.high is not None and found.high < margin:
        answer = "no"
    elif p_holm < ALPHA and found.mean > 0:
        answer = "yes"
    return Decision(
        contrast=contrast,
        difference=found.mean,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=float(p_holm) if np.isfinite(p_holm) else None,
        margin=margin,
        smallest_detectable=smallest,
        answer=answer,
        text=_text(answer, smallest, found, metric),
    )


def _text(answer: Answer, smallest: float | None, found: Summary, metric: Metric) -> str:
    """The answer with the number that belongs to it, or why there is none."""
    if answer == "yes":
        return "yes"
    if answer == "no":
        return f"no (at most {_amount(max(found.high, 0.0), metric)})"
    if smallest is None:
        return f"cannot be told ({found.rule if found.high is None else NONE_DETECTABLE})"
    return f"cannot be told (smallest detectable {_amount(smallest, metric)})"


def _amount(value: float, metric: Metric) -> str:
    """In points, or in the metric's own unit."""
    points = " points" if metric.percent else ""
    return f"{value * metric.scale:.{metric.decimals}f}{points}"
