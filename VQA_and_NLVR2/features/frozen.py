"""A backbone that is not trained: its vectors of images, texts and pairs, each prefix computed
once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.backbones.base import Backbone, State
from VQA_and_NLVR2.inputs.augment import training_transform
from VQA_and_NLVR2.inputs.images import evaluation_transform, load_rgb, normalise_images

VIEW_SEED = 0
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Frozen:
    """A backbone in evaluation mode on a device, at a precision (no: float32), so many images,
    texts or pairs at a time."""

    def __init__(
        self, backbone: Backbone, device: torch.device, precision: str = "no", batch_size: int = 64
    ) -> None:
        self.backbone = backbone.eval().requires_grad_(False).to(device)
        self.device, self.batch_size, self.precision = device, batch_size, precision

    def images(self, pictures: Tensor) -> tuple[Tensor, State]:
        """uint8 [B, 3, s, s] -> [B, D], states."""
        pictures = pictures.to(self.device, non_blocking=True)
        with self._autocast():
            images = normalise_images(pictures, self.backbone.mean, self.backbone.std)
            vector, state = self.backbone.encode_image(images)
        return vector.float(), state

    def texts(
        self, ids: np.ndarray, mask: np.ndarray, with_vector: np.ndarray
    ) -> tuple[Tensor, State]:
        """[T, L] ids and mask, [T] bool -> [those with a vector, D] in their order, states of all,
        cut to the longest."""
        length = mask.sum(axis=1)
        shape = (len(ids), int(length.max()))
        vectors, states = {}, None
        masks = torch.zeros(shape, dtype=torch.bool, device=self.device)
        for wanted in (True, False):
            chosen = np.flatnonzero(with_vector == wanted)
            # By length, so that a batch has little padding.
            chosen = chosen[np.argsort(length[chosen], kind="stable")]
            for rows in split(chosen, self.batch_size):
                end = int(length[rows].max())
                vector, state = self._text(ids[rows, :end], mask[rows, :end], wanted)
                if states is None:
                    states = state.tokens.new_zeros((*shape, state.tokens.shape[-1]))
                at = torch.from_numpy(rows).to(self.device)
                states[at, :end], masks[at, :end] = state.tokens, state.mask
                if wanted:
                    vectors |= dict(zip(rows.tolist(), vector.float(), strict=True))
        ordered = [vectors[row] for row in sorted(vectors)]
        found = torch.stack(ordered) if ordered else self._no_vectors("text")
        return found, State(states, masks)

    def _text(self, ids: np.ndarray, mask: np.ndarray, vector: bool) -> tuple[Tensor | None, State]:
        ids, mask = (torch.from_numpy(array).to(self.device) for array in (ids, mask))
        with self._autocast():
            return self.backbone.encode_text(ids.long(), mask, vector=vector)

    def pairs(
        self, images: State, image_rows: np.ndarray, texts: State, text_rows: np.ndarray
    ) -> Tensor:
        """States, and which of them make [P] pairs -> [P, D]."""
        parts = []
        for at in split(np.arange(len(image_rows)), self.batch_size):
            text = texts[torch.from_numpy(text_rows[at]).to(self.device)]
            end = int(text.mask.any(dim=0).nonzero().max()) + 1
            text = State(text.tokens[:, :end], text.mask[:, :end])
            image = images[torch.from_numpy(image_rows[at]).to(self.device)]
            with self._autocast():
                parts.append(self.backbone.fuse(image, text).float())
        return torch.cat(parts) if parts else self._no_vectors("fused")

    def _no_vectors(self, kind: str) -> Tensor:
        return torch.zeros((0, self.backbone.widths[kind]), device=self.device)

    def _autocast(self) -> AbstractContextManager:
        if self.precision == "no":
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.precision])


def device_of(kind: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> the device of this process, of several GPUs its own. SettingsError
    if there is none such."""
    available = torch.cuda.is_available()
    if kind == "cuda" and not available:
        raise SettingsError("device=cuda, but PyTorch finds none here; use --device cpu or auto")
    if kind == "auto":
        kind = "cuda" if available else "cpu"
    if kind != "cuda":
        return torch.device(kind)
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)))


def split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Consecutive parts of at most `size`; none of no rows."""
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


class PictureBatch(TypedDict):
    """Images of some rows; one that cannot be read is black."""

    images: Tensor  # uint8 [B, 3, s, s]
    complaints: dict[int, str]  # {row: what is wrong}


class Pictures(Dataset):
    """Images as the backbone takes them: indexed by (view, rows), view 0 being the plain one."""

    def __init__(self, paths: Sequence[Path | None], side: int, flip: bool = False) -> None:
        self.paths, self.side, self.flip = paths, side, flip

    def __getitem__(self, which: tuple[int, np.ndarray]) -> PictureBatch:
        view, rows = which
        images = torch.zeros((len(rows), 3, self.side, self.side), dtype=torch.uint8)
        complaints = {}
        for place, row in enumerate(rows.tolist()):
            try:
                images[place] = self._picture(row, view)
            except DataError as error:
                complaints[row] = str(error)
        return {"images": images, "complaints": complaints}

    def _picture(self, row: int, view: int) -> Tensor:
        if self.paths[row] is None:
            raise DataError("no such image")
        image = load_rgb(self.paths[row])
        if view == 0:
            return evaluation_transform(image, self.side)
        return training_transform(image, self.side, (VIEW_SEED, view, row), self.flip)
