"""fastMRI's cache against the reference layout, I2M2's step and the loader's share of it, memory:
python -m benchmarks.fastmri

Generated volumes of 640 x W. The reference layout is the published code's: a file per slice with
k-space zero-filled to 640 x 400 in complex128, and both reconstructions. Everything is read from
the system's file cache, so the disk plays no part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the file can be run as it is

from benchmarks.process import Cost, measure
from benchmarks.timing import alternate, beside, machine, table
from fastMRI.data import FastMRIData, Slices, load_fastmri
from fastMRI.make_synthetic import make_volumes
from fastMRI.models import FastMRIConfig, build_model
from fastMRI.preparation.fourier import PADDED_WIDTH, SIZE, fit, image_of
from fastMRI.prepare import prepare
from i2m2.errors import CommandParser, run_command
from i2m2.losses import negative_log_likelihood
from i2m2.training.config import load_config
from i2m2.training.data import to_device

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "fastMRI/configs/fastmri.yaml")
MEMORY = {  # settings of the network -> what they are called
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


def write_reference(raw: Path, out: Path) -> list[Path]:
    """The published layout of raw volumes no wider than 400 columns: one file per slice."""
    paths = []
    for path in sorted(raw.glob("singlecoil_*/*.h5")):
        with h5py.File(path) as file:
            if file["kspace"].shape[-1] > PADDED_WIDTH:
                continue
            for index, kspace in enumerate(file["kspace"][:]):
                paths.append(out / path.stem / f"knee_singlecoil_{path.stem}_{index}.h5")
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(paths[-1], "w") as written:
                    written["sc_kspace"] = fit(kspace, PADDED_WIDTH, -1).astype(np.complex128)
                    written["recon_esc"], written["recon_rss"] = (
                        file["reconstruction_esc"][index],
                        file["reconstruction_rss"][index],
                    )
    return paths


def read_reference(paths: list[Path], transform: bool) -> None:
    """What its loader needs of every slice: k-space, from which the image comes, and RSS."""
    for path in paths:
        with h5py.File(path) as file:
            kspace, _ = file["sc_kspace"][:], file["recon_rss"][:]
        if transform:
            image_of(kspace)


def read_cache(split: Slices, batch: int = 16) -> None:
    """Every slice of the split, in batches, as training reads them."""
    for part in np.array_split(np.arange(len(split)), max(1, len(split) // batch)):
        split[part]


def layout_rows(folder: Path, reference: list[Path], rounds: int) -> tuple[list, list]:
    """-> rows on bytes per slice, rows on slices per second of one process."""
    splits = [split for split in load_fastmri(FastMRIData(dir=str(folder))).splits.values()]
    image = [split.select(["magnitude", "phase"]) for split in splits]
    slices = sum(map(len, splits))
    cached = sum(path.stat().st_size for path in folder.glob("volumes/*.h5")) / slices
    published = sum(path.stat().st_size for path in reference) / len(reference)
    with h5py.File(next(folder.glob("volumes/*.h5"))) as ours, h5py.File(reference[0]) as theirs:
        read = [ours["image"][0].nbytes, theirs["sc_kspace"][:].nbytes]
    bytes_rows = [
        [
            "read for magnitude and phase",
            f"{read[1]:,}",
            f"{read[0]:,}",
            *beside(read[1] / read[0], ">= 4"),
        ],
        [
            "on the disk, with RSS (theirs: and ESC)",
            f"{published:,.0f}",
            f"{cached:,.0f}",
            *beside(published / cached, ">= 3.9"),
        ],
    ]
    tasks = {
        "reference, read": lambda: read_reference(reference, transform=False),
        "reference, read and transformed": lambda: read_reference(reference, transform=True),
        "cache, image": lambda: [read_cache(split) for split in image],
        "cache, image and RSS": lambda: [read_cache(split) for split in splits],
    }
    seconds = alternate(tasks, rounds)
    speed = {
        name: (len(reference) if "reference" in name else slices) / value
        for name, value in seconds.items()
    }
    pairs = [
        ("what a step reads: image", "reference, read", "cache, image"),
        (
            "the same, theirs transformed to an image",
            "reference, read and transformed",
            "cache, image",
        ),
        ("image and RSS, which no method reads at once", "reference, read", "cache, image and RSS"),
    ]
    speed_rows = [
        [what, f"{speed[a]:.0f}", f"{speed[b]:.0f}", *beside(speed[b] / speed[a], ">= 4")]
        for what, a, b in pairs
    ]
    speed_rows[-1][-1] = "-"
    return bytes_rows, speed_rows


def training_step(
    folder: Path, examples: int, rounds: int, settings: list[str], device: torch.device
) -> tuple[float, float, float]:
    """Median seconds of loading and preparing a batch, and of the whole training step of I2M2 at
    full size; a GPU's peak in GB."""
    split = (
        load_fastmri(FastMRIData(dir=str(folder))).splits["train"].select(["magnitude", "phase"])
    )
    config = load_config(
        FastMRIConfig,
        ["--config", CONFIG, "--method", "i2m2", "--init", "scratch", *settings],
        "benchmark",
    )
    model = build_model(config).to(device)
    if config.compile:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loading, step = [], []
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for number in range(1 + rounds):
        began = time.perf_counter()
        batch = to_device(
            split[np.arange(number, number + examples) % len(split)], device, split.prepare
        )
        _wait(device)
        loading.append(time.perf_counter() - began)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            log_prob, _ = model(batch["inputs"])
        negative_log_likelihood(log_prob.float(), batch["y"]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        _wait(device)
        step.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    return float(np.median(loading[1:])), float(np.median(step[1:])), peak


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
        model = build_model(
            load_config(
                FastMRIConfig,
                ["--config", CONFIG, "--method", "i2m2", "--init", "scratch"],
                "benchmark",
            )
        )
        image = torch.zeros(1, 1, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model({"magnitude": image, "phase": image})
    return 3 * counter.get_total_flops()


def step_rows(folder: Path, examples: int, rounds: int, device: torch.device) -> list[list[str]]:
    """A row per precision: seconds of loading and of the whole step, slices per second, share of a
    GPU's matrix peak, memory."""
    rows, flop = [], flop_per_slice()
    for name, (settings, dtype) in STEPS[device.type].items():
        load, whole, peak = training_step(folder, examples, rounds, settings, device)
        # On a CPU another library multiplies matrices than convolves, and not the faster one.
        on_gpu = ["-", "-"]
        if device.type == "cuda":
            on_gpu = [
                f"{100 * examples * flop / whole / matrix_peak(device, dtype):.0f} %",
                f"{peak:.1f}",
            ]
        cells = [f"{1000 * load:.1f} ms", f"{whole:.3g} s", *beside(100 * load / whole, "<= 5")]
        rows.append([f"{examples} slices, {name}", *cells, f"{examples / whole:.3g}", *on_gpu])
    return rows


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_memory(folder: Path, settings: list[str], examples: int) -> Cost:
    """One training step of the magnitude network at full size in a process of its own; without
    examples, all but the step.

    Freed blocks go back to the system at once there, so that the peak is of what is in use.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1048576"
    return measure(
        ["benchmarks.fastmri", "--one-step", json.dumps([str(folder), settings, examples])]
    )


def one_step(folder: str, settings: list[str], examples: int) -> None:
    fixed = ["--config", CONFIG, "--method", "unimodal_magnitude", "--device", "cpu"]
    config = load_config(FastMRIConfig, [*fixed, *settings], "benchmark")
    split = load_fastmri(FastMRIData(dir=folder)).splits["train"].select(["magnitude"])
    accelerator, model = (
        Accelerator(cpu=True, mixed_precision=config.precision),
        build_model(config),
    )
    batch = to_device(split[np.arange(max(1, examples))], torch.device("cpu"), split.prepare)
    if examples:
        with accelerator.autocast():
            log_prob, _ = model(batch["inputs"])
        negative_log_likelihood(log_prob.float(), batch["y"]).mean().backward()


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = CommandParser(
        "benchmarks.fastmri",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--volumes", type=int, default=6, help="to generate; default: 6")
    parser.add_argument("--rounds", type=int, default=5, help="of alternating reading; default: 5")
    parser.add_argument(
        "--steps", type=int, default=3, help="training steps for the loader's share; default: 3"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=2,
        help="slices of a training step; default: 2 (a GPU wants 16)",
    )
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--one-step", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.one_step:
        return one_step(*json.loads(args.one_step))
    print(f"{machine()}; generated volumes, no patient is real")
    with tempfile.TemporaryDirectory() as temporary:
        raw, folder = Path(temporary) / "raw", Path(temporary) / "prepared"
        make_volumes(raw, args.volumes)
        prepare([raw], raw / "knee.csv", raw / "knee_file_list.csv", folder)
        reference = write_reference(raw, Path(temporary) / "reference")
        bytes_rows, speed_rows = layout_rows(folder, reference, args.rounds)
        columns = ["", "reference", "ours", "ratio", "target"]
        print(table("Bytes per slice", columns, bytes_rows))
        print(
            table(
                f"Slices per second, one process, medians of {args.rounds} alternating rounds",
                columns,
                speed_rows,
            )
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        rows = step_rows(folder, args.examples, args.steps, device)
        columns = [
            "training step",
            "loading and views",
            "whole step",
            "share in %",
            "target",
            "slices/s",
        ]
        columns += ["of the matrix peak", "memory, GB"]
        print(
            table(
                f"I2M2 at 320 x 320 on {device}; peak: a GPU's product of matrices in the same precision",
                columns,
                rows,
            )
        )
        before = peak_memory(folder, [], 0)
        costs = {
            name: peak_memory(folder, settings, args.examples) for name, settings in MEMORY.items()
        }
        step = {
            name: (cost.peak - before.peak, cost.seconds - before.seconds)
            for name, cost in costs.items()
        }
        rows = [
            [name, f"{peak:.2f}", f"{peak / step['float32'][0]:.2f}", f"{time:.1f}"]
            for name, (peak, time) in step.items()
        ]
        title = f"One network at 320 x 320, forward and backward of {args.examples} slices, beyond a process without the step"
        print(table(title, ["", "GB", "of float32", "seconds"], rows))


if __name__ == "__main__":
    run_command(main)
