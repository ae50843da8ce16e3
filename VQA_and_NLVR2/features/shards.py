"""A part of an extraction: the features of some images, of the pairs about them, and of the texts
that first occur there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from i2m2.errors import DataError
from i2m2.training.data import loader
from VQA_and_NLVR2.backbones.base import State
from VQA_and_NLVR2.features.frozen import Frozen, Pictures, split
from VQA_and_NLVR2.features.plan import Plan
from VQA_and_NLVR2.features.settings import FeatureSettings


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
        # The part in which a text first occurs.
        self.first = np.full(len(self.plan.texts), self.parts)
        np.minimum.at(self.first, text, image // self.shard)

    def rows(self, k: int) -> np.ndarray:
        """Images of part k."""
        return np.arange(k * self.shard, min((k + 1) * self.shard, len(self.plan.images)))

    def pairs(self, k: int) -> np.ndarray:
        """Pairs of part k, by their image."""
        ends = (k * self.shard, (k + 1) * self.shard)
        begin, end = np.searchsorted(self.plan.pairs[self.order, 0], ends)
        return self.order[begin:end]


@dataclass(frozen=True)
class Asked:
    """The pairs of a part [P], and the states of its texts."""

    owner: np.ndarray  # row of each pair's image
    text: np.ndarray  # place of each pair's text among the states
    states: State


@torch.inference_mode()
def compute_part(work: Work, k: int) -> dict[str, np.ndarray]:
    """`text`, and `image_<view>`, `fused_<view>` of part k, in the order of the plan's rows and of
    `Work.pairs`; `readable`, and `complaints` about images that are not."""
    plan, rows, pairs = work.plan, work.rows(k), work.pairs(k)
    owner, text = plan.pairs[pairs].T
    texts = np.unique(text)
    vectors, states = work.frozen.texts(work.ids[texts], work.mask[texts], work.first[texts] == k)
    asked = Asked(owner, np.searchsorted(texts, text), states)
    found = {"text": _stored(vectors, work)}
    complaints: dict[int, str] = {}
    for view in range(work.settings.views):
        seen = rows if view == 0 else rows[rows < plan.varied_images]
        varied = np.ones(len(pairs), bool) if view == 0 else pairs < plan.varied_pairs
        image, fused = _view(work, view, seen, varied, asked, complaints)
        broken = np.array([row in complaints for row in seen.tolist()], bool)
        image[broken], fused[np.isin(owner, seen[broken])] = 0, 0
        found |= {f"image_{view}": image, f"fused_{view}": fused[varied]}
    readable = np.array([row not in complaints for row in rows.tolist()], bool)
    lines = [f"{plan.images[row]}: {what}" for row, what in sorted(complaints.items())]
    return found | {"readable": readable, "complaints": np.array(lines, str)}


def _view(
    work: Work,
    view: int,
    seen: np.ndarray,
    varied: np.ndarray,
    asked: Asked,
    complaints: dict[int, str],
) -> tuple[np.ndarray, np.ndarray]:
    """The images `seen` in one view -> [seen, D], and [P, D] of the pairs about them, 0 for those
    that are not `varied` [P]. What is wrong with images is added to `complaints`."""
    frozen, kind = work.frozen, work.settings.dtype
    widths = frozen.backbone.widths
    vectors = [np.zeros((0, widths["image"]), kind)]
    fused = np.zeros((len(asked.owner), widths["fused"]), kind)
    parts = split(seen, frozen.batch_size)
    positions = [(view, part) for part in parts]
    batches = loader(work.pictures, positions, work.workers, frozen.device.type == "cuda")
    for part, batch in zip(parts, batches, strict=True):
        complaints |= batch["complaints"]
        image, state = frozen.images(batch["images"])
        vectors.append(_stored(image, work))
        inside = (asked.owner >= part[0]) & (asked.owner <= part[-1])
        about = np.flatnonzero(varied & inside)
        rows = asked.owner[about] - part[0]
        fused[about] = _stored(frozen.pairs(state, rows, asked.states, asked.text[about]), work)
    return np.concatenate(vectors), fused


def _stored(vectors: torch.Tensor, work: Work) -> np.ndarray:
    """In the type in which they are kept. DataError if they are not finite there."""
    with np.errstate(over="ignore"):  # looked for below
        array = vectors.cpu().numpy().astype(work.settings.dtype)
    if not np.isfinite(array).all():
        stored = f"precision {work.settings.precision}, dtype {work.settings.dtype}"
        raise DataError(
            f"{work.frozen.backbone.name}: features are NaN or infinite ({stored}); "
            "try precision no and dtype float32"
        )
    return array
