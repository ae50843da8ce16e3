"""Speed of MIMIC-III, as ratios measured in turn, on noise of the real size: python -m
benchmarks.mimic [--parts load,usual,gru]

load   seconds to read and standardise the arrays
usual  a training pass as such code is usually written / ours, on the same rows from the same weights
gru    where the time of a step goes; ways to run the series encoder and the update faster, and whether they give the same numbers
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the file can be run as it is

from AVMNIST_and_MIMIC.mimic.arrays import (
    ICD9_GROUPS,
    SERIES,
    STATIC,
    patient_split,
    read_arrays,
    standardise,
)
from AVMNIST_and_MIMIC.mimic.experiment import load_mimic
from benchmarks.mimic_gru import encoder_table, split_of_step, step_table, update_table
from benchmarks.mimic_loops import ROWS, config_of, usual_ratio
from benchmarks.timing import alternate, beside, choices, machine, table
from benchmarks.training import subset
from i2m2.errors import run_command
from i2m2.training.data import Data

STAYS = 36_212  # of the published cohort
TARGETS = {
    1: (">= 4", ">= 1.5"),
    0: (">= 1.2", ">= 0.97"),
}  # workers of the usual data loader: static row, rows with a GRU


def make_arrays(folder: Path, stays: int) -> None:
    """mimic.npz and dataset.json: noise in the form of the real arrays, three of ten values
    missing."""
    rng = np.random.default_rng(0)
    series = rng.normal(100, 20, (stays, 24, len(SERIES))).astype(np.float32)
    series[rng.random(series.shape, dtype=np.float32) < 0.3] = np.nan
    np.savez(
        folder / "mimic.npz",
        series=series,
        series_mask=np.isfinite(series).astype(np.uint8),
        static=rng.normal(60, 10, (stays, len(STATIC))).astype(np.float32),
        mortality_labels=rng.integers(0, 2, (stays, 6), dtype=np.uint8),
        icd9=rng.integers(0, 2, (stays, ICD9_GROUPS), dtype=np.uint8),
        hadm_id=np.arange(stays),
        subject_id=np.arange(stays),
    )
    described = {
        "variant": "noise",
        "synthetic": True,
        "description": "noise in the form of the real arrays",
    }
    (folder / "dataset.json").write_text(json.dumps(described))


def load_part(args: argparse.Namespace, data: Data) -> str:
    config = config_of("static", args.folder)
    arrays = read_arrays(args.folder, config.data.steps)
    train = patient_split(arrays["subject_id"]).train
    tasks = {
        "reading": lambda: read_arrays(args.folder, config.data.steps),
        "standardising": lambda: [
            standardise(arrays[name], train, config.data.standardise)
            for name in ("static", "series")
        ],
        "load_mimic, which also splits, checks and scores the baseline": lambda: load_mimic(config),
    }
    seconds = alternate(tasks, args.rounds)
    both = seconds["reading"] + seconds["standardising"]
    rows = [[name, f"{value:.2f}", ""] for name, value in seconds.items()]
    first = ["load_mimic, the first time in this process", f"{args.first_load:.2f}", ""]
    return table(
        f"load: {args.rounds} rounds",
        ["", "s", "target"],
        [*rows, first, ["reading and standardising", *beside(both, "<= 1")]],
    )


def usual_part(args: argparse.Namespace, data: Data) -> str:
    rows = []
    for row in args.rows:
        train, cells = subset(data.splits["train"], args.steps * 40), []
        for workers, threads in ((1, args.threads), (0, 1)):
            seconds = usual_ratio(row, train, workers, threads, args.rounds)
            target = TARGETS[workers][row != "static"]
            cells += [
                *(f"{seconds[name]:.2f}" for name in ("usual", "ours")),
                *beside(seconds["usual"] / seconds["ours"], target),
            ]
        rows.append([row, *cells])
    columns = [
        f"{cell} ({setting})"
        for setting in (f"1 worker, {args.threads} threads", "no workers, 1 thread")
        for cell in ("usual, s", "ours, s", "usual / ours", "target")
    ]
    return table(
        f"usual: a training pass of {args.steps * 40:,} examples, {args.rounds} rounds",
        ["row", *columns],
        rows,
    )


def gru_part(args: argparse.Namespace, data: Data) -> str:
    torch.set_num_threads(args.threads)
    steps = min(args.steps, 100)
    train = subset(data.splits["train"], steps * 40)
    tables = [
        step_table(row, split_of_step(row, train, steps, args.rounds), args.threads)
        for row in args.rows
        if row != "static"
    ]
    return "\n".join(
        [
            *tables,
            encoder_table(train, args.threads, args.rounds, steps),
            update_table(args.rows, args.rounds, steps),
        ]
    )


PARTS = {"load": load_part, "usual": usual_part, "gru": gru_part}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", type=choices(PARTS), default=",".join(PARTS), help="separated by commas"
    )
    parser.add_argument(
        "--rows",
        type=choices(ROWS),
        default=",".join(ROWS),
        help="rows of Table 2, separated by commas",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5, help="that count, after one to warm up")
    parser.add_argument(
        "--steps",
        type=int,
        default=724,
        help="of 40 stays, per round: the training split; gru: at most 100",
    )
    parser.add_argument("--stays", type=int, default=STAYS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        args.folder = Path(scratch)
        make_arrays(args.folder, args.stays)
        began = time.perf_counter()
        data = load_mimic(config_of("static", args.folder))
        args.first_load = time.perf_counter() - began
        print(
            f"Machine: {machine()}\nData: {data.facts['description']}, {args.stays:,} stays",
            flush=True,
        )
        for name, part in PARTS.items():
            if name in args.parts:
                print(part(args, data), flush=True)


if __name__ == "__main__":
    run_command(main)
