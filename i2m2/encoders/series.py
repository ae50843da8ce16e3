"""Encoders of time series of equal length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from i2m2.encoders.cpu_kernels import GRUOnCPU, plain_cpu


class SeriesGRU(nn.Module):
    """A one-layer GRU over time, all of its steps flattened: [B, T, inputs] -> [B, T * features].

    With `projection`, a linear layer first maps every step's features to so many: [B, T *
    projection].
    """

    def __init__(self, inputs: int, features: int, projection: int | None = None) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, features, batch_first=True)
        self.projection = nn.Linear(features, projection) if projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if plain_cpu(x) and not torch.is_autocast_enabled("cpu"):
            weights = self.gru.all_weights[0]
            hidden = GRUOnCPU.apply(x.transpose(-3, -2), *weights).transpose(-3, -2)
        else:
            hidden, _ = self.gru(x)
        return self.projection(hidden).flatten(-2)
