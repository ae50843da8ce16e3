"""fastMRI's cache against the reference layout, I2M2's step and the loader's share of it, memory.

python -m benchmarks.fastmri

Generated volumes of 640 x W, read from the system's file cache, so the disk plays no part. The
reference layout: benchmarks/fastmri_layout.py
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fastmri.layout import bytes_rows, speed_rows, splits_of, write_reference
from benchmarks.measuring.process import ROOT, Cost, measure
from benchmarks.measuring.timing import beside, machine, table
from fastMRI.make_synthetic import make_volumes
from fastMRI.models import build_model
from fastMRI.preparation.fourier import SIZE
from fastMRI.preparation.pipeline import prepare
from fastMRI.settings import FastMRIConfig
from i2m2.errors import CommandParser, run_command
from i2m2.losses import negative_log_likelihood
from i2m2.training.config import load_config
from i2m2.training.data import to_device

CONFIG = str(ROOT / "fastMRI/configs/fastmri.yaml")
MEMORY = {  # what settings of the network are called -> the settings
    "float32": [],
    "float32, stage 1 checkpointed": ["--model.checkpointed", "1"],
    "bfloat16": ["--precision", "bf16"],
    "bfloat16, stage 1 checkpointed": ["--precision", "bf16", "--model.checkpointed", "1"],
    "bfloat16, all stages checkpointed": ["--precision", "bf16", "--model.checkpointed", "4"],
}
# Device -> precision -> settings of the training step, type of the matrices it is held against
STEPS = {
    "cpu": {"float32": ([], torch.float32)},
    "cuda": {
        "float32": ([], torch.float32),
        "bfloat16": (["--precision", "bf16"], torch.bfloat16),
        "bfloat16, compiled": (["--precision", "bf16", "--compile", "true"], torch.bfloat16),
    },
}


def settings_of(*arguments: str) -> FastMRIConfig:
    return load_config(FastMRIConfig, ["--config", CONFIG, *arguments], "benchmark")


def i2m2_settings(*arguments: str) -> FastMRIConfig:
    return settings_of("--method", "i2m2", "--init", "scratch", *arguments)


class StepCost(NamedTuple):
    """Median seconds of loading and preparing a batch, and of the whole training step; a GPU's peak
    memory in GB."""

    loading: float
    whole: float
    peak: float


def training_step(
    folder: Path, examples: int, rounds: int, settings: list[str], device: torch.device
) -> StepCost:
    """Of I2M2 at full size."""
    split = splits_of(folder)["train"].select(["magnitude", "phase"])
    config = i2m2_settings(*settings)
    model = build_model(config).to(device)
    if config.compile:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loading, whole = [], []
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for number in range(1 + rounds):
        began = time.perf_counter()
        positions = np.arange(number, number + examples) % len(split)
        batch = to_device(split[positions], device, split.prepare)
        _wait(device)
        loading.append(time.perf_counter() - began)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            log_prob, _ = model(batch["inputs"])
        negative_log_likelihood(log_prob.float(), batch["y"]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        _wait(device)
        whole.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    return StepCost(float(np.median(loading[1:])), float(np.median(whole[1:])), peak)


def matrix_peak(device: torch.device, dtype: torch.dtype, rounds: int = 5) -> float:
    """FLOP per second of a large product of matrices, the best of some: what a device can be
    measured to do.

    On a GPU float32 is multiplied as TensorFloat-32, as PyTorch's convolutions do unless told
    otherwise.
    """
    size = 8192 if device.type == "cuda" else 2048
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    a, b = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(1 + rounds):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def flop_per_slice() -> int:
    """Of a training step of I2M2 at 320 x 320: the backward pass costs twice the forward one."""
    with torch.device("meta"):
        model = build_model(i2m2_settings())
        image = torch.zeros(1, 1, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model({"magnitude": image, "phase": image})
    return 3 * counter.get_total_flops()


def step_rows(folder: Path, examples: int, rounds: int, device: torch.device) -> list[list[str]]:
    """A row per precision: seconds of loading and of the whole step, slices per second, share of a
    GPU's matrix peak, memory."""
    rows, flop = [], flop_per_slice()
    for name, (settings, dtype) in STEPS[device.type].items():
        cost = training_step(folder, examples, rounds, settings, device)
        # On a CPU another library multiplies matrices than convolves, and not the faster one.
        on_gpu = ["-", "-"]
        if device.type == "cuda":
            share = examples * flop / cost.whole / matrix_peak(device, dtype)
            on_gpu = [f"{100 * share:.0f} %", f"{cost.peak:.1f}"]
        rows.append(
            [
                f"{examples} slices, {name}",
                f"{1000 * cost.loading:.1f} ms",
                f"{cost.whole:.3g} s",
                *beside(100 * cost.loading / cost.whole, "<= 5"),
                f"{examples / cost.whole:.3g}",
                *on_gpu,
            ]
        )
    return rows


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def memory_rows(folder: Path, examples: int) -> list[list[str]]:
    """A row per setting: GB and seconds of a step, beyond a process without it."""
    before = peak_memory(folder, [], 0)
    costs = {name: peak_memory(folder, MEMORY[name], examples) for name in MEMORY}
    whole = costs["float32"].peak - before.peak
    rows = []
    for name, cost in costs.items():
        peak, seconds = cost.peak - before.peak, cost.seconds - before.seconds
        rows.append([name, f"{peak:.2f}", f"{peak / whole:.2f}", f"{seconds:.1f}"])
    return rows


def peak_memory(folder: Path, settings: list[str], examples: int) -> Cost:
    """One training step of the magnitude network at full size in a process of its own; without
    examples, all but the step.

    Freed blocks go back to the system at once there, so that the peak is of what is in use.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1048576"
    step = json.dumps([str(folder), settings, examples])
    return measure(["benchmarks.fastmri", "--one-step", step])


def one_step(folder: str, settings: list[str], examples: int) -> None:
    config = settings_of("--method", "unimodal_magnitude", "--device", "cpu", *settings)
    split = splits_of(Path(folder))["train"].select(["magnitude"])
    accelerator = Accelerator(cpu=True, mixed_precision=config.precision)
    model = build_model(config)
    batch = to_device(split[np.arange(max(1, examples))], torch.device("cpu"), split.prepare)
    if examples:
        with accelerator.autocast():
            log_prob, _ = model(batch["inputs"])
        negative_log_likelihood(log_prob.float(), batch["y"]).mean().backward()


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
