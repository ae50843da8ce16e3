"""Arrays for training, none of it with torch: what users have (DataFrames, Series, lists, arrays of
any type) as numbers, classes, names and masks, or refused by name; splits that keep a group (a
patient, a volume) on one side; standardised inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError
from i2m2.reading.given import NO_ARRAY, array_of, is_missing, with_nan


def as_array(what: str, values: object) -> np.ndarray:
    """An array of what may be a DataFrame, a Series, a tensor or a list, NaN or None where masked;
    an array as it is, mapped or not. DataError for what is none."""
    plain = isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)
    try:
        array = values if plain else array_of(values)
    except NO_ARRAY as error:
        raise DataError(f"{what}: {' '.join(str(error).split())}; give an array") from error
    if not array.ndim:
        raise DataError(f"{what}: a {type(values).__name__} is no array; give a row per example")
    return array


def as_input(modality: str, values: object, narrow: bool = True) -> np.ndarray:
    """A modality's numbers [N, ...]: those of a table (DataFrame, Series) as float32, since they
    measure something, without `narrow` in a floating-point type that holds them all; those of an
    array in the type that is stored, since integers may be pixels or tokens. DataError for texts,
    dates and other objects."""
    if hasattr(values, "toarray"):  # SciPy's
        kind = type(values).__name__
        raise DataError(f"{modality}: a {kind} is sparse; give its .toarray()")
    users = isinstance(values, np.ndarray) or not hasattr(values, "shape")
    users = users or hasattr(values, "to_numpy") or hasattr(values, "detach")
    array = as_array(modality, values) if users else values  # or what is read like an array
    kind = getattr(getattr(array, "dtype", None), "kind", "f")
    if kind not in "biufcO":
        raise DataError(f"{modality}: {array.dtype} is no type of numbers; encode it first")
    table = hasattr(values, "to_numpy") and kind != "c"
    return _as_floats(modality, array, narrow) if table or kind == "O" else array


def _as_floats(modality: str, array: np.ndarray, narrow: bool) -> np.ndarray:
    """Columns of several types, or numbers of which some are missing, as `as_input` says."""
    objects = array.dtype.kind == "O"
    if objects:
        array = with_nan(array)
    wide = np.float64 if objects else np.result_type(array.dtype, np.float32)
    try:
        with np.errstate(over="ignore"):  # what is infinite then is refused by its row
            return array.astype(np.float32 if narrow else wide)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{modality}: {error}; give examples of one shape, texts and categories encoded"
        ) from error


def as_classes(values: object, classes: Sequence[str] | None = None) -> np.ndarray:
    """Labels [n(, L)] as int64. DataError for texts that are none of `classes`, for missing labels
    and for numbers that are no integers."""
    y = as_array("y", values)
    if y.ndim > 2:
        raise DataError(f"y has the shape {y.shape}; labels are [n] or [n, L]")
    if classes is not None:
        place = {name: k for k, name in enumerate(classes)}
        if unknown := sorted(set(y.ravel().tolist()) - place.keys(), key=str):
            given = ", ".join(map(str, classes))
            raise DataError(f"y: label {unknown[0]!r} is none of the classes {given}")
        return np.array([place[name] for name in y.ravel().tolist()], np.int64).reshape(y.shape)
    if y.dtype.kind in "biu":
        return y.astype(np.int64, copy=False)
    if y.dtype.kind in "cmMV":
        raise DataError(f"y: {y.dtype} is no type of labels, which are whole numbers from 0")
    if y.dtype.kind == "O":
        y = with_nan(y)
    try:
        whole = y.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"y: {error}; give the names of the answers as classes=[...]") from error
    wrong = ~(whole == np.round(whole)) | ~(abs(whole) < 2**53)
    if wrong.any():
        raise DataError(f"y: {whole[wrong][0]} is no class; labels are whole numbers from 0")
    return whole.astype(np.int64)


def as_column(what: str, values: object) -> np.ndarray:
    """One value per example [n], which may have come as [n, 1]."""
    array = as_array(what, values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{what}: the shape is {list(array.shape)}; give one of each example, [n]")
    return array


def as_rows(values: object) -> np.ndarray:
    """Which rows of the arrays, int [n]. DataError for anything but whole numbers from 0."""
    rows = as_column("rows", values)
    if rows.size and rows.dtype.kind not in "iu":
        raise DataError(f"rows: {rows.dtype} is no type of row numbers; give whole numbers")
    if rows.size and rows.min() < 0:  # what pandas' get_indexer did not find, and NumPy's last row
        raise DataError(f"rows: {rows.min()} is no row; give whole numbers from 0")
    return rows if rows.size else rows.astype(np.int64)


def as_names(what: str, values: object) -> np.ndarray:
    """Ids or groups [n]: integers, and all else as texts of fixed width, which can be saved, and
    read without unpickling. DataError for a missing one."""
    names = as_column(what, values)
    if names.dtype.kind == "V":
        raise DataError(f"{what}: {names.dtype} is no type of names; give texts or numbers")
    objects = names.dtype.kind == "O"
    missing = [is_missing(name) for name in names] if objects else names != names
    if np.any(missing):
        raise DataError(f"{what}: row {np.argmax(missing)} has none; every example needs one")
    if names.dtype.kind in "iuU":
        return names
    whole = objects and all(
        isinstance(name, (int, np.integer)) and abs(name) < 2**63 for name in names
    )
    return names.astype(np.int64) if whole else np.array([_as_text(name) for name in names], str)


def _as_text(name: object) -> str:
    """HDF5 files hold texts as bytes."""
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def as_labels(names: Sequence[str] | None, y: np.ndarray) -> list[str] | None:
    """Names of the L labels of `y` [n, L]. DataError for any other number of them."""
    if names is None or not len(names):
        return None
    given = [names] if isinstance(names, str) else list(map(str, names))
    if y.ndim != 2 or len(set(given)) != len(given) or len(given) != y.shape[1]:
        raise DataError(
            f"labels: {', '.join(given)} for y {list(y.shape)}; give each of the L labels of y "
            "[n, L] a name of its own, or none"
        )
    return given


def as_mask(modality: str, values: object) -> np.ndarray:
    """Which examples have a modality, bool [n]. DataError for anything but true, false, 0 and 1."""
    mask = as_column(f"present of {modality}", values)
    if mask.dtype.kind == "O":
        numbers = (int, float, np.number, np.bool_)
        mask = np.array([item if isinstance(item, numbers) else np.nan for item in mask])
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

    So another cohort is split nearly alike. DataError for fewer groups than parts, or 3 parts.
    """
    if parts < 3:
        raise DataError(f"parts={parts} leaves nothing to train on; give at least 3")
    names = as_names("group", group)
    if (given := np.asarray(group)).dtype.kind != "O":
        names = given  # hashed as they are, so that times of other units stay where they were
    groups, row_of = np.unique(names, return_inverse=True)
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


def standardise(x: object, train: np.ndarray | slice) -> tuple[np.ndarray, list[int]]:
    """-> z-scores [N, ..., F] float32 per feature, missing values 0; the features without spread.

    By mean and population standard deviation of what the rows `train` observe, in float64: a table
    may hold seconds since 1970. A feature without spread is constant or never observed, and is
    divided by 1. `x` and DataError as of `as_input`.
    """
    x = as_input("x", x, narrow=False)
    if x.ndim < 2 or x.dtype.kind == "c":
        raise DataError(f"x: {x.dtype} {list(x.shape)}; give real numbers, a column per feature")
    # Rounding leaves a constant a spread of about this size, relative to its mean.
    least = 1e-6 if x.dtype.kind == "f" and x.dtype.itemsize < 8 else 1e-12
    z, without_spread = np.zeros(x.shape, np.float32), []
    for k in range(x.shape[-1]):  # a feature at a time: no float64 copy of everything
        values = x[..., k].astype(np.float64)
        observed = np.isfinite(values)
        seen = values[train][observed[train]]
        mean, std = (seen.mean(), seen.std()) if len(seen) else (0.0, 0.0)
        if std <= least * abs(mean):
            std = 1.0
            without_spread.append(k)
        np.divide(values - mean, std, out=z[..., k], where=observed, casting="same_kind")
    return z, without_spread
