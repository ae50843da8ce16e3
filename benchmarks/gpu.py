"""Epochs of small networks on a GPU: as CUDA graphs and several seeds at once, over eager ones.

python -m benchmarks.gpu [--rows avmnist,mimic] [--device cuda]

An epoch is a pass over the training split, which lies on the device, and the predictions of the
validation split, of I2M2 with concatenation. AV-MNIST: digits and synthesised speech, as many rows
as the real training split; MIMIC: noise of the real form.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from AVMNIST_and_MIMIC.avmnist import experiment as avmnist
from AVMNIST_and_MIMIC.avmnist.digits import make_digits
from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTData
from AVMNIST_and_MIMIC.mimic import experiment as mimic
from benchmarks.compared import avmnist_loops, mimic_loops
from benchmarks.compared.training import subset
from benchmarks.measuring.timing import alternate, choices, machine, table
from benchmarks.mimic import STAYS, make_arrays
from benchmarks.seeds import Build, one_and_several
from i2m2.errors import SettingsError, run_command
from i2m2.settings import RunConfig
from i2m2.training.data import Data, resident

ROW = "i2m2 concat"
SEEDS = 5
AVMNIST_ROWS = 55_000  # of the real training split
WAYS = ("eager", "graphs")


def of_avmnist(args: argparse.Namespace) -> tuple[RunConfig, Build, Data]:
    folder = args.scratch / "avmnist"
    make_digits(folder)
    data = avmnist.load_avmnist(AVMNISTData(dir=str(folder)))
    train = subset(data.splits["train"], args.avmnist_rows)
    data = replace(data, splits={**data.splits, "train": train})
    return avmnist_loops.config_of(ROW), avmnist.build_model, data


def of_mimic(args: argparse.Namespace) -> tuple[RunConfig, Build, Data]:
    make_arrays(args.scratch, args.stays)
    config = mimic_loops.config_of(ROW, args.scratch)
    return config, mimic.build_model, mimic.load_mimic(config)


DATA = {"avmnist": of_avmnist, "mimic": of_mimic}


def epochs_of(row: str, args: argparse.Namespace) -> list[object]:
    """A line of the table: seconds of an epoch each way, and what they are over one eager seed."""
    config, build, data = DATA[row](args)
    splits = [resident(data.splits[name], torch.device(args.device)) for name in ("train", "val")]
    tasks = {}
    for way in WAYS:
        own = replace(config, device=args.device, compile="graph" if way == "graphs" else False)
        one, several = one_and_several(own, build, tuple(splits), SEEDS)
        tasks |= {(way, 1): one.one_epoch, (way, SEEDS): several.one_epoch}
    seconds = alternate(tasks, args.rounds)
    first = seconds["eager", 1]
    return [row, *(f"{took:.2f} ({took / first:.2f})" for took in seconds.values())]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=choices(DATA), default=",".join(DATA), help="separated by commas")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--rounds", type=int, default=5, help="that count, after one to warm up")
    add("--avmnist_rows", type=int, default=AVMNIST_ROWS)
    add("--stays", type=int, default=STAYS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device=cuda, but PyTorch finds none here; use --device cpu")
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"Machine: {machine()}; {where}", flush=True)
    columns = ["data", *(f"{way}, {n}" for way in WAYS for n in ("one seed", f"{SEEDS} seeds"))]
    with tempfile.TemporaryDirectory() as scratch:
        args.scratch = Path(scratch)
        rows = [epochs_of(row, args) for row in args.rows]
    title = f"seconds of an epoch (over one seed, eager), {args.rounds} rounds"
    print(table(title, columns, rows), flush=True)


if __name__ == "__main__":
    run_command(main)
