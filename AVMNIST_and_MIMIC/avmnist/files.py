"""The files of AV-MNIST, ours or the published tarball's: opening and checking them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from i2m2.errors import DataError
from i2m2.reading.arrays import open_array

REMEDY = "copy or prepare it again"
SHAPES = {"image": (28, 28), "audio": (112, 112)}
NUM_CLASSES = 10
HOW_TO_GET = (
    "how to get them: AVMNIST_and_MIMIC/README.md, section Data; "
    "without any data: --data.source synthetic"
)


def open_part(folder: Path, part: str) -> dict[str, np.ndarray]:
    """{image, audio, y} of the training or the test files, memory-mapped but for `y` [N] int64.

    DataError unless shapes, types, labels and the scale are right; image rows hold 784 numbers and
    audio rows 112 x 112, in any shape. NaN is left to who reads them all: a batch, or --check.
    """
    paths = {
        "image": folder / f"image/{part}_data.npy",
        "audio": folder / f"audio/{part}_data.npy",
        "y": folder / f"{part}_labels.npy",
    }
    missing = [str(path.relative_to(folder)) for path in paths.values() if not path.exists()]
    if missing:
        raise DataError(f"avmnist: {', '.join(missing)} missing in {folder}; {HOW_TO_GET}")
    arrays = {name: open_array(path, REMEDY) for name, path in paths.items()}
    y = arrays["y"]
    if y.ndim != 1 or y.dtype.kind not in "ui":
        raise DataError(
            f"{paths['y']}: shape {y.shape}, dtype {y.dtype}; "
            "it should be a row of integers 0..9; prepare the data again"
        )
    arrays["y"] = np.asarray(y).astype(np.int64)
    wrong = np.flatnonzero((arrays["y"] < 0) | (arrays["y"] >= NUM_CLASSES))
    if len(wrong):
        raise DataError(
            f"{paths['y']}: row {wrong[0]} has label {y[wrong[0]]}; labels are 0..9; "
            "prepare the data again"
        )
    for name in SHAPES:
        _check_inputs(paths[name], arrays[name], name, len(y))
    return arrays


def _check_inputs(path: Path, array: np.ndarray, modality: str, rows: int) -> None:
    """DataError unless the array holds that many examples of the modality, on the scale 0..255."""
    height, width = SHAPES[modality]
    readable = array.dtype.kind in "uif" and array.dtype.isnative and array.dtype.itemsize <= 8
    fits = array.ndim >= 2 and math.prod(array.shape[1:]) == height * width and len(array) == rows
    if not (readable and fits):
        raise DataError(
            f"{path}: shape {array.shape}, dtype {array.dtype}; it should be numbers of shape "
            f"({rows}, {height * width}) or ({rows}, {height}, {width}), a row per label; "
            "prepare the data again"
        )
    some = array[:: max(1, len(array) // 100)].astype(np.float64)
    low, high = np.nanmin(some, initial=0), np.nanmax(some, initial=0)
    centred = modality == "image"  # as published, without the mean image
    if not 4 < max(-low, high) < 10_000 or (low < 0 and not centred):
        raise DataError(
            f"{path}: values from {low:g} up to {high:g}; the scale should be 0..255, as prepared; "
            "prepare the data again"
        )
