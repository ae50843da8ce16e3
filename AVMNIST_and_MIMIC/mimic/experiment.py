"""MIMIC-III: settings, loader and models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import nn

from AVMNIST_and_MIMIC.encoders import SeriesGRU, mlp
from AVMNIST_and_MIMIC.mimic.arrays import (
    ICD9_GROUPS,
    SERIES,
    STATIC,
    class_of,
    fingerprint,
    patient_split,
    read_arrays,
    reference_split,
    standardise,
)
from i2m2.files import make_once
from i2m2.fusion import build_fusion
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.names import INTER
from i2m2.settings import RunConfig
from i2m2.training.data import ArrayDataset, Data, check_dataset, read_description
from i2m2.training.evaluate import score_of_class_frequencies

MODALITIES = ("static", "series")
# Class k of `mortality` is the first k in 1..5 whose column of `mortality_labels` is 1, class 0
# none of them.
MORTALITY = (
    "alive 1 year after discharge, or not known", "death within 1 day of ICU admission", "within 2 days", "within 3 days",
    "within 30 days of discharge", "within 1 year of discharge",
)  # fmt: skip
Task = Literal[("mortality", *(f"icd9_{group}" for group in range(ICD9_GROUPS)))]
SYNTHETIC_PATIENTS = 3000
FEW = 1000  # stays below which numbers prove the pipeline, not the method


@dataclass(frozen=True, kw_only=True)
class MIMICData:
    """Where the data lie and how they are split and standardised.

    Args:
        source: files as prepared, or synthetic: raw tables generated and extracted on first use
        dir: folder of mimic.npz; null: data/mimic, or data/mimic-synthetic for synthetic
        train_size: use only the first so many training rows; null: all
        split: by patient, or reference: the published permutation of the rows (seed 10)
        standardise: with the training rows' observed values, or reference: over all rows, missing
            values being 0, as published
        masks: give the series encoder what was observed as further channels
        steps: time steps of a series, as prepared
    """

    source: Literal["files", "synthetic"] = "files"
    dir: str | None = None
    train_size: int | None = None
    split: Literal["patient", "reference"] = "patient"
    standardise: Literal["train", "reference"] = "train"
    masks: bool = False
    steps: int = 24

    @property
    def folder(self) -> Path:
        return Path(
            self.dir or ("data/mimic-synthetic" if self.source == "synthetic" else "data/mimic")
        )


@dataclass(frozen=True, kw_only=True)
class MIMICModel:
    """Sizes of the networks.

    Args:
        static_features: outputs of the encoder of the static features, and width of its hidden
            layer
        gru_features: of the recurrent layer
        gru_projection: features per time step that the unimodal series encoder keeps
        hidden: width of the heads' hidden layer
        rank: of low-rank tensor fusion
        fused_features: outputs of low-rank tensor and gated fusion
        frozen_factors: leave low-rank tensor fusion at its random start, as the published code did
    """

    static_features: int = 10
    gru_features: int = 30
    gru_projection: int = 15
    hidden: int = 40
    rank: int = 40
    fused_features: int = 100
    frozen_factors: bool = False


@dataclass(frozen=True, kw_only=True)
class MIMICConfig(RunConfig):
    """Train one method on one task of MIMIC-III with one seed.

    Args:
        dataset: name of the data set
        task: mortality (6 classes), or icd9_<k>: whether any diagnosis is in ICD-9 group k (1:
            140-239, 7: 460-519)
        data: where the data lie and how they are split and standardised
        model: sizes of the networks
    """

    modalities: ClassVar[tuple[str, ...]] = MODALITIES

    dataset: Literal["mimic"] = "mimic"
    task: Task = "mortality"
    data: MIMICData = field(default_factory=MIMICData)
    model: MIMICModel = field(default_factory=MIMICModel)

    @property
    def num_classes(self) -> int:
        return len(MORTALITY) if self.task == "mortality" else 2


def load_mimic(config: MIMICConfig) -> Data:
    """Read mimic.npz. DataError if it is missing, damaged, or not what it should be.

    series [N, T, 12] and static [N, 5] in clinical units, NaN where nothing is known; see
    `prepare_mimic`. What the splits hold is standardised, float32, and without NaN: a missing value
    is the mean, 0.
    """
    folder = config.data.folder
    if config.data.source == "synthetic":
        make_once(folder, make_synthetic)
    arrays, described = read_arrays(folder, config.data.steps), read_description(folder)
    y = class_of(config.task, arrays)
    rows = (
        reference_split(len(y))
        if config.data.split == "reference"
        else patient_split(arrays["subject_id"])
    )
    rows = rows._replace(train=rows.train[: config.data.train_size])
    inputs, constant = _inputs(arrays, rows.train, config.data)
    id, group = arrays["hadm_id"], arrays["subject_id"]
    splits = {
        name: ArrayDataset(inputs, y[r], r, id=id[r], group=group[r])
        for name, r in rows._asdict().items()
    }
    check_dataset(splits, config.num_classes)
    remarks = [f"no spread in {', '.join(constant)}"] if constant else []
    remarks += [f"{len(y)} stays prove the pipeline, not the method"] if len(y) < FEW else []
    facts = {
        "variant": described["variant"],
        "synthetic": described["synthetic"],
        "description": "; ".join([described["description"], *remarks]),
        "sizes": {name: len(split) for name, split in splits.items()},
        "classes": {
            name: np.bincount(split.y, minlength=config.num_classes).tolist()
            for name, split in splits.items()
        },
        "constant_features": constant,
        "baseline": score_of_class_frequencies(
            splits["train"].y, splits["test"].y, config.num_classes
        ),
        "fingerprint": fingerprint(folder),
    }
    variant = "" if described["variant"] == "clean" else described["variant"].removeprefix("clean-")
    return Data(splits, "-".join(filter(None, [config.task, variant])), facts)


def make_synthetic(folder: Path) -> None:
    """Generate raw tables in MIMIC-III's schema into `folder` and extract them there."""
    from AVMNIST_and_MIMIC.make_synthetic_mimic import make_raw_tables
    from AVMNIST_and_MIMIC.prepare_mimic import extract

    print(
        f"mimic: generating raw tables of {SYNTHETIC_PATIENTS:,} synthetic patients and extracting them, this once"
    )
    make_raw_tables(folder / "raw", SYNTHETIC_PATIENTS)
    extract(folder / "raw", folder)


def _inputs(
    arrays: dict[str, np.ndarray], train: np.ndarray, config: MIMICData
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Standardised float32 arrays, and the names of features without spread."""
    static, no_spread = standardise(arrays["static"], train, config.standardise)
    series, none = standardise(arrays["series"], train, config.standardise)
    if config.masks:
        series = np.concatenate([series, arrays["series_mask"].astype(np.float32)], axis=-1)
    constant = [STATIC[k] for k in no_spread] + [SERIES[k] for k in none]
    return {"static": static, "series": series}, constant


def build_model(config: MIMICConfig) -> ProductOfExperts:
    """The experts of the configured method: a small MLP on the static features, a GRU on the
    series, a two-layer head each."""
    return ProductOfExperts({name: _expert(name, config) for name in config.experts})


def _expert(name: str, config: MIMICConfig) -> nn.Module:
    model, channels = config.model, len(SERIES) * (2 if config.data.masks else 1)

    def head(features: int) -> nn.Module:
        return mlp(features, model.hidden, config.num_classes)

    if name == "static":
        return UnimodalExpert(name, _static_encoder(model), head(model.static_features))
    if name == "series":
        encoder = SeriesGRU(channels, model.gru_features, model.gru_projection)
        return UnimodalExpert(name, encoder, head(config.data.steps * model.gru_projection))
    assert name == INTER
    encoders = {"static": _static_encoder(model), "series": SeriesGRU(channels, model.gru_features)}
    features = {"static": model.static_features, "series": config.data.steps * model.gru_features}
    fusion = build_fusion(
        config.fusion, features, model.fused_features, model.rank, model.frozen_factors
    )
    return FusionExpert(encoders, fusion, head(fusion.out_features))


def _static_encoder(model: MIMICModel) -> nn.Module:
    return mlp(len(STATIC), model.static_features, model.static_features)
