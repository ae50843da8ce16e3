"""`python -m i2m2.results results [--dataset avmnist]`: tables and figures of the finished runs,
the paper beside them.

What a table looks like is read from the `paper.yaml` of each data-set folder; nothing here knows a
data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import write_atomic, write_text
from i2m2.report.figures import draw, draw_reliability
from i2m2.report.missing import command, missing, missing_seeds, unfinished
from i2m2.report.notes import about, data_kind, how_sure, judged_metrics, notes, verdicts
from i2m2.report.page import Part, to_page
from i2m2.report.render import Sheet, from_json, sheet_to_csv, slug, to_latex, to_markdown
from i2m2.report.significance import best_of, statistics_for
from i2m2.report.studies import studies_of
from i2m2.report.study_tables import STUDIES, diagrams_of, diagrams_sheet, sheets_of
from i2m2.report.tables import (
    CustomStatistics,
    Entry,
    Line,
    Row,
    Table,
    custom_statistics_of,
    in_percent,
    listed_under,
    read_entries,
    sheet_of,
    to_csv,
)
from i2m2.runs import RunRecord, collect, lookup, run_folders

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "I2M2: does this data need inter-modality modelling, intra-modality modelling, or both?"
INTRODUCTION = (
    "Made by `python -m i2m2.results` from the runs' saved predictions. Tables and figures bear the paper's names for them "
    "(Madaan et al., NeurIPS 2024); what each rests on (data, seeds, budget, code) stands below it.",
)


def entries_of(folder: str, entries: dict[str, list[Entry]], runs: list[RunRecord]) -> list[Entry]:
    """The tables of a results folder. One that no `paper.yaml` knows, of one's own data say, is a
    table of all its runs and of every metric that is a fraction."""
    if listed := listed_under(folder, entries):
        return listed
    tests = [run.test for run in runs if run.test is not None]
    metrics = [
        metric
        for metric in tests[0]
        if all(
            fits(test.get(metric))
            for fits in [is_fraction if in_percent(metric) else is_number]
            for test in tests
        )
    ]
    if not metrics:
        raise DataError(
            f"{runs[0].dir.parents[1]}: its runs have no metric between 0 and 1 in common; a table needs one"
        )
    rows = [Row(label=name, run=name, paper={}) for name in dict.fromkeys(run.name for run in runs)]
    return [
        Entry(
            folder=folder,
            name=folder,
            title="all runs",
            metrics=metrics,
            rows=rows,
            published=False,
            defaults={},
        )
    ]


def is_fraction(value: Any) -> bool:
    """Whether a metric can stand in a table in percent: a number from 0 to 1."""
    return isinstance(value, (int, float)) and 0 <= value <= 1


def is_number(value: Any) -> bool:
    """Whether a metric that is no share, such as the NLL, can stand in a table."""
    return isinstance(value, (int, float)) and value >= 0


def make_table(
    entry: Entry, runs: list[RunRecord], folder: Path, beside: Iterable[Entry] = ()
) -> Table:
    """The table `entry` of the paper, filled with the finished runs of `folder`; those of the
    tables `beside` it stand there."""
    names = [row.run for row in entry.rows]
    elsewhere = {row.run for other in beside for row in other.rows} - set(names)
    runs = [run for run in runs if run.name not in elsewhere]
    finished = [run for run in runs if run.test is not None]
    values = {name: values_of(finished, name, entry.metrics) for name in names}
    others = sorted(
        {run.name for run in finished} - set(names), key=lambda name: (_place(name, names), name)
    )
    data = data_kind(entry, finished)
    said = verdicts(entry, values, data, finished, folder)
    lacking = missing_seeds(entry, runs)
    lines = [
        Line(
            label=r.label,
            run=r.run,
            values=values[r.run],
            paper=r.paper,
            verdict=said[r.run],
            missing=lacking[r.run],
        )
        for r in entry.rows
    ]
    by_row = {
        row.run: found
        for row in entry.rows
        if (found := [run for run in finished if run.name == row.run])
    }
    judged = {}
    if by_row:
        best = best_of({run: values[run] for run in by_row}, entry.metrics)
        judged = statistics_for(
            folder, entry.name, by_row, entry.metrics, best, custom_statistics_of([entry]).metrics
        )
    return Table(
        statistics=judged,
        title=f"{entry.name}: {entry.title}",
        about=about(folder.name, data, finished),
        metrics=entry.metrics,
        drawn=entry.drawn,
        data=data,
        compared=judged_metrics(entry) if data == "real" and folder.name == entry.folder else (),
        judged=entry.published,
        lines=lines,
        further=[
            Line(label=name, run=name, values=values_of(finished, name, entry.metrics))
            for name in others
        ],
        notes=[
            *how_sure(judged, {row.run: row.label for row in entry.rows}),
            *notes(entry, finished, data, folder.name),
        ],
        todo={
            "Missing runs": missing(entry, runs, folder),
            "Unfinished runs": unfinished(entry, runs, folder),
        },
        best=entry.best if data == "real" and folder.name == entry.folder else None,
        baseline=next(
            (
                run.data["baseline"]
                for run in finished
                if isinstance(run.data.get("baseline"), dict)
            ),
            {},
        ),
    )


def tables_of(
    folder: Path, runs: list[RunRecord], entries: dict[str, list[Entry]]
) -> tuple[list[Table], list[Sheet]]:
    """The tables of a results folder, and for each that has no run of its own yet what makes it."""
    listed = entries_of(folder.name, entries, runs)
    tables, to_begin = [], []
    for place, entry in enumerate(listed):
        if place and not _begun(entry, listed[:place], runs):
            make = missing(entry, runs, folder)
            to_begin.append(
                Sheet(
                    title=f"{entry.name}: {entry.title}",
                    about=folder.name,
                    grids={},
                    todo={"None of its own runs is finished": make},
                )
            )
        else:
            tables.append(make_table(entry, runs, folder, beside=listed))
    return tables, to_begin


def _place(name: str, rows: list[str]) -> int:
    """Further runs stand in the order of the rows they are variants of: `i2m2-concat-scratch` where
    `i2m2-concat` stands."""
    return max(
        (place for place, row in enumerate(rows) if name.startswith(f"{row}-")), default=len(rows)
    )


def values_of(
    finished: list[RunRecord], name: str, metrics: Iterable[str]
) -> dict[str, list[float]]:
    """Metric -> one fraction per finished seed of the run `name`; a metric recorded as null
    (undefined) is left out, and so is one that is not recorded, but for the first."""
    main, *others = metrics
    values: dict[str, list[float]] = {metric: [] for metric in (main, *others)}
    for run in finished:
        for metric in values if run.name == name else ():
            value = run.test.get(metric, "absent" if metric == main else None)
            if value is not None and not (
                is_fraction(value) if in_percent(metric) else is_number(value)
            ):
                range_ = "a number between 0 and 1" if in_percent(metric) else "a number"
                raise DataError(
                    f"{run.dir / 'result.json'}: test {metric} is {value}; a table needs {range_}; delete this folder and "
                    "run it again"
                )
            values[metric] += [value] if value is not None else []
    return values


SETTINGS = (
    "optim.name",
    "optim.lr",
    "optim.weight_decay",
    "optim.batch_size",
    "optim.epochs",
    "optim.select",
    "init",
    "preset",
)


def settings_sheet(finished: list[RunRecord], labels: Mapping[str, str], about: str) -> list[Sheet]:
    """What every row was trained with (Table B.6 for fastMRI); where its seeds differ, all of what
    they had."""
    rows = []
    for run, label in labels.items():
        configs = [
            one.config
            for one in finished
            if one.name == run and lookup(one.config, "optim.lr") is not None
        ]
        if configs:
            rows.append(
                [
                    label,
                    *(
                        " / ".join(dict.fromkeys(str(lookup(c, name)) for c in configs))
                        for name in SETTINGS
                    ),
                ]
            )
    if not rows:
        return []
    header = ["model", *(name.removeprefix("optim.") for name in SETTINGS)]
    return [Sheet(title="Table B.6: settings in force", about=about, grids={"": [header, *rows]})]


def find_folders(out: Path, dataset: str | None, entries: dict[str, list[Entry]]) -> list[Path]:
    """The results folders to show (`avmnist` and `avmnist-*` for the data set `avmnist`).
    SettingsError if none has a run."""
    if not out.is_dir():
        raise SettingsError(
            f"{out}: there is no such results folder; give the one that `--out` of the training commands names"
        )
    found = [path for path in sorted(out.iterdir()) if path.is_dir() and run_folders(path)]
    chosen = [
        path for path in found if dataset is None or f"{path.name}-".startswith(f"{dataset}-")
    ]
    listed = [
        table[0]
        for key, table in entries.items()
        if dataset is None or f"{key}-".startswith(f"{dataset}-")
    ]
    if found and not chosen:
        raise SettingsError(
            f"{out}: no runs of data set {dataset!r}; found: {', '.join(path.name for path in found)}{_hint(listed, out)}"
        )
    runs = [run for path in chosen for run in run_folders(path)]
    if not any((run / "DONE").exists() for run in runs):
        state = f"none of its {len(runs)} runs is finished" if runs else "no runs in it"
        if run_folders(out):
            raise SettingsError(
                f"{out}: is one data set's folder; give the one above it: {out.parent} --dataset {out.name}"
            )
        raise SettingsError(f"{out}: {state}{_hint(listed, out)}")
    return chosen


def _begun(entry: Entry, before: Iterable[Entry], runs: list[RunRecord]) -> bool:
    """Whether a row is finished that no table before has, or there is no such row."""
    own = {row.run for row in entry.rows} - {row.run for other in before for row in other.rows}
    return not own or any(run.name in own for run in runs if run.test is not None)


def _hint(listed: list[Entry], out: Path) -> str:
    commands = [
        command(entry, entry.rows[0], 0, out / "any", [])
        for entry in listed
        if entry.rows and entry.train
    ]
    return f"; make one with: {commands[0]}" if commands else ""


def write(table: Table, folder: Path, name: str) -> list[Path]:
    """Write the table's five files into `folder`: `table.md`, `figure.png` and the like, or called
    `name`; their paths."""
    paths = []
    sheet = sheet_of(table)
    for kind, text in {
        "md": to_markdown(sheet),
        "tex": to_latex(sheet),
        "csv": to_csv(table),
    }.items():
        paths.append(folder / f"{name or 'table'}.{kind}")
        write_text(paths[-1], text)
    return paths + _save(draw(table), folder / (name or "figure"))


def _save(figure: Figure, path: Path) -> list[Path]:
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    for kind, to in zip(("png", "pdf"), paths, strict=True):
        write_atomic(to, partial(figure.savefig, format=kind))
    return paths


def further_parts(
    folder: Path, runs: list[RunRecord], tables: list[Table], own: CustomStatistics
) -> list[Part]:
    """What the report tells of a results folder beside its tables: studies, settings in force, what
    other commands left there."""
    labels = {
        line.run: line.label for table in reversed(tables) for line in table.lines
    }  # a row is called as in its first table
    labels = {line.run: labels[line.run] for table in tables for line in table.lines}
    synthetic = any(table.data == "synthetic" for table in tables)
    finished = [run for run in runs if run.test is not None]
    metrics = list(dict.fromkeys(metric for table in tables for metric in table.metrics))
    found, about_runs = studies_of(folder, finished, metrics, own), tables[0].about
    sheets = [*sheets_of(found, labels, about_runs), *settings_sheet(finished, labels, about_runs)]
    for title in STUDIES:  # none may be left of runs that have changed
        (folder / f"{slug(title)}.csv").unlink(missing_ok=True)
    texts = {f"{slug(sheet.title)}.csv": sheet_to_csv(sheet) for sheet in sheets}
    if sheets:
        texts |= {
            f"studies.{kind}": "\n".join(map(to, sheets))
            for kind, to in (("md", to_markdown), ("tex", to_latex))
        }
    left = [
        (path, path.with_name(path.name.replace(".sheet.json", ".png")))
        for path in sorted(folder.glob("*.sheet.json"))
    ]
    parts = [
        Part(from_json(path), [figure] if figure.exists() else [], synthetic)
        for path, figure in left
    ]
    figures: dict[str, list[Path]] = {}
    if diagrams := diagrams_of(found, labels):
        title = f"Reliability of the first seed's test predictions\n{about_runs}"
        figures["Calibration"] = _save(draw_reliability(diagrams, title), folder / "reliability")[
            :1
        ]
        texts["reliability.csv"] = sheet_to_csv(diagrams_sheet(diagrams))
    for name, text in texts.items():
        write_text(folder / name, text)
    return parts + [
        Part(sheet, figures.get(sheet.title.partition(":")[0], []), synthetic) for sheet in sheets
    ]


def show(folder: Path, entries: dict[str, list[Entry]], parts: list[Part]) -> list[Path]:
    """Print and write what there is of a results folder, and add it to `parts` of the report -> the
    files of its tables."""
    runs = collect(folder)
    if all(run.test is None for run in runs):
        print(f"{folder}: none of its {len(runs)} runs is finished, so there is no table yet\n")
        return []
    tables, to_begin = tables_of(folder, runs, entries)
    paths = []
    for place, table in enumerate(tables):
        print(to_markdown(sheet_of(table)))
        written = write(table, folder, slug(table.title) if place else "")
        parts.append(
            Part(
                sheet_of(table),
                [path for path in written if path.suffix == ".png"],
                table.data == "synthetic",
            )
        )
        paths += written
    print("".join(f"{to_markdown(sheet)}\n" for sheet in to_begin), end="")
    for sheet in to_begin:  # none may be left of runs that are gone
        for path in (
            folder / f"{slug(sheet.title)}.{kind}" for kind in ("md", "tex", "csv", "png", "pdf")
        ):
            path.unlink(missing_ok=True)
    parts += [Part(sheet, [], tables[0].data == "synthetic") for sheet in to_begin]
    parts += further_parts(
        folder, runs, tables, custom_statistics_of(listed_under(folder.name, entries))
    )
    return paths


def main(argv: list[str] | None = None) -> None:
    """Print the tables of a results folder, write them and their figures into it, and one report of
    everything."""
    parser = CommandParser(
        prog="python -m i2m2.results",
        description="Tables and figures of the finished runs, and report.html.",
    )
    parser.add_argument(
        "results", type=Path, help="the folder that holds <dataset>/<run>/seed<k>, e.g. results"
    )
    parser.add_argument(
        "--dataset", help="only this data set and its variants, e.g. avmnist, in the report too"
    )
    args = parser.parse_args(argv)
    entries = read_entries()
    paths: list[Path] = []
    parts: dict[str, list[Part]] = {}
    errors: list[DataError] = []
    for folder in find_folders(args.results, args.dataset, entries):
        try:
            paths += show(folder, entries, parts.setdefault(folder.name, []))
        except DataError as error:  # the other folders have their tables all the same
            errors.append(error)
            parts[folder.name] = [
                Part(
                    Sheet(title="No tables", about=folder.name, grids={}, notes=[f"{error}."]),
                    [],
                    False,
                )
            ]
    paths.append(args.results / "report.html")
    write_text(
        paths[-1],
        to_page(TITLE, {name: found for name, found in parts.items() if found}, INTRODUCTION),
    )
    print("written:", *paths, sep="\n  ")
    if errors:
        raise DataError("; ".join(map(str, errors)))


if __name__ == "__main__":
    run_command(main)
