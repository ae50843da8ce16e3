"""NLVR2 on features of a backbone that is not trained: every image, sentence and pair of them
once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2m2.training.data import Data
from VQA_and_NLVR2.features.cache import CachedExamples, Features
from VQA_and_NLVR2.features.plan import Plan, Values
from VQA_and_NLVR2.inputs.records import Interned
from VQA_and_NLVR2.nlvr2.examples import Examples, describe, read_examples, say
from VQA_and_NLVR2.nlvr2.settings import NLVR2Data

Rows = dict[str, np.ndarray]  # of the features: {image [n, 2], text [n, 1], fused [n, 2]}


class Planned(NamedTuple):
    """What needs features, the files of the images, and {split: its rows}."""

    plan: Plan
    paths: list[Path]
    rows: dict[str, Rows]


def plan_of(config: NLVR2Data) -> Planned:
    """What of the data needs features; examples without both images are left out, and counted."""
    found = read_examples(config)
    say([f"nlvr2: {line}" for line in found.lines])
    return plan_for(found.examples, describe(config.folder))


def plan_for(examples: Mapping[str, Examples], about: Values) -> Planned:
    """Everything is in the order in which it first occurs, so that what training needs comes
    first."""
    parts = list(examples.values())
    identifiers = np.concatenate([part.sentences.identifier for part in parts])
    stems = [identifier.rsplit("-", 1)[0] for identifier in identifiers.tolist()]
    images = Interned.of([f"{stem}-img{side}" for stem in stems for side in (0, 1)])
    texts = Interned.of([text for part in parts for text in part.sentences.sentence.texts()])
    image, text = images.codes.reshape(-1, 2), texts.codes.reshape(-1, 1)
    both = np.stack(np.broadcast_arrays(image, text), axis=-1)
    pairs, fused = _in_order(both.reshape(-1, 2))
    rows = {"image": image, "text": text, "fused": fused.reshape(-1, 2)}
    files = np.empty(len(images.strings), object)
    files[image] = np.concatenate([part.paths for part in parts])
    ends = np.cumsum([len(part.sentences) for part in parts])
    plan = Plan(
        images=images.strings,
        texts=texts.strings,
        pairs=pairs.astype(np.int32),
        varied_images=int(image[: ends[0]].max()) + 1,
        varied_pairs=int(rows["fused"][: ends[0]].max()) + 1,
        about={name: about[name] for name in ("variant", "synthetic", "description")},
        index={"identifier": identifiers},
    )
    of_split: dict[str, Rows] = {}
    for name, end, part in zip(examples, ends.tolist(), parts, strict=True):
        begin = end - len(part.sentences)
        of_split[name] = {kind: array[begin:end] for kind, array in rows.items()}
    return Planned(plan, [Path(file) for file in files], of_split)


def _in_order(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> (the distinct rows, in the order in which they first occur; which of them each row is
    [n])."""
    distinct, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return distinct[order], place[which.reshape(-1)]


def with_features(data: Data, features: Features, rows: Mapping[str, Rows]) -> Data:
    """The same examples with features for inputs, those of training in views that change with the
    epoch."""
    splits = {}
    for name, split in data.splits.items():
        splits[name] = CachedExamples(
            features,
            rows[name],
            y=split.y,
            id=split.id,
            group=split.group,
            columns=split.columns,
            varied=name == "train",
        )
    return data._replace(splits=splits)
