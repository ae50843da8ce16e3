"""Linear experts, their low-rank interactions and curves, against known tensors and exact dials."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from i2m2.dial import Dial, render
from i2m2.estimator.families import Categorical, Gaussian
from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.models.curves import KNOTS, Curves
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.interactions import Interaction, Score, leading_directions
from i2m2.estimator.models.linear import Linear
from i2m2.estimator.prepared.preparation import Preparation
from i2m2.stats.calibration import log_softmax

RNG = np.random.default_rng(0)


def examples(blocks, y, family, models=4):
    """-> the preparation, and examples in folds by turns."""
    found = read_blocks(blocks, None, None)
    preparation = Preparation().fit(found)
    folds = np.arange(len(y)) % models
    names = tuple(blocks)
    return preparation, Examples(preparation.transform(found), names, y, folds, family, 0)


def signs_of_products(rows):
    """Two modalities of two numbers; the class is the sign of a product of one of each."""
    a, b = RNG.normal(size=(2, rows, 2))
    return {"a": a, "b": b}, (a[:, 0] * b[:, 1] > 0).astype(int)


def orthonormal(rows, columns):
    return np.linalg.qr(RNG.normal(size=(rows, columns)))[0]


def test_directions_of_a_tensor_of_low_rank_are_its_factors():
    factors = [orthonormal(size, 2) for size in (7, 5, 4)]
    tensor = np.einsum("abc,ia,jb,kc->ijk", RNG.normal(size=(2, 2, 2)), *factors)
    for found, factor in zip(leading_directions(tensor, 2), factors, strict=True):
        np.testing.assert_allclose(found @ found.T, factor @ factor.T, atol=1e-9)


def test_directions_keep_at_least_what_those_of_each_mode_alone_keep():
    tensor = RNG.normal(size=(6, 5, 4))
    unfolded = [np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1) for mode in range(3)]
    alone = [np.linalg.svd(one)[0][:, :2] for one in unfolded]

    def kept(along):
        return np.linalg.norm(np.einsum("ijk,ia,jb,kc->abc", tensor, *along))

    assert kept(leading_directions(tensor, 2)) >= kept(alone)


def test_a_rank_above_a_mode_takes_all_that_the_others_can_use():
    shapes = [one.shape for one in leading_directions(RNG.normal(size=(3, 2, 1)), 6)]
    assert shapes == [(3, 2), (2, 2), (1, 1)]


def test_a_score_is_the_sum_over_examples_in_uncorrelated_axes():
    blocks, y = signs_of_products(300)
    _, given = examples(blocks, y[:, None], Categorical([2]))
    residuals = RNG.normal(size=(300, 2))
    score = Score.of(given.blocks, ("a", "b"), residuals)
    a, b = (
        (given.blocks[name].dense - mean) @ axes
        for name, mean, axes in zip("ab", score.means, score.axes, strict=True)
    )
    np.testing.assert_allclose(a.T @ a / 300, np.eye(2) / 1.01, atol=0.01)
    np.testing.assert_allclose(score.tensor, np.einsum("ni,nj,nk->ijk", a, b, residuals))


def test_products_are_those_of_every_two_directions():
    _, given = examples({"a": np.eye(2), "b": np.eye(2)}, np.array([[0], [1]]), Categorical([2]), 2)
    for name in "ab":
        given.blocks[name].dense = np.array([[1.0, 2.0], [3.0, 100.0]])
    means = [np.zeros(2), np.array([1.0, 0.0])]
    along = [np.eye(2), np.array([[1.0], [1.0]])]
    found = Interaction(("a", "b"), means, along).products(given.blocks)
    np.testing.assert_array_equal(found, [[2, 4], [3 * 5, 5 * 5]])  # 102 and 100 are clipped to 5


def test_a_product_that_no_linear_model_knows_is_found():
    blocks, y = signs_of_products(1_200)
    preparation, given = examples(blocks, y[:, None], Categorical([2]))
    model = Linear()
    held_out = model.fit(given)[:, 0].argmax(axis=-1)
    fresh, answer = signs_of_products(1_000)
    found = model.outputs(preparation.transform(read_blocks(fresh, None, None)))[:, 0]
    plain = LogisticRegression().fit(np.concatenate(list(blocks.values()), axis=1), y)
    assert plain.score(np.concatenate(list(fresh.values()), axis=1), answer) < 0.55
    assert (held_out == y).mean() > 0.93 and (found.argmax(axis=-1) == answer).mean() > 0.93


def test_so_is_that_of_a_regression():
    blocks, _ = signs_of_products(800)
    y = (blocks["a"][:, 0] * blocks["b"][:, 1])[:, None]
    _, given = examples(blocks, y / y.std(), Gaussian(1))
    found = Linear().fit(given)[..., 0]
    assert 1 - ((given.y - found) ** 2).mean() > 0.95


def test_products_within_a_modality_are_found_by_a_model_of_it_alone_and_by_an_additive_one():
    blocks, y = signs_of_products(1_200)
    one = {"a": np.concatenate([blocks["a"], blocks["b"]], axis=1)}
    both = one | {"b": RNG.normal(size=(1_200, 2))}
    for given, model in ((one, Linear()), (both, Linear(additive=True))):
        found = model.fit(examples(given, y[:, None], Categorical([2]))[1])
        assert (found[:, 0].argmax(axis=-1) == y).mean() > 0.93
        read = {one.modalities for of_fold in model.interactions for one in of_fold}
        assert ("a", "a") in read and ("a", "b") not in read


def test_a_copy_of_a_modality_tells_no_more_than_it_does():
    """What happens within one of two that tell the same is no interaction of both."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_200, 4))
    y = (rng.logistic(size=1_200) < 2 * (x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3])).astype(int)
    one, family, y = {"a": x}, Categorical([2]), y[:, None]
    alone, twice = (
        family.nll(Linear().fit(examples(given, y, family)[1]), y).mean()
        for given in (one, one | {"b": x})
    )
    assert alone < 0.55 and alone - twice < 0.005


def test_what_only_noise_tells_has_no_products():
    blocks, y = signs_of_products(200)
    model = Linear()
    model.fit(examples({"a": blocks["a"]}, y[:, None], Categorical([2]))[1])
    assert model.interactions == [[]] * 4


def test_a_small_table_that_leaves_doubt_keeps_the_plain_model():
    x, y = load_wine(return_X_y=True)
    model = Linear()
    _, given = examples({"a": x[:, :6], "b": x[:, 6:]}, y[:, None], Categorical([3]))
    found = model.fit(given)[:, 0]
    assert model.interactions == [[]] * 4 and model.curves is None
    dense = np.concatenate([block.dense for block in given.blocks.values()], axis=1)
    training, held_out = given.splits()[0]
    plain = LogisticRegression(C=10).fit(dense[training], y[training])  # a penalty of 0.1
    np.testing.assert_allclose(found[held_out], plain.predict_log_proba(dense[held_out]), atol=1e-3)


@pytest.mark.parametrize("classes, alpha, beta", [(3, 0, 0.5), (4, 0.5, 1)])
def test_a_weak_interaction_of_many_cells_is_learnt_and_calibrated(classes, alpha, beta):
    dial = Dial(classes, (alpha, alpha), beta)
    data = dial.sample(5_000, seed=0)
    blocks = render(data.symbols, "onehot", classes)
    preparation, given = examples(blocks, data.y[:, None], Categorical([classes]))
    model = Linear()
    model.fit(given)
    symbols, joint = dial.cells()
    cells = read_blocks(render(symbols, "onehot", classes), None, preparation.kinds)
    log_prob = model.outputs(preparation.transform(cells))[:, 0]
    log_prob = log_softmax(log_prob)
    right = joint[np.arange(len(joint)), log_prob.argmax(axis=1)]
    exact, sure = dial.exact(), np.exp(log_prob.max(axis=1))
    assert right.sum() > 0.98 * exact["bayes_accuracy"]
    assert -(joint * log_prob).sum() < exact["bayes_nll"] + 0.012
    places = (sure * 15).astype(int)
    assert np.abs(np.bincount(places, joint.sum(axis=1) * sure - right)).sum() < 0.03


def labels_of(log_prob):
    draws = RNG.random((len(log_prob), 1))
    return (np.exp(log_prob).cumsum(axis=1) < draws).sum(axis=1)[:, None]


def test_parts_that_are_right_as_they_are_keep_straight_lines_of_slope_1():
    parts = np.concatenate([np.zeros((4_000, 1, 3, 1)), RNG.normal(size=(4_000, 1, 3, 2))], axis=-1)
    y = labels_of(log_softmax(parts.sum(axis=-1))[:, 0])
    curves, _ = Curves.fit(Categorical([3]), parts, y)
    assert curves.knots.shape == (1, 2, 0)
    np.testing.assert_allclose(curves.theta[1:, 0], 1, atol=0.12)


def test_a_part_that_is_two_values_and_noise_gets_a_step():
    truth = np.where(RNG.random((6_000, 1, 1)) < 0.5, [[[2.0, 0.0]]], [[[0.0, 2.0]]])
    noisy = truth + RNG.normal(size=truth.shape) * 0.5
    parts = np.stack([np.zeros_like(noisy), noisy], axis=-1)
    y = labels_of(log_softmax(truth)[:, 0])
    curves, _ = Curves.fit(Categorical([2]), parts, y)
    assert curves.knots.shape == (1, 1, KNOTS)
    grid = np.zeros((2, 1, 2, 2))
    grid[..., 0, 1] = [[1.5], [2.5]]  # the noise in a value says nothing
    np.testing.assert_allclose(np.exp(curves(grid))[:, 0, 0], 1 / (1 + np.exp(-2)), atol=0.04)


def test_labels_of_fewer_classes_never_get_those_of_others():
    parts = RNG.normal(size=(500, 2, 3, 2))
    y = np.stack([RNG.integers(2, size=500), RNG.integers(3, size=500)], axis=1)
    curves, _ = Curves.fit(Categorical([2, 3]), parts, y)
    p = np.exp(curves(parts))
    assert (p[:, 0, 2] == 0).all() and (p[:, 1] > 0).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1)
