"""Scores on altered test data as tables and figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from i2m2.errors import DataError, SettingsError
from i2m2.files import write_text
from i2m2.names import PRODUCT
from i2m2.report.fill import specs_of
from i2m2.report.notes import data_kind, data_summary
from i2m2.report.paper import Labels, read_specs
from i2m2.report.render import RenderedTable, csv_text, to_json, to_markdown
from i2m2.report.tables import cell
from i2m2.runs import RunRecord, collect, is_seed_folder, seed_folders
from i2m2.stats.intervals import sample_std
from i2m2.stats.robustness import MISSING, Measures, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def finished_runs(folder: Path) -> list[RunRecord]:
    """The finished runs of a results folder (`results/avmnist`) that have a model: not products of
    others. SettingsError if there are none, DataError if all that finished are damaged."""
    if not folder.is_dir():
        raise SettingsError(
            f"{folder}: there is no such results folder; give the one that holds <run>/seed<k>"
        )
    runs = collect(folder)
    trained = [run for run in runs if run.config.get("method") != PRODUCT]
    if finished := [run for run in trained if run.test is not None]:
        return finished
    refuse_damaged(folder)
    if below := sorted(path.name for path in folder.iterdir() if path.is_dir() and collect(path)):
        names = ", ".join(below)
        raise SettingsError(
            f"{folder}: holds the folders of several data sets; give one of them: {names}"
        )
    run = folder.absolute().parent if is_seed_folder(folder) else folder.absolute()
    if seed_folders(run):
        raise SettingsError(f"{folder}: is one run; give its data set's folder, {run.parent}")
    state = f"none of its {len(runs)} runs is finished" if runs else "no runs in it"
    raise SettingsError(f"{folder}: {state}; train first")


def faults_of(folder: Path) -> list[str]:
    """What is wrong with runs of a results folder that have a model: `finished_runs` lacks them."""
    runs = collect(folder)
    return [run.fault for run in runs if run.fault and not run.name.startswith(PRODUCT)]


def refuse_damaged(folder: Path) -> None:
    """DataError for such runs: the last thing that a command says, when all others are done."""
    if faults := faults_of(folder):
        raise DataError("; ".join(faults))


def rows_of(folder: Path, finished: Sequence[RunRecord]) -> tuple[dict[str, str], list[str], str]:
    """-> {run: label} (the paper's rows first, in its order), the paper's runs, and the data."""
    spec = specs_of(folder.resolve().name, read_specs(), finished)[0]
    names = {run.name for run in finished}
    listed = {run: label for run, label in spec.labels.items() if run in names}
    labels = listed | {name: name for name in sorted(names - set(listed))}
    data = data_summary(folder.resolve().name, data_kind(spec, finished), finished)
    return labels, list(listed), data


def points_csv(points: Iterable[Point], labels: Labels) -> str:
    """A line per run and altered split; `level` is empty where a modality is missing."""
    rows = [["row", "run", "seed", "corruption", "level", "accuracy", "answered_uniformly"]]
    for p in points:
        level = "" if p.level is None else p.level
        accuracy = f"{p.scores['accuracy']:.10g}"
        rows.append([labels[p.run], p.run, p.seed, p.corruption, level, accuracy, p.uniform])
    return csv_text(rows)


def measures_csv(measures: Measures, labels: Labels) -> str:
    """A line per run, corruption and measure: mean and sample std over the seeds, raw values."""
    rows = [["row", "run", "corruption", "measure", "mean", "std", "seeds"]]
    for run, label in labels.items():
        for key, values in measures[run].items():
            numbers = (statistics.fmean(values), sample_std(values))
            texts = ["" if number is None else f"{number:.10g}" for number in numbers]
            rows.append([label, run, *key, *texts, len(values)])
    return csv_text(rows)


def measures_table(
    measures: Measures, labels: Labels, data: str, notes: Sequence[str]
) -> RenderedTable:
    """A line per run: clean and without each modality in percent, the robustness scores raw."""
    columns = list(dict.fromkeys(key for run in labels for key in measures[run]))
    # The clean score is the same whatever the corruption, and stands first.
    clean = next(key for key in columns if key[1] == "clean")
    columns = [clean, *(key for key in columns if key[1] != "clean")]
    grid = [["model", *(_title(*key) for key in columns)]]
    for run, label in labels.items():
        cells = [_cell(key[1], measures[run].get(key, [])) for key in columns]
        grid.append([label, *cells])
    return RenderedTable(title="Robustness", about=data, grids={"": grid}, notes=notes)


def _title(corruption: str, measure: str) -> str:
    if corruption.startswith(MISSING):
        return f"no {corruption.removeprefix(MISSING)}"
    return measure if measure == "clean" else f"{corruption}, {measure}"


def _cell(measure: str, values: Sequence[float]) -> str:
    if not values:
        return "-"
    if measure not in ("relative", "effective"):
        return cell(values)
    spread = "" if len(values) < 2 else f" ± {sample_std(values):.3f}"
    return f"{statistics.fmean(values):.3f}{spread}"


def at_levels(
    points: Sequence[Point], run: str, corruption: str, metric: str = "accuracy"
) -> dict[float, list[float]]:
    """{level: a value per seed} of one run under one corruption."""
    found: dict[float, list[float]] = {}
    for point in points:
        if point.run == run and point.corruption == corruption and point.level is not None:
            found.setdefault(point.level, []).append(point.scores[metric])
    return dict(sorted(found.items()))


def draw_robustness(
    points: Sequence[Point], labels: Labels, corruptions: Mapping[str, Iterable[str]], title: str
) -> Figure:
    """Draw a panel of curves per corruption ({name: modalities that it alters}), a line per row,
    and one of bars for the missing modalities."""
    from i2m2.report import figures  # here: they take long to import

    figure, panels = figures.new_figure(len(corruptions) + 1, 2, (5.0, 3.3), (0, 1.4))
    for axes, (name, touched) in zip(panels, corruptions.items(), strict=False):
        what = "" if name in touched else f"{name.replace('_', ' ')}: "
        axes.set_title(f"{what}{' and '.join(touched)} corrupted", fontsize=10)
        axes.set_xlabel("level of the corruption")
        for place, (run, label) in enumerate(labels.items()):
            curve = at_levels(points, run, name)
            figures.draw_curve(axes, list(curve), list(curve.values()), label, place)
    _draw_missing(panels[-1], [point for point in points if point.level is None], labels)
    for axes in panels:
        axes.set_ylim(0, 102)  # room for the marks of a model that is always right
        axes.set_ylabel("accuracy (%)")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=11)
    figures.add_legend(figure, panels[:1], "outside lower center", columns=4)
    return figure


def _draw_missing(axes: Axes, points: Sequence[Point], labels: Labels) -> None:
    names = list(dict.fromkeys(point.corruption for point in points))
    width = 0.8 / len(labels)
    for place, run in enumerate(labels):
        for group, name in enumerate(names):
            found = [point for point in points if point.run == run and point.corruption == name]
            values = [100 * point.scores["accuracy"] for point in found]
            hatch = "////" if any(point.uniform for point in found) else None
            x = group + (place - (len(labels) - 1) / 2) * width
            style = {"color": f"C{place % 10}", "hatch": hatch, "edgecolor": "white"}
            style |= {"linewidth": 0.5, "error_kw": {"capsize": 2, "elinewidth": 1}}
            axes.bar(x, statistics.fmean(values), width, yerr=sample_std(values), **style)
    axes.set_xticks(range(len(names)), [f"without {name.removeprefix(MISSING)}" for name in names])
    axes.set_title("a modality missing (hatched: nothing left to answer from)", fontsize=10)


def save_for_report(
    folder: Path, name: str, table: RenderedTable, figure: Figure, csv: Mapping[str, str]
) -> None:
    """Write `csv` {file: text}, figure and table into a results folder; print table and paths."""
    from i2m2.report.figures import save_figure  # here: figures take long to import

    texts = {**csv, f"{name}.sheet.json": to_json(table)}
    for file, text in texts.items():
        write_text(folder / file, text)
    figures = save_figure(figure, folder / name)
    print(to_markdown(table))
    print("written:", *(folder / file for file in texts), *figures, sep="\n  ")
