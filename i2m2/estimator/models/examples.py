"""What the models of an expert are fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from i2m2.estimator.families import Family
from i2m2.estimator.prepared.forms import PreparedBlocks


@dataclass(frozen=True)
class Examples:
    """What members are fitted on: y [n, L], folds [n] from 0 (-1: without the modalities)."""

    blocks: PreparedBlocks
    modalities: tuple[str, ...]
    y: np.ndarray
    folds: np.ndarray
    family: Family
    seed: int

    @property
    def models(self) -> int:
        return int(self.folds.max()) + 1

    def splits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(training rows, held-out rows) of every fold."""
        known = self.folds >= 0
        each = range(self.models)
        return [
            (np.flatnonzero(known & (self.folds != e)), np.flatnonzero(self.folds == e))
            for e in each
        ]

    def unknown(self) -> np.ndarray:
        return np.full((len(self.y), *self.family.shape), np.nan)
