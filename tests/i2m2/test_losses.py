"""Losses against hand calculations and PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F

from i2m2.losses import binary_cross_entropy, negative_log_likelihood, soft_cross_entropy


def test_negative_log_likelihood_is_cross_entropy_and_sums_the_labels():
    logits, y = torch.randn(8, 5), torch.randint(0, 5, (8,))
    loss = negative_log_likelihood(logits.log_softmax(-1), y)
    torch.testing.assert_close(loss.mean(), F.cross_entropy(logits, y))
    logits, y = torch.randn(8, 4, 2), torch.randint(0, 2, (8, 4))
    expected = sum(F.cross_entropy(logits[:, k], y[:, k]) for k in range(4))
    loss = negative_log_likelihood(logits.log_softmax(-1), y)
    torch.testing.assert_close(loss.mean(), expected)


def test_class_weights_per_batch_are_pytorchs_weighted_mean_of_each_label():
    logits, y, weights = torch.randn(16, 4, 2), torch.randint(0, 2, (16, 4)), torch.rand(4, 2) + 0.5
    expected = sum(F.cross_entropy(logits[:, k], y[:, k], weight=weights[k]) for k in range(4))
    loss = negative_log_likelihood(logits.log_softmax(-1), y, weights, "per_batch")
    torch.testing.assert_close(loss.mean(), expected)


def test_expected_class_weights_by_hand():
    log_prob, y = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log(), torch.tensor([0, 1])
    loss = negative_log_likelihood(log_prob, y, torch.tensor([0.5, 3.0]))
    torch.testing.assert_close(loss, torch.tensor([0.5 * math.log(2), 3 * math.log(4 / 3)]))


def test_soft_cross_entropy_with_one_hot_targets_is_the_negative_log_likelihood():
    log_prob, y = torch.randn(6, 7).log_softmax(-1), torch.randint(0, 7, (6,))
    loss = soft_cross_entropy(log_prob, F.one_hot(y, 7).float())
    torch.testing.assert_close(loss, negative_log_likelihood(log_prob, y))


def test_binary_cross_entropy_on_log_probabilities_has_the_closed_form():
    log_prob, target = torch.randn(3, 9).log_softmax(-1), torch.rand(3, 9)
    closed = -(target * log_prob).sum(-1) + torch.log1p(log_prob.exp()).sum(-1)
    torch.testing.assert_close(binary_cross_entropy(log_prob, target), closed)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalise='batch' is unknown; choose expected or"):
        negative_log_likelihood(torch.zeros(1, 2), torch.tensor([0]), normalise="batch")
