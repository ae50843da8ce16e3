"""`python -m i2m2.results results [--dataset avmnist]`: tables and figures of the finished runs,
the paper beside them.

What a table looks like is read from the `paper.yaml` of each data-set folder; nothing here knows a
data set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from i2m2.diagnose.finished import conclusions_of
from i2m2.diagnose.pages import to_table
from i2m2.diagnose.words import not_yet
from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import write_text
from i2m2.report import render, study_tables
from i2m2.report.fill import Specs, counted, tables_of, without_misplaced
from i2m2.report.missing import command
from i2m2.report.notes import data_kind, data_summary
from i2m2.report.paper import analysis_of, listed_under, read_specs
from i2m2.report.render import RenderedTable, Section, slug, to_latex, to_markdown
from i2m2.report.tables import ResultTable, rendered, values_csv
from i2m2.runs import RunRecord, collect, is_done, is_seed_folder, run_folders, seed_folders

TITLE = "I2M2: does this data need inter-modality modelling, intra-modality modelling, or both?"
INTRODUCTION = (
    "Made by `python -m i2m2.results` from the runs' saved predictions. Tables and figures bear "
    "the paper's names for them (Madaan et al., NeurIPS 2024); what each rests on (data, seeds, "
    "budget, code) stands below it.",
)
FILES = ("md", "tex", "csv", "png", "pdf")  # of a table


def find_folders(out: Path, dataset: str | None, specs: Specs) -> list[Path]:
    """The results folders to show (`avmnist` and `avmnist-*` for the data set `avmnist`).
    SettingsError if none has a finished run."""
    if not out.is_dir():
        raise SettingsError(
            f"{out}: there is no such results folder; "
            "give the one that `--out` of the training commands names"
        )

    def is_asked_for(name: str) -> bool:
        return dataset is None or f"{name}-".startswith(f"{dataset}-")

    found = [path for path in sorted(out.iterdir()) if path.is_dir() and run_folders(path)]
    chosen = [path for path in found if is_asked_for(path.name)]
    runs = [run for path in chosen for run in run_folders(path)]
    if any(map(is_done, runs)):
        return chosen
    if found and not chosen:
        names = ", ".join(path.name for path in found)
        state = f"no runs of data set {dataset!r}; found: {names}"
    elif inside := _inside_results(out):
        raise SettingsError(f"{out}: is {inside}")
    else:
        state = f"none of its {len(runs)} runs is finished" if runs else "no runs in it"
    first = [tables[0] for name, tables in specs.items() if is_asked_for(name)]
    if chosen:  # a run of these
        first = [tables[0] for path in chosen if (tables := listed_under(path.name, specs))]
    makers = [command(spec, spec.rows[0], 0, out / "any", []) for spec in first if spec.rows]
    on = "; the commands that began them go on where they stopped" * bool(runs)
    hint = next((f"; make one with: {maker}" for maker in makers if maker), on)
    raise SettingsError(f"{out}: {state}{hint}")


def _inside_results(out: Path) -> str:
    """What a folder within a results folder is, and what to give in its place; "" if it is none."""
    here = out.absolute()
    if run_folders(out):
        what, dataset, where = "one data set's folder", here, "the one above it"
    elif seed_folders(out):
        what, dataset, where = "one run's folder", here.parent, "the one above its data set's"
    elif is_seed_folder(here):
        what, dataset, where = "one seed's run", here.parents[1], "the one above its data set's"
    else:
        return ""
    results = str(dataset.parent) if out.is_absolute() else os.path.relpath(dataset.parent)
    return f"{what}; give {where}: {quote(results)} --dataset {quote(dataset.name)}"


def answers_of(folder: Path, runs: Sequence[RunRecord], specs: Specs) -> list[RenderedTable]:
    """What the title asks, of a results folder: of each task, where there are several. What is
    missing for an answer, or wrong, stands in its place."""
    about = folder.name
    try:
        if all(run.test is None for run in runs):
            raise SettingsError("none of its runs is finished")
        spec, fit = counted(folder, runs, specs)
        if used := [run for run in fit if run.test is not None]:
            about = data_summary(folder.name, data_kind(spec, used), used)
        return [to_table(found) for found in conclusions_of(folder, fit, spec)]
    except (SettingsError, DataError) as error:
        return [RenderedTable(title=f"{about}: {not_yet(str(error))}", grids={})]


def show(
    folder: Path, runs: Sequence[RunRecord], specs: Specs
) -> tuple[list[Section], list[Path], list[str]]:
    """Print and write the tables of a results folder -> its sections of the report, the files, and
    what is wrong with runs that are in no table."""
    faults = [run.fault for run in runs if run.fault]
    if all(run.test is None for run in runs):
        print(f"{folder}: none of its {len(runs)} runs is finished, so there is no table yet\n")
        return [_section_without_tables(folder, faults)] if faults else [], [], faults
    tables, to_begin = tables_of(folder, runs, specs)
    sections, paths = [], []
    for place, table in enumerate(tables):
        shown = rendered(table)
        print(to_markdown(shown))
        written = write_table(table, shown, folder, slug(table.spec.heading) if place else "")
        figures = [path for path in written if path.suffix == ".png"]
        sections.append(Section(shown, figures, table.data == "synthetic"))
        paths += written
    for table in to_begin:
        print(to_markdown(table))
        sections.append(Section(table))
        for kind in FILES:  # none may be left of runs that are gone
            (folder / f"{slug(table.title)}.{kind}").unlink(missing_ok=True)
    for path in sorted(folder.glob("*.sheet.json")):  # left for the report by other commands
        figure = path.with_name(path.name.replace(".sheet.json", ".png"))
        sheet = _with_gone(render.from_json(path), tables)
        sections.append(Section(sheet, [figure] if figure.exists() else []))
    studies = write_studies(folder, runs, tables, specs)
    faults += [fault for table in tables for fault in table.faults]
    return [*sections, *(Section(table, figures) for table, figures in studies)], paths, faults


def _with_gone(sheet: RenderedTable, tables: Sequence[ResultTable]) -> RenderedTable:
    """What another command made of runs, with a note where some of these are gone."""
    rows = [row for table in tables for row in (*table.rows, *table.further) if row.runs]
    there = {name for row in rows for name in (row.label, row.run)}
    named = dict.fromkeys(line[0] for grid in sheet.grids.values() for line in grid[1:])
    if not (gone := [name for name in named if name not in there]):
        return sheet
    note = f"Of runs that are not here any more ({', '.join(gone)}): give its command again."
    return replace(sheet, notes=[*sheet.notes, note])


def _section_without_tables(folder: Path, reasons: Sequence[str]) -> Section:
    notes = [f"{reason}." for reason in reasons]
    return Section(RenderedTable(title="No tables", about=folder.name, grids={}, notes=notes))


def write_table(table: ResultTable, shown: RenderedTable, folder: Path, name: str) -> list[Path]:
    """Write the table's five files, called `name` or else `table` and `figure` -> their paths."""
    from i2m2.report.figures import draw_table, save_figure  # here: they take a while to import

    texts = {"md": to_markdown(shown), "tex": to_latex(shown), "csv": values_csv(table)}
    paths = {folder / f"{name or 'table'}.{kind}": text for kind, text in texts.items()}
    for path, text in paths.items():
        write_text(path, text)
    return [*paths, *save_figure(draw_table(table), folder / (name or "figure"))]


def write_studies(
    folder: Path, runs: Sequence[RunRecord], tables: Sequence[ResultTable], specs: Specs
) -> list[tuple[RenderedTable, list[Path]]]:
    """Write the studies of a folder and the settings in force -> tables, each with its figures."""
    labels: dict[str, str] = {}
    for table in tables:
        for row in table.rows:
            labels.setdefault(row.run, row.label)  # a row is called as in its first table
    placed = [without_misplaced(tables[0].spec, run) for run in runs]
    finished = [run for run in placed if run.test is not None]
    metrics = list(dict.fromkeys(metric for table in tables for metric in table.spec.metrics))
    analysis = analysis_of(listed_under(folder.name, specs))
    about = tables[0].about
    studies = study_tables.studies_of(folder, finished, metrics, analysis)
    made = study_tables.study_tables(studies, labels, about)
    if settings := study_tables.settings_table(finished, labels, about):
        made.append(settings)
    for title in study_tables.STUDIES:  # none may be left of runs that have changed
        (folder / f"{slug(title)}.csv").unlink(missing_ok=True)
    texts = {f"{slug(table.title)}.csv": render.to_csv(table) for table in made}
    if made:
        texts["studies.md"] = "\n".join(map(to_markdown, made))
        texts["studies.tex"] = "\n".join(map(to_latex, made))
    figures: list[Path] = []
    if diagrams := study_tables.diagrams_of(studies, labels):
        from i2m2.report.figures import draw_reliability, save_figure  # slow to import

        title = f"Reliability of the first seed's test predictions\n{about}"
        figures = save_figure(draw_reliability(diagrams, title), folder / "reliability")[:1]
        texts["reliability.csv"] = render.to_csv(study_tables.diagrams_table(diagrams))
    for name, text in texts.items():
        write_text(folder / name, text)
    return [(table, figures * table.title.startswith("Calibration:")) for table in made]


def main(argv: list[str] | None = None) -> None:
    """Print the tables of a results folder; write them, their figures and one report into it."""
    parser = CommandParser(
        prog="python -m i2m2.results",
        description="Write tables and figures of the finished runs, and report.html, beside them.",
    )
    results = "folder that holds <dataset>/<run>/seed<k>, such as results"
    parser.add_argument("results", type=Path, help=results)
    dataset = "only this data set and its variants, such as avmnist (default: all)"
    parser.add_argument("--dataset", help=dataset)
    args = parser.parse_args(argv)
    specs = read_specs()
    folders = find_folders(args.results, args.dataset, specs)
    runs = {folder: collect(folder) for folder in folders}
    print(f"# {TITLE}\n")
    answers: list[RenderedTable] = []
    for folder in folders:
        of_folder = answers_of(folder, runs[folder], specs)
        print(*map(to_markdown, of_folder), sep="\n")
        answers += of_folder
    paths: list[Path] = []
    sections: dict[str, list[Section]] = {}
    faults: list[str] = []
    for folder in folders:
        try:
            sections[folder.name], written, of_folder = show(folder, runs[folder], specs)
            paths += written
            faults += of_folder
        except DataError as error:  # the other folders have their tables all the same
            faults.append(str(error))
            sections[folder.name] = [_section_without_tables(folder, [str(error)])]
    filled = {name: of_folder for name, of_folder in sections.items() if of_folder}
    page = args.results / "report.html"
    write_text(page, render.to_page(TITLE, filled, INTRODUCTION, answers))
    print("written:", *paths, page, sep="\n  ")
    if faults:
        raise DataError("; ".join(dict.fromkeys(faults)))


if __name__ == "__main__":
    run_command(main)
