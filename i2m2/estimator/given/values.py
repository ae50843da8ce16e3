"""Numbers, arrays and texts as users give them, and what is said of those that are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from i2m2.errors import DataError
from i2m2.reading.given import NO_ARRAY, array_of, with_nan

LARGEST = float(np.finfo(np.float32).max)


class InputError(DataError, ValueError):
    """`X`, `y`, `groups` or a declaration of modalities is not what it should be."""


def as_array(name: str, values: Any) -> np.ndarray:
    """An array of what may be a list, a Series, a tensor or a masked array (NaN or None where
    masked); object where the examples are of unequal shape or are strings. InputError for what is
    none, for tables of other columns than their neighbours', or for bytes, which are no series."""
    _refuse_other_columns(name, values)
    if any(isinstance(item, (bytearray, memoryview)) for item in objects_of(values)):
        raise InputError(f"{name} holds bytes; decode them first, such as pictures as arrays")
    try:
        array = array_of(values)
    except NO_ARRAY as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} cannot be read as an array ({reason}); give one") from error
    if array.ndim == 0:
        raise InputError(
            f"{name} needs one row per example, not {shown(values)}; Reshape your data"
        )
    if array.dtype.kind == "V":
        raise InputError(f"{name} is a structured array; give a DataFrame of its fields")
    return array


def as_example(name: str, item: Any) -> np.ndarray:
    """The array of one example; lists of lists in Parquet come as arrays of arrays. InputError as
    of `as_array`, or where these are of unequal shape."""
    array = as_array(name, item)
    nested = array.dtype == object and array.ndim == 1 and len(array)
    if not nested or not all(isinstance(part, (np.ndarray, list, tuple)) for part in array):
        return array
    parts = [as_example(name, part) for part in array]
    if len(shapes := sorted({part.shape for part in parts})) > 1:
        found = f"{shapes[0]} and {shapes[1]}"
        raise InputError(f"{name}: parts of one example have the shapes {found}; give them one")
    return np.stack(parts)


def _refuse_other_columns(name: str, values: Any) -> None:
    """The steps of a series may be a table for each example, whose columns go by their places."""
    tables = (item for item in objects_of(values) if hasattr(item, "columns"))
    columns = {tuple(item.columns): None for item in tables}
    if len(columns) > 1:
        first, other, *_ = (shown(list(names)) for names in columns)
        raise InputError(
            f"{name}: an example has the columns {first} and another {other}; give all the same, "
            "in one order"
        )


def objects_of(values: Any) -> Any:
    """The items of a list or of an array of objects; none of an array of numbers."""
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    return values if isinstance(values, (list, tuple)) or kind == "O" else ()


def as_frame(name: str, values: Any) -> Any:
    """The pandas DataFrame of another library's table (polars, Arrow); anything else as it is.
    InputError where that library lacks what it needs for it."""
    if not (hasattr(values, "columns") and hasattr(values, "to_pandas")):
        return values
    try:
        return values.to_pandas()
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} has no pandas form ({reason}); give a DataFrame") from error


def as_numbers(name: str, array: np.ndarray, kind: type | None = None) -> np.ndarray:
    """An array of numbers of one type, NaN for what is missing; float64 where float32 might round
    them, unless a kind is named: seconds since 1970 differ by less than float32 tells apart.
    InputError for what is no number."""
    if array.dtype.kind == "c":
        raise InputError(f"{name}: Complex data not supported; give magnitude and phase")
    if array.dtype.kind in "mM":
        raise InputError(f"{name} holds dates; give numbers, such as days since admission")
    if array.dtype == object:
        array = with_nan(array)
    try:
        with np.errstate(over="ignore"):  # what is infinity then is refused by its row
            return array.astype(kind or _kind_for(array.dtype), copy=False)
    except NO_ARRAY as error:
        raise InputError(f"{name} holds what is no number ({error}); give numbers") from error


def _kind_for(given: np.dtype) -> np.dtype:
    return np.dtype(np.float64) if given.kind == "O" else np.result_type(given, np.float32)


def refuse_infinite(where: str, numbers: np.ndarray) -> np.ndarray:
    """The numbers, if none of them is infinity or too large for float32; else InputError."""
    beyond = (numbers > LARGEST) | (numbers < -LARGEST)  # of which the networks make infinity
    if beyond.any():
        row = int(np.flatnonzero(beyond.reshape(len(numbers), -1).any(axis=1))[0])
        raise InputError(
            f"{where} holds infinity (row {row}), or a number above {LARGEST:.1e}; give a smaller "
            "one, or NaN where it is unknown"
        )
    return numbers


def as_text(item: Any) -> str:
    """A category's name; a whole number has the same as an int and as a float."""
    whole = isinstance(item, (float, np.floating)) and float(item).is_integer()
    return str(int(item)) if whole else str(item)


def shown(value: Any) -> str:
    """A value in a message: one line, cut where it is long."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 60 else f"{line[:57]}..."


@contextmanager
def errors_of(model: Any, modalities: Sequence[str]) -> Iterator[None]:
    """What a user's model, or function that makes one, raises as an InputError of one line that
    names it."""
    name = getattr(model, "__name__", type(model).__name__)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # it is not our code that runs there
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name}, the expert that reads {' and '.join(modalities)}: {reason}"
        ) from error
