"""NLVR2: the experts on one shared backbone or on its cached features, and the optimiser's groups
of parameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from i2m2.model import ProductOfExperts
from i2m2.names import INTER
from i2m2.settings import OptimConfig
from VQA_and_NLVR2.backbones.base import Backbone
from VQA_and_NLVR2.backbones.heads import make_head
from VQA_and_NLVR2.nlvr2.settings import NLVR2Model

IMAGES = 2  # of an example, left and right
READS = {"image": ("image",), "text": ("text",), INTER: ("image", "text")}  # of each expert
KIND = {"image": "image", "text": "text", INTER: "fused"}  # the backbone's vector that each sees
BETAS = (0.9, 0.98)  # of AdamW, in every published recipe
FUSION = ("cross_modal", "i2t", "t2i")  # parts of parameters' names, as in FIBER's published groups
# The last is FLAVA's.
NO_DECAY = (
    "bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight", "layernorm",
)  # fmt: skip


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
    experts = {}
    for name in names:
        kind = KIND[name]
        experts[name] = VectorExpert(kind, (kind,), features_of(name, widths), hidden)
    return ProductOfExperts(experts)


class SharedBackbone(ProductOfExperts):
    """The experts `names` on one backbone, each of whose parts runs once for all of them, and not
    at all if none needs it.

    Inputs: `image` [B, 2, 3, s, s], left and right, normalised; `text` {"ids", "mask"} [B, L]. What
    the experts see: `image` [image 0 ; image 1], `text`, `inter` [fused(image 0, text) ;
    fused(image 1, text)]: both images pass through the same weights, and their order alone tells
    left from right.
    """

    def __init__(self, backbone: Backbone, names: tuple[str, ...], hidden: int) -> None:
        experts = {}
        for name in names:
            width = features_of(name, backbone.widths)
            experts[name] = VectorExpert(name, READS[name], width, hidden)
        super().__init__(experts)
        self.backbone = backbone

    def shared(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`inputs` and, for every expert that can be computed from them, its vector [B, features]
        under its name."""
        experts = self.experts.items()
        wanted = {name for name, expert in experts if set(expert.modalities) <= set(inputs)}
        return {**inputs, **dict(self._vectors(inputs, wanted))}

    def _vectors(self, inputs: Mapping[str, Any], wanted: set[str]) -> Iterator[tuple[str, Tensor]]:
        if wanted & {"image", INTER}:
            pairs = inputs["image"]
            images = pairs.flatten(0, 1)
            image, image_state = self.backbone.encode_image(images, vector="image" in wanted)
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
    trained: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = settings.decay_all or not any(word in name for word in NO_DECAY)
            trained.setdefault((_part(name), decays), []).append(parameter)
    rates = {"backbone": 1.0, "fusion": settings.fusion_rate, "heads": settings.head_rate}
    betas = {"betas": BETAS} if optim.name == "adamw" else {}
    groups = []
    for part, decays in itertools.product(rates, (True, False)):
        if parameters := trained.get((part, decays)):
            decay = optim.weight_decay if decays else 0.0
            rate = rates[part] * optim.lr
            groups.append({"params": parameters, "lr": rate, "weight_decay": decay, **betas})
    return groups


def _part(name: str) -> str:
    if name.startswith("experts."):
        return "heads"
    return "fusion" if any(word in name for word in FUSION) else "backbone"
