"""VQA-VS's own part of `python -m i2m2.results` and `i2m2.compare`: its scores resampled by image,
what its experts know, and how they combine afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from i2m2.errors import DataError
from i2m2.names import PRODUCT
from i2m2.stats.predictions import Predictions
from i2m2.stats.resampling import BootstrapStatistic, mean_of
from i2m2.stats.summary import CustomMetric
from VQA_and_NLVR2.vqa_vs.annotations import ANSWER_TYPES
from VQA_and_NLVR2.vqa_vs.answers import TRAINING
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS
from VQA_and_NLVR2.vqa_vs.predictions import (
    ALL,
    TOP,
    answer_entropy,
    calibration,
    in_vocabulary,
    mean_entropy,
    names_in,
    official,
    people,
    rescues,
    soft_nll,
)
from VQA_and_NLVR2.vqa_vs.scores import SUB_MEANS

WHY_NOT = (
    f"not made: the experts' predictions keep the {TOP} most probable answers, and their product "
    "is over all. To predict again, not train: "
    "`python -m VQA_and_NLVR2.evaluate RUN --save-all --split S` "
    "for each unimodal run and inter, S being val and test"
)


def study(predictions: Predictions) -> dict[str, dict]:
    """What is told of a run beside its table. The official score stands for the accuracy; Brier and
    NLL are against the soft target.

    -> "calibration" {product, each expert: {metric: value}} and "reliability" {the same: Diagram};
    of several experts also "entropy" {y, product, each expert: nats} and "rescue" (`rescue_rate`).
    """
    names = names_in(predictions)
    calibrated = {name: calibration(predictions, name) for name in names}
    about: dict[str, dict] = {
        "calibration": {name: one.scores for name, one in calibrated.items()},
        "reliability": {name: one.diagram for name, one in calibrated.items()},
    }
    if len(names) > 2:
        entropies = {name: mean_entropy(predictions, name) for name in names}
        about["entropy"] = {"y": answer_entropy(predictions), **entropies}
        about["rescue"] = rescues(predictions)
    return about


def combination(
    val: Mapping[str, Predictions], test: Mapping[str, Predictions], joint: Predictions
) -> dict[str, object]:
    """{expert: predictions} of separately trained runs, and those of the joint one -> {way to
    combine them: {"scores": {metric: value}, what was fitted}}; {"why_not": reason} for predictions
    without the log-probabilities of all answers."""
    if not all(ALL in predictions for predictions in (*val.values(), *test.values())):
        return {"why_not": WHY_NOT}
    from VQA_and_NLVR2.vqa_vs.combination import combine  # here: it computes with torch

    return combine(val, test, joint)


def _vqa_score(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    return mean_of(official(predictions), index, groups)


def _entropy(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    return mean_of(predictions[f"{PRODUCT}_entropy"].astype(np.float64), index, groups)


def _nll(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    loss = soft_nll(predictions)
    return _mean_of_means(np.nan_to_num(loss), np.isfinite(loss)[:, None], index, groups)


def _training_score(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
    score, known = TRAINING[people(predictions)], in_vocabulary(predictions)
    return _mean_of_means(score, known[:, None], index, groups)


def _of_type(code: int) -> CustomMetric:
    """The mean over the questions of an answer type."""

    def metric(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
        member = (predictions["answer_type"] == code)[:, None]
        return _mean_of_means(official(predictions), member, index, groups)

    return metric


def _of_sets(names: tuple[str, ...]) -> CustomMetric:
    """The mean over OOD sets, each a mean over its questions among those drawn."""
    columns = [OOD_SETS.index(name) for name in names]

    def metric(predictions: Predictions, index: np.ndarray, groups: int) -> BootstrapStatistic:
        if "member" not in predictions:
            raise DataError(
                f"only the test split has the OOD sets {', '.join(names)}; "
                "take it, or another metric"
            )
        member = predictions["member"][:, columns]
        return _mean_of_means(official(predictions), member, index, groups)

    return metric


def _mean_of_means(
    score: np.ndarray, member: np.ndarray, index: np.ndarray, groups: int
) -> BootstrapStatistic:
    """[n] scores, [n, S] memberships of sets -> the mean over the sets of their mean score; NaN
    where a set is empty."""
    in_set = member.T
    sums = [np.bincount(index, score * inside, minlength=groups) for inside in in_set]
    sizes = [np.bincount(index, inside, minlength=groups) for inside in in_set]
    sums, sizes = np.stack(sums, axis=1), np.stack(sizes, axis=1).astype(np.float64)

    def statistic(counts: np.ndarray) -> np.ndarray:
        drawn = counts @ sizes
        no_questions = np.full(drawn.shape, np.nan)
        means = np.divide(counts @ sums, drawn, out=no_questions, where=drawn > 0)
        return means.mean(axis=1)

    return statistic


CUSTOM_METRICS: dict[str, CustomMetric] = {"vqa_score": _vqa_score}
CUSTOM_METRICS |= {name: _of_sets(sets) for name, sets in SUB_MEANS.items()}
CUSTOM_METRICS |= {name: _of_sets((name,)) for name in OOD_SETS}
CUSTOM_METRICS |= {name.replace("/", "_"): _of_type(code) for code, name in enumerate(ANSWER_TYPES)}
CUSTOM_METRICS |= {"training_score": _training_score, "nll": _nll, "entropy": _entropy}
