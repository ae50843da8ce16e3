"""The classifier on top of a backbone's vectors."""

from __future__ import annotations

from torch import nn

from VQA_and_NLVR2.backbones.roberta import initialise
from VQA_and_NLVR2.backbones.settings import HIDDEN


def make_head(features: int, classes: int, hidden: int = HIDDEN) -> nn.Sequential:
    """Linear, LayerNorm, GELU, linear: [B, features] -> logits [B, classes]. Weights N(0, 0.02),
    biases 0.

    The entries 0, 1 and 3 are those of the published heads.
    """
    return nn.Sequential(
        nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, classes)
    ).apply(initialise)
