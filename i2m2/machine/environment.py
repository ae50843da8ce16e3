"""What a number depends on beside the settings and the data: versions, device, commit."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from i2m2.files import Plain

PACKAGES = (  # whose versions a number depends on
    "torch", "torchvision", "numpy", "scikit-learn", "accelerate", "transformers", "h5py", "i2m2",
)  # fmt: skip


def environment(device: str = "cpu") -> Plain:
    """Of this process, on a device as in the settings: auto takes a GPU where there is one."""
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
