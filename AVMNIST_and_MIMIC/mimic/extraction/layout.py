"""The prepared MIMIC folder: what mimic.npz and dataset.json hold, and how they are written.

mimic.npz      rows in ascending HADM_ID; T = horizon / bin width, 24 by default
    series            [N, T, 12]
    series_mask       uint8 [N, T, 12]
    static            [N, 5]
    mortality_labels  int64 [N, 6]
    icd9              int64 [N, 20]
    hadm_id           int64 [N]
    subject_id        int64 [N]
dataset.json   what it is: variant, mode, settings, names and units, inputs, counts, sha256 of
               mimic.npz
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from AVMNIST_and_MIMIC.mimic.arrays import SERIES, STATIC
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic, write_json

RECIPE = 2  # raised when the same rules would give other values
SERIES_UNITS = (
    "points", "mmHg", "1/min", "deg C", "mmHg per percent", "mL", "mg/dL", "K/uL", "mEq/L",
    "mEq/L", "mEq/L", "mg/dL",
)  # fmt: skip
STATIC_UNITS = ("days", *("0 or 1",) * 3, "0 medical, 1 scheduled surgical, 2 unscheduled surgical")
MORTALITY_COLUMNS = (
    "death in hospital",
    "death in hospital, at most 1 day after first ICU admission",
    "death in hospital, at most 2 days after first ICU admission",
    "death in hospital, at most 3 days after first ICU admission",
    "death before or at most 30 days after discharge",
    "death before or at most 365.245 days after discharge",
)
ICD9 = (
    "001-139", "140-239", "240-279", "280-289", "290-319", "320-389", "390-459", "460-519",
    "520-579", "580-629", "630-677", "680-709", "710-739", "740-759", "780-789", "790-796",
    "797-799", "800-999", "V", "E",
)  # fmt: skip
Arrays = dict[str, np.ndarray]  # of mimic.npz, by name
Facts = dict[str, Any]  # of dataset.json, whose values are numbers, texts, lists and mappings
IDENTITY = ("dataset", "recipe", "settings", "inputs")  # the same again: nothing to do


def stamp(paths: list[Path]) -> dict[str, list[int]]:
    """{file name: [bytes, modification time in ns]}: what a repeated command is recognised by."""
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(paths)}


def holds(out: Path, facts: Facts) -> bool:
    """Whether `out` is this very data set; SettingsError if it is a folder of something else."""
    description, arrays = out / "dataset.json", out / "mimic.npz"
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file; give a folder as --out")
    if not description.exists():
        return False
    try:
        stored = json.loads(description.read_text(encoding="utf-8"))
        dataset = stored["dataset"]
    except (ValueError, KeyError, TypeError):
        raise SettingsError(
            f"{description} is not a description this command wrote; "
            "give another --out, or remove it"
        ) from None
    if dataset != "mimic":
        raise SettingsError(f"{out} holds the data set {dataset!r}; give another --out")
    same = all(stored.get(key) == facts[key] for key in IDENTITY)
    return same and arrays.is_file() and arrays.stat().st_size == stored.get("bytes")


def write(out: Path, arrays: Arrays, facts: Facts) -> None:
    """mimic.npz, then dataset.json with its checksum; each replaces its predecessor whole."""
    path = out / "mimic.npz"
    # Not compressed: reading is then as fast as the disk.
    write_atomic(path, lambda temporary: np.savez(temporary, **arrays))
    names = {
        "series_features": dict(zip(SERIES, SERIES_UNITS, strict=True)),
        "static_features": dict(zip(STATIC, STATIC_UNITS, strict=True)),
        "mortality_columns": list(MORTALITY_COLUMNS),
        "icd9_groups": list(ICD9),
    }
    written = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    write_json(out / "dataset.json", {**facts, "rows": len(arrays["hadm_id"]), **names, **written})


def read(folder: Path) -> tuple[Arrays, Facts]:
    """(arrays, dataset.json) of a prepared folder.

    DataError if either is missing, unreadable, or does not fit the other.
    """
    how = "prepare it again (python -m AVMNIST_and_MIMIC.prepare_mimic --help)"
    path, description = folder / "mimic.npz", folder / "dataset.json"
    for needed in (path, description):
        if not needed.is_file():
            raise DataError(f"{needed}: is missing; {how}")
    try:
        facts = json.loads(description.read_text(encoding="utf-8"))
        needed = ("sha256", "variant", "mode", "release", "settings")
        sha256, *_ = (facts[key] for key in needed)
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{description}: not a description that prepare_mimic wrote; {how}"
        ) from None
    if sha256_of(path) != sha256:
        raise DataError(f"{path}: sha256 differs from dataset.json: changed or damaged; {how}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file), facts
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {how}") from None


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
