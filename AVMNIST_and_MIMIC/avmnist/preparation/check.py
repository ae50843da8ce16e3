"""Audit of a prepared AV-MNIST folder, ours or the published tarball's content."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from AVMNIST_and_MIMIC.avmnist.files import NUM_CLASSES, SHAPES, open_part
from AVMNIST_and_MIMIC.avmnist.preparation.build import COLUMNS, sha256_of
from i2m2.errors import DataError

PARTS = ("train", "test")


def check(folder: Path) -> None:
    """Read everything in `folder` and print a short report; DataError names the first thing that is
    wrong."""
    facts = read_facts(folder)
    labels = {}
    for part in PARTS:
        arrays = open_part(folder, part)
        for modality in SHAPES:
            path, array = folder / f"{modality}/{part}_data.npy", arrays[modality]
            low, high = _range(path, array)
            print(f"{modality}/{part}_data.npy: {array.shape} {array.dtype}, {low:.1f}..{high:.1f}")
        labels[part] = _labels(folder / f"{part}_labels.npy", arrays["y"])
        print(
            f"{part}_labels.npy: {len(labels[part])} labels, {np.bincount(labels[part], minlength=10).tolist()} of 0..9"
        )
    if facts is None:
        print(
            "no dataset.json (not written by this project): checksums and pairs cannot be checked"
        )
    else:
        _check_files(folder, facts)
        _check_pairs(folder, facts, labels)
        print(summary(folder))
    print(f"checked, all well: {folder}")


def read_facts(folder: Path) -> dict[str, Any] | None:
    """dataset.json, or None where there is none."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; prepare it first (python -m AVMNIST_and_MIMIC.prepare_avmnist --help)"
        )
    path = folder / "dataset.json"
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        _ = facts["files"], facts["validation_rows"], facts["speech"], facts["counts"]
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: not a description that prepare_avmnist wrote; prepare the folder again"
        ) from None
    return facts


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


def _fail(path: Path, what: str) -> None:
    raise DataError(f"{path}: {what}. Prepare or download the data again")


def _labels(path: Path, labels: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero((labels < 0) | (labels >= NUM_CLASSES))
    if not len(labels) or len(wrong):
        _fail(
            path,
            f"row {wrong[0]} has label {labels[wrong[0]]}; labels are 0..9"
            if len(wrong)
            else "is empty",
        )
    return labels


def _range(path: Path, array: np.ndarray) -> tuple[float, float]:
    """Minimum and maximum, read in blocks; NaN and infinity are refused."""
    low, high = np.inf, -np.inf
    for start in range(0, len(array), 4096):
        block = array[start : start + 4096]
        finite = (
            np.isfinite(block).reshape(len(block), -1).all(axis=1)
            if block.dtype.kind == "f"
            else np.ones(1, bool)
        )
        if not finite.all():
            _fail(path, f"row {start + int(np.argmin(finite))} holds NaN or infinite values")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    return low, high


def _check_files(folder: Path, facts: dict[str, Any]) -> None:
    for name, recorded in facts["files"].items():
        path = folder / name
        if not path.is_file():
            _fail(path, "is missing")
        if path.stat().st_size != recorded["bytes"]:
            _fail(path, f"{path.stat().st_size} bytes, dataset.json records {recorded['bytes']}")
        if sha256_of(path) != recorded["sha256"]:
            _fail(
                path,
                "its sha256 differs from the one in dataset.json: it was changed after it was written",
            )
    start, stop = facts["validation_rows"]
    rows = facts["files"]["train_labels.npy"]["shape"][0]
    if not 0 < start < stop <= rows:
        _fail(folder / "dataset.json", f"validation_rows [{start}, {stop}] do not fit {rows} rows")


def _check_pairs(folder: Path, facts: dict[str, Any], labels: dict[str, np.ndarray]) -> None:
    """Every row's recording speaks its label, and no recording is heard in two parts (validation
    may share train's by rule)."""
    path, heard, rows = folder / "pairs.csv", defaultdict(set), defaultdict(int)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            _fail(path, f"its columns are not {', '.join(COLUMNS)}")
        for name, row, label, part, recording, *_ in reader:
            if not recording.startswith(f"{label}_") or int(label) != labels[name][int(row)]:
                _fail(
                    path,
                    f"{name} row {row}: label {labels[name][int(row)]}, but its recording is {recording}",
                )
            heard[part].add(recording)
            rows[name] += 1
    expected = {name: len(labels[name]) for name in PARTS}
    if dict(rows) != expected:
        _fail(path, f"lists {dict(rows)} rows, but the labels have {expected}")
    shared = heard["test"] & (heard["train"] | heard["val"])
    if facts["settings"]["val_takes"]:
        shared |= heard["train"] & heard["val"]
    if shared:
        _fail(path, f"{len(shared)} recordings are heard in two parts, such as {min(shared)}")
    used = ", ".join(f"{len(names)} in {part}" for part, names in heard.items())
    print(f"pairs.csv: labels and recordings agree; recordings: {used}")
