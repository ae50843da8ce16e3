"""fastMRI's cache beside the reference layout, for `python -m benchmarks.fastmri`.

The reference layout is the published code's: a file per slice with k-space zero-filled to 640 x 400
in complex128, and both reconstructions.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from benchmarks.measuring.timing import alternate, beside
from fastMRI.data import Slices, load_fastmri
from fastMRI.preparation.fourier import PADDED_WIDTH, fit, image_of
from fastMRI.settings import FastMRIData


def splits_of(folder: Path) -> dict[str, Slices]:
    return load_fastmri(FastMRIData(dir=str(folder))).splits


def write_reference(raw: Path, out: Path) -> list[Path]:
    """The published layout of raw volumes no wider than 400 columns: one file per slice."""
    paths = []
    for path in sorted(raw.glob("singlecoil_*/*.h5")):
        with h5py.File(path) as file:
            if file["kspace"].shape[-1] > PADDED_WIDTH:
                continue
            for index, kspace in enumerate(file["kspace"][:]):
                paths.append(out / path.stem / f"knee_singlecoil_{path.stem}_{index}.h5")
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(paths[-1], "w") as written:
                    written["sc_kspace"] = fit(kspace, PADDED_WIDTH, -1).astype(np.complex128)
                    written["recon_esc"] = file["reconstruction_esc"][index]
                    written["recon_rss"] = file["reconstruction_rss"][index]
    return paths


def read_reference(paths: list[Path], transform: bool) -> None:
    """What its loader needs of every slice: k-space, from which the image comes, and RSS."""
    for path in paths:
        with h5py.File(path) as file:
            kspace, _ = file["sc_kspace"][:], file["recon_rss"][:]
        if transform:
            image_of(kspace)


def read_cache(split: Slices, batch: int = 16) -> None:
    """Every slice of the split, in batches, as training reads them."""
    for part in np.array_split(np.arange(len(split)), max(1, len(split) // batch)):
        split[part]


def bytes_rows(folder: Path, reference: list[Path]) -> list[list[str]]:
    """Rows on bytes per slice."""
    slices = sum(map(len, splits_of(folder).values()))
    cached = sum(path.stat().st_size for path in folder.glob("volumes/*.h5")) / slices
    published = sum(path.stat().st_size for path in reference) / len(reference)
    with h5py.File(next(folder.glob("volumes/*.h5"))) as ours, h5py.File(reference[0]) as theirs:
        image, kspace = ours["image"][0].nbytes, theirs["sc_kspace"][:].nbytes
    return [
        [
            "read for magnitude and phase",
            f"{kspace:,}",
            f"{image:,}",
            *beside(kspace / image, ">= 4"),
        ],
        [
            "on the disk, with RSS (theirs: and ESC)",
            f"{published:,.0f}",
            f"{cached:,.0f}",
            *beside(published / cached, ">= 3.9"),
        ],
    ]


def speed_rows(folder: Path, reference: list[Path], rounds: int) -> list[list[str]]:
    """Rows on slices per second of one process."""
    splits = list(splits_of(folder).values())
    images = [split.select(["magnitude", "phase"]) for split in splits]
    seconds = alternate(
        {
            "reference": lambda: read_reference(reference, transform=False),
            "reference, transformed": lambda: read_reference(reference, transform=True),
            "cache, image": lambda: [read_cache(split) for split in images],
            "cache, image and RSS": lambda: [read_cache(split) for split in splits],
        },
        rounds,
    )
    slices = sum(map(len, splits))
    speed = {
        name: (len(reference) if name.startswith("reference") else slices) / value
        for name, value in seconds.items()
    }
    rows = []
    for what, theirs, ours, target in (
        ("what a step reads: image", "reference", "cache, image", ">= 4"),
        (
            "the same, theirs transformed to an image",
            "reference, transformed",
            "cache, image",
            ">= 4",
        ),
        (
            "image and RSS, which no method reads at once",
            "reference",
            "cache, image and RSS",
            None,
        ),
    ):
        ratio = speed[ours] / speed[theirs]
        verdict = beside(ratio, target) if target else [f"{ratio:.2f}", "-"]
        rows.append([what, f"{speed[theirs]:.0f}", f"{speed[ours]:.0f}", *verdict])
    return rows
