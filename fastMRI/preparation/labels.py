"""fastMRI+'s annotations of the knee volumes as four labels per slice."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastMRI.preparation.facts import Annotated, LabelAudit, PartAnnotations, Positives, StudyLevel
from fastMRI.preparation.split import PARTS, digest, split
from i2m2.errors import DataError
from i2m2.reading.paths import require_file

# `others`: any finding that is none of the three named ones.
LABELS = ("others", "meniscus", "acl", "cartilage")
COLUMNS = ("file", "slice", "study_level", "label")  # that are used; the others are the box
# The 22 strings of the published file. Its irregular spellings are kept; trailing blanks are not.
VOCABULARY = frozenset({
    "Meniscus Tear",
    "Cartilage - Partial Thickness loss/defect",
    "Cartilage - Full Thickness loss/defect",
    "Ligament - ACL Low Grade sprain",
    "Ligament - ACL High Grade Sprain",
    "Joint Effusion",
    "Bone-Fracture/Contusion/dislocation",
    "Bone- Subchondral edema",
    "Periarticular cysts",
    "Ligament - MCL Low-Mod Grade Sprain",
    "Displaced Meniscal Tissue",
    "Bone - Lesion",
    "Ligament - PCL Low-Mod grade sprain",
    "LCL Complex - Low-Mod Grade Sprain",
    "Soft Tissue Lesion",
    "Muscle Strain",
    "Joint Bodies",
    "Patellar Retinaculum - High grade sprain",
    "Ligament - PCL High Grade",
    "LCL Complex- High Grade Sprain",
    "artifact",
    "Ligament - MCL High Grade sprain",
})  # fmt: skip
SPELLING = {known.lower(): known for known in VOCABULARY}
# The paper's counts: annotations, and "subjects", which are volumes. Its 710 are 594: the 116
# volumes with both partial and full cartilage loss count twice.
PAPER = {"meniscus": (5_658, 663), "acl": (1_443, 254), "cartilage": (3_600, 710)}

Findings = dict[str, dict[int, set[str]]]  # volume -> slice -> labels


class Annotations(NamedTuple):
    """The rows of knee.csv, without those of the study level, which are no finding of the slice 0
    they name."""

    findings: Findings
    # String, without blanks at its ends -> volume and slice of its rows, duplicates too.
    places: dict[str, list[tuple[str, int]]]
    study_level: list[str]  # volumes, one per row left out
    duplicates: int  # rows that repeat another one exactly; they change no label
    trailing_blanks: int  # rows whose label ends in a blank
    unknown: Counter[str]  # strings that are not in the published vocabulary

    def last_slice(self, volume: str) -> int:
        """Highest annotated slice; -1 if there is none."""
        return max(self.findings.get(volume, ()), default=-1)

    def labels(self, volume: str, slices: int) -> np.ndarray:
        """uint8 [slices, 4]: all zero where nothing is annotated, since the volume was read."""
        table = np.zeros((slices, len(LABELS)), np.uint8)
        for index, labels in self.findings.get(volume, {}).items():
            if index < slices:
                table[index] = [label in labels for label in LABELS]
        return table


def label_of(finding: str) -> str:
    """The task of one annotation; the first rule that fits, whatever the case and the blanks.
    ("ACL" does not occur in PCL, MCL or LCL.)"""
    finding = _one_case(finding)
    if "acl" in finding:
        return "acl"
    if "meniscus tear" in finding:
        return "meniscus"
    return "cartilage" if "cartilage" in finding else "others"


def _one_case(finding: str) -> str:
    """In small letters, with one blank between words."""
    return " ".join(finding.lower().split())


def read_annotations(path: Path) -> Annotations:
    """Read knee.csv. DataError names the first line that is not as it should be."""
    findings: Findings = defaultdict(lambda: defaultdict(set))
    places, study_level, unknown = defaultdict(list), [], Counter()
    seen, duplicates, blanks = set(), 0, 0
    place, finding = "", ""
    for place, row in annotation_rows(path):
        volume, index, on_study_level, finding = _parse(place, row)
        values = tuple(row.values())
        duplicates += values in seen
        seen.add(values)
        blanks += row["label"] != row["label"].rstrip()
        if finding not in VOCABULARY:
            unknown[finding] += 1
        if on_study_level:
            study_level.append(volume)
        else:
            places[finding].append((volume, index))
            findings[volume][index].add(label_of(finding))
    _refuse_cut(place, finding)
    return Annotations(
        findings={volume: dict(slices) for volume, slices in sorted(findings.items())},
        places=dict(places),
        study_level=study_level,
        duplicates=duplicates,
        trailing_blanks=blanks,
        unknown=unknown,
    )


def _parse(place: str, row: dict[str, str]) -> tuple[str, int, bool, str]:
    """A line of knee.csv -> volume, slice, whether it is about the whole study, finding."""
    file, index, level, label = (row[column] for column in COLUMNS)
    volume, finding = file.strip().removesuffix(".h5"), label.strip()
    finding = SPELLING.get(_one_case(finding), finding)
    is_level = level.strip().lower() in ("yes", "no")
    if not (index.strip().isdecimal() and is_level and volume and finding):
        raise DataError(
            f"{place}: file {volume!r}, slice {index!r}, study_level {level!r}, label {label!r} "
            "is no annotation; fix the line, or download the file again"
        )
    return volume, int(index), level.strip().lower() == "yes", finding


def _refuse_cut(place: str, finding: str) -> None:
    """DataError if the last line's finding is the beginning of a known one: a copy that broke off
    there."""
    if not finding or finding in VOCABULARY:
        return
    start = _one_case(finding)
    if whole := [known for key, known in sorted(SPELLING.items()) if key.startswith(start)]:
        raise DataError(
            f"{place}: the label {finding!r} is the beginning of {whole[0]!r}, so the file is cut "
            "there; download it again"
        )


def annotation_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of knee.csv: ("knee.csv: line 2", {column: text}). DataError if it cannot be read,
    or a line has other fields."""
    remedy = "give fastMRI+'s knee.csv"
    require_file(path, remedy)
    try:
        # A byte that is no UTF-8 may stand in a column that nobody reads.
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            names = _fields(f"{path}: line 1", file.readline())
            if missing := [column for column in COLUMNS if column not in names]:
                absent = ", ".join(missing)
                raise DataError(f"{path}: cannot be read: it has no column {absent}; {remedy}")
            for number, line in enumerate(file, start=2):
                place = f"{path}: line {number}"
                fields = _fields(place, line)
                if fields and len(fields) != len(names):
                    raise DataError(f"{place} has not {len(names)} fields; download it again")
                if fields:
                    yield place, dict(zip(names, fields, strict=True))
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {remedy}") from error


def _fields(place: str, line: str) -> list[str]:
    """Of one line, none of a blank one. Fields do not go on in the next line, so that a quotation
    mark without its partner takes no other line away."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise DataError(
            f"{place}: its quotation marks are not in pairs around fields ({error}); "
            "fix the line, or download the file again"
        ) from error


def read_file_list(path: Path) -> tuple[list[str], list[str]]:
    """-> volumes of knee_file_list.csv, ascending, and the stray lines at its end (the published
    one ends in `Knee data`)."""
    remedy = "give fastMRI+'s knee_file_list.csv"
    require_file(path, remedy)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {remedy}") from error
    names: list[str] = []
    stray: list[str] = []
    for number, line in enumerate(lines, start=1):
        if re.fullmatch(r"file\d+(\.h5)?", line):
            names.append(line.removesuffix(".h5"))
            if stray:
                raise DataError(
                    f"{path}: {stray[-1]!r}, before line {number}, is no volume's name; {remedy}"
                )
        elif line:
            stray.append(line)
    if not names or len(stray) > 1 or len(set(names)) < len(names):
        raise DataError(
            f"{path}: {len(names)} volumes, {len(set(names))} distinct, and {len(stray)} other "
            f"lines, not one name such as file1000000 per line; {remedy}"
        )
    return sorted(names), stray


def audit_labels(
    volumes: Sequence[str], stray: Sequence[str], annotations: Annotations
) -> LabelAudit:
    """Counts of the annotations, and of the listed volumes' parts, split by volume."""
    findings, study_level = annotations.findings, annotations.study_level
    labels_of_slices = [labels for slices in findings.values() for labels in slices.values()]
    labels_of_volumes = [set().union(*slices.values()) for slices in findings.values()]
    return LabelAudit(
        volumes=len(volumes),
        labels=_by_label(annotations),
        findings=_by_finding(annotations),
        parts=_by_part(volumes, findings),
        slices_with_both={
            f"{a}+{b}": sum({a, b} <= labels for labels in labels_of_slices)
            for a, b in combinations(LABELS, 2)
        },
        slices_by_number_of_labels=_by_number(labels_of_slices),
        volumes_by_number_of_labels=_by_number(labels_of_volumes),
        volumes_without_rows=len(set(volumes) - set(findings) - set(study_level)),
        volumes_without_findings=len(set(volumes) - set(findings)),
        annotated_volumes_not_listed=sorted(set(findings) - set(volumes)),
        study_level=StudyLevel(rows=len(study_level), volumes=len(set(study_level))),
        duplicates=annotations.duplicates,
        trailing_blanks=annotations.trailing_blanks,
        unknown_labels=dict(annotations.unknown),
        stray_lines=list(stray),
    )


def _by_label(annotations: Annotations) -> dict[str, Annotated]:
    """Of every label, and of any."""
    findings = annotations.findings
    rows = dict.fromkeys(LABELS, 0)
    for finding, places in annotations.places.items():
        rows[label_of(finding)] += len(places)
    counts = {
        label: Annotated(rows=rows[label], slices=positive.slices, volumes=positive.volumes)
        for label, positive in _positives(findings, findings).items()
    }
    slices = sum(map(len, findings.values()))
    any_label = Annotated(rows=sum(rows.values()), slices=slices, volumes=len(findings))
    return counts | {"any": any_label}


def _by_finding(annotations: Annotations) -> dict[str, Annotated]:
    """Of every string, the most frequent first."""
    ordered = sorted(annotations.places.items(), key=lambda item: (-len(item[1]), item[0]))
    counts = {}
    for finding, places in ordered:
        volumes = {volume for volume, _ in places}
        counts[finding] = Annotated(rows=len(places), slices=len(set(places)), volumes=len(volumes))
    return counts


def _by_part(volumes: Sequence[str], findings: Findings) -> dict[str, PartAnnotations]:
    part_of = split(volumes)
    counts = {}
    for part in PARTS:
        names = [volume for volume in volumes if part_of[volume] == part]
        counts[part] = PartAnnotations(
            volumes=len(names),
            annotated_volumes=sum(name in findings for name in names),
            annotated_slices=sum(len(findings.get(name, ())) for name in names),
            sha256=digest(names),
            labels=_positives(findings, names),
        )
    return counts


def _by_number(label_sets: Iterable[set[str]]) -> dict[int, int]:
    """{number of labels: how many have it}"""
    counts = Counter(map(len, label_sets))
    return {number: counts[number] for number in range(1, len(LABELS) + 1)}


def _positives(findings: Findings, names: Iterable[str]) -> dict[str, Positives]:
    """{label: positive slices and volumes} of the named volumes."""
    slices, volumes = Counter(), Counter()
    for name in names:
        of_volume = Counter(label for labels in findings.get(name, {}).values() for label in labels)
        slices += of_volume
        volumes.update(of_volume.keys())
    return {label: Positives(slices=slices[label], volumes=volumes[label]) for label in LABELS}
