"""Audit of a prepared folder: every volume readable, whole, finite and unchanged; the table of
slices in agreement with it all."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, NoReturn

import h5py
import numpy as np

from fastMRI.preparation import cache, report
from fastMRI.preparation.facts import DatasetFacts
from fastMRI.preparation.fourier import SIZE
from fastMRI.preparation.hdf5 import array_in, check_slice, open_hdf5
from fastMRI.preparation.labels import LABELS, read_annotations, read_file_list
from fastMRI.preparation.parallel import each
from fastMRI.preparation.split import digest_by_part
from i2m2.errors import DataError


class Rows(NamedTuple):
    """A volume's rows of slices.csv."""

    slices: list[str]
    homes: set[tuple[str, str]]  # part and patient
    labels: np.ndarray  # [S, 4]


class Expected(NamedTuple):
    """What slices.csv and dataset.json say of a volume."""

    path: Path
    slices: int
    patient: str
    size: int
    settings_hash: str


def check(
    out: Path,
    annotations: Path | None = None,
    file_list: Path | None = None,
    workers: int | None = None,
) -> None:
    """Read everything and print a short report; DataError names the first thing that is wrong.

    With the annotations, the labels are derived once more and compared.
    """
    facts = cache.read_facts(out)
    tables = _tables(out, facts)
    _compare_files(out, list(tables))
    _compare_counts(out, facts, tables)
    if annotations is not None:
        _compare_labels(out, tables, annotations, file_list)
    size = SIZE // facts.settings["average"]
    jobs = []
    for name, rows in tables.items():
        path, (_, patient) = out / "volumes" / f"{name}.h5", min(rows.homes)
        jobs.append(Expected(path, len(rows.slices), patient, size, facts.settings_hash))
    for _ in each(check_volume, jobs, workers or os.cpu_count() or 1, "checking"):
        pass
    print(report.summary(facts))
    print(f"checked, all well: {out}")


def check_volume(expected: Expected) -> None:
    """Read one volume and compare it with what is expected of it."""
    path, patient = expected.path, expected.patient
    volume = cache.describe(path)
    if volume is None:
        _fail(path, "is damaged")
    if volume.settings_hash != expected.settings_hash:
        _fail(path, f"was made with other settings ({volume.settings}) than dataset.json records")
    if volume.patient_id != patient or not 0 < volume.scale < np.inf:
        _fail(
            path,
            f"patient {volume.patient_id}, scale {volume.scale}: slices.csv says patient {patient}",
        )
    shape = (expected.slices, expected.size, expected.size)
    with open_hdf5(path, cache.AGAIN) as file:
        image = _read(path, file, "image", shape, np.complex64)
        rss = _read(path, file, "rss", shape, np.float32)
    for key, array in (("image", image), ("rss", rss)):
        for index, one in enumerate(array):
            check_slice(path, key, index, one, cache.AGAIN)
    if cache.crc32(image, rss) != volume.crc32:
        _fail(path, "differs from what was written: its checksum is another")


def _read(
    path: Path, file: h5py.File, key: str, shape: tuple[int, ...], kind: type[np.generic]
) -> np.ndarray:
    """An array of a prepared volume, which must have this shape and type."""
    array = array_in(path, file, key, cache.AGAIN)
    if array.shape != shape or array.dtype != kind:
        stored = f"{array.dtype} {list(array.shape)}"
        _fail(path, f"{key} is {stored}, not {np.dtype(kind)} {list(shape)}")
    return array[()]


def _fail(path: Path, what: str) -> NoReturn:
    raise DataError(f"{path}: {what}; {cache.AGAIN}")


def _tables(out: Path, facts: DatasetFacts) -> dict[str, Rows]:
    """slices.csv by volume, as it was written."""
    path = out / "slices.csv"
    if not path.is_file():
        _fail(out / "dataset.json", "slices.csv beside it is missing")
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts.slices_csv_sha256:
        _fail(path, "its sha256 is not the one in dataset.json, so one of them was changed")
    rows_of = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows_of[row["volume"]].append(row)
    tables = {}
    for name, rows in rows_of.items():
        slices = [row["slice"] for row in rows]
        homes = {(row["part"], row["patient"]) for row in rows}
        labels = np.array([[int(row[label]) for label in LABELS] for row in rows])
        tables[name] = Rows(slices, homes, labels)
    return tables


def _compare_files(out: Path, names: list[str]) -> None:
    files = set(cache.volumes_in(out))
    if missing := sorted(set(names) - files):
        raise DataError(
            f"{out}/volumes: {len(missing)} volumes are missing, such as {missing[0]}.h5; "
            "prepare again"
        )
    if more := sorted(files - set(names)):
        raise DataError(
            f"{out}/volumes: {len(more)} volumes are not in slices.csv, such as {more[0]}.h5; "
            "prepare again"
        )


def _compare_counts(out: Path, facts: DatasetFacts, tables: dict[str, Rows]) -> None:
    """Slices 0, 1, 2 ... of every volume, one part per volume (and per patient, if split so),
    counts and hashes as recorded."""
    path, part_of, parts_of = out / "slices.csv", {}, defaultdict(set)
    for name, rows in tables.items():
        if rows.slices != [str(index) for index in range(len(rows.slices))] or len(rows.homes) != 1:
            _fail(path, f"volume {name}: its slices are not 0, 1, 2 ..., or lie in several parts")
        part_of[name], patient = min(rows.homes)
        parts_of[patient].add(part_of[name])
    counts, _ = report.counts_of(part_of, {name: rows.labels for name, rows in tables.items()})
    if counts != facts.counts or digest_by_part(part_of) != facts.split.prepared_sha256:
        _fail(
            out / "dataset.json",
            "its counts, or the hashes of its parts, are not those of slices.csv",
        )
    crossing = [patient for patient, parts in parts_of.items() if len(parts) > 1]
    if crossing and facts.split.by == "patient":
        _fail(path, f"patient {crossing[0]} is in several parts")


def _compare_labels(out: Path, tables: dict[str, Rows], annotations: Path, file_list: Path) -> None:
    annotated, listed = read_annotations(annotations), set(read_file_list(file_list)[0])
    for name, rows in tables.items():
        labels = annotated.labels(name, len(rows.slices))
        if name not in listed or not np.array_equal(rows.labels, labels):
            raise DataError(
                f"{out}/slices.csv: the labels of volume {name} are not those of {annotations}; "
                "delete dataset.json and slices.csv and prepare again"
            )
    print(f"labels: as in {annotations}")
