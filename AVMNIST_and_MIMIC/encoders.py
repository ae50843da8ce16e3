"""The encoder of AV-MNIST: one modality -> features [B, D]."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from AVMNIST_and_MIMIC.cpu_kernels import batch_norm_max_pool
from i2m2.encoders.cpu_kernels import plain_cpu

LARGE = 56  # columns of pictures from which on the CPU does well to have channels last


class LeNet(nn.Module):
    """Blocks of convolution, batch norm, 2x2 max pooling and ReLU: [B, 1, H, W] -> [B, features].

    The first block has a 5x5 kernel and `width` channels; each of the `blocks` that follow has a
    3x3 kernel and twice the channels of the one before, so that there are width * 2**blocks
    features. The map left at the end must be 1x1: 3 blocks for 28x28 images, 5 for 112x112
    spectrograms. Pooling before the ReLU instead of after it changes no value and no gradient, and
    touches a quarter of the elements.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        channels = [1] + [width * 2**i for i in range(blocks + 1)]
        kernels = [5] + [3] * blocks
        self.out_features = channels[-1]
        self.blocks = nn.ModuleList()
        for (inputs, outputs), kernel in zip(pairwise(channels), kernels, strict=True):
            self.blocks.append(_lenet_block(inputs, outputs, kernel))
        for block in self.blocks:
            nn.init.kaiming_uniform_(block[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        large = x.shape[-1] >= LARGE and plain_cpu(x) and not torch.is_autocast_enabled("cpu")
        if large:
            x = x.to(memory_format=torch.channels_last)
        for block in self.blocks:
            x = _block_on_cpu(block, x) if large else block(x)
        if x.shape[-2:] != (1, 1):
            raise ValueError(
                f"LeNet with {len(self.blocks) - 1} further blocks leaves a map of "
                f"{tuple(x.shape[-2:])}, not 1x1"
            )
        return x.flatten(1)


def _lenet_block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.MaxPool2d(2),
        nn.ReLU(),
    )


def _block_on_cpu(block: nn.Sequential, x: Tensor) -> Tensor:
    """The same, to rounding, with channels that lie last."""
    convolution, norm, _, relu = block
    return relu(batch_norm_max_pool(convolution(x), norm))
