"""A backbone that is not trained: its vectors of images, texts and pairs, each prefix computed
once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

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
            vector, state = self.backbone.encode_image(
                normalise_images(pictures, self.backbone.mean, self.backbone.std)
            )
        return vector.float(), state

    def texts(
        self, ids: np.ndarray, mask: np.ndarray, with_vector: np.ndarray
    ) -> tuple[Tensor, State]:
        """[T, L] ids and mask, [T] bool -> [those with a vector, D] in their order, states of all,
        cut to the longest."""
        length = mask.sum(axis=1)
        longest = int(length.max())
        vectors, states, masks = (
            {},
            None,
            torch.zeros((len(ids), longest), dtype=torch.bool, device=self.device),
        )
        for wanted in (True, False):
            chosen = np.flatnonzero(with_vector == wanted)
            chosen = chosen[
                np.argsort(length[chosen], kind="stable")
            ]  # so that a batch has little padding
            for rows in split(chosen, self.batch_size):
                end = int(length[rows].max())
                part = [
                    torch.from_numpy(array[rows, :end]).to(self.device) for array in (ids, mask)
                ]
                with self._autocast():
                    vector, state = self.backbone.encode_text(
                        part[0].long(), part[1], vector=wanted
                    )
                if states is None:
                    states = state.tokens.new_zeros((len(ids), longest, state.tokens.shape[-1]))
                at = torch.from_numpy(rows).to(self.device)
                states[at, :end], masks[at, :end] = state.tokens, state.mask
                if wanted:
                    vectors |= dict(zip(rows.tolist(), vector.float(), strict=True))
        width = self.backbone.widths["text"]
        found = (
            torch.stack([vectors[row] for row in sorted(vectors)])
            if vectors
            else torch.zeros((0, width), device=self.device)
        )
        return found, State(states, masks)

    def pairs(
        self, images: State, image_rows: np.ndarray, texts: State, text_rows: np.ndarray
    ) -> Tensor:
        """States, and which of them make [P] pairs -> [P, D]."""
        parts = []
        for at in split(np.arange(len(image_rows)), self.batch_size):
            text = texts[torch.from_numpy(text_rows[at]).to(self.device)]
            end = int(text.mask.any(dim=0).nonzero().max()) + 1
            image = images[torch.from_numpy(image_rows[at]).to(self.device)]
            with self._autocast():
                parts.append(
                    self.backbone.fuse(
                        image, State(text.tokens[:, :end], text.mask[:, :end])
                    ).float()
                )
        return (
            torch.cat(parts)
            if parts
            else torch.zeros((0, self.backbone.widths["fused"]), device=self.device)
        )

    def _autocast(self) -> Any:
        return (
            nullcontext()
            if self.precision == "no"
            else torch.autocast(self.device.type, AUTOCAST[self.precision])
        )


def device_of(kind: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> the device of this process, of several GPUs its own. SettingsError
    if there is none such."""
    there = torch.cuda.is_available()
    if kind == "cuda" and not there:
        raise SettingsError("device=cuda, but PyTorch finds none here; use --device cpu or auto")
    if kind == "auto":
        kind = "cuda" if there else "cpu"
    return (
        torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)))
        if kind == "cuda"
        else torch.device(kind)
    )


def split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Consecutive parts of at most `size`; none of no rows."""
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


class Pictures(Dataset):
    """Images as the backbone takes them: indexed by (view, rows), view 0 being the plain one.

    -> {"images": uint8 [B, 3, s, s], "complaints": {row: what is wrong}}; an image that cannot be
    read is black.
    """

    def __init__(self, paths: Sequence[Path | None], side: int, flip: bool = False) -> None:
        self.paths, self.side, self.flip = paths, side, flip

    def __getitem__(self, which: tuple[int, np.ndarray]) -> dict[str, Any]:
        view, rows = which
        images, complaints = (
            torch.zeros((len(rows), 3, self.side, self.side), dtype=torch.uint8),
            {},
        )
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
