"""VQA-VS's experts trained separately and combined afterwards, fitted to the soft targets (rule:
`i2m2.stats.calibration`).

Every way is `sum_m w_m log q_m(y | x) + gamma log p(y) - log Z(x)` with other w and gamma, over all
answers; predictions that keep the best of them are not enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from i2m2.stats.calibration import FLOOR, maximise_likelihood
from i2m2.stats.predictions import Predictions, refuse_other_examples
from VQA_and_NLVR2.vqa_vs.predictions import PRODUCT, TOP, calibration, keep, soft_target

ALL = f"{PRODUCT}_log_prob"  # the column of a run that saves everything
ROWS = 4096  # questions at a time, some 100 MB of each expert's answers
WHY_NOT = (
    f"not made: the experts' predictions keep the {TOP} most probable answers, and their product is over all. To predict again, "
    "not train: `python -m VQA_and_NLVR2.evaluate RUN --save-all --split S` for each unimodal run and inter, S being val and test"
)
COLUMNS = ("id", "group", "answer", "count", "answer_type")  # of the questions


def combination(
    val: Mapping[str, Predictions], test: Mapping[str, Predictions], joint: Predictions
) -> dict[str, Any]:
    """As `i2m2.report.studies.combination`; {"why_not": reason} for predictions without the
    log-probabilities of all answers."""
    if not all(ALL in predictions for predictions in (*val.values(), *test.values())):
        return {"why_not": WHY_NOT}
    refuse_other_questions({f"the validation of {name}": p for name, p in val.items()})
    refuse_other_questions(
        {"the joint run": joint} | {f"the test of {name}": p for name, p in test.items()}
    )
    experts = tuple(val)
    log_prior = log_shares(next(iter(val.values())))
    plain, weights, gamma, temperature = fit(val, log_prior)
    ways = {
        "plain": (plain, 0.0),
        "temperature": (plain / temperature, 0.0),
        "prior_divided": (plain, 1.0 - len(experts)),
        "fitted": (weights, gamma),
    }
    found: dict[str, Any] = {
        way: {"scores": scores} for way, scores in scores_of(test, ways, log_prior).items()
    }
    found["temperature"]["temperature"] = temperature
    for way in ("prior_divided", "fitted"):
        found[way] |= {
            "weights": dict(zip(experts, ways[way][0].tolist(), strict=True)),
            "gamma": ways[way][1],
        }
    return found | {"joint": {"scores": calibration(joint)[0]}}


def refuse_other_questions(predictions: Mapping[str, Predictions]) -> None:
    """DataError unless all are of the same questions and answers."""
    flat = {
        name: {column: p[column].reshape(len(p["id"]), -1) for column in COLUMNS}
        for name, p in predictions.items()
    }
    refuse_other_examples(
        {name: p | {"y": np.hstack([p["answer"], p["count"]])} for name, p in flat.items()}
    )


def log_shares(predictions: Predictions) -> np.ndarray:
    """Log p(y) [K] by the questions' soft targets, each answer counted once more."""
    given, target = predictions["answer"] >= 0, np.nan_to_num(soft_target(predictions))
    counts = 1.0 + np.bincount(
        predictions["answer"][given], target[given], minlength=predictions[ALL].shape[1]
    )
    return np.log(counts / counts.sum())


def fit(
    val: Mapping[str, Predictions], log_prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """-> ones [M], fitted weights [M] and prior exponent, temperature of the plain product: what
    makes the soft targets of the validation most likely, over the questions that have an answer in
    the vocabulary."""
    first = next(iter(val.values()))
    known = (first["answer"] >= 0).any(axis=1)
    target, answer = (
        soft_target(first)[known],
        np.maximum(first["answer"][known], 0).astype(np.int64),
    )

    def theta(features: np.ndarray, start: np.ndarray, bounds: list | None = None) -> np.ndarray:
        own = np.einsum(
            "na,nak->nk", target, np.take_along_axis(features, answer[..., None], axis=1)
        )
        return maximise_likelihood(features, own, start, bounds)

    experts, ones = len(val), np.ones(len(val))
    features = np.empty(
        (known.sum(), len(log_prior), experts + 1)
    )  # gigabytes, so there is one of it, which the last fit changes
    for place, p in enumerate(val.values()):
        features[..., place] = _log_softmax(p[ALL][known])
    features[..., experts] = log_prior
    with np.errstate(divide="ignore"):
        temperature = float(
            1
            / theta(features[..., :experts].sum(axis=-1, keepdims=True), np.ones(1), [(0, None)])[0]
        )
    *weights, gamma = theta(features, np.array([*ones, 0.0]))
    return ones, np.array(weights), float(gamma), temperature


def scores_of(
    test: Mapping[str, Predictions],
    ways: Mapping[str, tuple[np.ndarray, float]],
    log_prior: np.ndarray,
) -> dict[str, dict[str, float]]:
    """`calibration` of the experts combined with the weights and prior exponent of each way."""
    first, parts = next(iter(test.values())), {way: [] for way in ways}
    for begin in range(0, len(first["id"]), ROWS):
        rows = slice(begin, begin + ROWS)
        log_probs, answer = (
            [_log_softmax(p[ALL][rows]) for p in test.values()],
            torch.from_numpy(first["answer"][rows]),
        )
        for way, (weights, gamma) in ways.items():
            logits = gamma * log_prior + sum(
                w * log_prob for w, log_prob in zip(weights, log_probs, strict=True)
            )
            parts[way].append(keep(torch.from_numpy(_log_softmax(logits)), {}, {"answer": answer}))
    asked = {column: first[column] for column in COLUMNS}
    kept = {
        way: {name: torch.cat([part[name] for part in some]).numpy() for name in some[0]}
        for way, some in parts.items()
    }
    return {way: calibration(asked | columns)[0] for way, columns in kept.items()}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64; the runs' own may be logits."""
    return torch.from_numpy(logits).double().log_softmax(dim=1).clamp(min=FLOOR).numpy()
