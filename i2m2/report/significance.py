"""How sure a table's numbers are: an interval for every row, and which rows cannot be told from the
best of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec
import numpy as np

from i2m2.errors import DamagedError, DataError, SettingsError
from i2m2.metrics import metric_of
from i2m2.runs import RunRecord, require_predictions
from i2m2.stats.paired_tests import holm
from i2m2.stats.predictions import Predictions, refuse_other_examples, same_examples
from i2m2.stats.resampling import RESAMPLES
from i2m2.stats.summary import CustomMetrics, Summary, resample, summarise

Rows = Mapping[str, Sequence[RunRecord]]  # run name -> its finished seeds
ALPHA = 0.05  # above it, a corrected p leaves a row undistinguished from the best


class Judgement(msgspec.Struct, kw_only=True):
    """Of a table: {run: {metric: summary}}, the best row of each metric, {metric: {run: corrected p
    of its difference from the best}}, and why runs have no interval. All of it is of the seeds and
    values that the table shows; `of` is what it follows from."""

    version: int = 1  # of what is stored, see `i2m2.report.cache`
    of: dict[str, Any] = {}
    best: dict[str, str] = {}
    rows: dict[str, dict[str, Summary]] = {}
    p: dict[str, dict[str, float]] = {}
    without: dict[str, str] = {}
    groups: int | None = None
    resamples: int | None = None

    def interval(self, run: str, metric: str) -> tuple[float, float] | None:
        """As fractions; None where there is none."""
        found = self.rows.get(run, {}).get(metric)
        return (found.low, found.high) if found and found.low is not None else None

    def is_undistinguished(self, run: str, metric: str) -> bool:
        """From the best of the column."""
        p = self.p.get(metric, {}).get(run)
        return p is not None and p >= ALPHA


def best_of(
    values: Mapping[str, Mapping[str, Sequence[float]]], metrics: Sequence[str]
) -> dict[str, str]:
    """{metric: the row with the best mean}, of {row: {metric: one value per seed}}; not for the
    entropy, of which neither more nor less is better, and not where fewer than two rows have the
    metric."""
    best = {}
    for metric in metrics:
        sign = -1 if metric_of(metric).lower_is_better else 1
        rows = {run: of[metric] for run, of in values.items() if of.get(metric)}
        means = {run: sign * fmean(seeds) for run, seeds in rows.items()}
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
    rows: Rows,
    metrics: Sequence[str],
    best: Mapping[str, str],
    custom: CustomMetrics | None = None,
) -> Judgement:
    """The judgement, computed. Metrics that neither `i2m2.metrics` nor `custom` has are left out.
    Every row is compared with the best of each column over the seeds that both have; all these
    comparisons are one family for Holm's correction."""
    predictions, unlike = read_alike(rows)
    made = Judgement(without=unlike, groups=0, resamples=RESAMPLES)
    if not predictions:
        return made
    rows = {run: records for run, records in rows.items() if run not in unlike}
    made.groups = len(np.unique(next(iter(predictions.values()))["group"]))
    made.rows = {run: {} for run in rows}
    disagreeing: dict[str, list[str]] = {}
    p: dict[tuple[str, str], float] = {}
    column = _Column(rows, list(predictions), made.groups)
    for metric in metrics:
        try:
            values, resampled = resample(list(predictions.values()), [metric], custom)[metric]
        except DamagedError:
            raise
        except (SettingsError, DataError):
            continue
        for run, summary in column.summaries(metric, values, resampled).items():
            if agrees(summary, rows[run], metric):
                made.rows[run][metric] = summary
            else:
                disagreeing.setdefault(run, []).append(metric)
        p |= column.p_of_differences(metric, best.get(metric), values, resampled)
    corrected = holm(list(p.values())) if p else []
    for (metric, run), value in zip(p, corrected, strict=True):
        if np.isfinite(value) and all(metric in made.rows[r] for r in (run, best[metric])):
            made.p.setdefault(metric, {})[run] = float(value)
    for run, names in disagreeing.items():
        made.without[run] = (
            f"no interval of {', '.join(names)}, "
            "since its predictions do not give what its result.json has"
        )
    return made


class _Column:
    """The columns of a table, of which every metric has one value per seed of every row."""

    def __init__(self, rows: Rows, seeds: Sequence[tuple[str, int]], groups: int) -> None:
        self.rows, self.groups = rows, groups
        self.places: dict[str, dict[int, int]] = {run: {} for run in rows}
        for place, (run, seed) in enumerate(seeds):
            self.places[run][seed] = place
        self.shared = {
            run: share_members([record.product_of for record in records])
            for run, records in rows.items()
        }

    def _recorded(self, metric: str) -> list[str]:
        return [run for run, of in self.rows.items() if any(metric in r.test for r in of)]

    def summaries(
        self, metric: str, values: np.ndarray, resampled: np.ndarray
    ) -> dict[str, Summary]:
        summaries = {}
        for run in self._recorded(metric):
            seeds, shared = list(self.places[run].values()), self.shared[run]
            of_run = (values[seeds], resampled[:, seeds])
            summaries[run] = summarise(metric, *of_run, self.groups, shared=shared)
        return summaries

    def p_of_differences(
        self, metric: str, best: str | None, values: np.ndarray, resampled: np.ndarray
    ) -> dict[tuple[str, str], float]:
        """{(metric, run): p of its difference from the row `best`}, NaN where there is none."""
        recorded = self._recorded(metric)
        if best not in recorded:
            return {}
        p = {}
        for run in recorded:
            common = sorted(self.places[run].keys() & self.places[best].keys())
            if run == best or not common:
                continue
            a, b = ([self.places[name][seed] for seed in common] for name in (best, run))
            differing = (values[a] - values[b], resampled[:, a] - resampled[:, b])
            shared = self.shared[run] or self.shared[best]
            found = summarise(metric, *differing, self.groups, difference=True, shared=shared)
            p[metric, run] = np.nan if found.p is None else found.p
        return p


def read_alike(rows: Rows) -> tuple[dict[tuple[str, int], Predictions], dict[str, str]]:
    """-> {(row, seed): its predictions of the test split}, {row: why it is not among them}:
    damaged, or not of the examples that most rows predicted."""
    predictions: dict[str, dict[int, Predictions]] = {}
    left_out: dict[str, str] = {}
    alike: list[list[str]] = []  # rows of the same examples
    for run, records in rows.items():
        try:
            of_run = {record.seed: require_predictions(record.dir, "test") for record in records}
            refuse_other_examples({f"{run}/seed{seed}": one for seed, one in of_run.items()})
        except DataError as error:
            left_out[run] = f"no interval: {error}"
            continue
        predictions[run] = of_run
        for members in alike:
            if same_examples(_first(of_run), _first(predictions[members[0]])):
                members.append(run)
                break
        else:
            alike.append([run])
    most = max(alike, key=len, default=[])
    for members in alike:
        if members is not most:
            why = f"no interval: it predicted other examples than {most[0]}, or in another order"
            left_out |= dict.fromkeys(members, why)
    return {(run, seed): one for run in most for seed, one in predictions[run].items()}, left_out


def _first(of_run: Mapping[int, Predictions]) -> Predictions:
    return next(iter(of_run.values()))


def share_members(products: Sequence[Sequence[str]]) -> bool:
    """Whether the seeds of a product of separately trained runs, each given by the folders of
    these, have any in common: they are not independent then."""
    members = [member for product in products for member in product]
    return len(set(members)) < len(members) and len(products) > 1


def how_sure(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """What intervals, bold numbers and marks rest on, and which rows have none; `labels`: of the
    table's runs."""
    lines = [f"{labels.get(run, run)}: {why}." for run, why in judgement.without.items()]
    rows = [summaries for summaries in judgement.rows.values() if summaries]
    if not rows:
        return lines
    rules = dict.fromkeys(next(iter(summaries.values())).rule for summaries in rows)
    lines.append(
        f"Interval: {'; '.join(rules)}; {judgement.resamples:,} resamples of "
        f"{judgement.groups:,} groups of examples."
    )
    if judgement.best:
        lines.append(
            "Bold: the best of a column; †: not distinguishable from it (paired difference over "
            f"the same resamples, p at least {ALPHA} after Holm's correction within the table)."
        )
    return lines + _untested(judgement, labels) + _too_few(judgement, labels)


def _untested(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """Rows that were not compared with the best of a column."""
    metrics_of: dict[str, list[str]] = {}
    for metric, best in judgement.best.items():
        others = [run for run in (*judgement.rows, *judgement.without) if run != best]
        others = [
            run
            for run in dict.fromkeys(others)
            if metric in judgement.rows.get(run, {}) or run in judgement.without
        ]
        alone = [run for run in others if run not in judgement.p.get(metric, {})]
        if metric not in judgement.rows.get(best, {}):
            metrics_of.setdefault("every row", []).append(metric)
        elif alone:
            names = ", ".join(labels.get(run, run) for run in alone)
            metrics_of.setdefault(names, []).append(metric)
    return [
        f"Not compared with the best in {', '.join(metrics)}: {rows}."
        for rows, metrics in metrics_of.items()
    ]


def _too_few(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """Of rows with a † although their interval and that of the best have nothing in common: why."""
    apart: dict[str, list[str]] = {}
    for metric, by_run in judgement.p.items():
        best = judgement.interval(judgement.best[metric], metric)
        for run in by_run:
            interval = judgement.interval(run, metric)
            if not judgement.is_undistinguished(run, metric) or None in (best, interval):
                continue
            if interval[1] < best[0] or best[1] < interval[0]:
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
