"""What users have, as training takes it: DataFrames, Series, lists and arrays of any type become
arrays of numbers, classes, names and masks, or are refused by name. No torch."""

from __future__ import annotations

from collections.abc import Sequence

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
