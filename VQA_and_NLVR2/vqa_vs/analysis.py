"""VQA-VS's own part of `python -m i2m2.results` and `i2m2.compare`: its scores resampled by image,
and what its experts know."""

from __future__ import annotations

from typing import Any

import numpy as np

from i2m2.errors import DataError
from i2m2.stats.predictions import Predictions
from i2m2.stats.resampling import BootstrapStatistic, mean_of
from VQA_and_NLVR2.vqa_vs.answers import TRAINING
from VQA_and_NLVR2.vqa_vs.combination import combination
from VQA_and_NLVR2.vqa_vs.files import ANSWER_TYPES, OOD_SETS
from VQA_and_NLVR2.vqa_vs.predictions import (
    PRODUCT,
    answer_entropy,
    calibration,
    names_in,
    official,
    people,
    rescues,
    soft_nll,
)
from VQA_and_NLVR2.vqa_vs.scores import SUB_MEANS


def study(predictions: Predictions) -> dict[str, Any]:
    """As `i2m2.report.studies.study`. The official score stands for the accuracy; Brier and NLL are
    against the soft target."""
    found: dict[str, Any] = {"calibration": {}, "reliability": {}}
    names = names_in(predictions)
    for name in names:
        found["calibration"][name], found["reliability"][name] = calibration(predictions, name)
    if len(names) > 2:
        entropies = {
            name: float(predictions[f"{name}_entropy"].mean(dtype=np.float64)) for name in names
        }
        found |= {
            "entropy": {"y": answer_entropy(predictions), **entropies},
            "rescue": rescues(predictions),
        }
    return found


def _of_questions(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    return mean_of(official(predictions), index, groups)


def _entropy(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    return mean_of(predictions[f"{PRODUCT}_entropy"].astype(np.float64), index, groups)


def _nll(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    loss = soft_nll(predictions)
    return _mean_of_means(np.nan_to_num(loss), np.isfinite(loss)[:, None], index, groups)


def _training_score(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    known = (predictions["answer"] >= 0).any(axis=1)
    return _mean_of_means(TRAINING[people(predictions)], known[:, None], index, groups)


def _of_type(code: int) -> Any:
    """The mean over the questions of an answer type."""

    def own(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
        return _mean_of_means(
            official(predictions), (predictions["answer_type"] == code)[:, None], index, groups
        )

    return own


def _of_sets(names: tuple[str, ...]) -> Any:
    """The mean over OOD sets, each a mean over its questions among those drawn."""

    def own(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
        if "member" not in predictions:
            raise DataError(
                f"only the test split has the OOD sets {', '.join(names)}; take it, or another metric"
            )
        columns = [OOD_SETS.index(name) for name in names]
        return _mean_of_means(
            official(predictions), predictions["member"][:, columns], index, groups
        )

    return own


def _mean_of_means(
    score: np.ndarray, member: np.ndarray, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    """[n] scores, [n, S] memberships of sets -> the mean over the sets of their mean score; NaN
    where a set is empty."""
    columns = range(member.shape[1])
    sums = np.stack(
        [np.bincount(index, score * member[:, k], minlength=groups) for k in columns], axis=1
    )
    sizes = np.stack(
        [np.bincount(index, member[:, k], minlength=groups) for k in columns], axis=1
    ).astype(np.float64)

    def metric(drawn: np.ndarray) -> np.ndarray:
        there = drawn @ sizes
        return np.divide(
            drawn @ sums, there, out=np.full(there.shape, np.nan), where=there > 0
        ).mean(axis=1)

    return metric


__all__ = [
    "CUSTOM_METRICS",
    "combination",
    "study",
]  # what `i2m2.report.tables.custom_statistics_of` looks for

# For `i2m2.report.estimates`: intervals and differences by resampled images.
CUSTOM_METRICS = {
    "vqa_score": _of_questions,
    **{name: _of_sets(sets) for name, sets in SUB_MEANS.items()},
}
CUSTOM_METRICS |= {name: _of_sets((name,)) for name in OOD_SETS}
CUSTOM_METRICS |= {name.replace("/", "_"): _of_type(code) for code, name in enumerate(ANSWER_TYPES)}
CUSTOM_METRICS |= {"training_score": _training_score, "nll": _nll, "entropy": _entropy}
