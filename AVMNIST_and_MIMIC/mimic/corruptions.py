"""Corruptions of MIMIC's standardised arrays at a level p in 0..1.

They follow MultiBench's robustness tests (Liang et al., 2021) as documented: its code added one
number to a whole stay where noise per step was meant, and emptied whole stays where time steps
were. A dropped value is the training mean, 0, and counts as not observed. What happens to a stay
depends on (seed, kind of corruption, level, the stay's place in the array).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from AVMNIST_and_MIMIC.mimic.arrays import SERIES
from i2m2.stats.robustness import ArrayCorruptions


def mimic_corruptions(seed: int) -> ArrayCorruptions:
    """{name: {modality: what is done to it}}.

    `multimodal` is MultiBench's: static entries, then noise, entries and steps of the series.
    """
    by = {kind: partial(corrupt, kind, seed=seed) for kind in KINDS}

    def series(x: np.ndarray, level: float) -> np.ndarray:
        return by["steps"](by["entries"](by["noise"](x, level), level), level)

    return {
        "static_entries": {"static": by["entries"]},
        "series_entries": {"series": by["entries"]},
        "series_noise": {"series": by["noise"]},
        "series_steps": {"series": by["steps"]},
        "static_dropped": {"static": by["example"]},
        "series_dropped": {"series": by["example"]},
        "multimodal": {"static": by["entries"], "series": series},
    }


def corrupt(kind: str, x: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    """float32 [N, F] or [N, T, F] -> the same.

    The series' channels beyond the twelfth say what was observed (`data.masks`).
    """
    rng = np.random.default_rng([seed, list(KINDS).index(kind), x.ndim, round(1000 * level)])
    return KINDS[kind](x, level, rng)


def _noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Plus Gaussian noise of `level` training standard deviations, another in every entry."""
    noisy = x.copy()
    values = noisy[..., : len(SERIES)]
    values += level * rng.standard_normal(values.shape, dtype=np.float32)
    return noisy


def _drop_entries(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Every entry with probability `level`."""
    features = min(x.shape[-1], len(SERIES))
    present = rng.random((*x.shape[:-1], features)) >= level
    return x * np.concatenate([present] * (x.shape[-1] // features), axis=-1)


def _drop_steps(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Every time step with probability `level`, all of its features at once."""
    return x * (rng.random((*x.shape[:2], 1)) >= level)


def _drop_examples(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """The whole modality of a stay with probability `level`."""
    return x * (rng.random((len(x), *[1] * (x.ndim - 1))) >= level)


KINDS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "entries": _drop_entries,
    "steps": _drop_steps,
    "example": _drop_examples,
}
