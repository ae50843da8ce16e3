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

from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from AVMNIST_and_MIMIC.mimic.arrays import KNOWN_BY, SERIES, STATIC, sha256_of
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic, write_json
from i2m2.reading.arrays import ArrayFile
from i2m2.reading.paths import require_file
from i2m2.reading.records import read_record

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


class Settings(TypedDict):
    """Of the extraction."""

    mode: str
    horizon_hours: float
    bin_hours: float


class Step(TypedDict):
    """A rule of the cohort."""

    rule: str
    rows: int
    dropped: int


class Stored(TypedDict):
    """dataset.json, as far as it is read back."""

    variant: str
    mode: str
    synthetic: bool
    release: str
    settings: Settings
    tables: dict[str, int]
    funnel: list[Step]
    oddities: NotRequired[dict[str, int]]
    sha256: str


IDENTITY = ("dataset", "recipe", "settings", "inputs")  # the same again: nothing to do


def stamp(paths: list[Path]) -> dict[str, dict[str, int]]:
    """Bytes of each file, and its modification time in ns: what a repeated command is recognised
    by."""
    stats = {path.name: path.stat() for path in sorted(paths)}
    return {
        "inputs": {name: stat.st_size for name, stat in stats.items()},
        "input_times": {name: stat.st_mtime_ns for name, stat in stats.items()},
    }


def holds(out: Path, facts: Facts) -> bool:
    """Whether `out` is this very data set; SettingsError if it is a folder of something else, be it
    a whole data set of other tables or rules. One that is not whole may be replaced."""
    description, arrays = out / "dataset.json", out / "mimic.npz"
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file; give a folder as --out")
    if not description.exists():
        return False
    try:
        stored = read_record(description, dict[str, Any], "remove it")
        dataset = stored["dataset"]
    except (DataError, KeyError):
        raise SettingsError(
            f"{description} is not a description this command wrote; "
            "give another --out, or remove it"
        ) from None
    if dataset != "mimic":
        raise SettingsError(f"{out} holds the data set {dataset!r}; give another --out")
    if not arrays.is_file() or sha256_of(arrays) != stored.get("sha256"):
        return False
    before, now = _identity(stored), _identity(facts)
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    if differing == ["inputs"] and _sizes(before) == _sizes(now):
        print(
            f"{out}: the tables have the names and sizes of those it was made of, and other times, "
            f"as copies have; if they were changed since, remove {out} and give this command again"
        )
    elif differing:
        raise SettingsError(
            f"{out} holds a data set prepared otherwise ({', '.join(differing)} differ); "
            "give another --out, or remove it"
        )
    return True


def _identity(facts: Facts) -> Facts:
    """What tells data sets apart, every setting on its own."""
    identity = {key: facts.get(key) for key in IDENTITY}
    if times := facts.get("input_times"):  # older folders have them beside the bytes
        identity["inputs"] = {name: [size, times[name]] for name, size in facts["inputs"].items()}
    settings = identity.pop("settings")
    if not isinstance(settings, dict):
        return identity
    return identity | {f"settings.{key}": value for key, value in settings.items()}


def _sizes(identity: Facts) -> dict[str, int] | None:
    """{table: bytes} of what `_identity` gives; None where it gives no times beside them."""
    with suppress(AttributeError, TypeError, ValueError):  # edited
        return {name: size for name, (size, _) in identity["inputs"].items()}
    return None


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
    written = {"bytes": path.stat().st_size, "sha256": sha256_of(path), "known_by": KNOWN_BY}
    write_json(out / "dataset.json", {**facts, "rows": len(arrays["hadm_id"]), **names, **written})


def read(folder: Path) -> tuple[Arrays, Stored]:
    """(arrays, dataset.json) of a prepared folder.

    DataError if either is missing, unreadable, or does not fit the other.
    """
    how = "prepare it again (python -m AVMNIST_and_MIMIC.prepare_mimic --help)"
    path = require_file(folder / "mimic.npz", how)
    facts = read_record(folder / "dataset.json", Stored, how)
    if sha256_of(path) != facts["sha256"]:
        raise DataError(f"{path}: sha256 differs from dataset.json: changed or damaged; {how}")
    return dict(ArrayFile(path, how)), facts
