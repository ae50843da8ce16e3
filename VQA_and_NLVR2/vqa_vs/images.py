"""The files of COCO 2014 that the questions of VQA-VS are about."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.vqa_vs.files import HOW_TO_GET

PARTS = ("train2014", "val2014")  # of COCO


def find_images(root: Path, image_id: np.ndarray) -> np.ndarray:
    """int8 [n]: which of PARTS has each image, -1 where neither has; no field of VQA-VS says it.
    Each folder is listed once.

    DataError if neither folder exists.
    """
    image_id = np.asarray(image_id, np.int64)
    if not any((root / part).is_dir() for part in PARTS):
        raise DataError(
            f"{root}: neither {PARTS[0]} nor {PARTS[1]} is there; unpack COCO 2014's images, "
            f"or see {HOW_TO_GET}"
        )
    found = np.full(len(image_id), -1, np.int8)
    for place in reversed(range(len(PARTS))):
        found[np.isin(image_id, _ids_in(root / PARTS[place]))] = place
    return found


def _ids_in(folder: Path) -> np.ndarray:
    """int64: ids of the images of a part; none where it is not there. A link to nothing is none."""
    start, end = f"COCO_{folder.name}_", ".jpg"
    entries = os.scandir(folder) if folder.is_dir() else ()
    names = [entry.name for entry in entries if not entry.is_symlink() or os.path.exists(entry)]
    names = [name for name in names if name.startswith(start) and name.endswith(end)]
    digits = [name[len(start) : -len(end)] for name in names]
    ids = [int(number) for number in digits if len(number) == 12 and number.isdecimal()]
    return np.array(ids, np.int64)


def image_path(root: Path, image_id: np.ndarray) -> list[Path | None]:
    """The file of each image, None where there is none. Say `missing_images` of it: nothing takes
    the place of a missing image."""
    image_id = np.asarray(image_id, np.int64)
    parts = find_images(root, image_id)
    return [
        root / PARTS[part] / f"COCO_{PARTS[part]}_{number:012d}.jpg" if part >= 0 else None
        for part, number in zip(parts.tolist(), image_id.tolist(), strict=True)
    ]


def missing_images(image_id: np.ndarray, found: np.ndarray, first: int = 3) -> str:
    """'images: 2 of 940 missing: 57, 99' for ids [n] and whether each was found [n]; each image
    counts once."""
    missing, everything = np.unique(np.asarray(image_id)[~found]), np.unique(image_id)
    if not len(missing):
        return f"images: all {len(everything):,} found"
    named = ", ".join(map(str, missing[:first])) + ", ..." * (len(missing) > first)
    return f"images: {len(missing):,} of {len(everything):,} missing: {named}"
