"""What a run of VQA-VS keeps of its outputs over thousands of answers (columns: `predictions`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from i2m2.names import PRODUCT
from VQA_and_NLVR2.vqa_vs.predictions import TOP


def select_top_answers(
    log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The columns of one batch: [B, K] log-probabilities, y["answer"] [B, 10]."""
    answer = y["answer"].long()
    columns = {}
    for name, value in _named(log_prob, by_expert).items():
        top = value.topk(min(TOP, value.shape[1]), dim=1)
        given = value.gather(1, answer.clamp(min=0)).masked_fill(answer < 0, 0)
        total = value.logsumexp(dim=1)
        normalised = value - total[:, None]
        columns |= {
            # The smallest type that several GPUs can exchange.
            f"{name}_top": top.indices.to(torch.int32),
            f"{name}_top_log_prob": top.values.half(),
            f"{name}_answer_log_prob": given,
            f"{name}_logsumexp": total,
            f"{name}_entropy": -(normalised.exp() * normalised).sum(dim=1),
            f"{name}_square": normalised.mul(2).exp().sum(dim=1),
        }
    return columns


def select_all_answers(
    log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The same, and `<name>_log_prob` [B, K]."""
    whole = {f"{name}_log_prob": v for name, v in _named(log_prob, by_expert).items()}
    return select_top_answers(log_prob, by_expert, y) | whole


def _named(log_prob: Tensor, by_expert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A single expert is the product itself."""
    return {PRODUCT: log_prob, **(by_expert if len(by_expert) > 1 else {})}
