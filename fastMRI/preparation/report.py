"""What dataset.json says of a preparation, and what is printed of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np

from fastMRI.preparation.facts import (
    Audit,
    Checks,
    DatasetFacts,
    Deviation,
    LabelAudit,
    PartCounts,
    Positives,
    PreparedVolume,
    Settings,
    SplitFacts,
)
from fastMRI.preparation.fourier import SIZE
from fastMRI.preparation.labels import LABELS, PAPER
from fastMRI.preparation.split import PARTS
from fastMRI.preparation.volumes import PERCENTILE, TOLERANCE

Key = TypeVar("Key")


def counts_of(
    part_of: Mapping[str, str], labels: Mapping[str, np.ndarray]
) -> tuple[dict[str, PartCounts], dict[str, dict[str, list[int]]]]:
    """{volume: part}, {volume: labels [S, 4]} -> {part: counts}, {part: {label: [negative slices,
    positive slices]}}."""
    counts, classes = {}, {}
    for part in PARTS:
        tables = [labels[volume] for volume in part_of if part_of[volume] == part]
        none = np.zeros((0, len(LABELS)), int)
        of_slices = np.concatenate([none, *tables])
        of_volumes = np.concatenate([none, *(table.any(axis=0)[None] for table in tables)])
        positive, total = {}, len(of_slices)
        for place, label in enumerate(LABELS):
            slices, volumes = of_slices[:, place].sum(), of_volumes[:, place].sum()
            positive[label] = Positives(slices=int(slices), volumes=int(volumes))
        counts[part] = PartCounts(volumes=len(tables), slices=total, **positive)
        classes[part] = {name: [total - one.slices, one.slices] for name, one in positive.items()}
    return counts, classes


def checks_of(volumes: Mapping[str, PreparedVolume]) -> Checks:
    """What was compared with the stored reconstructions and the headers."""
    return Checks(
        header_width_differs=[
            name for name, volume in volumes.items() if volume.header_width != volume.width
        ],
        esc_deviation=_worst({name: volume.esc_deviation for name, volume in volumes.items()}),
        rss_deviation=_worst({name: volume.rss_deviation for name, volume in volumes.items()}),
    )


def _worst(deviations: Mapping[str, float | None]) -> Deviation | None:
    compared = {name: value for name, value in deviations.items() if value is not None}
    if not compared:
        return None
    worst = max(compared, key=compared.get)
    return Deviation(volumes=len(compared), worst=compared[worst], of=worst)


def audit_of(
    given: int,
    missing: int,
    dropped: Mapping[str, str],
    volumes: Mapping[str, PreparedVolume],
    annotations: LabelAudit,
) -> Audit:
    """How many volumes were given, are missing, were dropped and why, and are prepared."""
    widths = _frequencies(volume.width for volume in volumes.values())
    return Audit(
        raw_volumes=given,
        dropped=dict(dropped),
        prepared_volumes=len(volumes),
        listed_volumes_without_raw_file=missing,
        slices=sum(volume.slices for volume in volumes.values()),
        widths={str(width): number for width, number in widths.items()},
        acquisitions=_frequencies(volume.acquisition for volume in volumes.values()),
        annotations=annotations,
    )


def _frequencies(values: Iterable[Key]) -> dict[Key, int]:
    return dict(sorted(Counter(values).items()))


def variant_of(settings: Settings, synthetic: bool) -> str:
    """native, official_code, native-avg4, synthetic-native-avg4, native-max (the scale),
    native-coils (RSS) ..."""
    words = [
        "synthetic" if synthetic else "",
        settings["geometry"],
        f"avg{settings['average']}" if settings["average"] > 1 else "",
        "max" if settings["scale"] == "max" else "",
        "coils" if settings["rss"] == "coils" else "",
    ]
    return "-".join(filter(None, words))


def description_of(settings: Settings) -> str:
    """One sentence on volumes that are not synthetic."""
    geometry = {
        "native": "at their native width",
        "official_code": "from k-space zero-filled to 400 columns, as published",
    }[settings["geometry"]]
    scale = {
        "percentile": f"the {PERCENTILE}th percentile of their magnitudes",
        "max": "their `max` attribute",
    }[settings["scale"]]
    rss = {"file": "as stored", "coils": "computed from the coils"}[settings["rss"]]
    n = settings["average"]
    averaged = f", means of {n} x {n} pixels" if n > 1 else ""
    return (
        "fastMRI knee volumes, emulated single coil, with the labels of fastMRI+: "
        f"complex images of {SIZE} x {SIZE} pixels {geometry}{averaged}, "
        f"volumes divided by {scale}; RSS {rss}"
    )


def summary(facts: DatasetFacts) -> str:
    """The audit as text."""
    audit = facts.audit
    widths = ", ".join(f"{width} ({n})" for width, n in audit.widths.items())
    acquisitions = ", ".join(f"{name} ({n})" for name, n in audit.acquisitions.items())
    lines = [
        f"fastmri, variant {facts.variant}: {facts.description}",
        f"raw volumes: {audit.raw_volumes:,}; "
        f"prepared {audit.prepared_volumes:,} ({audit.slices:,} slices), "
        f"dropped {len(audit.dropped)}; "
        f"in the file list but not there: {audit.listed_volumes_without_raw_file:,}",
        *(f"  dropped {name}: {why}" for name, why in audit.dropped.items()),
        f"widths: {widths}; acquisitions: {acquisitions}",
        _deviations(facts.checks),
        _split(facts.split),
        *_empty_parts(facts.counts),
        _annotations(audit.annotations),
        *_table(facts),
    ]
    return "\n".join(lines)


def _deviations(checks: Checks) -> str:
    parts = ["reconstruction_esc: not compared, since it shows the native geometry"]
    if esc := checks.esc_deviation:
        parts = [
            f"worst deviation from reconstruction_esc: {esc.worst:.1e} of its maximum ({esc.of}), "
            f"allowed {TOLERANCE:g}"
        ]
    if rss := checks.rss_deviation:
        parts.append(
            f"RSS of the coils from reconstruction_rss: at worst {rss.worst:.1e} ({rss.of}), "
            f"allowed {TOLERANCE:g}"
        )
    if names := checks.header_width_differs:
        parts.append(
            f"header with another width than k-space: {len(names)} volumes, such as {names[0]}"
        )
    return "; ".join(parts)


def _split(split: SplitFacts) -> str:
    several = split.patients_with_several_volumes
    crossing = split.patients_crossing_parts_by_volume
    if not several:
        return f"split by {split.by}; none of {split.patients:,} patients has several volumes"
    were, way_out = "would have been", ""
    if split.by == "volume":
        were, way_out = "are", " (--split patient avoids it)" if crossing else ""
    return (
        f"split by {split.by}; {several:,} of {split.patients:,} patients have several volumes; "
        f"split by volume, {crossing:,} of them {were} in more than one part{way_out}"
    )


def _empty_parts(counts: Mapping[str, PartCounts]) -> list[str]:
    empty = [part for part in PARTS if not counts[part].volumes]
    if not empty:
        return []
    names = " and ".join(empty)
    return [f"no volume in {names}: too few to train with, which needs all three parts"]


def _annotations(audit: LabelAudit) -> str:
    parts = [
        f"annotations: {audit.labels['any'].rows:,} rows, {audit.duplicates} of them duplicates",
        f"left out: {audit.study_level.rows} rows about a whole study",
        f"{audit.trailing_blanks:,} labels with a trailing blank",
    ]
    if audit.stray_lines:
        parts.append(f"file list: stray line {audit.stray_lines[0]!r}")
    if unlisted := audit.annotated_volumes_not_listed:
        parts.append(
            f"annotated, but not in the file list: {len(unlisted)} volumes, such as {unlisted[0]}"
        )
    if audit.unknown_labels:
        unknown = ", ".join(f"{name!r} ({n})" for name, n in audit.unknown_labels.items())
        parts.append(f"unknown labels, counted by the rules all the same: {unknown}")
    return "; ".join(parts)


def _table(facts: DatasetFacts) -> list[str]:
    """Rows and volumes of the annotations beside the paper's, then positive slices / volumes of
    each part as prepared."""
    counts, annotated = facts.counts, facts.audit.annotations.labels
    paper = {} if facts.synthetic else PAPER
    head = f"{'':>10}{'rows':>8}{'volumes':>9}" + "   paper's rows / volumes" * bool(paper)
    head += "".join(f"{part:>16}" for part in PARTS)
    lines = [head + "   (positive slices / volumes, as prepared)"]
    for label in LABELS:
        line = f"{label:>10}{annotated[label].rows:>8,}{annotated[label].volumes:>9,}"
        if paper:
            published = " / ".join(f"{n:,}" for n in paper.get(label, ())) or "-"
            line += f"{published:>25}"
        lines.append(line + "".join(_pair(counts[part].of(label)) for part in PARTS))
    sizes = "".join(_pair(counts[part]) for part in PARTS)
    lines.append(f"{'all':>10}{'':>17}" + " " * 25 * bool(paper) + sizes)
    if paper:
        lines.append(
            "(the paper's 710 cartilage volumes count twice the 116 with both partial and full "
            "loss)"
        )
    return lines


def _pair(counts: Positives | PartCounts) -> str:
    return f"{counts.slices:>9,} / {counts.volumes:<4,}"
