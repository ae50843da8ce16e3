"""What a user gives as `X`, read as one block per modality: its kind, values and which rows have
it.

| kind | values |
|---|---|
| table | DataFrame of numbers (float64) and categories; missing: NaN |
| series | float32 [n, T, C], NaN where nothing was measured or a shorter series has ended |
| picture | float32 [n, C, H, W], NaN where a pixel is missing |
| text | object array [n] of str, None where absent |
| embedding | float32 [n, D], NaN where missing |

A row of a block whose every value is missing (NaN, None) is absent: the modality is missing there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from i2m2.errors import DataError
from i2m2.reading.given import NO_ARRAY, array_of, is_missing, with_nan

KINDS = ("table", "series", "picture", "text", "embedding")
ARRAYS = ("series", "picture", "embedding")  # of which an example is an array
EMBEDDING_WIDTH = 128  # numbers wider than this are taken for an embedding
CHANNELS = (1, 3, 4)  # of a picture
LARGEST = float(np.finfo(np.float32).max)


class InputError(DataError, ValueError):
    """`X`, `y`, `groups` or a declaration of modalities is not what it should be."""


@dataclass(frozen=True)
class Block:
    """One modality of n examples; `present` [n] says which have it."""

    name: str
    kind: str
    values: Any
    present: np.ndarray

    def __len__(self) -> int:
        return len(self.present)

    def take(self, rows: np.ndarray) -> Block:
        values = self.values.iloc[rows] if self.kind == "table" else self.values[rows]
        return Block(self.name, self.kind, values, self.present[rows])


Blocks = dict[str, Block]


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
    kinds = dict(kinds or {})
    if isinstance(X, Mapping):
        parts = dict(X)
        if modalities is not None:
            parts = {name: parts.get(name) for name in modalities}
    elif modalities is None:
        parts = {"X": X}
    else:
        parts = {name: _columns(X, name, spec, kinds) for name, spec in modalities.items()}
    if not parts:
        raise InputError("X holds no modality; give at least one block")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise InputError(f"kinds: {name} is {kind!r}; choose one of {', '.join(KINDS)}")
        if name not in parts:
            raise InputError(f"kinds: there is no modality {name!r}; there are {', '.join(parts)}")
    blocks = {name: _read(name, part, kinds.get(name)) for name, part in parts.items()}
    sizes = {name: len(block) for name, block in blocks.items()}
    if len(set(sizes.values())) > 1:
        rows = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(
            f"the blocks have unequal numbers of rows: {rows}; give each every example"
        )
    return blocks


def _columns(X: Any, name: str, spec: Any, kinds: dict[str, str]) -> Any:
    """The part of a table that a modality names: a column, a list of columns, a slice, or (columns,
    shape of an example)."""
    if isinstance(spec, tuple) and len(spec) == 2 and not np.isscalar(spec[0]):
        flat = _flat_numbers(name, _columns(X, name, spec[0], kinds))
        return flat.reshape(len(flat), *_shape_of(name, spec[1], flat.shape[1]))
    ordered = np.isscalar(spec) or isinstance(spec, slice) or hasattr(spec, "__len__")
    if not ordered or isinstance(spec, (set, frozenset)):
        raise InputError(
            f"{name}: {shown(spec)} names no columns in an order; give a column, a list or a slice"
        )
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
    known = _shortened(list(X.columns))
    return InputError(f"{name}: there is no column {shown(column)}; the columns are {known}")


def _flat_numbers(name: str, part: Any) -> np.ndarray:
    """Columns that make up one example as float32 [n, D], NaN where missing."""
    if hasattr(part, "columns"):
        part = read_table(name, part).values
        texts = [column for column in part.columns if part[column].dtype.kind != "f"]
        if texts:
            raise InputError(f"{name}: column {texts[0]!r} holds texts; an example needs numbers")
    return _numbers(name, np.asarray(part))


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


def _read(name: str, values: Any, kind: str | None) -> Block:
    if values is None:
        raise InputError(
            f"X has no block {name!r}; give one, rows of NaN or None where it is absent"
        )
    if hasattr(values, "toarray"):
        raise InputError(f"{name}: sparse data are not supported; use a dense array (X.toarray())")
    kind = kind or infer_kind(name, values)
    if kind in ARRAYS and np.iterable(values) and all(map(is_missing, values)):
        return Block(name, kind, np.full((len(values), 1), np.nan), np.zeros(len(values), bool))
    return _READERS[kind](name, values)


def infer_kind(name: str, values: Any) -> str:
    """The kind of a block by its type and shape; see the table above. A [n, A, B] array is a
    picture where it holds uint8, else a series."""
    if hasattr(values, "columns"):
        return "table"
    array = as_array(name, values)
    if array.dtype == object:
        filled = [item for item in array.ravel() if not is_missing(item)]
        if filled and all(isinstance(item, str) for item in filled) and array.ndim == 1:
            words = np.mean([len(item.split()) for item in filled])
            return "text" if words >= 2 else "table"
        if array.ndim == 1 and filled and all(np.ndim(item) > 0 for item in filled):
            items = [as_array(name, item) for item in filled]
            return _infer_of_arrays([item for item in items if item.size])
        return "table"
    if array.ndim <= 2:
        wide = array.ndim == 2 and array.shape[1] > EMBEDDING_WIDTH
        return "embedding" if wide and array.dtype.kind == "f" else "table"
    if array.ndim == 3:  # a masked array of uint8 has become one of floats
        stored = values.dtype if isinstance(values, np.ndarray) else array.dtype
        return "picture" if stored == np.uint8 else "series"
    if array.ndim == 4:
        return "picture"
    raise InputError(f"{name}: no kind of block has {array.ndim} axes; {_SHAPES}")


def _infer_of_arrays(items: Sequence[np.ndarray]) -> str:
    """The kind of a column that holds an array per example."""
    if all(item.ndim == 1 for item in items):
        return "embedding" if len({item.shape for item in items}) == 1 else "series"
    if all(item.ndim == 2 and item.dtype != np.uint8 for item in items):
        return "series"
    return "picture"


_SHAPES = (
    "a table is [n, D], a series [n, T, C], a picture [n, H, W] or [n, H, W, C], "
    "a text a column of strings"
)


def read_table(name: str, values: Any) -> Block:
    """Columns of numbers and categories from a DataFrame, a Series or an array [n, D]. InputError
    for what is no table."""
    import pandas as pd

    if not hasattr(values, "columns"):
        if hasattr(values, "to_frame"):
            values = values.to_frame()
        else:
            array = as_array(name, values)
            if array.ndim != 2 and array.ndim != 1:
                raise InputError(f"{name}: a table has the shape [n, D], not {array.shape}")
            values = pd.DataFrame(array.reshape(len(array), -1))
    if values.shape[1] == 0:
        raise InputError(f"{name}: a block without columns (0 feature(s)); give at least one")
    refuse_duplicates(name, values)
    frame = pd.DataFrame(
        {column: _read_column(name, values[column]) for column in values.columns}
    ).reset_index(drop=True)
    return Block(name, "table", frame, frame.notna().any(axis=1).to_numpy())


def refuse_duplicates(name: str, frame: Any) -> None:
    """InputError where two columns of a DataFrame have one name."""
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{name}: two columns are called {twice!r}; give each its own name")


def _read_column(block: str, column: Any) -> Any:
    """Numbers as float64, anything else as text categories; both with NaN where missing."""
    import pandas as pd

    where = f"{block}: column {column.name!r}"
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else ""
    if kind == "c":
        raise InputError(f"{where}: Complex data not supported; give real and imaginary parts")
    if kind in "mM" and kind or isinstance(column.dtype, (pd.DatetimeTZDtype, pd.PeriodDtype)):
        raise InputError(f"{where} holds dates; give numbers, such as days since admission")
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return _finite(where, column.to_numpy(dtype=np.float64, na_value=np.nan))
    missing = column.isna().to_numpy()
    filled = column[~missing]
    if column.dtype == object:
        odd = (item for item in filled if not np.isscalar(item) or isinstance(item, bytes))
        wrong = next(odd, None)
        if wrong is not None:
            raise InputError(
                f"{where} holds {type(wrong).__name__} objects; argument must be a string or a "
                "number in every row of a table"
            )
        if not any(isinstance(item, str) for item in filled):
            return _finite(where, _numbers(where, column.to_numpy(), np.float64))
    texts = column.astype(object).where(~missing, None)
    return pd.Series([None if item is None else as_text(item) for item in texts], dtype=object)


def as_text(item: Any) -> str:
    """A category's name; a whole number has the same as an int and as a float."""
    whole = isinstance(item, (float, np.floating)) and float(item).is_integer()
    return str(int(item)) if whole else str(item)


def _finite(where: str, numbers: np.ndarray) -> np.ndarray:
    beyond = (numbers > LARGEST) | (numbers < -LARGEST)  # of which the networks make infinity
    if beyond.any():
        row = int(np.flatnonzero(beyond.reshape(len(numbers), -1).any(axis=1))[0])
        raise InputError(
            f"{where} holds infinity (row {row}), or a number above {LARGEST:.1e}; give a smaller "
            "one, or NaN where it is unknown"
        )
    return numbers


def _read_series(name: str, values: Any) -> Block:
    array = as_array(name, values)
    if array.dtype == object:
        array = _stack(name, array, unequal=True)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InputError(f"{name}: a series has the shape [n, T, C], not {array.shape}")
    array = _finite(name, _numbers(name, array))
    return Block(name, "series", array, ~np.isnan(array).all(axis=(1, 2)))


def _stack(name: str, items: np.ndarray, unequal: bool = False) -> np.ndarray:
    """One array per example -> [n, longest, ...], NaN where there is none. InputError for arrays of
    `unequal` length where these are not allowed."""
    arrays = [None if is_missing(item) else _numbers(name, as_array(name, item)) for item in items]
    filled = [item for item in arrays if item is not None and item.size]
    if not filled:
        raise InputError(f"{name}: no example has this modality")
    shapes = {item.shape[1:] if unequal else item.shape for item in filled}
    if len(shapes) > 1:
        found = " and ".join(map(str, sorted(shapes)[:2]))
        where = " per step" if unequal else ""
        raise InputError(f"{name}: examples have the shapes {found}{where}; give them one")
    longest = max(len(item) for item in filled)
    stacked = np.full((len(arrays), longest, *filled[0].shape[1:]), np.nan, dtype=np.float32)
    for row, item in enumerate(arrays):
        if item is not None and item.size:
            stacked[row, : len(item)] = item
    return stacked


def _read_picture(name: str, values: Any) -> Block:
    array = as_array(name, values)
    if array.dtype == object:
        array = _stack(name, array)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in CHANNELS and array.shape[3] in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise InputError(
            f"{name}: a picture is [H, W] or [H, W, C], not of shape {array.shape[1:]}"
        )
    array = _finite(name, _numbers(name, array))
    return Block(name, "picture", array, ~np.isnan(array).all(axis=(1, 2, 3)))


def _read_text(name: str, values: Any) -> Block:
    array = as_array(name, values)
    array = array.reshape(len(array), -1)
    if array.shape[1] != 1:
        raise InputError(f"{name}: a text is one column of strings, not {array.shape[1]} columns")
    texts = np.array([None if is_missing(x) else x for x in array[:, 0].tolist()], dtype=object)
    if wrong := [text for text in texts if text is not None and not isinstance(text, str)]:
        raise InputError(f"{name}: a text holds {shown(wrong[0])}; give strings, None where absent")
    return Block(name, "text", texts, np.array([text is not None for text in texts]))


def _read_embedding(name: str, values: Any) -> Block:
    array = _flat_numbers(name, values) if hasattr(values, "columns") else as_array(name, values)
    if array.dtype == object and array.ndim == 1:
        array = _stack(name, array)
    if array.ndim != 2 or not array.shape[1]:
        raise InputError(f"{name}: an embedding has the shape [n, D], not {array.shape}")
    array = _finite(name, _numbers(name, array))
    return Block(name, "embedding", array, ~np.isnan(array).all(axis=1))


_READERS = {
    "table": read_table,
    "series": _read_series,
    "picture": _read_picture,
    "text": _read_text,
    "embedding": _read_embedding,
}


def _numbers(name: str, array: np.ndarray, kind: type = np.float32) -> np.ndarray:
    if array.dtype.kind == "c":
        raise InputError(f"{name}: Complex data not supported; give magnitude and phase")
    if array.dtype.kind in "mM":
        raise InputError(f"{name} holds dates; give numbers, such as days since admission")
    if array.dtype == object:
        array = with_nan(array)
    try:
        with np.errstate(over="ignore"):  # what is infinity then is refused by its row
            return array.astype(kind)
    except NO_ARRAY as error:
        raise InputError(f"{name} holds what is no number ({error}); give numbers") from error


def as_array(name: str, values: Any) -> np.ndarray:
    """An array of what may be a list, a Series, a tensor or a masked array (NaN or None where
    masked); object where the examples are of unequal shape or are strings. InputError for what is
    none."""
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


def shown(value: Any) -> str:
    """A value in a message: one line, cut where it is long."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def _shortened(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:12]))
    return f"{shown} ..." if len(names) > 12 else shown
