"""Measure the AUROC of finished runs on test slices with Rician noise (Fig. C.7).

python -m fastMRI.noise results/fastmri

Complex images get independent Gaussian noise on their real and imaginary part, with a standard
deviation of so many percent of the slice's largest magnitude; RSS images, which have no phase, get
its Rician form. The noise is the same for every run, scaled by the level.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastMRI.preparation.labels import LABELS
from fastMRI.settings import DATASETS
from i2m2.errors import CommandParser, SettingsError, run_command
from i2m2.report.render import RenderedTable, csv_text
from i2m2.report.robustness import (
    at_levels,
    finished_runs,
    refuse_damaged,
    rows_of,
    save_for_report,
)
from i2m2.report.tables import cell
from i2m2.runs import RunRecord
from i2m2.stats.robustness import Point
from i2m2.training.commands import add_run_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.0, 2.0, 4.0, 5.0, 10.0, 15.0, 20.0, 25.0)  # percent of the slice's largest magnitude
COLUMNS = ("auroc", *(f"auroc_{label}" for label in LABELS))
NOISE = "rician"


def main(argv: list[str] | None = None) -> None:
    """Measure, write noise.csv, noise.png and noise.pdf (and the table for the report) into the
    results folder, print the table. DataError, once all others are measured, for runs that are
    damaged."""
    args = _parse(argv)
    finished = _chosen(args)
    # Here: torch takes seconds to import, and mistakes in the arguments need none.
    from fastMRI.rician_noise import rician_noise
    from i2m2.training.robustness import measure_runs

    points, _ = measure_runs(
        DATASETS,
        finished,
        {NOISE: rician_noise(args.seed)},
        ["auroc"],
        args,
        without_modalities=False,
    )
    labels, _, about = rows_of(args.results, finished)
    title = f"AUROC of models trained on clean data, noise at test time\n{about}"
    table = noise_table(points, labels, about, args.seed)
    csv = {"noise.csv": noise_csv(points, labels)}
    save_for_report(args.results, "noise", table, draw(points, labels, title), csv)
    refuse_damaged(args.results)


def _chosen(args: Namespace) -> list[RunRecord]:
    """The finished runs that are asked for; SettingsError for a name that none has."""
    finished = finished_runs(args.results)
    names = sorted({run.name for run in finished})
    if unknown := [name for name in args.runs if name not in names]:
        raise SettingsError(
            f"{args.results}: no finished run is named {' or '.join(unknown)}; "
            f"--runs takes any of: {', '.join(names)}"
        )
    return [run for run in finished if run.name in (args.runs or names)]


def noise_csv(points: Sequence[Point], labels: Mapping[str, str]) -> str:
    """A line per run and level, fractions; `labels` maps a run to its row."""
    rows = [["row", "run", "seed", "level_percent", *COLUMNS]]
    for run, label in labels.items():
        of_run = sorted((p for p in points if p.run == run), key=lambda p: (p.seed, p.level))
        for point in of_run:
            scores = [f"{point.scores[column]:.10g}" for column in COLUMNS]
            rows.append([label, run, point.seed, point.level, *scores])
    return csv_text(rows)


def noise_table(
    points: Sequence[Point], labels: Mapping[str, str], about: str, seed: int
) -> RenderedTable:
    """A line per run, a column per level."""
    levels = sorted({point.level for point in points})
    grid = [["model", *(f"{level:g} %" for level in levels)]]
    for run, label in labels.items():
        curve = at_levels(points, run, NOISE, "auroc")
        grid.append([label, *(cell(values, "auroc") for values in curve.values())])
    notes = [
        "AUROC in percent, mean over the four labels: mean ± sample standard deviation over the "
        "seeds (number of seeds).",
        "Noise in percent of a slice's largest magnitude, at test time alone; "
        f"seed of the noise {seed}.",
    ]
    title = "Fig. C.7: AUROC against Rician noise"
    return RenderedTable(title=title, about=about, grids={"": grid}, notes=notes)


def draw(points: Sequence[Point], labels: Mapping[str, str], title: str) -> Figure:
    """A panel for the mean and for each label, a line per row: mean over the seeds, a band of one
    sample standard deviation."""
    from i2m2.report.figures import draw_curve, new_figure  # here: figures take long to import

    figure, panels = new_figure(len(COLUMNS), 3, (11 / 3, 3.5), (0, 0))
    for axes, column in zip(panels, COLUMNS, strict=True):
        for place, (run, label) in enumerate(labels.items()):
            curve = at_levels(points, run, NOISE, column)
            draw_curve(axes, list(curve), list(curve.values()), label, place)
        axes.axhline(50, color="#999999", lw=0.8, ls=":")
        name = column.removeprefix("auroc_") if column != "auroc" else "mean over the labels"
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("noise, % of the slice's largest magnitude")
        axes.set_ylabel("AUROC (%)")
    figure.suptitle(title, fontsize=11)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    return figure


def _parse(argv: list[str] | None) -> Namespace:
    parser = CommandParser("python -m fastMRI.noise", __doc__)
    results = "folder that holds <run>/seed<k>, such as results/fastmri"
    parser.add_argument("results", type=Path, help=results)
    runs = "names of runs, such as inter i2m2 (default: all that are finished)"
    parser.add_argument("--runs", nargs="+", metavar="NAME", default=(), help=runs)
    percent = "noise, in percent of a slice's largest magnitude (default: 0 2 4 5 10 15 20 25)"
    levels = {"type": float, "nargs": "+", "default": LEVELS, "metavar": "PERCENT"}
    parser.add_argument("--levels", help=percent, **levels)
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    add_run_options(parser)
    args = parser.parse_args(argv)
    if not all(0 <= level < math.inf for level in args.levels):
        raise SettingsError(
            f"--levels {' '.join(map(str, args.levels))}: a level is a percentage from 0 up"
        )
    if args.seed < 0:
        raise SettingsError(f"--seed {args.seed} must be at least 0")
    return args


if __name__ == "__main__":
    run_command(main)
