"""Settings of AV-MNIST."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from AVMNIST_and_MIMIC.avmnist.files import SHAPES
from i2m2.settings import LOW_RANK, RunConfig, setting


@dataclass(frozen=True, kw_only=True)
class AVMNISTData:
    """Where the data lie.

    Args:
        source: files as prepared or downloaded, or synthetic: real 8x8 digits and synthesised
            speech, made on first use
        dir: folder of the files; null: data/avmnist, or data/avmnist-digits for synthetic
        train_size: number of training rows to use, from the first; null: all
    """

    source: Literal["files", "synthetic"] = field(default="files", metadata={"repeat": True})
    dir: str | None = setting(None, "location")
    train_size: int | None = setting(None, "budget")

    @property
    def folder(self) -> Path:
        usual = "data/avmnist-digits" if self.source == "synthetic" else "data/avmnist"
        return Path(self.dir or usual)


@dataclass(frozen=True, kw_only=True)
class AVMNISTModel:
    """Sizes of the networks.

    Args:
        unimodal_width: channels of the first block of a unimodal expert's encoder
        inter_width: channels of the first block of the fusion expert's encoders
        hidden: width of the heads' hidden layer
        rank: rank of low-rank tensor fusion
        fused_features: number of outputs of low-rank tensor and gated fusion
        frozen_factors: leave low-rank tensor fusion at its random start, as the published code did
    """

    unimodal_width: int = setting(3, used_by=("unimodal",))
    inter_width: int = setting(6, used_by=("inter",))
    hidden: int = 100
    rank: int = setting(40, used_by=LOW_RANK)
    fused_features: int = setting(120, used_by=(*LOW_RANK, "inter-gated"))
    frozen_factors: bool = setting(False, used_by=LOW_RANK)


@dataclass(frozen=True, kw_only=True)
class AVMNISTConfig(RunConfig):
    """Settings of a run on AV-MNIST.

    Args:
        dataset: name of the data set
        method: unimodal_image, unimodal_audio, intra, inter or i2m2
        data: where the data lie
        model: sizes of the networks
    """

    modalities: ClassVar[tuple[str, ...]] = tuple(SHAPES)

    dataset: Literal["avmnist"] = "avmnist"
    data: AVMNISTData = field(default_factory=AVMNISTData)
    model: AVMNISTModel = field(default_factory=AVMNISTModel)

    @property
    def seeds_at_once(self) -> bool:
        return False  # convolutions by groups are hardly faster (benchmarks/seeds.py)

    @property
    def usual_threads(self) -> int | None:
        # A second thread gains its small steps a sixth on a quiet machine, and costs a factor of
        # three beside a busy neighbour (benchmarks/neighbours.py).
        return 1 if self.experts == ("image",) else None
