"""How far probabilities can be believed, and what a product of separately trained experts lacks.

A trained classifier gives q_m(y | x_m), which holds the prior p(y). The product of M of them counts
it M times, and evidence that two experts share twice. Trained jointly, the experts make up for it;
multiplied afterwards they are too sure of themselves. Without training, a logarithmic
opinion pool with prior correction is what they can have:

    log p(y | x) = sum_m w_m log q_m(y | x) + gamma log p(y) - log Z(x)

A temperature T would only multiply all of w and gamma by 1 / T, so it is in them. Plain product: w
= 1, gamma = 0. One expert per modality, the modalities independent given y: w = 1, gamma = 1 - M.
Where x_m is absent, q_m is p(y), which the sum then takes for what it is; the plain product has no
prior, and leaves out who abstains. The likelihood of validation labels is concave in (w, gamma).
Where they leave a direction open, or nearly (a uniform p(y), an expert that is the product of the
others, classes separated without error), a normal prior of standard deviation 1 around the plain
product decides; it weighs about as much as one example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from i2m2.metrics import ECE_BINS, confidence_bin, confidence_of, score
from i2m2.stats.predictions import Predictions, factors_of, refuse_other_examples

CALIBRATION = ("accuracy", "ece", "brier", "nll")
PRIOR_STD = 1.0
# Least log-probability: exp of it is 0 in float64, and a weight times it is still a number.
FLOOR = -1e3


class Diagram(msgspec.Struct, frozen=True, kw_only=True):
    """A reliability diagram. Each of 15 equal bins of confidence has its ends, how many examples it
    holds, their mean confidence and accuracy (None in an empty bin)."""

    low: list[float]
    high: list[float]
    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]

    def __post_init__(self) -> None:
        columns = (self.low, self.high, self.count, self.confidence, self.accuracy)
        whole = len(set(map(len, columns))) == 1
        if not whole or any(None in values for values in self.filled()) or not sum(self.count):
            raise ValueError("its bins have not all of their numbers")

    def filled(self) -> list[tuple[float, float, int, float, float]]:
        """(low, high, count, confidence, accuracy) of the bins that hold examples."""
        columns = (self.low, self.high, self.count, self.confidence, self.accuracy)
        return [values for values in zip(*columns, strict=True) if values[2]]

    @property
    def ece(self) -> float:
        """Mean of |accuracy - confidence| over the bins, by count, as `i2m2.metrics.ece`."""
        gaps = [n * abs(accuracy - sure) for _, _, n, sure, accuracy in self.filled()]
        return sum(gaps) / sum(self.count)


def reliability(y: np.ndarray, log_prob: np.ndarray) -> Diagram:
    """The diagram of [n] classes and [n, C] log-probabilities, by the predicted class."""
    return diagram(confidence_of(log_prob), log_prob.argmax(-1) == y)


def diagram(confidence: np.ndarray, right: np.ndarray) -> Diagram:
    """The diagram of [n] confidence in the answer and [n] whether it is right, or how right."""
    place = confidence_bin(confidence)
    count = np.bincount(place, minlength=ECE_BINS).tolist()
    edges = (np.arange(ECE_BINS + 1) / ECE_BINS).tolist()

    def means(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(place, values, minlength=ECE_BINS)
        return [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]

    ends = {"low": edges[:-1], "high": edges[1:]}
    return Diagram(**ends, count=count, confidence=means(confidence), accuracy=means(right))


def calibration(y: np.ndarray, log_prob: np.ndarray) -> dict[str, float]:
    """{CALIBRATION: value} for [n(, L)] labels and [n, (L,) C]; the mean over several labels."""
    scores = score(y, log_prob, CALIBRATION)
    return {metric: scores[metric] for metric in CALIBRATION}


@dataclass(frozen=True, kw_only=True)
class LogarithmicPool:
    """The rule above: w [M, (L)] of the named experts, gamma [(L)] and log p(y) [(L,) C]."""

    experts: tuple[str, ...]
    weights: np.ndarray
    gamma: np.ndarray
    log_prior: np.ndarray

    def __call__(self, log_probs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Each expert's log-probabilities [n, (L,) C] -> those of the pool, float64."""
        logits = np.asarray(self.gamma)[..., None] * self.log_prior
        for name, weight in zip(self.experts, self.weights, strict=True):
            logits = logits + np.asarray(weight)[..., None] * _floored(log_probs[name])
        return log_softmax(logits)

    def parameters(self) -> dict[str, object]:
        weights = dict(zip(self.experts, self.weights.tolist(), strict=True))
        return {"weights": weights, "gamma": self.gamma.tolist()}


def log_frequencies(y: np.ndarray, classes: int) -> np.ndarray:
    """Log p(y) by the frequencies of [n(, L)] labels, each class counted once more -> [(L,) C]."""
    columns = y.reshape(len(y), -1).T
    counts = np.stack([np.bincount(column, minlength=classes) + 1.0 for column in columns])
    return np.log(counts / counts.sum(-1, keepdims=True)).reshape(*y.shape[1:], classes)


def fit_pool(y: np.ndarray, log_probs: Mapping[str, np.ndarray]) -> LogarithmicPool:
    """Weights and prior exponent that make the validation labels [n(, L)] most likely, each label
    by itself; their frequencies are p(y)."""
    experts = tuple(log_probs)
    features = np.stack([_floored(log_probs[name]) for name in experts], axis=-1)
    log_prior = log_frequencies(y, features.shape[-2])
    prior = np.broadcast_to(log_prior[..., None], (*features.shape[:-1], 1))
    features = np.concatenate([features, prior], axis=-1)
    *weights, gamma = _fit(y, features, np.array([*np.ones(len(experts)), 0.0]))
    fitted = {"weights": np.array(weights), "gamma": gamma}
    return LogarithmicPool(experts=experts, **fitted, log_prior=log_prior)


def fit_temperature(y: np.ndarray, log_prob: np.ndarray) -> np.ndarray:
    """T [(L)] for which softmax(log_prob / T) makes the labels [n(, L)] most likely (Guo et al.
    2017), with the weights' prior on 1 / T; infinite where the answers are worse than none."""
    fitted = _fit(y, _floored(log_prob)[..., None], np.ones(1), bounds=[(0, None)])
    with np.errstate(divide="ignore"):
        return 1 / fitted[0]


def with_temperature(log_prob: np.ndarray, temperature: np.ndarray | float) -> np.ndarray:
    """softmax(log_prob / T) as log-probabilities [n, (L,) C], float64; T is a number or [L]."""
    return log_softmax(_floored(log_prob) / np.asarray(temperature)[..., None])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis: [..., C] -> [..., C], in the type given."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _floored(log_prob: np.ndarray) -> np.ndarray:
    return np.maximum(log_prob.astype(np.float64), FLOOR)


def _fit(
    y: np.ndarray, features: np.ndarray, start: np.ndarray, bounds: list | None = None
) -> np.ndarray:
    """`maximise_likelihood` of [n] labels and [n, C, K] features -> [K]; of L labels -> [K, L]."""
    if y.ndim > 1:
        labels = range(y.shape[1])
        fitted = [_fit(y[:, k], features[:, k].copy(), start, bounds) for k in labels]
        return np.stack(fitted, axis=-1)
    target = np.take_along_axis(features, y[:, None, None], axis=1)[:, 0]
    return maximise_likelihood(features, target, start, bounds)


def maximise_likelihood(
    features: np.ndarray,
    target: np.ndarray,
    start: np.ndarray,
    bounds: list | None = None,
    std: float = PRIOR_STD,
) -> np.ndarray:
    """theta [K] for softmax(features [n, C, K] @ theta), from `start`, the centre of its prior,
    whose standard deviation is `std`.

    `target` [n, K]: the features of each example's label, or their mean under a soft target that
    sums to 1. `features` is changed.
    """
    from scipy.optimize import minimize  # here: it takes a while to import

    n = len(features)
    # Centred on the target's: the loss is a logsumexp, which no shift of an expert changes.
    features -= target[:, None]
    flat = features.reshape(-1, features.shape[-1])

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        p, log_total = _softmax(features @ theta)
        away = (theta - start) / std
        value = log_total.mean() + (away @ away) / (2 * n)
        return value, p.reshape(-1) @ flat / n + away / std / n

    def curvature(theta: np.ndarray) -> np.ndarray:
        p, _ = _softmax(features @ theta)
        means = (p[:, None] @ features)[:, 0]
        squares = (flat * p.reshape(-1, 1)).T @ flat - means.T @ means
        return (squares + np.eye(len(theta)) / std**2) / n

    if bounds is None:  # Newton's steps: curves have many weights, which hardly differ
        options = {"gtol": 1e-10, "maxiter": 1000}
        how = {"method": "trust-exact", "hess": curvature, "options": options}
    else:
        options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
        how = {"method": "L-BFGS-B", "bounds": bounds, "options": options}
    return minimize(loss, start, jac=True, **how).x


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, C], and the logarithm [n, 1] of what they were divided by."""
    top = logits.max(1, keepdims=True)
    p = np.exp(logits - top)
    total = p.sum(1, keepdims=True)
    p /= total
    return p, top + np.log(total)


class Pooled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to combine experts: its `calibration` on the test split, and what was fitted (one
    number, or one per label)."""

    scores: dict[str, float | None]
    temperature: float | None | list[float | None] | UnsetType = UNSET  # None: infinite
    weights: dict[str, float | list[float]] | UnsetType = UNSET
    gamma: float | list[float] | UnsetType = UNSET


def pool_experts(
    val: Mapping[str, Predictions], test: Mapping[str, Predictions], joint: Predictions
) -> dict[str, Pooled]:
    """Ways to combine separately trained experts, {expert: its run's predictions}, fitted on `val`
    and applied to `test`; beside them `joint`, what the jointly trained product predicted there.

    -> `plain` (w = 1, gamma = 0), `temperature` (of the plain product), `prior_divided` (w = 1,
    gamma = 1 - M), `fitted` (w and gamma), `joint`. p(y): frequencies of the validation labels.
    DataError if any of them predicted other examples.
    """
    refuse_other_examples(val)
    refuse_other_examples(test | {"the jointly trained run": joint})
    on_val, on_test = ({name: p["log_prob"] for name, p in of.items()} for of in (val, test))
    y = next(iter(val.values()))["y"]
    fitted = fit_pool(y, on_val)
    ones, zeros = np.ones_like(fitted.weights), np.zeros_like(fitted.gamma)
    plain = replace(fitted, weights=ones, gamma=zeros)
    divided = replace(fitted, weights=ones, gamma=zeros + 1 - len(val))
    temperature = fit_temperature(y, plain(factors_of(val)))
    product = plain(factors_of(test))

    def pooled(log_prob: np.ndarray, **parameters: object) -> Pooled:
        return Pooled(scores=calibration(joint["y"], log_prob), **parameters)

    tempered = with_temperature(product, temperature)
    return {
        "plain": pooled(product),
        "temperature": pooled(tempered, temperature=temperature.tolist()),
        "prior_divided": pooled(divided(on_test), **divided.parameters()),
        "fitted": pooled(fitted(on_test), **fitted.parameters()),
        "joint": pooled(joint["log_prob"]),
    }
