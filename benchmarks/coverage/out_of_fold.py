"""Real learners on generated data, scored out of fold: what the benchmark needs for its part
`folds`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from i2m2.stats.resampling import BootstrapStatistic, mean_of

FOLDS = 5


def generated_examples(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """[n, 6] inputs and [n] bool: one input and the product of two others, with noise."""
    x = rng.normal(size=(n, 6))
    return x, x[:, 0] + x[:, 1] * x[:, 2] + 0.8 * rng.normal(size=n) > 0


def fold_is_right(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, held_out: np.ndarray, width: int
) -> np.ndarray:
    """Whether ridge regression on the other examples is right about those held out: on the inputs,
    or with a `width` on so many random features of them, which are what a seed draws."""
    features = np.tanh(x @ rng.normal(size=(x.shape[1], width))) if width else x
    features = np.column_stack([features, np.ones(len(x))])
    known, sign = features[~held_out], 2.0 * y[~held_out] - 1
    weights = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T @ sign)
    return (features[held_out] @ weights > 0) == y[held_out]


def out_of_fold(
    rng: np.random.Generator, n: int, widths: Sequence[int], seeds: int
) -> list[BootstrapStatistic]:
    """Accuracies of the learners of these widths, of each with all its seeds, on the same folds."""
    x, y = generated_examples(rng, n)
    fold = rng.permutation(n) % FOLDS
    right = np.zeros((len(widths), seeds, n))
    for learner, seed, k in np.ndindex(len(widths), seeds, FOLDS):
        held_out = fold == k
        right[learner, seed, held_out] = fold_is_right(rng, x, y, held_out, widths[learner])
    return [mean_of(one, np.arange(n), n) for of_learner in right for one in of_learner]
