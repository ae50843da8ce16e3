"""Metrics against hand calculations."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from i2m2.metrics import (
    METRICS,
    SHARE,
    accuracy,
    auprc,
    auroc,
    balanced_accuracy,
    brier,
    ece,
    entropy,
    label_entropy,
    metric_of,
    nll,
    score,
)

Y = np.array([0, 1, 1, 2])
P = np.log([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])


def test_metrics_worked_by_hand():
    assert accuracy(Y, P) == 0.75
    assert balanced_accuracy(Y, P) == pytest.approx((1 + 0.5 + 1) / 3)
    assert nll(Y, P) == pytest.approx(-np.log([0.7, 0.6, 0.4, 0.6]).mean())
    squares = [0.09, 0.04, 0.01, 0.01, 0.16, 0.09, 0.25, 0.36, 0.01, 0.04, 0.04, 0.16]
    assert brier(Y, P) == pytest.approx(sum(squares) / 4)
    # Confidences 0.7 and 0.6, 0.6 (right), 0.5 (wrong), three bins of 15: (0.6667, 0.7333],
    # (0.5333, 0.6], (0.4667, 0.5333].
    assert ece(Y, P) == pytest.approx((0.3 + 0.8 + 0.5) / 4)
    assert entropy(Y, P) == pytest.approx(-(np.exp(P) * P).sum(-1).mean())
    assert label_entropy(Y) == pytest.approx(1.5 * math.log(2))


def test_auroc_and_auprc_match_a_ranking_worked_by_hand():
    # Scores of class 1: 0.9+ 0.8- 0.7+ 0.6-: 3 of 4 pairs in order; precision 1 at the first
    # positive, 2/3 at the second.
    p = np.log([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    y = np.array([1, 0, 1, 0])
    assert auroc(y, p) == pytest.approx(0.75)
    assert auprc(y, p) == pytest.approx((1 + 2 / 3) / 2)
    # Of three classes: the mean over each against the rest (class 1: positives 0.6, 0.4 above 0.2,
    # 0.2).
    assert auroc(Y, P) == pytest.approx((1 + 1 + 1) / 3)


@pytest.mark.parametrize("classes", [2, 4])
def test_auroc_and_auprc_are_those_of_scikit_learn_with_equal_and_infinite_scores(classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, 200)
    p = np.log(rng.dirichlet(np.ones(classes), 200)).round(1).astype(np.float32)
    p[:9] = np.where(np.arange(classes) == y[:9, None], 0, -np.inf)
    scores = {1: p[:, 1] - p[:, 0]} if classes == 2 else dict(enumerate(p.T))
    for ours, theirs in ((auroc, roc_auc_score), (auprc, average_precision_score)):
        each = [theirs(y == c, np.nan_to_num(s.astype(float))) for c, s in scores.items()]
        assert ours(y, p) == pytest.approx(np.mean(each), rel=1e-12)


def test_a_metric_that_is_not_defined_is_nan_and_left_out_of_the_mean_over_labels():
    y = np.array([[0, 1], [0, 0], [0, 1]])
    p = np.log([[[0.5, 0.5], [0.1, 0.9]], [[0.6, 0.4], [0.8, 0.2]], [[0.7, 0.3], [0.4, 0.6]]])
    scores = score(y, p, ["auroc", "accuracy"], labels=["acl", "meniscus"])
    assert math.isnan(scores["auroc_acl"]) and scores["auroc"] == scores["auroc_meniscus"] == 1.0
    mean = (scores["accuracy_acl"] + scores["accuracy_meniscus"]) / 2
    assert scores["accuracy"] == pytest.approx(mean)


def test_the_mean_over_labels_of_infinite_scores_is_infinite():
    y, sure = np.array([[1, 1], [0, 0]]), np.array([0.0, -np.inf])
    scores = score(y, np.broadcast_to(sure, (2, 2, 2)), ["nll"])
    assert set(scores.values()) == {np.inf}


def test_certain_predictions_are_scored_without_a_warning():
    p = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    names = ["nll", "entropy", "brier", "ece"]
    assert score(np.array([0, 1]), p, names) == dict.fromkeys(names, 0)
    assert set(METRICS) == set(score(Y, P))


def test_a_metric_of_one_label_is_that_metric_and_a_custom_one_a_share_of_which_more_is_better():
    assert metric_of("nll_acl") is metric_of("nll") is METRICS["nll"]
    assert metric_of("balanced_accuracy_b") is METRICS["balanced_accuracy"]
    assert metric_of("vqa_score") is SHARE
    assert SHARE.percent and not SHARE.lower_is_better and SHARE.bounds == (0, 1)


def test_what_is_in_percent_has_one_decimal_and_the_rest_three():
    nats = {name for name, metric in METRICS.items() if not metric.percent}
    assert nats == {"nll", "brier", "entropy"}
    for name, metric in METRICS.items():
        assert (metric.scale, metric.decimals) == ((1, 3) if name in nats else (100, 1))
    assert {name for name, metric in METRICS.items() if metric.lower_is_better} == nats | {"ece"}
