"""statistics.json: what was computed from predictions, of a run (in its folder) and of the tables
of a results folder (in that), so that tables stand where the predictions do not (reported/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from i2m2.errors import DamagedError, DataError
from i2m2.files import Plain, write_json
from i2m2.names import PRODUCT
from i2m2.report.paper import Analysis, TableSpec, analysis_of
from i2m2.report.significance import Judgement, Rows, agrees, best_of, judge
from i2m2.report.studies import RunStatistics, compute, parts_of
from i2m2.report.tables import ResultRow
from i2m2.runs import RunRecord, stamp
from i2m2.stats.summary import Summary

FILE = "statistics.json"
VERSION = 6  # counts up when the same predictions give other statistics

Stored = TypeVar("Stored")


def load(folder: Path, kind: type[Stored], table: str | None = None) -> Stored | None:
    """What is stored in a folder, of one `table` if it is named; None if nothing is. DataError if
    it cannot be read."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = msgspec.json.decode(path.read_bytes(), type=Plain)
        content = content if table is None else content.get(table)
        return None if content is None else msgspec.convert(content, kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, it is computed again") from error


def judgement_of(folder: Path, spec: TableSpec, shown: Sequence[ResultRow]) -> Judgement:
    """Of a table of a results folder: from the runs' predictions, and kept in statistics.json; or
    from there, where the predictions are gone (as in reported/) or have not changed."""
    rows = {row.run: row.runs for row in shown if row.runs}
    best = best_of({row.run: row.values for row in shown}, spec.metrics)
    stamps = {run: [stamp(record.dir) for record in records] for run, records in rows.items()}
    any_predictions = any(map(any, stamps.values()))
    try:
        stored = load(folder, Judgement, spec.name) or Judgement()
    except DataError:
        if not any_predictions:
            raise
        stored = Judgement()  # computed again
    kept = _still_true(stored, rows, best)
    if not any_predictions:
        return kept
    without = {run: _lack(rows[run], stamps[run]) for run in rows if not all(stamps[run])}
    complete = {run: records for run, records in rows.items() if run not in without}
    state = {run: stamps[run] for run in complete} | _state(complete, spec.metrics, best, without)
    if stored.of == state and stored.version == VERSION:
        return stored
    made = Judgement(best=best, groups=kept.groups, resamples=kept.resamples)
    try:
        if complete:
            made = judge(complete, spec.metrics, best, analysis_of([spec]).metrics)
    except DamagedError as error:  # of a column that only some metric needs
        made.without = dict.fromkeys(complete, f"no interval: {error}")
    made.version, made.of = VERSION, state
    made.without = without | made.without
    for run in made.without.keys() & kept.rows.keys():
        if kept.rows[run] and not any(stamps[run]):
            made.rows[run] = kept.rows[run]
            made.without[run] = (
                "its interval is from before its predictions went; "
                "without them it is not compared with the best"
            )
    others = {}
    with suppress(DataError):  # what cannot be read goes
        others = load(folder, Plain) or {}
    write_json(folder / FILE, others | {spec.name: msgspec.to_builtins(made)})
    return made


def _state(
    rows: Rows, metrics: Sequence[str], best: Mapping[str, str], without: Mapping[str, str]
) -> Plain:
    """What a judgement follows from, beside the predictions."""
    values = {
        run: {metric: [record.test.get(metric) for record in records] for metric in metrics}
        for run, records in rows.items()
    }
    return {"metrics": metrics, "best": best, "without": without, "values": values}


def _lack(records: Sequence[RunRecord], stamps: Sequence[str | None]) -> str:
    seeds = [str(record.seed) for record, it in zip(records, stamps, strict=True) if it is None]
    return (
        f"no interval, for want of predictions of seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
    )


def _still_true(stored: Judgement, rows: Rows, best: dict[str, str]) -> Judgement:
    """What is stored, without the rows whose seeds or values have changed since."""
    if not stored.rows:
        return Judgement()
    kept: dict[str, dict[str, Summary]] = {}
    without = {run: why for run, why in stored.without.items() if run in rows}
    for run in [run for run in stored.rows if run in rows]:
        by_metric = stored.rows[run]
        kept[run] = {m: found for m, found in by_metric.items() if agrees(found, rows[run], m)}
        if gone := [metric for metric in by_metric if metric not in kept[run]]:
            without[run] = f"no interval of {', '.join(gone)}, which {FILE} was not computed from"
    for run in rows.keys() - stored.rows.keys() - stored.without.keys():
        without[run] = "no interval, for want of predictions"
    p = {}
    for metric, of_runs in stored.p.items():
        first = stored.best.get(metric)
        if first == best.get(metric) and metric in kept.get(first, {}):
            p[metric] = {run: v for run, v in of_runs.items() if metric in kept.get(run, {})}
    return msgspec.structs.replace(stored, rows=kept, best=best, p=p, without=without)


def run_statistics(
    folder: Path, record: RunRecord, metrics: Sequence[str], analysis: Analysis
) -> RunStatistics:
    """Of one run, as `judgement_of`. DataError if there is neither, or what there is is damaged or
    does not give what the run's result.json has."""

    def state_of(found: RunStatistics) -> Plain:
        """What they follow from; where any of it is another, they are computed again."""
        parts = parts_of(folder, record, found.calibration).items()
        stamps = {name: [stamp(part, split) for split in ("val", "test")] for name, part in parts}
        fixed = {"version": VERSION, "metrics": list(metrics), "predictions": present}
        return fixed | {"parts": stamps}

    stored, present = None, stamp(record.dir)
    with suppress(DataError):
        stored = load(record.dir, RunStatistics)
    if stored and PRODUCT not in stored.reliability:  # none of ours
        stored = None
    if present and (stored is None or stored.of != state_of(stored)):
        stored = compute(folder, record, metrics, analysis)
        stored = msgspec.structs.replace(stored, of=state_of(stored))
        with suppress(OSError):  # a folder that is only to be read: computed again the next time
            write_json(record.dir / FILE, msgspec.to_builtins(stored))
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
