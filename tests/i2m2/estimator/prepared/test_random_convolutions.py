"""Random convolutions of series, beside sums by hand and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from i2m2.estimator.prepared import random_convolutions
from i2m2.estimator.prepared.random_convolutions import KERNELS, RandomConvolutions


def test_a_kernel_gives_its_largest_value_and_the_share_above_0():
    kernels = RandomConvolutions(
        weights=np.array([[1.0, 0.0, -1.0]], np.float32),
        channels=np.array([1]),
        dilations=np.array([2]),
        offsets=np.array([0.5], np.float32),
    )
    x = np.zeros((1, 7, 2), np.float32)
    x[0, :, 1] = [3, 1, 0, 2, 5, 1, 1]
    # x[t] - x[t + 4] + 0.5 for t = 0, 1, 2: -1.5, 0.5, -0.5
    np.testing.assert_allclose(kernels(x, np.array([7])), [[0.5, 1 / 3]])
    np.testing.assert_allclose(kernels(x, np.array([6])), [[0.5, 1 / 2]])


@pytest.mark.parametrize("length", [3, 9, 40])
def test_every_kernel_is_the_sum_over_its_steps(length, monkeypatch):
    x = np.random.default_rng(length).normal(size=(5, length, 3)).astype(np.float32)
    kernels = RandomConvolutions.draw(3, length, seed=1)
    found = kernels(x, np.full(5, length))
    for k in range(KERNELS):
        channel, dilation = kernels.channels[k], kernels.dilations[k]
        steps = np.arange(kernels.weights.shape[1]) * dilation
        starts = range(length - steps[-1])
        values = np.array([x[:, t + steps, channel] @ kernels.weights[k] for t in starts])
        values += kernels.offsets[k]
        np.testing.assert_allclose(found[:, k], values.max(axis=0), atol=1e-5)
        np.testing.assert_allclose(found[:, KERNELS + k], (values > 0).mean(axis=0), atol=1e-6)
    monkeypatch.setattr(random_convolutions, "AT_ONCE", 1)
    np.testing.assert_allclose(kernels(x, np.full(5, length)), found, atol=1e-6)


def test_the_seed_fixes_the_kernels_and_short_series_have_none():
    first, again, other = (RandomConvolutions.draw(2, 30, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.weights, again.weights)
    assert not np.array_equal(first.weights, other.weights)
    for length in (1, 2):
        none = RandomConvolutions.draw(2, length, 0)
        assert none(np.zeros((4, length, 2), np.float32), np.full(4, length)).shape == (4, 0)


def test_series_of_the_same_values_in_another_order_are_told_apart():
    """Rising teeth against falling ones: mean, extremes and spread are the same."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 200)
    time = np.arange(60) + generator.integers(0, 60, (200, 1))
    teeth = time % 7
    x = np.where(y[:, None] == 1, teeth, 6 - teeth)[..., None].astype(np.float32)
    x += generator.normal(size=x.shape, scale=0.5)
    features = RandomConvolutions.draw(1, 60, seed=0)(x, np.full(200, 60))
    model = LogisticRegression(C=0.1, max_iter=500)
    assert cross_val_score(model, features, y).mean() > 0.98
