"""How often 95 % intervals of i2m2.stats.intervals hold the truth, on simulated predictions.

python -m benchmarks.coverage

one         one run, examples by themselves and in groups (volumes of 10 slices), beside a plain
            percentile interval
seeds       the mean over five, three and two seeds, at three ratios of the variance that seeds make
            to the one that examples make
difference  how often two equally good methods are said to differ (p < 0.05): one run of each, and
            five, three and two
family      how often any of eight rows is said to differ from a ninth that is as good, after Holm's
            correction, the seeds judged by the spread of all rows as in a table
folds       predictions out of five folds by real learners, which their seeds change: the score of
            one, the difference of two
ece         the interval of a biased metric, of a model that is calibrated or too sure of itself by
            a factor
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

from benchmarks.coverage.out_of_fold import FOLDS, out_of_fold
from benchmarks.coverage.shares import any_differs, coverage, false_alarms, percentile_coverage
from benchmarks.coverage.simulated import SIMULATED, SIZES, simulate, too_sure
from benchmarks.measuring.timing import beside, choices, machine, table
from i2m2.metrics import METRICS, ece
from i2m2.stats.intervals import interval
from i2m2.stats.resampling import bootstrap

# Variance of the seeds' true scores : variance of one run's from its examples
RATIOS = {"1 : 25": 1 / 25, "1 : 1": 1, "25 : 1": 25}
FEW_SEEDS = (5, 3, 2)
ROWS = 9  # of a family of equally good ones


def one_part(args: argparse.Namespace) -> str:
    rows = []
    for metric in args.metrics:
        for name, size in SIZES.items():
            values, drawn, truth = simulate(metric, 1, 0, size, 4 * args.sims, args.resamples)
            share, width = coverage(values, drawn, size[0], truth)
            plain = percentile_coverage(drawn, truth)
            verdict = f"0.93 to 0.97: {'met' if 0.93 <= share <= 0.97 else 'missed'}"
            cells = [f"{share:.3f}", verdict, f"{plain:.3f}", f"{width:.4f}"]
            rows.append([f"{metric}, {name}", *cells])
    columns = ["", "coverage", "target", "plain percentile", "mean width"]
    return table(f"one: {4 * args.sims:,} simulations", columns, rows)


def seeds_part(args: argparse.Namespace) -> str:
    rows, size = [], SIZES["150 groups of 10"]
    for metric in args.metrics:
        for name, ratio in RATIOS.items():
            values, drawn, truth = simulate(metric, 5, ratio, size, args.sims, args.resamples)
            for seeds in FEW_SEEDS:
                share, width = coverage(values[:, :seeds], drawn[:, :, :seeds], size[0], truth)
                plain = percentile_coverage(drawn[:, :, :seeds], truth)
                cells = [*beside(share, ">= 0.93", 3), f"{plain:.3f}", f"{width:.4f}"]
                rows.append([f"{metric}, {name}, {seeds} seeds", *cells])
    title = f"seeds: variance of seeds : of examples, {args.sims:,} simulations of 150 groups of 10"
    return table(title, ["", "coverage", "target", "two-level percentile", "mean width"], rows)


def difference_part(args: argparse.Namespace) -> str:
    rows, size = [], SIZES["150 groups of 10"]
    for name, ratio in {"none": 0, **RATIOS}.items():
        values, drawn, _ = simulate("accuracy", 10, ratio, size, args.sims, args.resamples)
        for seeds in FEW_SEEDS if ratio else (1,):
            what = f"accuracy, {name}, {seeds} seed{'s' * (seeds > 1)}"
            rows.append([what, *beside(false_alarms(values, drawn, seeds), "<= 0.07", 3)])
    title = f"difference: of two equally good methods, {args.sims:,} simulations"
    return table(title, ["", "share with p < 0.05", "target"], rows)


def family_part(args: argparse.Namespace) -> str:
    lines, size, sims = [], (150, 1), args.sims // 2
    for name, ratio in RATIOS.items():
        for seeds in FEW_SEEDS:
            runs = simulate("accuracy", ROWS * seeds, ratio, size, sims, args.resamples // 2)
            shape = (sims, ROWS, seeds)
            values, drawn = runs[0].reshape(shape), runs[1].reshape(-1, *shape)
            alarms = [any_differs(values[k], drawn[:, k], size[0]) for k in range(sims)]
            cells = beside(float(np.mean(alarms)), "<= 0.07", 3)
            lines.append([f"accuracy, {name}, {seeds} seeds", *cells])
    title = f"family: of {ROWS} equally good rows, {sims:,} simulations"
    return table(title, ["", "share with any p < 0.05", "target"], lines)


def folds_part(args: argparse.Namespace) -> str:
    """The truth is the mean over all simulations: no other examples are needed."""
    rows, seeds = [], max(FEW_SEEDS)
    for n, widths in itertools.product((200, 1000), ((0, 8), (0, 60), (8, 60))):
        rng, sims = np.random.default_rng(0), args.sims // 2
        runs = [one for _ in range(sims) for one in out_of_fold(rng, n, widths, seeds)]
        values, drawn = bootstrap(runs, n, n, args.resamples // 2)
        values, drawn = values.reshape(sims, 2, seeds), drawn.reshape(-1, sims, 2, seeds)
        apart, apart_drawn = values[:, 0] - values[:, 1], drawn[:, :, 0] - drawn[:, :, 1]
        alone, alone_drawn = values[:, 1], drawn[:, :, 1]
        for few in FEW_SEEDS:
            of_difference = (apart[:, :few], apart_drawn[..., :few], n, apart.mean())
            of_one = (alone[:, :few], alone_drawn[..., :few], n, alone.mean())
            share, width = coverage(*of_difference)
            cells = [*beside(share, ">= 0.93", 3), f"{width:.4f}", f"{coverage(*of_one)[0]:.3f}"]
            rows.append(
                [f"{n} examples, {widths[0]} and {widths[1]} features, {few} seeds", *cells]
            )
    columns = ["", "difference covered", "target", "mean width", "score of the second covered"]
    return table(f"folds: {args.sims // 2:,} simulations of {FOLDS} folds", columns, rows)


def ece_part(args: argparse.Namespace) -> str:
    rows, (groups, each) = [], SIZES["150 groups of 10"]
    index, rng = np.repeat(np.arange(groups), each), np.random.default_rng(0)
    for factor in (1, 1.1, 1.25, 1.5):
        truth = ece(*too_sure(rng, 1_000_000, factor))
        runs = []
        for _ in range(args.sims):
            y, log_prob = too_sure(rng, groups * each, factor)
            runs.append(METRICS["ece"].statistic(y, log_prob, index, groups))
        values, drawn = bootstrap(runs, groups, groups * each, args.resamples)
        intervals = [
            interval(values[k : k + 1], drawn[:, k : k + 1], groups, (0, 1), biased=True)
            for k in range(args.sims)
        ]
        share = np.mean([one.low <= truth <= one.high for one in intervals])
        plain = percentile_coverage(drawn[:, :, None], truth)
        numbers = (truth, values.mean(), share, plain)
        rows.append([factor, *(f"{number:.3f}" for number in numbers)])
    columns = ["logits times", "true ECE", "mean of the measured", "coverage", "plain percentile"]
    return table(f"ece: {args.sims:,} simulations of 150 groups of 10", columns, rows)


PARTS = {
    "one": one_part,
    "seeds": seeds_part,
    "difference": difference_part,
    "family": family_part,
    "folds": folds_part,
    "ece": ece_part,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, about = parser.add_argument, "separated by commas"
    add("--parts", type=choices(PARTS), default=",".join(PARTS), help=about)
    add("--metrics", type=choices(SIMULATED), default=",".join(SIMULATED), help=about)
    add("--sims", type=int, default=1000)
    add("--resamples", type=int, default=1000)
    args = parser.parse_args(argv)
    print(f"Machine: {machine()}\nData: simulated", flush=True)
    for part in args.parts:
        began = time.perf_counter()
        print(PARTS[part](args), f"\n{time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
