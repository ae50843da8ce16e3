"""From raw volumes and fastMRI+'s lists to the prepared folder (see `cache`)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fastMRI.preparation import cache, report
from fastMRI.preparation.facts import DatasetFacts, PreparedVolume, Settings
from fastMRI.preparation.hdf5 import UNREADABLE
from fastMRI.preparation.labels import (
    LABELS,
    Annotations,
    audit_labels,
    read_annotations,
    read_file_list,
)
from fastMRI.preparation.parallel import each
from fastMRI.preparation.split import refuse_useless, split_volumes
from fastMRI.preparation.volumes import Rules, read_volume
from i2m2.errors import DataError, SettingsError
from i2m2.files import alone_in

Volumes = dict[str, PreparedVolume]
Reasons = dict[str, str]  # volume -> why it was dropped


def prepare(
    raw: Sequence[Path],
    annotations: Path,
    file_list: Path,
    out: Path,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    *,
    multicoil: Sequence[Path] = (),
    split: Literal["auto", "volume", "patient"] = "auto",
    workers: int | None = None,
    skip_bad: bool = False,
) -> DatasetFacts:
    """Write the prepared folder `out` (see `cache`) from the raw volumes, and return what its
    dataset.json says.

    `multicoil`: folders of the volumes with all coils, from which RSS is then computed (rules.rss:
    coils); `workers`: processes (default: one for each processor); `skip_bad`: leave unusable
    volumes out and list them, instead of a DataError for the first.
    """
    if bool(multicoil) != (rules.rss == "coils"):
        raise SettingsError(
            f"rss {rules.rss} with multi-coil folders {list(map(str, multicoil))}: "
            "they are for rss coils"
        )
    lists = Lists.read(annotations, file_list)
    _refuse_strangers(lists, annotations, file_list)
    settings = {"recipe": cache.RECIPE, **dataclasses.asdict(rules)}
    labelled_with = {"split": split, "annotations": cache.stamp(annotations)}
    labelled_with["file_list"] = cache.stamp(file_list)
    sources = find_volumes(raw)
    unlisted = _unlisted(sources, lists.volumes, file_list, skip_bad)
    wanted = {name: path for name, path in sources.items() if name not in unlisted}
    coils = find_volumes(multicoil, "multicoil") if multicoil else {}
    jobs = []
    for name, path in wanted.items():
        prepared, last = out / "volumes" / f"{name}.h5", lists.annotations.last_slice(name)
        jobs.append(Job(path, coils.get(name), prepared, rules, settings, last, skip_bad))
    _refuse_to_overwrite(jobs)
    with alone_in(out):
        begun = cache.begin(out, settings, labelled_with, wanted)
        if begun.facts:  # in which the lists may have other names
            labelled_with = begun.facts.labelled_with
        volumes, bad = _convert_all(jobs, begun.volumes, workers or os.cpu_count() or 1)
        dropped = unlisted | bad
        return _finish(out, sources, begun, volumes, dropped, lists, labelled_with, settings)


def find_volumes(
    folders: Sequence[Path], coils: Literal["singlecoil", "multicoil"] = "singlecoil"
) -> dict[str, Path]:
    """{volume: its file}, ascending, of the `_train` and `_val` folders in `folders`; a folder of
    .h5 files is taken itself.

    Test and challenge folders hold under-sampled k-space and are ignored.
    """
    volumes: dict[str, Path] = {}
    for folder in folders:
        inside = [folder / f"{coils}_{part}" for part in ("train", "val")]
        inside = [path for path in inside if path.is_dir()] or [folder]
        files = [path for place in inside for path in place.glob("*") if _is_volume(path)]
        if not files:
            what = "no .h5 files there" if folder.is_dir() else "no such folder"
            raise DataError(
                f"{folder}: {what}; give the folder that holds {coils}_train and {coils}_val, "
                "or these themselves"
            )
        for path in files:
            if other := volumes.get(path.stem):
                raise DataError(
                    f"{path}: {other} has the same name, but a volume may be given only once; "
                    "leave one of them out"
                )
            volumes[path.stem] = path
    return dict(sorted(volumes.items()))


def _is_volume(path: Path) -> bool:
    return path.suffix.lower() == ".h5" and not path.name.startswith(".")


class Lists(NamedTuple):
    """fastMRI+'s two lists as they were read."""

    volumes: list[str]  # that were read for findings
    stray: list[str]  # lines at the end of the file list
    annotations: Annotations

    @classmethod
    def read(cls, annotations: Path, file_list: Path) -> Lists:
        return cls(*read_file_list(file_list), read_annotations(annotations))


def _refuse_strangers(lists: Lists, annotations: Path, file_list: Path) -> None:
    """DataError if no listed volume has a finding: every label would be negative."""
    findings = lists.annotations.findings
    if not findings:
        raise DataError(
            f"{annotations}: no slice is annotated, so every label would be negative; "
            "give fastMRI+'s whole knee.csv"
        )
    if not findings.keys() & set(lists.volumes):
        raise DataError(
            f"{annotations}: none of its {len(findings):,} annotated volumes, such as "
            f"{min(findings)}, is in {file_list}, which names {lists.volumes[0]} and others; "
            "give knee.csv and knee_file_list.csv of the same release of fastMRI+"
        )


def _unlisted(
    sources: Mapping[str, Path], listed: Iterable[str], file_list: Path, skip_bad: bool
) -> Reasons:
    """Raw volumes whose findings are not known. DataError unless they may be dropped."""
    dropped = dict.fromkeys(sorted(set(sources) - set(listed)), "not in the file list")
    if dropped and not skip_bad:
        name = min(dropped)
        raise DataError(
            f"{sources[name]}: not in {file_list}, so its findings are not known; "
            "--skip-bad drops and lists such volumes"
        )
    return dropped


class Job(NamedTuple):
    """One volume's conversion."""

    raw: Path
    multicoil: Path | None
    prepared: Path
    rules: Rules
    settings: Settings
    last_annotated: int
    skip_bad: bool

    @property
    def name(self) -> str:
        return self.raw.stem

    @property
    def sources(self) -> list[Path]:
        return [path for path in (self.raw, self.multicoil) if path is not None]

    def is_done(self, volume: PreparedVolume | None) -> bool:
        """Whether this prepared volume was made of the raw files, and holds every annotated
        slice."""
        if volume is None or volume.slices <= self.last_annotated or volume.source != self.raw.name:
            return False
        with suppress(*UNREADABLE):  # which the conversion names
            return volume.source_digest == cache.digest_of(self.sources)
        return False


def _refuse_to_overwrite(jobs: Iterable[Job]) -> None:
    """SettingsError if a volume would be written in the place of a raw file."""
    for job in filter(lambda job: job.prepared.exists(), jobs):
        for source in filter(Path.exists, job.sources):
            if source.samefile(job.prepared):
                raise SettingsError(
                    f"{job.prepared}: would be written over the raw file {source}; "
                    "give another --out"
                )


def convert(job: Job) -> tuple[str, PreparedVolume | None, str]:
    """-> volume, what was written of it, or None and why it was dropped."""
    try:
        volume = read_volume(job.raw, job.rules, job.multicoil, job.last_annotated)
    except DataError as error:
        if job.skip_bad:
            job.prepared.unlink(missing_ok=True)  # made of another raw file
            return job.name, None, str(error)
        raise DataError(f"{error} (--skip-bad drops and lists such volumes)") from error
    cache.write_volume(job.prepared, volume, job.settings, cache.digest_of(job.sources))
    return job.name, cache.describe(job.prepared), ""


def _convert_all(
    jobs: list[Job], done: Mapping[str, PreparedVolume], workers: int
) -> tuple[Volumes, Reasons]:
    """-> all volumes that are there in the end, ascending, and those that were dropped."""
    volumes = {job.name: done[job.name] for job in jobs if job.is_done(done.get(job.name))}
    if volumes:
        print(f"prepared already: {len(volumes):,} of {len(jobs):,} volumes")
    if earlier := sum(volume.source_digest is None for volume in done.values()):
        why = "an earlier version did not record what their raw files held"
        print(f"prepared anew: {earlier:,} volumes, since {why}")
    missing = [job for job in jobs if job.name not in volumes]
    bad: Reasons = {}
    for name, volume, why in each(convert, missing, workers, "preparing"):
        if volume is None:
            bad[name] = why
        else:
            volumes[name] = volume
    if not volumes:
        first = f"; the first: {min(bad.values())}" if bad else ": all are missing in the file list"
        raise DataError(f"none of {len(jobs):,} volumes is usable{first}")
    return dict(sorted(volumes.items())), dict(sorted(bad.items()))


def _finish(
    out: Path,
    sources: Mapping[str, Path],
    begun: cache.Begun,
    volumes: Volumes,
    dropped: Reasons,
    lists: Lists,
    labelled_with: dict[str, str],
    settings: Settings,
) -> DatasetFacts:
    """Split the volumes, label their slices, and write slices.csv and dataset.json."""
    patient_of = {name: volume.patient_id for name, volume in volumes.items()}
    part_of, split_facts = split_volumes(lists.volumes, patient_of, labelled_with["split"])
    refuse_useless(part_of, patient_of)
    labels = {name: lists.annotations.labels(name, volumes[name].slices) for name in volumes}
    table = cache.table_text(_rows(labels, part_of, patient_of))
    counts, class_counts = report.counts_of(part_of, labels)
    note = _synthetic_note(sources.values())
    facts = DatasetFacts(
        dataset="fastmri",
        variant=report.variant_of(settings, note is not None),
        synthetic=note is not None,
        description=note or report.description_of(settings),
        labels=list(LABELS),
        settings=settings,
        settings_hash=cache.settings_hash(settings),
        labelled_with=labelled_with,
        split=split_facts,
        checks=report.checks_of(volumes),
        audit=report.audit_of(
            given=len(sources),
            missing=len(set(lists.volumes) - set(sources)),
            dropped=dropped,
            volumes=volumes,
            annotations=audit_labels(lists.volumes, lists.stray, lists.annotations),
        ),
        counts=counts,
        class_counts=class_counts,
        slices_csv_sha256=hashlib.sha256(table.encode()).hexdigest(),
        sources=begun.sources(volumes),
    )
    cache.finish(out, table, facts)
    return facts


def _rows(
    labels: Mapping[str, np.ndarray], part_of: Mapping[str, str], patient_of: Mapping[str, str]
) -> list[cache.Row]:
    """Of slices.csv."""
    return [
        (name, index, part_of[name], patient_of[name], *row)
        for name, of_slices in labels.items()
        for index, row in enumerate(of_slices.tolist())
    ]


def _synthetic_note(files: Iterable[Path]) -> str | None:
    """What a SYNTHETIC.txt beside the volumes, or beside their folder, says of them; None if there
    is none."""
    folders = sorted({path.resolve().parent for path in files})
    notes = [place / "SYNTHETIC.txt" for folder in folders for place in (folder, folder.parent)]
    note = next((path for path in notes if path.is_file()), None)
    if note is None:
        return None
    return " ".join(note.read_text(encoding="utf-8", errors="replace").split())
