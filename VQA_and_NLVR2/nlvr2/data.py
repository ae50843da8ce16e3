"""NLVR2 as training reads it: complete pairs of photographs, decoded when a batch needs them, and
their sentences as token ids.

Input: two photographs, left and right, and a sentence about them.
Label: whether the sentence is true of the two.
Splits: train (or without held-out directories), dev (or those) as validation, test1 as test; the
    last two have balanced and unbalanced subsets.
Licence: see the repository; the photographs are had from the authors on request.
Source: the JSON lines of the repository lil-lab/nlvr; see VQA_and_NLVR2/README.md, section Data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from i2m2.training.data import Batch, Data, check_dataset
from i2m2.training.evaluate import score_of_class_frequencies
from VQA_and_NLVR2.backbones.base import Backbone, trim_text
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.inputs.augment import training_transform
from VQA_and_NLVR2.inputs.images import evaluation_transform, load_rgb, normalise_images
from VQA_and_NLVR2.nlvr2.examples import Examples, describe, read_examples, say
from VQA_and_NLVR2.nlvr2.settings import NLVR2Data


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
    """The three splits in the form that `backbone` reads. What they hold and lack is printed.
    DataError for files that are missing, damaged, or not what they should be."""
    about, found = describe(config.folder), read_examples(config)
    view = View(backbone.image_size, tuple(backbone.mean), tuple(backbone.std))
    varied = replace(view, seed=seed, augment=config.augment, flip=config.flip)
    tokenizer, longest = load_tokenizer(backbone.tokenizer), backbone.max_text_length
    splits, sizes, lines = {}, {}, found.lines
    for name, part in found.examples.items():
        ids, mask, cut = tokenize(tokenizer, part.sentences.sentence.texts(), longest)
        if cut:
            lines.append(f"{name}: {cut:,} sentences are longer than {longest} tokens and cut")
        splits[name] = Pairs(part, (ids, mask), varied if name == "train" else view)
        sizes[name] = {"examples": len(ids), "left_out": found.left_out[name], "cut": cut}
    say([f"nlvr2: {line}" for line in lines])
    check_dataset(splits, 2)
    gone = sum(found.left_out.values())
    without = f"; {gone:,} examples LEFT OUT, whose images are missing or damaged" if gone else ""
    facts = {
        "variant": about["variant"],
        "synthetic": about["synthetic"],
        "description": about["description"] + without,
        "sizes": sizes,
        "true": {name: int(split.y.sum()) for name, split in splits.items()},
        "sets": {name: len(np.unique(split.group)) for name, split in splits.items()},
        "coverage": lines,
        "baseline": score_of_class_frequencies(splits["train"].y, splits["test"].y, 2),
        "fingerprint": _fingerprint(splits),
    }
    return Data(splits, "synthetic" if about["synthetic"] else "", facts)


def _fingerprint(splits: Mapping[str, Pairs]) -> str:
    """Of the examples that are used: their names, labels and token ids."""
    digest = hashlib.sha256()
    for split in splits.values():
        for part in (split.id.astype("S"), split.y, *split.text):
            digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()
