"""A prepared folder of tiny volumes, and the settings that train on it in seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

CONFIG = str(Path(__file__).resolve().parents[2] / "fastMRI/configs/fastmri.yaml")
SMALL = ("--model.width", "8", "--model.pool", "5")


def write_fastmri(folder: Path, parts: Mapping[str, int], slices: int, side: int) -> None:
    """`parts`: number of volumes of train, val and test, each of `slices` slices of side x side."""
    rng = np.random.default_rng(0)
    (folder / "volumes").mkdir(parents=True)
    rows = ["volume,slice,part,patient,others,meniscus,acl,cartilage"]
    names = [part for part, count in parts.items() for _ in range(count)]
    for number, part in enumerate(names):
        volume = f"file9{number:06d}"
        y = rng.integers(0, 2, (slices, 4))
        y[0], y[1] = 0, 1  # both classes of every label in every volume
        _write_volume(folder / "volumes" / f"{volume}.h5", noise_with_labels(y, side, rng))
        for index, labels in enumerate(y):
            home = f"{volume},{index},{part},patient{number}"
            rows.append(",".join([home, *map(str, labels)]))
    (folder / "slices.csv").write_text("\n".join(rows) + "\n")
    described = {
        "variant": "native",
        "synthetic": True,
        "description": "noise in the layout of fastMRI",
    }
    (folder / "dataset.json").write_text(json.dumps(described))


def noise_with_labels(y: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose magnitude and phase are shifted in a quarter of the image for every label that is
    set: [S, 4] -> complex [S, side, side]."""
    shape = (len(y), side, side)
    image = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    first, second = slice(0, side // 2), slice(side // 2, 2 * side // 2)
    quarters = ((first, first), (first, second), (second, first), (second, second))
    for label, (rows, columns) in enumerate(quarters):
        image[:, rows, columns] *= 1 + y[:, label, None, None]
        image[:, rows, columns] += y[:, label, None, None]
    return image


def _write_volume(path: Path, image: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["image"] = image.astype(np.complex64)
        file["rss"] = np.abs(image).astype(np.float32)
        file.attrs["scale"] = 5e-5
