"""fastMRI's cache against the reference layout, I2M2's step and the loader's share of it, memory.

python -m benchmarks.fastmri

Generated volumes of 640 x W, read from the system's file cache, so the disk plays no part. The
reference layout: benchmarks/fastmri/layout.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.fastmri.layout import bytes_rows, speed_rows, write_reference
from benchmarks.fastmri.memory import memory_rows, one_step
from benchmarks.fastmri.step import step_rows
from benchmarks.measuring.timing import machine, table
from fastMRI.make_synthetic import make_volumes
from fastMRI.preparation.pipeline import prepare
from i2m2.errors import CommandParser, run_command


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.one_step:
        return one_step(*json.loads(args.one_step))
    print(f"{machine()}; generated volumes, no patient is real")
    with tempfile.TemporaryDirectory() as temporary:
        raw, folder = Path(temporary) / "raw", Path(temporary) / "prepared"
        make_volumes(raw, args.volumes)
        prepare([raw], raw / "knee.csv", raw / "knee_file_list.csv", folder)
        reference = write_reference(raw, Path(temporary) / "reference")
        print_tables(folder, reference, args)


def print_tables(folder: Path, reference: list[Path], args: argparse.Namespace) -> None:
    columns = ["", "reference", "ours", "ratio", "target"]
    print(table("Bytes per slice", columns, bytes_rows(folder, reference)))
    title = f"Slices per second, one process, medians of {args.rounds} alternating rounds"
    print(table(title, columns, speed_rows(folder, reference, args.rounds)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    title = f"I2M2 at 320 x 320 on {device}; "
    title += "peak: a GPU's product of matrices in the same precision"
    columns = ["training step", "loading and views", "whole step", "share in %", "target"]
    columns += ["slices/s", "of the matrix peak", "memory, GB"]
    print(table(title, columns, step_rows(folder, args.examples, args.steps, device)))
    title = f"One network at 320 x 320, forward and backward of {args.examples} slices, "
    title += "beyond a process without the step"
    columns = ["", "GB", "of float32", "seconds"]
    print(table(title, columns, memory_rows(folder, args.examples)))


def _parser() -> CommandParser:
    parser = CommandParser("benchmarks.fastmri", __doc__)
    add = parser.add_argument
    add("--volumes", type=int, default=6, help="to generate; default: 6")
    add("--rounds", type=int, default=5, help="of alternating reading; default: 5")
    about = "training steps for the loader's share; default: 3"
    add("--steps", type=int, default=3, help=about)
    about = "slices of a training step; default: 2 (a GPU wants 16)"
    add("--examples", type=int, default=2, help=about)
    add("--threads", type=int, default=2, help="default: 2")
    add("--one-step", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_command(main)
