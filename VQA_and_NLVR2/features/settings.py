"""Features of a frozen backbone, as the settings say it; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from i2m2.settings import setting
from VQA_and_NLVR2.backbones.settings import BackboneSettings


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """The features of the frozen backbone: where they lie, and how they are computed.

    Args:
        dir: folder of the features; null: that of the data with `-features` after its name
        dtype: number format in which features are stored
        precision: arithmetic of the backbone while features are computed; no: float32
        views: number of views of every training image, the plain one and augmented ones, of which
            training draws one per epoch
        batch_size: images, texts or pairs that the backbone takes at a time
        flip: mirror half of the augmented views, although that makes "left" in a question untrue
        skip_missing: leave out questions whose image is missing or damaged, and count them, instead
            of refusing to begin
    """

    dir: str | None = setting(None, "location")
    dtype: Literal["float16", "float32"] = "float16"
    precision: Literal["no", "bf16", "fp16"] = "no"
    views: int = 1
    flip: bool = False
    batch_size: int = setting(64, "neutral")
    skip_missing: bool = False


def folder_of_features(features: FeatureSettings, data: Path) -> Path:
    """Where the features of the data set in the folder `data` lie."""
    return Path(features.dir or data.with_name(f"{data.name}-features"))


class FeatureConfig(Protocol):
    """What the settings of a data set with features say of these."""

    backbone: BackboneSettings
    features: FeatureSettings
    device: str
    workers: int

    @property
    def features_folder(self) -> Path: ...
