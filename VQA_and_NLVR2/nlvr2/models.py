"""NLVR2: the experts on one shared backbone or on its cached features, and the optimiser's groups
of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from i2m2.model import ProductOfExperts
from i2m2.names import INTER
from i2m2.settings import OptimConfig
from VQA_and_NLVR2.backbones.base import Backbone
from VQA_and_NLVR2.backbones.heads import make_head

IMAGES = 2  # of an example, left and right
READS = {
    "image": ("image",),
    "text": ("text",),
    INTER: ("image", "text"),
}  # the modalities of each expert
KIND = {"image": "image", "text": "text", INTER: "fused"}  # the backbone's vector that each sees
BETAS = (0.9, 0.98)  # of AdamW, in every published recipe
FUSION = ("cross_modal", "i2t", "t2i")  # parts of parameters' names, as in FIBER's published groups
NO_DECAY = (
    "bias",
    "LayerNorm.weight",
    "norm.weight",
    "norm1.weight",
    "norm2.weight",
    "layernorm",
)  # the last: FLAVA's


@dataclass(frozen=True, kw_only=True)
class NLVR2Model:
    """What is trained, and how its parts differ.

    Args:
        train: all: backbone and heads, as in the paper; heads: on features of the backbone as it
            is, computed once
        hidden: width of the heads' hidden layer
        head_rate: learning rate of the heads, as a multiple of optim.lr
        fusion_rate: that of the backbone's fusion (cross-attention, gates, transforms, poolers)
        decay_all: weight decay of biases and norms too
    """

    train: Literal["all", "heads"] = "all"
    hidden: int = 1536
    head_rate: float = 1.0
    fusion_rate: float = 1.0
    decay_all: bool = False


class VectorExpert(nn.Module):
    """An expert's head on the vectors that stand under `key` in the inputs: [B, features] -> logits
    [B, 2]."""

    def __init__(self, key: str, modalities: tuple[str, ...], features: int, hidden: int) -> None:
        super().__init__()
        self.key, self.modalities = key, modalities
        self.head = make_head(features, 2, hidden)

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        return self.head(inputs[self.key])


def features_of(name: str, widths: Mapping[str, int]) -> int:
    """Width of what an expert sees: a vector for each image, but one for the text."""
    return widths[KIND[name]] * (1 if name == "text" else IMAGES)


def heads_on_features(
    widths: Mapping[str, int], names: tuple[str, ...], hidden: int
) -> ProductOfExperts:
    """The experts `names` on cached features, {image [B, 2 D], text [B, D], fused [B, 2 D]};
    `widths`: D of each kind."""
    return ProductOfExperts(
        {
            name: VectorExpert(KIND[name], (KIND[name],), features_of(name, widths), hidden)
            for name in names
        }
    )


class SharedBackbone(ProductOfExperts):
    """The experts `names` on one backbone, each of whose parts runs once for all of them, and not
    at all if none needs it.

    Inputs: `image` [B, 2, 3, s, s], left and right, normalised; `text` {"ids", "mask"} [B, L]. What
    the experts see: `image` [image 0 ; image 1], `text`, `inter` [fused(image 0, text) ;
    fused(image 1, text)]: both images pass through the same weights, and their order alone tells
    left from right.
    """

    def __init__(self, backbone: Backbone, names: tuple[str, ...], hidden: int) -> None:
        super().__init__(
            {
                name: VectorExpert(name, READS[name], features_of(name, backbone.widths), hidden)
                for name in names
            }
        )
        self.backbone = backbone

    def shared(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`inputs` and, for every expert that can be computed from them, its vector [B, features]
        under its name."""
        wanted = {
            name for name, expert in self.experts.items() if set(expert.modalities) <= set(inputs)
        }
        return {**inputs, **dict(self._vectors(inputs, wanted))}

    def _vectors(self, inputs: Mapping[str, Any], wanted: set[str]) -> Iterator[tuple[str, Tensor]]:
        if wanted & {"image", INTER}:
            pairs = inputs["image"]
            image, image_state = self.backbone.encode_image(
                pairs.flatten(0, 1), vector="image" in wanted
            )
            if "image" in wanted:
                yield "image", image.reshape(len(pairs), -1)
        if wanted & {"text", INTER}:
            text, text_state = self.backbone.encode_text(**inputs["text"], vector="text" in wanted)
            if "text" in wanted:
                yield "text", text
        if INTER in wanted:
            row = torch.arange(len(pairs), device=pairs.device).repeat_interleave(IMAGES)
            yield INTER, self.backbone.fuse(image_state, text_state[row]).reshape(len(pairs), -1)


def parameter_groups(
    model: ProductOfExperts, optim: OptimConfig, settings: NLVR2Model
) -> list[dict[str, Any]]:
    """FIBER's groups of what is trained: rates of the backbone, its fusion and the heads, with and
    without weight decay."""
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = settings.decay_all or not any(word in name for word in NO_DECAY)
            groups.setdefault((_part(name), decays), []).append(parameter)
    rates = {"backbone": 1.0, "fusion": settings.fusion_rate, "heads": settings.head_rate}
    betas = {"betas": BETAS} if optim.name == "adamw" else {}
    return [
        {
            "params": groups[part, decays],
            "lr": rate * optim.lr,
            "weight_decay": optim.weight_decay if decays else 0.0,
            **betas,
        }
        for part, rate in rates.items()
        for decays in (True, False)
        if (part, decays) in groups
    ]


def _part(name: str) -> str:
    if name.startswith("experts."):
        return "heads"
    return "fusion" if any(word in name for word in FUSION) else "backbone"
