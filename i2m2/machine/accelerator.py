"""The devices that a training runs on, by Accelerate, and the tracker that follows it."""

from __future__ import annotations

import ctypes
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import torch

# Its functions take the world's group as a default: imported later (by DistributedDataParallel),
# they would keep the group and its threads to the exit, where these may abort the process.
import torch.distributed.nn.functional  # noqa: F401
from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from i2m2.errors import SettingsError
from i2m2.settings import RunConfig, flatten, to_dict

PATIENCE = timedelta(hours=6)  # of processes that wait while the first makes or checks the data


def make_accelerator(config: RunConfig) -> Accelerator:
    """The accelerator of the settings. SettingsError for what this machine does not have."""
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    device, tracker, precision = config.device, config.tracker, config.precision
    if device in available and not available[device]():
        raise SettingsError(
            f"device={device}, but PyTorch finds none here; use --device cpu or auto"
        )
    if tracker and not find_spec(tracker):
        raise SettingsError(f"tracker={tracker} is not installed: pip install {tracker}")
    handlers = [
        DistributedDataParallelKwargs(find_unused_parameters=config.unused_parameters),
        InitProcessGroupKwargs(timeout=PATIENCE),
    ]
    cpu = device == "cpu"
    try:
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=handlers)
    except ValueError as error:
        raise SettingsError(f"precision={precision}: {error}") from error
    if accelerator.device.type == "cpu":
        if precision == "fp16":  # PyTorch would go on in float32 without a word
            raise SettingsError(
                "precision=fp16 is not possible on the CPU; use a GPU, or bf16 or no"
            )
        _keep_freed_memory()
    # The next step's graph would write over gradients that are still to be added to.
    in_parts = config.optim.micro_batches > 1 or accelerator.num_processes > 1
    if config.compile == "graph" and in_parts:
        raise SettingsError(
            "compile=graph takes an update in one step of one process; "
            "set --optim.micro_batches 1 without torchrun, or --compile true"
        )
    # The same numbers again on the same GPU.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return accelerator


def _keep_freed_memory() -> None:
    """Have glibc keep the large blocks that every step frees and asks for again: faulting them in
    anew, page by page, took up to a fifth of a training step (benchmarks/avmnist.py)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # Linux with glibc
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, the largest value there is
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def start_tracker(accelerator: Accelerator, config: RunConfig, folder: Path) -> None:
    """TensorBoard or Weights & Biases, if set, with its files in the run's folder."""
    if config.tracker:
        accelerator.project_configuration.set_directories(str(folder))
        accelerator.log_with = filter_trackers(config.tracker, accelerator.logging_dir)
        settings = flatten(to_dict(config))
        plain = {k: v if isinstance(v, (int, float)) else str(v) for k, v in settings.items()}
        accelerator.init_trackers("i2m2", config=plain)
