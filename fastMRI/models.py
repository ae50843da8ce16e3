"""fastMRI's networks, of one image of some channels, and the experts made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastMRI.preparation.labels import LABELS
from fastMRI.settings import FastMRIConfig, FastMRIModel, Norm
from i2m2.errors import SettingsError
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.names import INTER


def build_model(config: FastMRIConfig) -> ProductOfExperts:
    """The experts of the configured method.

    One network each: of magnitude, phase, rss, or (inter) magnitude and phase together.
    """
    return ProductOfExperts({name: _expert(name, config) for name in config.experts})


def _expert(name: str, config: FastMRIConfig) -> nn.Module:
    channels = config.data.channels
    if name != INTER:
        network = _network(config.model, channels[name])
        return UnimodalExpert(name, network, LabelHeads(network.out_features, len(LABELS)))
    network = _network(config.model, sum(channels[modality] for modality in config.modalities))
    as_they_are = {modality: nn.Identity() for modality in config.modalities}
    head = nn.Sequential(network, LabelHeads(network.out_features, len(LABELS)))
    return FusionExpert(as_they_are, StackChannels(), head)


def _network(model: FastMRIModel, channels: int) -> PreActResNet:
    sizes = {"width": model.width, "blocks": model.blocks}
    return NETWORKS[model.network](
        channels,
        **{name: size for name, size in sizes.items() if size is not None},
        norm=model.norm,
        pool=model.pool,
        checkpointed=model.checkpointed,
        channels_last=model.channels_last,
    )


class StackChannels(nn.Module):
    """Early fusion: {modality: [B, c, H, W]} -> [B, sum of c, H, W]."""

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(list(images.values()), dim=1)


class PreActResNet(nn.Module):
    """Pre-activation residual network: [B, channels, H, W] -> [B, out_features].

    A stem, stages of residual blocks, average pooling to `pool` x `pool`. Every stage but the first
    halves the map. As published there is no norm and no ReLU after the last block. The first
    `checkpointed` stages are computed again in the backward pass, block by block, instead of being
    kept: the first holds half of what is.
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
        in_channels = stem
        for number, width in enumerate(widths):
            if channels_last and number > 0:
                _refuse_narrow(in_channels)
            first = PreActBlock(in_channels, width, 1 if number == 0 else 2, norm)
            others = [PreActBlock(width, width, 1, norm) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *others))
            in_channels = width
        self.out_features = in_channels * pool**2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=self.memory_format)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=self.memory_format))
        for number, stage in enumerate(self.stages):
            again = number < self.checkpointed and torch.is_grad_enabled()
            for block in stage:
                x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return F.adaptive_avg_pool2d(x, self.pool).flatten(1)


def _refuse_narrow(in_channels: int) -> None:
    """SettingsError for the channels of a strided 1x1 convolution whose backward pass crashes on a
    CPU where maps are channels_last: the process would end without a word."""
    if in_channels < 8:
        raise SettingsError(
            f"model.channels_last=true with {in_channels} channels at the end of a stage: on a "
            "CPU PyTorch crashes with fewer than 8 in this format; give a larger model.width, "
            "or model.channels_last false"
        )


class PreActBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, plus a shortcut.

    The shortcut is x, or a 1x1 convolution of its activation where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.norm1 = make_norm(norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = make_norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(a)
        return self.conv2(F.relu(self.norm2(self.conv1(a)))) + shortcut


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Group norm of 32 groups (the largest divisor of both where 32 does not divide the channels),
    of one group (layer), or batch norm."""
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
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def preact_resnet18(channels: int, width: int = 64, blocks: int = 2, **options) -> PreActResNet:
    """PreActResNet-18 (He et al., 2016), widths 64, 128, 256, 512.

    A stem without stride or pooling keeps the full resolution.
    """
    widths = [width * 2**k for k in range(4)]
    return PreActResNet(channels, stem=width, widths=widths, blocks=blocks, **options)


def wide_resnet20_3(channels: int, width: int = 16, blocks: int = 3, **options) -> PreActResNet:
    """WideResNet-20-3 (Zagoruyko and Komodakis, 2016), widths 48, 96, 192: depth 20 = 6 x 3 + 2.

    The paper's Fig. 4 only names it; norm, pooling and heads as in the other network are our
    reading.
    """
    widths = [3 * width * 2**k for k in range(3)]
    return PreActResNet(channels, stem=width, widths=widths, blocks=blocks, **options)


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
