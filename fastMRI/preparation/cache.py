"""The prepared folder.

volumes/<volume>.h5   `image` complex64 [S, 320, 320] and `rss` float32 [S, 320, 320], one chunk per slice, uncompressed: noise
                      hardly compresses, and reading would be several times slower; attributes: see `write_volume`
slices.csv            a row per slice: volume, slice, part, patient and the four labels; volumes and slices ascending
dataset.json          what it is, the settings, the counts, the audit. Written last: a folder without it is unfinished
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fastMRI.preparation.labels import LABELS
from fastMRI.preparation.volumes import Volume
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic, write_text

RECIPE = 1  # counts up when the same settings give other volumes
HEADER = ("volume", "slice", "part", "patient", *LABELS)
REQUIRED = {
    "scale",
    "width",
    "header_width",
    "acquisition",
    "patient_id",
    "source",
    "source_bytes",
    "settings_hash",
    "crc32",
}
FACTS = {
    "variant",
    "settings",
    "settings_hash",
    "labelled_with",
    "split",
    "checks",
    "audit",
    "counts",
    "slices_csv_sha256",
}
AGAIN = "delete it and give the command of the preparation again"


def settings_hash(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for the settings of the volumes."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def stamp(path: Path) -> str:
    """Name and the first digits of the sha256 of a list that labels or parts come from."""
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def write_volume(path: Path, volume: Volume, settings: Mapping[str, Any]) -> None:
    """Write one prepared volume atomically.

    Attributes: scale (by which image and RSS were divided), width, header_width, acquired (columns
    of k-space), acquisition, patient_id, source, source_bytes, esc_deviation and rss_deviation
    (where they were compared), settings, settings_hash, crc32.
    """
    facts = {
        **volume.facts,
        "settings": json.dumps(settings, sort_keys=True),
        "settings_hash": settings_hash(settings),
    }

    def write(temporary: Path) -> None:
        try:
            with h5py.File(temporary, "w") as file:
                for name, array in (("image", volume.image), ("rss", volume.rss)):
                    file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]))
                file.attrs.update({**facts, "crc32": crc32(volume.image, volume.rss)})
        except RuntimeError as error:  # what h5py makes of a full disk while it closes a file
            raise OSError(str(error)) from error

    write_atomic(path, write)


def crc32(*arrays: np.ndarray) -> int:
    """Checksum of the arrays' bytes, slice by slice: of all slices of the first, then of the next."""
    value = 0
    for array in arrays:
        for index in range(len(array)):
            value = zlib.crc32(np.ascontiguousarray(array[index]), value)
    return value


def describe(path: Path) -> dict[str, Any] | None:
    """The attributes of a prepared volume as plain values, and its number of `slices`; None if
    there is none, or it is damaged."""
    try:
        with h5py.File(path, "r") as file:
            facts = {
                key: value.tolist() if hasattr(value, "tolist") else value
                for key, value in file.attrs.items()
            }
            facts |= {"slices": len(file["image"]), "settings": json.loads(facts["settings"])}
            return facts if set(facts) >= REQUIRED else None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return None


def volumes_in(out: Path) -> dict[str, Path]:
    """{volume: file} of the prepared volumes, ascending."""
    return {
        path.stem: path
        for path in sorted((out / "volumes").glob("*.h5"))
        if not path.name.startswith(".")
    }


def begin(
    out: Path, settings: Mapping[str, Any], relevant: Mapping[str, Any], sources: Mapping[str, Path]
) -> dict[str, Any]:
    """Remove what a killed preparation left half written, and return {volume: facts} of what it
    finished.

    SettingsError if the folder was made with other `settings` (of the volumes), or other `relevant`
    things (of labels and parts).
    """
    for folder in (out, out / "volumes"):
        for leftover in folder.glob(".*.tmp.*"):
            leftover.unlink(missing_ok=True)
    done = {name: facts for name, path in volumes_in(out).items() if (facts := describe(path))}
    for name, facts in done.items():
        if facts["settings"] != settings:
            what = differing(facts["settings"], settings)
            raise SettingsError(
                f"{out / 'volumes' / name}.h5 has other settings: {what}; give another --out, or delete that folder"
            )
    if strangers := sorted(set(volumes_in(out)) - set(sources)):
        raise SettingsError(
            f"{out}: holds {len(strangers)} volumes that are not among the raw ones, such as {strangers[0]}; "
            "give the folder they came from as well (--raw DIR DIR), or another --out"
        )
    if (out / "dataset.json").exists():
        recorded = read_facts(out)["labelled_with"]
        if recorded != relevant:
            raise SettingsError(
                f"{out} has other settings: {differing(recorded, relevant)}; give another --out, or delete dataset.json and "
                "slices.csv there, which keeps the volumes and labels them anew"
            )
    return done


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """'scale max, now percentile, ...'"""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)}, now {new.get(key)}" for key in keys)


def finish(out: Path, rows: list[tuple[Any, ...]], facts: dict[str, Any]) -> None:
    """Write slices.csv and dataset.json; files that hold the same already are left alone, as runs
    know the data by them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    facts["slices_csv_sha256"] = hashlib.sha256(text.getvalue().encode()).hexdigest()
    described = json.dumps(facts, indent=2, allow_nan=False) + "\n"
    for name, content in (("slices.csv", text.getvalue()), ("dataset.json", described)):
        path = out / name
        if not path.exists() or path.read_bytes() != content.encode():
            (out / "dataset.json").unlink(
                missing_ok=True
            )  # never beside a table that it does not describe
            write_text(path, content)


def read_facts(out: Path) -> dict[str, Any]:
    """dataset.json."""
    path = out / "dataset.json"
    if not path.exists():
        missing = (
            "is missing, so the preparation has not finished"
            if out.is_dir()
            else "is missing, as is the folder"
        )
        raise DataError(
            f"{path} {missing}; give its command again (python -m fastMRI.prepare --help)"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if missing := FACTS - set(facts):
            raise ValueError(f"no {', '.join(sorted(missing))}")
        return facts
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not what the preparation writes ({error}); {AGAIN}") from error
