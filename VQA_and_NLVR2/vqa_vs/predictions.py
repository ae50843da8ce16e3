"""What is saved of predictions over thousands of answers, and all scores from that alone.

Of the product and of every expert (`<name>`, of a single expert `product` only):

    <name>_top int32 [n, 50]        the most probable answers, best first
    <name>_top_log_prob [n, 50]     their log-probabilities
    <name>_answer_log_prob [n, 10]  of every answer in `answer`
    <name>_logsumexp [n]            to be taken off where log-probabilities are not normalised
                                    (logits of Bernoulli experts)
    <name>_entropy [n]              in nats
    <name>_square [n]               sum of the squared probabilities, for the Brier score

beside the data set's own columns: `answer` int16 [n, 10], the labels that people gave, -1 where
there is none; `count` int8 [n, 10], how many of the ten gave it; `answer_type` int8 [n]; `member`
bool [n, 9], of the test; and `vocabulary`. `outputs` makes them, and with `save_all` also
`<name>_log_prob` [n, K] of all answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from i2m2.names import PRODUCT
from i2m2.stats.calibration import Diagram, diagram
from i2m2.stats.complementarity import rescue_rate
from i2m2.stats.predictions import Predictions
from VQA_and_NLVR2.vqa_vs.answers import OFFICIAL, TRAINING
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS
from VQA_and_NLVR2.vqa_vs.scores import SUB_MEANS, score_sets, score_types

TOP = 50  # answers that are kept of each distribution
ALL = f"{PRODUCT}_log_prob"  # the column of a run that saves all answers
RIGHT = 0.5  # official score above which an answer counts as right: at least two people gave it


def names_in(predictions: Predictions) -> list[str]:
    """product, and the experts beside it."""
    return [name.removesuffix("_top") for name in predictions if name.endswith("_top")]


def people(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """int [n]: how many of the ten gave the predicted answer."""
    hit = predictions["answer"] == predictions[f"{name}_top"][:, :1]
    return (hit * predictions["count"]).sum(axis=1)


def official(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] official score of every question: min(1, people / 3)."""
    return OFFICIAL[people(predictions, name)]


def in_vocabulary(predictions: Predictions) -> np.ndarray:
    """bool [n]: which questions have an answer in the vocabulary."""
    return (predictions["answer"] >= 0).any(axis=1)


def soft_target(predictions: Predictions) -> np.ndarray:
    """[n, 10] scores of training of the answers given, scaled to sum to 1; NaN where none is in the
    vocabulary."""
    scores = np.where(predictions["answer"] >= 0, TRAINING[predictions["count"]], 0)
    scores = scores.astype(np.float64)
    total = scores.sum(axis=1, keepdims=True)
    return np.divide(scores, total, out=np.full(scores.shape, np.nan), where=total > 0)


def soft_nll(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] cross-entropy with the soft target, in nats; NaN where no answer is in the vocabulary."""
    return -(soft_target(predictions) * answer_log_prob(predictions, name)).sum(axis=1)


def soft_brier(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] squared distance from the soft target, 0 to 2; NaN where no answer is in the
    vocabulary."""
    target, p = soft_target(predictions), np.exp(answer_log_prob(predictions, name))
    square = predictions[f"{name}_square"].astype(np.float64)
    return square + (target * (target - 2 * p)).sum(axis=1)


def answer_log_prob(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n, 10] normalised log-probabilities of the answers given; 0 less the normaliser where there
    is none."""
    log_prob = predictions[f"{name}_answer_log_prob"].astype(np.float64)
    return log_prob - predictions[f"{name}_logsumexp"][:, None]


def confidence(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] probability of the predicted answer."""
    best = predictions[f"{name}_top_log_prob"][:, 0].astype(np.float64)
    return np.exp(best - predictions[f"{name}_logsumexp"])


class Calibration(NamedTuple):
    """How far probabilities can be believed."""

    scores: dict[str, float]  # official score, ECE against it, soft target's Brier score and NLL
    diagram: Diagram  # of the official score


def calibration(predictions: Predictions, name: str = PRODUCT) -> Calibration:
    """Of the product or an expert."""
    score, known = official(predictions, name), in_vocabulary(predictions)
    shown = diagram(confidence(predictions, name), score)
    scores = {"vqa_score": float(score.mean()), "ece": shown.ece}
    for metric, values in {"brier": soft_brier, "nll": soft_nll}.items():
        scores[metric] = _mean(values(predictions, name)[known])
    return Calibration(scores, shown)


def metrics_of(predictions: Predictions, name: str = PRODUCT) -> dict[str, float]:
    """Official score of all questions (of the test: the IID score), of the OOD sets and their
    means, and by answer type; mean entropy; over the questions that have an answer in the
    vocabulary: the score of training, and the NLL."""
    score = official(predictions, name)
    metrics = {"vqa_score": float(score.mean())}
    if "member" in predictions:
        sets = score_sets(score, predictions["member"])
        metrics |= {key: sets[key] for key in (*OOD_SETS, *SUB_MEANS)}
    known = in_vocabulary(predictions)
    return metrics | {
        "training_score": _mean(TRAINING[people(predictions, name)][known].astype(np.float64)),
        **score_types(score, predictions["answer_type"]),
        "nll": _mean(soft_nll(predictions, name)[known]),
        "entropy": mean_entropy(predictions, name),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def mean_entropy(predictions: Predictions, name: str = PRODUCT) -> float:
    """Of the predicted distributions, in nats."""
    return float(predictions[f"{name}_entropy"].mean(dtype=np.float64))


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: metrics of the product}."""
    return {split: metrics_of(p) for split, p in predictions.items()}


def rescues(predictions: Predictions) -> dict[str, float | None]:
    """Section 4.6, see `rescue_rate`: right is who gives an answer that two people or more gave."""
    right = {name: official(predictions, name) > RIGHT for name in names_in(predictions)}
    return rescue_rate(right.pop(PRODUCT), np.stack(list(right.values())))


def answer_entropy(predictions: Predictions) -> float:
    """Entropy of the mean soft target, in nats: what a prediction has that knows the answers'
    frequencies and nothing else."""
    given = predictions["answer"] >= 0
    target = TRAINING[predictions["count"]] * given
    share = target / np.maximum(target.sum(axis=1, keepdims=True), 1e-9)
    mean = np.bincount(predictions["answer"][given], share[given].astype(np.float64))
    mean = mean[mean > 0] / mean.sum()
    return float(-(mean * np.log(mean)).sum())
