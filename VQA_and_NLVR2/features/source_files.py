"""Which files features were made of: wherever these are at hand, training compares them, so that no
others pass for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.backbones.settings import BackboneSettings
from VQA_and_NLVR2.inputs.checked_images import size_of

WHOLE = 64 << 20  # bytes up to which all of a file is read; of a larger one blocks spread over it
BLOCK, BLOCKS = 1 << 16, 256
# Settings of each kind of backbone that may name files.
NAMING = {
    "fiber": ("checkpoint", "sizes", "tokenizer"),
    "fiber_random": ("sizes", "tokenizer"),
    "fiber_hub": ("image_encoder", "text_encoder", "tokenizer"),
    "flava": ("flava", "tokenizer"),
}


def identity(path: Path) -> str:
    """Size and SHA-256 of a file's content, or of all files of a folder, wherever it lies and
    whenever it was written."""
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        text = "\n".join(f"{file.relative_to(path)} {identity(file)}" for file in inside)
        return f"{len(inside)} files {hashlib.sha256(text.encode()).hexdigest()}"
    size, digest = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
        else:
            for start in np.linspace(0, size - BLOCK, BLOCKS).astype(int).tolist():
                file.seek(start)
                digest.update(file.read(BLOCK))
    return f"{size} bytes {digest.hexdigest()}"


def identities(named: Mapping[str, Path]) -> dict[str, str]:
    """Of those that are there."""
    return {name: identity(path) for name, path in named.items() if path.exists()}


def files_of(backbone: BackboneSettings) -> dict[str, Path]:
    """The local files and folders that its settings name; names on the hub are none."""
    named = {f"backbone.{name}": getattr(backbone, name) for name in NAMING[backbone.kind]}
    return {name: Path(value) for name, value in named.items() if value is not None}


def compare(
    folder: Path, known: Sequence[Mapping[str, str]], named: Mapping[str, Path]
) -> list[str]:
    """DataError names the files that are not those the features in `folder` were made of, in any of
    the ways that are `known` -> those that are not there."""
    recorded = set().union(*known)
    now = identities({name: path for name, path in named.items() if name in recorded})
    for stored in known:
        differing = [name for name in now if stored.get(name, now[name]) != now[name]]
        if not differing:
            return [name for name in stored if name not in now]
    listed = ", ".join(f"{name} ({named[name]})" for name in differing)
    raise DataError(
        f"{folder}: made of other files than {listed}; extract the features again, which keeps "
        "them if only answers have changed; if questions, weights or tokens have, give another "
        "--features.dir or delete this folder first; or give the files that they were made of"
    )


def picture_bytes(paths: Iterable[Path | None]) -> np.ndarray:
    """int64 [images]: size of each image's file, by which one that was put in its place is known;
    -1 for one that is missing or cannot be reached, such as a link to nothing."""
    sizes = (None if path is None else size_of(path) for path in paths)
    return np.array([-1 if size is None else size for size in sizes], np.int64)
