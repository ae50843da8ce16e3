"""The interface that every vision-language backbone has.

A backbone gives one vector per image, one per text, and one per pair. What the pair shares with its
parts is kept in states, so that the questions of one image, the two images of one sentence, and the
unimodal and the fused vectors of one example do not compute it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class State:
    """What `fuse` needs of one modality: tokens [B, N, D], and which are real [B, N] (None: all).
    `state[rows]` picks rows."""

    tokens: Tensor
    mask: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> State:
        return State(self.tokens[rows], None if self.mask is None else self.mask[rows])


class Backbone(Protocol):
    """A torch module with these attributes and methods.

    `name` says which architecture it is and where its weights come from; it belongs into every
    result; `report` says in a few lines what was loaded, to be printed once. `widths` are those of
    the vectors: {"image": D_image, "text": D_text, "fused": D_fused}. `mean` and `std` per channel
    are how the image's pixels in 0..1 are to be normalised; `tokenizer` is the name or folder of
    the tokenizer that makes the ids.
    """

    name: str
    report: str
    widths: dict[str, int]
    image_size: int
    max_text_length: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokenizer: str

    def encode_image(self, images: Tensor, vector: bool = True) -> tuple[Tensor | None, State]:
        """[B, 3, s, s] normalised -> [B, D_image], state. Without `vector` only what the fused pass
        needs is computed."""

    def encode_text(
        self, ids: Tensor, mask: Tensor, vector: bool = True
    ) -> tuple[Tensor | None, State]:
        """[B, L] integers, [B, L] true for real tokens -> [B, D_text], state. Any L up to
        `max_text_length`: see `trim_text`."""

    def fuse(self, image: State, text: State) -> Tensor:
        """One pair per row of the two states -> [B, D_fused]."""


def trim_text(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut padding that every text of the batch has at its end: [B, L] ids and mask -> [B, L'] of
    the longest text.

    Padding is masked everywhere, so the vectors stay the same. To be called where the batch is
    still on the CPU.
    """
    longest = max(1, int(mask.any(dim=0).nonzero().max()) + 1) if mask.any() else 1
    return ids[:, :longest], mask[:, :longest]
