"""What a user gives as `X`, read as one block per modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from i2m2.estimator.given.kinds import KINDS, Blocks, flat_numbers, read_block
from i2m2.estimator.given.values import InputError, as_array, as_frame, shown


def read_blocks(
    X: Any,
    modalities: Mapping[str, Any] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Blocks:
    """{modality: block} of a mapping of blocks, or of a table (DataFrame, [n, D] array) whose
    columns `modalities` deals out; without `modalities` a table is one block, `X`. InputError for
    what cannot be read."""
    for name, given in {"modalities": modalities, "kinds": kinds}.items():
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f"{name}={shown(given)}: give a mapping from the names of modalities")
    kinds, X = dict(kinds or {}), as_frame("X", X)
    if isinstance(X, Mapping):
        parts = dict(X)
        if modalities is not None:
            parts = {name: parts.get(name) for name in modalities}
    elif modalities is None:
        parts = {"X": X}
    else:
        parts = {name: _columns(X, name, spec, kinds) for name, spec in modalities.items()}
    refuse_other_order(parts)
    if not parts:
        raise InputError("X holds no modality; give at least one block")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise InputError(f"kinds: {name} is {kind!r}; choose one of {', '.join(KINDS)}")
        if name not in parts:
            raise InputError(f"kinds: there is no modality {name!r}; there are {', '.join(parts)}")
    blocks = {name: read_block(name, part, kinds.get(name)) for name, part in parts.items()}
    sizes = {name: len(block) for name, block in blocks.items()}
    if len(set(sizes.values())) > 1:
        rows = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(
            f"the blocks have unequal numbers of rows: {rows}; give each every example"
        )
    return blocks


def refuse_other_order(parts: Mapping[str, Any]) -> None:
    """InputError where two parts have an index (of pandas) of the same labels in another order,
    since rows go by their places."""
    indexes = {name: part.index for name, part in parts.items() if hasattr(part, "iloc")}
    for (name, index), (other, its) in combinations(indexes.items(), 2):
        if len(index) == len(its) and not index.equals(its) and set(index) == set(its):
            raise InputError(
                f"{name} and {other} have the same labels of rows in another order, and rows go by "
                "their places; reindex one like the other, or drop the indexes (reset_index)"
            )


def _columns(X: Any, name: str, spec: Any, kinds: dict[str, str]) -> Any:
    """The part of a table that a modality names: a column, a list of columns, a slice, or (columns,
    shape of an example)."""
    if isinstance(spec, tuple) and len(spec) == 2 and not np.isscalar(spec[0]):
        flat = flat_numbers(name, _columns(X, name, spec[0], kinds))
        return flat.reshape(len(flat), *_shape_of(name, spec[1], flat.shape[1]))
    ordered = np.isscalar(spec) or isinstance(spec, slice) or hasattr(spec, "__len__")
    if not ordered or isinstance(spec, (set, frozenset)):
        raise InputError(
            f"{name}: {shown(spec)} names no columns in an order; give a column, a list or a slice"
        )
    if np.iterable(spec) and len(spec) and all(isinstance(one, (bool, np.bool_)) for one in spec):
        raise InputError(f"{name}: {shown(spec)} is a mask; give the columns where it is true")
    if not hasattr(X, "columns"):
        return _array_columns(X, name, spec)
    if isinstance(spec, str) and spec in KINDS and spec not in X.columns and name in X.columns:
        kinds.setdefault(name, spec)
        spec = name
    if isinstance(spec, slice):
        return _sliced(X, name, spec)
    columns = [spec] if np.isscalar(spec) else list(spec)
    if missing := [column for column in columns if not _is_column(X, column)]:
        raise _no_column(X, name, missing[0])
    if not columns:
        raise InputError(f"{name}: names no column; give at least one")
    return X[spec] if np.isscalar(spec) else X[columns]


def _shape_of(name: str, shape: Any, columns: int) -> tuple[int, ...]:
    """The shape of an example, which the columns must fill."""
    sizes = list(shape) if np.iterable(shape) else []
    if not sizes or not all(isinstance(size, (int, np.integer)) and size > 0 for size in sizes):
        raise InputError(
            f"{name}: (columns, {shown(shape)}): give the shape of an example as whole numbers, "
            "such as (columns, (24, 7))"
        )
    if columns != np.prod(sizes):
        raise InputError(
            f"{name}: {columns} columns cannot be of the shape {tuple(sizes)}, "
            f"which needs {np.prod(sizes)}"
        )
    return tuple(sizes)


def _is_column(X: Any, column: Any) -> bool:
    return bool(getattr(column, "__hash__", None)) and column in X.columns


def _sliced(X: Any, name: str, spec: slice) -> Any:
    """Columns from one to another, by name or by place."""
    ends = [end for end in (spec.start, spec.stop) if end is not None]
    if lacking := [end for end in ends if isinstance(end, str) and end not in X.columns]:
        raise _no_column(X, name, lacking[0])
    try:
        return X.loc[:, spec] if any(isinstance(end, str) for end in ends) else X.iloc[:, spec]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name}: {spec} names no columns ({error})") from error


def _no_column(X: Any, name: str, column: Any) -> InputError:
    known = shortened(X.columns)
    return InputError(f"{name}: there is no column {shown(column)}; the columns are {known}")


def _array_columns(X: Any, name: str, spec: Any) -> np.ndarray:
    X = as_array(name, X)
    if X.ndim != 2:
        raise InputError(
            f"{name}: columns are taken from a table [n, D], not from an array of shape {X.shape}"
        )
    if isinstance(spec, slice):
        places = all(
            isinstance(end, (int, np.integer, type(None))) for end in (spec.start, spec.stop)
        )
        part = X[:, spec] if places else X[:, :0]
    else:
        columns = np.atleast_1d(np.asarray(spec))
        fits = np.issubdtype(columns.dtype, np.integer) and columns.size
        if not fits or columns.max() >= X.shape[1] or columns.min() < -X.shape[1]:
            raise InputError(
                f"{name}: {shown(spec)} names no columns of an array of {X.shape[1]}; "
                f"give whole numbers from 0 to {X.shape[1] - 1}, or a slice"
            )
        part = X[:, columns]
    if not part.shape[1]:
        raise InputError(f"{name}: {spec} holds no column of the {X.shape[1]}")
    return part


def shortened(names: Iterable[Any]) -> str:
    """The first names in a message, quoted where a space begins or ends them."""
    texts = list(map(str, names))
    quoted = [text if text == text.strip() else repr(text) for text in texts[:12]]
    return ", ".join(quoted) + (" ..." if len(texts) > 12 else "")
