"""python -m AVMNIST_and_MIMIC.robustness results/mimic-mortality: finished runs on corrupted test
data and without a modality"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from AVMNIST_and_MIMIC.datasets import DATASETS
from i2m2.errors import CommandParser, SettingsError, run_command
from i2m2.report.paper import Labels
from i2m2.report.robustness import (
    draw_robustness,
    finished_runs,
    measures_csv,
    measures_table,
    points_csv,
    refuse_damaged,
    rows_of,
    save_for_report,
)
from i2m2.runs import RunRecord
from i2m2.stats.robustness import LEVELS, MISSING, Point, measures_of
from i2m2.training.commands import add_run_options, dataset_of

PROGRAM = "AVMNIST_and_MIMIC.robustness"
BASELINE = "inter-concat"


def main(argv: list[str] | None = None) -> None:
    """Measure, write tables and figure into the results folder, print the table. DataError, once
    all others are measured, for runs that are damaged."""
    args = _parse(argv)
    finished = finished_runs(args.results)
    args.baseline = _baseline_of(args.baseline, finished)
    # Here: torch takes seconds to import, and mistakes in the arguments need none.
    from AVMNIST_and_MIMIC.avmnist.corruptions import avmnist_corruptions
    from AVMNIST_and_MIMIC.mimic.corruptions import mimic_corruptions
    from i2m2.training.robustness import array_corruptions, measure_runs

    spec = dataset_of(DATASETS, ["--config", str(finished[0].dir / "config.yaml")])
    made = avmnist_corruptions if spec is DATASETS["avmnist"] else mimic_corruptions
    corruptions = made(args.seed)
    points, data = measure_runs(
        DATASETS, finished, array_corruptions(corruptions), ["accuracy"], args
    )
    labels, listed, about = rows_of(args.results, finished)
    order = [*corruptions, *(f"{MISSING}{modality}" for modality in spec.config.modalities)]
    runs = list(labels)
    points.sort(key=lambda p: (runs.index(p.run), p.seed, order.index(p.corruption)))
    measures = measures_of(points, args.baseline)
    notes = _notes(args, labels, points, len(data.splits["test"]), data.facts)
    shown = {run: labels[run] for run in listed} or labels
    title = f"Robustness of models trained on clean data\n{about}"
    csv = {
        "robustness.csv": points_csv(points, labels),
        "robustness_summary.csv": measures_csv(measures, labels),
    }
    table = measures_table(measures, labels, about, notes)
    figure = draw_robustness(points, shown, corruptions, title)
    save_for_report(args.results, "robustness", table, figure, csv)
    refuse_damaged(args.results)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        prog=f"python -m {PROGRAM}",
        description="Measure the accuracy of finished runs on corrupted test data and without a "
        "modality; write robustness.csv, robustness_summary.csv, robustness.png, robustness.pdf "
        "and a table for the report into the results folder.",
    )
    results = "folder that holds <run>/seed<k>, such as results/avmnist"
    parser.add_argument("results", type=Path, help=results)
    add_run_options(parser)
    levels = (
        "levels of corruption, rising from 0 (clean) to at most 1 (default: 0.0 0.1 ... 1.0); "
        "only the default levels give scores comparable with published ones"
    )
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS, help=levels)
    seed = "seed of the corruptions (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, help=seed)
    baseline = f"run that effective robustness compares with (default: {BASELINE})"
    parser.add_argument("--baseline", metavar="RUN", help=baseline)
    args = parser.parse_args(argv)
    levels = args.levels
    rising = all(a < b for a, b in zip(levels, levels[1:], strict=False))
    if levels[0] != 0 or levels[-1] > 1 or len(levels) < 2 or not rising:
        raise SettingsError(
            f"--levels {' '.join(map(str, levels))}: "
            "they must rise from 0 to at most 1, such as 0 0.5 1"
        )
    if args.seed < 0:
        raise SettingsError(f"--seed {args.seed} must be at least 0")
    return args


def _baseline_of(named: str | None, finished: Sequence[RunRecord]) -> str:
    """The run to compare with. SettingsError for a named one that is not there; without the usual
    one, there is no effective robustness."""
    runs = sorted({run.name for run in finished})
    if named is not None and named not in runs:
        raise SettingsError(f"--baseline {named}: no finished run; choose one of {', '.join(runs)}")
    return named or BASELINE


def _notes(
    args: argparse.Namespace,
    labels: Labels,
    points: Sequence[Point],
    examples: int,
    facts: dict[str, Any],
) -> list[str]:
    seeds = {run: {p.seed for p in points if p.run == run} for run in (*labels, args.baseline)}
    lacking = [label for run, label in labels.items() if seeds[run] - seeds[args.baseline]]
    uniform = {(p.run, p.corruption): p.uniform for p in points if p.uniform}
    notes = [
        f"{examples} test examples; accuracy in percent, mean ± sample standard deviation over the "
        "seeds (number of seeds).",
        "relative: area under accuracy (as a fraction) against the level; effective: sum over the "
        f"levels of what is kept beyond {args.baseline} of the same seed, shifted to the same "
        "clean accuracy. Neither is rescaled.",
        f"levels {' '.join(map(str, args.levels))}; seed of the corruptions {args.seed}.",
    ]
    if baseline := facts.get("baseline"):
        notes.append(
            f"The majority class of the training split alone: {100 * baseline['accuracy']:.1f} % "
            "accuracy."
        )
    if lacking:
        notes.append(
            f"No effective robustness for some seeds of {', '.join(lacking)}: "
            f"{args.baseline} lacks them."
        )
    if uniform:
        places = ", ".join(
            f"{labels[run]} without {name.removeprefix(MISSING)} ({count})"
            for (run, name), count in uniform.items()
        )
        notes.append(
            "Examples with no expert left are answered uniformly, which counts as the first class: "
            f"{places}."
        )
    return notes


if __name__ == "__main__":
    run_command(main)
