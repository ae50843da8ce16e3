"""Losses and metrics against hand calculations, PyTorch and scikit-learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from i2m2.losses import binary_cross_entropy, negative_log_likelihood, soft_cross_entropy
from i2m2.metrics import (
    METRICS,
    accuracy,
    auprc,
    auroc,
    balanced_accuracy,
    brier,
    ece,
    entropy,
    kind,
    label_entropy,
    nll,
    score,
)
from i2m2.report.significance import best_of
from i2m2.report.tables import cell


def log(rows):
    return np.log(np.array(rows))


def test_negative_log_likelihood_is_cross_entropy_and_sums_the_labels():
    logits, y = torch.randn(8, 5), torch.randint(0, 5, (8,))
    torch.testing.assert_close(
        negative_log_likelihood(logits.log_softmax(-1), y).mean(), F.cross_entropy(logits, y)
    )
    logits, y = torch.randn(8, 4, 2), torch.randint(0, 2, (8, 4))
    expected = sum(F.cross_entropy(logits[:, label], y[:, label]) for label in range(4))
    torch.testing.assert_close(negative_log_likelihood(logits.log_softmax(-1), y).mean(), expected)


def test_realised_class_weights_are_pytorchs_weighted_mean_per_label():
    logits, y, weights = torch.randn(16, 4, 2), torch.randint(0, 2, (16, 4)), torch.rand(4, 2) + 0.5
    expected = sum(
        F.cross_entropy(logits[:, label], y[:, label], weight=weights[label]) for label in range(4)
    )
    torch.testing.assert_close(
        negative_log_likelihood(logits.log_softmax(-1), y, weights, "realised").mean(), expected
    )


def test_expected_class_weights_by_hand():
    log_prob, y = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log(), torch.tensor([0, 1])
    loss = negative_log_likelihood(log_prob, y, torch.tensor([0.5, 3.0]))
    torch.testing.assert_close(loss, torch.tensor([0.5 * math.log(2), 3 * math.log(4 / 3)]))


def test_soft_cross_entropy_with_one_hot_targets_is_the_negative_log_likelihood():
    log_prob, y = torch.randn(6, 7).log_softmax(-1), torch.randint(0, 7, (6,))
    torch.testing.assert_close(
        soft_cross_entropy(log_prob, F.one_hot(y, 7).float()), negative_log_likelihood(log_prob, y)
    )


def test_binary_cross_entropy_on_log_probabilities_has_the_closed_form():
    log_prob, target = torch.randn(3, 9).log_softmax(-1), torch.rand(3, 9)
    closed = -(target * log_prob).sum(-1) + torch.log1p(log_prob.exp()).sum(-1)
    torch.testing.assert_close(binary_cross_entropy(log_prob, target), closed)


Y = np.array([0, 1, 1, 2])
P = log([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])


def test_metrics_worked_by_hand():
    assert accuracy(Y, P) == 0.75
    assert balanced_accuracy(Y, P) == pytest.approx((1 + 0.5 + 1) / 3)
    assert nll(Y, P) == pytest.approx(-np.log([0.7, 0.6, 0.4, 0.6]).mean())
    assert brier(Y, P) == pytest.approx(
        ((0.09 + 0.04 + 0.01) + (0.01 + 0.16 + 0.09) + (0.25 + 0.36 + 0.01) + (0.04 + 0.04 + 0.16))
        / 4
    )
    # Confidences 0.7 and 0.6, 0.6 (right), 0.5 (wrong), three bins of 15: (0.6667, 0.7333],
    # (0.5333, 0.6], (0.4667, 0.5333].
    assert ece(Y, P) == pytest.approx((0.3 + 0.8 + 0.5) / 4)
    assert entropy(Y, P) == pytest.approx(-(np.exp(P) * P).sum(-1).mean())
    assert label_entropy(Y) == pytest.approx(1.5 * math.log(2))


def test_auroc_and_auprc_match_a_ranking_worked_by_hand():
    # Scores of class 1: 0.9+ 0.8- 0.7+ 0.6-: 3 of 4 pairs in order; precision 1 at the first
    # positive, 2/3 at the second.
    p = log([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    y = np.array([1, 0, 1, 0])
    assert auroc(y, p) == pytest.approx(0.75)
    assert auprc(y, p) == pytest.approx((1 + 2 / 3) / 2)
    # Of three classes: the mean over each against the rest (class 1: positives 0.6, 0.4 above 0.2,
    # 0.2).
    assert auroc(Y, P) == pytest.approx((1 + 1 + 1) / 3)


def test_a_metric_that_is_not_defined_is_nan_and_left_out_of_the_mean_over_labels():
    y = np.array([[0, 1], [0, 0], [0, 1]])
    p = log([[[0.5, 0.5], [0.1, 0.9]], [[0.6, 0.4], [0.8, 0.2]], [[0.7, 0.3], [0.4, 0.6]]])
    scores = score(y, p, ["auroc", "accuracy"], labels=["acl", "meniscus"])
    assert math.isnan(scores["auroc_acl"]) and scores["auroc"] == scores["auroc_meniscus"] == 1.0
    assert scores["accuracy"] == pytest.approx(
        (scores["accuracy_acl"] + scores["accuracy_meniscus"]) / 2
    )


def test_certain_predictions_are_scored_without_a_warning():
    p = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert score(np.array([0, 1]), p, ["nll", "entropy", "brier", "ece"]) == {
        "nll": 0,
        "entropy": 0,
        "brier": 0,
        "ece": 0,
    }
    assert set(METRICS) == set(score(Y, P))


def test_a_metric_of_one_label_is_of_its_metrics_kind():
    assert [kind(name) for name in ("nll_acl", "nll", "balanced_accuracy_b", "vqa_score")] == [
        "nll",
        "nll",
        "balanced_accuracy",
        "vqa_score",
    ]
    values = {
        "a": {"nll_acl": [0.1], "auroc_acl": [0.9], "entropy_acl": [0.2]},
        "b": {"nll_acl": [0.4], "auroc_acl": [0.5], "entropy_acl": [0.1]},
    }
    assert best_of(values, ["nll_acl", "auroc_acl", "entropy_acl"]) == {
        "nll_acl": "a",
        "auroc_acl": "a",
    }
    assert cell([0.1], "nll_acl") == "0.100 (1)" and cell([0.1], "auroc_acl") == "10.0 (1)"
