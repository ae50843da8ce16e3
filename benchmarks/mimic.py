"""Speed of MIMIC-III, as ratios measured in turn, on noise of the real size.

python -m benchmarks.mimic [--parts load,usual,gru]

load   seconds to read and standardise the arrays
usual  a training pass as such code is usually written / ours, on the same rows from the same
       weights
gru    where the time of a step goes; ways to run the series encoder and the update faster, and
       whether they give the same numbers
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from AVMNIST_and_MIMIC.mimic.arrays import (
    ICD9_GROUPS,
    SERIES,
    STATIC,
    read_mimic,
    standardise,
)
from AVMNIST_and_MIMIC.mimic.experiment import load_mimic
from benchmarks.compared.mimic_gru import encoder_table, split_of_step, step_table, update_table
from benchmarks.compared.mimic_loops import ROWS, config_of, usual_ratio
from benchmarks.compared.training import subset
from benchmarks.measuring.timing import alternate, beside, choices, machine, table
from i2m2.errors import run_command
from i2m2.training.data import Data
from i2m2.training.preparation import group_split

STAYS = 36_212  # of the published cohort
# By the workers of the usual data loader: for the static row, for rows with a GRU.
TARGETS = {1: (">= 4", ">= 1.5"), 0: (">= 1.2", ">= 0.97")}


def make_arrays(folder: Path, stays: int) -> None:
    """mimic.npz and dataset.json: noise in the form of the real arrays.

    Three of ten values are missing.
    """
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
    about = "noise in the form of the real arrays"
    described = {"variant": "noise", "synthetic": True, "description": about}
    (folder / "dataset.json").write_text(json.dumps(described))


def load_part(args: argparse.Namespace, data: Data) -> str:
    config = config_of("static", args.folder)
    arrays = read_mimic(args.folder, config.data.steps)
    train = group_split(arrays["subject_id"]).train

    def standardise_both() -> None:
        for name in ("static", "series"):
            standardise(arrays[name], train, config.data.standardise)

    tasks = {
        "reading": lambda: read_mimic(args.folder, config.data.steps),
        "standardising": standardise_both,
        "load_mimic, which also splits, checks and scores the baseline": lambda: load_mimic(config),
    }
    seconds = alternate(tasks, args.rounds)
    both = seconds["reading"] + seconds["standardising"]
    rows = [[name, f"{value:.2f}", ""] for name, value in seconds.items()]
    rows.append(["load_mimic, the first time in this process", f"{args.first_load:.2f}", ""])
    rows.append(["reading and standardising", *beside(both, "<= 1")])
    return table(f"load: {args.rounds} rounds", ["", "s", "target"], rows)


def usual_part(args: argparse.Namespace, data: Data) -> str:
    rows = []
    for row in args.rows:
        train, cells = subset(data.splits["train"], args.steps * 40), []
        for workers, threads in ((1, args.threads), (0, 1)):
            seconds = usual_ratio(row, train, workers, threads, args.rounds)
            target = TARGETS[workers][row != "static"]
            cells += [f"{seconds[name]:.2f}" for name in ("usual", "ours")]
            cells += beside(seconds["usual"] / seconds["ours"], target)
        rows.append([row, *cells])
    columns = ["row"]
    for setting in (f"1 worker, {args.threads} threads", "no workers, 1 thread"):
        cells = ("usual, s", "ours, s", "usual / ours", "target")
        columns += [f"{cell} ({setting})" for cell in cells]
    title = f"usual: a training pass of {args.steps * 40:,} examples, {args.rounds} rounds"
    return table(title, columns, rows)


def gru_part(args: argparse.Namespace, data: Data) -> str:
    torch.set_num_threads(args.threads)
    steps = min(args.steps, 100)
    train = subset(data.splits["train"], steps * 40)
    tables = []
    for row in args.rows:
        if row != "static":
            seconds = split_of_step(row, train, steps, args.rounds)
            tables.append(step_table(row, seconds, args.threads))
    tables.append(encoder_table(train, args.threads, args.rounds, steps))
    tables.append(update_table(args.rows, args.rounds, steps))
    return "\n".join(tables)


PARTS = {"load": load_part, "usual": usual_part, "gru": gru_part}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", type=choices(PARTS), default=",".join(PARTS), help="separated by commas")
    about = "rows of Table 2, separated by commas"
    add("--rows", type=choices(ROWS), default=",".join(ROWS), help=about)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--rounds", type=int, default=5, help="that count, after one to warm up")
    about = "of 40 stays, per round: the training split; gru: at most 100"
    add("--steps", type=int, default=724, help=about)
    add("--stays", type=int, default=STAYS)
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
        print(f"Machine: {machine()}", flush=True)
        print(f"Data: {data.facts['description']}, {args.stays:,} stays", flush=True)
        for name, part in PARTS.items():
            if name in args.parts:
                print(part(args, data), flush=True)


if __name__ == "__main__":
    run_command(main)
