"""The kinds of blocks, and how the values of each are read.

| kind | values |
|---|---|
| table | DataFrame of numbers (float64) and categories; missing: NaN |
| series | floats [n, T, C], NaN where nothing was measured or a shorter series has ended |
| picture | float32 [n, C, H, W], NaN where a pixel is missing |
| text | object array [n] of str, None where absent |
| embedding | floats [n, D], NaN where missing |

Floats are float64 where float32 might round what was given; pictures would take much memory then.

A row of a block whose every value is missing (NaN, None) is absent: the modality is missing there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Any

import numpy as np

from i2m2.estimator.given.values import (
    InputError,
    as_array,
    as_example,
    as_frame,
    as_numbers,
    as_text,
    objects_of,
    refuse_infinite,
    shown,
)
from i2m2.reading.given import is_missing

KINDS = ("table", "series", "picture", "text", "embedding")
ARRAYS = ("series", "picture", "embedding")  # of which an example is an array
EMBEDDING_WIDTH = 128  # numbers wider than this are taken for an embedding
FEWEST = 20  # rows of which it is said that their categories hardly occur again
CHANNELS = (1, 3, 4)  # of a picture
DATES = (date, time, timedelta, np.datetime64, np.timedelta64)  # pandas' are of these


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


def read_block(name: str, values: Any, kind: str | None) -> Block:
    """One modality, of its kind or of the one that is inferred. InputError for what cannot be
    read."""
    if values is None:
        raise InputError(
            f"X has no block {name!r}; give one, rows of NaN or None where it is absent"
        )
    if hasattr(values, "toarray"):
        raise InputError(f"{name}: sparse data are not supported; use a dense array (X.toarray())")
    kind = kind or infer_kind(name, values)
    if kind in ARRAYS and _holds_nothing(values):
        return Block(name, kind, np.full((len(values), 1), np.nan), np.zeros(len(values), bool))
    return _READERS[kind](name, values)


def _holds_nothing(values: Any) -> bool:
    """Whether each item is missing, or a list or an array without any step."""
    if np.iterable(values) and all(map(is_missing, values)):
        return True
    items = objects_of(values)
    return len(items) > 0 and all(is_missing(item) or _is_empty(item) for item in items)


def _is_empty(item: Any) -> bool:
    """Whether a list, or an array or table of any library, has no first step."""
    sizes = (len(item),) if isinstance(item, (list, tuple)) else getattr(item, "shape", ())
    return tuple(sizes[:1]) == (0,)


def infer_kind(name: str, values: Any) -> str:
    """The kind of a block by its type and shape; see the table above. A [n, A, B] array is a
    picture where it holds uint8, else a series."""
    if hasattr(values, "columns"):
        return "table"
    if _holds_pictures(values):
        return "picture"
    array = as_array(name, values)
    if array.dtype == object and array.ndim <= 2:  # of more axes it has numbers, and None
        filled = [item for item in array.ravel() if not is_missing(item)]
        if filled and all(isinstance(item, str) for item in filled) and array.ndim == 1:
            words = np.mean([len(item.split()) for item in filled])
            return "text" if words >= 2 else "table"
        if filled and all(map(_has_axes, filled)):
            items = [as_example(name, item) for item in (filled if array.ndim == 1 else array)]
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


def _holds_pictures(values: Any) -> bool:
    """Whether some of the items are pictures of Pillow, of whatever type their pixels are."""
    return any(hasattr(item, "getbands") for item in objects_of(values))


def _has_axes(item: Any) -> bool:
    return isinstance(item, (list, tuple)) or np.ndim(item) > 0  # of unequal lists NumPy makes none


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
            values = pd.DataFrame(_in_columns(array))
    values = as_frame(name, values)
    if values.shape[1] == 0:
        raise InputError(f"{name}: a block without columns (0 feature(s)); give at least one")
    refuse_duplicates(name, values)
    frame = pd.DataFrame(
        {column: _read_column(name, values[column]) for column in values.columns}
    ).reset_index(drop=True)
    return Block(name, "table", frame, frame.notna().any(axis=1).to_numpy())


def _in_columns(array: np.ndarray) -> np.ndarray:
    """[n, ...] -> [n, D], of no rows too."""
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


def warn_of_unique_texts(blocks: Blocks) -> None:
    """A warning for a column of categories that are mistaken numbers, or notes: most of them are
    numbers, or occur once."""
    for block in blocks.values():
        frame = block.values if block.kind == "table" else {}
        for column in frame:
            texts = frame[column].dropna()
            if texts.dtype != object:
                continue
            distinct = texts.unique()
            odd = [text for text in distinct if not is_number(text)]
            where = f"{block.name}: column {column!r}"
            if 0 < 2 * len(odd) < len(distinct):
                warnings.warn(
                    f"{where} holds {shown(odd[0])} among numbers, and is read as a category; if "
                    "it measures something give NaN where it is unknown, and plain numbers",
                    stacklevel=3,
                )
            elif len(block) >= FEWEST and 2 * len(distinct) > len(texts):
                warnings.warn(
                    f"{where} holds {len(distinct)} different texts in {len(texts)} rows "
                    f"({shown(distinct[0])}), and is read as a category; give numbers as numbers, "
                    "notes as a modality of kind text, or leave it out",
                    stacklevel=3,
                )


def is_number(text: str) -> bool:
    """Whether a text is read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def refuse_duplicates(name: str, frame: Any) -> None:
    """InputError where two columns of a DataFrame have one name."""
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{name}: two columns are called {twice!r}; give each its own name")


def _read_column(block: str, column: Any) -> Any:
    """Numbers as float64, anything else as text categories; both with NaN where missing."""
    import pandas as pd

    where = f"{block}: column {column.name!r}"
    kind = getattr(column.dtype, "kind", "")
    if kind == "c":
        raise InputError(f"{where}: Complex data not supported; give real and imaginary parts")
    missing = column.isna().to_numpy()
    filled = column[~missing]
    dates = kind in ("m", "M") or isinstance(column.dtype, pd.PeriodDtype)
    if dates or column.dtype == object and any(isinstance(item, DATES) for item in filled):
        raise InputError(f"{where} holds dates; give numbers, such as days since admission")
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return refuse_infinite(where, column.to_numpy(dtype=np.float64, na_value=np.nan))
    if column.dtype == object:
        odd = (item for item in filled if not np.isscalar(item) or isinstance(item, bytes))
        wrong = next(odd, None)
        if wrong is not None:
            raise InputError(
                f"{where} holds {type(wrong).__name__} objects; argument must be a string or a "
                "number in every row of a table"
            )
        if not any(isinstance(item, str) for item in filled):
            return refuse_infinite(where, as_numbers(where, column.to_numpy(), np.float64))
    texts = column.astype(object).where(~missing, None)
    return pd.Series([None if item is None else as_text(item) for item in texts], dtype=object)


def _read_series(name: str, values: Any) -> Block:
    array = as_array(name, values)
    if array.dtype == object:
        array = _stack(name, array, unequal=True)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InputError(f"{name}: a series has the shape [n, T, C], not {array.shape}")
    array = refuse_infinite(name, as_numbers(name, array))
    return Block(name, "series", array, ~np.isnan(array).all(axis=(1, 2)))


def _stack(name: str, items: np.ndarray, unequal: bool = False) -> np.ndarray:
    """One array per example -> [n, longest, ...], NaN where there is none. InputError for arrays of
    `unequal` length where these are not allowed."""
    arrays = [
        None if is_missing(item) else as_numbers(name, as_example(name, item)) for item in items
    ]
    filled = [item for item in arrays if item is not None and item.size]
    if not filled:
        raise InputError(f"{name}: no example has this modality")
    shapes = {item.shape[1:] if unequal else item.shape for item in filled}
    if len(shapes) > 1:
        found = " and ".join(map(str, sorted(shapes)[:2]))
        where = " per step" if unequal else ""
        raise InputError(f"{name}: examples have the shapes {found}{where}; give them one")
    longest = max(len(item) for item in filled)
    shape = (len(arrays), longest, *filled[0].shape[1:])
    stacked = np.full(shape, np.nan, dtype=np.result_type(*filled))
    for row, item in enumerate(arrays):
        if item is not None and item.size:
            stacked[row, : len(item)] = item
    return stacked


def _read_picture(name: str, values: Any) -> Block:
    if _holds_pictures(values):
        values = _of_one_mode(name, values)
    array = as_array(name, values)
    if array.dtype == object:
        array = _stack(name, array)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in CHANNELS:
        if array.shape[3] not in CHANNELS and array.shape[1] < array.shape[3]:
            warnings.warn(
                f"{name}: pictures of the shape {array.shape[1:]} are read as [H, W, C], with "
                f"{array.shape[3]} channels; transpose them if the channels come first",
                stacklevel=4,
            )
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise InputError(
            f"{name}: a picture is [H, W] or [H, W, C], not of shape {array.shape[1:]}"
        )
    array = refuse_infinite(name, as_numbers(name, array, np.float32))
    return Block(name, "picture", array, ~np.isnan(array).all(axis=(1, 2, 3)))


def _of_one_mode(name: str, values: Any) -> Any:
    """Pillow's pictures, as RGB where they are of several modes or number the colours of a palette.
    InputError where more than 8 bits a pixel stand beside 8, since that would cut them."""
    modes = {item.mode for item in values if hasattr(item, "getbands")}
    deep = {mode for mode in modes if mode[0] in "IF"}
    if deep and deep != modes:
        first, other = min(deep), min(modes - deep)
        raise InputError(f"{name}: pictures of the modes {first} and {other}; convert all to one")
    if deep or (len(modes) == 1 and not modes & {"P", "PA"}):
        return values
    return [item.convert("RGB") if hasattr(item, "getbands") else item for item in values]


def _read_text(name: str, values: Any) -> Block:
    array = _in_columns(as_array(name, values))
    if array.shape[1] != 1:
        raise InputError(f"{name}: a text is one column of strings, not {array.shape[1]} columns")
    texts = np.array([None if is_missing(x) else x for x in array[:, 0].tolist()], dtype=object)
    if wrong := [text for text in texts if text is not None and not isinstance(text, str)]:
        raise InputError(f"{name}: a text holds {shown(wrong[0])}; give strings, None where absent")
    return Block(name, "text", texts, np.array([text is not None for text in texts]))


def _read_embedding(name: str, values: Any) -> Block:
    array = flat_numbers(name, values) if hasattr(values, "columns") else as_array(name, values)
    if array.dtype == object and array.ndim == 1:
        array = _stack(name, array)
    if array.ndim != 2 or not array.shape[1]:
        raise InputError(f"{name}: an embedding has the shape [n, D], not {array.shape}")
    array = refuse_infinite(name, as_numbers(name, array))
    return Block(name, "embedding", array, ~np.isnan(array).all(axis=1))


def flat_numbers(name: str, part: Any) -> np.ndarray:
    """Columns that make up one example as floats [n, D], NaN where missing."""
    if hasattr(part, "columns"):
        part = read_table(name, part).values
        texts = [column for column in part.columns if part[column].dtype.kind != "f"]
        if texts:
            raise InputError(f"{name}: column {texts[0]!r} holds texts; an example needs numbers")
    return as_numbers(name, np.asarray(part))


_READERS = {
    "table": read_table,
    "series": _read_series,
    "picture": _read_picture,
    "text": _read_text,
    "embedding": _read_embedding,
}
