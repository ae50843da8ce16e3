"""Entries of a file of weights, mapped and not read: the queues of pre-training, gigabytes of old
inputs, never reach the memory. Nothing in a file is run."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from i2m2.errors import DataError, SettingsError

# Of a training framework's objects in a file only the names are looked at.
WITHOUT_CODE = (
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "sacred.", "omegaconf.", "argparse.",
    "numpy.",
)  # fmt: skip
UNREADABLE = (
    RuntimeError, EOFError, ValueError, KeyError, struct.error, SafetensorError, zipfile.BadZipFile,
)  # fmt: skip
PICKLED = b"\x80"  # how a file of a very old torch begins


def read_entries(path: Path) -> Mapping[str, Tensor]:
    """{name: tensor} of a checkpoint, mapped from the file. DataError if it cannot be read, or not
    without running code in it."""
    if not path.is_file():
        raise SettingsError(
            f"{path}: no such file; checkpoint names a file of FIBER's weights, which its authors "
            "no longer serve; without one set backbone.checkpoint to null and backbone.kind to "
            "flava, fiber_hub (its fusion has to be trained) or, for trials, fiber_random: "
            "VQA_and_NLVR2/README.md, section Backbones"
        )
    try:
        if path.suffix == ".safetensors":
            return _Safetensors(path)
        content = _read_torch(path)
    except pickle.UnpicklingError as error:
        named = re.findall(r"GLOBAL (\S+)", str(error))
        raise _runs_code(path, named[:1] or ["unknown"]) from None
    except UNREADABLE as error:
        what = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: not a readable checkpoint ({what}); get it again") from None
    nested = content.get("state_dict")
    entries = nested if isinstance(nested, Mapping) else content
    if not all(isinstance(value, Tensor) for value in entries.values()):
        raise DataError(
            f"{path}: neither an entry state_dict nor a plain dict of tensors; "
            f"entries: {some(map(str, entries))}"
        )
    return entries


class _Safetensors(Mapping[str, Tensor]):
    """Entries of an open .safetensors file, read when asked for."""

    def __init__(self, path: Path) -> None:
        self.file = safe_open(path, framework="pt")
        self.names = list(self.file.keys())

    def __getitem__(self, key: str) -> Tensor:
        return self.file.get_tensor(key)

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _read_torch(path: Path) -> Mapping:
    mapped = zipfile.is_zipfile(path)  # else a file of a very old torch, which cannot be mapped
    with open(path, "rb") as file:
        start = file.read(16)
    if not mapped and not start.startswith(PICKLED):  # a page that says the link is dead, say
        raise ValueError(f"it begins with {start!r}" if start else "it is empty")
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if mapped else []
    if code := [name for name in names if not name.startswith(WITHOUT_CODE)]:
        raise _runs_code(path, code)
    with torch.serialization.safe_globals([(IgnoredPickleObject, name) for name in names]):
        content = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict")
    return content


def _runs_code(path: Path, names: Iterable[str]) -> DataError:
    return DataError(
        f"{path}: it holds more than tensors and settings: {some(names)}, and no file is read by "
        "running what it says; where you trust it, save its state_dict alone and name that file"
    )


class IgnoredPickleObject:
    """Stand-in for an object that a training framework left beside the weights: made of anything,
    keeps nothing, runs nothing."""

    def __new__(cls, *_: object, **__: object) -> IgnoredPickleObject:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def some(names: Iterable[str], shown: int = 4) -> str:
    """'3 (a, b, c)', '90 (a, b, c, d, ...)'."""
    names = list(names)
    first = names[:shown] + ["..."] * (len(names) > shown)
    return f"{len(names)} ({', '.join(first)})"
