"""Which images can be decoded: looked at once, before training, instead of breaking it off in its
tenth hour."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from tqdm import tqdm

from i2m2.errors import DataError
from i2m2.files import write_json
from i2m2.reading.records import read_record
from VQA_and_NLVR2.inputs.images import load_rgb


class Checked(TypedDict):
    """checked_images.json."""

    readable: dict[str, int]  # names of files, and their sizes in bytes


def unreadable(paths: Sequence[Path], remembered: Path) -> dict[Path, str]:
    """Of `paths`, the images that cannot be decoded, and what is wrong with each.

    The names and sizes of those that can are kept in the JSON file `remembered`, and these are not
    looked at again while their sizes stay. Where it cannot be written, all are looked at every
    time.
    """
    good = _read(remembered)
    sizes = {path: size_of(path) for path in paths}
    new = [path for path, size in sizes.items() if size is None or good.get(path.name) != size]
    if not new:
        return {}
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # Pillow decodes outside the interpreter's lock
        bar = tqdm(total=len(new), desc="decoding every image once", leave=False, disable=None)
        broken = {}
        for path, complaint in zip(new, pool.map(_complaint, new), strict=True):
            bar.update()
            if complaint:
                broken[path] = complaint
        bar.close()
    for path in new:
        good.pop(path.name, None)
        if path not in broken:
            good[path.name] = sizes[path]
    try:
        write_json(remembered, {"readable": dict(sorted(good.items()))})
    except OSError as error:
        again = "the images will be decoded again before the next run"
        print(f"{remembered}: {error.strerror}; {again}", flush=True)
    return broken


def size_of(path: Path) -> int | None:
    """In bytes; None where the file cannot be reached."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _read(remembered: Path) -> dict[str, int]:
    try:
        return read_record(remembered, Checked, "it is written anew")["readable"]
    except (DataError, OSError):
        return {}  # nothing remembered, or nothing that can be used: it is only a shortcut


def _complaint(path: Path) -> str:
    try:
        load_rgb(path)
    except DataError as error:
        return str(error)
    return ""
