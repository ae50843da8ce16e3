"""fastMRI knee: the slices of a prepared folder, read lazily, and what the experts see of them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastMRI.preparation.labels import LABELS
from fastMRI.preparation.split import PARTS
from i2m2.errors import DataError, SettingsError
from i2m2.files import make_once
from i2m2.training.data import Batch, Data, check_dataset, read_description

STORED_AS = {"rss": "rss", "magnitude": "image", "phase": "image"}
SYNTHETIC_VOLUMES, SYNTHETIC_SLICES = 600, (3, 5)
OPEN_FILES = 64  # that a process keeps open; opening one costs more than reading a slice of it
HOW_TO_GET = (
    "how to make it: fastMRI/README.md, section Data; without any data: --data.source synthetic"
)


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

    source: Literal["files", "synthetic"] = "files"
    signal: Literal["all", "magnitude", "phase", "interaction"] = "all"
    dir: str | None = None
    train_size: int | None = None
    magnitude: Literal["scaled", "raw"] = "scaled"
    phase: Literal["angle", "cos_sin"] = "angle"
    phase_mean: Literal["keep", "weighted", "unweighted"] = "keep"
    phase_background: float = 0.0

    @property
    def folder(self) -> Path:
        alone = "" if self.signal == "all" else f"-{self.signal}"
        return Path(
            self.dir
            or (f"data/fastmri-synthetic{alone}" if self.source == "synthetic" else "data/fastmri")
        )

    @property
    def channels(self) -> dict[str, int]:
        """Channels of every modality."""
        return {"rss": 1, "magnitude": 1, "phase": 2 if self.phase == "cos_sin" else 1}


class Slices(Dataset):
    """Slices of prepared volumes. Inputs: `image` complex64 [B, H, W] for magnitude and phase,
    `rss` [B, H, W], and `scale` [B], by which their volumes were divided.

    Files are opened in the process that reads them, and a slice is read once for all experts.
    """

    labels = LABELS

    def __init__(
        self,
        folder: Path,
        table: pd.DataFrame,
        config: FastMRIData,
        modalities: Iterable[str] = ("magnitude", "phase", "rss"),
    ) -> None:
        """`table`: rows of slices.csv."""
        self.folder, self.table, self.config, self.modalities = (
            folder,
            table,
            config,
            tuple(modalities),
        )
        self.reads = tuple(dict.fromkeys(STORED_AS[modality] for modality in self.modalities))
        self.volume, self.slice = table["volume"].to_numpy(), table["slice"].to_numpy()
        self.y = table[list(LABELS)].to_numpy(np.int64)
        self.id = np.array(
            [f"{volume}/{index}" for volume, index in zip(self.volume, self.slice, strict=True)]
        )
        self.group = self.volume.astype(str)
        self._open_volumes: dict[str, OpenVolume] = {}
        self._process = os.getpid()

    def select(self, modalities: Iterable[str]) -> Slices:
        """The same slices without what none of these modalities needs."""
        return Slices(self.folder, self.table, self.config, modalities)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """DataError, with file and slice, where something cannot be read or is not finite."""
        opened = [self._open(self.volume[position]) for position in positions]
        inputs: dict[str, Tensor] = {}
        for name in self.reads:
            first = opened[0].arrays[name]
            batch = np.empty((len(opened), *first.shape[1:]), first.dtype)
            for row, volume, position in zip(batch, opened, positions, strict=True):
                _read(volume, name, self.slice[position], row)
            inputs[name] = torch.from_numpy(batch)
        inputs["scale"] = torch.tensor([volume.scale for volume in opened], dtype=torch.float32)
        return {"inputs": inputs, "y": torch.from_numpy(self.y[positions])}

    def prepare(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Stored arrays -> [B, channels, H, W] float32 of every modality; runs on the device."""
        views = {
            "rss": lambda: magnitude_of(inputs["rss"], inputs["scale"], self.config),
            "magnitude": lambda: magnitude_of(inputs["image"], inputs["scale"], self.config),
            "phase": lambda: phase_of(inputs["image"], self.config),
        }
        return {modality: views[modality]() for modality in self.modalities}

    def _open(self, name: str) -> OpenVolume:
        if self._process != os.getpid():  # a worker: HDF5 files do not survive a fork
            self._open_volumes, self._process = {}, os.getpid()
        volume = self._open_volumes.pop(name, None) or open_volume(
            self.folder / "volumes" / f"{name}.h5", self.reads
        )
        self._open_volumes[name] = volume  # last: the one used most recently
        if len(self._open_volumes) > OPEN_FILES:
            self._open_volumes.pop(next(iter(self._open_volumes))).file.close()
        return volume

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open_volumes": {}}  # for workers that are not forked


class OpenVolume(NamedTuple):
    """A prepared volume that is being read; looking things up in the file takes longer than reading
    a slice."""

    file: h5py.File
    arrays: dict[str, h5py.Dataset]
    scale: float


def open_volume(path: Path, names: Iterable[str]) -> OpenVolume:
    """The arrays of these names. DataError if the file cannot be read or lacks one of them."""
    try:
        file = h5py.File(path, "r")
        return OpenVolume(file, {name: file[name] for name in names}, float(file.attrs["scale"]))
    except (OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error


def _read(volume: OpenVolume, name: str, index: int, into: np.ndarray) -> None:
    """Slice `index` [H, W] into a contiguous array."""
    where = f"slice {index} of {name}"
    try:
        volume.arrays[name].read_direct(into, np.s_[index])
    except (OSError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"{volume.file.filename}: {where} cannot be read ({error}); prepare the data again"
        ) from error
    flat = into.reshape(-1)
    # A sum of squares is finite unless something in it is not, or is huge, and takes a fifth of the
    # time of looking at each.
    if not np.isfinite(np.vdot(flat, flat)) and not np.isfinite(flat).all():
        raise DataError(
            f"{volume.file.filename}: {where} holds NaN or infinity; prepare the data again"
        )


def magnitude_of(image: Tensor, scale: Tensor, config: FastMRIData) -> Tensor:
    """Complex [B, H, W] or RSS, in units of the volume's `scale` [B] -> [B, 1, H, W]."""
    magnitude = image.abs() if image.is_complex() else image
    return (magnitude * scale.view(-1, 1, 1) if config.magnitude == "raw" else magnitude).unsqueeze(
        1
    )


def phase_of(image: Tensor, config: FastMRIData) -> Tensor:
    """Complex [B, H, W] -> the angle [B, 1, H, W] in -pi..pi, or its cosine and sine [B, 2, H, W]."""
    visible = image.abs() >= config.phase_background if config.phase_background else None
    if (
        config.phase_mean != "keep"
    ):  # the mean phase is that of the sum, of the pixels or of their directions alone
        counted = image if config.phase_mean == "weighted" else image.sgn()
        counted = counted if visible is None else counted * visible
        image = image * counted.sum(dim=(-2, -1), keepdim=True).sgn().conj()
    angle = image.angle()
    phase = (
        torch.stack([angle.cos(), angle.sin()], dim=1)
        if config.phase == "cos_sin"
        else angle.unsqueeze(1)
    )
    return phase if visible is None else phase * visible.unsqueeze(1)


def load_fastmri(config: FastMRIData) -> Data:
    """The three parts of a prepared folder. DataError if it is missing, damaged, or not what it
    should be."""
    folder = config.folder
    if config.source == "files" and config.signal != "all":
        raise SettingsError(
            f"data.signal={config.signal} is for data.source=synthetic; files hold what they hold"
        )
    if config.source == "synthetic":
        make_once(folder, partial(make_synthetic, signal=config.signal))
    if not (folder / "dataset.json").exists():
        raise DataError(f"fastmri: {folder / 'dataset.json'} is missing; {HOW_TO_GET}")
    described, table = read_description(folder), _read_table(folder)
    tables = {part: table[table["part"] == part] for part in PARTS}
    tables["train"] = tables["train"].iloc[: config.train_size]
    splits = {part: Slices(folder, rows, config) for part, rows in tables.items()}
    check_dataset(splits, 2)
    for part in PARTS[1:]:
        if shared := set(tables[part]["patient"]) & set(tables["train"]["patient"]):
            raise DataError(
                f"{folder}/slices.csv: {part} and train share {len(shared)} patients, such as {min(shared)}"
            )
    positives = {
        part: rows[list(LABELS)].sum().astype(int).to_dict() for part, rows in tables.items()
    }
    facts = {
        "variant": described["variant"],
        "synthetic": described["synthetic"],
        "description": described["description"],
        "sizes": {part: len(rows) for part, rows in tables.items()},
        "volumes": {part: int(rows["volume"].nunique()) for part, rows in tables.items()},
        "positive_slices": positives,
        "fingerprint": hashlib.sha256(
            (folder / "dataset.json").read_bytes() + (folder / "slices.csv").read_bytes()
        ).hexdigest(),
    }
    words = [word for word in described["variant"].split("-") if word != "native"]
    return Data(splits, "-".join(words + [config.signal] * (config.signal != "all")), facts)


def make_synthetic(folder: Path, signal: str) -> None:
    """Generate raw volumes into `folder` and prepare them there, averaged to 80 x 80 pixels; the
    raw ones are then removed."""
    from fastMRI.make_synthetic import make_volumes
    from fastMRI.preparation.volumes import Rules
    from fastMRI.prepare import prepare
    from fastMRI.synthetic.plan import SIGNALS

    raw = folder / "raw"
    make_volumes(raw, SYNTHETIC_VOLUMES, strengths=SIGNALS[signal], slices=SYNTHETIC_SLICES)
    prepare([raw], raw / "knee.csv", raw / "knee_file_list.csv", folder, Rules(average=4))
    for part in raw.glob(
        "singlecoil_*"
    ):  # gigabytes that the command of `fastMRI.make_synthetic` makes again; the lists stay
        shutil.rmtree(part)


def class_weights(y: np.ndarray) -> Tensor:
    """Inverse class frequency of every label, N / n_c, of training labels [N, L] -> [L, 2]; 1 for a
    class that does not occur."""
    counts = np.stack([(y == c).sum(axis=0) for c in (0, 1)], axis=1)
    return torch.tensor(
        np.where(counts > 0, len(y) / np.maximum(counts, 1), 1.0), dtype=torch.float32
    )


def _read_table(folder: Path) -> pd.DataFrame:
    """slices.csv, a row per slice: volume, slice, part, patient and the four labels."""
    path = folder / "slices.csv"
    try:
        table = pd.read_csv(
            path, dtype={"volume": str, "part": str, "patient": str}, keep_default_na=False
        )
        table = table.astype({"slice": np.int64, **dict.fromkeys(LABELS, np.int64)})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is missing or damaged ({error}); prepare the data again"
        ) from error
    unknown = set(table["part"]) - set(PARTS)
    missing = [
        name
        for name in table["volume"].unique()
        if not (folder / "volumes" / f"{name}.h5").exists()
    ]
    if unknown or missing:
        what = (
            f"parts {sorted(unknown)}"
            if unknown
            else f"{len(missing)} volumes that are not there, such as {missing[0]}.h5"
        )
        raise DataError(f"{path} names {what}; prepare the data again")
    return table
