"""python -m fastMRI.noise results/fastmri: AUROC of finished runs on test slices with Rician noise (Fig. C.7)

Complex images get independent Gaussian noise on their real and imaginary part, with a standard
deviation of so many percent of the slice's largest magnitude; RSS images, which have no phase, its
Rician form. The same noise for every run, scaled by the level.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from fastMRI.experiment import EXPERIMENT
from fastMRI.preparation.labels import LABELS
from fastMRI.rician_noise import Noisy
from fastMRI.settings import FastMRIConfig
from i2m2.errors import CommandParser, SettingsError, run_command
from i2m2.files import write_atomic, write_text
from i2m2.metrics import score
from i2m2.report.figures import MARKERS
from i2m2.report.notes import about, data_kind
from i2m2.report.render import Sheet, to_json, to_markdown
from i2m2.report.tables import cell, read_entries
from i2m2.results import entries_of
from i2m2.training.config import load_config
from i2m2.training.evaluate import predict
from i2m2.training.loop import make_accelerator
from i2m2.training.robustness import finished_runs
from i2m2.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.0, 2.0, 4.0, 5.0, 10.0, 15.0, 20.0, 25.0)  # percent of the slice's largest magnitude
COLUMNS = ("auroc", *(f"auroc_{label}" for label in LABELS))

Scores = dict[tuple[str, int, float], dict[str, float]]  # (run, seed, level) -> {metric: value}


def main(argv: list[str] | None = None) -> None:
    """Measure, write noise.csv, noise.png and noise.pdf (and the table for the report) into the
    results folder, print the table."""
    args = _parse(argv)
    finished = (
        [run for run in finished_runs(args.results) if run.name in args.runs]
        if args.runs
        else finished_runs(args.results)
    )
    finished = [run for run in finished if run.config.get("method") != "product"]
    if not finished:
        raise SettingsError(f"{args.results}: no finished run is named {' or '.join(args.runs)}")
    here = [
        "--device",
        args.device,
        "--tracker",
        "null",
        *(["--data.dir", args.data_dir] if args.data_dir else []),
    ]
    configs = [
        load_config(
            FastMRIConfig, ["--config", str(run.dir / "config.yaml"), *here], "fastMRI.noise"
        )
        for run in finished
    ]
    found: Scores = {}
    for run, config in zip(finished, tqdm(configs, "runs", disable=None), strict=True):
        for level, values in scores_under_noise(
            Run(run.dir, config), args.levels, args.seed
        ).items():
            found[run.name, run.seed, level] = values
    entry = entries_of(args.results.resolve().name, read_entries(), finished)[0]
    names = {run.name for run in finished}
    listed = {row.run: row.label for row in entry.rows if row.run in names}
    rows = listed | {name: name for name in sorted(names - set(listed))}
    what = about(args.results.resolve().name, data_kind(entry, finished), finished)
    figure = draw(found, rows, f"AUROC of models trained on clean data, noise at test time\n{what}")
    write_text(args.results / "noise.csv", to_csv(found, rows))
    for kind in ("png", "pdf"):
        write_atomic(args.results / f"noise.{kind}", partial(figure.savefig, format=kind))
    sheet = sheet_of(found, rows, what, args.seed)
    write_text(args.results / "noise.sheet.json", to_json(sheet))
    print(to_markdown(sheet))
    print(
        "written:",
        *(args.results / f"noise.{kind}" for kind in ("csv", "sheet.json", "png", "pdf")),
        sep="\n  ",
    )


def scores_under_noise(
    run: Run, levels: Sequence[float], seed: int
) -> dict[float, dict[str, float]]:
    """{level: AUROC of the test slices, the mean over the labels and each one's}. DataError if the
    run's data have changed."""
    config = run.config
    data = EXPERIMENT.load(config)
    run.refuse_other_data(data.facts)
    model = EXPERIMENT.build_model(config)
    model.load_state_dict(run.load_best())
    accelerator = make_accelerator(config)
    model.to(accelerator.device)
    test = data.splits["test"].select(model.modalities)
    result = {}
    for level in levels:
        predictions = predict(
            model, Noisy(test, level, seed), accelerator, config.step_size, config.workers
        )
        result[level] = score(
            predictions["y"], predictions["log_prob"], names=["auroc"], labels=LABELS
        )
    return result


def to_csv(found: Scores, rows: dict[str, str]) -> str:
    """A line per run and level, fractions; `rows` maps a run to its label."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "run", "seed", "level_percent", *COLUMNS])
    for run, label in rows.items():
        for (name, seed, level), values in found.items():
            if name == run:
                writer.writerow(
                    [label, run, seed, level, *(f"{values[column]:.10g}" for column in COLUMNS)]
                )
    return file.getvalue()


def sheet_of(found: Scores, rows: dict[str, str], about: str, seed: int) -> Sheet:
    """A line per run, a column per level."""
    levels = sorted({level for _, _, level in found})
    grid = [["model", *(f"{level:g} %" for level in levels)]]
    grid += [
        [label, *(cell(_values(found, run, level, "auroc"), "auroc") for level in levels)]
        for run, label in rows.items()
    ]
    notes = [
        "AUROC in percent, mean over the four labels: mean ± sample standard deviation over the seeds (number of seeds).",
        f"Noise in percent of a slice's largest magnitude, at test time alone; seed of the noise {seed}.",
    ]
    return Sheet(
        title="Fig. C.7: AUROC against Rician noise", about=about, grids={"": grid}, notes=notes
    )


def draw(found: Scores, rows: dict[str, str], title: str) -> Figure:
    """A panel for the mean and for each label, a line per row: mean over the seeds, a band of one
    sample standard deviation."""
    from matplotlib.figure import (
        Figure,
    )  # not pyplot: no window, no global state, and only loaded when something is drawn

    figure = Figure(figsize=(11, 7), dpi=150, layout="constrained")
    panels = figure.subplots(2, math.ceil(len(COLUMNS) / 2)).ravel()
    levels = sorted({level for _, _, level in found})
    for axes, column in zip(panels, COLUMNS, strict=False):
        for place, (run, label) in enumerate(rows.items()):
            values = [[100 * v for v in _values(found, run, level, column)] for level in levels]
            mean = np.array([statistics.fmean(v) for v in values])
            std = np.array([statistics.stdev(v) if len(v) > 1 else 0.0 for v in values])
            style = {
                "color": f"C{place % 10}",
                "marker": MARKERS[place % len(MARKERS)],
                "markersize": 4,
                "lw": 1.3,
            }
            axes.plot(levels, mean, label=label, **style)
            axes.fill_between(
                levels, mean - std, mean + std, color=style["color"], alpha=0.15, linewidth=0
            )
        axes.axhline(50, color="#999999", lw=0.8, ls=":")
        axes.set_title(
            column.removeprefix("auroc_") if column != "auroc" else "mean over the labels",
            fontsize=10,
        )
        axes.set_xlabel("noise, % of the slice's largest magnitude")
        axes.set_ylabel("AUROC (%)")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(COLUMNS) :]:
        axes.remove()
    figure.suptitle(title, fontsize=11)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        fontsize=9,
        frameon=False,
    )
    return figure


def _values(found: Scores, run: str, level: float, column: str) -> list[float]:
    """One value per seed."""
    return [values[column] for (name, _, at), values in found.items() if (name, at) == (run, level)]


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "python -m fastMRI.noise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, help="folder that holds <run>/seed<k>, such as results/fastmri"
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        metavar="NAME",
        default=(),
        help="such as inter i2m2 (default: all that are finished)",
    )
    parser.add_argument(
        "--levels",
        type=float,
        nargs="+",
        default=LEVELS,
        metavar="PERCENT",
        help="default: 0 2 4 5 10 15 20 25",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise; default: 0")
    parser.add_argument(
        "--data.dir",
        dest="data_dir",
        metavar="DIR",
        help="where the data lie, if not where the runs found them",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
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
