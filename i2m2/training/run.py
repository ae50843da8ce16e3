"""A run's folder as it is written; a kill at any moment does it no harm."""

from __future__ import annotations

import fcntl
import io
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from torch import Tensor

from i2m2.errors import DataError, SettingsError
from i2m2.files import Plain, finite, write_atomic, write_json, write_text
from i2m2.runs import is_done, read_config, read_environment, read_facts, readable
from i2m2.settings import RunConfig, config_diff, to_dict, with_role

RUN_AGAIN = "delete its folder and run it again"
PACKAGES = (  # whose versions a number depends on
    "torch", "torchvision", "numpy", "scikit-learn", "accelerate", "transformers", "h5py", "i2m2",
)  # fmt: skip


def run_dir(config: RunConfig, variant: str = "") -> Path:
    """<out>/<dataset>[-<variant>]/<run name>/seed<k>."""
    dataset = f"{config.dataset}-{variant}" if variant else config.dataset
    return Path(config.out) / dataset / config.run_name / f"seed{config.seed}"


@dataclass(eq=False)
class Run:
    """One training and its folder."""

    dir: Path
    config: RunConfig
    writes: bool = True  # one process of a distributed run does

    @classmethod
    def open(cls, directory: Path, config: RunConfig, data: Plain, writes: bool = True) -> Run:
        """Begin a run or resume it. SettingsError if its folder holds other settings, DataError
        if its data have changed.

        `data` describes the data set (variant, synthetic, fingerprint ...) for env.json.
        """
        run = cls(directory, config, writes)
        stored = read_config(directory) if run.started else {}  # else nothing was trained yet
        threads = config.threads or stored.get("threads") or torch.get_num_threads()
        run.config = replace(config, threads=threads)
        if stored:
            if differing := differences(stored, run.config):
                raise SettingsError(
                    f"{directory} holds a run of other settings: {shown(differing)}; "
                    "give this one a --tag, or delete that folder"
                )
            run.refuse_other_data(data)
        if writes:
            directory.mkdir(parents=True, exist_ok=True)
            run._lock()
            for leftover in directory.glob(".*.tmp.*"):  # of a process that was killed
                leftover.unlink()
            if not stored:
                settings = yaml.safe_dump(to_dict(run.config), sort_keys=False)
                # A fact may be undefined, an AUROC say.
                env = environment(config.device) | {"data": finite(data)}
                write_json(directory / "env.json", env)
                write_text(directory / "config.yaml", settings)
        return run

    @property
    def done(self) -> bool:
        return is_done(self.dir)

    @property
    def started(self) -> bool:
        """Whether an epoch has been finished, after which the run can be resumed."""
        return (self.dir / "last.pt").exists()

    @property
    def facts(self) -> Plain:
        """What the run recorded about its data: variant, synthetic, description, fingerprint."""
        return read_facts(self.dir)

    def save_best(self, weights: Mapping[str, Tensor]) -> None:
        # Cloned: the format refuses tensors that share memory (an encoder that two experts use).
        contiguous = torch.contiguous_format
        copies = {k: v.detach().cpu().clone(memory_format=contiguous) for k, v in weights.items()}
        data = safetensors.torch.save(copies)
        self._write("best.safetensors", lambda path: path.write_bytes(data))

    def load_best(self) -> dict[str, Tensor]:
        """Weights of the best epoch. SettingsError if there are none yet, DataError if damaged."""
        path = self.dir / "best.safetensors"
        if not path.exists():
            raise SettingsError(
                f"{path} does not exist: this run has not finished an epoch yet; train it first"
            )
        with readable(path, RUN_AGAIN, safetensors.SafetensorError):
            return safetensors.torch.load_file(path)

    def save_last(self, state: Plain) -> None:
        # Through memory: a full disk is then an OSError of ours, not an abort inside torch.save.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self._write("last.pt", lambda path: path.write_bytes(buffer.getbuffer()))

    def load_last(self) -> Plain | None:
        """The state after the latest finished epoch, on the CPU; None for a new run."""
        if not self.started:
            return None
        path, errors = self.dir / "last.pt", (RuntimeError, ValueError, EOFError, UnpicklingError)
        with readable(path, RUN_AGAIN, *errors):
            return torch.load(path, map_location="cpu", weights_only=True)

    def write_history(self, history: list[Plain]) -> None:
        """Write metrics.jsonl, whole every time: it never has an epoch whose state was not kept."""
        text = "".join(json.dumps(finite(record), allow_nan=False) + "\n" for record in history)
        self._write("metrics.jsonl", lambda path: path.write_text(text, encoding="utf-8"))

    def save_predictions(self, split: str, predictions: Mapping[str, np.ndarray]) -> None:
        self._write(f"predictions_{split}.npz", lambda path: np.savez(path, **predictions))

    def add_to_environment(self, **facts: Any) -> None:
        """Add facts to env.json, such as where a warm start came from."""
        if self.writes:
            write_json(self.dir / "env.json", read_environment(self.dir) | facts)

    def finish(self, result: Mapping[str, Mapping[str, float]]) -> None:
        """Write result.json ({split: {metric: value}}, null where one is undefined), then DONE."""
        if self.writes:
            write_json(self.dir / "result.json", finite(result))
            write_text(self.dir / "DONE", "")

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        if self.writes:
            write_atomic(self.dir / name, write)

    def refuse_other_data(self, data: Plain) -> None:
        """DataError if the data at hand are not those the run began with."""
        stored, now = str(self.facts.get("fingerprint", "not recorded")), data["fingerprint"]
        if stored != now:
            raise DataError(
                f"{self.dir} was made with other data "
                f"(fingerprint {stored[:12]} there, {now[:12]} now); "
                "restore them, give this run a --tag, or delete that folder"
            )

    def _lock(self) -> None:
        """Lock the folder; the system frees it when this process ends, however it ends."""
        self._lock_file = open(self.dir / ".lock", "w")  # noqa: SIM115 (until the process ends)
        try:
            # Not flock: the data loader's workers would inherit it, and outlive a kill by seconds.
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"{self.dir}: another process is at work on this run; "
                "wait for it, or choose another --tag"
            ) from error


def differences(stored: Plain, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """{dotted name: (stored value, value now)} of settings with influence on the numbers."""
    neutral = with_role(type(config), "neutral", "location")
    return config_diff(stored, to_dict(config), ignored=neutral)


def shown(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """What `differences` found, in a message: `optim.lr (0.05 there, 0.1 now), ...`."""
    return ", ".join(f"{key} ({there} there, {now} now)" for key, (there, now) in differing.items())


def environment(device: str = "cpu") -> Plain:
    """Versions, device (as in the settings: auto takes a GPU where there is one) and commit: what a
    number depends on beside the settings and the data."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": torch.cuda.get_device_name() if on_gpu else _processor(),
        "git_commit": _git_commit(),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
    }


def _git_commit() -> str | None:
    """The commit of this project, with `+` if files differ from it; None in a copy without .git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    words = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]  # whatever the tags
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", path.read_text()) if path.exists() else []
    if names:
        return f"{names[0]}, {len(names)} cores"
    return platform.processor() or platform.machine()
