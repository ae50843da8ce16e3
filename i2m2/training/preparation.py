"""Splits that keep a group (a patient, a volume) on one side, and standardised inputs. No torch."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError


class Split(NamedTuple):
    """Rows of the three splits."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def group_split(group: np.ndarray, parts: int = 10) -> Split:
    """Rows of the groups [n], of which one in `parts` validates and another one tests, in the order
    of a hash of their name.

    So another cohort is split nearly alike. DataError for fewer groups than parts.
    """
    groups, row_of = np.unique(group, return_inverse=True)
    if len(groups) < parts:
        raise DataError(f"{len(groups)} groups cannot be split into {parts} parts; take fewer")
    hashes = [hashlib.sha256(str(name).encode()).digest() for name in groups.tolist()]
    order = np.argsort(hashes)
    size = len(groups) // parts
    part = np.zeros(len(groups), dtype=int)  # 0: train
    part[order[:size]], part[order[size : 2 * size]] = 1, 2
    return Split(*(np.flatnonzero(part[row_of] == k) for k in range(3)))


def stratified_folds(y: np.ndarray, group: np.ndarray, folds: int = 5, seed: int = 0) -> np.ndarray:
    """The fold of each example, 0..folds-1 [n]: groups [n] stay together, and every fold has about
    the same shares of the labels [n(, L)], of several labels of their combinations.

    DataError for fewer groups than folds, or than a fold needs of each label.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # here: it takes a second to import

    if (groups := len(np.unique(group))) < folds:
        raise DataError(f"{groups} groups cannot be split into {folds} folds; take fewer folds")
    _, label = np.unique(y, axis=0, return_inverse=True)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(y), dtype=int)
    try:
        for k, (_, held_out) in enumerate(splitter.split(fold, label.reshape(-1), group)):
            fold[held_out] = k
    except ValueError as error:
        raise DataError(f"{folds} folds: {error}; take fewer folds") from error
    return fold


def standardise(x: np.ndarray, train: np.ndarray | slice) -> tuple[np.ndarray, list[int]]:
    """-> z-scores [N, ..., F] float32 per feature, missing values 0; the features without spread.

    By mean and population standard deviation of what the rows `train` observe. A feature without
    spread is constant or never observed, and is divided by 1.
    """
    z, without_spread = np.zeros(x.shape, np.float32), []
    for k in range(x.shape[-1]):  # a feature at a time: no float64 copy of everything
        values = x[..., k].astype(np.float64)
        observed = np.isfinite(values)
        seen = values[train][observed[train]]
        mean, std = (seen.mean(), seen.std()) if len(seen) else (0.0, 0.0)
        if std <= 1e-6 * abs(mean):  # rounding leaves a constant a spread of this size
            std = 1.0
            without_spread.append(k)
        np.divide(values - mean, std, out=z[..., k], where=observed, casting="same_kind")
    return z, without_spread
