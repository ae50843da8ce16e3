"""Writing files so that a reader, or a restart after a kill, never meets half of one."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Plain = dict[str, Any]  # nested plain values, as JSON and YAML files hold them


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it.

    On any error (a full disk, say) the temporary file goes and what stood at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: numpy and others append their own where it is missing.
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it was
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def finite(value: Any) -> Any:
    """Nested values with NaN and infinity as None, for JSON."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; ValueError for NaN and infinity, see `finite`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def make_once(folder: Path, make: Callable[[Path], object]) -> None:
    """Let `make` fill a temporary folder and rename it to `folder`, unless that is there; of
    several processes one works and the others wait for it."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # freed when this process ends, however it ends
        if folder.exists():
            return
        for leftover in folder.parent.glob(f".*.tmp.{folder.name}"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = folder.with_name(f".{os.getpid()}.tmp.{folder.name}")
        temporary.mkdir()
        try:
            make(temporary)
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
