"""Settings of VQA-VS; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from i2m2.settings import RunConfig, setting
from VQA_and_NLVR2.backbones.settings import HIDDEN, BackboneSettings
from VQA_and_NLVR2.features.settings import FeatureSettings, folder_of_features
from VQA_and_NLVR2.vqa_vs.scores import OTHERS


@dataclass(frozen=True, kw_only=True)
class VQAData:
    """Where the data lie, and which answers there are.

    Args:
        source: files as published, or synthetic: questions, pictures, the tiny FIBER and its
            features made on first use
        dir: folder of the question and answer files; null: data/vqa_vs, or data/vqa_vs-synthetic
            for synthetic
        images: folder of train2014 and val2014; null: data.dir
        vocabulary: answers there are: fiber: majority answers of 9 and more questions of VQA v2's
            train and val (3,129), which are also those of the test; or training: of the training
            questions alone (2,486)
        train_size: number of training questions to use, from the first; null: all
    """

    source: Literal["files", "synthetic"] = field(default="files", metadata={"repeat": True})
    dir: str | None = setting(None, "location")
    images: str | None = setting(None, "location")
    vocabulary: Literal["fiber", "training"] = "fiber"
    train_size: int | None = setting(None, "budget")

    @property
    def folder(self) -> Path:
        usual = "data/vqa_vs-synthetic" if self.source == "synthetic" else "data/vqa_vs"
        return Path(self.dir or usual)


@dataclass(frozen=True, kw_only=True)
class VQAModel:
    """The heads.

    Args:
        hidden: width of the heads' hidden layer
    """

    hidden: int = HIDDEN


@dataclass(frozen=True, kw_only=True)
class VQAConfig(RunConfig):
    """Settings of a run on VQA-VS, which trains heads on features.

    Args:
        dataset: name of the data set
        method: unimodal_image, unimodal_text, intra, inter or i2m2
        fusion: only null: the backbone's own fusion
        loss: paper: binary cross-entropy, of products on their normalised log-probabilities;
            soft_cross_entropy: with the answers' scores scaled to sum to 1; bernoulli: binary
            cross-entropy on the summed logits, each answer on its own
        save_all: save the log-probabilities of all answers too, not only of the best
        data: where the data lie, and which answers there are
        features: features of the frozen backbone
        backbone: which backbone, and where its weights come from
        model: the heads
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    metrics: ClassVar[tuple[str, ...]] = ("vqa_score", *OTHERS)

    dataset: Literal["vqa_vs"] = "vqa_vs"
    method: str = setting("i2m2", "identity")
    fusion: Literal[None] = setting(None, "identity")
    loss: Literal["paper", "soft_cross_entropy", "bernoulli"] = "paper"
    save_all: bool = setting(False, "identity")
    data: VQAData = field(default_factory=VQAData)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    model: VQAModel = field(default_factory=VQAModel)

    @property
    def seeds_at_once(self) -> bool:
        return False  # a pre-trained backbone, or its wide features

    @property
    def features_folder(self) -> Path:
        return folder_of_features(self.features, self.data.folder)
