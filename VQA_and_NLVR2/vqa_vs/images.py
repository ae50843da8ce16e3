"""The files of COCO 2014 that the questions of VQA-VS are about."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.picture_files import by_name, one_of
from VQA_and_NLVR2.vqa_vs.files import HOW_TO_GET

PARTS = ("train2014", "val2014")  # of COCO


def image_path(root: Path, image_id: np.ndarray) -> list[Path | None]:
    """The file of each image, None where there is none; no field of VQA-VS says in which of PARTS
    it is. Each folder is listed once. Say `missing_images` of it: nothing takes the place of a
    missing image.

    DataError if neither folder exists, or two files may be the same image.
    """
    folders = [root / part for part in PARTS if (root / part).is_dir()]
    if not folders:
        raise DataError(
            f"{root}: neither {PARTS[0]} nor {PARTS[1]} is there; unpack COCO 2014's images, "
            f"or see {HOW_TO_GET}"
        )
    found = {folder: by_name(_files(folder)) for folder in folders}

    def find(number: int) -> Path | None:
        for folder, files in found.items():
            if here := files.get(f"COCO_{folder.name}_{number:012d}"):
                return one_of(here, [folder], ".jpg")
        return None

    return [find(number) for number in np.asarray(image_id).tolist()]


def _files(folder: Path) -> Iterator[Path]:
    """Those in it; a link to nothing is none."""
    for entry in os.scandir(folder):
        if not entry.is_symlink() or os.path.exists(entry):
            yield Path(entry)


def file_names(root: Path) -> str:
    """What the files of images are called, and where they are looked for."""
    parts = " or ".join(str(root / part / f"COCO_{part}_ID.jpg") for part in PARTS)
    return f"{parts}, ID in 12 digits"


def missing_images(image_id: np.ndarray, paths: Sequence[Path | None], first: int = 3) -> str:
    """'images: 2 of 940 missing: 57, 99' for ids [n] and the file of each [n]; each image counts
    once."""
    absent = [path is None for path in paths]
    missing, everything = np.unique(np.asarray(image_id)[absent]), np.unique(image_id)
    if not len(missing):
        return f"images: all {len(everything):,} found"
    named = ", ".join(map(str, missing[:first])) + ", ..." * (len(missing) > first)
    return f"images: {len(missing):,} of {len(everything):,} missing: {named}"
