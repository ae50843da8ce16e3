"""Peak memory of one network's training step, by its settings, in processes of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks.fastmri.layout import splits_of
from benchmarks.fastmri.step import settings_of
from benchmarks.measuring.process import Cost, measure
from fastMRI.models import build_model
from i2m2.losses import negative_log_likelihood
from i2m2.training.data import to_device

MEMORY = {  # what settings of the network are called -> the settings
    "float32": [],
    "float32, stage 1 checkpointed": ["--model.checkpointed", "1"],
    "bfloat16": ["--precision", "bf16"],
    "bfloat16, stage 1 checkpointed": ["--precision", "bf16", "--model.checkpointed", "1"],
    "bfloat16, all stages checkpointed": ["--precision", "bf16", "--model.checkpointed", "4"],
}


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
