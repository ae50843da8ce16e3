"""What users give as an array: lists, Series, tensors, masked arrays, of any type."""

from __future__ import annotations

from typing import Any

import numpy as np

NO_ARRAY = (TypeError, ValueError, RuntimeError, OverflowError)  # what NumPy and torch then raise


def array_of(values: Any) -> np.ndarray:
    """An array with NaN, or None of what is no number, where masked; object where its items are of
    unequal shape or are strings. One of NO_ARRAY is raised for what is none."""
    if isinstance(values, (list, tuple)):
        shapes = {np.shape(item) for item in values if not is_missing(item)}
        unequal = len(shapes) > 1 or any(is_missing(item) and item is None for item in values)
        if unequal and any(shape for shape in shapes):
            array = np.empty(len(values), dtype=object)
            array[:] = [None if is_missing(item) else array_of(item) for item in values]
            return array
        own = (isinstance(item, np.ma.MaskedArray) or hasattr(item, "detach") for item in values)
        values = [array_of(item) for item in values] if any(own) else values
    if hasattr(values, "detach"):  # a tensor; NumPy has no bfloat16
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, np.ma.MaskedArray):
        values = _without_mask(values)
    array = np.asarray(values)
    if array.dtype.kind in "US":  # of a list NumPy has made texts of its numbers and NaN, too
        return np.asarray(values, dtype=object)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # longdouble, which torch lacks
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _without_mask(values: np.ma.MaskedArray) -> np.ndarray:
    if not np.ma.is_masked(values):
        return values.data
    numbers = values.dtype.kind in "biufc"
    kind = np.result_type(values.dtype, np.float16) if numbers else object
    found = values.data.astype(kind)
    found[np.ma.getmaskarray(values)] = np.nan if numbers else None
    return found


def is_missing(item: Any) -> bool:
    """Whether a cell holds None, NaN, pandas' NA or NaT, or is masked."""
    if item is None or item is np.ma.masked or type(item).__name__ in ("NAType", "NaTType"):
        return True
    return bool(np.isscalar(item) and item != item)


def with_nan(objects: np.ndarray) -> np.ndarray:
    """Objects with NaN for each that is missing."""
    return np.frompyfunc(lambda item: np.nan if is_missing(item) else item, 1, 1)(objects)
