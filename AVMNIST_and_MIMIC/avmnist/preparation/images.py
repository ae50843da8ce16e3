"""Images of AV-MNIST: read MNIST's idx files, keep a share of their PCA energy.

Reference: the generator of AV-MNIST keeps 25 % of the energy ("75 % removed", paper section 5.1).
Read literally that is the leading components that first reach 25 % (4 of 784 on MNIST, 28.5 %); the
published generator stops one earlier (3, 23.0 %).
"""

from __future__ import annotations

import gzip
import itertools
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.reading.paths import files_below

# idx: two zero bytes, type 8 (uint8), number of dimensions 3 or 1; big endian
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
NAMES = [  # of each of the four files, the first that is there being taken
    [
        f"{part}-{kind}-ubyte{gz}".replace("-idx", sign + "idx")
        for sign in "-."
        for gz in ("", ".gz")
    ]
    for part, kind in itertools.product(("train", "t10k"), ("images-idx3", "labels-idx1"))
]
PIXELS = 28 * 28
MOST_DEFLATED = 1032  # bytes that one byte of a gzip can stand for
BLOCK = 10_000  # images turned into floats at a time


@dataclass(frozen=True)
class Digits:
    """Labelled images of one pair of files.

    `images` uint8 [N, 784] in 0..255, `labels` uint8 [N] in 0..9.
    """

    images: np.ndarray
    labels: np.ndarray


def read_mnist(folder: Path) -> tuple[Digits, Digits]:
    """MNIST's four idx files, plain or .gz, at `folder` or below -> (train, test).

    Rows are in the order of the files.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; "
            "--mnist names the folder that holds MNIST's four idx files (plain or .gz)"
        )
    paths = _four_of(folder)
    return _read_pair(*paths[:2]), _read_pair(*paths[2:])


def _four_of(folder: Path) -> list[Path]:
    """The four files of one folder, the highest that holds all, or else each from the only one that
    holds it. DataError where others do, too: other data sets have files of the same names."""
    files = sorted(files_below(folder))
    each = [{f.parent: f for n in reversed(names) for f in files if f.name == n} for names in NAMES]
    if missing := [names[0] for names, found in zip(NAMES, each, strict=True) if not found]:
        raise DataError(
            f"{folder}: {len(missing)} of MNIST's 4 files are missing: {', '.join(missing)} "
            "(plain or .gz); copy them there, or fetch them with --download DIR"
        )
    whole = set.intersection(*map(set, each))
    depth = min((len(path.parts) for path in whole), default=0)
    if highest := {path for path in whole if len(path.parts) == depth}:
        each = [{path: found[path] for path in highest} for found in each]
    if several := next((sorted(found) for found in each if len(found) > 1), None):
        raise DataError(
            f"{several[0]} and {several[1]} both hold files of MNIST's names; "
            "give as --mnist the one folder with all four"
        )
    return [path for found in each for path in found.values()]


def _read_pair(images_path: Path, labels_path: Path) -> Digits:
    images, labels = read_idx(images_path, IMAGES_MAGIC), read_idx(labels_path, LABELS_MAGIC)
    if images.shape[1:] != (28, 28):
        size = "x".join(map(str, images.shape[1:]))
        raise DataError(f"{images_path}: images of {size} pixels; MNIST's are 28x28")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path}: {len(images)} images, but {labels_path.name} has {len(labels)} "
            "labels; take both from one source"
        )
    if len(labels) == 0:
        raise DataError(f"{images_path}: holds no images")
    if labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise DataError(
            f"{labels_path}: row {row} has label {labels[row]}; labels are 0..9. "
            "Download the file again"
        )
    return Digits(images.reshape(-1, PIXELS), labels)


def read_idx(path: Path, magic: int) -> np.ndarray:
    """An idx file of uint8 values, plain or gzip by its content.

    IMAGES_MAGIC: [N, rows, columns]; LABELS_MAGIC: [N].
    """
    dims = magic & 0xFF
    size = path.stat().st_size
    with open(path, "rb") as plain:
        is_gzip = plain.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if is_gzip else open(path, "rb") as file:
            start = file.read(4 + 4 * dims)
            header = [0] if len(start) < 4 + 4 * dims else np.frombuffer(start, ">u4").tolist()
            if header[0] != magic:
                raise DataError(
                    f"{path}: not an idx file of {dims}-dimensional uint8 data "
                    f"(magic {header[0]}, expected {magic}); download it again"
                )
            shape = tuple(header[1:])
            announced, most = math.prod(shape), size * (MOST_DEFLATED if is_gzip else 1)
            # One byte more, to see that nothing follows, and to have the checksum looked at.
            data = file.read(min(announced, most) + 1)
    except (OSError, EOFError, zlib.error):
        raise DataError(
            f"{path}: the gzip file is damaged or cut short; download it again"
        ) from None
    if len(data) != announced:
        more = "more than " * (len(data) > announced)
        raise DataError(
            f"{path}: {more}{min(len(data), announced)} bytes of data, but its header announces "
            f"{'x'.join(map(str, shape))} = {announced}; download it again"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


@dataclass(frozen=True)
class PCA:
    """Principal components of images.

    `mean` [784], `axes` [784, 784] (rows, falling variance), `ratio` [784] (sums to one).
    """

    mean: np.ndarray
    axes: np.ndarray
    ratio: np.ndarray


def fit_pca(images: np.ndarray) -> PCA:
    """Centred PCA of uint8 images [N, 784]."""
    sums, products = np.zeros(PIXELS), np.zeros((PIXELS, PIXELS))
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK].astype(np.float64)
        sums += block.sum(axis=0)
        # Whole numbers below 2**53: exact, so the result does not depend on threads.
        products += block.T @ block
    mean = sums / len(images)
    variance, axes = np.linalg.eigh(products / len(images) - np.outer(mean, mean))
    variance = np.clip(variance[::-1], 0, None)
    if variance.sum() == 0:
        raise DataError(
            "all images are the same: there is nothing to fit a PCA on; give --mnist the real ones"
        )
    return PCA(mean, axes.T[::-1], variance / variance.sum())


def count_components(ratio: np.ndarray, energy: float, rule: str) -> int:
    """Number of leading components to keep.

    `reach`: the fewest whose share is >= energy; `within`: the most whose share is <= energy.
    """
    share = np.cumsum(ratio)
    if rule == "reach":
        return min(int(np.searchsorted(share, energy - 1e-12)) + 1, len(ratio))
    count = int(np.searchsorted(share, energy + 1e-12, side="right"))
    if count == 0:
        raise SettingsError(
            f"energy {energy:g} with rule 'within' keeps nothing: the first component alone "
            f"explains {share[0]:.1%}; give a larger --energy, --energy-rule reach or --components"
        )
    return count


def keep_components(images: np.ndarray, pca: PCA, components: int, add_mean: bool) -> np.ndarray:
    """uint8 images [N, 784] -> float32 [N, 784] on the 0..255 scale, of the leading `components`.

    Without the mean (as published) values are centred on zero; with it they may leave 0..255 a
    little.
    """
    axes, mean = pca.axes[:components].astype(np.float32), pca.mean.astype(np.float32)
    reduced = np.empty(images.shape, np.float32)
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        reduced[block] = (images[block] - mean) @ axes.T @ axes
        if add_mean:
            reduced[block] += mean
    return reduced
