"""Intervals, tests of a difference, calibration and rescues: against hand calculations, other
routes and simulations."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from benchmarks.coverage import SIZES, coverage, false_alarms, percentile_coverage, simulate
from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS, accuracy, auprc, auroc, ece, score
from i2m2.report.estimates import comparison_of, statistics_of
from i2m2.report.studies import study
from i2m2.stats.calibration import (
    fit_combination,
    fit_temperature,
    log_frequencies,
    post_hoc,
    reliability,
    with_temperature,
)
from i2m2.stats.complementarity import entropies, rescue_rate, rescues
from i2m2.stats.intervals import interval, variances
from i2m2.stats.paired_tests import delong, delong_covariance, holm, mcnemar
from i2m2.stats.resampling import (
    bootstrap,
    draws,
    group_index,
    mean_of,
    resampled,
    resampled_auprc,
    resampled_auroc,
)


def random_predictions(rng, n, classes, labels=None):
    shape = (n,) if labels is None else (n, labels)
    y = rng.integers(0, classes, shape)
    return y, log_softmax(rng.normal(size=(*shape, classes)) + 1.2 * np.eye(classes)[y], axis=-1)


# Resampling


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", METRICS)
def test_a_resampled_metric_is_that_of_the_repeated_rows(name, classes):
    rng = np.random.default_rng(0)
    y, log_prob = random_predictions(rng, 60, classes)
    log_prob = np.round(log_prob, 1)  # scores that are equal
    index, groups = group_index(np.arange(60) // 5 + 100)
    metric = resampled(name, y, log_prob, index, groups)
    for drawn in next(iter(draws(groups, 20, seed=1))):
        rows = np.repeat(np.arange(60), drawn[index].astype(int))
        assert metric(drawn[None])[0] == pytest.approx(
            METRICS[name](y[rows], log_prob[rows]), abs=1e-12
        )
    assert metric(np.ones((1, groups)))[0] == pytest.approx(METRICS[name](y, log_prob), abs=1e-12)


def test_draws_have_the_right_size_whatever_the_block_and_come_again_with_the_seed(monkeypatch):
    whole = np.concatenate(list(draws(7, 50, seed=3)))
    assert whole.shape == (50, 7) and (whole.sum(axis=1) == 7).all()
    monkeypatch.setattr("i2m2.stats.resampling.BLOCK", 21)
    np.testing.assert_array_equal(np.concatenate(list(draws(7, 50, seed=3))), whole)
    assert not np.array_equal(np.concatenate(list(draws(7, 50, seed=4))), whole)


@pytest.mark.parametrize("one", [resampled_auroc, resampled_auprc])
def test_a_resample_without_both_classes_is_undefined(one):
    metric = one(np.array([True, False, True]), np.array([0.3, 0.1, 0.9]), np.array([0, 1, 2]))
    values = metric(np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]], dtype=float))
    assert values[0] == 1 and np.isnan(values[1:]).all()


# Intervals


def test_the_resamples_of_a_mean_have_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    whole, drawn = bootstrap([mean_of(values, np.arange(400), 400)], 400, 400, 4000)
    assert whole[0] == pytest.approx(values.mean())
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_the_interval_of_several_seeds_by_hand():
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(5000, 1)), rng.normal(size=(5000, 3))
    values, drawn = np.array([0.70, 0.72, 0.77]), 0.73 + 0.03 * common + 0.01 * own
    of_examples, of_seeds = variances(values, drawn, 50)
    pairs = [np.cov(drawn[:, i], drawn[:, j])[0, 1] * 50 / 49 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert of_examples == pytest.approx(np.mean(pairs)) and of_examples == pytest.approx(
        0.03**2, rel=0.1
    )
    assert of_seeds == pytest.approx((0.03**2 + 0.01**2 + 0.04**2) / 2)
    half = math.sqrt(
        2.0096**2 * of_examples + 4.3027**2 * of_seeds / 3
    )  # t of 49 and of 2 degrees of freedom, from a table
    found = interval(values, drawn, 50)
    assert (found.low, found.high) == pytest.approx((0.73 - half, 0.73 + half), rel=1e-4)
    assert found.rule == "t, seeds and examples"


def test_two_seeds_that_score_alike_are_no_surer_than_the_bootstrap_of_their_mean():
    rng = np.random.default_rng(0)
    resampled = 0.8 + 0.02 * rng.standard_normal((2000, 2)) * [1, -1]
    resampled[:, 1] = (
        1.6 - resampled[:, 0] + 0.01 * rng.standard_normal(2000)
    )  # luck with the examples that goes opposite ways
    found = interval(np.array([0.8, 0.8]), resampled, 200)
    expected = stats.t.isf(0.025, 199) * np.sqrt(resampled.mean(axis=1).var(ddof=1) * 200 / 199)
    assert (found.low, found.high) == pytest.approx((0.8 - expected, 0.8 + expected))


def test_p_is_five_percent_where_the_interval_ends_at_zero():
    rng = np.random.default_rng(0)
    for seeds in (1, 4):
        values, drawn = (
            np.zeros(seeds) + rng.normal(size=seeds),
            rng.normal(size=(4000, 1)) + rng.normal(size=(4000, seeds)),
        )
        found = interval(values, drawn + values, 40)
        at_the_end = interval(values - found.low, drawn + values - found.low, 40)
        assert at_the_end.p == pytest.approx(0.05, abs=0.002)
        assert interval(values - found.low + 0.1, drawn + values - found.low + 0.1, 40).p < 0.05


def test_no_interval_is_given_where_there_is_no_spread_or_no_second_group():
    same = interval(np.array([1.0]), np.ones((100, 1)), 50)
    assert math.isnan(same.low) and "same value" in same.rule
    assert interval(np.zeros(2), np.zeros((100, 2)), 50).p == 1
    assert "two groups" in interval(np.array([0.5]), np.ones((100, 1)), 1).rule
    assert "not defined" in interval(np.array([np.nan]), np.ones((100, 1)), 9).rule


def test_bounds_and_undefined_resamples():
    drawn = np.random.default_rng(0).normal(0.98, 0.02, (1000, 1))
    drawn[:7] = np.nan
    found = interval(np.array([0.98]), drawn, 80, (0, 1))
    assert found.high == 1 and 0.9 < found.low < 0.98 and found.left_out == 7


@pytest.mark.parametrize(
    "metric, size",
    [("accuracy", "500 examples"), ("accuracy", "150 groups of 10"), ("nll", "150 groups of 10")],
)
def test_bootstrap_of_one_run_covers_as_it_says(metric, size):
    values, drawn, truth = simulate(metric, 1, 0, SIZES[size], sims=1000, resamples=500)
    assert 0.93 <= coverage(values, drawn, SIZES[size][0], truth)[0] <= 0.97


def test_examples_alone_would_not_cover_where_they_come_in_groups():
    rng = np.random.default_rng(0)
    right = (
        np.repeat(rng.normal(size=(400, 60)), 10, axis=1) + rng.normal(size=(400, 600)) < 0
    ).astype(float)
    by_example, by_group = np.arange(600), np.arange(600) // 10
    shares = {}
    for name, index in (("example", by_example), ("group", by_group)):
        groups = index.max() + 1
        values, drawn = bootstrap([mean_of(one, index, groups) for one in right], groups, 600, 400)
        shares[name] = coverage(values[:, None], drawn[:, :, None], groups, 0.5)[0]
    assert shares["example"] < 0.8 and 0.92 <= shares["group"] <= 0.975


@pytest.mark.parametrize("ratio", [1 / 25, 1, 25])
def test_five_seeds_cover_at_three_ratios_of_seed_to_example_variance(ratio):
    values, drawn, truth = simulate("accuracy", 5, ratio, (100, 5), sims=500, resamples=300)
    for seeds in (5, 3):
        assert coverage(values[:, :seeds], drawn[:, :, :seeds], 100, truth)[0] >= 0.93
    if ratio == 25:
        assert percentile_coverage(drawn, truth) < 0.91  # what the rule is for


def test_equally_good_methods_are_seldom_said_to_differ():
    values, drawn, _ = simulate(
        "accuracy", 6, 1, SIZES["150 groups of 10"], sims=500, resamples=300
    )
    assert (
        false_alarms(values, drawn, 1) > 0.07
    )  # seeds that differ: one of each says something else
    assert 0.02 <= false_alarms(values, drawn, 3) <= 0.07


# Tests of a difference


def delong_by_definition(positive, first, second):
    """DeLong et al. 1988: every positive against every negative."""
    kernels = []
    for scores in (first, second):
        above, below = scores[positive][:, None], scores[~positive][None, :]
        kernels.append((above > below) + 0.5 * (above == below))
    areas = [kernel.mean() for kernel in kernels]
    (m, n), variance = kernels[0].shape, 0.0
    for axis, size in ((1, m), (0, n)):
        part = kernels[0].mean(axis) - kernels[1].mean(axis) - (areas[0] - areas[1])
        variance += (part @ part) / (size - 1) / size
    z = (areas[0] - areas[1]) / math.sqrt(variance)
    return *areas, variance, math.erfc(abs(z) / math.sqrt(2))


@pytest.mark.parametrize("seed", range(3))
def test_delong_is_its_definition_over_all_pairs_ties_included(seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(150) < 0.3
    shared = rng.normal(size=150)
    first, second = (
        np.round(shared + positive, 1),
        np.round(shared + rng.normal(size=150) + 0.7 * positive, 1),
    )
    found = delong(positive, first, second)
    expected = delong_by_definition(positive, first, second)
    np.testing.assert_allclose(
        (found.first, found.second, found.variance, found.p), expected, rtol=1e-10
    )
    areas, covariance = delong_covariance(positive, np.stack([first, second, second]))
    assert covariance[1, 2] == pytest.approx(covariance[1, 1]) and areas[1] == areas[2]


def test_delong_without_anything_to_say():
    positive = np.array([True, True, False, False])
    assert delong(positive, np.arange(4.0), np.arange(4.0)).p == 1
    assert math.isnan(delong(np.array([True, False]), np.arange(2.0), np.arange(2.0)).p)
    assert math.isnan(delong(np.ones(3, bool), np.arange(3.0), np.arange(3.0)).first)


@pytest.mark.parametrize("won, lost", [(10, 3), (0, 5), (4, 4), (0, 0), (120, 90)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(won, lost):
    first = np.array([True] * won + [False] * lost + [True, False] * 7)
    second = np.array([False] * won + [True] * lost + [True, False] * 7)
    found = mcnemar(first, second)
    assert (found.won, found.lost) == (won, lost)
    n, fewer = won + lost, min(won, lost)
    by_hand = [sum(math.comb(n, k) for k in range(upto)) / 2**n for upto in (fewer, fewer + 1)]
    assert found.p == pytest.approx(min(1, 2 * by_hand[1]), abs=1e-10)
    assert found.mid_p == pytest.approx(
        by_hand[0] + by_hand[1], abs=1e-10
    )  # half of the observed outcome, on both sides
    if n:
        assert found.p == pytest.approx(stats.binomtest(won, n).pvalue, abs=1e-10)


def test_holm_by_hand():
    # Sorted: 0.01, 0.015, 0.03, 0.04; times 4, 3, 2, 1: 0.04, 0.045, 0.06, 0.04 -> no less than the
    # one before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.015]), [0.06, 0.04, 0.06, 0.045])
    np.testing.assert_allclose(holm([0.6, np.nan, 0.7]), [1, np.nan, 1])


# Calibration


def test_reliability_by_hand_adds_up_to_the_ece():
    p = np.array(
        [
            [0.7, 0.2, 0.1],
            [0.1, 0.6, 0.3],
            [0.4, 0.6, 0.0001],
            [0.2, 0.2, 0.6],
            [0.0001, 0.0001, 1.0],
        ]
    )
    y = np.array([0, 1, 0, 2, 2])
    found = reliability(y, np.log(p))
    # (8/15, 9/15] holds three answers at 0.6, two of them right; (10/15, 11/15] the one at 0.7; the
    # last bin certainty.
    assert {k: n for k, n in enumerate(found["count"]) if n} == {8: 3, 10: 1, 14: 1}
    assert found["confidence"][8] == pytest.approx(0.6) and found["accuracy"][8] == pytest.approx(
        2 / 3
    )
    assert (
        found["accuracy"][0] is None
        and found["low"][8] == pytest.approx(8 / 15)
        and found["high"][14] == 1
    )
    y, log_prob = random_predictions(np.random.default_rng(0), 500, 4)
    found = reliability(y, log_prob)
    gaps = [
        n * abs(a - c)
        for n, a, c in zip(found["count"], found["accuracy"], found["confidence"], strict=True)
        if n
    ]
    assert sum(gaps) / 500 == pytest.approx(ece(y, log_prob))


def test_the_study_of_a_run_has_product_and_experts_over_all_labels():
    y, log_prob = random_predictions(np.random.default_rng(0), 90, 2, labels=2)
    predictions = {
        "y": y,
        "log_prob": log_prob,
        "expert_image": log_prob[::-1],
        "labels": np.array(["acl", "meniscus"]),
    }
    found = study(predictions)
    assert list(found["calibration"]) == list(found["reliability"]) == ["product", "image"]
    by_label = [METRICS["nll"](y[:, k], log_prob[::-1, k]) for k in range(2)]
    assert found["calibration"]["image"]["nll"] == pytest.approx(np.mean(by_label))
    counts = [reliability(y[:, k], log_prob[:, k])["count"] for k in range(2)]
    assert found["reliability"]["product"]["count"] == np.sum(counts, axis=0).tolist()


PRIOR = np.array([0.45, 0.25, 0.15, 0.1, 0.05])


def exact_experts(n, seed):
    """Labels by PRIOR, two normal modalities, independent given the label, and the exact p(y |
    x_1), p(y | x_2) and p(y | both)."""
    rng = np.random.default_rng(seed)
    y = rng.choice(5, n, p=PRIOR)
    means = np.random.default_rng(99).normal(size=(2, 5, 3))
    x = means[:, y] + rng.normal(size=(2, n, 3))
    likelihood = -0.5 * ((x[:, :, None] - means[:, None]) ** 2).sum(-1)  # [2, n, C]
    image, audio = log_softmax(likelihood + np.log(PRIOR), axis=-1)
    return y, {
        "image": image,
        "audio": audio,
        "inter": log_softmax(likelihood.sum(0) + np.log(PRIOR), axis=-1),
    }


def as_predictions(y, experts):
    product = log_softmax(sum(experts.values()), axis=-1)
    return {"id": np.arange(len(y)), "group": np.arange(len(y)), "y": y, "log_prob": product} | {
        f"expert_{name}": value for name, value in experts.items()
    }


def test_fitted_combination_recovers_the_weights_of_distorted_experts():
    y, experts = exact_experts(40_000, 0)
    # By Bayes log p(y | x_1, x_2) = log q_1 + log q_2 - log p(y): experts to the power of 2 and 1/2
    # need weights of 1/2 and 2.
    distorted = {
        "image": log_softmax(2 * experts["image"], axis=-1),
        "audio": log_softmax(0.5 * experts["audio"], axis=-1),
    }
    fitted = fit_combination(y, distorted, np.log(PRIOR))
    assert fitted.weights == pytest.approx([0.5, 2], rel=0.04) and fitted.gamma == pytest.approx(
        -1, abs=0.06
    )
    np.testing.assert_allclose(fitted(distorted)[:1000], experts["inter"][:1000], atol=0.25)


def test_fitting_is_at_the_maximum_of_the_likelihood():
    y, experts = exact_experts(500, 3)
    fitted = fit_combination(y, experts)
    best = METRICS["nll"](y, fitted(experts))
    for change in np.eye(4) * 0.05:
        for sign in (1, -1):
            other = type(fitted)(
                experts=fitted.experts,
                weights=fitted.weights + sign * change[:3],
                gamma=fitted.gamma + sign * change[3],
                log_prior=fitted.log_prior,
            )
            assert METRICS["nll"](y, other(experts)) > best - 1e-6


def test_plain_product_of_exact_experts_is_too_sure_and_the_fitted_one_is_not():
    val, test = (as_predictions(*exact_experts(n, seed)) for n, seed in ((5000, 1), (20_000, 2)))
    joint = test | {"log_prob": test["expert_inter"]}
    found = post_hoc(val, test, joint)
    eces = {name: one["scores"]["ece"] for name, one in found.items()}
    assert 0.08 <= eces["plain"] <= 0.18 and eces["fitted"] <= 0.014
    assert eces["fitted"] < eces["temperature"] < eces["plain"] and eces["prior_divided"] > 0.02
    assert found["fitted"]["scores"]["nll"] == pytest.approx(
        found["joint"]["scores"]["nll"], abs=0.002
    )  # the exact posterior
    assert (
        set(found["fitted"]["weights"]) == {"image", "audio", "inter"}
        and found["prior_divided"]["gamma"] == -2
    )
    json.dumps(
        {name: {k: v for k, v in one.items() if k != "log_prob"} for name, one in found.items()},
        allow_nan=False,
    )
    with pytest.raises(DataError, match="other examples"):
        post_hoc(val, test, joint | {"id": joint["id"] + 1})
    with pytest.raises(SettingsError, match="two experts"):
        post_hoc({k: v for k, v in val.items() if k not in ("expert_image", "expert_audio")}, test)


def test_labels_are_fitted_each_by_itself():
    parts = [exact_experts(2000, seed) for seed in (1, 2)]
    y = np.stack([part[0] for part in parts], axis=1)
    experts = {
        name: np.stack([part[1][name] for part in parts], axis=1) for name in ("image", "audio")
    }
    both = fit_combination(y, experts)
    assert both.weights.shape == (2, 2) and both.gamma.shape == (2,)
    for k, (y_one, all_of_one) in enumerate(parts):
        of_one = {name: all_of_one[name] for name in experts}
        alone = fit_combination(y_one, of_one)
        np.testing.assert_allclose(both.weights[:, k], alone.weights)
        np.testing.assert_allclose(both(experts)[:, k], alone(of_one))
    assert fit_temperature(y, experts["image"]).shape == (2,)
    assert set(post_hoc(*[as_predictions(y, experts)] * 2)["fitted"]["scores"]) >= {
        "ece",
        "ece_0",
        "ece_1",
    }


def test_temperature_takes_back_a_known_factor():
    y, experts = exact_experts(20_000, 5)
    sharpened = log_softmax(3 * experts["inter"], axis=-1)
    temperature = fit_temperature(y, sharpened)
    assert temperature == pytest.approx(3, rel=0.05)
    np.testing.assert_allclose(with_temperature(sharpened, 3.0), experts["inter"], atol=1e-9)


def test_what_the_labels_leave_open_stays_at_the_plain_product():
    y, experts = exact_experts(300, 6)
    # The product of the three is the same along (1, 1, -1, -1); nearest to the plain product's (1,
    # 1, 1, 0) is (1, 1, 1, -1) / 2.
    large, exact = exact_experts(30_000, 7)
    free = fit_combination(large, exact, np.log(PRIOR))
    along = np.array([1, 1, -1, -1])
    assert along @ (np.array([*free.weights, free.gamma]) - [1, 1, 1, 0]) == pytest.approx(
        0, abs=1e-3
    )
    assert [*free.weights, free.gamma] == pytest.approx([0.5, 0.5, 0.5, -0.5], abs=0.05)
    uniform = np.log(np.full(5, 0.2))
    fitted = fit_combination(
        y, {"image": experts["image"], "none": np.tile(uniform, (300, 1))}, uniform
    )
    assert fitted.weights[1] == pytest.approx(1) and fitted.gamma == pytest.approx(0)
    certain = np.where(
        np.eye(5)[y] > 0, 0.0, -np.inf
    )  # told apart without error, impossible classes included
    assert np.isfinite(
        fit_combination(y, {"image": certain, "audio": experts["audio"]}).weights
    ).all()


def test_class_frequencies_by_hand():
    np.testing.assert_allclose(
        np.exp(log_frequencies(np.array([0, 0, 2]), 3)), [3 / 6, 1 / 6, 2 / 6]
    )
    assert log_frequencies(np.zeros((4, 2), int), 3).shape == (2, 3)


# Experts


def test_rescues_and_their_counterparts_by_hand():
    product = np.array([1, 0, 0, 1, 0, 1], bool)
    experts = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0]], bool)
    found = rescue_rate(product, experts)
    # All wrong: 0, 1, 5, of which 0 and 5 are rescued. All right: 2, spoilt. Some right: 2, 3, 4,
    # of which 2 and 4 are lost.
    assert (
        found["all_wrong"],
        found["rescued"],
        found["rescued_share"],
        found["rescued_of_all_wrong"],
    ) == (3, 2, 2 / 6, 2 / 3)
    assert (
        found["all_right"],
        found["spoilt"],
        found["spoilt_share"],
        found["spoilt_of_all_right"],
    ) == (1, 1, 1 / 6, 1)
    assert (
        found["some_right"],
        found["lost"],
        found["lost_share"],
        found["lost_of_some_right"],
    ) == (3, 2, 2 / 6, 2 / 3)
    assert rescue_rate(product, np.ones((2, 6), bool))["rescued_of_all_wrong"] is None


def test_rescues_of_predictions_and_entropies_per_label():
    image, audio = (
        np.log([[0.5, 0.1, 0.4], [0.6, 0.3, 0.1]]),
        np.log([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1]]),
    )
    y = np.array([2, 0])  # 0.16 beats 0.05: together right where each is wrong
    found = rescues(as_predictions(y, {"image": image, "audio": audio}))[""]
    assert (found["examples"], found["rescued"], found["lost"]) == (2, 1, 0)
    with pytest.raises(SettingsError, match="fewer than two"):
        rescues(as_predictions(y, {"image": image}))
    table = entropies(
        as_predictions(np.stack([y, y * 0], axis=1), {"image": np.stack([image, audio], axis=1)})
    )
    assert table["0"]["y"] == pytest.approx(math.log(2)) and table["1"]["y"] == 0
    assert table["1"]["image"] == pytest.approx(METRICS["entropy"](y, audio))


# Statistics of runs


def save_runs(folder, seeds, strength, labels=None, n=300, shift=0):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (n, 2) if labels else n)
    for seed in seeds:
        noise = np.random.default_rng(100 + seed + shift).normal(size=(*y.shape, 2))
        log_prob = log_softmax(noise + strength * np.eye(2)[y], axis=-1).astype(np.float32)
        run = folder / f"seed{seed}"
        run.mkdir(parents=True)
        named = {"labels": np.array(labels)} if labels else {}
        np.savez(
            run / "predictions_test.npz",
            id=np.arange(n),
            group=np.arange(n) // 3,
            y=y,
            log_prob=log_prob,
            **named,
        )
    return [folder / f"seed{seed}" for seed in seeds]


def test_statistics_of_runs_are_the_metrics_and_fit_into_json(tmp_path):
    runs = save_runs(tmp_path / "a", (0, 1, 2), 1.5)
    found = json.loads(
        json.dumps(
            statistics_of(runs, ["accuracy", "auroc", "nll"], resamples=200), allow_nan=False
        )
    )
    assert (found["groups"], found["examples"], found["resamples"], found["level"]) == (
        100,
        300,
        200,
        0.95,
    )
    each = [dict(np.load(run / "predictions_test.npz")) for run in runs]
    values = [accuracy(p["y"], p["log_prob"]) for p in each]
    of_accuracy = found["metrics"]["accuracy"]
    assert of_accuracy["values"] == pytest.approx(values) and of_accuracy["mean"] == pytest.approx(
        np.mean(values)
    )
    assert of_accuracy["std"] == pytest.approx(np.std(values, ddof=1))
    assert (
        of_accuracy["low"] < np.mean(values) < of_accuracy["high"]
        and of_accuracy["rule"] == "t, seeds and examples"
    )
    assert found["metrics"]["auroc"]["values"] == pytest.approx(
        [auroc(p["y"], p["log_prob"]) for p in each]
    )
    one = statistics_of(runs[:1], ["accuracy"], resamples=200)["metrics"]["accuracy"]
    assert one["std"] is None and "one seed" in one["rule"]


def test_labels_and_their_mean_are_those_of_score_and_an_undefined_one_is_null(tmp_path):
    (run,) = save_runs(tmp_path / "a", (0,), 1.0, labels=["acl", "meniscus"])
    p = dict(np.load(run / "predictions_test.npz"))
    found = statistics_of([run], ["auroc", "auroc_acl", "ece_meniscus", "auprc"], resamples=100)[
        "metrics"
    ]
    expected = score(p["y"], p["log_prob"], ["auroc", "auprc", "ece"], ["acl", "meniscus"])
    assert set(found) == {
        "auroc",
        "auroc_acl",
        "auroc_meniscus",
        "auprc",
        "auprc_acl",
        "auprc_meniscus",
        "ece_meniscus",
    }
    assert {name: one["mean"] for name, one in found.items()} == pytest.approx(
        {name: expected[name] for name in found}
    )
    p["y"][:, 0] = 0
    np.savez(run / "predictions_test.npz", **p)
    found = statistics_of([run], ["auroc"], resamples=100)["metrics"]
    assert found["auroc_acl"]["mean"] is None and found["auroc_acl"]["low"] is None
    assert (
        found["auroc"]["mean"]
        == found["auroc_meniscus"]["mean"]
        == pytest.approx(expected["auroc_meniscus"])
    )


def test_a_data_sets_own_metric_and_unknown_ones(tmp_path):
    runs = save_runs(tmp_path / "a", (0, 1), 1.0)
    own = {
        "vqa_score": lambda p, index, groups: mean_of(
            (p["log_prob"].argmax(-1) == p["y"]) * 0.9, index, groups
        )
    }
    found = statistics_of(runs, ["vqa_score", "accuracy"], own=own, resamples=100)["metrics"]
    assert found["vqa_score"]["mean"] == pytest.approx(0.9 * found["accuracy"]["mean"])
    assert found["vqa_score"]["low"] == pytest.approx(0.9 * found["accuracy"]["low"])
    with pytest.raises(SettingsError, match="'acuracy' is unknown; choose from accuracy"):
        statistics_of(runs, ["acuracy"])


def test_a_difference_is_paired_over_examples_and_seeds(tmp_path):
    first, second = (
        save_runs(tmp_path / "a", (0, 1, 2), 1.5),
        save_runs(tmp_path / "b", (0, 1, 2), 1.0, shift=50),
    )
    found = comparison_of(first, second, ["accuracy", "auroc"], resamples=500)
    of_accuracy = found["metrics"]["accuracy"]
    apart = [
        a - b
        for a, b in zip(
            of_accuracy["first"]["values"], of_accuracy["second"]["values"], strict=True
        )
    ]
    assert of_accuracy["difference"]["values"] == pytest.approx(apart)
    assert of_accuracy["difference"]["low"] > 0 and of_accuracy["difference"]["p"] < 0.05
    assert (
        of_accuracy["first"]
        == statistics_of(first, ["accuracy"], resamples=500)["metrics"]["accuracy"]
    )
    a, b = (dict(np.load(runs[0] / "predictions_test.npz")) for runs in (first, second))
    log_odds = [p["log_prob"][:, 1].astype(float) - p["log_prob"][:, 0] for p in (a, b)]
    assert found["tests"][0][""]["delong"]["p"] == delong(a["y"] == 1, *log_odds).p
    won = ((a["log_prob"].argmax(-1) == a["y"]) & (b["log_prob"].argmax(-1) != b["y"])).sum()
    assert found["tests"][0][""]["mcnemar"]["won"] == won
    nothing = comparison_of(
        first[:1], [save_runs(tmp_path / "c", (0,), 1.5)[0]], ["accuracy"], resamples=100
    )
    assert nothing["metrics"]["accuracy"]["difference"]["p"] == 1  # the same predictions
    json.dumps(found, allow_nan=False)


def test_one_run_differs_from_another_as_the_percentiles_say():
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, 400)) < [[0.75], [0.70]]).astype(float)
    index = np.arange(400)
    whole, drawn = bootstrap([mean_of(a, index, 400), mean_of(b, index, 400)], 400, 400, 2000)
    found = interval(whole[:1] - whole[1:], drawn[:, :1] - drawn[:, 1:], 400)
    error = np.std(a - b) / 20
    assert (found.low, found.high) == pytest.approx(
        (whole[0] - whole[1] - 1.97 * error, whole[0] - whole[1] + 1.97 * error), abs=0.006
    )
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(whole[0] - whole[1]) / error), abs=0.02)


def test_auprc_of_the_repeated_rows_with_many_equal_scores():
    rng = np.random.default_rng(0)
    positive, scores = rng.random(80) < 0.4, rng.integers(0, 5, 80).astype(float)
    metric = resampled_auprc(positive, scores, np.arange(80))
    log_prob = np.stack([np.zeros(80), scores], axis=1)
    for drawn in next(iter(draws(80, 10))):
        rows = np.repeat(np.arange(80), drawn.astype(int))
        assert metric(drawn[None])[0] == pytest.approx(
            auprc(positive[rows].astype(int), log_prob[rows]), abs=1e-12
        )
