"""Audit of a prepared AV-MNIST folder, ours or the published tarball's content."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import numpy as np

from AVMNIST_and_MIMIC.avmnist.files import SHAPES, open_part
from AVMNIST_and_MIMIC.avmnist.preparation.layout import (
    COLUMNS,
    FILES,
    Facts,
    read_facts,
    refuse_changed,
    summary,
)
from i2m2.errors import DataError
from i2m2.reading.arrays import open_array

PARTS = ("train", "test")
AGAIN = "prepare or download the data again"


def check(folder: Path) -> None:
    """Read everything in `folder` and print a short report.

    DataError names the first thing that is wrong.
    """
    facts = read_facts(folder)
    labels = {part: _check_part(folder, part) for part in PARTS}
    if facts is None:
        print(
            "no dataset.json (not written by this project): checksums and pairs cannot be checked"
        )
    else:
        _check_files(folder, facts)
        _check_pairs(folder, facts, labels)
        print(summary(folder))
    print(f"checked, all well: {folder}")


def _check_part(folder: Path, part: str) -> np.ndarray:
    """Print a line per file of the training or the test files -> labels [N]."""
    arrays = open_part(folder, part)
    for modality in SHAPES:
        name, array = f"{modality}/{part}_data.npy", arrays[modality]
        low, high = _range(folder / name, array)
        print(f"{name}: {array.shape} {array.dtype}, {low:.1f}..{high:.1f}")
    labels = arrays["y"]
    if not len(labels):
        _fail(folder / f"{part}_labels.npy", "is empty")
    counts = np.bincount(labels, minlength=10).tolist()
    print(f"{part}_labels.npy: {len(labels)} labels, {counts} of 0..9")
    return labels


def _fail(path: Path, what: str) -> NoReturn:
    raise DataError(f"{path}: {what}; {AGAIN}")


def _range(path: Path, array: np.ndarray) -> tuple[float, float]:
    """Minimum and maximum, read in blocks; NaN and infinity are refused."""
    low, high = np.inf, -np.inf
    for start in range(0, len(array), 4096):
        block = array[start : start + 4096]
        if block.dtype.kind == "f":
            finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                _fail(path, f"row {row} holds NaN or infinite values")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    return low, high


def _check_files(folder: Path, facts: Facts) -> None:
    if missing := set(FILES) - set(facts["files"]):
        _fail(folder / "dataset.json", f"has no checksum of {', '.join(sorted(missing))}")
    refuse_changed(folder, facts, AGAIN)
    start, stop = facts["validation_rows"]
    rows = len(open_array(folder / "train_labels.npy", AGAIN))
    if not 0 < start < stop <= rows:
        _fail(folder / "dataset.json", f"validation_rows [{start}, {stop}] do not fit {rows} rows")


def _check_pairs(folder: Path, facts: Facts, labels: dict[str, np.ndarray]) -> None:
    """Every row's recording speaks its label, and no recording is heard in two parts.

    Validation may share those of training by rule.
    """
    path, heard, rows = folder / "pairs.csv", defaultdict(set), defaultdict(int)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            _fail(path, f"its columns are not {', '.join(COLUMNS)}")
        for fields in reader:
            try:
                name, row, label, part, recording, *_ = fields
                spoken, label_there = recording.startswith(f"{label}_"), labels[name][int(row)]
            except (ValueError, KeyError, IndexError):
                _fail(path, f"line {reader.line_num} is no pair")
            if not spoken or label != str(label_there):
                _fail(
                    path,
                    f"{name} row {row}: label {label_there}, but its recording is {recording}",
                )
            heard[part].add(recording)
            rows[name] += 1
    expected = {name: len(labels[name]) for name in PARTS}
    if dict(rows) != expected:
        _fail(path, f"lists {dict(rows)} rows, but the labels have {expected}")
    shared = heard["test"] & (heard["train"] | heard["val"])
    if facts["settings"].get("val_takes"):
        shared |= heard["train"] & heard["val"]
    if shared:
        _fail(path, f"{len(shared)} recordings are heard in two parts, such as {min(shared)}")
    used = ", ".join(f"{len(names)} in {part}" for part, names in heard.items())
    print(f"pairs.csv: labels and recordings agree; recordings: {used}")
