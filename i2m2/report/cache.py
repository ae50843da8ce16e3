"""statistics.json: what was computed from predictions, of a run (in its folder) and of the tables
of a results folder (in that), so that tables stand where the predictions do not (reported/)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from i2m2.errors import DamagedError, DataError
from i2m2.files import Plain, write_json
from i2m2.names import PRODUCT
from i2m2.reading.records import read_record
from i2m2.report.paper import Analysis, analysis_of
from i2m2.report.significance import Judgement, Rows, agrees, best_of, judge
from i2m2.report.specs import TableSpec
from i2m2.report.studies import RunStatistics, compute, parts_of
from i2m2.report.tables import ResultRow
from i2m2.runs import RunRecord, evaluate_command, stamp
from i2m2.stats.summary import Summary

FILE = "statistics.json"
VERSION = 10  # counts up when the same predictions give other statistics

Stored = TypeVar("Stored")
Stamps = Mapping[str, Sequence[str | None]]  # by row, of each of its runs


def load(folder: Path, kind: type[Stored]) -> Stored | None:
    """What is stored in a folder, else None. DataError if unreadable."""
    path = folder / FILE
    return read_record(path, kind, "delete it, it is computed again") if path.exists() else None


def judgement_of(folder: Path, spec: TableSpec, shown: Sequence[ResultRow]) -> Judgement:
    """How sure a table is, computed from the runs' predictions and stored in statistics.json, or
    read from there where the predictions are gone (as in reported/) or have not changed."""
    rows = {row.run: row.runs for row in shown if row.runs}
    best = best_of({row.run: row.values for row in shown}, spec.metrics)
    stamps = _stamps_of(rows)
    any_predictions = any(map(any, stamps.values()))
    tables = _tables(folder, any_predictions)
    stored = _stored_judgement(tables.get(spec.name), rows)
    still_true = _still_true(stored, rows, best)
    if not any_predictions:
        return still_true
    lacking = {run: _lack(rows[run], stamps[run]) for run in rows if not all(stamps[run])}
    complete = {run: records for run, records in rows.items() if run not in lacking}
    computed_from = {run: stamps[run] for run in complete}
    computed_from |= {"metrics": spec.metrics, "best": best, "without": lacking}
    computed_from |= {"values": _values_of(complete, spec.metrics)}
    if stored and stored.computed_from == computed_from and stored.version == VERSION:
        return stored
    made = _judged(complete, spec, best, still_true)
    made.version, made.computed_from = VERSION, computed_from
    made.why_no_interval = lacking | made.why_no_interval
    for run in made.why_no_interval:
        if not any(stamps[run]) and still_true.rows.get(run):
            made.rows[run] = still_true.rows[run]
            made.why_no_interval[run] = (
                "its interval is from before its predictions went; "
                "without them it is not compared with the best"
            )
    write_json(folder / FILE, tables | {spec.name: msgspec.to_builtins(made)})
    return made


def _tables(folder: Path, can_be_computed: bool) -> Plain:
    """What is stored of the tables of a results folder; nothing where it is unreadable and can be
    computed again."""
    try:
        return load(folder, Plain) or {}
    except DataError:
        if not can_be_computed:
            raise
        return {}


def _stamps_of(rows: Rows) -> dict[str, list[str | None]]:
    return {run: [stamp(record.dir) for record in records] for run, records in rows.items()}


def _stored_judgement(table: Plain | None, rows: Rows) -> Judgement | None:
    """A damaged one says so instead of giving intervals; the other tables keep theirs."""
    try:
        return None if table is None else msgspec.convert(table, Judgement)
    except msgspec.ValidationError as error:
        why = f"no interval, since its entry in {FILE} is damaged ({error})"
        return Judgement(why_no_interval=dict.fromkeys(rows, why))


def _judged(rows: Rows, spec: TableSpec, best: Mapping[str, str], before: Judgement) -> Judgement:
    """The judgement of rows with predictions of all seeds; no intervals where they are damaged."""
    nothing = Judgement(best=dict(best), groups=before.groups, resamples=before.resamples)
    try:
        return judge(rows, spec.metrics, best, analysis_of([spec]).metrics) if rows else nothing
    except DamagedError as error:  # of a column that only some metric needs
        nothing.why_no_interval = dict.fromkeys(rows, f"no interval: {error}")
    except (KeyError, IndexError, TypeError, ValueError) as error:  # of a data set's own columns
        why = f"no interval: a row's predictions_test.npz has no usual columns ({error})"
        nothing.why_no_interval = dict.fromkeys(rows, why)
    return nothing


def _values_of(rows: Rows, metrics: Sequence[str]) -> Plain:
    """{row: {metric: what each of its runs has}}"""
    return {
        run: {metric: [record.test.get(metric) for record in records] for metric in metrics}
        for run, records in rows.items()
    }


def _lack(records: Sequence[RunRecord], stamps: Sequence[str | None]) -> str:
    seeds = [str(record.seed) for record, it in zip(records, stamps, strict=True) if it is None]
    plural = "s" * (len(seeds) > 1)
    return f"no interval, for want of predictions of seed{plural} {', '.join(seeds)}"


def _still_true(stored: Judgement | None, rows: Rows, best: dict[str, str]) -> Judgement:
    """What is stored, without the rows whose seeds or values have changed since."""
    if stored is None:
        return Judgement()
    kept: dict[str, dict[str, Summary]] = {}
    why = {run: reason for run, reason in stored.why_no_interval.items() if run in rows}
    for run, by_metric in stored.rows.items():
        if run not in rows:
            continue
        kept[run] = {m: found for m, found in by_metric.items() if agrees(found, rows[run], m)}
        if gone := [metric for metric in by_metric if metric not in kept[run]]:
            why[run] = f"no interval of {', '.join(gone)}, which {FILE} was not computed from"
    for run in rows:
        if run not in stored.rows and run not in stored.why_no_interval:
            why[run] = "no interval, for want of predictions"
    p = {}
    # Until version 2, p-values were corrected within their column.
    comparable = stored.version > 1 or len(stored.p) == 1
    for metric, by_run in stored.p.items() if comparable else ():
        first = stored.best.get(metric)
        if first == best.get(metric) and metric in kept.get(first, {}):
            p[metric] = {run: v for run, v in by_run.items() if metric in kept.get(run, {})}
    return msgspec.structs.replace(stored, rows=kept, best=best, p=p, why_no_interval=why)


class Remembered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was made of the predictions of a table's rows, and of which: `values` of each row's
    runs, what else it was made `by`, and the `stamps` of their predictions."""

    version: int
    values: Plain
    by: Plain | None = None  # None: nobody has said, as in files of before
    stamps: dict[str, list[str | None]]
    made: Any


def remembered(
    folder: Path,
    name: str,
    kind: type[Stored],
    rows: Rows,
    metrics: Sequence[str],
    by: Plain,
    make: Callable[[], Stored],
) -> Stored | None:
    """What `make` makes of the predictions of all these rows, and `by` what else, stored under a
    name in statistics.json, or read from there while nothing of that has changed but that
    predictions are gone. None where they are and nothing is stored. DataError if unreadable."""
    stamps = _stamps_of(rows)
    complete = all(all(of_row) for of_row in stamps.values())
    tables = _tables(folder, complete)
    values = _values_of(rows, metrics)
    with suppress(msgspec.ValidationError):
        stored = msgspec.convert(tables.get(name), Remembered)
        same = stored.values == values and _but_for_gone(stored.stamps, stamps)
        same = same and (stored.by == by or (stored.by is None and not complete))
        if same and (stored.version == VERSION or not complete):
            return msgspec.convert(stored.made, kind)
    if not complete:
        return None
    made = make()
    kept = Remembered(version=VERSION, values=values, by=by, stamps=stamps, made=made)
    write_json(folder / FILE, tables | {name: msgspec.to_builtins(kept)})
    return made


def _but_for_gone(before: Stamps, now: Stamps) -> bool:
    """Whether stamps are those of before, but for predictions that are gone."""
    return before.keys() == now.keys() and all(
        new in (None, old) for run in now for old, new in zip(before[run], now[run], strict=True)
    )


def run_statistics(
    folder: Path, record: RunRecord, metrics: Sequence[str], analysis: Analysis
) -> RunStatistics:
    """The statistics of one run, computed or read as in `judgement_of`. DataError if neither can
    be, or if they do not give what the run's result.json has."""

    def source_of(found: RunStatistics) -> Plain:
        """What they are computed from; where any of it has changed, they are computed again."""
        parts = parts_of(folder, record, found.calibration).items()
        stamps = {name: [stamp(part, split) for split in ("val", "test")] for name, part in parts}
        fixed = {"version": VERSION, "metrics": list(metrics), "predictions": present}
        return fixed | {"parts": stamps}

    stored, present = None, stamp(record.dir)
    with suppress(DataError):
        stored = load(record.dir, RunStatistics)
    if stored and PRODUCT not in stored.reliability:  # none of ours
        stored = None
    if present and (stored is None or stored.computed_from != source_of(stored)):
        stored = compute(folder, record, metrics, analysis)
        stored = msgspec.structs.replace(stored, computed_from=source_of(stored))
        with suppress(OSError):  # a folder that is only to be read: computed again the next time
            write_json(record.dir / FILE, msgspec.to_builtins(stored))
    if stored is None:
        raise DataError(
            f"{record.dir}: has neither predictions of the test split nor a {FILE} "
            f"that can be read; predict again by {evaluate_command(record.dir, 'test')}"
        )
    for metric, found in stored.metrics.items():
        if not agrees(found, [record], metric):
            source = "predictions do" if present else f"{FILE} does"
            raise DataError(
                f"{record.dir}: its {source} not give the {metric} of its result.json; "
                f"predict again by {evaluate_command(record.dir, 'test')}"
            )
    return stored
