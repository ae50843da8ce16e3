"""Settings of fastMRI knee. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from i2m2.settings import RunConfig, setting
from i2m2.training.commands import DatasetSpec

Norm = Literal["group", "layer", "batch"]


@dataclass(frozen=True, kw_only=True)
class FastMRIData:
    """Where the data lie, and what of a complex image the experts see.

    Args:
        source: volumes as prepared, or synthetic: raw volumes generated and prepared on first use
        signal: where a generated finding shows: in all of magnitude, phase and their interaction,
            or in one alone, as a control
        dir: prepared folder; null: data/fastmri, or data/fastmri-synthetic for synthetic
        train_size: number of training slices to use, from the first; null: all
        magnitude: scale of magnitude and RSS: scaled: as cached, one scale per volume; raw: as
            measured (about 5e-5), which leaves a fused model blind to it
        phase: form of the phase: angle in radians, or its cosine and sine, without a cut at +-pi
        phase_mean: keep a slice's mean phase, or subtract it: weighted by the magnitude, or
            unweighted over the pixels above `phase_background`
        phase_background: share of the volume's scale below which a pixel's magnitude makes its
            phase 0; 0: nowhere
    """

    source: Literal["files", "synthetic"] = field(default="files", metadata={"repeat": True})
    signal: Literal["all", "magnitude", "phase", "interaction"] = "all"
    dir: str | None = setting(None, "location")
    train_size: int | None = setting(None, "budget")
    magnitude: Literal["scaled", "raw"] = setting("scaled", used_by=("rss", "magnitude", "inter"))
    phase: Literal["angle", "cos_sin"] = setting("angle", used_by=("phase", "inter"))
    phase_mean: Literal["keep", "weighted", "unweighted"] = setting(
        "keep", used_by=("phase", "inter")
    )
    phase_background: float = setting(0.0, used_by=("phase", "inter"))

    @property
    def folder(self) -> Path:
        """The prepared folder."""
        if self.dir:
            return Path(self.dir)
        if self.source == "files":
            return Path("data/fastmri")
        control = "" if self.signal == "all" else f"-{self.signal}"
        return Path(f"data/fastmri-synthetic{control}")

    @property
    def channels(self) -> dict[str, int]:
        """Channels of every modality."""
        return {"rss": 1, "magnitude": 1, "phase": 2 if self.phase == "cos_sin" else 1}


@dataclass(frozen=True, kw_only=True)
class FastMRIModel:
    """The network of every expert.

    Args:
        network: architecture: preact_resnet18 (the paper's), or wide_resnet20_3 (its Fig. 4)
        width: channels of the stem; null: 64 (preact_resnet18) or 16 (wide_resnet20_3)
        blocks: residual blocks per stage; null: 2 (preact_resnet18) or 3 (wide_resnet20_3)
        norm: normalisation: group norm of 32 groups, of one group (layer), or batch norm
        pool: side of the map that the heads see, in pixels
        checkpointed: number of stages computed twice instead of kept for the backward pass
        channels_last: whether the maps have the memory format channels_last, which takes stages of
            8 channels or more
    """

    network: Literal["preact_resnet18", "wide_resnet20_3"] = "preact_resnet18"
    width: int | None = None
    blocks: int | None = None
    norm: Norm = "group"
    pool: int = 10
    checkpointed: int = 0
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class FastMRIConfig(RunConfig):
    """Settings of a run on fastMRI knee.

    Args:
        dataset: name of the data set
        method: unimodal_rss, unimodal_magnitude, unimodal_phase, intra, inter or i2m2
        fusion: only null: magnitude and phase are fused as the channels of one image
        class_weights: inverse class frequencies of the training slices, divided by their expected
            sum, by that of the examples at hand as in the published code, or none
        data: where the data lie, and what of a complex image the experts see
        model: the network of every expert
    """

    modalities: ClassVar[tuple[str, ...]] = ("magnitude", "phase")
    baselines: ClassVar[tuple[str, ...]] = ("rss",)

    dataset: Literal["fastmri"] = "fastmri"
    fusion: Literal[None] = setting(None, "identity")
    class_weights: Literal["expected", "realised", "none"] = "expected"
    data: FastMRIData = field(default_factory=FastMRIData)
    model: FastMRIModel = field(default_factory=FastMRIModel)

    @property
    def seeds_at_once(self) -> bool:
        return False  # convolutions


DATASETS = {"fastmri": DatasetSpec(FastMRIConfig, "fastMRI.experiment")}
