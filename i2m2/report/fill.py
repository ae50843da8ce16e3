"""The tables of a results folder, filled with its finished runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS, SHARE, metric_of
from i2m2.report.cache import judgement_of
from i2m2.report.missing import left_out, missing, missing_seeds, unfinished
from i2m2.report.notes import (
    data_kind,
    data_summary,
    none_judged,
    notes,
    undefined,
    verdict,
    why_incomparable,
)
from i2m2.report.paper import Runs, analysis_of, listed_under
from i2m2.report.render import RenderedTable
from i2m2.report.significance import how_sure
from i2m2.report.specs import RowSpec, TableSpec
from i2m2.report.tables import ResultRow, ResultTable, in_percent
from i2m2.runs import Numbers, RunRecord, lookup

Specs = Mapping[str, Sequence[TableSpec]]


def specs_of(folder: str, specs: Specs, runs: Runs) -> Sequence[TableSpec]:
    """The tables of a results folder. One that no `paper.yaml` knows is a table of all its runs and
    of every metric that most of them have, the one by which they chose their best epoch first.
    DataError if there is none, SettingsError for a listed metric that nothing knows."""
    if listed := listed_under(folder, specs):
        for spec in listed:
            _refuse_unknown_metrics(spec, runs)
        return listed
    dataset = _dataset_of(folder, runs)
    runs = [run for run in runs if _own(run) in ("", dataset)]
    tests = [run.test for run in runs if run.test is not None]
    if not (metrics := _columns(tests)):
        raise DataError(
            f"{runs[0].dir.parents[1]}: its runs have no metric between 0 and 1 in common; "
            "a table needs one"
        )
    select = lookup(runs[0].config, "optim.select")
    metrics.sort(key=lambda metric: metric != select)
    rows = [RowSpec(label=name, run=name) for name in dict.fromkeys(run.name for run in runs)]
    table = {"name": folder, "title": "all runs", "metrics": metrics, "rows": rows}
    return [TableSpec(folder=folder, published=False, dataset=dataset, **table)]


def counted(folder: Path, runs: Runs, specs: Specs) -> tuple[TableSpec, list[RunRecord]]:
    """The first table of a results folder that has finished runs, and its runs, without the result
    and with the fault where one cannot stand in that. Errors as of `specs_of`."""
    spec = specs_of(folder.name, specs, [run for run in runs if run.test is not None])[0]
    return spec, [without_unfit(spec, run) for run in runs]


def _own(run: RunRecord) -> str:
    """The results folder that a run is of by its config.yaml, without the variant: `mimic-icd9_1`;
    "" where that does not say."""
    return "-".join(filter(None, (run.config.get("dataset"), run.config.get("task"))))


def _dataset_of(folder: str, runs: Runs) -> str:
    """What the runs of a folder are of: what its name says, else what most of them are."""
    counts = Counter(own for run in runs if (own := _own(run)))
    named = {own: f"{folder}-".startswith(f"{own}-") for own in counts}
    return max(counts, key=lambda own: (named[own], counts[own]), default="")


def _columns(tests: Sequence[Numbers]) -> list[str]:
    """The metrics that most of these results have, but for those without any that fits. One of
    `i2m2.metrics` that cannot be what a run says is that run's fault; a data set's own must fit."""
    tests = [test for test in tests if any(fits_table(*one) for one in test.items())]
    columns = []
    for metric in dict.fromkeys(name for test in tests for name in test):
        recorded = [test[metric] for test in tests if metric in test]
        fit = [fits_table(metric, value) for value in recorded if value is not None]
        known = metric_of(metric) is not SHARE
        if 2 * len(recorded) > len(tests) and any(fit) and (known or all(fit)):
            columns.append(metric)
    return columns


def _refuse_unknown_metrics(spec: TableSpec, runs: Runs) -> None:
    """SettingsError for a metric that neither i2m2.metrics nor the data set has, nor any run of the
    table's rows, or that is no share in most of them."""
    tests = [run.test for run in runs if run.test is not None and run.name in spec.labels]
    recorded = dict.fromkeys(name for test in tests for name in test)
    for metric in spec.metrics if recorded else ():
        values = [test[metric] for test in tests if test.get(metric) is not None]
        unfit = [value for value in values if not fits_table(metric, value)]
        if metric_of(metric) is SHARE and 2 * len(unfit) > len(values):
            raise SettingsError(
                f"paper.yaml, {spec.folder}: metrics: {metric} is {unfit[0]:g} in these runs, and "
                "a data set's own metric must be a share between 0 and 1; leave it out"
            )
        if metric in recorded or metric in METRICS:
            continue
        if metric not in analysis_of([spec]).metrics:
            raise SettingsError(
                f"paper.yaml, {spec.folder}: metrics: {metric} is no metric of these runs; "
                f"they have {', '.join(recorded)}"
            )


def fits_table(metric: str, value: object) -> bool:
    """Whether it is a number from 0 to 1, or of a metric that is no share, one from 0 up."""
    if not isinstance(value, (int, float)):
        return False
    return 0 <= value <= 1 if in_percent(metric) else value >= 0


def tables_of(
    folder: Path, runs: Runs, specs: Specs
) -> tuple[list[ResultTable], list[RenderedTable]]:
    """The tables of a results folder, and for each that has no run of its own yet what makes it."""
    listed = specs_of(folder.name, specs, runs)
    finished = {run.name for run in runs if run.test is not None}
    tables, to_begin = [], []
    for place, spec in enumerate(listed):
        only_here = spec.labels.keys() - _rows_of(listed[:place])
        if place == 0 or not only_here or finished & only_here:
            elsewhere = _rows_of(listed) - spec.labels.keys()
            tables.append(fill(spec, [run for run in runs if run.name not in elsewhere], folder))
        else:
            own = [run for run in runs if run.name in only_here]
            placed = [without_misplaced(spec, run) for run in runs]
            todo = {"None of its own runs is finished": missing(spec, placed, folder)}
            todo |= {"Not counted": left_out(spec, own)}
            to_begin.append(
                RenderedTable(title=spec.heading, about=folder.name, grids={}, todo=todo)
            )
    return tables, to_begin


def _rows_of(specs: Sequence[TableSpec]) -> set[str]:
    return {run for spec in specs for run in spec.labels}


def fill(spec: TableSpec, runs: Runs, folder: Path) -> ResultTable:
    """A table of the paper with the finished ones of the `runs` in the results folder."""
    runs = [without_unfit(spec, run) for run in runs]
    finished = [run for run in runs if run.test is not None]
    data = data_kind(spec, finished)
    incomparable = why_incomparable(spec, data, folder.name)
    rows = [_result_row(spec, row, finished) for row in spec.rows]
    lacking = missing_seeds(spec, runs)
    for row in rows:
        row.missing = lacking[row.run]
        row.verdict = verdict(spec, rows, row, incomparable)
    judgement = judgement_of(folder, spec, rows)
    baselines = [run.data.get("baseline") for run in finished]
    return ResultTable(
        spec=spec,
        about=data_summary(folder.name, data, finished),
        data=data,
        compared=() if incomparable else spec.judged_metrics,
        rows=rows,
        further=_further_rows(spec, finished),
        notes=[
            *how_sure(judgement, spec.labels),
            *undefined(spec, finished),
            *notes(spec, finished, incomparable),
            *(none_judged(rows) if spec.published and not incomparable else ()),
        ],
        todo={
            "Missing runs": missing(spec, runs, folder),
            "Unfinished runs": unfinished(spec, runs, folder),
            "Not counted": left_out(spec, runs),
        },
        faults=[run.fault for run in runs if run.fault],
        baseline=next((scores for scores in baselines if isinstance(scores, dict)), {}),
        judgement=judgement,
    )


def _further_rows(spec: TableSpec, finished: Runs) -> list[ResultRow]:
    """Finished runs that are no rows of the table, in the order of the rows they are variants of:
    `i2m2-concat-scratch` where `i2m2-concat` stands."""

    def place(name: str) -> int:
        variants = [k for k, row in enumerate(spec.labels) if name.startswith(f"{row}-")]
        return max(variants, default=len(spec.labels))

    others = {run.name for run in finished} - spec.labels.keys()
    ordered = sorted(others, key=lambda name: (place(name), name))
    return [_result_row(spec, RowSpec(label=name, run=name), finished) for name in ordered]


def _result_row(spec: TableSpec, row: RowSpec, finished: Runs) -> ResultRow:
    """A row with its finished runs. A metric recorded as null (undefined) is left out, and so is
    one that is not recorded."""
    runs = [run for run in finished if run.name == row.run]
    recorded = {metric: [run.test.get(metric) for run in runs] for metric in spec.metrics}
    values = {m: [v for v in of_runs if v is not None] for m, of_runs in recorded.items()}
    return ResultRow(label=row.label, run=row.run, paper=row.paper, runs=runs, values=values)


def without_misplaced(spec: TableSpec, run: RunRecord) -> RunRecord:
    """The run; without its result, and with the fault, if it is one of another results folder."""
    own, folder = _own(run), run.dir.parents[1].name
    at_home = f"{folder}-".startswith(f"{own}-") if spec.published else own == spec.dataset
    if run.test is not None and own and not at_home:
        fault = (
            f"{run.dir / 'config.yaml'}: a run of {own}, which is none of {folder}; "
            "move that folder back or delete it"
        )
        return replace(run, test=None, fault=fault)
    return run


def without_unfit(spec: TableSpec, run: RunRecord) -> RunRecord:
    """The run; without its result, and with the fault, if that cannot stand in the table."""
    run = without_misplaced(spec, run)
    for metric in spec.metrics if run.test is not None else ():
        value = run.test.get(metric, "absent" if metric == spec.metrics[0] else None)
        if value is not None and not fits_table(metric, value):
            needed = "a number between 0 and 1" if in_percent(metric) else "a number"
            fault = (
                f"{run.dir / 'result.json'}: test {metric} is {value}; "
                f"a table needs {needed}; delete this folder and run it again"
            )
            return replace(run, test=None, fault=fault)
    return run
