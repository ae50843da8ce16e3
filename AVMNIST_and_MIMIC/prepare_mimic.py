"""Prepare MIMIC-III: 5 static features, 12 series over 24 hours, and labels, per admission.

from PhysioNet's CSV(.gz) tables:
    python -m AVMNIST_and_MIMIC.prepare_mimic --raw DIR --out data/mimic
with the published faults kept:
    python -m AVMNIST_and_MIMIC.prepare_mimic --raw DIR --mode reference --out data/mimic-reference
from the distributed pickle, running nothing in it:
    python -m AVMNIST_and_MIMIC.prepare_mimic --im-pk im.pk --out data/mimic-im_pk
audit only:
    python -m AVMNIST_and_MIMIC.prepare_mimic --check data/mimic
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from AVMNIST_and_MIMIC.mimic.extraction import layout
from AVMNIST_and_MIMIC.mimic.extraction.check import check
from AVMNIST_and_MIMIC.mimic.extraction.pickle import read_im_pk
from AVMNIST_and_MIMIC.mimic.extraction.schema import release_of
from AVMNIST_and_MIMIC.mimic.extraction.tables import find_tables
from i2m2.errors import CommandParser, SettingsError, run_command

if TYPE_CHECKING:
    from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch

# README.md lists all in which they differ; the cohort, its order, the labels and all other rules
# are the same.
MODES = ("clean", "reference")


def main(argv: list[str] | None = None) -> None:
    """Do what the command line asks for: extract, convert or check."""
    args = _parser().parse_args(argv)
    if args.check is not None:
        return check(args.check or args.out)
    if (args.raw is None) == (args.im_pk is None):
        raise SettingsError("give either --raw DIR or --im-pk FILE (or --check; see --help)")
    if args.im_pk is not None:
        if (args.mode, args.horizon_hours, args.bin_hours) != ("clean", 24, 1):
            raise SettingsError(
                "--mode, --horizon-hours and --bin-hours belong to --raw; "
                "im.pk is converted as it is"
            )
        return convert(args.im_pk, args.out)
    facts = extract(
        args.raw, args.out, args.mode, args.horizon_hours, args.bin_hours, memory_gb=args.memory_gb
    )
    if facts is None:
        print(f"already there, made of the same inputs by the same rules; nothing done: {args.out}")
    else:
        _report(args.out, facts)


def extract(
    raw: Path,
    out: Path,
    mode: str = "clean",
    horizon_hours: float = 24,
    bin_hours: float = 1,
    *,
    memory_gb: float = 2,
) -> layout.Facts | None:
    """Write mimic.npz and dataset.json (see `layout`) of the raw tables in `raw`, or nothing.

    -> what dataset.json says; None if `out` holds just that already. SettingsError for options,
    DataError for tables that are missing, damaged or of another release, and for an empty cohort.
    """
    bins, width = _bins(mode, horizon_hours, bin_hours)
    if not 0.5 <= memory_gb <= 1e4:
        raise SettingsError(f"--memory-gb {memory_gb:g}: give at least 0.5; the default is 2")
    tables = find_tables(raw)
    note = raw / "SYNTHETIC.txt"
    synthetic = note.is_file()
    inputs = [table.path for table in tables.values()] + [note] * synthetic
    horizon_hours, bin_hours = float(horizon_hours), float(bin_hours)
    facts = {
        "dataset": "mimic",
        "recipe": layout.RECIPE,
        "variant": "",
        "mode": mode,
        "synthetic": synthetic,
        "description": "",
        "settings": {"mode": mode, "horizon_hours": horizon_hours, "bin_hours": bin_hours},
        **layout.stamp(inputs),
    }
    if layout.holds(out, facts):
        return None
    from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch  # imports DuckDB

    with Scratch(out, memory_gb) as scratch:
        facts["tables"] = scratch.load(tables)
        arrays, counts = _extract(scratch, mode, bins, width)
    facts |= counts | {"release": "unknown" if synthetic else release_of(facts["tables"])}
    text = note.read_text(encoding="utf-8", errors="replace") if synthetic else _describe(facts)
    facts |= {"variant": _variant(facts), "description": " ".join(text.split())}
    layout.write(out, arrays, facts)
    return facts


def _extract(
    scratch: Scratch, mode: str, bins: int, width: int
) -> tuple[layout.Arrays, layout.Facts]:
    """-> arrays of mimic.npz, and what dataset.json says of rows and events dropped."""
    from AVMNIST_and_MIMIC.mimic.extraction.oddities import count_oddities
    from AVMNIST_and_MIMIC.mimic.extraction.records import (
        build_records,
        count_events,
        fix_records,
    )
    from AVMNIST_and_MIMIC.mimic.extraction.series import build_series
    from AVMNIST_and_MIMIC.mimic.extraction.static import select_cohort, static_and_labels

    build_records(scratch)
    # By the reference rules in both modes, so that the rows of the two can be compared.
    funnel = select_cohort(scratch, bins * width)
    if mode == "clean":
        fix_records(scratch)
    arrays = static_and_labels(scratch, mode)
    series, mask = build_series(scratch, mode, len(arrays["hadm_id"]), bins, width)
    kind = np.float32 if mode == "clean" else np.float64
    arrays = {
        "series": series.astype(kind),
        "series_mask": mask,
        **arrays,
        "static": arrays["static"].astype(kind),
    }
    counts = {"funnel": funnel, "events": count_events(scratch)}
    return arrays, counts | {"oddities": count_oddities(scratch, mode)}


def convert(pickle: Path, out: Path) -> None:
    """Write the arrays of the distributed `im.pk` in our layout, values untouched.

    DataError if it is damaged or would run code.
    """
    if not pickle.is_file():
        raise SettingsError(f"--im-pk {pickle}: no such file")
    facts = {
        "dataset": "mimic",
        "recipe": layout.RECIPE,
        "variant": "im_pk",
        "mode": "im_pk",
        "synthetic": False,
        "description": "the distributed im.pk: MIMIC-III, 12 series over 24 hourly bins "
        "and 5 static features, as it is",
        "settings": {"mode": "im_pk", "horizon_hours": 24.0, "bin_hours": 1.0},
        **layout.stamp([pickle]),
        "release": "unknown",
        "tables": {},
        "funnel": [],
        "events": {},
        "oddities": {},
        "notes": [
            "hadm_id and subject_id are row numbers, since the file holds no ids",
            "series_mask is 1 where a value is finite, since the file's imputed values are not "
            "told apart",
        ],
    }
    if layout.holds(out, facts):
        return print(f"already there, made of the same file; nothing done: {out}")
    arrays, ignored = read_im_pk(pickle)
    layout.write(out, arrays, facts | {"ignored": ignored})
    if ignored:
        print(f"{pickle}: ignored {', '.join(ignored)}")
    print(f"mimic, variant im_pk: {len(arrays['hadm_id']):,} rows\nwritten: {out}")


def _bins(mode: str, horizon_hours: float, bin_hours: float) -> tuple[int, int]:
    """-> number of bins, seconds per bin."""
    if mode not in MODES:
        raise SettingsError(f"--mode {mode} is unknown; choose one of {', '.join(MODES)}")
    for name, hours in (("--horizon-hours", horizon_hours), ("--bin-hours", bin_hours)):
        if not (math.isfinite(hours) and 1 <= hours * 3600 <= 1e8 and hours * 3600 % 1 == 0):
            raise SettingsError(
                f"{name} {hours:g}: give a positive number of hours that is a whole number of "
                "seconds, such as 24 or 0.5"
            )
    width, horizon = round(bin_hours * 3600), round(horizon_hours * 3600)
    if horizon % width:
        raise SettingsError(
            f"--horizon-hours {horizon_hours:g} is no multiple of --bin-hours {bin_hours:g}; "
            "give for example 24 and 1, or 48 and 2"
        )
    return horizon // width, width


def _variant(facts: layout.Facts) -> str:
    """clean, reference-demo, clean-h48, clean-h24-b2, synthetic, synthetic-reference ..."""
    name, settings = facts["mode"], facts["settings"]
    if facts["synthetic"]:
        name = "synthetic" if name == "clean" else f"synthetic-{name}"
    if "demo" in facts["release"]:
        name += "-demo"
    horizon, width = settings["horizon_hours"], settings["bin_hours"]
    if (horizon, width) == (24, 1):
        return name
    return f"{name}-h{horizon:g}" + (f"-b{width:g}" if width != 1 else "")


def _describe(facts: layout.Facts) -> str:
    release, settings = facts["release"], facts["settings"]
    if release == "unknown":
        release = "tables of MIMIC-III's layout, of an unknown release"
    rules = {"clean": "by clean rules", "reference": "by the published rules, faults included"}
    span = f"{settings['horizon_hours']:g} h in bins of {settings['bin_hours']:g} h"
    return (
        f"{release}, first admissions of adults, extracted {rules[facts['mode']]}: "
        f"5 static features and 12 series over {span}"
    )


def _report(out: Path, facts: layout.Facts) -> None:
    print(f"mimic, variant {facts['variant']}: {facts['description']}")
    for step in facts["funnel"]:
        dropped = f" ({step['dropped']:,} dropped)" if step["dropped"] else ""
        print(f"{step['rows']:>8,} {step['rule']}{dropped}")
    counts = {name: count["dropped"] for name, count in facts["events"].items()}
    dropped = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    marked = " (urine: or marked as errors)" if facts["mode"] == "clean" else ""
    print(f"events out of range{marked}, dropped: {dropped or 'none'}")
    for what, count in facts["oddities"].items():
        if count:
            print(f"{count:>8,} {what}")
    print(f"written: {out}")


def _parser() -> CommandParser:
    parser = CommandParser("python -m AVMNIST_and_MIMIC.prepare_mimic", __doc__, allow_abbrev=False)
    add = parser.add_argument
    about = "folder of MIMIC-III v1.4 (or its open demo) as PhysioNet ships it"
    add("--raw", type=Path, metavar="DIR", help=about)
    add("--im-pk", type=Path, metavar="FILE", help="distributed pickle to convert instead")
    out, about = Path("data/mimic"), "folder to write (default: data/mimic)"
    add("--out", type=Path, metavar="DIR", default=out, help=about)
    about = "rules of extraction: clean (default), or reference: as published, with faults"
    add("--mode", choices=MODES, default="clean", help=about)
    about = "length of the series in hours; records must be longer (default: 24)"
    add("--horizon-hours", type=float, default=24, metavar="H", help=about)
    about = "width of a bin in hours (default: 1)"
    add("--bin-hours", type=float, default=1, metavar="H", help=about)
    about = "memory for the database in GB, at least 0.5 (default: 2)"
    add("--memory-gb", type=float, default=2, metavar="GB", help=about)
    about = "audit a prepared folder (default: that of --out)"
    add("--check", type=Path, nargs="?", const=False, metavar="DIR", help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
