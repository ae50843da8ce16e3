"""95 % intervals: by hand, and how often they hold the truth in simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage.shares import any_differs, coverage, false_alarms, percentile_coverage
from benchmarks.coverage.simulated import SIZES, simulate
from i2m2.stats.intervals import Spread, interval, usual_spread, variances
from i2m2.stats.resampling import bootstrap, mean_of


def test_the_interval_of_several_seeds_by_hand():
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(5000, 1)), rng.normal(size=(5000, 3))
    values, drawn = np.array([0.70, 0.72, 0.77]), 0.73 + 0.03 * common + 0.01 * own
    of_examples, of_seeds = variances(values, drawn, 50)
    pairs = [np.cov(drawn[:, i], drawn[:, j])[0, 1] * 50 / 49 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert of_examples == pytest.approx(np.mean(pairs))
    assert of_examples == pytest.approx(0.03**2, rel=0.1)
    assert of_seeds == pytest.approx((0.03**2 + 0.01**2 + 0.04**2) / 2)
    # The lower quarter of a chi-squared distribution with 2 degrees of freedom ends at -2 ln(3/4).
    limit = of_seeds / 3 * 2 / (-2 * math.log(0.75))
    freedom = (of_examples + limit) ** 2 / (of_examples**2 / 49 + limit**2 / 2)
    half = stats.t.isf(0.025, freedom) * math.sqrt(of_examples + of_seeds / 3)
    found = interval(values, drawn, 50)
    assert (found.low, found.high) == pytest.approx((0.73 - half, 0.73 + half), rel=1e-4)
    assert found.rule == "t, seeds and examples"


def test_two_seeds_that_score_alike_are_no_surer_than_the_bootstrap_of_their_mean():
    rng = np.random.default_rng(0)
    resampled = 0.8 + 0.02 * rng.standard_normal((2000, 2)) * [1, -1]
    # Luck with the examples that goes opposite ways.
    resampled[:, 1] = 1.6 - resampled[:, 0] + 0.01 * rng.standard_normal(2000)
    found = interval(np.array([0.8, 0.8]), resampled, 200)
    expected = stats.t.isf(0.025, 199) * np.sqrt(resampled.mean(axis=1).var(ddof=1) * 200 / 199)
    assert (found.low, found.high) == pytest.approx((0.8 - expected, 0.8 + expected))


def test_p_is_five_percent_where_the_interval_ends_at_zero():
    rng = np.random.default_rng(0)
    for seeds in (1, 4):
        values = rng.normal(size=seeds)
        drawn = rng.normal(size=(4000, 1)) + rng.normal(size=(4000, seeds))
        found = interval(values, drawn + values, 40)
        at_the_end = interval(values - found.low, drawn + values - found.low, 40)
        assert at_the_end.p == pytest.approx(0.05, abs=0.002)
        assert interval(values - found.low + 0.1, drawn + values - found.low + 0.1, 40).p < 0.05


def test_no_interval_is_given_where_there_is_no_spread_or_no_second_group():
    same = interval(np.array([1.0]), np.ones((100, 1)), 50)
    assert same.low is None and "same value" in same.rule
    assert interval(np.zeros(2), np.zeros((100, 2)), 50).p == 1
    assert "two groups" in interval(np.array([0.5]), np.ones((100, 1)), 1).rule
    assert "not defined" in interval(np.array([np.nan]), np.ones((100, 1)), 9).rule


def test_bounds_and_undefined_resamples():
    drawn = np.random.default_rng(0).normal(0.98, 0.02, (1000, 1))
    drawn[:7] = np.nan
    found = interval(np.array([0.98]), drawn, 80, (0, 1))
    assert found.high == 1 and 0.9 < found.low < 0.98 and found.resamples_left_out == 7


@pytest.mark.parametrize(
    "metric, size",
    [("accuracy", "500 examples"), ("accuracy", "150 groups of 10"), ("nll", "150 groups of 10")],
)
def test_bootstrap_of_one_run_covers_as_it_says(metric, size):
    values, drawn, truth = simulate(metric, 1, 0, SIZES[size], sims=1000, resamples=500)
    assert 0.93 <= coverage(values, drawn, SIZES[size][0], truth)[0] <= 0.97


def test_examples_alone_would_not_cover_where_they_come_in_groups():
    rng = np.random.default_rng(0)
    of_group = np.repeat(rng.normal(size=(400, 60)), 10, axis=1)
    right = (of_group + rng.normal(size=(400, 600)) < 0).astype(float)
    by_example, by_group = np.arange(600), np.arange(600) // 10
    shares = {}
    for name, index in (("example", by_example), ("group", by_group)):
        groups = index.max() + 1
        values, drawn = bootstrap([mean_of(one, index, groups) for one in right], groups, 600, 400)
        shares[name] = coverage(values[:, None], drawn[:, :, None], groups, 0.5)[0]
    assert shares["example"] < 0.8 and 0.92 <= shares["group"] <= 0.975


@pytest.mark.parametrize("ratio", [1 / 25, 1, 25])
def test_few_seeds_cover_at_three_ratios_of_seed_to_example_variance(ratio):
    values, drawn, truth = simulate("accuracy", 5, ratio, (100, 5), sims=500, resamples=300)
    for seeds in (5, 3, 2):
        assert coverage(values[:, :seeds], drawn[:, :, :seeds], 100, truth)[0] >= 0.93
    if ratio == 25:
        assert percentile_coverage(drawn, truth) < 0.91  # what the rule is for


def test_equally_good_methods_are_seldom_said_to_differ():
    size = SIZES["150 groups of 10"]
    values, drawn, _ = simulate("accuracy", 6, 1, size, sims=500, resamples=300)
    # Seeds that differ: one of each says something else.
    assert false_alarms(values, drawn, 1) > 0.07
    assert 0.02 <= false_alarms(values, drawn, 3) <= 0.07


def test_the_usual_spread_by_hand():
    """Sample variances 1, 4 and 100 of three seeds each: chi-squared with 2 degrees of freedom has
    the median 2 ln 2, and a difference twice the variance of a row."""
    rows = [np.array([-1.0, 0, 1]), np.array([-2.0, 0, 2]), np.array([-10.0, 0, 10])]
    variance, freedom = usual_spread([*rows, np.ones(1), np.ones(3)])  # the last ones have none
    assert variance == pytest.approx(2 * 4 * 2 / (2 * math.log(2))) and freedom == 3
    assert usual_spread([np.ones(1), np.ones(3)]) is None


def test_the_usual_spread_is_the_least_that_seeds_are_taken_to_have():
    rng = np.random.default_rng(0)
    values, drawn = np.array([0.1, 0.1, 0.1001]), 0.01 * rng.normal(size=(2000, 1)) + np.zeros(3)
    alone = interval(values, drawn, 100)
    spread = interval(values, drawn, 100, usual=Spread(0.05**2, 20))
    limit = 0.05**2 / 3 * 20 / stats.chi2.ppf(0.25, 20)
    of_examples = variances(values, drawn, 100)[0]
    freedom = (of_examples + limit) ** 2 / (of_examples**2 / 99 + limit**2 / 20)
    half = stats.t.isf(0.025, freedom) * math.sqrt(of_examples + 0.05**2 / 3)
    assert spread.high - spread.mean == pytest.approx(half) and half > alone.high - alone.mean
    assert interval(values * [0, 1, 9], drawn, 100, usual=Spread(0.0, 0.0)) == interval(
        values * [0, 1, 9], drawn, 100
    )


@pytest.mark.parametrize("seeds", [2, 3])
def test_equally_good_rows_of_a_table_are_seldom_said_to_differ(seeds):
    values, drawn, _ = simulate("accuracy", 9 * seeds, 1, (100, 1), sims=200, resamples=200)
    values, drawn = values.reshape(200, 9, seeds), drawn.reshape(200, 200, 9, seeds)
    alarms = [any_differs(values[k], drawn[:, k], 100) for k in range(200)]
    assert np.mean(alarms) <= 0.07


def test_one_run_differs_from_another_as_the_percentiles_say():
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, 400)) < [[0.75], [0.70]]).astype(float)
    index = np.arange(400)
    whole, drawn = bootstrap([mean_of(a, index, 400), mean_of(b, index, 400)], 400, 400, 2000)
    found = interval(whole[:1] - whole[1:], drawn[:, :1] - drawn[:, 1:], 400)
    apart, error = whole[0] - whole[1], np.std(a - b) / 20
    ends = (apart - 1.97 * error, apart + 1.97 * error)
    assert (found.low, found.high) == pytest.approx(ends, abs=0.006)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(apart) / error), abs=0.02)


def test_a_difference_that_no_resample_reverses_has_the_p_of_its_t():
    """By hand: 30 groups, the resampled differences normal with mean 0.5 and standard deviation
    0.05."""
    normal = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    found = interval(np.array([0.5]), (0.5 + 0.05 * normal)[:, None], groups=30)
    wider = np.sqrt(30 / 29) * np.std(0.05 * normal, ddof=1)
    assert found.p == pytest.approx(2 * stats.t.sf(0.5 / wider, 29), rel=1e-6)
    assert found.p * 100 < 0.05 and found.p < 1e-8  # enough for the largest of our tables
    # Where resamples are on both sides their share decides, as before.
    near = interval(np.array([0.1]), (0.1 + 0.05 * normal)[:, None], groups=30)
    tail = stats.norm.ppf(47 / 2001) / np.sqrt(30 / 29)
    assert near.p == pytest.approx(2 * stats.t.cdf(tail, 29), rel=1e-6)
