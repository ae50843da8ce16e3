"""A prepared AV-MNIST folder, and what its dataset.json says.

image/{train,test}_data.npy   float32 [N, 784], 0..255
audio/{train,test}_data.npy   uint8 [N, 112, 112]
{train,test}_labels.npy       uint8 [N], 0..9
pairs.csv                     file, row, label, part, recording, noise, snr_db of every row
dataset.json                  what it is, every rule, the validation rows, every file's checksum
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Required, TypedDict

import msgspec
import numpy as np

from AVMNIST_and_MIMIC.avmnist.preparation.rules import Rules
from i2m2.errors import DataError, SettingsError
from i2m2.files import is_vacant
from i2m2.reading.records import read_record

RECIPE = 1  # raised when the same rules would give other values
COLUMNS = ("file", "row", "label", "part", "recording", "noise", "snr_db")
FILES = (
    "image/train_data.npy",
    "image/test_data.npy",
    "audio/train_data.npy",
    "audio/test_data.npy",
    "train_labels.npy",
    "test_labels.npy",
    "pairs.csv",
)
Facts = dict[str, Any]  # of dataset.json, whose values are numbers, texts, lists and mappings
REMEDY = "prepare the folder again"
IDENTITY = ("variant", "recipe", "seed", "settings", "inputs")


class FileFacts(TypedDict, total=False):
    """Of a file."""

    bytes: Required[int]
    sha256: Required[str]
    shape: list[int]
    dtype: str


class Counts(TypedDict):
    """Of the three parts."""

    train: int
    val: int
    test: int


class SpeechFacts(TypedDict):
    """Recordings of each part."""

    recordings: Counts


class Stored(TypedDict):
    """dataset.json, as far as it is read back."""

    variant: str
    synthetic: bool
    description: str
    recipe: int
    seed: int
    settings: Facts
    inputs: dict[str, str]
    files: dict[str, FileFacts]
    validation_rows: Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]
    counts: Counts
    speech: SpeechFacts
    components: int
    explained: float


@dataclass(frozen=True)
class Label:
    """What the folder says it is."""

    variant: str
    synthetic: bool
    description: str
    seed: int = 0


def facts_of(rules: Rules, label: Label, sha256: Mapping[str, str]) -> Facts:
    """What dataset.json says before anything is built."""
    facts = {
        "dataset": "avmnist",
        "variant": label.variant,
        "synthetic": label.synthetic,
        "description": label.description,
        "recipe": RECIPE,
        "seed": label.seed,
        "settings": asdict(rules),
        "inputs": dict(sha256),
    }
    return json.loads(json.dumps(facts))  # tuples as lists, as they will be read back


def holds(out: Path, facts: Facts) -> bool:
    """Whether `out` is this very data set; SettingsError if it holds anything else, DataError if a
    file of it is missing or was changed."""
    if is_vacant(out):
        return False
    try:
        stored = read_record(out / "dataset.json", Stored, REMEDY)
    except DataError:
        raise SettingsError(
            f"{out} is not empty and not a folder this command wrote; "
            "give another --out, or remove it"
        ) from None
    differing = [key for key in IDENTITY if stored[key] != facts[key]]
    if "settings" in differing:
        before, now = stored["settings"], facts["settings"]
        differing += [f"settings.{key}" for key in now if before.get(key) != now[key]]
        differing.remove("settings")
    if differing:
        raise SettingsError(
            f"{out} holds a data set prepared otherwise ({', '.join(differing)} differ); "
            "give another --out, or remove it"
        )
    refuse_changed(out, stored, f"remove {out}, then give this command again")
    return True


def refuse_changed(folder: Path, facts: Stored, remedy: str) -> None:
    """DataError for a file that is not as dataset.json records it."""
    for name, recorded in facts["files"].items():
        path, what = folder / name, ""
        if not path.is_file():
            what = "is missing"
        elif path.stat().st_size != recorded["bytes"]:
            what = f"{path.stat().st_size} bytes, dataset.json records {recorded['bytes']}"
        elif sha256_of(path) != recorded["sha256"]:
            what = "its sha256 differs from the one in dataset.json: it was changed afterwards"
        if what:
            raise DataError(f"{path}: {what}; {remedy}")


def read_facts(folder: Path) -> Stored | None:
    """dataset.json, or None where there is none."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; prepare it first "
            "(python -m AVMNIST_and_MIMIC.prepare_avmnist --help)"
        )
    path = folder / "dataset.json"
    return read_record(path, Stored, REMEDY) if path.exists() else None


def summary(folder: Path) -> str:
    """Two lines: what a prepared folder holds."""
    facts = read_facts(folder)
    counts, recordings = facts["counts"], facts["speech"]["recordings"]
    return (
        f"avmnist, variant {facts['variant']}: {facts['description']}\n"
        f"pairs: {counts['train']} train, {counts['val']} val, {counts['test']} test; "
        f"recordings: {recordings['train']}, {recordings['val']}, {recordings['test']}; "
        f"images: {facts['components']} components, {facts['explained']:.1%} of the variance"
    )


def describe(path: Path) -> Facts:
    """Shape, dtype (arrays only), bytes and sha256 of a file."""
    facts: Facts = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        facts = {"shape": list(array.shape), "dtype": str(array.dtype), **facts}
    return facts


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
