"""The forms in which experts read a block, and what the preparation of every kind has in common.

* `dense` float32 [n, D]: finite, standardised numbers, one column per category, indicators of what
  is missing; for linear models and networks;
* `features` float64 [n, Q]: few columns as they are, NaN where missing, categories as codes; for
  boosted trees and a user's own scikit-learn models;
* `grid` float32 [n, C, ...]: series (value, then whether it was measured) and pictures for
  convolutions; None for other kinds;
* `shapes` float32 [n, S]: of series, standardised, for a linear model; None for other kinds.

Rows that lack the block hold zeros (NaN in `features`); no expert reads them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from i2m2.estimator.given.kinds import Block

CLIP = 5.0  # standard deviations; what lies further out is an outlier or a mistake


class Forms(NamedTuple):
    """What a block's preparation makes of some rows."""

    dense: np.ndarray
    features: np.ndarray
    grid: np.ndarray | None = None
    shapes: np.ndarray | None = None


@dataclass
class Prepared:
    """One block, ready for the experts; `categorical` [Q] marks the codes among `features`."""

    dense: np.ndarray
    features: np.ndarray
    names: list[str]
    categorical: np.ndarray
    grid: np.ndarray | None
    present: np.ndarray
    shapes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.present)

    def take(self, rows: np.ndarray) -> Prepared:
        grid, shapes = (None if one is None else one[rows] for one in (self.grid, self.shapes))
        arrays = (self.dense[rows], self.features[rows])
        return Prepared(*arrays, self.names, self.categorical, grid, self.present[rows], shapes)


PreparedBlocks = dict[str, Prepared]


def joined(prepared: PreparedBlocks, modalities: tuple[str, ...]) -> Prepared:
    """Several blocks side by side, for an expert that reads them all; `grid` and `shapes` stay by
    block."""
    parts = [prepared[name] for name in modalities]
    if len(parts) == 1:
        return parts[0]
    names = [f"{name}__{column}" for name in modalities for column in prepared[name].names]
    return Prepared(
        np.concatenate([part.dense for part in parts], axis=1),
        np.concatenate([part.features for part in parts], axis=1),
        names,
        np.concatenate([part.categorical for part in parts]),
        None,
        np.logical_and.reduce([part.present for part in parts]),
    )


class BlockPreparation:
    """What is fitted for one block: `names` and `categorical` of the features, and the forms of no
    rows."""

    def __init__(self, block: str) -> None:
        self.block = block

    def nothing(self) -> Forms:
        """The forms of no rows."""
        return Forms(*self.empty)

    def _remember(self, block: Block, names: list[str], categorical: np.ndarray) -> None:
        self.names, self.categorical = names, categorical
        forms = self.transform(block.take(np.arange(1)))
        self.empty = [None if one is None else one[:0].copy() for one in forms]


def moments(x: np.ndarray, axis: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the values that are known; 0 and NaN where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any value
        mean = np.nanmean(x, axis=axis, dtype=np.float64)
        std = np.nanstd(x, axis=axis, dtype=np.float64)
    return np.nan_to_num(mean), std


class Standardise:
    """(x - mean) / standard deviation, clipped; missing values become 0, the mean, and those
    columns that miss any have an indicator behind them."""

    def fit(self, x: np.ndarray, unit: float | np.ndarray = 0.0) -> Standardise:
        """`unit`: the size of the numbers from which `x` [n, D] was computed, if it was."""
        self.mean, self.std = moments(x, axis=0)
        # A constant leaves rounding in its standard deviation.
        constant = ~(self.std > 1e-9 * np.maximum(unit, np.abs(self.mean)))
        self.std = np.where(constant, 1.0, self.std)
        self.missing = np.flatnonzero(np.isnan(x).any(axis=0))
        share = np.isnan(x[:, self.missing]).mean(axis=0)
        self.share, self.spread = share, np.sqrt(share * (1 - share)) + 0.05
        return self

    def __call__(self, x: np.ndarray) -> np.ndarray:
        scaled = np.clip((x - self.mean) / self.std, -CLIP, CLIP)
        absent = (np.isnan(x[:, self.missing]) - self.share) / self.spread
        return np.concatenate([np.nan_to_num(scaled), absent], axis=1).astype(np.float32)
