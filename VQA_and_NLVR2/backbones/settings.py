"""Which backbone, as the settings say it; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2m2.errors import SettingsError
from i2m2.settings import setting

HIDDEN = 1536  # width of a head's hidden layer: twice FIBER's width of 768


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which backbone, and where its weights come from.

    Args:
        kind: architecture: fiber (needs `checkpoint`), fiber_hub (FIBER's layers around published
            Swin and RoBERTa weights; its fusion starts silent and has to be trained), fiber_random
            (random weights, for trials), or flava
        checkpoint: file of weights for fiber, in the published layout: fiber_pretrain.ckpt, a
            fine-tuned file of FIBER or I2M2, .safetensors
        image_encoder: Swin for fiber_hub, a name on the hub or a local folder
        text_encoder: RoBERTa for fiber_hub, a name on the hub or a local folder
        flava: FLAVA for flava, a name on the hub or a local folder
        tokenizer: tokenizer, a name on the hub or a local folder; null: the text encoder's
        image_size: side of the images in pixels, for FIBER a multiple of 32; null: what the sizes
            or the weights were made for
        max_text_length: longest text in tokens, start and end among them; null: as in `sizes`, or
            50
        sizes: JSON file for fiber and fiber_random, with sections swin, roberta and fiber; null:
            Swin-B and RoBERTa-base
        activation_checkpointing: compute blocks twice instead of keeping them for the backward
            pass
    """

    kind: Literal["fiber", "fiber_hub", "fiber_random", "flava"] = "fiber"
    checkpoint: str | None = setting(None, "identity", repeat=True)
    image_encoder: str = "microsoft/swin-base-patch4-window12-384-in22k"
    text_encoder: str = "roberta-base"
    flava: str = "facebook/flava-full"
    tokenizer: str | None = None
    image_size: int | None = None
    max_text_length: int | None = None
    sizes: str | None = None
    activation_checkpointing: bool = setting(False, "rounding")


def text_length(settings: BackboneSettings, default: int, longest: int) -> int:
    """The setting, or `default` where it is null; SettingsError above what the text encoder has
    positions for."""
    wanted = settings.max_text_length
    if wanted is None:
        wanted = min(default, longest)
    if not 2 <= wanted <= longest:
        raise SettingsError(
            f"max_text_length {wanted} must be 2 to {longest}, the positions of the text encoder"
        )
    return wanted


def display_name(weights: str) -> str:
    """How a result names weights: a hub name as it is, a file or folder by its last part."""
    path = Path(weights)
    return path.name if path.exists() else weights
