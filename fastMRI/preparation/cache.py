"""The prepared folder.

volumes/<volume>.h5   `image` complex64 [S, 320, 320] and `rss` float32 [S, 320, 320], one chunk per
                      slice, uncompressed: noise hardly compresses, and reading would be several
                      times slower; attributes: see `write_volume`
slices.csv            a row per slice: volume, slice, part, patient and the four labels; volumes and
                      slices ascending
dataset.json          what it is, the settings, the counts, the audit. Written last: a folder
                      without it is unfinished
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import msgspec
import numpy as np

from fastMRI.preparation.facts import DatasetFacts, PreparedVolume, Settings
from fastMRI.preparation.hdf5 import UNREADABLE, fault_of
from fastMRI.preparation.labels import LABELS
from fastMRI.preparation.volumes import Volume
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic, write_text
from i2m2.reading.paths import damaged, what_else
from i2m2.reading.records import read_record

RECIPE = 1  # counts up when the same settings give other volumes
HEADER = ("volume", "slice", "part", "patient", *LABELS)
LEFTOVERS = ("volumes/.*.tmp.*.h5", ".*.tmp.slices.csv", ".*.tmp.dataset.json")
BLOCK, BLOCKS = 1 << 16, 16  # bytes of a raw file that are compared, and in how many places
ATTRIBUTES = ("acquisition", "patient_id", "max")
AGAIN = "delete it and give the command of the preparation again"

Row = tuple[str | int, ...]  # of slices.csv, as HEADER says


def settings_hash(settings: Settings) -> str:
    """16 hexadecimal digits that stand for the settings of the volumes."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def stamp(path: Path) -> str:
    """Name and the first digits of the sha256 of a list that labels or parts come from."""
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def digest_of(sources: Iterable[Path]) -> str:
    """What stands for the content of raw files: their sizes, the attributes that matter, and blocks
    spread over them. Reading all of their gigabytes would take as long as preparing them."""
    digest = hashlib.sha256()
    for path in sources:
        with h5py.File(path, "r") as file:  # whose attributes may lie between the blocks
            known = [str(_plain(file.attrs.get(key))) for key in ATTRIBUTES]
        size = path.stat().st_size
        digest.update(ascii([size, known]).encode())
        with open(path, "rb") as file:
            for start in np.linspace(0, max(size - BLOCK, 0), BLOCKS).astype(int).tolist():
                file.seek(start)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()[:16]


def write_volume(path: Path, volume: Volume, settings: Settings, source_digest: str) -> None:
    """Write one prepared volume atomically.

    Attributes: the fields of `PreparedVolume` but the number of slices; the settings as JSON.
    """
    attributes = msgspec.to_builtins(volume.facts)
    attributes["source_digest"] = source_digest
    attributes["settings"] = json.dumps(settings, sort_keys=True)
    attributes["settings_hash"] = settings_hash(settings)
    attributes["crc32"] = crc32(volume.image, volume.rss)

    # In memory first: HDF5 itself crashes where a disk is full.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for name, array in (("image", volume.image), ("rss", volume.rss)):
            file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]))
        file.attrs.update(attributes)
        file.flush()
        content = file.id.get_file_image()
    # Never beside volumes that it does not describe.
    (path.parent.parent / "dataset.json").unlink(missing_ok=True)
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def crc32(*arrays: np.ndarray) -> int:
    """Checksum of the arrays' bytes, slice by slice: of all slices of the first, then of the
    next."""
    value = 0
    for array in arrays:
        for index in range(len(array)):
            value = zlib.crc32(np.ascontiguousarray(array[index]), value)
    return value


def describe(path: Path) -> PreparedVolume | None:
    """What a prepared volume says of itself; None if there is none, or it is damaged. DataError if
    it is locked."""
    if what_else(path):  # a pipe, say, which has no end
        return None
    try:
        with h5py.File(path, "r") as file:
            attributes = {key: _plain(value) for key, value in file.attrs.items()}
            attributes["slices"] = len(file["image"])
        attributes["settings"] = json.loads(attributes["settings"])
        return msgspec.convert(attributes, PreparedVolume)
    except UNREADABLE as error:
        if "unable to lock" in str(error):
            raise fault_of(path, error, AGAIN) from error
        return None


def _plain(value: object) -> object:
    """An attribute without NumPy's types."""
    return value.tolist() if hasattr(value, "tolist") else value


def volumes_in(out: Path) -> dict[str, Path]:
    """{volume: file} of the prepared volumes, ascending."""
    files = sorted((out / "volumes").glob("*.h5"))
    return {path.stem: path for path in files if not path.name.startswith(".")}


class Begun(NamedTuple):
    """What a folder holds already: the volumes, and dataset.json if it is whole."""

    volumes: dict[str, PreparedVolume]
    facts: DatasetFacts | None

    def sources(self, volumes: Mapping[str, PreparedVolume]) -> str | None:
        """What stands for the content of the raw volumes, by name. None where an earlier version
        recorded nothing and the volumes are still its own: runs know them by that dataset.json."""
        before, now = (
            {name: volume.crc32 for name, volume in of.items()} for of in (self.volumes, volumes)
        )
        if self.facts and self.facts.sources is None and before == now:
            return None
        digests = sorted((name, volume.source_digest) for name, volume in volumes.items())
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def begin(
    out: Path, settings: Settings, labelled_with: Mapping[str, str], sources: Mapping[str, Path]
) -> Begun:
    """Remove what a killed preparation left half written, and return what it finished.

    DataError if the folder holds files of others, which would be lost. SettingsError if it was made
    with other `settings` (of the volumes), or was `labelled_with` other lists or another split.
    """
    files = volumes_in(out)
    done = {name: describe(path) for name, path in files.items()}
    foreign = [files[name] for name, volume in done.items() if volume is None]
    table = out / "slices.csv"
    if table.is_file() and not table.read_bytes().startswith(",".join(HEADER).encode()):
        foreign.append(table)
    if foreign:
        raise DataError(
            f"{foreign[0]}: not written by this preparation, or damaged since; "
            "move it away (or delete it, if it is damaged) and give the same command again, "
            "or give another --out"
        )
    for name, volume in done.items():
        if volume.settings != settings:
            what = differing(volume.settings, settings)
            raise SettingsError(
                f"{out / 'volumes' / name}.h5 has other settings: {what}; "
                "give another --out, or delete that folder"
            )
    for pattern in LEFTOVERS:
        for leftover in out.glob(pattern):
            leftover.unlink(missing_ok=True)
    if strangers := sorted(set(files) - set(sources)):
        raise SettingsError(
            f"{out}: holds {len(strangers)} volumes that are not among the raw ones, "
            f"such as {strangers[0]}; "
            "give the folder they came from as well (--raw DIR DIR), or another --out"
        )
    facts = read_facts(out) if (out / "dataset.json").exists() else None
    if facts and _by_content(facts.labelled_with) != _by_content(labelled_with):
        raise SettingsError(
            f"{out} has other settings: {differing(facts.labelled_with, labelled_with)}; "
            "give another --out, or delete dataset.json and slices.csv there, "
            "which keeps the volumes and labels them anew"
        )
    return Begun(done, facts)


def _by_content(labelled_with: Mapping[str, str]) -> dict[str, str]:
    """Without the names of the lists, see `stamp`."""
    return {key: value.rpartition(" ")[2] for key, value in labelled_with.items()}


def differing(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """'scale max, now percentile, ...'"""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)}, now {new.get(key)}" for key in keys)


def table_text(rows: list[Row]) -> str:
    """Content of slices.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    return text.getvalue()


def finish(out: Path, table: str, facts: DatasetFacts) -> None:
    """Write slices.csv and dataset.json; files that hold the same already are left alone, as runs
    know the data by them."""
    described = json.dumps(msgspec.to_builtins(facts), indent=2, allow_nan=False) + "\n"
    for name, content in (("slices.csv", table), ("dataset.json", described)):
        path = out / name
        if not path.exists() or path.read_bytes() != content.encode():
            # Never beside a table that it does not describe.
            (out / "dataset.json").unlink(missing_ok=True)
            write_text(path, content)


def read_facts(out: Path) -> DatasetFacts:
    """dataset.json. DataError if it is missing or not what the preparation writes."""
    path = out / "dataset.json"
    if not path.exists():
        what = "so the preparation has not finished" if out.is_dir() else "as is the folder"
        raise DataError(
            f"{path} is missing, {what}; give its command again (python -m fastMRI.prepare --help)"
        )
    content = read_record(path, dict[str, Any], AGAIN)
    needed = {field.name for field in msgspec.structs.fields(DatasetFacts) if field.required}
    if missing := needed - set(content):
        raise damaged(path, f"no {', '.join(sorted(missing))}", AGAIN)
    try:
        return msgspec.convert(content, DatasetFacts, str_keys=True)
    except ValueError as error:
        raise damaged(path, error, AGAIN) from error
