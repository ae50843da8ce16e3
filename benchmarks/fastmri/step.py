"""I2M2's training step: seconds, the loader's share, and how near it is to a GPU's matrix peak."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fastmri.layout import splits_of
from benchmarks.measuring.process import ROOT
from benchmarks.measuring.timing import beside
from fastMRI.models import build_model
from fastMRI.preparation.fourier import SIZE
from fastMRI.settings import FastMRIConfig
from i2m2.losses import negative_log_likelihood
from i2m2.training.config import load_config
from i2m2.training.data import to_device

CONFIG = str(ROOT / "fastMRI/configs/fastmri.yaml")
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
