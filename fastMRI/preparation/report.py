"""What dataset.json says of a preparation, and what is printed of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastMRI.preparation.fourier import SIZE
from fastMRI.preparation.labels import LABELS, PAPER
from fastMRI.preparation.split import PARTS
from fastMRI.preparation.volumes import PERCENTILE, TOLERANCE

Facts = dict[str, Any]


def counts_of(part_of: Mapping[str, str], labels: Mapping[str, np.ndarray]) -> tuple[Facts, Facts]:
    """-> {part: volumes, slices, {label: positive slices and volumes}}, {part: {label: [negative
    slices, positive slices]}}."""
    counts, classes = {}, {}
    for part in PARTS:
        tables = [labels[volume] for volume in part_of if part_of[volume] == part]
        every = np.concatenate([np.zeros((0, len(LABELS)), int), *tables])
        positive = every.sum(axis=0).tolist()
        volumes = np.sum(
            [np.zeros(len(LABELS), int), *(table.any(axis=0) for table in tables)], axis=0
        ).tolist()
        counts[part] = {"volumes": len(tables), "slices": len(every)} | {
            label: {"slices": s, "volumes": v}
            for label, s, v in zip(LABELS, positive, volumes, strict=True)
        }
        classes[part] = {
            label: [len(every) - s, s] for label, s in zip(LABELS, positive, strict=True)
        }
    return counts, classes


def checks_of(volumes: Mapping[str, Facts]) -> Facts:
    """Worst deviations from the stored reconstructions, and volumes whose header announces another
    width than theirs."""
    checks: Facts = {
        "header_width_differs": [
            name for name, facts in volumes.items() if facts["header_width"] != facts["width"]
        ]
    }
    for key in ("esc_deviation", "rss_deviation"):
        compared = {name: facts[key] for name, facts in volumes.items() if key in facts}
        if compared:
            worst = max(compared, key=compared.get)
            checks[key] = {"volumes": len(compared), "worst": compared[worst], "of": worst}
    return checks


def audit_of(
    given: int,
    missing: int,
    dropped: Mapping[str, str],
    volumes: Mapping[str, Facts],
    annotations: Facts,
) -> Facts:
    """Volumes given, missing, dropped and prepared, what they are, and the annotations behind their
    labels."""
    return {
        "raw_volumes": given,
        "dropped": dict(dropped),
        "prepared_volumes": len(volumes),
        "listed_volumes_without_raw_file": missing,
        "slices": sum(facts["slices"] for facts in volumes.values()),
        "widths": {
            str(width): n
            for width, n in sorted(Counter(facts["width"] for facts in volumes.values()).items())
        },
        "acquisitions": dict(
            sorted(Counter(facts["acquisition"] for facts in volumes.values()).items())
        ),
        "annotations": annotations,
    }


def variant_of(settings: Mapping[str, Any], synthetic: bool) -> str:
    """native, official_code, native-avg4, synthetic-native-avg4, native-max (the scale),
    native-coils (RSS) ..."""
    words = ["synthetic"] * synthetic + [settings["geometry"]]
    words += [f"avg{settings['average']}"] * (settings["average"] > 1)
    words += ["max"] * (settings["scale"] == "max") + ["coils"] * (settings["rss"] == "coils")
    return "-".join(words)


def description_of(settings: Mapping[str, Any]) -> str:
    """One sentence on volumes that are not synthetic."""
    geometry = {
        "native": "at their native width",
        "official_code": "from k-space zero-filled to 400 columns, as published",
    }
    scale = {
        "percentile": f"the {PERCENTILE}th percentile of their magnitudes",
        "max": "their `max` attribute",
    }
    averaged = (
        f", means of {settings['average']} x {settings['average']} pixels"
        if settings["average"] > 1
        else ""
    )
    rss = {"file": "as stored", "coils": "computed from the coils"}
    return (
        f"fastMRI knee volumes, emulated single coil, with the labels of fastMRI+: complex images of {SIZE} x {SIZE} pixels "
        f"{geometry[settings['geometry']]}{averaged}, volumes divided by {scale[settings['scale']]}; RSS {rss[settings['rss']]}"
    )


def summary(facts: Facts) -> str:
    """The audit as text."""
    audit, checks = facts["audit"], facts["checks"]
    widths = ", ".join(f"{width} ({n})" for width, n in audit["widths"].items())
    acquisitions = ", ".join(f"{name} ({n})" for name, n in audit["acquisitions"].items())
    lines = [
        f"fastmri, variant {facts['variant']}: {facts['description']}",
        f"raw volumes: {audit['raw_volumes']:,}; prepared {audit['prepared_volumes']:,} ({audit['slices']:,} slices), "
        f"dropped {len(audit['dropped'])}; in the file list but not there: {audit['listed_volumes_without_raw_file']:,}",
        *(f"  dropped {name}: {why}" for name, why in audit["dropped"].items()),
        f"widths: {widths}; acquisitions: {acquisitions}",
        _deviations(checks),
        _split(facts["split"]),
        *_empty_parts(facts["counts"]),
        _annotations(audit["annotations"]),
        *_table(facts),
    ]
    return "\n".join(lines)


def _deviations(checks: Facts) -> str:
    parts = []
    if esc := checks.get("esc_deviation"):
        parts.append(
            f"worst deviation from reconstruction_esc: {esc['worst']:.1e} of its maximum ({esc['of']}), allowed {TOLERANCE:g}"
        )
    else:
        parts.append("reconstruction_esc: not compared, since it shows the native geometry")
    if rss := checks.get("rss_deviation"):
        parts.append(
            f"RSS of the coils from reconstruction_rss: at worst {rss['worst']:.1e} ({rss['of']})"
        )
    if names := checks["header_width_differs"]:
        parts.append(
            f"header with another width than k-space: {len(names)} volumes, such as {names[0]}"
        )
    return "; ".join(parts)


def _split(split: Facts) -> str:
    several, crossing = (
        split["patients_with_several_volumes"],
        split["patients_crossing_parts_by_volume"],
    )
    if not several:
        return f"split by {split['by']}; none of {split['patients']:,} patients has several volumes"
    were = "are" if split["by"] == "volume" else "would have been"
    way_out = " (--split patient avoids it)" if split["by"] == "volume" and crossing else ""
    return (
        f"split by {split['by']}; {several:,} of {split['patients']:,} patients have several volumes; "
        f"split by volume, {crossing:,} of them {were} in more than one part{way_out}"
    )


def _empty_parts(counts: Facts) -> list[str]:
    empty = [part for part in PARTS if not counts[part]["volumes"]]
    return [
        f"no volume in {' and '.join(empty)}: too few to train with, which needs all three parts"
    ] * bool(empty)


def _annotations(audit: Facts) -> str:
    study = audit["study_level"]
    unlisted = audit["annotated_volumes_not_listed"]
    text = (
        f"annotations: {audit['labels']['any']['rows']:,} rows, {audit['duplicates']} of them duplicates; left out: "
        f"{study['rows']} rows about a whole study; {audit['trailing_blanks']:,} labels with a trailing blank"
    )
    text += f"; file list: stray line {audit['stray_lines'][0]!r}" if audit["stray_lines"] else ""
    text += (
        f"; annotated, but not in the file list: {len(unlisted)} volumes, such as {unlisted[0]}"
        if unlisted
        else ""
    )
    unknown = ", ".join(f"{name!r} ({n})" for name, n in audit["unknown_labels"].items())
    return text + (
        f"; unknown labels, counted by the rules all the same: {unknown}" if unknown else ""
    )


def _table(facts: Facts) -> list[str]:
    """Rows and volumes of the annotations beside the paper's, then positive slices / volumes of
    each part as prepared."""
    counts, annotated = facts["counts"], facts["audit"]["annotations"]["labels"]
    of_paper = {} if facts["synthetic"] else PAPER
    head = f"{'':>10}{'rows':>8}{'volumes':>9}" + ("   paper's rows / volumes" if of_paper else "")
    lines = [
        head
        + "".join(f"{part:>16}" for part in PARTS)
        + "   (positive slices / volumes, as prepared)"
    ]
    for label in LABELS:
        line = f"{label:>10}{annotated[label]['rows']:>8,}{annotated[label]['volumes']:>9,}"
        if of_paper:
            line += f"{' / '.join(f'{n:,}' for n in of_paper.get(label, ())) or '-':>25}"
        lines.append(
            line
            + "".join(
                f"{counts[p][label]['slices']:>9,} / {counts[p][label]['volumes']:<4,}"
                for p in PARTS
            )
        )
    sizes = "".join(
        f"{counts[part]['slices']:>9,} / {counts[part]['volumes']:<4,}" for part in PARTS
    )
    lines.append(f"{'all':>10}{'':>17}" + " " * 25 * bool(of_paper) + sizes)
    if of_paper:
        lines.append(
            "(the paper's 710 cartilage volumes count twice the 116 with both partial and full loss)"
        )
    return lines
