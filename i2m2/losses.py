"""Losses per example, [B]; training takes their mean over an update, on all devices."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def negative_log_likelihood(
    log_prob: Tensor,
    y: Tensor,
    class_weights: Tensor | None = None,
    normalise: Literal["expected", "per_batch"] = "expected",
) -> Tensor:
    """-log p(y | x), summed over the labels: [B, (L,) C] log-probabilities, [B(, L)] classes ->
    [B].

    `class_weights` [(L,) C] weighs each label's classes. `expected` takes them as they are, scaled
    so that their mean over the training examples is 1: a rare class makes no gradient jump.
    `per_batch` divides by the mean weight of the examples at hand, as PyTorch's weighted mean does:
    those of one device and micro-batch.
    """
    if normalise not in ("expected", "per_batch", "realised"):  # the last is what configs call it
        raise ValueError(f"normalise={normalise!r} is unknown; choose expected or per_batch")
    loss = F.nll_loss(log_prob.flatten(0, -2), y.flatten(), reduction="none").view(y.shape)
    if class_weights is not None:
        weight = class_weights.expand(log_prob.shape).gather(-1, y.unsqueeze(-1)).squeeze(-1)
        loss = loss * (weight / weight.mean(dim=0) if normalise != "expected" else weight)
    return loss.flatten(1).sum(dim=1) if loss.dim() > 1 else loss


def soft_cross_entropy(log_prob: Tensor, target: Tensor) -> Tensor:
    """-sum_c t_c log p(c | x): [B, C] log-probabilities and soft targets (of any sum) -> [B]."""
    return -(target * log_prob).sum(dim=-1)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Each answer on its own, summed over them: [B, C] logits, [B, C] targets in 0..1 -> [B].

    The paper's VQA loss feeds it normalised log-probabilities, which never reach a target of 1.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1)
