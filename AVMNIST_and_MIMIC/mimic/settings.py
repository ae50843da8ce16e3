"""Settings of MIMIC-III."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from AVMNIST_and_MIMIC.mimic.arrays import ICD9_GROUPS, MORTALITY_CLASSES
from i2m2.settings import LOW_RANK, RunConfig, setting

Task = Literal[("mortality", *(f"icd9_{group}" for group in range(ICD9_GROUPS)))]


@dataclass(frozen=True, kw_only=True)
class MIMICData:
    """Where the data lie and how they are split and standardised.

    Args:
        source: files as prepared, or synthetic: raw tables generated and extracted on first use
        dir: folder of mimic.npz; null: data/mimic, or data/mimic-synthetic for synthetic
        train_size: number of training rows to use, from the first; null: all
        split: patient: no patient is in two splits; reference: the published permutation of the
            rows (seed 10)
        standardise: train: by the training rows' observed values; reference: by all rows, missing
            values being 0, as published
        masks: give the series encoder, as further channels, which values were observed
        steps: number of time steps of a series, as prepared
    """

    source: Literal["files", "synthetic"] = field(default="files", metadata={"repeat": True})
    dir: str | None = setting(None, "location")
    train_size: int | None = setting(None, "budget")
    split: Literal["patient", "reference"] = "patient"
    standardise: Literal["train", "reference"] = "train"
    masks: bool = setting(False, used_by=("series", "inter"))
    steps: int = 24

    @property
    def folder(self) -> Path:
        usual = "data/mimic-synthetic" if self.source == "synthetic" else "data/mimic"
        return Path(self.dir or usual)


@dataclass(frozen=True, kw_only=True)
class MIMICModel:
    """Sizes of the networks.

    Args:
        static_features: number of outputs of the encoder of the static features, and width of its
            hidden layer
        gru_features: number of features of the recurrent layer
        gru_projection: number of features per time step that the unimodal series encoder keeps
        hidden: width of the heads' hidden layer
        rank: rank of low-rank tensor fusion
        fused_features: number of outputs of low-rank tensor and gated fusion
        frozen_factors: leave low-rank tensor fusion at its random start, as the published code did
    """

    static_features: int = setting(10, used_by=("static", "inter"))
    gru_features: int = setting(30, used_by=("series", "inter"))
    gru_projection: int = setting(15, used_by=("series",))
    hidden: int = 40
    rank: int = setting(40, used_by=LOW_RANK)
    fused_features: int = setting(100, used_by=(*LOW_RANK, "inter-gated"))
    frozen_factors: bool = setting(False, used_by=LOW_RANK)


@dataclass(frozen=True, kw_only=True)
class MIMICConfig(RunConfig):
    """Settings of a run on one task of MIMIC-III.

    Args:
        dataset: name of the data set
        method: unimodal_static, unimodal_series, intra, inter or i2m2
        task: mortality (6 classes), or icd9_<k>: whether any diagnosis is in ICD-9 group k (1:
            140-239, 7: 460-519)
        data: where the data lie and how they are split and standardised
        model: sizes of the networks
    """

    modalities: ClassVar[tuple[str, ...]] = ("static", "series")

    dataset: Literal["mimic"] = "mimic"
    task: Task = setting("mortality", "identity", repeat=True)
    data: MIMICData = field(default_factory=MIMICData)
    model: MIMICModel = field(default_factory=MIMICModel)

    @property
    def seeds_at_once(self) -> bool:
        # Reading and writing its millions of weights is all that this fusion spends its time on.
        return self.fusion != "low_rank_tensor"

    @property
    def usual_threads(self) -> int | None:
        # As fast, but for the large update of low-rank tensor fusion (benchmarks/neighbours.py).
        return None if self.fusion == "low_rank_tensor" else 1

    @property
    def num_classes(self) -> int:
        return len(MORTALITY_CLASSES) if self.task == "mortality" else 2
