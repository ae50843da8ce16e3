"""AV-MNIST: loader and models."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from AVMNIST_and_MIMIC.avmnist.files import NUM_CLASSES, SHAPES, open_part
from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTConfig, AVMNISTData
from AVMNIST_and_MIMIC.encoders import LeNet
from i2m2.encoders.dense import mlp
from i2m2.errors import DataError
from i2m2.fusion import build_fusion
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.names import INTER
from i2m2.training.data import ArrayDataset, Data, check_dataset, first_of, read_description
from i2m2.training.experiment import Experiment

MODALITIES = tuple(SHAPES)
BLOCKS = {"image": 3, "audio": 5}  # of LeNet after the first one, until the map is 1x1
UNNAMED_VARIANTS = ("calibrated", "official")  # that results folders do not name


def load_avmnist(config: AVMNISTData) -> Data:
    """AV-MNIST, memory-mapped: handwritten digits paired with spectrograms of spoken digits.

    Input: image/{train,test}_data.npy [N, 784] (any shape of 784 numbers a row), 0..255 or
        zero-centred; audio/{train,test}_data.npy [N, 112, 112], 0..255.
    Label: {train,test}_labels.npy [N], the digit 0..9.
    Splits: test is the test files; validation is the rows that dataset.json names, by default the
        last twelfth of the training files. Official sizes: 55,000 / 5,000 / 10,000.
    Licence: MNIST CC BY-SA 3.0, Free Spoken Digit Dataset CC BY-SA 4.0, optional noise of ESC-50
        CC BY-NC 3.0.
    Source: `prepare_avmnist`, the published tarball, or for `synthetic` the digits embedded here.

    DataError if a file is missing, damaged, or not what it should be.
    """
    folder = config.folder
    if config.source == "synthetic":
        # Here: it needs scikit-learn and scipy, which no other source of the data does.
        from AVMNIST_and_MIMIC.avmnist.digits import make_digits

        make_digits(folder)
    files = {part: open_part(folder, part) for part in ("train", "test")}
    described = read_description(folder) if (folder / "dataset.json").exists() else {}
    rows = len(files["train"]["y"])
    start, stop = _validation_rows(folder, described, rows)
    val = np.arange(start, stop)
    train = first_of(np.setdiff1d(np.arange(rows), val), config.train_size)
    test = np.arange(len(files["test"]["y"]))
    splits = {
        "train": _split(folder, "train", files["train"], train, 0),
        "val": _split(folder, "train", files["train"], val, 0),
        "test": _split(folder, "test", files["test"], test, rows),
    }
    check_dataset(splits, NUM_CLASSES)
    variant = described.get("variant", "official")
    facts = {
        "variant": variant,
        "synthetic": described.get("synthetic", False),
        "description": described.get("description", "official files, without dataset.json"),
        "sizes": {name: len(split) for name, split in splits.items()},
        "fingerprint": _fingerprint(folder),
    }
    return Data(splits, "" if variant in UNNAMED_VARIANTS else variant, facts)


def prepare(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored types -> [B, 1, H, W] float32 on the scale 0..1; runs on the device."""
    return {name: x.reshape(-1, 1, *SHAPES[name]).float() / 255 for name, x in inputs.items()}


def build_model(config: AVMNISTConfig) -> ProductOfExperts:
    """The experts of the configured method.

    LeNets of width 3 alone, of width 6 under the fusion, a two-layer head each.
    """
    return ProductOfExperts({name: _expert(name, config) for name in config.experts})


def _expert(name: str, config: AVMNISTConfig) -> nn.Module:
    model = config.model
    if name != INTER:
        encoder = LeNet(model.unimodal_width, BLOCKS[name])
        return UnimodalExpert(name, encoder, mlp(encoder.out_features, model.hidden, NUM_CLASSES))
    encoders = {modality: LeNet(model.inter_width, BLOCKS[modality]) for modality in MODALITIES}
    fusion = build_fusion(
        config.fusion,
        {modality: encoder.out_features for modality, encoder in encoders.items()},
        out_features=model.fused_features,
        rank=model.rank,
        frozen_factors=model.frozen_factors,
    )
    return FusionExpert(encoders, fusion, mlp(fusion.out_features, model.hidden, NUM_CLASSES))


def _split(
    folder: Path, part: str, arrays: dict[str, np.ndarray], rows: np.ndarray, first_id: int
) -> ArrayDataset:
    return ArrayDataset(
        {name: arrays[name] for name in MODALITIES},
        arrays["y"][rows],
        rows,
        id=rows + first_id,
        prepare=prepare,
        source={name: str(folder / name / f"{part}_data.npy") for name in MODALITIES},
    )


def _validation_rows(folder: Path, described: dict[str, Any], rows: int) -> tuple[int, int]:
    """First and one past the last training row that validates."""
    named = described.get("validation_rows", [rows - max(1, rows // 12), rows])
    right = isinstance(named, list) and len(named) == 2 and all(type(row) is int for row in named)
    if not right or not 0 <= named[0] < named[1] <= rows:
        raise DataError(
            f"{folder}: validation_rows={named} (in dataset.json, or the last twelfth) should be "
            f"[first, last + 1] within 0..{rows}, the rows for training; prepare the data again"
        )
    return named[0], named[1]


def _fingerprint(folder: Path) -> str:
    """Of dataset.json (which holds every file's checksum) and the file sizes.

    Without dataset.json: of sizes and times.
    """
    description = folder / "dataset.json"
    described = description.exists()
    digest = hashlib.sha256(description.read_bytes() if described else b"")
    for path in sorted(folder.rglob("*.npy")):
        status = path.stat()
        time = 0 if described else status.st_mtime_ns
        digest.update(f"{path.relative_to(folder)} {status.st_size} {time}".encode())
    return digest.hexdigest()


EXPERIMENT = Experiment(
    load=lambda config: load_avmnist(config.data),
    build_model=lambda config, _: build_model(config),
)
