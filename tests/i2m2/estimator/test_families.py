"""Products of distributions against Bayes' rule, hand calculation and SciPy; folds; labels."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import multivariate_normal, norm

from i2m2.dial import Dial
from i2m2.estimator.estimators import gaussian_scores
from i2m2.estimator.families import MOST_TAKEN, Categorical, Gaussian, Pool
from i2m2.estimator.given.folds import as_groups, make_folds, strata_of
from i2m2.estimator.given.targets import as_labels, encode_labels
from i2m2.estimator.given.values import InputError

RNG = np.random.default_rng(0)


def test_weights_one_and_prior_to_the_power_one_minus_m_are_bayes_rule():
    dial = Dial(3, (1.0, 0.5), 0.0, prior=(0.6, 0.3, 0.1))
    symbols = dial.sample(200).symbols
    log_prior = np.log([dial.prior])
    absent = {name: np.zeros(200, bool) for name in symbols}
    singles = [
        dial.log_prob(symbols, absent | {name: np.ones(200, bool)})[:, None] for name in symbols
    ]
    pool = Pool(np.ones((2, 1)), np.array([-1.0]))
    found = Categorical([3]).pool(pool, singles, log_prior)
    np.testing.assert_allclose(found[:, 0], dial.log_prob(symbols), atol=1e-12)


def test_a_fitted_pool_finds_bayes_rule_from_labels():
    dial = Dial(3, (1.5, 1.0), 0.0, prior=(0.6, 0.3, 0.1))
    data = dial.sample(20_000, seed=1)
    absent = {name: np.zeros(len(data.y), bool) for name in data.symbols}
    singles = [
        dial.log_prob(data.symbols, absent | {name: ~absent[name]})[:, None]
        for name in data.symbols
    ]
    pool = Categorical([3]).fit_pool(singles, data.y[:, None], np.log([dial.prior]))
    np.testing.assert_allclose(pool.weights, 1, atol=0.12)
    np.testing.assert_allclose(pool.gamma, -1, atol=0.2)


def test_contributions_are_weighted_log_probabilities_that_sum_to_the_logits():
    family = Categorical([3])
    experts = [log_softmax(RNG.normal(size=(5, 1, 3)), axis=-1) for _ in range(2)]
    prior = log_softmax(RNG.normal(size=(1, 3)), axis=-1)
    pool = Pool(np.array([[0.7], [1.2]]), np.array([-0.4]))
    parts = family.contributions(pool, experts, prior)
    np.testing.assert_allclose(parts[1], 1.2 * experts[1])
    by_hand = 0.7 * experts[0] + 1.2 * experts[1] - 0.4 * prior
    np.testing.assert_allclose(
        family.pool(pool, experts, prior), log_softmax(by_hand, axis=-1), atol=1e-12
    )


def test_a_label_of_fewer_classes_never_gets_one_of_another_label():
    family = Categorical([2, 4])
    outputs = family.network_outputs(RNG.normal(size=(6, 2, 4)))
    probability = np.exp(outputs)
    np.testing.assert_array_equal(probability[:, 0, 2:], 0)
    np.testing.assert_allclose(probability.sum(axis=-1), 1)
    prior = np.exp(family.prior(np.array([[0, 3], [0, 1], [1, 1]])))
    np.testing.assert_allclose(prior, [[0.6, 0.4, 0, 0], [1 / 7, 3 / 7, 1 / 7, 2 / 7]], atol=1e-12)


def test_the_product_of_gaussians_is_that_of_their_densities():
    """Two experts of weight one: the product of their densities, normalised on a grid."""
    means, variances = [0.3, -0.5], [0.2, 0.6]
    experts = [np.array([[[m, np.log(v)]]]) for m, v in zip(means, variances, strict=True)]
    pool = Pool(np.ones((2, 1)), np.zeros(1))
    mean, log_variance = Gaussian(1).pool(pool, experts, np.array([[0.0, 0.0]]))[0, 0]
    grid = np.linspace(-6, 6, 20_001)
    density = norm.pdf(grid, 0.3, 0.2**0.5) * norm.pdf(grid, -0.5, 0.6**0.5)
    density /= density.sum()
    assert mean == pytest.approx(density @ grid, abs=1e-9)
    assert np.exp(log_variance) == pytest.approx(density @ (grid - mean) ** 2, abs=1e-9)


def test_two_views_of_one_number_are_pooled_as_their_joint_distribution_says():
    """y ~ N(0, 1), x_m = y + noise: the posterior given both is the pool with gamma = -1."""
    noise = [0.5, 2.0]
    covariance = 1 + np.diag(noise)
    x = multivariate_normal([0, 0], covariance).rvs(50, random_state=0)
    experts = []
    for m, variance in enumerate(noise):
        mean = x[:, m] / (1 + variance)
        log_variance = np.full(50, np.log(variance / (1 + variance)))
        experts.append(np.stack([mean, log_variance], axis=-1)[:, None])
    weights = np.linalg.solve(covariance, np.ones(2))
    pool = Pool(np.ones((2, 1)), np.array([-1.0]))
    found = Gaussian(1).pool(pool, experts, np.zeros((1, 2)))
    np.testing.assert_allclose(np.exp(found[:, 0, 1]), 1 - weights.sum())
    np.testing.assert_allclose(found[:, 0, 0], x @ weights, atol=1e-12)


def test_effects_that_add_up_are_pooled_by_their_sum():
    """y = a + b + noise, experts that know E[y | a] and E[y | b]: only a negative power of the
    prior adds them, and the precision is then that of the noise."""
    rng = np.random.default_rng(0)
    a, b, noise = rng.normal(size=(3, 4_000, 1)) * [[[0.7]], [[0.7]], [[0.14]]]
    y = a + b + noise
    family = Gaussian(1)
    experts = [np.stack([one, np.full_like(one, np.log(0.51))], axis=-1) for one in (a, b)]
    pool = family.fit_pool(experts, y, family.prior(y))
    found = family.pool(pool, experts, family.prior(y))
    assert pool.gamma[0] < -1
    np.testing.assert_allclose(found[..., 0], a + b, atol=0.1)
    np.testing.assert_allclose(found[..., 1], 2 * np.log(0.14), atol=0.2)


def test_a_precision_stays_positive_whatever_the_power_of_the_prior():
    experts = [np.array([[[1.0, 5.0]], [[1.0, -2.0]]])]
    found = Gaussian(1).pool(Pool(np.ones((1, 1)), np.array([-5.0])), experts, np.zeros((1, 2)))
    taken_back = np.log(1 - MOST_TAKEN)
    np.testing.assert_allclose(found[0, 0], [1 / (1 - MOST_TAKEN), 5 - taken_back])
    np.testing.assert_allclose(found[1, 0, 1], -np.log(np.exp(2) - 5))


def test_contributions_of_gaussians_sum_to_the_mean():
    experts = [RNG.normal(size=(7, 2, 2)) for _ in range(3)]
    pool = Pool(RNG.random((3, 2)), RNG.random(2))
    prior = RNG.normal(size=(2, 2))
    parts = Gaussian(2).contributions(pool, experts, prior)
    mean = Gaussian(2).pool(pool, experts, prior)[..., 0]
    np.testing.assert_allclose(parts.sum(axis=0), mean, atol=1e-12)


def test_a_blend_of_regressions_has_the_variance_of_its_residuals():
    y = RNG.normal(size=(4_000, 1))
    guess = y + RNG.normal(scale=0.5, size=y.shape)
    model = np.stack([guess, np.zeros_like(guess)], axis=-1)
    family = Gaussian(1)
    blended = family.blend(family.fit_blend([model], y), [model])
    slope = np.cov(guess[:, 0], y[:, 0])[0, 1] / guess.var()
    np.testing.assert_allclose(blended[:, 0, 0], slope * guess[:, 0], atol=0.05)
    residual = y[:, 0] - blended[:, 0, 0]
    np.testing.assert_allclose(np.exp(blended[:, 0, 1]), residual.var(), rtol=0.05)


def test_scores_of_a_regression_by_hand():
    y = np.array([[0.0], [2.0], [4.0], [6.0]])
    mean = np.array([[0.0], [2.0], [5.0], [9.0]])
    scores = gaussian_scores(y, mean, np.ones_like(y))
    assert scores["r2"] == pytest.approx(1 - 10 / 20)
    assert scores["rmse"] == pytest.approx(2.5**0.5)
    assert scores["coverage"] == 0.75
    assert scores["nll"] == pytest.approx(-norm.logpdf(y, mean, 1).mean())


def test_a_group_is_in_one_fold_and_classes_are_spread():
    groups = np.repeat(np.arange(30), 4)
    y = np.repeat(RNG.permutation(np.arange(30) % 3), 4)
    folds = make_folds(y, groups, 120, 5, 0)
    assert all(len(np.unique(folds[groups == g])) == 1 for g in range(30))
    for fold in range(5):
        np.testing.assert_array_equal(np.bincount(y[folds == fold]), [8, 8, 8])


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_rare_class_does_not_cost_folds(rare):
    y = np.zeros(50, int)
    y[:20] = 1
    y[-rare:] = 2
    folds = make_folds(y, None, 50, 5, 0)
    np.testing.assert_array_equal(np.bincount(folds), 10)
    assert np.bincount(folds[y == 2]).max() == 1


def test_folds_that_cannot_be_made():
    assert make_folds(np.array([0, 1]), None, 2, 5, 0).tolist() in ([0, 1], [1, 0])
    with pytest.raises(InputError, match="all 4 rows are of one group; splits need at least 2"):
        make_folds(None, np.zeros(4, int), 4, 5, 0)
    with pytest.raises(InputError, match="X has 1 sample"):
        make_folds(None, None, 1, 5, 0)


def test_several_labels_are_stratified_together_where_all_combinations_are_frequent():
    y = np.stack([np.arange(40) % 2, np.arange(40) // 20], axis=1)
    assert len(np.unique(strata_of(y))) == 4
    y[0] = 1, 2
    np.testing.assert_array_equal(strata_of(y), y[:, 0])


def test_groups_that_cannot_be_used():
    for wrong, message in (
        ([1, 2], "groups have the shape"),
        ([1, None, 2], "NaN or None"),
        ([1.0, np.nan, 2.0], "NaN or None"),
    ):
        with pytest.raises(InputError, match=message):
            as_groups(wrong, 3)


@pytest.mark.parametrize(
    "y, message",
    [
        ([0, 1, np.nan], r"y holds NaN or None \(row 2\)"),
        (np.array(["u", None, "v"], object), r"y holds NaN or None \(row 1\)"),
        ([[0, 1], [1, None]], r"y holds NaN or None \(row 1\)"),
        ([1.0, np.inf], r"y holds infinity \(row 1\)"),
        ([0.1, 0.2, 0.3], "continuous numbers; take I2M2Regressor"),
        (np.array(["u", 1], object), "y mixes texts and numbers"),
        ([2, 2, 2], "y has one class, 2; a classifier needs at least 2"),
        ([[0, 1], [1, 1]], "label 1 of y has one class, 1"),
    ],
)
def test_labels_that_cannot_be_used(y, message):
    with pytest.raises(InputError, match=message):
        encode_labels(as_labels(y))
