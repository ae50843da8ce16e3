"""Labels and targets."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from i2m2.estimator.given.kinds import Blocks, read_table
from i2m2.estimator.given.values import InputError, as_array, as_text
from i2m2.reading.given import is_missing

LABELS = (str, bool, int, float, np.bool_, np.integer, np.floating)


def as_labels(y: Any) -> np.ndarray:
    """Labels [n] or [n, L]; a column vector becomes [n], with scikit-learn's warning. InputError
    where a label is missing (masked, too) or neither a text nor a number."""
    if y is None:
        raise InputError("requires y to be passed, but the target y is None")
    if hasattr(y, "toarray"):
        raise InputError("y is sparse; give a dense array (y.toarray())")
    array = as_array("y", y)
    if array.ndim == 2 and array.shape[1] == 1:
        from sklearn.exceptions import DataConversionWarning

        message = "A column-vector y was passed when a 1d array was expected; it is read as [n]"
        warnings.warn(message, DataConversionWarning, stacklevel=4)
        array = array[:, 0]
    if array.ndim not in (1, 2) or not array.size:
        raise InputError(f"y has the shape {array.shape}; give one label a row, [n] or [n, L]")
    if array.dtype.kind == "c":
        raise InputError("y: Complex data not supported")
    if array.dtype.kind in "mM":
        raise InputError("y holds dates; give classes, or numbers such as days since admission")
    items, labels = array.ravel().tolist(), array.size // len(array)
    if missing := [place for place, item in enumerate(items) if is_missing(item)]:
        row = missing[0] // labels
        raise InputError(f"y holds NaN or None (row {row}); leave out rows without a label")
    if array.dtype == object:
        array = _of_one_type(array)
    if array.dtype.kind == "f" and np.isinf(array).any():
        row = int(np.flatnonzero(np.isinf(array).reshape(len(array), -1).any(axis=1))[0])
        raise InputError(f"y holds infinity (row {row}); leave out rows without a label")
    return array


def _of_one_type(array: np.ndarray) -> np.ndarray:
    """Objects that are all numbers, or all true or false, as an array of these. InputError for what
    is neither a text nor a number."""
    items = array.ravel().tolist()
    if wrong := [place for place, item in enumerate(items) if not isinstance(item, LABELS)]:
        row, kind = wrong[0] // (len(items) // len(array)), type(items[wrong[0]]).__name__
        raise InputError(f"y holds {kind} objects (row {row}); give texts, numbers or booleans")
    kinds = {_kind_of(item) for item in items}
    return array if len(kinds) > 1 or kinds == {str} else np.array(array.tolist())


def _kind_of(item: Any) -> type:
    return next(kind for kind in (str, (bool, np.bool_), object) if isinstance(item, kind))


def refuse_target(blocks: Blocks, y: Any) -> None:
    """InputError where a column of a table is the target `y` in every row, or has its name and says
    the same in other words (yes and no for 1 and 0)."""
    frame = y.to_frame() if hasattr(y, "to_frame") and y.name is not None else y
    named, target = hasattr(frame, "columns"), read_table("y", frame).values
    tables = {name: block.values for name, block in blocks.items() if block.kind == "table"}
    for name, table in tables.items():
        for column, values in table.items():
            for label, own in target.items():
                recoded = named and column == label and _is_recoding(values, own)
                if recoded or _says_the_same(values, own):
                    raise InputError(
                        f"{name}: its column {column!r} is the target; name the columns to learn "
                        "from"
                    )


def _says_the_same(column: Any, target: Any) -> bool:
    """Whether two columns are equal in every row; 1 and '1' are."""
    if column.dtype != target.dtype:
        if as_text(column.iloc[0]) != as_text(target.iloc[0]):
            return False
        column, target = column.map(as_text), target.map(as_text)
    return column.equals(target)


def _is_recoding(column: Any, target: Any) -> bool:
    """Whether each value of a column stands for one of the target and the reverse, which says
    something only where values occur again."""
    first, second = (
        np.unique(one.map(as_text), return_inverse=True)[1] for one in (column, target)
    )
    pairs = len(np.unique(np.stack([first, second]), axis=1).T)
    return first.max() + 1 == second.max() + 1 == pairs < len(first)


def encode_labels(y: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """[n(, L)] labels -> int [n, L], and the classes of each label. InputError for numbers that are
    no classes, or for a single class."""
    columns = [_comparable(column) for column in y.reshape(len(y), -1).T]
    if any(one.dtype.kind == "f" and (one != np.round(one)).any() for one in columns):
        raise InputError(
            "Unknown label type: continuous numbers; take I2M2Regressor, or the task regress"
        )
    found = [np.unique(column, return_inverse=True) for column in columns]
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
    column = column.astype(str) if kinds == {str} else np.array(column.tolist())
    if column.dtype == object:
        raise InputError("y holds whole numbers of more than 64 bits; give texts")
    return column


def as_targets(y: np.ndarray) -> np.ndarray:
    """Float targets [n, L]. InputError for what is no number."""
    try:
        return y.reshape(len(y), -1).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"y holds what is no number ({error}); a regressor needs numbers"
        ) from error


def refuse_constant(targets: np.ndarray) -> None:
    """InputError where one of the targets [n, L] is the same number in every row."""
    constant = (targets == targets[0]).all(axis=0)
    if len(targets) > 1 and constant.any():
        place = int(np.flatnonzero(constant)[0])
        where = f"target {place} of y" if len(constant) > 1 else "y"
        raise InputError(
            f"{where} is {targets[0, place]:g} in every row; there is nothing to learn"
        )
