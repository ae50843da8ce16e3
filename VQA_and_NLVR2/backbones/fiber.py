"""FIBER: Swin and RoBERTa that look at each other in their last blocks (Dou et al., NeurIPS 2022).

The last `fusion_steps` Swin blocks and RoBERTa layers are paired. In each step both streams get
what the other one had *before* the step, behind a gate that starts at 0. The blocks before them see
one modality alone; they are the states that the passes share. In training mode the passes then
share one draw of dropout and stochastic depth too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from i2m2.errors import SettingsError
from VQA_and_NLVR2.backbones.base import State
from VQA_and_NLVR2.backbones.roberta import Roberta, RobertaSizes, additive_mask, initialise
from VQA_and_NLVR2.backbones.swin import Swin, SwinSizes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
FIXED = {
    "swin": {"patch_size": 4},
    "roberta": {"hidden_act": "gelu"},
    "fiber": {"itc_pooler": True},
}


@dataclass(frozen=True, kw_only=True)
class FIBERSizes:
    """Sizes of both encoders and of the fusion; the defaults are the published model's."""

    swin: SwinSizes = field(default_factory=SwinSizes)
    roberta: RobertaSizes = field(default_factory=RobertaSizes)
    hidden_size: int = 768
    fusion_steps: int = 6
    max_text_length: int = 50

    def __post_init__(self) -> None:
        most = min(sum(self.swin.depths[2:]), self.roberta.num_hidden_layers)
        if not 1 <= self.fusion_steps <= most:
            raise SettingsError(
                f"{self.fusion_steps} fusion steps must be 1 to {most}: "
                "the blocks of the last two stages, the layers"
            )


class FIBER(nn.Module):
    """The backbone; see `base.Backbone` for its methods and attributes.

    `fused` is [text ; image], 2 x `hidden_size` wide; `image` and `text` are the vectors of FIBER's
    contrastive loss, of length 1.
    """

    mean, std = MEAN, STD

    def __init__(
        self,
        sizes: FIBERSizes,
        name: str = "FIBER, random weights",
        tokenizer: str = "roberta-base",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.sizes, self.name, self.tokenizer, self.recompute = sizes, name, tokenizer, recompute
        self.report = name
        self.image_size, self.max_text_length = sizes.swin.image_size, sizes.max_text_length
        hidden, width = sizes.hidden_size, sizes.swin.widths[-1]
        text_width = sizes.roberta.hidden_size
        self.widths = {"image": hidden, "text": hidden, "fused": 2 * hidden}
        self.image_alone = sum(sizes.swin.depths) - sizes.fusion_steps
        self.text_alone = sizes.roberta.num_hidden_layers - sizes.fusion_steps
        block_widths = np.repeat(sizes.swin.widths, sizes.swin.depths).tolist()
        self.vit_model = Swin(sizes.swin, text_width, sizes.fusion_steps)
        self.text_transformer = Roberta(sizes.roberta, block_widths[self.image_alone :])
        for suffix in ("", "_itc"):  # of the fused pass, and of those of one modality
            parts = {
                "text_transform": nn.Linear(text_width, hidden).apply(initialise),
                "image_transform": nn.Linear(width, hidden).apply(initialise),
                "text_pooler": Pooler(hidden).apply(initialise),
                "image_pooler": Pooler(hidden).apply(initialise),
            }
            for name, part in parts.items():
                setattr(self, f"cross_modal_{name}{suffix}", part)

    def encode_image(self, images: Tensor, vector: bool = True) -> tuple[Tensor | None, State]:
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"images are {list(images.shape)}; "
                f"this backbone takes [B, 3, {self.image_size}, {self.image_size}]"
            )
        state = State(self._blocks(self.vit_model.patch_embed(images), 0, self.image_alone))
        if not vector:
            return None, state
        pooled = self.cross_modal_image_transform_itc(self.image_tokens(state).mean(dim=1))
        return _unit(self.cross_modal_image_pooler_itc(pooled)), state

    def encode_text(
        self, ids: Tensor, mask: Tensor, vector: bool = True
    ) -> tuple[Tensor | None, State]:
        mask = mask.bool()
        tokens = self._layers(self.text_transformer.embeddings(ids), mask, 0, self.text_alone)
        state = State(tokens, mask)
        if not vector:
            return None, state
        pooled = self.cross_modal_text_transform_itc(self.text_tokens(state)[:, 0])
        return _unit(self.cross_modal_text_pooler_itc(pooled)), state

    def fuse(self, image: State, text: State) -> Tensor:
        x, y = self.fused_tokens(image, text)
        # The transforms are linear, so that they can follow the mean over the image's tokens and
        # the choice of the text's first.
        text_vector = self.cross_modal_text_pooler(self.cross_modal_text_transform(y[:, 0]))
        image = self.cross_modal_image_transform(x.mean(dim=1))
        return torch.cat([text_vector, self.cross_modal_image_pooler(image)], dim=-1)

    def image_tokens(self, state: State) -> Tensor:
        """Last hidden state of the image-only pass: [B, (s / 32)^2, C]."""
        last = len(self.vit_model.blocks)
        return self.vit_model.norm(self._blocks(state.tokens, self.image_alone, last))

    def text_tokens(self, state: State) -> Tensor:
        """Last hidden state of the text-only pass: [B, L, D]."""
        last = len(self.text_transformer.layers)
        return self._layers(state.tokens, state.mask, self.text_alone, last)

    def fused_tokens(self, image: State, text: State) -> tuple[Tensor, Tensor]:
        """Both streams after the last fusion step: [B, (s / 32)^2, C], [B, L, D]. Neither gets its
        final norm."""
        x, y, mask = image.tokens, text.tokens, additive_mask(text.mask)
        blocks, layers = self.vit_model.blocks, self.text_transformer.layers
        for step in range(self.sizes.fusion_steps):
            k, last = self.image_alone + step, step == self.sizes.fusion_steps - 1
            x = self.vit_model.downsample_before(x, k)
            new_x = self._run(blocks[k], x, y, mask)
            y = self._run(layers[self.text_alone + step], y, mask, x, not last)
            x = new_x
        return x, y

    def _blocks(self, x: Tensor, first: int, stop: int) -> Tensor:
        for k, block in list(enumerate(self.vit_model.blocks))[first:stop]:
            x = self._run(block, self.vit_model.downsample_before(x, k))
        return x

    def _layers(self, y: Tensor, mask: Tensor, first: int, stop: int) -> Tensor:
        mask = additive_mask(mask)
        for layer in self.text_transformer.layers[first:stop]:
            y = self._run(layer, y, mask)
        return y

    def _run(self, module: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


class Pooler(nn.Module):
    """tanh of a linear layer: [B, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x))


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def read_sizes(path: Path) -> FIBERSizes:
    """Sizes from a JSON file with sections swin, roberta and fiber. SettingsError names what is
    missing, wrong or not supported.

    The window is not read: it is always 1/32 of the image's side.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: not a readable JSON file of sizes ({error})") from None
    sections = {name: config.get(name) if isinstance(config, dict) else None for name in FIXED}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise SettingsError(
                f"{path}: no section {name}; a file of sizes has the sections {', '.join(FIXED)}"
            )
        for key, value in FIXED[name].items():
            if section.get(key, value) != value:
                raise SettingsError(
                    f"{path}: {name}.{key} is {section[key]!r}; only {value!r} is supported"
                )
    try:
        sizes = _sizes_of(path, sections)
    except SettingsError as error:
        raise SettingsError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    _check_widths(path, sections["fiber"], sizes)
    return sizes


def _sizes_of(path: Path, sections: Mapping[str, Mapping[str, Any]]) -> FIBERSizes:
    usual = {"hidden_size": 768, "num_fuse_block": 6, "max_text_len": 50}
    fiber = _fields(usual, sections["fiber"], f"{path}: fiber")
    swin = _fields(_defaults(SwinSizes), sections["swin"], f"{path}: swin")
    roberta = _fields(_defaults(RobertaSizes), sections["roberta"], f"{path}: roberta")
    return FIBERSizes(
        swin=SwinSizes(**swin),
        roberta=RobertaSizes(**roberta),
        hidden_size=fiber["hidden_size"],
        fusion_steps=fiber["num_fuse_block"],
        max_text_length=fiber["max_text_len"],
    )


def _defaults(cls: type) -> dict[str, Any]:
    return {entry.name: entry.default for entry in dataclasses.fields(cls)}


def _fields(defaults: Mapping[str, Any], section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The entries of a section that a model is made from, each of its default's type."""
    found = {}
    for name, default in defaults.items():
        value = section.get(name)
        integers = isinstance(value, list) and all(type(item) is int for item in value)
        if isinstance(default, tuple) and integers:
            found[name] = tuple(value)
        elif type(value) is type(default) or (isinstance(default, float) and type(value) is int):
            found[name] = type(default)(value)
        else:
            raise SettingsError(
                f"{where}.{name} is {value!r}; it must be of the kind of {default!r}"
            )
    return found


def _check_widths(path: Path, fiber: Mapping[str, Any], sizes: FIBERSizes) -> None:
    """What the section fiber repeats of the others must agree with them."""
    known = {
        "input_image_embed_size": sizes.swin.widths[-1],
        "input_text_embed_size": sizes.roberta.hidden_size,
        "num_layers": sizes.roberta.num_hidden_layers,
    }
    for name, value in known.items():
        if fiber.get(name, value) != value:
            raise SettingsError(
                f"{path}: fiber.{name} is {fiber[name]!r}, but the encoder's is {value}"
            )
