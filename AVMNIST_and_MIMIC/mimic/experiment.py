"""MIMIC-III: loader and models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from AVMNIST_and_MIMIC.mimic.arrays import (
    SERIES,
    STATIC,
    class_of,
    fingerprint,
    read_mimic,
    reference_split,
    refuse_exchanged,
    standardise,
)
from AVMNIST_and_MIMIC.mimic.settings import MIMICConfig, MIMICData, MIMICModel
from i2m2.encoders.dense import mlp
from i2m2.encoders.series import SeriesGRU
from i2m2.files import make_once
from i2m2.fusion import build_fusion
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.names import INTER
from i2m2.training.data import ArrayDataset, Data, check_dataset, first_of, read_description
from i2m2.training.evaluate import score_of_class_frequencies
from i2m2.training.experiment import Experiment
from i2m2.training.preparation import group_split

SYNTHETIC_PATIENTS = 3000
FEW = 1000  # stays below which numbers prove the pipeline, not the method


def load_mimic(config: MIMICConfig) -> Data:
    """MIMIC-III: first hospital stays of adults, static features and the series of the first day.

    Input: mimic.npz with series [N, T, 12] and static [N, 5] in clinical units, NaN where nothing
        is known. The splits hold them standardised, float32, a missing value being the mean, 0.
    Label: of the task: time to death in 6 classes, or whether any diagnosis is in an ICD-9 group.
    Splits: 80 / 10 / 10 % of the patients; `reference`: the published permutation of the stays.
    Licence: credentialed access by PhysioNet; nothing derived from the tables may be passed on.
    Source: MIMIC-III v1.4 extracted by `prepare_mimic`, or for `synthetic` generated tables.

    DataError if the file is missing, damaged, or not what it should be.
    """
    data = config.data
    folder = data.folder
    if data.source == "synthetic":
        make_once(folder, make_synthetic)
    arrays, described = read_mimic(folder, data.steps), read_description(folder)
    refuse_exchanged(folder, described.get("sha256"))
    y = class_of(config.task, arrays)
    if data.split == "reference":
        rows = reference_split(len(y))
    else:
        rows = group_split(arrays["subject_id"])
    rows = rows._replace(train=first_of(rows.train, data.train_size))
    inputs, constant = _inputs(arrays, rows.train, data)
    id, group = arrays["hadm_id"], arrays["subject_id"]
    splits = {
        name: ArrayDataset(inputs, y[r], r, id=id[r], group=group[r])
        for name, r in rows._asdict().items()
    }
    check_dataset(splits, config.num_classes)
    variant = "" if described["variant"] == "clean" else described["variant"].removeprefix("clean-")
    name = f"{config.task}-{variant}" if variant else config.task
    facts = _facts(described, splits, config.num_classes, constant, len(y))
    return Data(splits, name, facts | {"fingerprint": fingerprint(folder)})


def _facts(
    described: dict[str, Any],
    splits: dict[str, ArrayDataset],
    num_classes: int,
    constant: list[str],
    stays: int,
) -> dict[str, Any]:
    """For env.json. `constant`: names of features without spread; `stays`: all there are."""
    remarks = [f"no spread in {', '.join(constant)}"] if constant else []
    remarks += [f"{stays} stays prove the pipeline, not the method"] if stays < FEW else []
    y = {name: split.y for name, split in splits.items()}
    return {
        "variant": described["variant"],
        "synthetic": described["synthetic"],
        "description": "; ".join([described["description"], *remarks]),
        "sizes": {name: len(classes) for name, classes in y.items()},
        "classes": {
            name: np.bincount(classes, minlength=num_classes).tolist()
            for name, classes in y.items()
        },
        "constant_features": constant,
        "baseline": score_of_class_frequencies(y["train"], y["test"], num_classes),
    }


def make_synthetic(folder: Path) -> None:
    """Generate raw tables in MIMIC-III's schema into `folder` and extract them there."""
    # Here: they need duckdb and pandas, which prepared data do not.
    from AVMNIST_and_MIMIC.make_synthetic_mimic import make_raw_tables
    from AVMNIST_and_MIMIC.prepare_mimic import extract

    print(
        f"mimic: generating raw tables of {SYNTHETIC_PATIENTS:,} synthetic patients and "
        "extracting them, this once"
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
    """The experts of the configured method.

    A small MLP on the static features, a GRU on the series, a two-layer head each.
    """
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
        config.fusion,
        features,
        out_features=model.fused_features,
        rank=model.rank,
        frozen_factors=model.frozen_factors,
    )
    return FusionExpert(encoders, fusion, head(fusion.out_features))


def _static_encoder(model: MIMICModel) -> nn.Module:
    return mlp(len(STATIC), model.static_features, model.static_features)


EXPERIMENT = Experiment(load=load_mimic, build_model=lambda config, _: build_model(config))
