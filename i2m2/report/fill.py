"""The tables of a results folder, filled with its finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from i2m2.errors import DataError
from i2m2.report.cache import judgement_of
from i2m2.report.missing import missing, missing_seeds, unfinished
from i2m2.report.notes import about, data_kind, notes, verdicts
from i2m2.report.paper import RowSpec, TableSpec, analysis_of, listed_under
from i2m2.report.render import RenderedTable
from i2m2.report.significance import best_of, how_sure
from i2m2.report.tables import ResultRow, ResultTable, in_percent
from i2m2.runs import RunRecord

Specs = Mapping[str, Sequence[TableSpec]]


def specs_of(folder: str, specs: Specs, runs: Sequence[RunRecord]) -> Sequence[TableSpec]:
    """The tables of a results folder. One that no `paper.yaml` knows, of one's own data say, is a
    table of all its runs and of every metric that all of them have. DataError if there is none."""
    if listed := listed_under(folder, specs):
        return listed
    tests = [run.test for run in runs if run.test is not None]
    metrics = [m for m in tests[0] if all(fits_table(m, test.get(m)) for test in tests)]
    if not metrics:
        raise DataError(
            f"{runs[0].dir.parents[1]}: its runs have no metric between 0 and 1 in common; "
            "a table needs one"
        )
    names = dict.fromkeys(run.name for run in runs)
    rows = [RowSpec(label=name, run=name) for name in names]
    table = {"name": folder, "title": "all runs", "metrics": metrics, "rows": rows}
    return [TableSpec(folder=folder, published=False, **table)]


def fits_table(metric: str, value: object) -> bool:
    """Whether a value can stand in a table: of a share a number from 0 to 1, else one from 0 up."""
    if not isinstance(value, (int, float)):
        return False
    return 0 <= value <= 1 if in_percent(metric) else value >= 0


def tables_of(
    folder: Path, runs: Sequence[RunRecord], specs: Specs
) -> tuple[list[ResultTable], list[RenderedTable]]:
    """The tables of a results folder, and for each that has no run of its own yet what makes it."""
    listed = specs_of(folder.name, specs, runs)
    tables, to_begin = [], []
    for place, spec in enumerate(listed):
        if place == 0 or _is_begun(spec, listed[:place], runs):
            tables.append(fill(spec, runs, folder, beside=listed))
            continue
        make = missing(spec, runs, folder)
        todo = {"None of its own runs is finished": make}
        title = f"{spec.name}: {spec.title}"
        to_begin.append(RenderedTable(title=title, about=folder.name, grids={}, todo=todo))
    return tables, to_begin


def _is_begun(spec: TableSpec, before: Sequence[TableSpec], runs: Sequence[RunRecord]) -> bool:
    """Whether a row is finished that no table before has, or there is no such row."""
    elsewhere = {run for other in before for run in other.run_names}
    own = set(spec.run_names) - elsewhere
    return not own or any(run.name in own for run in runs if run.test is not None)


def fill(
    spec: TableSpec,
    runs: Sequence[RunRecord],
    folder: Path,
    beside: Sequence[TableSpec] = (),
) -> ResultTable:
    """The table `spec` of the paper, filled with the finished runs of `folder`; those of the tables
    `beside` it stand there."""
    names = spec.run_names
    elsewhere = {run for other in beside for run in other.run_names} - set(names)
    runs = [run for run in runs if run.name not in elsewhere]
    finished = [run for run in runs if run.test is not None]
    data = data_kind(spec, finished)
    comparable = data == "real" and folder.name == spec.folder
    values = {name: values_of(finished, name, spec.metrics) for name in names}
    verdict_of = verdicts(spec, values, data, finished, folder.name)
    lacking = missing_seeds(spec, runs)
    rows = [
        ResultRow(
            label=row.label,
            run=row.run,
            values=values[row.run],
            paper=row.paper,
            verdict=verdict_of[row.run],
            missing=lacking[row.run],
        )
        for row in spec.rows
    ]
    by_row = {name: [run for run in finished if run.name == name] for name in names}
    by_row = {name: of_row for name, of_row in by_row.items() if of_row}
    best = best_of({name: values[name] for name in by_row}, spec.metrics)
    custom = analysis_of([spec]).metrics
    judgement = judgement_of(folder, spec.name, by_row, spec.metrics, best, custom)
    baselines = [run.data.get("baseline") for run in finished]
    return ResultTable(
        title=f"{spec.name}: {spec.title}",
        about=about(folder.name, data, finished),
        metrics=spec.metrics,
        drawn=spec.drawn,
        data=data,
        compared=spec.judged_metrics if comparable else (),
        judged=spec.published,
        rows=rows,
        further=_further_rows(spec, finished),
        notes=[*how_sure(judgement, spec.labels), *notes(spec, finished, data, folder.name)],
        todo={
            "Missing runs": missing(spec, runs, folder),
            "Unfinished runs": unfinished(spec, runs, folder),
        },
        best=spec.best if comparable else None,
        baseline=next((scores for scores in baselines if isinstance(scores, dict)), {}),
        judgement=judgement,
    )


def _further_rows(spec: TableSpec, finished: Sequence[RunRecord]) -> list[ResultRow]:
    """Finished runs that are no rows of the table, in the order of the rows they are variants of:
    `i2m2-concat-scratch` where `i2m2-concat` stands."""
    rows = spec.run_names

    def place(name: str) -> int:
        variants = [k for k, row in enumerate(rows) if name.startswith(f"{row}-")]
        return max(variants, default=len(rows))

    others = {run.name for run in finished} - set(rows)
    ordered = sorted(others, key=lambda name: (place(name), name))
    return [
        ResultRow(label=name, run=name, values=values_of(finished, name, spec.metrics))
        for name in ordered
    ]


def values_of(
    finished: Sequence[RunRecord], name: str, metrics: Sequence[str]
) -> dict[str, list[float]]:
    """Metric -> one fraction per finished seed of the run `name`; a metric recorded as null
    (undefined) is left out, and so is one that is not recorded, but for the first. DataError for
    what cannot stand in a table."""
    values: dict[str, list[float]] = {metric: [] for metric in metrics}
    for run in finished:
        for metric in metrics if run.name == name else ():
            value = run.test.get(metric, "absent" if metric == metrics[0] else None)
            if value is None:
                continue
            if not fits_table(metric, value):
                needed = "a number between 0 and 1" if in_percent(metric) else "a number"
                raise DataError(
                    f"{run.dir / 'result.json'}: test {metric} is {value}; "
                    f"a table needs {needed}; delete this folder and run it again"
                )
            values[metric].append(value)
    return values
