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
        signal: what a generated finding shows in: all of magnitude, phase and their interaction, or
            one alone, as a control
        dir: prepared folder; null: data/fastmri, or data/fastmri-synthetic for synthetic
        train_size: use only the first so many training slices; null: all
        magnitude: as cached, one scale per volume, or raw: as measured (about 5e-5), which leaves a
            fused model blind to it; so is RSS
        phase: the angle in radians, or its cosine and sine, which have no cut at +-pi
        phase_mean: subtract a slice's mean phase, weighted by the magnitude, or of the pixels above
            `phase_background` alike
        phase_background: phase 0 where the magnitude is below this share of the volume's scale; 0:
            nowhere
    """

    source: Literal["files", "synthetic"] = field(default="files", metadata={"repeat": True})
    signal: Literal["all", "magnitude", "phase", "interaction"] = "all"
    dir: str | None = setting(None, "location")
    train_size: int | None = setting(None, "budget")
    magnitude: Literal["scaled", "raw"] = "scaled"
    phase: Literal["angle", "cos_sin"] = "angle"
    phase_mean: Literal["keep", "weighted", "unweighted"] = "keep"
    phase_background: float = 0.0

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
        network: preact_resnet18 (the paper's), or wide_resnet20_3 (its Fig. 4)
        width: channels of the stem; null: 64 and 16
        blocks: residual blocks per stage; null: 2 and 3
        norm: group norm of 32 groups, of one (layer), or batch norm
        pool: side of the map that the heads see
        checkpointed: so many stages are computed twice instead of being kept for the backward pass
        channels_last: memory format of the maps
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
    """Train one method on fastMRI knee with one seed.

    Args:
        dataset: name of the data set
        fusion: magnitude and phase are fused as the channels of one image
        class_weights: inverse class frequencies of the training slices, divided by their expected
            sum, by that of the examples at hand as in the published code, or none
        data: where the data lie, and what of a complex image the experts see
        model: the network of every expert
    """

    modalities: ClassVar[tuple[str, ...]] = ("magnitude", "phase")
    baselines: ClassVar[tuple[str, ...]] = ("rss",)
    from_zero: ClassVar[frozenset[str]] = RunConfig.from_zero | {"model.checkpointed"}

    dataset: Literal["fastmri"] = "fastmri"
    fusion: Literal[None] = setting(None, "identity")
    class_weights: Literal["expected", "realised", "none"] = "expected"
    data: FastMRIData = field(default_factory=FastMRIData)
    model: FastMRIModel = field(default_factory=FastMRIModel)


DATASETS = {"fastmri": DatasetSpec(FastMRIConfig, "fastMRI.experiment")}
