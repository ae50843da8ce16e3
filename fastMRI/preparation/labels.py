"""fastMRI+'s annotations of the knee volumes as four labels per slice."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastMRI.preparation.split import PARTS, digest, split
from i2m2.errors import DataError

LABELS = (
    "others",
    "meniscus",
    "acl",
    "cartilage",
)  # `others`: any finding that is none of the three named ones
COLUMNS = ("file", "slice", "study_level", "label")  # that are used; the others are the box
# The 22 strings of the published file. Its irregular spellings are kept; trailing blanks are not.
VOCABULARY = frozenset((
    "Meniscus Tear", "Cartilage - Partial Thickness loss/defect", "Cartilage - Full Thickness loss/defect",
    "Ligament - ACL Low Grade sprain", "Ligament - ACL High Grade Sprain", "Joint Effusion", "Bone-Fracture/Contusion/dislocation",
    "Bone- Subchondral edema", "Periarticular cysts", "Ligament - MCL Low-Mod Grade Sprain", "Displaced Meniscal Tissue",
    "Bone - Lesion", "Ligament - PCL Low-Mod grade sprain", "LCL Complex - Low-Mod Grade Sprain", "Soft Tissue Lesion",
    "Muscle Strain", "Joint Bodies", "Patellar Retinaculum - High grade sprain", "Ligament - PCL High Grade",
    "LCL Complex- High Grade Sprain", "artifact", "Ligament - MCL High Grade sprain",
))  # fmt: skip
# The paper's counts: annotations, and "subjects", which are volumes. Its 710 are 594: the 116
# volumes with both partial and full cartilage loss count twice.
PAPER = {"meniscus": (5_658, 663), "acl": (1_443, 254), "cartilage": (3_600, 710)}


class Annotations(NamedTuple):
    """The rows of knee.csv, without those of the study level, which are no finding of the slice 0
    they name."""

    findings: dict[str, dict[int, set[str]]]  # volume -> slice -> labels
    places: dict[
        str, list[tuple[str, int]]
    ]  # string, without blanks at its ends -> volume and slice of its rows, duplicates too
    study_level: list[str]  # volumes, one per row left out
    duplicates: int  # rows that repeat another one exactly; they change no label
    trailing_blanks: int  # rows whose label ends in a blank
    unknown: Counter[str]  # strings that are not in the published vocabulary

    def last_slice(self, volume: str) -> int:
        """Highest annotated slice; -1 if there is none."""
        return max(self.findings.get(volume, ()), default=-1)

    def labels(self, volume: str, slices: int) -> np.ndarray:
        """uint8 [slices, 4]: all zero where nothing is annotated, since the volume was read."""
        found = self.findings.get(volume, {})
        return np.array(
            [[label in found.get(index, ()) for label in LABELS] for index in range(slices)],
            np.uint8,
        )


def label_of(finding: str) -> str:
    """The task of one annotation; the first rule that fits. ("ACL" does not occur in PCL, MCL or
    LCL.)"""
    if "ACL" in finding:
        return "acl"
    if "Meniscus Tear" in finding:
        return "meniscus"
    return "cartilage" if "cartilage" in finding.lower() else "others"


def read_annotations(path: Path) -> Annotations:
    """Read knee.csv. DataError names the first line that is not as it should be."""
    read = Annotations(
        defaultdict(lambda: defaultdict(set)), defaultdict(list), [], 0, 0, Counter()
    )
    seen, duplicates, blanks = set(), 0, 0
    for place, row in annotation_rows(path):
        volume, index, level, finding = (row[column] for column in COLUMNS)
        volume, stripped = volume.strip().removesuffix(".h5"), finding.strip()
        if (
            not index.strip().isdecimal()
            or level.strip().lower() not in ("yes", "no")
            or not volume
            or not stripped
        ):
            what = f"file {volume!r}, slice {index!r}, study_level {level!r}, label {finding!r}"
            raise DataError(
                f"{place}: {what} is no annotation; mend the line, or download the file again"
            )
        duplicates += tuple(row.items()) in seen
        seen.add(tuple(row.items()))
        blanks += finding != stripped
        if stripped not in VOCABULARY:
            read.unknown[stripped] += 1
        if level.strip().lower() == "yes":
            read.study_level.append(volume)
        else:
            read.places[stripped].append((volume, int(index)))
            read.findings[volume][int(index)].add(label_of(stripped))
    findings = {volume: dict(slices) for volume, slices in sorted(read.findings.items())}
    return read._replace(
        findings=findings, places=dict(read.places), duplicates=duplicates, trailing_blanks=blanks
    )


def annotation_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of knee.csv: ("knee.csv: line 2", {column: text}). DataError if it cannot be read,
    or a line has other fields."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: has no column {', '.join(missing)}; give fastMRI+'s knee.csv"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}: line {reader.line_num} has not {len(reader.fieldnames)} fields; download it again"
                    )
                yield f"{path}: line {reader.line_num}", row
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); give fastMRI+'s knee.csv") from error


def read_file_list(path: Path) -> tuple[list[str], list[str]]:
    """-> volumes of knee_file_list.csv, ascending, and the stray lines at its end (the published
    one ends in `Knee data`)."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); give fastMRI+'s knee_file_list.csv"
        ) from error
    names: list[str] = []
    stray: list[str] = []
    for number, line in enumerate(lines, start=1):
        if re.fullmatch(r"file\d+(\.h5)?", line):
            names.append(line.removesuffix(".h5"))
            if stray:
                raise DataError(
                    f"{path}: {stray[-1]!r}, before line {number}, is no volume's name; give fastMRI+'s knee_file_list.csv"
                )
        elif line:
            stray.append(line)
    if not names or len(stray) > 1 or len(set(names)) < len(names):
        what = f"{len(names)} volumes, {len(set(names))} distinct, and {len(stray)} other lines"
        raise DataError(
            f"{path}: {what}, not one name such as file1000000 per line; give fastMRI+'s knee_file_list.csv"
        )
    return sorted(names), stray


def audit_labels(
    volumes: Sequence[str], stray: Sequence[str], annotations: Annotations
) -> dict[str, Any]:
    """Counts of the annotations, and of the listed volumes' parts, split by volume; without the
    study-level rows.

    `findings`: the same for every string of the file, the most frequent first.
    """
    part_of, findings = split(volumes), annotations.findings
    rows = Counter({label: 0 for label in LABELS})
    for finding, places in annotations.places.items():
        rows[label_of(finding)] += len(places)
    tasks = [labels for slices in findings.values() for labels in slices.values()]
    any_label = {"rows": rows.total(), "slices": len(tasks), "volumes": len(findings)}
    per_volume = Counter(len(set().union(*slices.values())) for slices in findings.values())
    parts = {part: [volume for volume in volumes if part_of[volume] == part] for part in PARTS}
    return {
        "volumes": len(volumes),
        "labels": {
            label: {"rows": rows[label], **counts} for label, counts in _positives(findings, findings).items()
        } | {"any": any_label},
        "findings": {
            finding: {"rows": len(places), "slices": len(set(places)), "volumes": len({volume for volume, _ in places})}
            for finding, places in sorted(annotations.places.items(), key=lambda item: (-len(item[1]), item[0]))
        },
        "parts": {
            part: {
                "volumes": len(names),
                "annotated_volumes": sum(name in findings for name in names),
                "annotated_slices": sum(len(findings.get(name, ())) for name in names),
                "sha256": digest(names),
                "labels": _positives(findings, names),
            }
            for part, names in parts.items()
        },
        "slices_with_both": {f"{a}+{b}": sum({a, b} <= labels for labels in tasks) for a, b in combinations(LABELS, 2)},
        "slices_by_number_of_labels": {n: sum(len(labels) == n for labels in tasks) for n in range(1, 5)},
        "volumes_by_number_of_labels": {n: per_volume[n] for n in range(1, 5)},
        "volumes_without_rows": len(set(volumes) - set(findings) - set(annotations.study_level)),
        "volumes_without_findings": len(set(volumes) - set(findings)),
        "annotated_volumes_not_listed": sorted(set(findings) - set(volumes)),
        "study_level": {"rows": len(annotations.study_level), "volumes": len(set(annotations.study_level))},
        "duplicates": annotations.duplicates,
        "trailing_blanks": annotations.trailing_blanks,
        "unknown_labels": dict(annotations.unknown),
        "stray_lines": list(stray),
    }  # fmt: skip


def _positives(
    findings: dict[str, dict[int, set[str]]], names: Iterable[str]
) -> dict[str, dict[str, int]]:
    """{label: {positive slices, positive volumes}} of the named volumes."""
    counts = {label: {"slices": 0, "volumes": 0} for label in LABELS}
    for name in names:
        slices = Counter(label for labels in findings.get(name, {}).values() for label in labels)
        for label, positive in slices.items():
            counts[label]["slices"] += positive
            counts[label]["volumes"] += 1
    return counts
