"""Shapes in a series, by random convolutions.

Whether and how often a shape occurs tells series apart whose means and extremes are alike, and a
few examples are too few to learn the shapes. Random ones do almost as well: ROCKET (Dempster,
Petitjean and Webb, Data Mining and Knowledge Discovery 34, 2020), here with fewer kernels, each of
one channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

KERNELS = 128
STEPS = 9  # of a kernel, which may lie some steps apart
AT_ONCE = 10_000_000  # numbers, which bounds the memory


@dataclass
class RandomConvolutions:
    """Kernels [K, S] with the channel that each reads, how many steps apart (its dilation), and
    what is added."""

    weights: np.ndarray
    channels: np.ndarray
    dilations: np.ndarray
    offsets: np.ndarray

    @classmethod
    def draw(cls, channels: int, length: int, seed: int) -> RandomConvolutions:
        """Kernels for series of so many channels and steps; none for fewer than three steps."""
        generator = np.random.default_rng(seed)
        kernels = KERNELS if length > 2 else 0
        steps = min(STEPS, length)
        doublings = int(np.log2(max(1, (length - 1) // max(1, steps - 1))))
        weights = generator.normal(size=(kernels, steps))
        weights -= weights.mean(axis=1, keepdims=True)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        return cls(
            weights.astype(np.float32),
            generator.integers(0, channels, kernels),
            2 ** generator.integers(0, doublings + 1, kernels),
            generator.uniform(-1, 1, kernels).astype(np.float32),
        )

    def __call__(self, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The first `lengths` [n] steps of standardised series [n, T, C] float32 -> the largest
        value of each kernel, and the share of its values above 0: [n, 2 K] float32."""
        found = np.zeros((len(x), 2, len(self.weights)), np.float32)
        for channel, dilation in sorted({*zip(self.channels, self.dilations, strict=True)}):
            own = np.flatnonzero((self.channels == channel) & (self.dilations == dilation))
            reach = (self.weights.shape[1] - 1) * dilation + 1
            windows = sliding_window_view(x[:, :, channel], reach, axis=1)[..., ::dilation]
            within = np.arange(windows.shape[1]) <= lengths[:, None] - reach
            many = max(1, AT_ONCE // (windows.shape[1] * (windows.shape[2] + len(own))))
            for start in range(0, len(x), many):
                rows = slice(start, start + many)
                values = windows[rows] @ self.weights[own].T + self.offsets[own]
                values[~within[rows]] = -np.inf
                found[rows, 0, own] = values.max(axis=1)
                found[rows, 1, own] = (values > 0).sum(axis=1) / within[rows].sum(axis=1)[:, None]
        return found.reshape(len(x), -1)
