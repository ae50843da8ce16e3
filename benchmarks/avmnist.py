"""Speed and memory of AV-MNIST, as ratios measured in turn.

python benchmarks/avmnist.py [--parts loop,usual,memory,jobs,encoder]

loop     a step of the real training loop over real data / the bare forward, loss, backward, clip
         and update on one resident batch
usual    a training pass as such code is usually written / ours, on the same rows with the same
         weights
memory   peak memory of a training, and seconds from opened data to the first batch
jobs     scripts/avmnist.sh with JOBS=2 / with JOBS=1
encoder  ways to run the encoders and the update faster, and whether they give the same numbers
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the file can be run as it is

from AVMNIST_and_MIMIC.avmnist.digits import make_digits
from AVMNIST_and_MIMIC.avmnist.experiment import load_avmnist
from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTData
from benchmarks.compared.avmnist_encoder import encoder_tables
from benchmarks.compared.avmnist_loops import (
    ROWS,
    config_of,
    loop_ratio,
    new_model,
    steps_of,
    usual_ratio,
)
from benchmarks.compared.training import Ours, subset
from benchmarks.measuring.process import ROOT, UNIT
from benchmarks.measuring.timing import alternate, beside, choices, machine, table
from i2m2.errors import run_command
from i2m2.training.data import Data, loader, to_device, training_plan
from i2m2.training.evaluate import predict

WORKERS = (8, 0)  # of the usual data loader
# Of part `loop`, and of part `usual` by its workers: for the image row, for rows with audio.
TARGETS = {
    "loop": ("<= 1.25", "<= 1.08"),
    8: (">= 2", ">= 1.2"),
    0: (">= 1.05", ">= 0.97"),
}


def target(key: str | int, row: str) -> str:
    """Of part `loop`, or of part `usual` with so many workers."""
    return TARGETS[key][row != "image"]


def memory_of_training(folder: Path, steps: int, threads: int) -> dict[str, float]:
    """What a training takes in a process of its own -> seconds to the first batch, peak in GB.

    Open the data; the first batch; every training row once through the loader and its preparation;
    `steps` real updates of `i2m2 concat`, the largest model; all validation rows.
    """
    torch.set_num_threads(threads)
    config = config_of("i2m2 concat")
    splits = load_avmnist(AVMNISTData(dir=str(folder))).splits
    train, val = splits["train"], splits["val"]
    began, first = time.perf_counter(), 0.0
    plan = training_plan(len(train), config.optim.batch_size, config.seed, epoch=0)
    for batch in loader(train, (part.positions for part in plan), config.workers):
        to_device(batch, torch.device("cpu"), train.prepare)
        first = first or time.perf_counter() - began
    ours = Ours(config, new_model(config), subset(train, steps * config.optim.batch_size))
    ours.one_pass()
    predict(ours.model, val, ours.accelerator, config.step_size, config.workers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e9
    return {"first batch": first, "peak": peak}


def sweep(jobs: int, seeds: str, folder: Path, overrides: list[str]) -> None:
    """scripts/avmnist.sh into a folder that is thrown away; threads as they come by default."""
    with tempfile.TemporaryDirectory() as out:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {
            "JOBS": str(jobs),
            "SEEDS": seeds,
            "OUT": out,
            "DATA": str(folder),
            "PATH": path,
            "VIRTUAL_ENV": sys.prefix,
        }
        environment.pop("OMP_NUM_THREADS", None)
        command = ["bash", str(ROOT / "scripts/avmnist.sh"), "--device", "cpu", *overrides]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            output = done.stdout[-2000:] + done.stderr[-2000:]
            raise RuntimeError(f"{' '.join(command)} with JOBS={jobs} failed:\n{output}")


def loop_part(args: argparse.Namespace, data: Data) -> str:
    rows = []
    for row in args.rows:
        ours, bare = loop_ratio(row, data, args.steps, args.rounds)
        times = [f"{ours * 1e3:.2f}", f"{bare * 1e3:.2f}"]
        rows.append([row, *times, *beside(ours / bare, target("loop", row))])
    title = (
        "loop: a step of our training over its bare computation "
        f"({args.rounds} rounds of {args.steps} steps, image twice as many)"
    )
    return table(title, ["row", "ours, ms", "bare, ms", "ours / bare", "target"], rows)


def usual_part(args: argparse.Namespace, data: Data) -> str:
    rows = []
    for row in args.rows:
        seconds = usual_ratio(row, data, args.steps, args.rounds, WORKERS)
        cells = [row, steps_of(row, args.steps) * 40, f"{seconds['ours']:.2f}"]
        for n in WORKERS:
            cells.append(f"{seconds[n]:.2f}")
            cells += beside(seconds[n] / seconds["ours"], target(n, row))
        rows.append(cells)
    columns = ["row", "examples", "ours, s"]
    for n in WORKERS:
        columns += [f"usual, {n} workers, s", "usual / ours", "target"]
    return table(f"usual: a training pass, {args.rounds} rounds", columns, rows)


def memory_part(args: argparse.Namespace, data: Data) -> str:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        cost = pool.submit(memory_of_training, args.folder, args.steps, args.threads).result()
    mapped = sum(path.stat().st_size for path in args.folder.rglob("*.npy")) / 1e9
    peak = f"peak resident memory, GB (files of {mapped:.2f} GB are memory-mapped and count)"
    rows = [
        [peak, *beside(cost["peak"], "<= 2.5")],
        ["opened data to first batch, s", *beside(cost["first batch"], "<= 1", digits=3)],
    ]
    title = f"memory: i2m2 concat; all training rows loaded, {args.steps} updates, validation"
    return table(title, ["", "measured", "target"], rows)


def jobs_part(args: argparse.Namespace, data: Data) -> str:
    overrides = [f"--data.train_size={args.jobs_rows}", f"--optim.epochs={args.jobs_epochs}"]
    tasks = {n: lambda n=n: sweep(n, args.jobs_seeds, args.folder, overrides) for n in (2, 1)}
    seconds = alternate(tasks, args.jobs_rounds, warmup=0)
    row = [f"{seconds[2]:.1f}", f"{seconds[1]:.1f}", *beside(seconds[2] / seconds[1], "<= 0.9")]
    title = (
        f"jobs: scripts/avmnist.sh, 7 rows, seeds {args.jobs_seeds}, {' '.join(overrides)}, "
        f"{args.jobs_rounds} rounds"
    )
    return table(title, ["JOBS=2, s", "JOBS=1, s", "ratio", "target"], [row])


def encoder_part(args: argparse.Namespace, data: Data) -> str:
    train = data.splits["train"]
    batch = to_device(train[np.arange(40)], torch.device("cpu"), train.prepare)
    return encoder_tables(
        batch["inputs"],
        new_model(config_of("i2m2 concat")),
        args.threads,
        args.rounds,
        args.steps,
        args.compile,
    )


# In this order: a child's peak memory is never below its parent's at the start.
PARTS = {
    "memory": memory_part,
    "jobs": jobs_part,
    "loop": loop_part,
    "usual": usual_part,
    "encoder": encoder_part,
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    about = "folder of prepared data (default: data/avmnist, else synthetic digits)"
    add("--data", type=Path, help=about)
    add("--parts", type=choices(PARTS), default=",".join(PARTS), help="separated by commas")
    about = "rows of Table 1, separated by commas"
    add("--rows", type=choices(ROWS), default=",".join(ROWS), help=about)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--rounds", type=int, default=5, help="that count, after one to warm up")
    add("--steps", type=int, default=50, help="of 40 examples, per round")
    about = "encoder: also torch.compile, which takes minutes"
    add("--compile", action="store_true", help=about)
    add("--jobs_rounds", type=int, default=1)
    add("--jobs_seeds", default="0 1", help="separated by spaces")
    add("--jobs_rows", type=int, default=4000, help="training rows per run of part jobs")
    add("--jobs_epochs", type=int, default=2)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message="This DataLoader will create 8 worker processes")
    with tempfile.TemporaryDirectory() as scratch:
        args.folder = (args.data or ROOT / "data/avmnist").resolve()
        if args.data is None and not args.folder.exists():
            args.folder = Path(scratch) / "avmnist-digits"
            make_digits(args.folder)
        data = load_avmnist(AVMNISTData(dir=str(args.folder)))
        kind = "SYNTHETIC" if data.facts["synthetic"] else "real"
        rows, about = len(data.splits["train"]), data.facts["description"]
        print(f"Machine: {machine()}", flush=True)
        print(f"Data: {kind}, {rows:,} training rows ({about})", flush=True)
        for name, part in PARTS.items():
            if name in args.parts:
                print(part(args, data), flush=True)


if __name__ == "__main__":
    run_command(main)
