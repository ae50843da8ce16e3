"""The cluster bootstrap: a resample is the metric of the rows it repeats."""

import numpy as np
import pytest

from i2m2.metrics import METRICS, auprc
from i2m2.stats.resampling import (
    auprc_statistic,
    auroc_statistic,
    bootstrap,
    draw_counts,
    group_index,
    mean_of,
)
from tests.i2m2.stats.conftest import random_predictions


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", METRICS)
def test_a_resampled_metric_is_that_of_the_repeated_rows(name, classes):
    rng = np.random.default_rng(0)
    y, log_prob = random_predictions(rng, 60, classes)
    log_prob = np.round(log_prob, 1)  # scores that are equal
    index, groups = group_index(np.arange(60) // 5 + 100)
    statistic = METRICS[name].statistic(y, log_prob, index, groups)
    for counts in next(draw_counts(groups, 20, seed=1)):
        rows = np.repeat(np.arange(60), counts[index].astype(int))
        expected = METRICS[name].value(y[rows], log_prob[rows])
        assert statistic(counts[None])[0] == pytest.approx(expected, abs=1e-12)
    expected = METRICS[name].value(y, log_prob)
    assert statistic(np.ones((1, groups)))[0] == pytest.approx(expected, abs=1e-12)


def test_counts_have_the_right_size_whatever_the_block_and_come_again_with_the_seed(monkeypatch):
    whole = np.concatenate(list(draw_counts(7, 50, seed=3)))
    assert whole.shape == (50, 7) and (whole.sum(axis=1) == 7).all()
    monkeypatch.setattr("i2m2.stats.resampling.BLOCK", 21)
    np.testing.assert_array_equal(np.concatenate(list(draw_counts(7, 50, seed=3))), whole)
    assert not np.array_equal(np.concatenate(list(draw_counts(7, 50, seed=4))), whole)


def test_auprc_of_the_repeated_rows_with_many_equal_scores():
    rng = np.random.default_rng(0)
    positive, scores = rng.random(80) < 0.4, rng.integers(0, 5, 80).astype(float)
    statistic = auprc_statistic(positive, scores, np.arange(80))
    log_prob = np.stack([np.zeros(80), scores], axis=1)
    for counts in next(draw_counts(80, 10)):
        rows = np.repeat(np.arange(80), counts.astype(int))
        expected = auprc(positive[rows].astype(int), log_prob[rows])
        assert statistic(counts[None])[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("make", [auroc_statistic, auprc_statistic])
def test_a_resample_without_both_classes_is_undefined(make):
    positive, scores = np.array([True, False, True]), np.array([0.3, 0.1, 0.9])
    values = make(positive, scores, np.arange(3))(
        np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]], dtype=float)
    )
    assert values[0] == 1 and np.isnan(values[1:]).all()


def test_the_resamples_of_a_mean_have_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    whole, drawn = bootstrap([mean_of(values, np.arange(400), 400)], 400, 400, 4000)
    assert whole[0] == pytest.approx(values.mean())
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.05)
