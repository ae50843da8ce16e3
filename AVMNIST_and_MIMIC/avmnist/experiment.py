"""AV-MNIST: settings, loader and models."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from AVMNIST_and_MIMIC.avmnist.digits import make_digits
from AVMNIST_and_MIMIC.avmnist.files import NUM_CLASSES, SHAPES, open_part
from AVMNIST_and_MIMIC.encoders import LeNet, mlp
from i2m2.errors import DataError
from i2m2.fusion import build_fusion
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.names import INTER
from i2m2.settings import RunConfig
from i2m2.training.data import ArrayDataset, Data, check_dataset, read_description

MODALITIES = tuple(SHAPES)
BLOCKS = {"image": 3, "audio": 5}  # of LeNet after the first one, until the map is 1x1


@dataclass(frozen=True, kw_only=True)
class AVMNISTData:
    """Where the data lie.

    Args:
        source: files as prepared or downloaded, or synthetic: real 8x8 digits and synthesised
            speech, made on first use
        dir: folder of the files; null: data/avmnist, or data/avmnist-digits for synthetic
        train_size: use only the first so many training rows; null: all
    """

    source: Literal["files", "synthetic"] = "files"
    dir: str | None = None
    train_size: int | None = None

    @property
    def folder(self) -> Path:
        return Path(
            self.dir or ("data/avmnist-digits" if self.source == "synthetic" else "data/avmnist")
        )


@dataclass(frozen=True, kw_only=True)
class AVMNISTModel:
    """Sizes of the networks.

    Args:
        unimodal_width: channels of the first block of a unimodal expert's encoder
        inter_width: the same in the fusion expert
        hidden: width of the heads' hidden layer
        rank: of low-rank tensor fusion
        fused_features: outputs of low-rank tensor and gated fusion
        frozen_factors: leave low-rank tensor fusion at its random start, as the published code did
    """

    unimodal_width: int = 3
    inter_width: int = 6
    hidden: int = 100
    rank: int = 40
    fused_features: int = 120
    frozen_factors: bool = False


@dataclass(frozen=True, kw_only=True)
class AVMNISTConfig(RunConfig):
    """Train one method on AV-MNIST with one seed.

    Args:
        dataset: name of the data set
        data: where the data lie
        model: sizes of the networks
    """

    modalities: ClassVar[tuple[str, ...]] = MODALITIES

    dataset: Literal["avmnist"] = "avmnist"
    data: AVMNISTData = field(default_factory=AVMNISTData)
    model: AVMNISTModel = field(default_factory=AVMNISTModel)


def load_avmnist(config: AVMNISTData) -> Data:
    """Open the official layout memory-mapped. DataError if a file is missing, damaged, or not what
    it should be.

    image/{train,test}_data.npy [N, 784] (any shape of 784 numbers a row), 0..255 or zero-centred;
    audio/{train,test}_data.npy [N, 112, 112], 0..255; {train,test}_labels.npy [N], 0..9. Test is
    the test files; validation is the rows that dataset.json names, by default the last twelfth of
    the training files (5,000 of 60,000). Official sizes: 55,000 / 5,000 / 10,000.
    """
    folder = config.folder
    if config.source == "synthetic":
        make_digits(folder)
    files = {part: open_part(folder, part) for part in ("train", "test")}
    described = read_description(folder) if (folder / "dataset.json").exists() else {}
    rows = len(files["train"]["y"])
    start, stop = _validation_rows(folder, described, rows)
    held = np.arange(start, stop)
    train = np.setdiff1d(np.arange(rows), held)[: config.train_size]
    test = np.arange(len(files["test"]["y"]))
    splits = {
        "train": _split(folder, "train", files["train"], train, 0),
        "val": _split(folder, "train", files["train"], held, 0),
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
    return Data(splits, "" if variant in ("calibrated", "official") else variant, facts)


def prepare(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored types -> [B, 1, H, W] float32 on the scale 0..1; runs on the device."""
    return {name: x.reshape(-1, 1, *SHAPES[name]).float() / 255 for name, x in inputs.items()}


def build_model(config: AVMNISTConfig) -> ProductOfExperts:
    """The experts of the configured method: LeNets of width 3 alone, of width 6 under the fusion, a
    two-layer head each."""
    return ProductOfExperts({name: _expert(name, config) for name in config.experts})


def _expert(name: str, config: AVMNISTConfig) -> nn.Module:
    model = config.model
    if name != INTER:
        encoder = LeNet(model.unimodal_width, BLOCKS[name])
        return UnimodalExpert(name, encoder, mlp(encoder.out_features, model.hidden, NUM_CLASSES))
    encoders = {modality: LeNet(model.inter_width, BLOCKS[modality]) for modality in MODALITIES}
    sizes = {modality: encoder.out_features for modality, encoder in encoders.items()}
    fusion = build_fusion(
        config.fusion, sizes, model.fused_features, model.rank, model.frozen_factors
    )
    return FusionExpert(encoders, fusion, mlp(fusion.out_features, model.hidden, NUM_CLASSES))


def _split(
    folder: Path, part: str, arrays: dict[str, np.ndarray], rows: np.ndarray, first_id: int
) -> ArrayDataset:
    inputs = {name: arrays[name] for name in MODALITIES}
    source = {name: str(folder / name / f"{part}_data.npy") for name in MODALITIES}
    return ArrayDataset(
        inputs, arrays["y"][rows], rows, id=rows + first_id, prepare=prepare, source=source
    )


def _validation_rows(folder: Path, described: dict[str, Any], rows: int) -> tuple[int, int]:
    """First and one past the last training row that validates."""
    named = described.get("validation_rows", [rows - rows // 12, rows])
    right = isinstance(named, list) and len(named) == 2 and all(type(row) is int for row in named)
    if not right or not 0 <= named[0] < named[1] <= rows:
        raise DataError(
            f"{folder}/dataset.json: validation_rows={named} should be [first, last + 1] within 0..{rows}"
        )
    return named[0], named[1]


def _fingerprint(folder: Path) -> str:
    """Of dataset.json (which holds every file's checksum) and the file sizes; without dataset.json,
    of sizes and times."""
    description = folder / "dataset.json"
    digest = hashlib.sha256(description.read_bytes() if description.exists() else b"")
    for path in sorted(folder.rglob("*.npy")):
        stat = path.stat()
        digest.update(
            f"{path.relative_to(folder)} {stat.st_size} {0 if description.exists() else stat.st_mtime_ns}".encode()
        )
    return digest.hexdigest()
