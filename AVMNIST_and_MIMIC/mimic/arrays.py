"""The arrays of mimic.npz: reading, the class of a stay, splits, standardisation."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np

from i2m2.errors import DataError
from i2m2.reading.arrays import Array, read_arrays
from i2m2.training import preparation
from i2m2.training.preparation import Split

STATIC = ("age", "AIDS", "haematological malignancy", "metastatic cancer", "admission type")
SERIES = (
    "GCS", "systolic pressure", "heart rate", "temperature", "P/F ratio", "urine output",
    "urea nitrogen", "white cells", "bicarbonate", "sodium", "potassium", "bilirubin",
)  # fmt: skip
ICD9_GROUPS = 20
# Class k of `mortality` is the first k in 1..5 whose column of `mortality_labels` is 1, class 0
# none of them.
MORTALITY_CLASSES = (
    "alive 1 year after discharge, or not known",
    "death within 1 day of ICU admission",
    "within 2 days",
    "within 3 days",
    "within 30 days of discharge",
    "within 1 year of discharge",
)
SCHEMA = {  # n stays, T steps
    "hadm_id": Array("ui", ("n",)),
    "subject_id": Array("ui", ("n",)),
    "series": Array("f", ("n", "T", len(SERIES))),
    "series_mask": Array("uib", ("n", "T", len(SERIES))),
    "static": Array("f", ("n", len(STATIC))),
    "mortality_labels": Array("ui", ("n", 6)),
    "icd9": Array("ui", ("n", ICD9_GROUPS)),
}
KNOWN_BY = "content"  # in dataset.json: whatever the tables are called
HOW_TO_GET = (
    "how to make it: AVMNIST_and_MIMIC/README.md, section MIMIC-III; "
    "without any data: --data.source synthetic and a --data.dir that is empty or not there"
)


def read_mimic(folder: Path, steps: int) -> dict[str, np.ndarray]:
    """The arrays of mimic.npz, checked for shape, type and range.

    DataError if the file is missing, damaged or of another form.
    """
    path = folder / "mimic.npz"
    if not path.exists():
        raise DataError(f"mimic: {path} is missing; {HOW_TO_GET}")
    remedy = (
        "prepare it again, or if it was generated remove its folder and give the same command "
        "again; if only the steps of series are others, set --data.steps"
    )
    arrays = read_arrays(path, SCHEMA, remedy, T=steps)
    for name in ("mortality_labels", "icd9"):
        if ((arrays[name] < 0) | (arrays[name] > 1)).any():
            raise DataError(f"{path}: {name} holds values other than 0 and 1; prepare it again")
    return arrays


def refuse_exchanged(folder: Path, sha256: str | None) -> None:
    """DataError if mimic.npz is not the one of which dataset.json records this checksum, and by
    which runs know it."""
    path = folder / "mimic.npz"
    if sha256 not in (None, sha256_of(path)):
        raise DataError(
            f"{path}: its sha256 is not the one in dataset.json, so one of them was changed; "
            "prepare it again, or if it was generated remove its folder and give the same command "
            "again"
        )


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(folder: Path) -> str:
    """Of dataset.json, which holds the checksum of mimic.npz, and of that file's size. Without
    names, sizes and times of the tables: the same data made again, or of tables that were copied,
    packed or unpacked, are the same. Of folders of earlier versions names and sizes count, too."""
    size = (folder / "mimic.npz").stat().st_size
    description = (folder / "dataset.json").read_bytes()
    facts = json.loads(description)
    if facts.pop("input_times", None):  # of older folders, the file as it is
        if facts.get("known_by") == KNOWN_BY:
            facts.pop("inputs", None)
        description = json.dumps(facts).encode()
    return hashlib.sha256(description + f" {size}".encode()).hexdigest()


def class_of(task: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Class of every stay [N], int64."""
    if task != "mortality":
        return arrays["icd9"][:, int(task.removeprefix("icd9_"))].astype(np.int64)
    within = arrays["mortality_labels"][:, 1:] > 0
    return np.where(within.any(axis=1), within.argmax(axis=1) + 1, 0)


def reference_split(examples: int) -> Split:
    """The published split of the rows, whatever patient they are of.

    Python's shuffle with seed 10, first tenth validation, second test.
    """
    order = list(range(examples))
    random.Random(10).shuffle(order)
    first, second = examples // 10, examples // 5
    return Split(
        train=np.array(order[second:], int),
        val=np.array(order[:first], int),
        test=np.array(order[first:second], int),
    )


def standardise(x: np.ndarray, train: np.ndarray, how: str) -> tuple[np.ndarray, list[int]]:
    """z-scores as `i2m2.training.preparation.standardise` makes them.

    train: by what the training rows observe. reference: NaN and infinity become 0 first, then the
    statistics are over all rows.
    """
    if how == "reference":
        zeros = {"nan": 0.0, "posinf": 0.0, "neginf": 0.0}
        return preparation.standardise(np.nan_to_num(x, **zeros), slice(None))
    return preparation.standardise(x, train)
