"""Time and memory of the MIMIC extraction as CHARTEVENTS grows.

python -m benchmarks.mimic_extract [--millions 1 5 20] [--keep DIR]

Synthetic tables with as many rows per patient as MIMIC-III has (330.7 million of 46,520), one in
seven of an item that is needed. Each extraction runs in a process of its own, as the command does;
its peak memory is the system's record of that process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the file can be run as it is

from AVMNIST_and_MIMIC.make_synthetic_mimic import MAX_PATIENTS, describe
from benchmarks.measuring.process import Cost, measure
from benchmarks.measuring.timing import beside, machine, table
from i2m2.errors import CommandParser, SettingsError, run_command

ROOT = Path(__file__).resolve().parents[1]
REAL_MILLIONS = 330.712483  # rows of CHARTEVENTS in MIMIC-III v1.4
SEED = 0


def patients_of(millions: float) -> int:
    """As many as such a part of MIMIC-III has."""
    return min(MAX_PATIENTS, max(20, round(MAX_PATIENTS * millions / REAL_MILLIONS)))


def make_tables(folder: Path, millions: float) -> Cost | None:
    """Generate the tables, unless the folder holds them -> cost, None if they were there."""
    patients, rows = patients_of(millions), round(millions * 1e6)
    label, wanted = folder / "SYNTHETIC.txt", describe(patients, SEED, rows)
    if label.exists() and label.read_text(encoding="utf-8").strip() == wanted:
        return None
    counts = ["--patients", str(patients), "--chart-rows", str(rows), "--seed", str(SEED)]
    return measure(["AVMNIST_and_MIMIC.make_synthetic_mimic", "--out", str(folder), *counts])


def row_of(millions: float, folder: Path, args: Namespace) -> tuple[Cost, list[str]]:
    """Generate and extract one size -> cost of the extraction, its line of the table."""
    made = make_tables(folder, millions)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        places = ["--raw", str(folder), "--out", str(out)]
        cost = measure(["AVMNIST_and_MIMIC.prepare_mimic", *places, "--mode", args.mode])
        facts = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        with np.load(out / "mimic.npz") as arrays:
            admissions = len(arrays["hadm_id"])
    assert facts["synthetic"]
    size = (folder / "CHARTEVENTS.csv.gz").stat().st_size / 1e6
    generated = "kept"
    if made:
        generated = f"{made.seconds:.0f} ({millions * 1e3 / made.seconds:.0f})"
    cells = [
        f"{millions:g}",
        generated,
        f"{size:.0f}",
        f"{patients_of(millions):,}",
        f"{admissions:,}",
        f"{cost.seconds:.1f}",
        f"{cost.cpu:.1f}",
        f"{cost.seconds / millions:.2f}",
    ]
    return cost, [*cells, *beside(cost.peak, "<= 4")]


COLUMNS = (
    "million rows",
    "generated in s (thousand rows/s)",
    "CHARTEVENTS, MB",
    "patients",
    "N",
    "s",
    "CPU s",
    "s per million",
    "peak, GB",
    "target",
)


def fit(millions: list[float], seconds: list[float]) -> tuple[float, float, str]:
    """-> start, seconds per million rows, and a text that also says how straight the line is."""
    slope, start = np.polyfit(millions, seconds, 1)
    residual = np.square(np.polyval([slope, start], millions) - seconds).sum()
    straight = 1 - residual / np.square(seconds - np.mean(seconds)).sum()
    last, first = (np.diff(seconds) / np.diff(millions))[[-1, 0]]
    value, verdict = beside(last / first, "<= 1.2")
    text = (
        f"{start:.2f} s + {slope:.3f} s per million rows, R² {straight:.4f}; "
        f"last step over first: {value} (target {verdict})"
    )
    return start, slope, text


def fit_lines(millions: list[float], costs: list[Cost]) -> list[str]:
    """Straight lines through the seconds, and what follows for the real table.

    Its peak memory follows from the last step of the peaks.
    """
    start, slope, wall = fit(millions, [cost.seconds for cost in costs])
    *_, cpu = fit(millions, [cost.cpu for cost in costs])
    growth = max(0.0, costs[-1].peak - costs[-2].peak) / (millions[-1] - millions[-2])
    seconds = start + slope * REAL_MILLIONS
    peak = costs[-1].peak + growth * (REAL_MILLIONS - millions[-1])
    return [
        f"linear, clock: {wall}",
        f"linear, CPU:   {cpu}",
        f"peak grows by {growth * 1000:.0f} MB per million rows in the last step",
        f"PROJECTION, not a measurement, for {REAL_MILLIONS} million rows: {seconds:.0f} s "
        f"({seconds / 60:.1f} min), peak {peak:.1f} GB. The real LABEVENTS and OUTPUTEVENTS have "
        "several times as many rows per patient as the synthetic ones, and time on another "
        "machine, disk or load differs.",
    ]


def parse(argv: list[str] | None) -> Namespace:
    parser = CommandParser("mimic_extract", __doc__)
    sizes, about = [1.0, 5.0, 20.0], "rows of CHARTEVENTS (default: 1 5 20)"
    parser.add_argument("--millions", type=float, nargs="+", default=sizes, help=about)
    about = "keep the tables here, and use those that are there"
    parser.add_argument("--keep", type=Path, metavar="DIR", help=about)
    parser.add_argument("--mode", choices=("clean", "reference"), default="clean")
    args = parser.parse_args(argv)
    args.millions = sorted(set(args.millions))
    if args.millions[0] < 0.001:
        raise SettingsError(f"--millions {args.millions[0]:g} must be at least 0.001")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    print(f"Machine: {machine()}\nData: SYNTHETIC tables in the MIMIC-III schema", flush=True)
    costs, rows = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for millions in args.millions:
            folder = (args.keep or Path(scratch)).resolve() / f"{millions:g}-million"
            cost, row = row_of(millions, folder, args)
            costs.append(cost)
            rows.append(row)
    print(table(f"extraction, mode {args.mode}", COLUMNS, rows))
    if len(costs) > 1:
        print("\n" + "\n".join(fit_lines(args.millions, costs)))


if __name__ == "__main__":
    run_command(main)
