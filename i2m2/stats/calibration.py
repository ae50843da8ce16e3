"""How far probabilities can be believed, and what a product of separately trained experts lacks
(from saved predictions).

A trained classifier gives q_m(y | x_m), which holds the prior p(y). The product of M of them counts
it M times, and evidence that two experts share twice. Trained jointly, the experts make up for it;
multiplied afterwards they are too sure of themselves. What can be mended without training is

    log p(y | x) = sum_m w_m log q_m(y | x) + gamma log p(y) - log Z(x)

A temperature T would only multiply all of w and gamma by 1 / T, so it is in them. Plain product: w
= 1, gamma = 0. One expert per modality, the modalities independent given y: w = 1, gamma = 1 - M.
The likelihood of validation labels is concave in (w, gamma). Where they leave a direction open, or
nearly (a uniform p(y), an expert that is the product of the others, classes told apart without
error), a normal prior of standard deviation 1 around the plain product decides; it weighs about as
much as one example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from i2m2.errors import SettingsError
from i2m2.metrics import ECE_BINS, score
from i2m2.report.estimates import refuse_other_examples
from i2m2.stats.complementarity import expert_log_probs
from i2m2.training.experiment import Predictions, labels_of

CALIBRATION = ("accuracy", "ece", "brier", "nll")
PRIOR_STD = 1.0
FLOOR = (
    -1e3
)  # of a log-probability: exp of it is 0 in float64, and a weight times it is still a number


def reliability(y: np.ndarray, log_prob: np.ndarray) -> dict[str, list[float | int | None]]:
    """The reliability diagram of [n] classes and [n, C] log-probabilities, by the predicted class."""
    return diagram(np.exp(log_prob.max(-1).astype(np.float64)), log_prob.argmax(-1) == y)


def diagram(confidence: np.ndarray, right: np.ndarray) -> dict[str, list[float | int | None]]:
    """A reliability diagram: [n] confidence in the answer, [n] whether it is right, or how right ->
    of 15 equal bins of confidence `low`, `high`, `count`, mean `confidence` and `accuracy` (None in
    an empty bin). `ece_of` is what it shows."""
    index = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    count, sure, scored = (
        np.bincount(index, w, minlength=ECE_BINS) for w in (None, confidence, right)
    )
    edges = (np.arange(ECE_BINS + 1) / ECE_BINS).tolist()
    means = {
        name: [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]
        for name, sums in (("confidence", sure), ("accuracy", scored))
    }
    return {"low": edges[:-1], "high": edges[1:], "count": count.tolist(), **means}


def ece_of(diagram: Mapping[str, list]) -> float:
    """The mean of |accuracy - confidence| over the bins, weighted by count: what `i2m2.metrics.ece`
    is of classes."""
    bins = zip(diagram["count"], diagram["accuracy"], diagram["confidence"], strict=True)
    return sum(n * abs(accuracy - confidence) for n, accuracy, confidence in bins if n) / sum(
        diagram["count"]
    )


@dataclass(frozen=True, kw_only=True)
class Combination:
    """w [M, (L)] of the named experts, gamma [(L)] and log p(y) [(L,) C] of the rule above."""

    experts: tuple[str, ...]
    weights: np.ndarray
    gamma: np.ndarray
    log_prior: np.ndarray

    def __call__(self, log_probs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Each expert's log-probabilities [n, (L,) C] -> those of the combination, float64."""
        logits = np.asarray(self.gamma)[..., None] * self.log_prior
        for name, weight in zip(self.experts, self.weights, strict=True):
            logits = logits + np.asarray(weight)[..., None] * _floored(log_probs[name])
        return log_softmax(logits, axis=-1)


def log_frequencies(y: np.ndarray, classes: int) -> np.ndarray:
    """Log p(y) by the frequencies of [n] or [n, L] labels, each class counted once more -> [(L,)
    C]."""
    counts = np.stack(
        [np.bincount(column, minlength=classes) + 1.0 for column in y.reshape(len(y), -1).T]
    )
    return np.log(counts / counts.sum(-1, keepdims=True)).reshape(*y.shape[1:], classes)


def fit_combination(
    y: np.ndarray, log_probs: Mapping[str, np.ndarray], log_prior: np.ndarray | None = None
) -> Combination:
    """Expert weights and prior exponent that make the labels [n(, L)] most likely, for each label
    by itself.

    `log_prior` [(L,) C]: log p(y) of the training labels; without it the frequencies of `y`, the
    validation labels.
    """
    experts, first = tuple(log_probs), next(iter(log_probs.values()))
    log_prior = log_frequencies(y, first.shape[-1]) if log_prior is None else log_prior
    features = [_floored(log_prob) for log_prob in log_probs.values()]
    start = np.array([*np.ones(len(experts)), 0.0])

    def fit(y: np.ndarray, features: list[np.ndarray], log_prior: np.ndarray) -> np.ndarray:
        stacked = np.stack([*features, np.broadcast_to(log_prior, features[0].shape)], axis=-1)
        return maximise_likelihood(stacked, _of_label(stacked, y), start)

    if first.ndim == 2:
        fitted = fit(y, features, log_prior)
    else:
        each = [fit(y[:, k], [f[:, k] for f in features], log_prior[k]) for k in range(y.shape[1])]
        fitted = np.stack(each, axis=-1)
    return Combination(experts=experts, weights=fitted[:-1], gamma=fitted[-1], log_prior=log_prior)


def fit_temperature(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """T [(L)] for which softmax(log_prob / T) makes the labels [n(, L)] most likely (Guo et al.
    2017), with the weights' prior on 1 / T; infinite where the answers are worse than none."""
    columns = (
        [(y, log_prob)]
        if log_prob.ndim == 2
        else [(y[:, k], log_prob[:, k]) for k in range(y.shape[1])]
    )
    features = [(y, _floored(one)[..., None]) for y, one in columns]
    inverse = [
        maximise_likelihood(one, _of_label(one, y), np.ones(1), bounds=[(0, None)])[0]
        for y, one in features
    ]
    with np.errstate(divide="ignore"):
        return (1 / np.array(inverse)).reshape(y.shape[1:])


def with_temperature(log_prob: np.ndarray, temperature: np.ndarray | float) -> np.ndarray:
    """softmax(log_prob / T) as log-probabilities [n, (L,) C], float64; T is a number or [L]."""
    return log_softmax(_floored(log_prob) / np.asarray(temperature)[..., None], axis=-1)


def _floored(log_prob: np.ndarray) -> np.ndarray:
    return np.maximum(log_prob.astype(np.float64), FLOOR)


def _of_label(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, C, K], [n] -> [n, K]"""
    return np.take_along_axis(features, y[:, None, None], axis=1)[:, 0]


def maximise_likelihood(
    features: np.ndarray, target: np.ndarray, start: np.ndarray, bounds: list | None = None
) -> np.ndarray:
    """theta [K] for softmax(features [n, C, K] @ theta), by L-BFGS in float64 from the centre of
    its prior.

    `target` [n, K]: the features of each example's label, or their mean under a soft target that
    sums to 1. `features` is changed.
    """
    n = len(features)
    # Centred on the target's: the loss is then a logsumexp, and a constant shift of an expert is
    # seen to change nothing.
    features -= target[:, None]
    flat = features.reshape(-1, features.shape[-1])

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logits = features @ theta
        top = logits.max(1, keepdims=True)
        p = np.exp(logits - top)
        total = p.sum(1, keepdims=True)
        away = (theta - start) / PRIOR_STD
        value = (top + np.log(total)).mean() + (away @ away) / (2 * n)
        p /= total
        return value, p.reshape(-1) @ flat / n + away / PRIOR_STD / n

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


def post_hoc(
    val: Predictions,
    test: Predictions,
    joint: Predictions | None = None,
    train_y: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """Ways to combine separately trained experts, fitted on `val` and applied to `test` (both as
    `i2m2.combine.combine` makes them), and beside them the jointly trained product, `joint` being
    its predictions of the same test split.

    -> {"plain", "temperature" (of the plain product), "prior_divided" (w = 1, gamma = 1 - M),
    "fitted" (w and gamma), "joint": {"log_prob" [n, (L,) C], "scores": {accuracy, ECE, Brier, NLL},
    and what was fitted: "temperature", or "weights" and "gamma"}}. p(y): frequencies of `train_y`
    [n(, L)], else of the validation labels. SettingsError with fewer than two experts, DataError if
    `joint` predicted other examples.
    """
    on_val, on_test = expert_log_probs(val), expert_log_probs(test)
    if len(on_val) < 2:
        raise SettingsError(
            "a combination needs two experts or more; give the product of separately trained runs"
        )
    prior = log_frequencies(val["y"] if train_y is None else train_y, val["log_prob"].shape[-1])
    experts, labels = tuple(on_val), val["y"].shape[1:]
    ones, gamma = np.ones((len(experts), *labels)), np.full(labels, 1.0 - len(experts))
    divided = Combination(experts=experts, weights=ones, gamma=gamma, log_prior=prior)
    fitted, temperature = (
        fit_combination(val["y"], on_val, prior),
        fit_temperature(val["y"], val["log_prob"]),
    )
    found = {
        "plain": {"log_prob": test["log_prob"]},
        "temperature": {
            "log_prob": with_temperature(test["log_prob"], temperature),
            "temperature": temperature.tolist(),
        },
        **{
            name: {"log_prob": rule(on_test), **_parameters(rule)}
            for name, rule in (("prior_divided", divided), ("fitted", fitted))
        },
    }
    if joint is not None:
        refuse_other_examples({"the product of experts": test, "the jointly trained run": joint})
        found["joint"] = {"log_prob": joint["log_prob"]}
    scores = {
        name: score(test["y"], one["log_prob"], CALIBRATION, labels_of(test))
        for name, one in found.items()
    }
    return {name: {**one, "scores": scores[name]} for name, one in found.items()}


def _parameters(rule: Combination) -> dict[str, Any]:
    return {
        "weights": {name: w.tolist() for name, w in zip(rule.experts, rule.weights, strict=True)},
        "gamma": rule.gamma.tolist(),
    }
