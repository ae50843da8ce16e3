"""statistics.json: what was computed from predictions, of a run (in its folder) and of the tables
of a results folder (in that), so that tables stand where the predictions do not (reported/)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from i2m2.errors import DamagedError, DataError
from i2m2.files import write_json
from i2m2.names import PRODUCT
from i2m2.report.paper import Analysis
from i2m2.report.significance import Judgement, Rows, agrees, judge
from i2m2.report.studies import RunStatistics, compute, parts_of
from i2m2.runs import RunRecord, stamp
from i2m2.stats.summary import CustomMetrics, Summary

FILE = "statistics.json"
VERSION = 6  # counts up when the same predictions give other statistics

Stored = TypeVar("Stored", bound=msgspec.Struct)


def load(folder: Path, kind: type[Stored], key: str | None = None) -> Stored | None:
    """What is stored of a run, or under `key` of a results folder; None if nothing is. DataError if
    it cannot be read."""
    content = _read(folder)
    if key is not None:
        content = content.get(key)
    if not content:
        return None
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        where = f"{folder / FILE}, {key}" if key else f"{folder / FILE}"
        raise DataError(f"{where} is damaged ({error}); delete it, it is computed again") from error


def store(folder: Path, made: Mapping[str, Any] | msgspec.Struct) -> None:
    """Write the statistics of a run, or add those of tables; what cannot be read of others goes."""
    if isinstance(made, msgspec.Struct):
        return write_json(folder / FILE, msgspec.to_builtins(made))
    try:
        others = _read(folder)
    except DataError:
        others = {}
    write_json(folder / FILE, others | msgspec.to_builtins(dict(made)))


def _read(folder: Path) -> dict[str, Any]:
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


def judgement_of(
    folder: Path,
    table: str,
    rows: Rows,
    metrics: Sequence[str],
    best: Mapping[str, str],
    custom: CustomMetrics | None = None,
) -> Judgement:
    """Of a table of a results folder: from the runs' predictions, and kept in statistics.json; or
    from there, where the predictions are gone (as in reported/) or have not changed. `best`: see
    `best_of`."""
    stored = _stored_judgement(folder, table, rows)
    kept = _still_true(stored, rows, best)
    present = {run: [r for r in records if stamp(r.dir)] for run, records in rows.items()}
    if not any(present.values()):
        return kept
    incomplete = {run for run, records in rows.items() if len(present[run]) < len(records)}
    without = {
        run: _lack(present[run], records) for run, records in rows.items() if run in incomplete
    }
    complete = {run: records for run, records in rows.items() if run not in incomplete}
    state = _state_of_table(complete, metrics, best, without)
    if stored.of == state and stored.version == VERSION:
        return stored
    made = Judgement(groups=kept.groups, resamples=kept.resamples)
    try:
        if complete:
            made = judge(complete, metrics, best, custom)
    except DamagedError as error:  # of a column that only some metric needs
        made.without = dict.fromkeys(complete, f"no interval: {error}")
    made.version, made.of, made.best = VERSION, state, dict(best)
    made.without = without | made.without
    for run in made.without.keys() & kept.rows.keys():
        if kept.rows[run] and not any(stamp(record.dir) for record in rows[run]):
            made.rows[run] = kept.rows[run]
            made.without[run] = (
                "its interval is from before its predictions went; "
                "without them it is not compared with the best"
            )
    store(folder, {table: made})
    return made


def _state_of_table(
    rows: Rows, metrics: Sequence[str], best: Mapping[str, str], without: Mapping[str, str]
) -> dict[str, Any]:
    """What a judgement follows from."""
    values = {
        run: {metric: [record.test.get(metric) for record in records] for metric in metrics}
        for run, records in rows.items()
    }
    stamps = {run: [stamp(record.dir) for record in records] for run, records in rows.items()}
    more = {"metrics": list(metrics), "best": dict(best), "without": dict(without)}
    return msgspec.to_builtins(stamps | more | {"values": values})


def _lack(present: Sequence[RunRecord], records: Sequence[RunRecord]) -> str:
    missing = [str(record.seed) for record in records if record not in present]
    seeds = f"seed{'s' * (len(missing) > 1)} {', '.join(missing)}"
    return f"no interval, for want of predictions of {seeds}"


def _stored_judgement(folder: Path, table: str, rows: Rows) -> Judgement:
    """What statistics.json holds of a table; nothing too where it is damaged and there are
    predictions to compute it from again."""
    try:
        return load(folder, Judgement, table) or Judgement()
    except DataError:
        if any(stamp(record.dir) for records in rows.values() for record in records):
            return Judgement()
        raise


def _still_true(stored: Judgement, rows: Rows, best: Mapping[str, str]) -> Judgement:
    """What is stored, without the rows whose seeds or values have changed since."""
    if not stored.rows:
        return Judgement()
    kept: dict[str, dict[str, Summary]] = {}
    without = {run: why for run, why in stored.without.items() if run in rows}
    for run, by_metric in stored.rows.items():
        if run not in rows:
            continue
        kept[run] = {m: found for m, found in by_metric.items() if agrees(found, rows[run], m)}
        if gone := [metric for metric in by_metric if metric not in kept[run]]:
            without[run] = f"no interval of {', '.join(gone)}, which {FILE} was not computed from"
    for run in rows.keys() - stored.rows.keys() - stored.without.keys():
        without[run] = "no interval, for want of predictions"
    p = {}
    # Until version 2, p-values were corrected within their column.
    comparable = stored.version > 1 or len(stored.p) == 1
    for metric, of_runs in stored.p.items() if comparable else ():
        first = stored.best.get(metric)
        if first == best.get(metric) and metric in kept.get(first, {}):
            p[metric] = {run: v for run, v in of_runs.items() if metric in kept.get(run, {})}
    return msgspec.structs.replace(stored, rows=kept, best=dict(best), p=p, without=without)


def run_statistics(
    folder: Path, record: RunRecord, metrics: Sequence[str], analysis: Analysis
) -> RunStatistics:
    """Of one run: from its predictions, and kept in its statistics.json; or from there, where they
    are gone or have not changed.

    DataError if neither is there, or what is there is damaged or does not give what the run's
    result.json has.
    """
    stored, present = _stored_run(record.dir), stamp(record.dir) is not None
    if present and (stored is None or stored.of != _state_of_run(folder, record, metrics, stored)):
        stored = compute(folder, record, metrics, analysis)
        stored = msgspec.structs.replace(stored, of=_state_of_run(folder, record, metrics, stored))
        with suppress(OSError):  # a folder that is only to be read: computed again the next time
            store(record.dir, stored)
    if stored is None:
        raise DataError(
            f"{record.dir}: has neither predictions of the test split nor a {FILE} "
            "that can be read; predict again (evaluate)"
        )
    for metric, found in stored.metrics.items():
        if not agrees(found, [record], metric):
            source = "predictions do" if present else f"{FILE} does"
            raise DataError(
                f"{record.dir}: its {source} not give the {metric} of its result.json; "
                "predict again (evaluate --again)"
            )
    return stored


def _stored_run(run: Path) -> RunStatistics | None:
    """What statistics.json of a run holds; None if there is none, or none of ours."""
    try:
        stored = load(run, RunStatistics)
    except DataError:
        return None
    return stored if stored and PRODUCT in stored.reliability else None


def _state_of_run(
    folder: Path, record: RunRecord, metrics: Sequence[str], found: RunStatistics
) -> dict[str, Any]:
    """What the statistics of a run follow from; where any of it is another, they are computed
    again."""
    parts = parts_of(folder, record, found.calibration)
    return {
        "version": VERSION,
        "metrics": list(metrics),
        "predictions": stamp(record.dir),
        "parts": {name: [stamp(part, s) for s in ("val", "test")] for name, part in parts.items()},
    }
