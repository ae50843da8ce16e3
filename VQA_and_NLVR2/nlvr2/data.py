"""NLVR2 as training reads it: complete pairs of photographs, decoded when a batch needs them, and
their sentences as token ids."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from i2m2.errors import DataError
from i2m2.files import make_once
from i2m2.training.data import Batch, Data, check_dataset, read_description
from i2m2.training.evaluate import score_of_class_frequencies
from VQA_and_NLVR2.backbones.base import Backbone, trim_text
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.inputs.augment import training_transform
from VQA_and_NLVR2.inputs.checked_images import unreadable
from VQA_and_NLVR2.inputs.images import evaluation_transform, load_rgb, normalise_images
from VQA_and_NLVR2.inputs.records import find_source
from VQA_and_NLVR2.nlvr2.files import (
    Sentences,
    balance,
    coverage,
    hold_out,
    image_path,
    read_nlvr2,
    subset,
)

HOW_TO_GET = "how to get it: VQA_and_NLVR2/README.md, section Data; without any data: --data.source synthetic"
SUBSETS = ("balanced", "unbalanced")


@dataclass(frozen=True, kw_only=True)
class NLVR2Data:
    """Where the data lie, and how they are read.

    Args:
        source: files as published, or synthetic: pictures and sentences generated on first use
        dir: folder of train.json, dev.json, test1.json and the photographs; null: data/nlvr2, or
            data/nlvr2-synthetic for synthetic
        train_size: use only the first so many training examples; null: all
        hold_out: validate on these whole directories (0..99) of the training file, which then does
            without them; null: on dev
        incomplete: of a pair whose photograph is missing or unreadable, leave out and count the
            examples, or refuse to begin
        check_images: decode every photograph once before the first run, and remember which can be
            read
        augment: crop the training images at random and distort their colours and geometry, as
            published
        flip: also mirror half of them, as published, although that makes "left" in a sentence
            untrue
    """

    source: Literal["files", "synthetic"] = "files"
    dir: str | None = None
    train_size: int | None = None
    hold_out: tuple[int, ...] | None = None
    incomplete: Literal["leave_out", "refuse"] = "leave_out"
    check_images: bool = True
    augment: bool = True
    flip: bool = False

    @property
    def folder(self) -> Path:
        return Path(
            self.dir or ("data/nlvr2-synthetic" if self.source == "synthetic" else "data/nlvr2")
        )


@dataclass(frozen=True)
class Examples:
    """n examples with both of their images."""

    sentences: Sentences
    paths: np.ndarray  # str [n, 2], left and right
    subsets: Mapping[str, np.ndarray]  # {balanced, unbalanced: bool [n]}


@dataclass(frozen=True)
class View:
    """How the images of a split look: resized, and in training changed at random."""

    side: int
    mean: Sequence[float]
    std: Sequence[float]
    seed: int = 0
    augment: bool = False
    flip: bool = False


class Pairs(Dataset):
    """Sentences about two photographs. Inputs: `image` uint8 [B, 2, 3, s, s], left and right;
    `text` ids int32 and mask [B, L], cut to the longest of the batch.

    `group` is the set: its sentences go with all its pairs of photographs, so that neither makes
    independent groups on its own. `columns` holds what accuracy and consistency on the subsets need
    beside the predictions.
    """

    def __init__(
        self,
        examples: Examples,
        text: tuple[np.ndarray, np.ndarray],
        view: View,
        modalities: Iterable[str] = ("image", "text"),
    ) -> None:
        """`text`: ids and mask [n, L]."""
        self.examples, self.text, self.view = examples, text, view
        self.modalities = tuple(modalities)
        self.id, self.y = examples.sentences.identifier, examples.sentences.label.astype(np.int64)
        parts = [identifier.rsplit("-", 3) for identifier in self.id.tolist()]
        self.group = np.array([f"{split}-{set_}" for split, set_, _, _ in parts])
        sentence = np.array([f"{split}-{set_}-{number}" for split, set_, _, number in parts])
        self.columns = {"y": self.y, "sentence": sentence, **examples.subsets}
        self.epoch: int | None = None

    def select(self, modalities: Iterable[str]) -> Pairs:
        """The same examples without what none of these modalities needs."""
        return Pairs(self.examples, self.text, self.view, modalities)

    def set_epoch(self, epoch: int) -> None:
        """From now on training examples of this epoch, if they are to be changed at random."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """DataError names a photograph that cannot be read."""
        inputs: dict[str, Any] = {}
        if "image" in self.modalities:
            images = [self._image(position, side) for position in positions for side in (0, 1)]
            inputs["image"] = torch.stack(images).unflatten(0, (-1, 2))
        if "text" in self.modalities:
            ids, mask = trim_text(*(torch.from_numpy(part[positions]) for part in self.text))
            inputs["text"] = {"ids": ids, "mask": mask}
        return {"inputs": inputs, "y": torch.from_numpy(self.y[positions])}

    def _image(self, position: int, side: int) -> torch.Tensor:
        view = self.view
        image = load_rgb(Path(self.examples.paths[position, side]))
        if view.augment and self.epoch is not None:
            key = (view.seed, self.epoch, int(position), side)
            return training_transform(image, view.side, key, view.flip)
        return evaluation_transform(image, view.side)

    def prepare(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """uint8 -> normalised float32; runs on the device."""
        if "image" not in inputs:
            return inputs
        images = normalise_images(inputs["image"].flatten(0, 1), self.view.mean, self.view.std)
        return {**inputs, "image": images.unflatten(0, (-1, 2))}


def load_nlvr2(config: NLVR2Data, backbone: Backbone, seed: int) -> Data:
    """Training, validation (dev, or the held-out directories) and test split (test1), in the form
    that `backbone` reads. What they hold and lack is printed. DataError for files that are missing,
    damaged, or not what they should be."""
    described, (examples, left_out, lines) = describe(config.folder), read_examples(config)
    tokenizer = load_tokenizer(backbone.tokenizer)
    view = View(backbone.image_size, tuple(backbone.mean), tuple(backbone.std))
    views = dict.fromkeys(examples, view) | {
        "train": replace(view, seed=seed, augment=config.augment, flip=config.flip)
    }
    splits, sizes = {}, {}
    for name, part in examples.items():
        ids, mask, cut = tokenize(
            tokenizer, part.sentences.sentence.texts(), backbone.max_text_length
        )
        lines += (
            [f"{name}: {cut:,} sentences are longer than {backbone.max_text_length} tokens and cut"]
            if cut
            else []
        )
        splits[name] = Pairs(part, (ids, mask), views[name])
        sizes[name] = {"examples": len(ids), "left_out": left_out[name], "cut": cut}
    say([f"nlvr2: {line}" for line in lines])
    check_dataset(splits, 2)
    gone = sum(left_out.values())
    without = f"; {gone:,} examples LEFT OUT, whose images are missing or damaged" if gone else ""
    facts = {
        "variant": described["variant"],
        "synthetic": described["synthetic"],
        "description": described["description"] + without,
        "sizes": sizes,
        "true": {name: int(split.y.sum()) for name, split in splits.items()},
        "sets": {name: len(np.unique(split.group)) for name, split in splits.items()},
        "coverage": lines,
        "baseline": score_of_class_frequencies(splits["train"].y, splits["test"].y, 2),
        "fingerprint": _fingerprint(splits),
    }
    return Data(splits, "synthetic" if described["synthetic"] else "", facts)


def read_examples(config: NLVR2Data) -> tuple[dict[str, Examples], dict[str, int], list[str]]:
    """-> ({train, val, test: their examples with both images}, {the same: how many were left out},
    what is to be said about it)."""
    files = {name: _find(config.folder, f"{name}.json") for name in ("train", "dev", "test1")}
    train, dev = read_nlvr2(files["train"]), read_nlvr2(files["dev"])
    train, val = (train, dev) if config.hold_out is None else hold_out(train, config.hold_out)
    train = train.take(np.arange(len(train))[: config.train_size])
    examples, left_out, lines = {}, {}, []
    for name, sentences in {"train": train, "val": val, "test": read_nlvr2(files["test1"])}.items():
        paths, whole, said = _photographs(config, sentences)
        subsets = _subsets(config.folder, sentences)
        examples[name] = Examples(
            sentences.take(whole),
            paths[whole],
            {which: mask[whole] for which, mask in subsets.items()},
        )
        left_out[name] = int((~whole).sum())
        lines += said
    return examples, left_out, lines


def describe(folder: Path) -> dict[str, Any]:
    """What a folder of generated data says of itself; the published files have no such description."""
    if (folder / "dataset.json").exists():
        return read_description(folder)
    return {
        "variant": "published",
        "synthetic": False,
        "description": f"NLVR2, the files in {folder.name}",
    }


def make_synthetic_once(folder: Path) -> None:
    """Generate pictures and sentences into `folder` unless it is there."""
    make_once(folder, _make)


def _make(folder: Path) -> None:
    from VQA_and_NLVR2.make_synthetic import USUAL, make_synthetic

    say(
        [
            f"nlvr2: generating pictures of shapes and about {USUAL['nlvr2']:,} sentences for training, this once"
        ]
    )
    make_synthetic(folder, "nlvr2")


def _find(folder: Path, name: str) -> Any:
    found = find_source((folder, folder / "data"), name)
    if found is None:
        raise DataError(f"nlvr2: {folder / name} is missing; {HOW_TO_GET}")
    return found


def _subsets(folder: Path, sentences: Sentences) -> dict[str, np.ndarray]:
    """{balanced, unbalanced: bool [n]}: by the published lists where they are there, else by their
    rule."""
    name = sentences.split.strings[0]
    bases = [base / part for base in (folder, folder / "data") for part in ("", *SUBSETS)]
    found = {which: find_source(bases, f"{which}_{name}.json") for which in SUBSETS}
    by_rule = dict(zip(SUBSETS, balance(sentences), strict=True))
    return {
        which: by_rule[which] if source is None else subset(sentences, source)
        for which, source in found.items()
    }


def _photographs(
    config: NLVR2Data, sentences: Sentences
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """-> (paths [n, 2], '' where there is none; which examples have both [n]; what is to be said
    about it)."""
    sides = image_path(config.folder, sentences)
    broken: dict[Path, str] = {}
    if config.check_images:
        there = [path for side in sides for path in side if path is not None]
        broken = unreadable(there, config.folder / "checked_images.json")
        sides = tuple([None if path in broken else path for path in side] for side in sides)
    lines = coverage(sentences, *sides)
    if broken:
        lines.append(
            f"{len(broken):,} photographs cannot be read and count as missing, first {next(iter(broken.values()))}"
        )
    paths = np.array([["" if path is None else str(path) for path in side] for side in sides]).T
    whole = (paths != "").all(axis=1)
    if config.incomplete == "refuse" and not whole.all():
        raise DataError(f"nlvr2: {'; '.join(lines)}; get them, or set data.incomplete to leave_out")
    return paths, whole, lines


def _fingerprint(splits: Mapping[str, Pairs]) -> str:
    """Of the examples that are used: their names, labels and token ids."""
    digest = hashlib.sha256()
    for split in splits.values():
        for part in (split.id.astype("S"), split.y, *split.text):
            digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()


def say(lines: Iterable[str]) -> None:
    """Print, but once where several processes load the same data."""
    if int(os.environ.get("RANK", 0)) == 0:
        print(*lines, sep="\n", flush=True)
