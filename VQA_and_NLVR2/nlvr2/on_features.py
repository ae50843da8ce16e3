"""NLVR2 on features of a backbone that is not trained: every image, sentence and pair of them once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.training.data import Data
from VQA_and_NLVR2.features.cache import CachedExamples, Features, Plan
from VQA_and_NLVR2.inputs.records import Interned
from VQA_and_NLVR2.nlvr2.data import Examples, NLVR2Data, describe, read_examples, say

Rows = dict[str, np.ndarray]  # of the features: {image [n, 2], text [n, 1], fused [n, 2]}


def plan_of(config: NLVR2Data) -> tuple[Plan, list[Path]]:
    """What of the data needs features, and the files of the images; examples without both images
    are left out, and counted."""
    examples, _, lines = read_examples(config)
    say([f"nlvr2: {line}" for line in lines])
    plan, paths, _ = plan_for(examples, describe(config.folder))
    return plan, paths


def plan_for(
    examples: Mapping[str, Examples], about: Mapping[str, Any]
) -> tuple[Plan, list[Path], dict[str, Rows]]:
    """-> (what needs features, files of the images, {split: its rows}).

    Everything is in the order in which it first occurs, so that what training needs comes first.
    """
    identifiers = np.concatenate([part.sentences.identifier for part in examples.values()])
    stems = [identifier.rsplit("-", 1)[0] for identifier in identifiers.tolist()]
    images = Interned.of([f"{stem}-img{side}" for stem in stems for side in (0, 1)])
    texts = Interned.of(
        [text for part in examples.values() for text in part.sentences.sentence.texts()]
    )
    image, text = images.codes.reshape(-1, 2), texts.codes.reshape(-1, 1)
    pairs, fused = _in_order(np.stack(np.broadcast_arrays(image, text), axis=-1).reshape(-1, 2))
    rows = {"image": image, "text": text, "fused": fused.reshape(-1, 2)}
    files = np.empty(len(images.strings), object)
    files[image] = np.concatenate([part.paths for part in examples.values()])
    ends = np.cumsum([len(part.sentences) for part in examples.values()])
    plan = Plan(
        images.strings,
        texts.strings,
        pairs.astype(np.int32),
        varied_images=int(image[: ends[0]].max()) + 1,
        varied_pairs=int(rows["fused"][: ends[0]].max()) + 1,
        about={name: about[name] for name in ("variant", "synthetic", "description")},
        index={"identifier": identifiers},
    )
    parts = {
        kind: dict(zip(examples, np.split(of, ends[:-1]), strict=True)) for kind, of in rows.items()
    }
    return (
        plan,
        [Path(file) for file in files],
        {name: {kind: parts[kind][name] for kind in rows} for name in examples},
    )


def _in_order(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> (the distinct rows, in the order in which they first occur; which of them each row is
    [n])."""
    distinct, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return distinct[order], place[which.reshape(-1)]


def on_features(data: Data, features: Features, rows: Mapping[str, Rows]) -> Data:
    """The same examples with features for inputs, those of training in views that change with the
    epoch."""
    splits = {
        name: CachedExamples(
            features,
            rows[name],
            split.y,
            split.id,
            split.group,
            split.columns,
            varied=name == "train",
        )
        for name, split in data.splits.items()
    }
    return data._replace(splits=splits)
