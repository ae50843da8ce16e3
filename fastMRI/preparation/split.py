"""The split into train, val and test: by volume, or by patient where somebody was scanned more than
once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from fastMRI.preparation.facts import SplitFacts
from i2m2.errors import DataError, SettingsError

PARTS = ("train", "val", "test")
FEWEST = 4  # volumes or patients that make three parts


def split(names: Iterable[str]) -> dict[str, str]:
    """{name: part}: 70 % train, then half of the rest test and half val, as published, but of the
    sorted names. Fewer than four, too few for three parts, are all train.

    The published code split a set of strings, whose order, and with it the parts, changed with
    every start of Python.
    """
    # Slow to import, and the worker processes need none of it.
    from sklearn.model_selection import train_test_split

    names = sorted(set(names))
    if len(names) < FEWEST:
        return dict.fromkeys(names, "train")
    train, rest = train_test_split(names, test_size=0.3, random_state=0)
    test, val = train_test_split(rest, test_size=0.5, random_state=0)
    part_of = {}
    for part, members in zip(PARTS, (train, val, test), strict=True):
        part_of |= dict.fromkeys(sorted(members), part)
    return part_of


def split_volumes(
    listed: Iterable[str], patient_of: Mapping[str, str], by: str
) -> tuple[dict[str, str], SplitFacts]:
    """-> {volume: part} of the volumes in `patient_of`, and what dataset.json says of it.

    By volume, all `listed` volumes are split, so that a volume's part does not depend on which
    others are there. `auto`: by patient if one has several volumes, else by volume.
    """
    volumes_of = defaultdict(list)
    for volume, patient in patient_of.items():
        volumes_of[patient].append(volume)
    listed = list(listed)
    by_volume = split(listed)
    several = [volumes for volumes in volumes_of.values() if len(volumes) > 1]
    crossing = [volumes for volumes in several if len({by_volume[name] for name in volumes}) > 1]
    if by == "auto":
        by = "patient" if several else "volume"
    if by == "patient":
        by_patient = split(volumes_of)
        part_of = {volume: by_patient[patient] for volume, patient in patient_of.items()}
    else:
        part_of = {volume: by_volume[volume] for volume in patient_of}
    return part_of, SplitFacts(
        by=by,
        patients=len(volumes_of),
        patients_with_several_volumes=len(several),
        patients_crossing_parts_by_volume=len(crossing),
        listed_by_volume_sha256=digest_by_part({name: by_volume[name] for name in listed}),
        prepared_sha256=digest_by_part(part_of),
    )


def refuse_useless(part_of: Mapping[str, str], patient_of: Mapping[str, str]) -> None:
    """DataError or SettingsError, by what mends it, for parts that no training takes though there
    are volumes enough: too few patients for three of them, or some in train and elsewhere."""
    patients = sorted(set(patient_of.values()))
    if len(patients) < FEWEST <= len(patient_of):
        raise DataError(
            f"the attribute patient_id of all {len(patient_of):,} raw volumes is "
            f"{' or '.join(patients)}, but training, validation and test need at least {FEWEST} "
            "patients; use the files as fastMRI publishes them, or write each patient's own id "
            "into the attribute patient_id of these, and give the same command again"
        )
    trained, others = set(), set()
    for volume, part in part_of.items():
        (trained if part == "train" else others).add(patient_of[volume])
    if crossing := sorted(trained & others):
        raise SettingsError(
            f"--split volume: {len(crossing):,} patients, such as {crossing[0]}, have volumes in "
            "train and in another part, which training refuses; give --split patient, for which "
            "what is prepared already is kept"
        )


def digest_by_part(part_of: Mapping[str, str]) -> dict[str, str]:
    """{part: what stands for the names in it}."""
    return {part: digest(name for name in part_of if part_of[name] == part) for part in PARTS}


def digest(names: Iterable[str]) -> str:
    """16 hexadecimal digits that stand for a set of names."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
