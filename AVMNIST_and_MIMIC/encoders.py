"""Encoders of AV-MNIST and MIMIC-III: one modality -> features [B, D]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """Convolution, batch norm, 2x2 max pooling, ReLU, repeated: [B, 1, H, W] -> [B, width * 2**blocks].

    The first block has a 5x5 kernel and `width` channels; each of the `blocks` that follow has a 3x3 kernel and twice the
    channels of the one before. The map left at the end must be 1x1: 3 blocks for 28x28 images, 5 for 112x112 spectrograms.
    Pooling before the ReLU instead of after it changes no value and no gradient, and touches a quarter of the elements.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        channels = [1] + [width * 2**i for i in range(blocks + 1)]
        self.out_features = channels[-1]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(outside),
                MaxPool2x2(),
                nn.ReLU(),
            )
            for inside, outside, kernel in zip(channels, channels[1:], [5] + [3] * blocks, strict=False)
        )
        for block in self.blocks:
            nn.init.kaiming_uniform_(block[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if x.shape[-2:] != (1, 1):
            raise ValueError(f"LeNet with {len(self.blocks) - 1} further blocks leaves a map of {tuple(x.shape[-2:])}, not 1x1")
        return x.flatten(1)


class MaxPool2x2(nn.Module):
    """2x2 max pooling with stride 2; an odd last row or column is left out, as in `nn.MaxPool2d(2)`."""

    def forward(self, x: Tensor) -> Tensor:
        plain_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()
        return _MaxPool2x2OnCPU.apply(x) if plain_cpu and x.shape[-1] >= 56 else F.max_pool2d(x, 2)


class _MaxPool2x2OnCPU(torch.autograd.Function):
    """The same values and gradients, ties included, as `F.max_pool2d(x, 2)`, whose CPU kernel is not vectorised.

    Maxima of strided views are: an audio encoder's forward and backward pass gets 1.1 to 1.4 times faster. On small maps the
    kernel is the faster one (benchmarks/avmnist.py, part encoder). On a tie the gradient goes to the upper row, then to the
    left column: the first maximum in reading order.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        height, width = (size // 2 * 2 for size in x.shape[-2:])
        rows = torch.maximum(x[..., :height, 0:width:2], x[..., :height, 1:width:2])  # [..., H, W/2]: the better of two columns
        pooled = torch.maximum(rows[..., 0::2, :], rows[..., 1::2, :])
        ctx.save_for_backward(x, rows, pooled)
        return pooled

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        x, rows, pooled = ctx.saved_tensors
        height, width = (size // 2 * 2 for size in x.shape[-2:])
        grad_rows = torch.empty_like(rows)
        grad_rows[..., 0::2, :] = grad * (rows[..., 0::2, :] == pooled)
        grad_rows[..., 1::2, :] = grad - grad_rows[..., 0::2, :]
        grad_x = torch.empty_like(x) if (height, width) == tuple(x.shape[-2:]) else torch.zeros_like(x)
        grad_x[..., :height, 0:width:2] = grad_rows * (x[..., :height, 0:width:2] == rows)
        grad_x[..., :height, 1:width:2] = grad_rows - grad_x[..., :height, 0:width:2]
        return grad_x


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, ReLU, linear: [B, inputs] -> [B, outputs]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class SeriesGRU(nn.Module):
    """A one-layer GRU over time, all of its steps flattened: [B, T, inputs] -> [B, T * features].

    With `projection`, a linear layer first maps every step's features to so many: [B, T * projection].
    """

    def __init__(self, inputs: int, features: int, projection: int | None = None) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, features, batch_first=True)
        self.projection = nn.Linear(features, projection) if projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.gru(x)[0]).flatten(1)
