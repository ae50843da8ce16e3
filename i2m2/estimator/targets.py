"""Labels and targets, groups, and the folds of the training rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from i2m2.estimator.blocks import Blocks, InputError, is_missing, read_table


def as_labels(y: Any) -> np.ndarray:
    """Labels [n] or [n, L]; a column vector becomes [n], with scikit-learn's warning. InputError
    where a label is missing."""
    if y is None:
        raise InputError("requires y to be passed, but the target y is None")
    if hasattr(y, "toarray"):
        raise InputError("y is sparse; give a dense array (y.toarray())")
    array = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        from sklearn.exceptions import DataConversionWarning

        message = "A column-vector y was passed when a 1d array was expected; it is read as [n]"
        warnings.warn(message, DataConversionWarning, stacklevel=4)
        array = array[:, 0]
    if array.ndim not in (1, 2) or not array.size:
        raise InputError(f"y has the shape {array.shape}; give one label a row, [n] or [n, L]")
    if array.dtype.kind == "c":
        raise InputError("y: Complex data not supported")
    flat = array.ravel()
    missing = np.array([is_missing(item) for item in flat.tolist()])
    if missing.any():
        row = int(np.flatnonzero(missing)[0]) // (array.shape[1] if array.ndim == 2 else 1)
        raise InputError(f"y holds NaN or None (row {row}); leave out rows without a label")
    if array.dtype.kind == "f" and np.isinf(array).any():
        row = int(np.flatnonzero(np.isinf(array).reshape(len(array), -1).any(axis=1))[0])
        raise InputError(f"y holds infinity (row {row}); leave out rows without a label")
    return array


def refuse_target(blocks: Blocks, y: Any) -> None:
    """InputError where a column of a table has the name and the values of the target `y`, which
    can be known where this has a name."""
    if hasattr(y, "to_frame"):
        y = y.to_frame() if y.name is not None else y
    if not hasattr(y, "columns"):
        return
    target = read_table("y", y).values
    for name, block in blocks.items():
        for column in target.columns if block.kind == "table" else ():
            if column in block.values and block.values[column].equals(target[column]):
                raise InputError(
                    f"{name}: its column {column!r} is the target; name the columns to learn from"
                )


def encode_labels(y: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """[n(, L)] labels -> int [n, L], and the classes of each label. InputError for numbers that are
    no classes, or for a single class."""
    from sklearn.utils.multiclass import type_of_target

    if y.dtype.kind == "f" and type_of_target(y).startswith("continuous"):
        raise InputError(
            "Unknown label type: continuous numbers; take I2M2Regressor, or the task regress"
        )
    columns = y.reshape(len(y), -1).T
    found = [np.unique(_comparable(column), return_inverse=True) for column in columns]
    for place, (classes, _) in enumerate(found):
        if len(classes) < 2:
            where = f"label {place} of y" if len(found) > 1 else "y"
            raise InputError(
                f"{where} has one class, {classes.tolist()[0]!r}; "
                "a classifier needs at least 2 classes"
            )
    return np.stack([codes for _, codes in found], axis=1), [classes for classes, _ in found]


def _comparable(column: np.ndarray) -> np.ndarray:
    """Labels that can be sorted; a mixture of types is an error."""
    kinds = {str if isinstance(item, str) else type(item) for item in column.tolist()}
    if str in kinds and len(kinds) > 1:
        raise InputError("y mixes texts and numbers; give labels of one type")
    return column.astype(str) if kinds == {str} else np.array(column.tolist())


def as_targets(y: np.ndarray) -> np.ndarray:
    """Float targets [n, L]. InputError for what is no number."""
    try:
        return y.reshape(len(y), -1).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"y holds what is no number ({error}); a regressor needs numbers"
        ) from error


def as_groups(groups: Any, rows: int) -> np.ndarray:
    """The group of each row as integers [n]. InputError for another length or a missing group."""
    array = groups.to_numpy() if hasattr(groups, "to_numpy") else np.asarray(groups)
    if array.shape != (rows,):
        raise InputError(f"groups have the shape {array.shape}; give one of each of {rows} rows")
    if any(map(is_missing, array.tolist())):
        raise InputError("groups hold NaN or None; give every row a group, its own if it is alone")
    return np.unique(array.astype(str), return_inverse=True)[1]


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
