"""Rician noise at test time (Fig. C.7): complex images get independent Gaussian noise on their real
and imaginary part, RSS images, which have no phase, its Rician form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastMRI.data import Slices
from i2m2.training.data import Batch
from i2m2.training.robustness import Corruption


def rician_noise(seed: int) -> Corruption:
    """Its level is in percent, as for `Noisy`."""
    altered = dict.fromkeys(("magnitude", "phase", "rss"), "rician")
    return Corruption(altered, lambda slices, percent: Noisy(slices, percent, seed))


class Noisy(Dataset):
    """Slices with noise whose standard deviation is `percent` of each slice's largest magnitude.

    It is drawn from `seed` and the slice's place alone: the same for every run, scaled by
    `percent`.
    """

    def __init__(self, slices: Slices, percent: float, seed: int = 0) -> None:
        self.slices = slices
        self.percent = percent
        self.seed = seed
        self.id = slices.id
        self.group = slices.group
        self.y = slices.y
        self.labels = slices.labels
        self.prepare = slices.prepare

    def select(self, modalities: Iterable[str]) -> Noisy:
        return Noisy(self.slices.select(modalities), self.percent, self.seed)

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        batch = self.slices[positions]
        inputs = dict(batch["inputs"])
        for name in self.slices.reads:
            inputs[name] = self._add_noise(inputs[name], positions)
        return batch | {"inputs": inputs}

    def _add_noise(self, images: Tensor, positions: Sequence[int]) -> Tensor:
        """Complex or real [B, H, W] -> the same with noise; real ones as the magnitude of a noisy
        complex one."""
        largest = images.abs().amax(dim=(-2, -1), keepdim=True)
        noise = torch.stack([self._noise(place, images.shape[1:]) for place in positions])
        noisy = images + self.percent / 100 * largest * noise
        return noisy if images.is_complex() else noisy.abs()

    def _noise(self, place: int, shape: Sequence[int]) -> Tensor:
        """Complex noise [H, W] of one slice, of standard deviation 1 in each part."""
        rng = np.random.default_rng([self.seed, place])
        parts = rng.standard_normal((*shape, 2), np.float32)
        return torch.view_as_complex(torch.from_numpy(parts))
