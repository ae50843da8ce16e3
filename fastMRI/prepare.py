"""Prepare fastMRI's knee volumes: complex images of 320 x 320 pixels, RSS images, and four labels
per slice from fastMRI+.

python -m fastMRI.prepare --raw DIR --annotations knee.csv --file-list knee_file_list.csv --out data/fastmri
python -m fastMRI.prepare --raw DIR ... --geometry official_code --out data/fastmri-official_code    # stretched, as published
python -m fastMRI.prepare --raw DIR ... --average 4 --out data/fastmri-avg4       # 80 x 80 pixels, for experiments without a GPU
python -m fastMRI.prepare --annotations knee.csv --file-list knee_file_list.csv --audit-labels    # counts as JSON, without volumes
python -m fastMRI.prepare --check data/fastmri                                    # audit only

DIR holds singlecoil_train and singlecoil_val. A broken-off preparation goes on where it was.
Layout of --out: fastMRI/preparation/cache.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastMRI.preparation import cache, report
from fastMRI.preparation.cache_check import check
from fastMRI.preparation.labels import (
    LABELS,
    Annotations,
    audit_labels,
    read_annotations,
    read_file_list,
)
from fastMRI.preparation.parallel import each
from fastMRI.preparation.split import split_volumes
from fastMRI.preparation.volumes import Rules, find_volumes, read_volume
from i2m2.errors import CommandParser, DataError, SettingsError, run_command

OUT = Path("data/fastmri")


def main(argv: list[str] | None = None) -> None:
    """Do what the command line asks for: prepare, count the annotations, or check."""
    args = _parser().parse_args(argv)
    if args.workers is not None and args.workers < 1:
        raise SettingsError(f"--workers {args.workers} must be at least 1")
    if (args.annotations is None) != (args.file_list is None):
        raise SettingsError(
            "--annotations knee.csv and --file-list knee_file_list.csv belong together; give both"
        )
    if args.check is not None:
        return check(args.check or args.out, args.annotations, args.file_list, args.workers)
    if args.annotations is None:
        raise SettingsError(
            "--annotations knee.csv and --file-list knee_file_list.csv are needed (or --check; see --help)"
        )
    if args.audit_labels:
        return print(
            json.dumps(
                audit_labels(*read_file_list(args.file_list), read_annotations(args.annotations)),
                indent=2,
            )
        )
    if args.raw is None:
        raise SettingsError(
            "--raw DIR, the folder with singlecoil_train and singlecoil_val, is needed (see --help)"
        )
    rules = Rules(
        geometry=args.geometry,
        scale=args.scale,
        average=args.average,
        rss="coils" if args.multicoil else "file",
    )
    options = {
        "multicoil": args.multicoil or (),
        "split": args.split,
        "workers": args.workers,
        "skip_bad": args.skip_bad,
    }
    facts = prepare(args.raw, args.annotations, args.file_list, args.out, rules, **options)
    print(f"{report.summary(facts)}\nprepared: {args.out}")


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
) -> dict[str, Any]:
    """Write the prepared folder `out` (see `cache`) from the raw volumes, and return what its
    dataset.json says.

    `multicoil`: folders of the volumes with all coils, from which RSS is then computed (rules.rss:
    coils); `workers`: processes (default: one for each processor); `skip_bad`: leave unusable
    volumes out and list them, instead of a DataError for the first.
    """
    if bool(multicoil) != (rules.rss == "coils"):
        raise SettingsError(
            f"rss {rules.rss} with multi-coil folders {list(map(str, multicoil))}: they are for rss coils"
        )
    listed, stray = read_file_list(file_list)
    found = read_annotations(annotations)
    settings = {"recipe": cache.RECIPE, **dataclasses.asdict(rules)}
    labelled_with = {
        "split": split,
        "annotations": cache.stamp(annotations),
        "file_list": cache.stamp(file_list),
    }
    sources = find_volumes(raw)
    dropped = {name: "not in the file list" for name in sources if name not in set(listed)}
    if dropped and not skip_bad:
        name = min(dropped)
        raise DataError(
            f"{sources[name]}: not in {file_list}, so its findings are not known; --skip-bad drops and lists such volumes"
        )
    wanted = {name: path for name, path in sources.items() if name not in dropped}
    done = cache.begin(out, settings, labelled_with, wanted)
    coils = find_volumes(multicoil, "multicoil") if multicoil else {}
    jobs = [Job(path, coils.get(name), out / "volumes" / f"{name}.h5", rules, settings, found.last_slice(name), skip_bad)
            for name, path in wanted.items()]  # fmt: skip
    volumes, bad = _convert_all(jobs, done, workers or os.cpu_count() or 1)
    part_of, split_facts = split_volumes(
        listed, {name: facts["patient_id"] for name, facts in volumes.items()}, split
    )
    facts = {
        "dataset": "fastmri",
        **_identity(sources, settings),
        "labels": list(LABELS),
        "settings": settings,
        "settings_hash": cache.settings_hash(settings),
        "labelled_with": labelled_with,
        "split": split_facts,
        "checks": report.checks_of(volumes),
        "audit": report.audit_of(
            len(sources),
            len(set(listed) - set(sources)),
            dropped | bad,
            volumes,
            audit_labels(listed, stray, found),
        ),
    }
    return _finish(out, facts, volumes, part_of, found)


class Job(NamedTuple):
    """One volume's conversion."""

    raw: Path
    multicoil: Path | None
    prepared: Path
    rules: Rules
    settings: Mapping[str, Any]
    last_annotated: int
    skip_bad: bool

    def is_done(self, facts: Mapping[str, Any] | None) -> bool:
        """Whether the prepared volume with these facts was made of this raw file, and holds every
        annotated slice."""
        if facts is None or facts["slices"] <= self.last_annotated:
            return False
        return (facts["source"], facts["source_bytes"]) == (self.raw.name, self.raw.stat().st_size)


def convert(job: Job) -> tuple[str, dict[str, Any] | None, str]:
    """-> volume, the facts of what was written, or None and why the volume was dropped."""
    job.prepared.unlink(missing_ok=True)  # of another raw file, or damaged
    try:
        volume = read_volume(job.raw, job.rules, job.multicoil, job.last_annotated)
    except DataError as error:
        if job.skip_bad:
            return job.raw.stem, None, str(error)
        raise DataError(f"{error} (--skip-bad drops and lists such volumes)") from error
    cache.write_volume(job.prepared, volume, job.settings)
    return job.raw.stem, cache.describe(job.prepared), ""


def _convert_all(
    jobs: list[Job], done: Mapping[str, dict[str, Any]], workers: int
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """-> {volume: facts} of all that are there in the end, ascending, and {volume: why it was
    dropped}."""
    volumes = {
        job.raw.stem: done[job.raw.stem] for job in jobs if job.is_done(done.get(job.raw.stem))
    }
    if volumes:
        print(f"prepared already: {len(volumes):,} of {len(jobs):,} volumes")
    bad = {}
    for name, facts, why in each(
        convert, [job for job in jobs if job.raw.stem not in volumes], workers, "preparing"
    ):
        if facts is None:
            bad[name] = why
        else:
            volumes[name] = facts
    if not volumes:
        first = f"; the first: {min(bad.values())}" if bad else ": all are missing in the file list"
        raise DataError(f"none of {len(jobs):,} volumes is usable{first}")
    return dict(sorted(volumes.items())), dict(sorted(bad.items()))


def _finish(
    out: Path,
    facts: dict[str, Any],
    volumes: Mapping[str, Any],
    part_of: Mapping[str, str],
    found: Annotations,
) -> dict[str, Any]:
    labels = {name: found.labels(name, described["slices"]) for name, described in volumes.items()}
    facts["counts"], facts["class_counts"] = report.counts_of(part_of, labels)
    rows = [
        (name, index, part_of[name], volumes[name]["patient_id"], *row)
        for name, table in labels.items()
        for index, row in enumerate(table.tolist())
    ]
    cache.finish(out, rows, facts)
    return facts


def _identity(sources: Mapping[str, Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """variant, synthetic, description. A SYNTHETIC.txt beside the volumes, or beside their folder,
    says what they are."""
    folders = sorted({path.resolve().parent for path in sources.values()})
    notes = [place / "SYNTHETIC.txt" for folder in folders for place in (folder, folder.parent)]
    note = next((path for path in notes if path.is_file()), None)
    described = (
        " ".join(note.read_text(encoding="utf-8").split())
        if note
        else report.description_of(settings)
    )
    return {
        "variant": report.variant_of(settings, bool(note)),
        "synthetic": bool(note),
        "description": described,
    }


def _parser() -> CommandParser:
    parser = CommandParser(
        "python -m fastMRI.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("files").add_argument
    add(
        "--raw",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folder with singlecoil_train and singlecoil_val, or these themselves",
    )
    add(
        "--multicoil",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folder with multicoil_train and _val: compute RSS from the coils",
    )
    add("--annotations", type=Path, metavar="CSV", help="knee.csv of fastMRI+")
    add(
        "--file-list",
        type=Path,
        metavar="CSV",
        help="knee_file_list.csv of fastMRI+: the volumes that were read",
    )
    add("--out", type=Path, metavar="DIR", default=OUT, help=f"folder to write (default: {OUT})")
    add = parser.add_argument_group("instead of preparing").add_argument
    add("--audit-labels", action="store_true", help="print counts of the annotations as JSON")
    add(
        "--check",
        type=Path,
        nargs="?",
        const=False,
        metavar="DIR",
        help="audit a prepared folder (default: --out)",
    )
    add = parser.add_argument_group("rules").add_argument
    add(
        "--geometry",
        choices=("native", "official_code"),
        default="native",
        help="native (default), or stretched as published",
    )
    add(
        "--scale",
        choices=("percentile", "max"),
        default="percentile",
        help="99.5th percentile (default), or the attribute max",
    )
    add(
        "--average",
        type=int,
        default=1,
        metavar="N",
        help="store means of N x N complex pixels (default: 1)",
    )
    add(
        "--split",
        choices=("auto", "volume", "patient"),
        default="auto",
        help="auto: by patient if one has several volumes",
    )
    add = parser.add_argument_group("running").add_argument
    add("--workers", type=int, metavar="N", help="processes (default: one for each processor)")
    add(
        "--skip-bad",
        action="store_true",
        help="drop and list unusable volumes, instead of stopping at the first",
    )
    return parser


if __name__ == "__main__":
    run_command(main)
