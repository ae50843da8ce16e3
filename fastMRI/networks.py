"""Networks of fastMRI: one image of some channels -> features, with pre-activation residual blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Norm = Literal["group", "layer", "batch"]


class PreActResNet(nn.Module):
    """Stem, stages of residual blocks, average pooling to `pool` x `pool`: [B, channels, H, W] ->
    [B, out_features].

    Every stage but the first halves the map. As published there is no norm and no ReLU after the
    last block. The first `checkpointed` stages are computed again in the backward pass, block by
    block, instead of being kept: the first holds half of what is.
    """

    def __init__(
        self,
        channels: int,
        stem: int,
        widths: Sequence[int],
        blocks: int,
        norm: Norm = "group",
        pool: int = 10,
        checkpointed: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.pool, self.checkpointed = pool, checkpointed
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.stem = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        inside = stem
        for stage, width in enumerate(widths):
            steps = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            insides = [inside] + [width] * (blocks - 1)
            self.stages.append(
                nn.Sequential(
                    *(
                        PreActBlock(i, width, step, norm)
                        for i, step in zip(insides, steps, strict=True)
                    )
                )
            )
            inside = width
        self.out_features = inside * pool**2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=self.memory_format)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=self.memory_format))
        for place, stage in enumerate(self.stages):
            kept = place >= self.checkpointed or not torch.is_grad_enabled()
            for block in stage:
                x = block(x) if kept else checkpoint(block, x, use_reentrant=False)
        return F.adaptive_avg_pool2d(x, self.pool).flatten(1)


class PreActBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, plus a shortcut: x, or a 1x1 convolution of its
    activation where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.norm1 = make_norm(norm, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.norm2 = make_norm(norm, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        changes = stride != 1 or inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(a)
        return self.conv2(F.relu(self.norm2(self.conv1(a)))) + shortcut


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """GroupNorm of 32 groups (the largest divisor of both where 32 does not divide the channels),
    of one, or batch norm."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return GroupNorm(math.gcd(32, channels) if norm == "group" else 1, channels)


class GroupNorm(nn.GroupNorm):
    """Group norm in the type of its input (its sums are float32 inside), under mixed precision too.

    On a GPU autocast would make a float32 copy of every map: a step in bfloat16 took more memory
    than one in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(
                x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
            )


def preact_resnet18(channels: int, width: int = 64, blocks: int = 2, **options) -> PreActResNet:
    """PreActResNet-18 (He et al., 2016), widths 64, 128, 256, 512; a stem without stride or pooling
    keeps the full resolution."""
    return PreActResNet(
        channels, stem=width, widths=[width * 2**k for k in range(4)], blocks=blocks, **options
    )


def wide_resnet20_3(channels: int, width: int = 16, blocks: int = 3, **options) -> PreActResNet:
    """WideResNet-20-3 (Zagoruyko and Komodakis, 2016), widths 48, 96, 192: depth 20 = 6 x 3 + 2.
    The paper's Fig. 4 only names it; norm, pooling and heads as in the other network are our
    reading."""
    return PreActResNet(
        channels, stem=width, widths=[3 * width * 2**k for k in range(3)], blocks=blocks, **options
    )


NETWORKS: dict[str, Callable[..., PreActResNet]] = {
    "preact_resnet18": preact_resnet18,
    "wide_resnet20_3": wide_resnet20_3,
}


class LabelHeads(nn.Module):
    """A linear classifier of two classes per label: [B, D] -> logits [B, labels, 2]."""

    def __init__(self, features: int, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.linear = nn.Linear(features, 2 * labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).view(-1, self.labels, 2)
