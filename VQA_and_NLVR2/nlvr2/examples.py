"""NLVR2's examples with both of their photographs: what is read, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError
from i2m2.files import make_once
from i2m2.training.data import first_of, read_description
from VQA_and_NLVR2.inputs.checked_images import unreadable
from VQA_and_NLVR2.inputs.json_files import Source, find_source
from VQA_and_NLVR2.nlvr2.files import (
    SUBSETS,
    Sentences,
    balance,
    coverage,
    hold_out,
    image_folder,
    image_path,
    read_nlvr2,
    subset,
)
from VQA_and_NLVR2.nlvr2.settings import NLVR2Data
from VQA_and_NLVR2.synthetic.generate import USUAL, make_synthetic

HOW_TO_GET = (
    "how to get it: VQA_and_NLVR2/README.md, section Data; "
    "without any data: --data.source synthetic"
)


@dataclass(frozen=True)
class Examples:
    """n examples with both of their images."""

    sentences: Sentences
    paths: np.ndarray  # str [n, 2], left and right
    subsets: Mapping[str, np.ndarray]  # {balanced, unbalanced: bool [n]}


class Found(NamedTuple):
    """What was read of the data."""

    examples: dict[str, Examples]  # train, val, test
    left_out: dict[str, int]  # how many of each
    lines: list[str]  # what is to be said about it


def read_examples(config: NLVR2Data) -> Found:
    """Training, validation (dev, or the held-out directories) and test split (test1). DataError for
    files that are missing, damaged, or not what they should be."""
    files = {name: _find(config.folder, f"{name}.json") for name in ("train", "dev", "test1")}
    read = {name: _read(source, name) for name, source in files.items()}
    train, val = read["train"], read["dev"]
    if config.hold_out is not None:
        train, val = hold_out(train, config.hold_out, files["train"])
    train = train.take(first_of(np.arange(len(train)), config.train_size))
    found = Found({}, {}, [])
    for name, sentences in {"train": train, "val": val, "test": read["test1"]}.items():
        paths, lines = _photographs(config, sentences)
        whole = (paths != "").all(axis=1)
        subsets = _subsets(config.folder, sentences)
        subsets = {which: mask[whole] for which, mask in subsets.items()}
        found.examples[name] = Examples(sentences.take(whole), paths[whole], subsets)
        found.left_out[name] = int((~whole).sum())
        found.lines.extend(lines)
    return found


def _find(folder: Path, name: str) -> Source:
    source = find_source((folder, folder / "data"), name)
    if source is None:
        raise DataError(f"nlvr2: {folder / name} is missing; {HOW_TO_GET}")
    return source


def _read(source: Source, split: str) -> Sentences:
    """DataError if examples of another split are among them."""
    sentences = read_nlvr2(source)
    if others := sorted(set(sentences.split.strings) - {split}):
        raise DataError(
            f"{source}: holds examples of {', '.join(others)}, as their identifiers say, where "
            f"those of {split} belong; give NLVR2's {split}.json under this name"
        )
    return sentences


def _subsets(folder: Path, sentences: Sentences) -> dict[str, np.ndarray]:
    """{balanced, unbalanced: bool [n]}: by the published lists where they are there, else by their
    rule."""
    split = sentences.split.strings[0]
    bases = [base / part for base in (folder, folder / "data") for part in ("", *SUBSETS)]
    subsets = dict(zip(SUBSETS, balance(sentences), strict=True))
    for name in SUBSETS:
        source = find_source(bases, f"{name}_{split}.json")
        if source is not None:
            subsets[name] = subset(sentences, source)
    return subsets


def _photographs(config: NLVR2Data, sentences: Sentences) -> tuple[np.ndarray, list[str]]:
    """-> (paths [n, 2], '' where there is none; what is to be said about it). DataError if some are
    missing and none may be."""
    sides = image_path(config.folder, sentences)
    broken: dict[Path, str] = {}
    if config.check_images:
        present = [path for side in sides for path in side if path is not None]
        broken = unreadable(present, config.folder / "checked_images.json")
        left, right = ([None if path in broken else path for path in side] for side in sides)
        sides = left, right
    lines = coverage(sentences, *sides)
    if broken:
        first = next(iter(broken.values()))
        lines.append(
            f"{len(broken):,} photographs cannot be read and count as missing, first {first}"
        )
    paths = np.array([[str(path or "") for path in side] for side in sides]).T
    if config.incomplete == "refuse" and (paths == "").any():
        raise DataError(
            f"nlvr2: {'; '.join(lines)}; put them below {image_folder(config.folder)}, "
            "or set data.incomplete to leave_out"
        )
    return paths, lines


def describe(folder: Path) -> dict[str, object]:
    """What a folder of generated data says of itself; the published files have no such
    description."""
    if (folder / "dataset.json").exists():
        return read_description(folder)
    text = f"NLVR2, the files in {folder.name}"
    return {"variant": "published", "synthetic": False, "description": text}


def make_synthetic_once(folder: Path) -> None:
    """Generate pictures and sentences into `folder` unless it is there."""
    make_once(folder, _make)


def _make(folder: Path) -> None:
    sentences = f"about {USUAL['nlvr2']:,} sentences for training"
    say([f"nlvr2: generating pictures of shapes and {sentences}, this once"])
    make_synthetic(folder, "nlvr2")


def say(lines: Iterable[str]) -> None:
    """Print, but once where several processes load the same data."""
    if int(os.environ.get("RANK", 0)) == 0:
        print(*lines, sep="\n", flush=True)
