"""A part of an extraction: the features of some images, of the pairs about them, and of the texts
that first occur there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from i2m2.errors import DataError
from i2m2.training.data import loader
from VQA_and_NLVR2.features.cache import FeatureSettings, Plan
from VQA_and_NLVR2.features.frozen import Frozen, Pictures, split

SHARD = 512  # images of a part: a minute on a GPU


@dataclass
class Work:
    """What all parts are made from."""

    plan: Plan
    frozen: Frozen
    pictures: Pictures
    settings: FeatureSettings
    ids: np.ndarray  # int32 [texts, L]
    mask: np.ndarray  # bool [texts, L]
    workers: int
    shard: int  # images of a part

    def __post_init__(self) -> None:
        image, text = self.plan.pairs.T
        self.parts = -(-len(self.plan.images) // self.shard)
        self.order = np.argsort(image, kind="stable")  # of the pairs, by their image
        self.first = np.full(
            len(self.plan.texts), self.parts
        )  # the part in which a text first occurs
        np.minimum.at(self.first, text, image // self.shard)

    def rows(self, k: int) -> np.ndarray:
        """Images of part k."""
        return np.arange(k * self.shard, min((k + 1) * self.shard, len(self.plan.images)))

    def pairs(self, k: int) -> np.ndarray:
        """Pairs of part k, by their image."""
        begin, end = np.searchsorted(
            self.plan.pairs[self.order, 0], (k * self.shard, (k + 1) * self.shard)
        )
        return self.order[begin:end]


@torch.inference_mode()
def compute_part(work: Work, k: int) -> dict[str, np.ndarray]:
    """`image`, `text`, `fused`, `image_views`, `fused_views` of part k, in the order of the plan's
    rows and of `Work.pairs`; `readable`, and `complaints` about images that are not."""
    plan, rows, pairs = work.plan, work.rows(k), work.pairs(k)
    owner, asked = plan.pairs[pairs].T
    texts = np.unique(asked)
    text, states = work.frozen.texts(work.ids[texts], work.mask[texts], work.first[texts] == k)
    found = {"text": _stored(text, work)}
    complaints: dict[int, str] = {}
    for view in range(work.settings.views):
        seen = rows if view == 0 else rows[rows < plan.varied_images]
        varied = np.ones(len(pairs), bool) if view == 0 else pairs < plan.varied_pairs
        batches = [(view, part) for part in split(seen, work.frozen.batch_size)]
        vectors, fused = (
            [],
            np.zeros((len(pairs), work.frozen.backbone.widths["fused"]), work.settings.dtype),
        )
        for (_, part), batch in zip(
            batches,
            loader(work.pictures, batches, work.workers, work.frozen.device.type == "cuda"),
            strict=True,
        ):
            complaints |= batch["complaints"]
            image, state = work.frozen.images(batch["images"])
            vectors.append(_stored(image, work))
            about = np.flatnonzero(varied & (owner >= part[0]) & (owner <= part[-1]))
            fused[about] = _stored(
                work.frozen.pairs(
                    state, owner[about] - part[0], states, np.searchsorted(texts, asked[about])
                ),
                work,
            )
        image = (
            np.concatenate(vectors)
            if vectors
            else np.zeros((0, work.frozen.backbone.widths["image"]), work.settings.dtype)
        )
        broken = np.array([row in complaints for row in seen.tolist()], bool)
        image[broken], fused[np.isin(owner, seen[broken])] = 0, 0
        found |= {f"image_{view}": image, f"fused_{view}": fused[varied]}
    readable = np.array([row not in complaints for row in rows.tolist()], bool)
    said = [f"{plan.images[row]}: {text}" for row, text in sorted(complaints.items())]
    return found | {"readable": readable, "complaints": np.array(said, str)}


def _stored(vectors: torch.Tensor, work: Work) -> np.ndarray:
    """In the type in which they are kept. DataError if they are not finite there."""
    with np.errstate(over="ignore"):  # looked for below
        array = vectors.cpu().numpy().astype(work.settings.dtype)
    if not np.isfinite(array).all():
        kept = f"precision {work.settings.precision}, dtype {work.settings.dtype}"
        raise DataError(
            f"{work.frozen.backbone.name}: features are NaN or infinite ({kept}); try precision no and dtype float32"
        )
    return array
