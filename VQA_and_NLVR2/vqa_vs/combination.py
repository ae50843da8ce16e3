"""VQA-VS's experts trained separately and combined afterwards, fitted to the soft targets (rule:
`i2m2.stats.calibration`).

Every way is `sum_m w_m log q_m(y | x) + gamma log p(y) - log Z(x)` with other w and gamma, over all
answers; predictions that keep the best of them are not enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from i2m2.stats.calibration import FLOOR, maximise_likelihood
from i2m2.stats.predictions import Predictions, refuse_other_examples
from VQA_and_NLVR2.vqa_vs.outputs import select_top_answers
from VQA_and_NLVR2.vqa_vs.predictions import ALL, calibration, in_vocabulary, soft_target

ROWS = 4096  # questions at a time, some 100 MB of each expert's answers
COLUMNS = ("id", "group", "answer", "count", "answer_type")  # of the questions


class Fitted(NamedTuple):
    """What makes the soft targets of the validation most likely."""

    weights: np.ndarray  # [M] of the experts
    gamma: float  # exponent of the prior
    temperature: float  # of the plain product


class Pool(NamedTuple):
    """A logarithmic opinion pool: [M] weights of the experts, and the exponent of the prior."""

    weights: np.ndarray
    gamma: float


def combine(
    val: Mapping[str, Predictions], test: Mapping[str, Predictions], joint: Predictions
) -> dict[str, dict[str, object]]:
    """As `analysis.combination`, of predictions that have the log-probabilities of all answers."""
    refuse_other_questions({f"the validation of {name}": p for name, p in val.items()})
    named = {f"the test of {name}": p for name, p in test.items()}
    refuse_other_questions({"the joint run": joint} | named)
    experts, ones = tuple(val), np.ones(len(val))
    log_prior = log_shares(next(iter(val.values())))
    fitted = fit(val, log_prior)
    pools = {
        "plain": Pool(ones, 0.0),
        "temperature": Pool(ones / fitted.temperature, 0.0),
        "prior_divided": Pool(ones, 1.0 - len(experts)),
        "fitted": Pool(fitted.weights, fitted.gamma),
    }
    scores = scores_of(test, pools, log_prior)
    ways: dict[str, dict[str, object]] = {way: {"scores": scores[way]} for way in pools}
    ways["temperature"]["temperature"] = fitted.temperature
    for way in ("prior_divided", "fitted"):
        weights = zip(experts, pools[way].weights.tolist(), strict=True)
        ways[way] |= {"weights": dict(weights), "gamma": pools[way].gamma}
    return ways | {"joint": {"scores": calibration(joint).scores}}


def refuse_other_questions(predictions: Mapping[str, Predictions]) -> None:
    """DataError unless all are of the same questions and answers."""
    compared = {}
    for name, p in predictions.items():
        columns = {column: p[column].reshape(len(p["id"]), -1) for column in COLUMNS}
        compared[name] = columns | {"y": np.hstack([columns["answer"], columns["count"]])}
    refuse_other_examples(compared)


def log_shares(predictions: Predictions) -> np.ndarray:
    """Log p(y) [K] by the questions' soft targets, each answer counted once more."""
    answer, target = predictions["answer"], np.nan_to_num(soft_target(predictions))
    given, answers = answer >= 0, predictions[ALL].shape[1]
    counts = 1.0 + np.bincount(answer[given], target[given], minlength=answers)
    return np.log(counts / counts.sum())


def fit(val: Mapping[str, Predictions], log_prior: np.ndarray) -> Fitted:
    """Over the questions that have an answer in the vocabulary."""
    first = next(iter(val.values()))
    known = in_vocabulary(first)
    target = soft_target(first)[known]
    answer = np.maximum(first["answer"][known], 0).astype(np.int64)

    def theta(features: np.ndarray, start: np.ndarray, bounds: list | None = None) -> np.ndarray:
        given = np.take_along_axis(features, answer[..., None], axis=1)
        expected = np.einsum("na,nak->nk", target, given)
        return maximise_likelihood(features, expected, start, bounds)

    experts = len(val)
    # Gigabytes, so there is one of it, which the last fit changes.
    features = np.empty((known.sum(), len(log_prior), experts + 1))
    for place, p in enumerate(val.values()):
        features[..., place] = _log_softmax(p[ALL][known])
    features[..., experts] = log_prior
    product = features[..., :experts].sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        temperature = float(1 / theta(product, np.ones(1), [(0, None)])[0])
    *weights, gamma = theta(features, np.array([*np.ones(experts), 0.0]))
    return Fitted(np.array(weights), float(gamma), temperature)


def scores_of(
    test: Mapping[str, Predictions], pools: Mapping[str, Pool], log_prior: np.ndarray
) -> dict[str, dict[str, float]]:
    """`calibration` of the experts combined in each way."""
    first = next(iter(test.values()))
    parts: dict[str, list[dict[str, torch.Tensor]]] = {way: [] for way in pools}
    for begin in range(0, len(first["id"]), ROWS):
        rows = slice(begin, begin + ROWS)
        log_probs = [_log_softmax(p[ALL][rows]) for p in test.values()]
        y = {"answer": torch.from_numpy(first["answer"][rows])}
        for way, pool in pools.items():
            weighted = [w * q for w, q in zip(pool.weights, log_probs, strict=True)]
            log_prob = _log_softmax(pool.gamma * log_prior + sum(weighted))
            parts[way].append(select_top_answers(torch.from_numpy(log_prob), {}, y))
    asked = {column: first[column] for column in COLUMNS}
    scores = {}
    for way, some in parts.items():
        columns = {name: torch.cat([part[name] for part in some]).numpy() for name in some[0]}
        scores[way] = calibration(asked | columns).scores
    return scores


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64; the runs' own may be logits."""
    return torch.from_numpy(logits).double().log_softmax(dim=1).clamp(min=FLOOR).numpy()
