"""How sure a table's numbers are: an interval for every row, and which rows cannot be told from the
best of a column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from i2m2.errors import DamagedError, DataError, SettingsError
from i2m2.files import finite, write_json
from i2m2.metrics import metric_of
from i2m2.report.estimates import CustomMetric, resample, summary
from i2m2.runs import RunRecord, require_predictions
from i2m2.stats.paired_tests import holm
from i2m2.stats.predictions import Predictions, refuse_other_examples, same_examples
from i2m2.stats.resampling import RESAMPLES

FILE = "statistics.json"
# Of what is stored. Until 3 a p-value of one seed was 1 / RESAMPLES at least; what has no
# predictions keeps it
VERSION = 3
WITHIN_COLUMN = 1  # in this one, p-values were corrected within their column

Rows = Mapping[str, Sequence[RunRecord]]  # run name -> its finished seeds


def best_of(
    values: Mapping[str, Mapping[str, Sequence[float]]], metrics: Sequence[str]
) -> dict[str, str]:
    """{metric: the row with the best mean}, of {row: {metric: one value per seed}}; not for the
    entropy, of which neither more nor less is better, and not where fewer than two rows have the
    metric."""
    found = {}
    for metric in metrics:
        sign = -1 if metric_of(metric).lower_is_better else 1
        means = {
            run: sign * fmean(by_metric[metric])
            for run, by_metric in values.items()
            if by_metric.get(metric)
        }
        if len(means) > 1 and metric_of(metric).ranks:
            found[metric] = max(means, key=means.get)
    return found


def statistics_for(
    folder: Path,
    name: str,
    rows: Rows,
    metrics: Sequence[str],
    best: Mapping[str, str],
    own: Mapping[str, CustomMetric] | None = None,
) -> dict[str, Any]:
    """Statistics of the table `name` of a results folder: from the runs' predictions, and kept in
    statistics.json; or from there, where the predictions are gone (as in reported/) or have not
    changed. `best`: see `best_of`; `own`: see `statistics.CustomMetric`.

    -> {"rows": {run: {metric: `statistics.summary`}}, "best": {metric: run}, "p": {metric: {run:
    corrected p}}, "without": {run: why it has no interval}}; {} without any. All of them are of the
    seeds and the values that the table shows.
    """
    stored = _read_or_none(folder, rows).get(name)
    stored = stored if isinstance(stored, dict) and {"rows", "p", "best"} <= stored.keys() else {}
    kept = _still_true(stored, rows, best)
    there = {
        run: [record for record in records if (record.dir / "predictions_test.npz").exists()]
        for run, records in rows.items()
    }
    if not any(there.values()):
        return kept
    without = {
        run: _lack(there[run], records)
        for run, records in rows.items()
        if len(there[run]) < len(records)
    }
    there = {run: records for run, records in there.items() if run not in without}
    state = {run: [stamp(record.dir) for record in records] for run, records in there.items()}
    values = {
        run: {metric: [r.test.get(metric) for r in records] for metric in metrics}
        for run, records in there.items()
    }
    state |= {"metrics": list(metrics), "best": dict(best), "without": without, "values": values}
    if stored.get("of") == finite(state) and stored.get("version") == VERSION:
        return stored
    made = {
        "version": VERSION,
        "of": state,
        "best": dict(best),
        "rows": {},
        "p": {},
        "without": dict(without),
    }
    try:
        found = (
            judge(there, metrics, best, own)
            if there
            else {key: kept.get(key) for key in ("groups", "resamples")}
        )
    except DamagedError as error:  # of a column that only some metric needs
        found = {key: kept.get(key) for key in ("groups", "resamples")} | {
            "without": dict.fromkeys(there, f"no interval: {error}")
        }
    made |= found | {"without": without | found.get("without", {})}
    for run in without.keys() & kept.get("rows", {}).keys():
        if kept["rows"][run] and not any(map(stamp, (record.dir for record in rows[run]))):
            made["rows"][run] = kept["rows"][run]
            made["without"][run] = (
                "its interval is from before its predictions went; without them it is not compared with the best"
            )
    store(folder, {name: made})
    return made


def _lack(there: Sequence[RunRecord], records: Sequence[RunRecord]) -> str:
    missing = [str(record.seed) for record in records if record not in there]
    return f"no interval, for want of predictions of seed{'s' * (len(missing) > 1)} {', '.join(missing)}"


def _still_true(stored: Mapping[str, Any], rows: Rows, best: Mapping[str, str]) -> dict[str, Any]:
    """What is stored, without the rows whose seeds or values have changed since."""
    if not stored:
        return {}
    kept, without = {}, {}
    for run, by_metric in stored["rows"].items():
        if run in rows:
            kept[run] = {
                metric: found
                for metric, found in by_metric.items()
                if same(found["values"], rows[run], metric)
            }
            if gone := [metric for metric in by_metric if metric not in kept[run]]:
                without[run] = (
                    f"no interval of {', '.join(gone)}, which {FILE} was not computed from"
                )
    p = {}
    comparable = stored.get("version", WITHIN_COLUMN) > WITHIN_COLUMN or len(stored["p"]) == 1
    for metric, of in stored["p"].items() if comparable else ():
        first = stored["best"].get(metric)
        if first == best.get(metric) and metric in kept.get(first, {}):
            p[metric] = {run: value for run, value in of.items() if metric in kept.get(run, {})}
    for run in rows.keys() - stored["rows"].keys() - stored.get("without", {}).keys():
        without[run] = "no interval, for want of predictions"
    without = {
        run: why for run, why in (stored.get("without", {}) | without).items() if run in rows
    }
    return {**stored, "rows": kept, "best": dict(best), "p": p, "without": without}


def same(values: Sequence[float | None], records: Sequence[RunRecord], metric: str) -> bool:
    """Whether values from predictions are those of result.json, but for rounding."""
    there = [record.test.get(metric) for record in records]
    return len(there) == len(values) and all(
        a == b or (a is not None and b is not None and abs(a - b) <= 1e-4 * max(1, abs(b)))
        for a, b in zip(values, there, strict=True)
    )


def judge(
    rows: Rows,
    metrics: Sequence[str],
    best: Mapping[str, str],
    own: Mapping[str, CustomMetric] | None = None,
) -> dict[str, Any]:
    """The same, computed. Metrics that neither `i2m2.metrics` nor `own` has are left out. Every row
    is compared with the best of each column over the seeds that both have; all these comparisons
    are one family for Holm's correction."""
    predictions, unlike = read_alike(rows)
    if not predictions:
        return {"rows": {}, "p": {}, "without": unlike, "groups": 0, "resamples": RESAMPLES}
    rows = {run: records for run, records in rows.items() if run not in unlike}
    groups = len(np.unique(next(iter(predictions.values()))["group"]))
    place = {
        run: {seed: k for k, (name, seed) in enumerate(predictions) if name == run} for run in rows
    }
    shared = {
        run: share_members([record.product_of for record in records])
        for run, records in rows.items()
    }
    found: dict[str, dict] = {run: {} for run in rows}
    wrong: dict[str, list[str]] = {}  # metrics that predictions do not give as result.json has them
    p: dict[tuple[str, str], float] = {}
    for metric in metrics:
        try:
            values, drawn = resample(list(predictions.values()), [metric], own)[metric]
        except DamagedError:
            raise
        except (SettingsError, DataError):
            continue
        told = [
            run for run, records in rows.items() if any(metric in record.test for record in records)
        ]
        for run in told:
            k = list(place[run].values())
            found[run][metric] = summary(metric, values[k], drawn[:, k], groups, shared=shared[run])
            if not same(found[run][metric]["values"], rows[run], metric):
                wrong.setdefault(run, []).append(metric)
        first = best.get(metric)
        for run in (run for run in told if first in told and run != first):
            if seeds := sorted(set(place[run]) & set(place[first])):
                a, b = ([place[name][seed] for seed in seeds] for name in (first, run))
                differing = (values[a] - values[b], drawn[:, a] - drawn[:, b])
                value = summary(
                    metric, *differing, groups, difference=True, shared=shared[run] or shared[first]
                )["p"]
                p[metric, run] = np.nan if value is None else value
    corrected: dict[str, dict[str, float]] = {}
    for (metric, run), value in zip(p, holm(list(p.values())) if p else [], strict=True):
        if np.isfinite(value) and metric not in wrong.get(run, []) + wrong.get(best[metric], []):
            corrected.setdefault(metric, {})[run] = float(value)
    kept = {
        run: {m: one for m, one in by_metric.items() if m not in wrong.get(run, [])}
        for run, by_metric in found.items()
    }
    without = {
        run: f"no interval of {', '.join(names)}, since its predictions do not give what its result.json has"
        for run, names in wrong.items()
    }
    return {
        "rows": kept,
        "p": corrected,
        "without": unlike | without,
        "groups": groups,
        "resamples": RESAMPLES,
    }


def read_alike(rows: Rows) -> tuple[dict[tuple[str, int], Predictions], dict[str, str]]:
    """-> {(row, seed): its predictions of the test split}, {row: why it is not among them}:
    damaged, or not of the examples that most rows predicted."""
    predictions: dict[str, dict[int, Predictions]] = {}
    left_out: dict[str, str] = {}
    kinds: list[list[str]] = []  # rows of the same examples
    for run, records in rows.items():
        try:
            predictions[run] = {
                record.seed: require_predictions(record.dir, "test") for record in records
            }
            refuse_other_examples(
                {f"{run}/seed{seed}": one for seed, one in predictions[run].items()}
            )
        except DataError as error:
            left_out[run] = f"no interval: {error}"
            continue
        first = next(iter(predictions[run].values()))
        alike = (
            kind
            for kind in kinds
            if same_examples(first, next(iter(predictions[kind[0]].values())))
        )
        if (kind := next(alike, None)) is None:
            kinds.append(kind := [])
        kind.append(run)
    most = max(kinds, key=len, default=[])
    left_out |= {
        run: f"no interval: it predicted other examples than {most[0]}, or in another order"
        for kind in kinds
        for run in kind
        if kind is not most
    }
    return {(run, seed): one for run in most for seed, one in predictions[run].items()}, left_out


def share_members(products: Sequence[Sequence[str]]) -> bool:
    """Whether the seeds of a product of separately trained runs, each given by the folders of
    these, have any in common."""
    members = [member for product in products for member in product]
    return len(set(members)) < len(members) and len(products) > 1


def read_stored(folder: Path) -> dict[str, Any]:
    """statistics.json of a results folder; {} if there is none."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete it, it is computed again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged (it holds no mapping); delete it, it is computed again")
    return content


def _read_or_none(folder: Path, rows: Rows) -> dict[str, Any]:
    """The same; {} too for a damaged one where there are predictions to compute it from again."""
    try:
        return read_stored(folder)
    except DataError:
        if any(stamp(record.dir) for records in rows.values() for record in records):
            return {}
        raise


def store(folder: Path, made: Mapping[str, Any]) -> None:
    """Add to statistics.json; what cannot be read of it goes."""
    try:
        stored = read_stored(folder)
    except DataError:
        stored = {}
    write_json(folder / FILE, stored | finite(made))


def stamp(run: Path, split: str = "test") -> str | None:
    """Seed, size and time of a run's predictions; None where there are none."""
    path = run / f"predictions_{split}.npz"
    if not path.exists():
        return None
    status = path.stat()
    return f"{run.name} {status.st_size} {status.st_mtime_ns}"
