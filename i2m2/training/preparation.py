"""Arrays for training, none of it with torch: what users have (DataFrames, Series, lists, arrays of
any type) as numbers, classes, names and masks, or refused by name; splits that keep a group (a
patient, a volume) on one side; standardised inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError


def as_array(values: object) -> np.ndarray:
    """An array of what may be a DataFrame, a Series or a list; an array as it is, mapped or not."""
    if isinstance(values, np.ndarray):
        return values
    return np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)


def as_input(modality: str, values: object) -> np.ndarray:
    """A modality's numbers [N, ...]. DataError for texts and other objects."""
    if not hasattr(values, "to_numpy") and hasattr(values, "shape"):
        return values  # an array, or what is read like one
    array = as_array(values)
    if array.dtype.kind == "O":  # columns of several types, or numbers that may be missing
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{modality}: {error}; encode texts and categories first") from error
    return array


def as_classes(values: object, classes: Sequence[str] | None = None) -> np.ndarray:
    """Labels [n(, L)] as int64. DataError for texts that are none of `classes`, for missing labels
    and for numbers that are no integers."""
    y = as_array(values)
    if classes is not None:
        place = {name: k for k, name in enumerate(classes)}
        if unknown := sorted(set(y.ravel().tolist()) - place.keys(), key=str):
            given = ", ".join(map(str, classes))
            raise DataError(f"y: label {unknown[0]!r} is none of the classes {given}")
        return np.array([place[name] for name in y.ravel().tolist()], np.int64).reshape(y.shape)
    if y.dtype.kind in "biu":
        return y.astype(np.int64, copy=False)
    try:
        whole = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y: {error}; give the names of the answers as classes=[...]") from error
    if not (np.isfinite(whole) & (whole == np.round(whole))).all():
        bad = whole[~(whole == np.round(whole)) | ~np.isfinite(whole)][0]
        raise DataError(f"y: {bad} is no class; labels are whole numbers from 0")
    return whole.astype(np.int64)


def as_names(what: str, values: object) -> np.ndarray:
    """Ids or groups [n]; objects become integers or texts of fixed width, which can be saved and
    read without unpickling. DataError for a missing one."""
    names = as_array(values)
    if names.dtype.kind != "O":
        return names
    if missing := [place for place, name in enumerate(names) if name is None or name != name]:
        raise DataError(f"{what}: row {missing[0]} has none; every example needs one")
    whole = all(isinstance(name, (int, np.integer)) for name in names)
    return names.astype(np.int64 if whole else str)


def as_mask(modality: str, values: object) -> np.ndarray:
    """Which examples have a modality, bool [n]. DataError for anything but true, false, 0 and 1."""
    mask = as_array(values)
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"present of {modality}: it holds other values than true and false")
    return mask.astype(bool)


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
