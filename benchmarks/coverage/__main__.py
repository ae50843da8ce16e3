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
from collections.abc import Callable

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm

from benchmarks.coverage.out_of_fold import FOLDS, out_of_fold
from benchmarks.measuring.timing import beside, choices, machine, table
from i2m2.metrics import METRICS, ece
from i2m2.stats.intervals import interval, usual_spread
from i2m2.stats.paired_tests import holm
from i2m2.stats.resampling import BootstrapStatistic, auroc_statistic, bootstrap, mean_of

ACCURACY, AUROC, PREVALENCE = 0.72, 0.80, 0.15  # of AV-MNIST's, fastMRI's order
# Of an example's difficulty: shares of variance due to its group, to the example (for every seed),
# to the example and the seed.
GROUP, EXAMPLE, EXAMPLE_AND_SEED = 0.2, 0.4, 0.4
# Variance of the seeds' true scores : variance of one run's from its examples
RATIOS = {"1 : 25": 1 / 25, "1 : 1": 1, "25 : 1": 25}
FEW_SEEDS = (5, 3, 2)
ROWS = 9  # of a family of equally good ones
SIZES = {"500 examples": (500, 1), "150 groups of 10": (150, 10), "30 groups of 10": (30, 10)}

# (generator, true score of each seed [S], number of groups, examples per group) -> the statistic of
# each seed's run
Simulated = Callable[[np.random.Generator, np.ndarray, int, int], list[BootstrapStatistic]]


def difficulty(rng: np.random.Generator, seeds: int, groups: int, each: int) -> np.ndarray:
    """[S, n] of variance 1, shared in part by the examples of a group and by the seeds."""
    n = groups * each
    group = np.repeat(rng.normal(size=groups), each) if each > 1 else rng.normal(size=n)
    shared = np.sqrt(GROUP) * group + np.sqrt(EXAMPLE) * rng.normal(size=n)
    return shared + np.sqrt(EXAMPLE_AND_SEED) * rng.normal(size=(seeds, n))


def accuracies(
    rng: np.random.Generator, truth: np.ndarray, groups: int, each: int
) -> list[BootstrapStatistic]:
    """Right where the difficulty stays below a threshold, which is so with probability `truth`."""
    right = difficulty(rng, len(truth), groups, each) < norm.ppf(truth)[:, None]
    index = np.repeat(np.arange(groups), each)
    return [mean_of(one.astype(np.float64), index, groups) for one in right]


def nlls(
    rng: np.random.Generator, truth: np.ndarray, groups: int, each: int
) -> list[BootstrapStatistic]:
    """Log-normal losses of mean `truth`: skewed, as those of a network are."""
    loss = truth[:, None] * np.exp(0.8 * difficulty(rng, len(truth), groups, each) - 0.32)
    return [mean_of(one, np.repeat(np.arange(groups), each), groups) for one in loss]


def aurocs(
    rng: np.random.Generator, truth: np.ndarray, groups: int, each: int
) -> list[BootstrapStatistic]:
    """Normal scores around a mean of the class, which stand in order with probability `truth`;
    classes come in groups too."""
    positive = difficulty(rng, 1, groups, each)[0] < norm.ppf(PREVALENCE)
    index = np.repeat(np.arange(groups), each)
    shift = np.sqrt(2) * norm.ppf(truth)[:, None] * positive
    scores = difficulty(rng, len(truth), groups, each) + shift
    return [auroc_statistic(positive, one, index) for one in scores]


SIMULATED: dict[str, tuple[Simulated, float]] = {  # and the true score
    "accuracy": (accuracies, ACCURACY),
    "nll": (nlls, 0.8),
    "auroc": (aurocs, AUROC),
}


def simulate(
    metric: str,
    seeds: int,
    ratio: float,
    size: tuple[int, int],
    sims: int,
    resamples: int,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, float]:
    """-> ([sims, S] values, [R, sims, S] resamples, true mean over all seeds there could be)."""
    (make, truth), (groups, each) = SIMULATED[metric], size
    rng = np.random.default_rng(seed)
    quality = np.full((sims, seeds), truth)
    if ratio:
        quality += np.sqrt(ratio * example_variance(metric, size)) * rng.normal(size=quality.shape)
    runs = [one for true in np.clip(quality, 0.01, 0.99) for one in make(rng, true, groups, each)]
    whole, drawn = bootstrap(runs, groups, groups * each, resamples, seed=seed + 1)
    return whole.reshape(sims, seeds), drawn.reshape(resamples, sims, seeds), truth


def example_variance(metric: str, size: tuple[int, int], sims: int = 2000) -> float:
    """Variance of one run's score over sets of examples, measured."""
    (make, truth), (groups, each) = SIMULATED[metric], size
    rng = np.random.default_rng(99)
    once = np.ones((1, groups))
    values = [make(rng, np.array([truth]), groups, each)[0](once)[0] for _ in range(sims)]
    return float(np.var(values))


def coverage(
    values: np.ndarray, drawn: np.ndarray, groups: int, truth: float
) -> tuple[float, float]:
    """-> (share of simulations whose interval holds the truth, mean width)."""
    intervals = [interval(values[k], drawn[:, k], groups) for k in range(len(values))]
    share = np.mean([one.low <= truth <= one.high for one in intervals])
    width = np.mean([one.high - one.low for one in intervals])
    return float(share), float(width)


def percentile_coverage(drawn: np.ndarray, truth: float) -> float:
    """The same of plain percentiles of the mean over seeds; of several, drawn with replacement in
    each resample (two levels)."""
    chosen = np.random.default_rng(0).integers(0, drawn.shape[2], drawn.shape)
    means = np.take_along_axis(drawn, chosen, axis=2).mean(axis=2)
    low, high = np.nanpercentile(means, [2.5, 97.5], axis=0)
    return float(np.mean((low <= truth) & (truth <= high)))


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


def false_alarms(values: np.ndarray, drawn: np.ndarray, seeds: int) -> float:
    """Share of p < 0.05 between the first `seeds` runs and the next ones, which are as good."""
    first, second = values[:, :seeds], values[:, seeds : 2 * seeds]
    apart = drawn[:, :, :seeds] - drawn[:, :, seeds : 2 * seeds]
    groups, _ = SIZES["150 groups of 10"]
    p = [interval(first[k] - second[k], apart[:, k], groups).p for k in range(len(values))]
    return float(np.mean(np.array(p) < 0.05))


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


def any_differs(values: np.ndarray, drawn: np.ndarray, groups: int) -> bool:
    """Whether any row of [rows, S] values differs from the first, from their [R, rows, S]
    resamples."""
    usual, (first, *others) = usual_spread(values), range(len(values))
    p = [
        interval(values[first] - values[k], drawn[:, first] - drawn[:, k], groups, usual=usual).p
        for k in others
    ]
    return bool((holm(p) < 0.05).any())


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


def too_sure(rng: np.random.Generator, n: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """[n] classes and [n, 5] log-probabilities: those that made the classes, with their logits
    times `factor`."""
    logits = 2 * rng.normal(size=(n, 5))
    below = np.exp(log_softmax(logits, axis=-1)).cumsum(axis=1) < rng.random((n, 1))
    return below.sum(axis=1).clip(0, 4), log_softmax(factor * logits, axis=-1)


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
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
