"""`python -m i2m2.diagnose TABLE --target COLUMN --modality NAME=COLUMNS ...`"""

from __future__ import annotations

import signal
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2m2.errors import CommandParser, SettingsError, run_command


def build_parser() -> CommandParser:
    """The options of the command, before anything that is slow to load."""
    parser = CommandParser(
        prog="python -m i2m2.diagnose",
        description="Does this data need inter-modality modelling, intra-modality modelling, or "
        "both? Trains every row on the same folds and answers.",
    )
    table = "CSV, Parquet or npz file, a row per example; or a results folder, whose finished runs "
    table += "are then asked by their saved predictions, with --metric, --margin and --out alone"
    parser.add_argument("table", metavar="TABLE", type=Path, help=table)
    parser.add_argument("--target", metavar="COLUMN", help="column of the labels or numbers")
    also = "further target column; several labels are predicted together"
    parser.add_argument("--also", action="append", default=[], metavar="COLUMN", help=also)
    groups = "column whose equal values (a patient) are never on both sides of a split"
    parser.add_argument("--groups", metavar="COLUMN", help=groups)
    parser.add_argument("--id", metavar="COLUMN", help="column with the examples' names")
    modality = (
        "static=age,weight or vitals=vital_* (columns), series=FILE.npz:key or notes=FILE.csv "
        "(files with rows in the same order), pictures='scans/*.png' (a file per example, called "
        "by its --id); append :KIND (table, series, picture, text, embedding) where it is not to "
        "be inferred"
    )
    parser.add_argument(
        "--modality", action="append", default=[], metavar="NAME=COLUMNS|FILE[:KIND]", help=modality
    )
    metric = "metric of the questions: nll (default), accuracy, auroc, ...; r2 of a regression"
    parser.add_argument("--metric", help=metric)
    margin = "difference that does not matter (default: 0.01, or 1 %% of H(y) in nats)"
    parser.add_argument("--margin", type=float, help=margin)
    parser.add_argument("--task", choices=("classify", "regress"), help="default: by the target")
    interactions = "fused experts: one of all modalities, one per pair, one per subset"
    choices = ("all", "pairs", "subsets")
    parser.add_argument("--interactions", choices=choices, default="all", help=interactions)
    parser.add_argument("--folds", type=int, default=5, help="parts of the data (default: 5)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default: 3)")
    parser.add_argument("--jobs", type=int, help="processes at once (default: all cores)")
    further = "also each modality's own part, exchanged modalities, additive projection"
    parser.add_argument("--further", action="store_true", help=further)
    out = "folder for answer, figure and predictions; a killed run goes on from there"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the files, diagnose, print the answer."""
    args = build_parser().parse_args(argv)
    if args.table.is_dir():
        return _print_answer_of_runs(args)
    if args.target is None:
        raise SettingsError("give --target COLUMN, the column of the labels or numbers")
    if len(args.modality) < 2:
        raise SettingsError("give --modality twice or more; the question needs two modalities")
    data = _read_files(args)

    from i2m2.diagnose.api import diagnose  # here: it loads torch

    found = diagnose(
        **data,
        task=args.task,
        interactions=args.interactions,
        metric=args.metric or "nll",
        margin=args.margin,
        folds=args.folds,
        seeds=args.seeds,
        further=args.further,
        jobs=args.jobs,
        out=args.out,
        progress=True,
        name=args.table.stem,
    )
    print(found)
    if args.out:
        page = args.out / "diagnosis.html"
        runs = ", and a run per row and seed" if found.classes is not None else ""
        print(f"\nwritten: {page}, .txt, .json, .png{runs}")


def _read_files(args: Namespace) -> dict[str, Any]:
    """What `diagnose` gets of the user's files."""
    import numpy as np

    from i2m2.diagnose.modalities import Source, blocks_of
    from i2m2.diagnose.tables import column, read_table

    targets, named = [args.target, *args.also], {"--groups": args.groups, "--id": args.id}
    not_inputs = [*targets, *(name for name in named.values() if name)]
    table = read_table(args.table, args.id, not_inputs)
    columns = [column(table, name, "--target") for name in targets]
    groups, ids = (
        None if name is None else column(table, name, option) for option, name in named.items()
    )
    source = Source(table, args.table.parent, not_inputs, args.id, ids)
    blocks, kinds = blocks_of(source, args.modality)
    y = columns[0] if len(columns) == 1 else np.column_stack(columns)
    return {"X": blocks, "y": y, "kinds": kinds, "groups": groups, "ids": ids}


def _print_answer_of_runs(args: Namespace) -> None:
    if args.target or args.modality:
        raise SettingsError(f"{args.table} is a folder; --target and --modality are of a table")
    from i2m2.diagnose.finished import diagnose_runs, stored_answer
    from i2m2.diagnose.pages import to_text, write

    answer = stored_answer(args.table, args.metric, args.margin)
    answer = answer or diagnose_runs(args.table, args.metric or "nll", args.margin)
    print(to_text(answer))
    if args.out:
        print(f"\nwritten: {', '.join(map(str, write(answer, args.out)))}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its workers end with it then
    run_command(main)
