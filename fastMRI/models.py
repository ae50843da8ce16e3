"""fastMRI knee: settings, models and loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fastMRI.data import LABELS, FastMRIData, class_weights
from fastMRI.networks import NETWORKS, LabelHeads, Norm
from i2m2.losses import negative_log_likelihood
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.names import INTER
from i2m2.settings import RunConfig
from i2m2.training.data import Data
from i2m2.training.loop import Loss


@dataclass(frozen=True, kw_only=True)
class FastMRIModel:
    """The network of every expert.

    Args:
        network: preact_resnet18 (the paper's), or wide_resnet20_3 (its Fig. 4)
        width: channels of the stem; null: 64 and 16
        blocks: residual blocks per stage; null: 2 and 3
        norm: group norm of 32 groups, of one (layer), or batch norm
        pool: side of the map that the heads see
        checkpointed: so many stages are computed twice instead of being kept for the backward pass
        channels_last: memory format of the maps
    """

    network: Literal["preact_resnet18", "wide_resnet20_3"] = "preact_resnet18"
    width: int | None = None
    blocks: int | None = None
    norm: Norm = "group"
    pool: int = 10
    checkpointed: int = 0
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class FastMRIConfig(RunConfig):
    """Train one method on fastMRI knee with one seed.

    Args:
        dataset: name of the data set
        fusion: magnitude and phase are fused as the channels of one image
        class_weights: inverse class frequencies of the training slices, divided by their expected
            sum, by that of the examples at hand as in the published code, or none
        data: where the data lie, and what of a complex image the experts see
        model: the network of every expert
    """

    modalities: ClassVar[tuple[str, ...]] = ("magnitude", "phase")
    baselines: ClassVar[tuple[str, ...]] = ("rss",)
    from_zero: ClassVar[frozenset[str]] = RunConfig.from_zero | {"model.checkpointed"}

    dataset: Literal["fastmri"] = "fastmri"
    fusion: Literal[None] = None
    class_weights: Literal["expected", "realised", "none"] = "expected"
    data: FastMRIData = field(default_factory=FastMRIData)
    model: FastMRIModel = field(default_factory=FastMRIModel)


class StackChannels(nn.Module):
    """Early fusion: {modality: [B, c, H, W]} -> [B, sum of c, H, W]."""

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(list(images.values()), dim=1)


def build_model(config: FastMRIConfig) -> ProductOfExperts:
    """The experts of the configured method: one network each, of magnitude, phase, rss, or (inter)
    magnitude and phase together."""
    return ProductOfExperts({name: _expert(name, config) for name in config.experts})


def _expert(name: str, config: FastMRIConfig) -> nn.Module:
    channels = config.data.channels
    if name != INTER:
        network = _network(config.model, channels[name])
        return UnimodalExpert(name, network, LabelHeads(network.out_features, len(LABELS)))
    network = _network(config.model, sum(channels[modality] for modality in config.modalities))
    as_they_are = {modality: nn.Identity() for modality in config.modalities}
    return FusionExpert(
        as_they_are,
        StackChannels(),
        nn.Sequential(network, LabelHeads(network.out_features, len(LABELS))),
    )


def _network(model: FastMRIModel, channels: int) -> nn.Module:
    sizes = {
        name: value for name in ("width", "blocks") if (value := getattr(model, name)) is not None
    }
    options = {
        name: getattr(model, name) for name in ("norm", "pool", "checkpointed", "channels_last")
    }
    return NETWORKS[model.network](channels, **sizes, **options)


def loss_of(config: FastMRIConfig, data: Data, device: torch.device) -> Loss:
    """Negative log-likelihood summed over the four labels, their classes weighted by inverse
    frequency in the training slices."""
    if config.class_weights == "none":
        return negative_log_likelihood
    weights = class_weights(data.splits["train"].y).to(device)
    # N / n_c is 2 in the mean over the training slices; only the ratio of the two classes is meant
    # to matter.
    return partial(
        negative_log_likelihood, class_weights=weights / 2, normalise=config.class_weights
    )
