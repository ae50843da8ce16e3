"""What is saved of predictions over thousands of answers, and all scores from that alone.

Of the product and of every expert (`<name>`, of a single expert `product` only):

    <name>_top int32 [n, 50]   <name>_top_log_prob [n, 50]     the most probable answers, best first
    <name>_answer_log_prob [n, 10]     of every answer in `answer`
    <name>_logsumexp [n]     to be taken off where log-probabilities are not normalised (logits of Bernoulli experts)
    <name>_entropy [n]       in nats
    <name>_square [n]        sum of the squared probabilities, for the Brier score

beside the data set's own columns: `answer` int16 [n, 10], the labels that people gave, -1 where
there is none; `count` int8 [n, 10], how many of the ten gave it; `answer_type` int8 [n]; `member`
bool [n, 9], of the test; and `vocabulary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2m2.stats.calibration import diagram, ece_of
from i2m2.stats.complementarity import rescue_rate
from i2m2.stats.predictions import Predictions
from i2m2.training.evaluate import table_of
from VQA_and_NLVR2.vqa_vs.answers import OFFICIAL, TRAINING
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS
from VQA_and_NLVR2.vqa_vs.scores import SUB_MEANS, score_sets, score_types

TOP = 50
PRODUCT = "product"
RIGHT = 0.5  # official score above which an answer counts as right: at least two people gave it
MEANS = ("vqa_score", *SUB_MEANS)
OTHERS = ("training_score", "yes_no", "number", "other", "nll", "entropy")


def keep(
    log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The columns above, of one batch: [B, K] log-probabilities, y["answer"] [B, 10]."""
    found = {}
    answer = y["answer"].long()
    for name, value in _named(log_prob, by_expert).items():
        top = value.topk(min(TOP, value.shape[1]), dim=1)
        total = value.logsumexp(dim=1)
        normalised = value - total[:, None]
        found |= {
            f"{name}_top": top.indices.to(
                torch.int32
            ),  # the smallest type that several GPUs can exchange
            f"{name}_top_log_prob": top.values.half(),
            f"{name}_answer_log_prob": value.gather(1, answer.clamp(min=0)).masked_fill(
                answer < 0, 0
            ),
            f"{name}_logsumexp": total,
            f"{name}_entropy": -(normalised.exp() * normalised).sum(dim=1),
            f"{name}_square": normalised.mul(2).exp().sum(dim=1),
        }
    return found


def keep_everything(
    log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The same, and `<name>_log_prob` [B, K]."""
    return keep(log_prob, by_expert, y) | {
        f"{name}_log_prob": value for name, value in _named(log_prob, by_expert).items()
    }


def _named(log_prob: Tensor, by_expert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {PRODUCT: log_prob, **(by_expert if len(by_expert) > 1 else {})}


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


def soft_target(predictions: Predictions) -> np.ndarray:
    """[n, 10] scores of training of the answers given, scaled to sum to 1; NaN where none is in the
    vocabulary."""
    target = np.where(predictions["answer"] >= 0, TRAINING[predictions["count"]], 0).astype(
        np.float64
    )
    total = target.sum(axis=1, keepdims=True)
    return np.divide(target, total, out=np.full(target.shape, np.nan), where=total > 0)


def soft_nll(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] cross-entropy with the soft target, in nats; NaN where no answer is in the vocabulary."""
    return -(soft_target(predictions) * answer_log_prob(predictions, name)).sum(axis=1)


def soft_brier(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] squared distance from the soft target, 0 to 2; NaN where no answer is in the vocabulary."""
    target, p = soft_target(predictions), np.exp(answer_log_prob(predictions, name))
    return predictions[f"{name}_square"].astype(np.float64) + (target * (target - 2 * p)).sum(
        axis=1
    )


def answer_log_prob(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n, 10] normalised log-probabilities of the answers given; 0 less the normaliser where there
    is none."""
    return (
        predictions[f"{name}_answer_log_prob"].astype(np.float64)
        - predictions[f"{name}_logsumexp"][:, None]
    )


def confidence(predictions: Predictions, name: str = PRODUCT) -> np.ndarray:
    """[n] probability of the predicted answer."""
    return np.exp(
        predictions[f"{name}_top_log_prob"][:, 0].astype(np.float64)
        - predictions[f"{name}_logsumexp"]
    )


def calibration(
    predictions: Predictions, name: str = PRODUCT
) -> tuple[dict[str, float], dict[str, list]]:
    """-> (official score, ECE against it, Brier score and NLL against the soft target; reliability
    diagram of the score)."""
    score, known = official(predictions, name), (predictions["answer"] >= 0).any(axis=1)
    shown = diagram(confidence(predictions, name), score)
    soft = {
        "brier": soft_brier(predictions, name)[known],
        "nll": soft_nll(predictions, name)[known],
    }
    soft = {
        metric: float(values.mean()) if len(values) else float("nan")
        for metric, values in soft.items()
    }
    return {"vqa_score": float(score.mean()), "ece": ece_of(shown), **soft}, shown


def metrics_of(predictions: Predictions, name: str = PRODUCT) -> dict[str, float]:
    """Official score of all questions (of the test: the IID score), of the OOD sets and their
    means, and by answer type; mean entropy; over the questions that have an answer in the
    vocabulary: the score of training, and the NLL."""
    score = official(predictions, name)
    found = {"vqa_score": float(score.mean())}
    if "member" in predictions:
        sets = score_sets(score, predictions["member"])
        found |= {key: sets[key] for key in (*OOD_SETS, *SUB_MEANS)}
    known = (predictions["answer"] >= 0).any(axis=1)
    training = TRAINING[people(predictions, name)][known].astype(np.float64)
    loss = soft_nll(predictions, name)[known]
    return found | {
        "training_score": float(training.mean()) if len(training) else float("nan"),
        **score_types(score, predictions["answer_type"]),
        "nll": float(loss.mean()) if len(loss) else float("nan"),
        "entropy": float(predictions[f"{name}_entropy"].mean(dtype=np.float64)),
    }


def scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: metrics of the product}."""
    return {split: metrics_of(p) for split, p in predictions.items()}


def report(predictions: Predictions) -> str:
    """Tables of product and experts: means, OOD sets, other scores; of several experts, what the
    product rescues."""
    metrics = {name: metrics_of(predictions, name) for name in names_in(predictions)}
    parts = [
        table_of(_columns(metrics, names))
        for names in (MEANS, OOD_SETS, OTHERS)
        if any(n in metrics[PRODUCT] for n in names)
    ]
    parts.append(
        f"vqa_score, its OOD sets and answer types: official, over all questions. Entropy of the answers that people gave: "
        f"{answer_entropy(predictions):.4f}"
    )
    if len(metrics) > 1:
        found = rescues(predictions)
        share = found["rescued_of_all_wrong"]
        parts.append(
            f"every expert alone wrong: {found['all_wrong']:,} of {found['examples']:,} questions, product right in "
            f"{found['rescued']:,} of them"
            + (f" ({share:.1%})" if share is not None else "")
            + "; right: as two people or more said"
        )
    return "\n\n".join(parts)


def rescues(predictions: Predictions) -> dict[str, Any]:
    """Section 4.6, see `rescue_rate`: right is who gives an answer that two people or more gave."""
    right = {name: official(predictions, name) > RIGHT for name in names_in(predictions)}
    return rescue_rate(right.pop(PRODUCT), np.stack(list(right.values())))


def _columns(
    metrics: Mapping[str, Mapping[str, float]], names: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    return {
        row: {name: values[name] for name in names if name in values}
        for row, values in metrics.items()
    }


def answer_entropy(predictions: Predictions) -> float:
    """Entropy of the mean soft target, in nats: what a prediction has that knows the answers'
    frequencies and nothing else."""
    given = predictions["answer"] >= 0
    target = TRAINING[predictions["count"]] * given
    share = target / np.maximum(target.sum(axis=1, keepdims=True), 1e-9)
    mean = np.bincount(predictions["answer"][given], share[given].astype(np.float64))
    mean = mean[mean > 0] / mean.sum()
    return float(-(mean * np.log(mean)).sum())
