"""Reliability diagrams by hand, and what fitting an opinion pool finds of what is known."""

import json

import msgspec
import numpy as np
import pytest
from scipy.special import log_softmax

from i2m2.errors import DataError
from i2m2.metrics import ece, nll
from i2m2.stats.calibration import (
    Diagram,
    calibration,
    diagram,
    fit_pool,
    fit_temperature,
    log_frequencies,
    pool_experts,
    reliability,
    with_temperature,
)
from i2m2.stats.predictions import expert_log_probs
from tests.i2m2.stats.conftest import PRIOR, as_predictions, exact_experts, random_predictions


def test_reliability_by_hand_adds_up_to_the_ece():
    three = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.6, 0.0001]]
    p = np.array([*three, [0.2, 0.2, 0.6], [0.0001, 0.0001, 1.0]])
    y = np.array([0, 1, 0, 2, 2])
    found = reliability(y, np.log(p))
    # (8/15, 9/15] holds three answers at 0.6, two of them right; (10/15, 11/15] the one at 0.7; the
    # last bin certainty.
    assert {k: n for k, n in enumerate(found.count) if n} == {8: 3, 10: 1, 14: 1}
    assert found.confidence[8] == pytest.approx(0.6)
    assert found.accuracy[8] == pytest.approx(2 / 3) and found.accuracy[0] is None
    assert found.low[8] == pytest.approx(8 / 15) and found.high[14] == 1
    assert found.filled()[0] == pytest.approx((8 / 15, 9 / 15, 3, 0.6, 2 / 3))
    y, log_prob = random_predictions(np.random.default_rng(0), 500, 4)
    shown = reliability(y, log_prob)
    gaps = [n * abs(right - sure) for _, _, n, sure, right in shown.filled()]
    assert sum(gaps) / 500 == pytest.approx(ece(y, log_prob))


def test_the_ece_of_a_diagram_is_that_of_its_predictions():
    y, log_prob = random_predictions(np.random.default_rng(0), 500, 2)
    right = log_prob.argmax(-1) == y
    assert diagram(np.exp(log_prob.max(-1)), right).ece == pytest.approx(
        ece(y, log_prob), abs=1e-12
    )


def separately_trained(predictions):
    """{expert: what the run of that expert alone would have saved}."""
    shared = {name: predictions[name] for name in ("id", "group", "y")}
    experts = expert_log_probs(predictions).items()
    return {name: shared | {"log_prob": log_prob} for name, log_prob in experts}


def test_a_fitted_pool_recovers_the_weights_of_distorted_experts():
    y, experts = exact_experts(40_000, 0)
    # By Bayes log p(y | x_1, x_2) = log q_1 + log q_2 - log p(y): experts to the power of 2 and 1/2
    # need weights of 1/2 and 2.
    distorted = {
        "image": log_softmax(2 * experts["image"], axis=-1),
        "audio": log_softmax(0.5 * experts["audio"], axis=-1),
    }
    fitted = fit_pool(y, distorted)
    assert fitted.weights == pytest.approx([0.5, 2], rel=0.04)
    assert fitted.gamma == pytest.approx(-1, abs=0.06)
    np.testing.assert_allclose(fitted(distorted)[:1000], experts["inter"][:1000], atol=0.25)


def test_fitting_is_at_the_maximum_of_the_likelihood():
    y, experts = exact_experts(500, 3)
    fitted = fit_pool(y, experts)
    best = nll(y, fitted(experts))
    for change in np.eye(4) * 0.05:
        for sign in (1, -1):
            other = type(fitted)(
                experts=fitted.experts,
                weights=fitted.weights + sign * change[:3],
                gamma=fitted.gamma + sign * change[3],
                log_prior=fitted.log_prior,
            )
            assert nll(y, other(experts)) > best - 1e-6


def test_plain_product_of_exact_experts_is_too_sure_and_the_fitted_one_is_not():
    val, test = (as_predictions(*exact_experts(n, seed)) for n, seed in ((5000, 1), (20_000, 2)))
    joint = test | {"log_prob": test["expert_inter"]}
    val, test = separately_trained(val), separately_trained(test)
    found = pool_experts(val, test, joint)
    eces = {name: one.scores["ece"] for name, one in found.items()}
    assert 0.08 <= eces["plain"] <= 0.18 and eces["fitted"] <= 0.014
    assert eces["fitted"] < eces["temperature"] < eces["plain"] and eces["prior_divided"] > 0.02
    # The joint run has the exact posterior.
    exact = found["joint"].scores["nll"]
    assert found["fitted"].scores["nll"] == pytest.approx(exact, abs=0.002)
    assert set(found["fitted"].weights) == {"image", "audio", "inter"}
    assert found["prior_divided"].gamma == -2
    json.dumps(msgspec.to_builtins(found), allow_nan=False)


def test_an_absent_expert_is_left_out_of_the_plain_product_and_counts_as_the_prior_elsewhere():
    """Of a test split that lacks the audio, the image alone knows the answer."""
    val, test = (as_predictions(*exact_experts(n, seed)) for n, seed in ((500, 1), (2000, 2)))
    val, image = separately_trained(val), separately_trained(test)["image"]
    no_audio = {
        "log_prob": np.broadcast_to(np.log(PRIOR), image["log_prob"].shape),
        "expert_audio": np.zeros_like(image["log_prob"]),
    }
    runs = {"image": val["image"], "audio": val["audio"]}
    found = pool_experts(runs, {"image": image, "audio": image | no_audio}, joint=image)
    exact = calibration(image["y"], image["log_prob"])
    assert found["plain"].scores == pytest.approx(exact)
    assert found["prior_divided"].scores["nll"] == pytest.approx(exact["nll"], abs=0.01)


def test_what_cannot_be_pooled_is_refused():
    of_runs = separately_trained(as_predictions(*exact_experts(20, 1)))
    (name, first), *others = of_runs.items()
    moved = first | {"id": first["id"] + 1}
    with pytest.raises(DataError, match="jointly trained run predicted other examples"):
        pool_experts(of_runs, of_runs, joint=moved)
    with pytest.raises(DataError, match=f"audio and {name} predicted other examples"):
        pool_experts(of_runs, dict(others) | {name: moved}, joint=first)


def test_labels_are_fitted_each_by_itself():
    parts = [exact_experts(2000, seed) for seed in (1, 2)]
    y = np.stack([part[0] for part in parts], axis=1)
    names = ("image", "audio")
    experts = {name: np.stack([part[1][name] for part in parts], axis=1) for name in names}
    both = fit_pool(y, experts)
    assert both.weights.shape == (2, 2) and both.gamma.shape == (2,)
    for k, (y_one, all_of_one) in enumerate(parts):
        of_one = {name: all_of_one[name] for name in experts}
        alone = fit_pool(y_one, of_one)
        np.testing.assert_allclose(both.weights[:, k], alone.weights)
        np.testing.assert_allclose(both(experts)[:, k], alone(of_one))
    assert fit_temperature(y, experts["image"]).shape == (2,)
    of_runs = separately_trained(as_predictions(y, experts))
    pooled = pool_experts(of_runs, of_runs, of_runs["image"])["fitted"]
    np.testing.assert_allclose(list(pooled.weights.values()), both.weights)
    assert pooled.scores == calibration(y, both(experts))


def test_temperature_takes_back_a_known_factor():
    y, experts = exact_experts(20_000, 5)
    sharpened = log_softmax(3 * experts["inter"], axis=-1)
    temperature = fit_temperature(y, sharpened)
    assert temperature == pytest.approx(3, rel=0.05)
    np.testing.assert_allclose(with_temperature(sharpened, 3.0), experts["inter"], atol=1e-9)


def test_what_the_labels_leave_open_stays_at_the_plain_product(monkeypatch):
    y, experts = exact_experts(300, 6)
    # The product of the three is the same along (1, 1, -1, -1); nearest to the plain product's (1,
    # 1, 1, 0) is (1, 1, 1, -1) / 2.
    large, exact = exact_experts(30_000, 7)
    frequencies = "i2m2.stats.calibration.log_frequencies"
    monkeypatch.setattr(frequencies, lambda y, classes: np.log(PRIOR))
    free = fit_pool(large, exact)
    fitted = np.array([*free.weights, free.gamma])
    assert np.array([1, 1, -1, -1]) @ (fitted - [1, 1, 1, 0]) == pytest.approx(0, abs=1e-3)
    assert fitted == pytest.approx([0.5, 0.5, 0.5, -0.5], abs=0.05)
    uniform = np.log(np.full(5, 0.2))
    knows_nothing = np.tile(uniform, (300, 1))
    monkeypatch.setattr(frequencies, lambda y, classes: uniform)
    fitted = fit_pool(y, {"image": experts["image"], "none": knows_nothing})
    assert fitted.weights[1] == pytest.approx(1) and fitted.gamma == pytest.approx(0)
    # Told apart without error, impossible classes included.
    certain = np.where(np.eye(5)[y] > 0, 0.0, -np.inf)
    assert np.isfinite(fit_pool(y, {"image": certain, "audio": experts["audio"]}).weights).all()


def test_class_frequencies_by_hand():
    shares = np.exp(log_frequencies(np.array([0, 0, 2]), 3))
    np.testing.assert_allclose(shares, [3 / 6, 1 / 6, 2 / 6])
    assert log_frequencies(np.zeros((4, 2), int), 3).shape == (2, 3)


@pytest.mark.parametrize(
    "change",
    [{"low": [0.0]}, {"accuracy": [None, 0.5]}, {"count": [0, 0]}, {"confidence": [0.2, 0.9, 1.0]}],
)
def test_a_stored_diagram_without_some_of_its_numbers_is_refused(change):
    whole = {"low": [0.0, 0.5], "high": [0.5, 1.0], "count": [2, 1]}
    whole |= {"confidence": [0.2, 0.9], "accuracy": [0.5, 1.0]}
    assert msgspec.convert(whole, Diagram).ece == pytest.approx((2 * 0.3 + 0.1) / 3)
    with pytest.raises(msgspec.ValidationError, match="its bins have not all"):
        msgspec.convert(whole | change, Diagram)
