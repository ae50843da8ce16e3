"""Groups, and the folds of the training rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from i2m2.estimator.given.values import InputError, as_array, as_text
from i2m2.reading.given import is_missing


def as_names(what: str, values: Any, rows: int) -> np.ndarray:
    """Groups or ids as texts [n], one of each row. InputError for another length, for a missing or
    masked one and for lists and arrays."""
    array = as_array(what, values)
    array = array[:, 0] if array.shape == (rows, 1) else array
    if array.shape != (rows,):
        raise InputError(f"{what} have the shape {array.shape}; give one of each of {rows} rows")
    missing = [row for row, item in enumerate(array.tolist()) if is_missing(item)]
    if missing:
        raise InputError(f"{what} hold NaN or None (row {missing[0]}); give every row one")
    if odd := [item for item in array.tolist() if not getattr(item, "__hash__", None)]:
        kind = type(odd[0]).__name__
        raise InputError(f"{what} hold {kind} objects; give a text or a number for each row")
    return np.array([as_text(item) for item in array.tolist()])


def as_groups(groups: Any, rows: int) -> np.ndarray:
    """The group of each row as integers [n]; InputError as of `as_names`."""
    return np.unique(as_names("groups", groups, rows), return_inverse=True)[1]


def make_folds(
    strata: np.ndarray | None, groups: np.ndarray | None, rows: int, count: int, seed: int
) -> np.ndarray:
    """The fold [n] of every row: as many of each stratum as can be, a group in one fold alone.

    `count` is lowered to the number of rows or groups. A class with fewer rows than folds is absent
    from some of them. InputError where fewer than two folds can be made.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    units = rows if groups is None else len(np.unique(groups))
    if units < 2:
        what = "X has 1 sample, while a minimum of 2 is required"
        if groups is not None:
            what = f"groups: all {rows} rows are of one group; splits need at least 2 groups"
        raise InputError(what)
    count = min(count, units)
    if strata is not None:
        most = int(np.bincount(strata).max())
        strata, count = (strata, min(count, most)) if most > 1 else (None, count)
    kinds = {
        (False, False): KFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }
    kind = kinds[strata is not None, groups is not None]
    splitter = kind(count, shuffle=True, random_state=seed)
    fold = np.empty(rows, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class rarer than the folds
        for place, (_, held_out) in enumerate(splitter.split(np.zeros(rows), strata, groups)):
            fold[held_out] = place
    return _filled(fold)


def _filled(fold: np.ndarray) -> np.ndarray:
    """Folds numbered without gaps (few groups may leave one empty)."""
    found = np.unique(fold, return_inverse=True)[1]
    if found.max() < 1:
        raise InputError("groups: all rows fall into one fold; splits need more even groups")
    return found


def strata_of(y: np.ndarray) -> np.ndarray:
    """One stratum [n] of several labels [n, L]: their combination if each is frequent, else the
    first label."""
    combined = np.unique(y, axis=0, return_inverse=True)[1].ravel()
    return (
        combined if np.bincount(combined).min() >= 5 else np.unique(y[:, 0], return_inverse=True)[1]
    )
