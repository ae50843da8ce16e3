"""Prepare fastMRI's knee volumes: complex images of 320 x 320 pixels, RSS images, and four labels
per slice from fastMRI+.

python -m fastMRI.prepare --raw DIR --annotations knee.csv --file-list knee_file_list.csv --out DIR
python -m fastMRI.prepare --raw DIR ... --geometry official_code --out data/fastmri-official_code
    # stretched, as published
python -m fastMRI.prepare --raw DIR ... --average 4 --out data/fastmri-avg4
    # 80 x 80 pixels, for experiments without a GPU
python -m fastMRI.prepare --annotations knee.csv --file-list knee_file_list.csv --audit-labels
    # counts as JSON, without volumes
python -m fastMRI.prepare --check data/fastmri
    # audit only

DIR of --raw holds singlecoil_train and singlecoil_val. The same command resumes an interrupted
preparation. Layout of --out: fastMRI/preparation/cache.py
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from i2m2.errors import CommandParser, SettingsError, run_command

OUT = Path("data/fastmri")


def main(argv: list[str] | None = None) -> None:
    """Do what the command line asks for: prepare, count the annotations, or check."""
    args = _parser().parse_args(argv)
    if args.workers is not None and args.workers < 1:
        raise SettingsError(f"--workers {args.workers} must be at least 1")
    both = "--annotations knee.csv and --file-list knee_file_list.csv"
    if (args.annotations is None) != (args.file_list is None):
        raise SettingsError(f"{both} belong together; give both")
    if args.check is not None:
        return _check(args)
    if args.annotations is None:
        raise SettingsError(f"{both} are needed (or --check; see --help)")
    if args.audit_labels:
        return _audit_labels(args)
    if args.raw is None:
        raise SettingsError(
            "--raw DIR, the folder with singlecoil_train and singlecoil_val, is needed (see --help)"
        )
    return _prepare(args)


# What follows is imported where it is needed: --help starts without h5py and scipy.


def _check(args: Namespace) -> None:
    from fastMRI.preparation.cache_check import check

    check(args.check or args.out, args.annotations, args.file_list, args.workers)


def _audit_labels(args: Namespace) -> None:
    import msgspec

    from fastMRI.preparation.labels import audit_labels, read_annotations, read_file_list

    audit = audit_labels(*read_file_list(args.file_list), read_annotations(args.annotations))
    print(json.dumps(msgspec.to_builtins(audit), indent=2))


def _prepare(args: Namespace) -> None:
    from fastMRI.preparation.pipeline import prepare
    from fastMRI.preparation.report import summary
    from fastMRI.preparation.volumes import Rules

    rules = Rules(
        geometry=args.geometry,
        scale=args.scale,
        average=args.average,
        rss="coils" if args.multicoil else "file",
    )
    facts = prepare(
        args.raw,
        args.annotations,
        args.file_list,
        args.out,
        rules,
        multicoil=args.multicoil or (),
        split=args.split,
        workers=args.workers,
        skip_bad=args.skip_bad,
    )
    print(f"{summary(facts)}\nprepared: {args.out}")


def _parser() -> CommandParser:
    parser = CommandParser("python -m fastMRI.prepare", __doc__, allow_abbrev=False)
    add = parser.add_argument_group("files").add_argument
    about = "folder with singlecoil_train and singlecoil_val, or these themselves"
    add("--raw", type=Path, nargs="+", metavar="DIR", help=about)
    about = "folder with multicoil_train and multicoil_val: compute RSS from the coils"
    add("--multicoil", type=Path, nargs="+", metavar="DIR", help=about)
    add("--annotations", type=Path, metavar="CSV", help="annotations: knee.csv of fastMRI+")
    about = "knee_file_list.csv of fastMRI+: the volumes that were read"
    add("--file-list", type=Path, metavar="CSV", help=about)
    add("--out", type=Path, metavar="DIR", default=OUT, help=f"folder to write (default: {OUT})")
    add = parser.add_argument_group("instead of preparing").add_argument
    add("--audit-labels", action="store_true", help="print counts of the annotations as JSON")
    about = "audit a prepared folder (default: that of --out)"
    add("--check", type=Path, nargs="?", const=False, metavar="DIR", help=about)
    add = parser.add_argument_group("rules").add_argument
    about = "native (default), or official_code: stretched as published"
    add("--geometry", choices=("native", "official_code"), default="native", help=about)
    about = "scale of a volume: its 99.5th percentile (default), or its attribute max"
    add("--scale", choices=("percentile", "max"), default="percentile", help=about)
    about = "store means of N x N complex pixels (default: 1, every pixel)"
    add("--average", type=int, default=1, metavar="N", help=about)
    about = "what no two splits share; auto (default): patients if one has several volumes"
    add("--split", choices=("auto", "volume", "patient"), default="auto", help=about)
    add = parser.add_argument_group("running").add_argument
    about = "number of processes (default: one per processor)"
    add("--workers", type=int, metavar="N", help=about)
    about = "drop and list unusable volumes, instead of stopping at the first"
    add("--skip-bad", action="store_true", help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
