"""fastMRI knee: the slices of a prepared folder, read lazily, and what the experts see of them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastMRI.preparation.hdf5 import UNREADABLE, array_in, fault_of
from fastMRI.preparation.labels import LABELS
from fastMRI.preparation.split import PARTS
from fastMRI.settings import FastMRIData
from i2m2.errors import DataError, SettingsError
from i2m2.files import make_once
from i2m2.reading.paths import require_file
from i2m2.training.data import Batch, Data, check_dataset, first_of, read_description

STORED_AS = {"rss": "rss", "magnitude": "image", "phase": "image"}
TYPES = {"image": np.dtype(np.complex64), "rss": np.dtype(np.float32)}
SYNTHETIC_VOLUMES, SYNTHETIC_SLICES = 600, (3, 5)
OPEN_FILES = 64  # that a process keeps open; opening one costs more than reading a slice of it
AGAIN = "prepare the data again"
HOW_TO_GET = (
    "how to make it: fastMRI/README.md, section Data; without any data: --data.source synthetic"
)


class Slices(Dataset):
    """Slices of prepared volumes of fastMRI knee.

    Input: `image` complex64 [B, H, W], of which magnitude and phase are views, `rss` float32
        [B, H, W], and `scale` [B], by which their volumes were divided. H = W = 320 unless
        averaged.
    Label: [B, 4] of 0 or 1: others (any finding that is none of the named ones), meniscus (a tear),
        acl, cartilage.
    Splits: 70 % train, 15 % val, 15 % test of the 1,172 volumes that were read for fastMRI+; those
        of one patient stay together.
    Licence: fastMRI on application; fastMRI+ MIT.
    Source: k-space and RSS of https://fastmri.med.nyu.edu/ (singlecoil_train, singlecoil_val),
        annotations of fastMRI+; made by `python -m fastMRI.prepare`.

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
        self.folder = folder
        self.table = table
        self.config = config
        self.modalities = tuple(modalities)
        self.reads = tuple(dict.fromkeys(STORED_AS[modality] for modality in self.modalities))
        self.volume = table["volume"].to_numpy()
        self.slice = table["slice"].to_numpy()
        self.y = table[list(LABELS)].to_numpy(np.int64)
        places = zip(self.volume, self.slice, strict=True)
        self.id = np.array([f"{volume}/{index}" for volume, index in places])
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
        volume = self._open_volumes.pop(name, None)
        if volume is None:
            volume = open_volume(self.folder / "volumes" / f"{name}.h5", self.reads)
        self._open_volumes[name] = volume  # last: the one used most recently
        if len(self._open_volumes) > OPEN_FILES:
            self._open_volumes.pop(next(iter(self._open_volumes))).file.close()
        return volume

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_open_volumes": {}}  # for workers that are not forked


class OpenVolume(NamedTuple):
    """A prepared volume that is being read; looking things up in the file takes longer than reading
    a slice."""

    file: h5py.File
    arrays: dict[str, h5py.Dataset]
    scale: float


def open_volume(path: Path, names: Iterable[str]) -> OpenVolume:
    """The arrays of these names. DataError if the file cannot be read or lacks one of them."""
    require_file(path, AGAIN)
    try:
        file = h5py.File(path, "r")
        arrays = {name: array_in(path, file, name, AGAIN) for name in names}
        for name, array in arrays.items():
            if array.dtype != TYPES[name]:
                raise DataError(f"{path}: {name} is {array.dtype}, not {TYPES[name]}; {AGAIN}")
        scale = float(file.attrs["scale"])
        if not 0 < scale < np.inf:
            raise DataError(f"{path}: its scale is {scale}, no positive number; {AGAIN}")
        return OpenVolume(file, arrays, scale)
    except UNREADABLE as error:
        raise fault_of(path, error, AGAIN) from error


def _read(volume: OpenVolume, name: str, index: int, into: np.ndarray) -> None:
    """Slice `index` [H, W] into a contiguous array."""
    where = f"{volume.file.filename}: slice {index} of {name}"
    try:
        volume.arrays[name].read_direct(into, np.s_[index])
    except (OSError, IndexError, ValueError, TypeError) as error:
        raise DataError(f"{where} cannot be read ({error}); prepare the data again") from error
    flat = into.reshape(-1)
    # A sum of squares is finite unless something in it is not, or is huge, and takes a fifth of the
    # time of looking at each.
    if not np.isfinite(np.vdot(flat, flat)) and not np.isfinite(flat).all():
        raise DataError(f"{where} holds NaN or infinity; prepare the data again")


def magnitude_of(image: Tensor, scale: Tensor, config: FastMRIData) -> Tensor:
    """Complex [B, H, W] or RSS, in units of the volume's `scale` [B] -> [B, 1, H, W]."""
    magnitude = image.abs() if image.is_complex() else image
    if config.magnitude == "raw":
        magnitude = magnitude * scale.view(-1, 1, 1)
    return magnitude.unsqueeze(1)


def phase_of(image: Tensor, config: FastMRIData) -> Tensor:
    """Complex [B, H, W] -> the angle [B, 1, H, W] in -pi..pi, or its cosine and sine
    [B, 2, H, W]."""
    visible = image.abs() >= config.phase_background if config.phase_background else None
    if config.phase_mean != "keep":
        # The mean phase is that of the sum, of the pixels or of their directions alone.
        counted = image if config.phase_mean == "weighted" else image.sgn()
        counted = counted if visible is None else counted * visible
        image = image * counted.sum(dim=(-2, -1), keepdim=True).sgn().conj()
    angle = image.angle()
    phase = angle.unsqueeze(1)
    if config.phase == "cos_sin":
        phase = torch.stack([angle.cos(), angle.sin()], dim=1)
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
    described = read_description(folder)
    table = _read_table(folder, described.get("slices_csv_sha256"))
    tables = {part: table[table["part"] == part] for part in PARTS}
    tables["train"] = first_of(tables["train"], config.train_size)
    splits = {part: Slices(folder, rows, config) for part, rows in tables.items()}
    check_dataset(splits, 2)
    _check_patients(folder, tables)
    facts = {
        "variant": described["variant"],
        "synthetic": described["synthetic"],
        "description": described["description"],
        "sizes": {part: len(rows) for part, rows in tables.items()},
        "volumes": {part: int(rows["volume"].nunique()) for part, rows in tables.items()},
        "positive_slices": {part: _positives(rows) for part, rows in tables.items()},
        "fingerprint": _fingerprint(folder),
    }
    words = [word for word in described["variant"].split("-") if word != "native"]
    if config.signal != "all":
        words.append(config.signal)
    return Data(splits, "-".join(words), facts)


def make_synthetic(folder: Path, signal: str) -> None:
    """Generate raw volumes into `folder` and prepare them there, averaged to 80 x 80 pixels; the
    raw ones are then removed."""
    # Here, since most runs have their data and need neither.
    from fastMRI.make_synthetic import make_volumes
    from fastMRI.preparation.pipeline import prepare
    from fastMRI.preparation.volumes import Rules
    from fastMRI.synthetic.plan import SIGNALS

    raw = folder / "raw"
    make_volumes(raw, SYNTHETIC_VOLUMES, strengths=SIGNALS[signal], slices=SYNTHETIC_SLICES)
    prepare([raw], raw / "knee.csv", raw / "knee_file_list.csv", folder, Rules(average=4))
    # Gigabytes that the command of `fastMRI.make_synthetic` makes again; the lists stay.
    for part in raw.glob("singlecoil_*"):
        shutil.rmtree(part)


def class_weights(y: np.ndarray) -> Tensor:
    """Inverse class frequency of every label, N / n_c, of training labels [N, L] -> [L, 2]; 1 for a
    class that does not occur."""
    counts = np.stack([(y == c).sum(axis=0) for c in (0, 1)], axis=1)
    weights = np.where(counts > 0, len(y) / np.maximum(counts, 1), 1.0)
    return torch.tensor(weights, dtype=torch.float32)


def _read_table(folder: Path, sha256: str | None) -> pd.DataFrame:
    """slices.csv, a row per slice: volume, slice, part, patient and the four labels. `sha256`: what
    dataset.json records of it; without its last rows it would look just as whole."""
    path = folder / "slices.csv"
    types = {"volume": str, "part": str, "patient": str, "slice": np.int64}
    types |= dict.fromkeys(LABELS, np.int64)
    require_file(path, AGAIN)
    if sha256 not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
        raise DataError(
            f"{path}: its sha256 is not the one in dataset.json, so one of them was changed; "
            f"{AGAIN}"
        )
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False)
        if absent := types.keys() - set(table):
            raise ValueError(f"no column {', '.join(sorted(absent))}")
        if (table["slice"] < 0).any():  # which would count from the last one
            raise ValueError(f"slice {table['slice'].min()}, but they count from 0")
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is missing or damaged ({error}); prepare the data again"
        ) from error
    if unknown := set(table["part"]) - set(PARTS):
        raise DataError(f"{path} names parts {sorted(unknown)}; prepare the data again")
    files = {name: folder / "volumes" / f"{name}.h5" for name in table["volume"].unique()}
    if missing := [name for name, file in files.items() if not file.exists()]:
        raise DataError(
            f"{path} names {len(missing)} volumes that are not there, such as {missing[0]}.h5; "
            "prepare the data again"
        )
    return table


def _check_patients(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """DataError if a patient of the training split is in another one."""
    trained = set(tables["train"]["patient"])
    for part in PARTS[1:]:
        if shared := set(tables[part]["patient"]) & trained:
            raise DataError(
                f"{folder}/slices.csv: {part} and train share {len(shared)} patients, "
                f"such as {min(shared)}; delete dataset.json and slices.csv there, which keeps the "
                "volumes, and give the command of the preparation again, with --split patient"
            )


def _positives(table: pd.DataFrame) -> dict[str, int]:
    """{label: slices that have it}."""
    return table[list(LABELS)].sum().astype(int).to_dict()


def _fingerprint(folder: Path) -> str:
    """What stands for the data: a sha256 of the folder's two lists."""
    files = [folder / name for name in ("dataset.json", "slices.csv")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
