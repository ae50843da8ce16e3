"""Series: a grid of means over bins of time, summaries of every channel, and random shapes."""

from __future__ import annotations

import numpy as np

from i2m2.estimator.given.kinds import Block
from i2m2.estimator.given.values import InputError
from i2m2.estimator.prepared.forms import CLIP, BlockPreparation, Forms, Standardise, moments
from i2m2.estimator.prepared.random_convolutions import RandomConvolutions

STEPS = 64  # of a series' grid; longer ones are averaged
SUMMARIES = ("mean", "min", "max", "last", "first", "std", "slope", "count")
TREE_SUMMARIES = 4  # the first of them


class Series(BlockPreparation):
    """Summaries of every channel, a grid of standardised means over bins of time, and random
    convolutions of all steps."""

    def fit(self, block: Block, seed: int) -> Series:
        self.channels = block.values.shape[2]
        self.mean, std = moments(block.values, axis=(0, 1))
        self.std = np.where(std > 1e-9 * np.abs(self.mean), std, 1.0)
        self.length = block.values.shape[1]
        self.gaps = bool(np.isnan(block.values).any())
        unit = np.tile(np.minimum(self.std, 1.0), len(SUMMARIES))
        self.scale = Standardise().fit(_summaries(block.values).reshape(len(block), -1), unit)
        self.convolutions = RandomConvolutions.draw(self.channels, self.length, seed)
        self.scale_shapes = Standardise().fit(self._shapes(block.values), unit=1.0)
        names = [f"{what}_{k}" for what in SUMMARIES[:TREE_SUMMARIES] for k in range(self.channels)]
        self._remember(block, names, np.zeros(len(names), bool))
        return self

    def transform(self, block: Block) -> Forms:
        if block.values.shape[2] != self.channels:
            raise InputError(
                f"{self.block}: a series of {block.values.shape[2]} channels; "
                f"in training it had {self.channels}"
            )
        summaries = _summaries(block.values)
        features = summaries[:, :TREE_SUMMARIES].reshape(len(block), -1)
        dense = self.scale(summaries.reshape(len(block), -1))
        shapes = self.scale_shapes(self._shapes(block.values))
        return Forms(dense, features, self._grid(block.values), shapes)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Standardised, and no shorter than in training."""
        scaled = np.clip((values - self.mean) / self.std, -CLIP, CLIP)
        lacking = max(0, self.length - values.shape[1])
        return np.pad(scaled, [(0, 0), (0, lacking), (0, 0)], constant_values=np.nan)

    def _shapes(self, values: np.ndarray) -> np.ndarray:
        """Of every series as long as in training, or as it is if that is more, whatever the others;
        the mean stands where nothing is known."""
        scaled = self._scaled(values)
        known = ~np.isnan(scaled).all(axis=2)
        last = np.where(known, np.arange(1, scaled.shape[1] + 1), 0).max(axis=1)
        filled = np.nan_to_num(scaled).astype(np.float32)
        return self.convolutions(filled, np.maximum(last, self.length))

    def _grid(self, values: np.ndarray) -> np.ndarray:
        """[n, T, C] -> [n, C or 2 C, steps]: standardised means over bins of time, and where
        training had gaps whether anything was measured. The bins are those of training, whatever
        the length: a shorter series fills the first of them, a longer one ends in the last."""
        scaled, steps = self._scaled(values), min(self.length, STEPS)
        edges = np.linspace(0, self.length, steps + 1).round().astype(int)[:-1]
        measured = np.add.reduceat(~np.isnan(scaled), edges, axis=1, dtype=np.float32)
        total = np.add.reduceat(np.nan_to_num(scaled), edges, axis=1)
        means = total / np.maximum(measured, 1)
        both = np.concatenate([means, measured > 0], axis=2) if self.gaps else means
        return np.ascontiguousarray(both.transpose(0, 2, 1), dtype=np.float32)


def _summaries(values: np.ndarray) -> np.ndarray:
    """Of a series [n, T, C], each of SUMMARIES per channel [n, 8, C]; NaN where nothing is
    known."""
    values = values.astype(np.float64)
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    step = np.arange(values.shape[1])[None, :, None]
    filled = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=1) / count
        centred = np.where(known, values - mean[:, None], 0.0)
        middle = np.where(known, step, 0).sum(axis=1) / count
        away = np.where(known, step - middle[:, None], 0.0)
        std = np.sqrt((centred**2).sum(axis=1) / count)
        slope = (away * centred).sum(axis=1) / (away**2).sum(axis=1)
    low = np.where(known, values, np.inf).min(axis=1)
    high = np.where(known, values, -np.inf).max(axis=1)
    last = np.where(known, step, -1).max(axis=1)
    first = np.where(known, step, values.shape[1]).min(axis=1) % values.shape[1]
    ends = [np.take_along_axis(values, place[:, None], axis=1)[:, 0] for place in (last, first)]
    found = [mean, low, high, *ends, std, slope]
    found = [np.where((count > 0) & np.isfinite(one), one, np.nan) for one in found]
    return np.stack([*found, count], axis=1)
