"""The interface that every vision-language backbone has, and the choice of one.

A backbone gives one vector per image, one per text, and one per pair. What the pair shares with its
parts is kept in states, so that the questions of one image, the two images of one sentence, and the
unimodal and the fused vectors of one example do not compute it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from i2m2.errors import SettingsError


@dataclass(frozen=True)
class State:
    """What `fuse` needs of one modality: tokens [B, N, D], and which are real [B, N] (None: all).
    `state[rows]` picks rows."""

    tokens: Tensor
    mask: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> State:
        return State(self.tokens[rows], None if self.mask is None else self.mask[rows])


class Backbone(Protocol):
    """A torch module with these attributes and methods.

    `name` says which architecture it is and where its weights come from; it belongs into every
    result; `report` says in a few lines what was loaded, to be printed once. `widths` are those of
    the vectors: {"image": D_image, "text": D_text, "fused": D_fused}. `mean` and `std` per channel
    are how the image's pixels in 0..1 are to be normalised; `tokenizer` is the name or folder of
    the tokenizer that makes the ids.
    """

    name: str
    report: str
    widths: dict[str, int]
    image_size: int
    max_text_length: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokenizer: str

    def encode_image(self, images: Tensor, vector: bool = True) -> tuple[Tensor | None, State]:
        """[B, 3, s, s] normalised -> [B, D_image], state. Without `vector` only what the fused pass
        needs is computed."""

    def encode_text(
        self, ids: Tensor, mask: Tensor, vector: bool = True
    ) -> tuple[Tensor | None, State]:
        """[B, L] integers, [B, L] true for real tokens -> [B, D_text], state. Any L up to
        `max_text_length`: see `trim_text`."""

    def fuse(self, image: State, text: State) -> Tensor:
        """One pair per row of the two states -> [B, D_fused]."""


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which backbone, and where its weights come from.

    Args:
        kind: fiber (needs `checkpoint`), fiber_hub (FIBER's layers around published Swin and
            RoBERTa weights; its fusion starts silent and has to be trained), fiber_random (random
            weights, for trials), or flava
        checkpoint: of fiber: weights in the published layout: fiber_pretrain.ckpt, a fine-tuned
            file of FIBER or I2M2, .safetensors
        image_encoder: of fiber_hub: Swin, a name on the hub or a local folder
        text_encoder: of fiber_hub: RoBERTa, a name on the hub or a local folder
        flava: of flava: a name on the hub or a local folder
        tokenizer: a name on the hub or a local folder; null: the text encoder's
        image_size: side in pixels, for FIBER a multiple of 32; null: what the sizes or the weights
            were made for
        max_text_length: in tokens, start and end among them; null: what `sizes` says, else 50
        sizes: of fiber and fiber_random: a JSON file with sections swin, roberta and fiber; null:
            Swin-B and RoBERTa-base
        activation_checkpointing: blocks are computed twice instead of being kept for the backward
            pass
    """

    kind: Literal["fiber", "fiber_hub", "fiber_random", "flava"] = "fiber"
    checkpoint: str | None = None
    image_encoder: str = "microsoft/swin-base-patch4-window12-384-in22k"
    text_encoder: str = "roberta-base"
    flava: str = "facebook/flava-full"
    tokenizer: str | None = None
    image_size: int | None = None
    max_text_length: int | None = None
    sizes: str | None = None
    activation_checkpointing: bool = False


def build_backbone(settings: BackboneSettings) -> Backbone:
    """The backbone of `settings`, its weights loaded. SettingsError for settings that cannot be,
    DataError for unfit weights."""
    _refuse_idle(settings)
    # Here, not above: the hub's library takes seconds to import, and these modules need `State`.
    if settings.kind == "flava":
        from VQA_and_NLVR2.backbones.flava import build_flava as build
    elif settings.kind == "fiber_hub":
        from VQA_and_NLVR2.backbones.hub import build_fiber_from_hub as build
    else:
        from VQA_and_NLVR2.backbones.fiber_checkpoint import build_fiber as build
    return build(settings)


def _refuse_idle(settings: BackboneSettings) -> None:
    """A setting without effect is a mistake, and the kind `fiber` without weights would pass random
    features for FIBER's."""
    if settings.kind == "fiber" and settings.checkpoint is None:
        raise SettingsError(
            "kind fiber needs checkpoint, a file of FIBER's weights (fiber_pretrain.ckpt or one of the same layout). Without one: "
            "kind fiber_hub (published Swin and RoBERTa weights; the fusion has to be trained), flava, or fiber_random for trials"
        )
    if settings.kind != "fiber" and settings.checkpoint is not None:
        raise SettingsError(
            f"checkpoint {settings.checkpoint} has no effect with kind {settings.kind}; choose kind fiber"
        )
    if settings.kind not in ("fiber", "fiber_random") and settings.sizes is not None:
        raise SettingsError(
            f"sizes {settings.sizes} has no effect with kind {settings.kind}, whose weights have their own sizes"
        )


def trim_text(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut padding that every text of the batch has at its end: [B, L] ids and mask -> [B, L'] of
    the longest text.

    Padding is masked everywhere, so the vectors stay the same. To be called where the batch is
    still on the CPU.
    """
    longest = max(1, int(mask.any(dim=0).nonzero().max()) + 1) if mask.any() else 1
    return ids[:, :longest], mask[:, :longest]


def text_length(settings: BackboneSettings, default: int, longest: int) -> int:
    """The setting, or `default` where it is null; SettingsError above what the text encoder has
    positions for."""
    wanted = (
        settings.max_text_length if settings.max_text_length is not None else min(default, longest)
    )
    if not 2 <= wanted <= longest:
        raise SettingsError(
            f"max_text_length {wanted} must be 2 to {longest}, the positions of the text encoder"
        )
    return wanted


def called(weights: str) -> str:
    """How a result names weights: a hub name as it is, a file or folder by its last part."""
    path = Path(weights)
    return path.name if path.exists() else weights
