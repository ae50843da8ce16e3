"""Simulated predictions whose true score is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm

from i2m2.stats.resampling import BootstrapStatistic, auroc_statistic, bootstrap, mean_of

ACCURACY, AUROC, PREVALENCE = 0.72, 0.80, 0.15  # of AV-MNIST's, fastMRI's order
# Of an example's difficulty: shares of variance due to its group, to the example (for every seed),
# to the example and the seed.
GROUP, EXAMPLE, EXAMPLE_AND_SEED = 0.2, 0.4, 0.4
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


def too_sure(rng: np.random.Generator, n: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """[n] classes and [n, 5] log-probabilities: those that made the classes, with their logits
    times `factor`."""
    logits = 2 * rng.normal(size=(n, 5))
    below = np.exp(log_softmax(logits, axis=-1)).cumsum(axis=1) < rng.random((n, 1))
    return below.sum(axis=1).clip(0, 4), log_softmax(factor * logits, axis=-1)
