"""How sure a table's numbers are: intervals, and which rows differ from the best of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import msgspec
import numpy as np

from i2m2.errors import DataError
from i2m2.files import Plain
from i2m2.metrics import metric_of
from i2m2.runs import RunRecord, require_predictions
from i2m2.stats.intervals import Spread, usual_spread
from i2m2.stats.paired_tests import holm
from i2m2.stats.predictions import Predictions, classes_of, refuse_other_examples, same_examples
from i2m2.stats.resampling import RESAMPLES
from i2m2.stats.summary import CustomMetrics, Summary, resample_defined, summarise

Rows = Mapping[str, Sequence[RunRecord]]  # run name -> its finished seeds
ALPHA = 0.05  # from it on, p leaves a row undistinguished from the best
POOLED = 7  # version of what is stored from which on seeds are judged by all rows


class Judgement(msgspec.Struct, kw_only=True):
    """How sure the numbers of a table are, for exactly the seeds and values that it shows."""

    version: int = 1  # of what is stored, see `i2m2.report.cache`
    computed_from: Plain = msgspec.field(name="of", default_factory=dict)
    best: dict[str, str] = {}  # the best row of each metric
    rows: dict[str, dict[str, Summary]] = {}  # by run and metric
    p: dict[str, dict[str, float]] = {}  # by metric and run: of its difference from the best
    why_no_interval: dict[str, str] = msgspec.field(name="without", default_factory=dict)  # by run
    groups: int | None = None
    resamples: int | None = None

    def interval(self, run: str, metric: str) -> tuple[float, float] | None:
        """The interval of a row, in fractions; None where there is none."""
        found = self.rows.get(run, {}).get(metric)
        return (found.low, found.high) if found and found.low is not None else None

    def is_undistinguished(self, run: str, metric: str) -> bool:
        """Whether the row cannot be told from the column's best."""
        return self.p.get(metric, {}).get(run, 0) >= ALPHA


def best_of(
    values: Mapping[str, Mapping[str, Sequence[float]]], metrics: Sequence[str]
) -> dict[str, str]:
    """{metric: the row with the best mean}, from {row: {metric: one value per seed}}, where at
    least two rows have the metric; without the entropy, where neither more nor less is better."""
    best = {}
    for metric in metrics:
        sign = -1 if metric_of(metric).lower_is_better else 1
        seeds_of = {run: by_metric.get(metric) for run, by_metric in values.items()}
        means = {run: sign * fmean(seeds) for run, seeds in seeds_of.items() if seeds}
        if len(means) > 1 and metric_of(metric).ranks:
            best[metric] = max(means, key=means.get)
    return best


def agrees(summary: Summary, records: Sequence[RunRecord], metric: str) -> bool:
    """Whether values from predictions are those of result.json, but for rounding."""
    recorded = [record.test.get(metric) for record in records]
    return len(recorded) == len(summary.values) and all(
        a == b or (a is not None and b is not None and abs(a - b) <= 1e-4 * max(1, abs(b)))
        for a, b in zip(summary.values, recorded, strict=True)
    )


def judge(
    rows: Rows, metrics: Sequence[str], best: Mapping[str, str], custom: CustomMetrics
) -> Judgement:
    """Compare every row with the best of each column over the seeds that both have; all these
    comparisons are one family for Holm's correction. What the seeds of a column have in common is
    how far apart they usually lie. Metrics that nothing defines are left out."""
    predictions, unlike = read_alike(rows)
    made = Judgement(best=dict(best), why_no_interval=unlike, groups=0, resamples=RESAMPLES)
    if not predictions:
        return made
    rows = {run: records for run, records in rows.items() if run not in unlike}
    made.rows = {run: {} for run in rows}
    made.groups = len(np.unique(next(iter(predictions.values()))["group"]))
    disagreeing: dict[str, list[str]] = {}
    p: dict[tuple[str, str], float] = {}
    members = list(predictions)
    for metric, found in resample_defined(list(predictions.values()), metrics, custom).items():
        column = _Column(metric, *found, made.groups, rows, members)
        recorded = [run for run in rows if any(metric in one.test for one in rows[run])]
        for run in recorded:
            summary = column.summary(run)
            if agrees(summary, rows[run], metric):
                made.rows[run][metric] = summary
            else:
                disagreeing.setdefault(run, []).append(metric)
        first = best.get(metric)
        for run in recorded if first in recorded else ():
            if run != first and (value := column.p_of_difference(first, run)) is not None:
                p[metric, run] = value
    for (metric, run), value in zip(p, holm(list(p.values())), strict=True):
        if all(metric in made.rows[one] for one in (run, best[metric])):
            made.p.setdefault(metric, {})[run] = float(value)
    why = "since its predictions do not give what its result.json has"
    for run, names in disagreeing.items():
        made.why_no_interval[run] = f"no interval of {', '.join(names)}, {why}"
    return made


class _Column(NamedTuple):
    """A metric of every (row, seed) of `members`: [S] values and their [R, S] resamples."""

    metric: str
    values: np.ndarray
    resampled: np.ndarray
    groups: int
    rows: Rows
    members: Sequence[tuple[str, int]]

    def summary(self, run: str) -> Summary:
        at, shared = self._places(run), self._shared(run)
        values, resampled = self.values[at], self.resampled[:, at]
        return summarise(self.metric, values, resampled, self.groups, shared=shared)

    def p_of_difference(self, first: str, second: str) -> float | None:
        """The p-value of two rows over the seeds that both have; None where there is none."""
        seeds = ({record.seed for record in self.rows[run]} for run in (first, second))
        common = sorted(set.intersection(*seeds))
        if not common:
            return None
        a, b = ([self.members.index((run, seed)) for seed in common] for run in (first, second))
        differing = (self.values[a] - self.values[b], self.resampled[:, a] - self.resampled[:, b])
        shared = self._shared(first) or self._shared(second)
        options = {"difference": True, "shared": shared, "usual": self._usual_spread()}
        return summarise(self.metric, *differing, self.groups, **options).p

    def _usual_spread(self) -> Spread | None:
        """Of the seeds of a difference, by all rows whose seeds are independent."""
        independent = [run for run in self.rows if not self._shared(run)]
        of_rows = [self.values[self._places(run)] for run in independent]
        return usual_spread([values for values in of_rows if np.isfinite(values).all()])

    def _places(self, run: str) -> list[int]:
        return [place for place, (row, _) in enumerate(self.members) if row == run]

    def _shared(self, run: str) -> bool:
        return share_members([record.product_of for record in self.rows[run]])


def read_alike(rows: Rows) -> tuple[dict[tuple[str, int], Predictions], dict[str, str]]:
    """-> {(row, seed): its predictions of the test split}, {row: why it is not among them}:
    damaged, or not of the examples that most rows predicted."""
    predictions: dict[str, dict[int, Predictions]] = {}
    left_out: dict[str, str] = {}
    for run, records in rows.items():
        try:
            of_run = {record.seed: require_predictions(record.dir, "test") for record in records}
            refuse_other_examples({f"{run}/seed{seed}": one for seed, one in of_run.items()})
        except DataError as error:
            left_out[run] = f"no interval: {error}"
        else:
            predictions[run] = of_run
    firsts = {run: next(iter(of_run.values())) for run, of_run in predictions.items()}
    alike = [[run for run in firsts if _are_alike(one, firsts[run])] for one in firsts.values()]
    most = max(alike, key=len, default=[])
    for run in predictions:
        if run not in most:
            why = f"it predicted other examples than {most[0]}, in another order, or other classes"
            left_out[run] = f"no interval: {why}"
    return {(run, seed): one for run in most for seed, one in predictions[run].items()}, left_out


def _are_alike(first: Predictions, second: Predictions) -> bool:
    return same_examples(first, second) and classes_of(first) == classes_of(second)


def share_members(products: Sequence[Sequence[str]]) -> bool:
    """Whether the seeds of a product of separately trained runs, each given by the folders of
    these, have any in common: they are not independent then (reused models)."""
    members = [member for product in products for member in product]
    return len(set(members)) < len(members) and len(products) > 1


def how_sure(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """What intervals, bold numbers and marks rest on, and which rows have none."""
    lines = [f"{labels.get(run, run)}: {why}." for run, why in judgement.why_no_interval.items()]
    rows = [summaries for summaries in judgement.rows.values() if summaries]
    if not rows:
        return lines
    rules = dict.fromkeys(next(iter(summaries.values())).rule for summaries in rows)
    lines.append(
        f"Interval: {'; '.join(rules)}; {judgement.resamples or 0:,} resamples of "
        f"{judgement.groups or 0:,} groups of examples."
    )
    if judgement.best:
        lines.append(
            "Bold: the best of a column; †: not distinguishable from it (paired difference over "
            f"the same resamples, p at least {ALPHA} after Holm's correction within the table"
            f"{_of_seeds(judgement)})."
        )
    return lines + _untested(judgement, labels) + _too_few(judgement, labels)


def _of_seeds(judgement: Judgement) -> str:
    """What several seeds are judged by."""
    summaries = [one for by_metric in judgement.rows.values() for one in by_metric.values()]
    if judgement.version < POOLED or all(len(one.values) == 1 for one in summaries):
        return ""
    return "; seeds by their own spread or, if that is larger, the usual one of the column's rows"


def _untested(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """Rows that were not compared with the best of a column."""
    rows, without = judgement.rows, judgement.why_no_interval
    metrics_of: dict[str, list[str]] = {}
    for metric, best in judgement.best.items():
        tested = {best, *judgement.p.get(metric, {})}
        having = [run for run in {**rows, **without} if run in without or metric in rows[run]]
        names = ", ".join(labels.get(run, run) for run in having if run not in tested)
        if metric not in rows.get(best, {}):
            names = "every row"
        if names:
            metrics_of.setdefault(names, []).append(metric)
    return [f"Not compared with the best in {', '.join(m)}: {r}." for r, m in metrics_of.items()]


def _too_few(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """Why rows have a † although their interval and that of the best lie apart."""
    apart: dict[str, list[str]] = {}
    for metric, by_run in judgement.p.items():
        best = judgement.interval(judgement.best[metric], metric)
        for run in filter(lambda run: judgement.is_undistinguished(run, metric), by_run):
            interval = judgement.interval(run, metric)
            if best and interval and (interval[1] < best[0] or best[1] < interval[0]):
                apart.setdefault(metric, []).append(labels.get(run, run))
    if not apart:
        return []
    where = "; ".join(f"{metric} of {', '.join(runs)}" for metric, runs in apart.items())
    comparisons = sum(map(len, judgement.p.values()))
    return [
        f"† although the intervals lie apart ({where}): with so few seeds or groups these "
        f"differences do not pass Holm's correction of {comparisons} comparisons; "
        "it does not say that the rows are alike."
    ]
