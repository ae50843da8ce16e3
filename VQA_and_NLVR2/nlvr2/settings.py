"""Settings of NLVR2; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from i2m2.settings import RunConfig, setting
from VQA_and_NLVR2.backbones.settings import HIDDEN, BackboneSettings
from VQA_and_NLVR2.features.settings import FeatureSettings, folder_of_features


@dataclass(frozen=True, kw_only=True)
class NLVR2Data:
    """Where the data lie, and how they are read.

    Args:
        source: files as published, or synthetic: pictures and sentences generated on first use
        dir: folder of train.json, dev.json, test1.json and the photographs; null: data/nlvr2, or
            data/nlvr2-synthetic for synthetic
        train_size: number of training examples to use, from the first; null: all
        hold_out: directories (0..99) of the training file to validate on, and not to train on;
            null: validate on dev
        incomplete: whether to leave out, and count, the examples of a pair whose photograph is
            missing or unreadable, or to refuse to begin
        check_images: decode every photograph once before the first run, and remember which can be
            read
        augment: crop the training images at random and distort their colours and geometry, as
            published
        flip: also mirror half of them, as published, although that makes "left" in a sentence
            untrue
    """

    source: Literal["files", "synthetic"] = field(default="files", metadata={"repeat": True})
    dir: str | None = setting(None, "location")
    train_size: int | None = setting(None, "budget")
    hold_out: tuple[int, ...] | None = None
    incomplete: Literal["leave_out", "refuse"] = "leave_out"
    check_images: bool = True
    augment: bool = setting(True, used_by=("image", "inter"))
    flip: bool = setting(False, used_by=("image", "inter"))

    @property
    def folder(self) -> Path:
        usual = "data/nlvr2-synthetic" if self.source == "synthetic" else "data/nlvr2"
        return Path(self.dir or usual)


@dataclass(frozen=True, kw_only=True)
class NLVR2Model:
    """What is trained, and how its parts differ.

    Args:
        train: what is trained: all: backbone and heads, as in the paper; heads: these alone, on
            features that the backbone as it is computes once
        hidden: width of the heads' hidden layer
        head_rate: learning rate of the heads, as a multiple of optim.lr
        fusion_rate: learning rate of the backbone's fusion (cross-attention, gates, transforms,
            poolers), as a multiple of optim.lr
        decay_all: whether weight decay applies to biases and norms too
    """

    train: Literal["all", "heads"] = "all"
    hidden: int = HIDDEN
    head_rate: float = 1.0
    fusion_rate: float = setting(1.0, used_by=("inter",))
    decay_all: bool = False


@dataclass(frozen=True, kw_only=True)
class NLVR2Config(RunConfig):
    """Settings of a run on NLVR2.

    Args:
        dataset: name of the data set
        method: unimodal_image, unimodal_text, intra, inter or i2m2
        fusion: only null: the backbone's own fusion
        data: where the data lie, and how they are read
        backbone: which backbone, and where its weights come from
        features: features of a backbone that is not trained (model.train=heads); made on first
            use, or by extract_features
        model: what is trained, and how its parts differ
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    unused_parameters: ClassVar[bool] = True  # a row needs parts of the backbone only

    dataset: Literal["nlvr2"] = "nlvr2"
    fusion: Literal[None] = setting(None, "identity")
    data: NLVR2Data = field(default_factory=NLVR2Data)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    model: NLVR2Model = field(default_factory=NLVR2Model)

    @property
    def seeds_at_once(self) -> bool:
        return False  # a pre-trained backbone, or its wide features

    @property
    def features_folder(self) -> Path:
        return folder_of_features(self.features, self.data.folder)
