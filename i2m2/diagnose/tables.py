"""A user's tables (CSV, Parquet, npz) and what `i2m2.diagnose.modalities` takes of them."""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.estimator.given.blocks import shortened
from i2m2.estimator.given.folds import as_names
from i2m2.estimator.given.values import InputError, as_example
from i2m2.reading.given import is_missing

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
READABLE = "a CSV (UTF-8, commas between columns, decimal points), Parquet or npz file"
SUFFIXES = (".csv", ".tsv", ".gz", ".parquet", ".pq", ".npz", ".npy")
NO_VALUE = ("", "NaN", "nan", "<NA>", "#N/A", "NULL", "null")  # as programs write it
UNKNOWN = ("NA", "N/A", "n/a")  # in an input; a class, a group or an id may be called so
UNNAMED_INDEX = re.compile(r"Unnamed: 0(\.\d+)*|__index_level_\d+__")  # as pandas names it


def read_table(path: Path, ids: str | None = None, labels: Sequence[str] = ()) -> Any:
    """A DataFrame of a CSV or Parquet file, {name: array} of an npz. InputError if unreadable.

    Of a CSV the column `ids` stays text, 007 among it, and `None` among texts is one of them, since
    categories are called so; in the columns `labels` (targets, groups, ids) `NA` is one, too."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give {READABLE}")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return _without_index(_parquet(path))
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: _with_gaps(file[name]) for name in file.files}
        if suffix == ".npy":
            return {path.stem: np.load(path, allow_pickle=False)}
        return _without_index(_csv(path, ids, labels))
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}); give {READABLE}") from error


def _with_gaps(array: np.ndarray) -> np.ndarray:
    """Texts of an npz, which holds no None: an empty one is missing, as in a CSV."""
    return np.where(array == "", None, array) if array.dtype.kind == "U" else array


def _csv(path: Path, ids: str | None, labels: Sequence[str]) -> Any:
    """A column that holds texts is read again, with the words that are missing in it."""
    import pandas as pd

    separator = "\t" if ".tsv" in map(str.lower, path.suffixes) else ","
    options = {"sep": separator, "dtype": None if ids is None else {ids: str}}
    read = partial(pd.read_csv, path, **options, low_memory=False)  # a column is of one type then
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = read(index_col=False)  # so that a comma at the end of rows shifts no column
        read = partial(read, index_col=False)
    except pd.errors.ParserWarning:  # the header has no name for the first column, as R writes it
        frame = read()
    if frame.index.nlevels > 1:
        raise ValueError("its rows hold several columns more than its header; name every column")
    if len(frame.columns) == 1 and (found := [one for one in ";\t" if one in frame.columns[0]]):
        raise ValueError(f"its columns are separated by {found[0]!r}, not by {separator!r}")
    lacking = [name for name in frame if frame[name].hasnans and _holds_texts(frame[name])]
    if lacking:
        words = {name: NO_VALUE if name in labels else NO_VALUE + UNKNOWN for name in lacking}
        again = read(usecols=lacking, na_values=words, keep_default_na=False)
        frame[lacking] = again[lacking].to_numpy()
    return frame


def _holds_texts(column: Any) -> bool:
    return isinstance(next(iter(column.dropna()), ""), str)  # where none is known it may hold None


def _without_index(frame: Any) -> Any:
    """Without the numbers of rows that pandas wrote as an index, once or more often: the order of
    the rows is no input."""
    return frame[[name for name in frame if not UNNAMED_INDEX.fullmatch(str(name))]]


def _parquet(path: Path) -> Any:
    import duckdb

    try:
        frame = duckdb.sql("SELECT * FROM read_parquet(?)", params=[str(path)]).df()
    except duckdb.Error as error:
        raise ValueError(error) from error
    for name in frame:
        if any(isinstance(item, np.ndarray) for item in frame[name]):
            frame[name] = [
                None if is_missing(item) else as_example(name, item) for item in frame[name]
            ]
    return frame


def column(table: Any, name: str, option: str) -> np.ndarray:
    """One column of a table, [n] (or [n, L] of an npz). InputError where there is none."""
    if name not in table:
        raise InputError(f"{option} {name}: there is no such column; there are {shortened(table)}")
    return np.asarray(table[name])


def names_of(table: Any, words: str) -> list[str]:
    """Names between commas, or one name that is a column's, commas and all."""
    return [words] if words in table else words.split(",")


def columns_of(table: Any, name: str, patterns: Sequence[str], not_inputs: Sequence[str]) -> Any:
    """The columns of a table that match any of some patterns. InputError where there is none, or
    where one is named that is no input."""
    columns: list[str] = []
    for pattern in patterns:
        found = [one for one in table if one == pattern] or [
            one for one in table if fnmatchcase(str(one), pattern) and one not in not_inputs
        ]
        if not found:
            raise InputError(
                f"--modality {name}: there is no column {pattern!r}; there are {shortened(table)}"
            )
        columns += [one for one in found if one not in columns]
    if wrong := [one for one in columns if one in not_inputs]:
        raise InputError(
            f"--modality {name}: {wrong[0]!r} is the target, the group or the id; "
            "an input must not hold it"
        )
    if len(columns) == 1:
        return table[columns[0]]
    return table[columns] if hasattr(table, "columns") else _side_by_side(table, name, columns)


def _side_by_side(table: Mapping[str, np.ndarray], name: str, columns: Sequence[str]) -> Any:
    """Arrays [n] or [n, D] of an npz as one DataFrame."""
    import pandas as pd

    arrays = {one: table[one] for one in columns}
    if wrong := [one for one, array in arrays.items() if array.ndim not in (1, 2)]:
        shape = arrays[wrong[0]].shape
        raise InputError(
            f"--modality {name}: {wrong[0]} has the shape {shape}; "
            "only columns [n] and tables [n, D] are put side by side"
        )
    if len({len(array) for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{one} {len(array):,}" for one, array in arrays.items())
        raise InputError(f"--modality {name}: unequal numbers of rows: {sizes}")
    frames = [pd.DataFrame(array).add_prefix(f"{one}_") for one, array in arrays.items()]
    return pd.concat(frames, axis=1)


def table_in_file(
    name: str,
    path: Path,
    key: str,
    not_inputs: Sequence[str],
    ids: np.ndarray | None,
    id_column: str | None,
) -> Any:
    """An array of an npz, or columns of another table."""
    other = read_table(path, id_column, not_inputs)
    if hasattr(other, "columns"):
        if ids is not None and id_column in other:
            other = _matched(other, id_column, ids, f"--modality {name}: {path}")
        return columns_of(other, name, names_of(other, key or "*"), not_inputs)
    if key and key not in other:
        known = shortened(other)
        raise InputError(f"--modality {name}: {path} has no array {key!r}; it has {known}")
    if not key and len(other) != 1:
        raise InputError(
            f"--modality {name}: {path} holds {shortened(other)}; "
            f"name one, as {path.name}:{next(iter(other), 'key')}"
        )
    return other[key] if key else next(iter(other.values()))


def _matched(other: Any, column: str, ids: np.ndarray, where: str) -> Any:
    """The rows of another table in the order of the ids, NaN where it has none."""
    keys = as_names(f"{where}: its {column}", other[column], len(other))
    indexed = other.set_index(keys)
    if indexed.index.has_duplicates:
        twice = indexed.index[indexed.index.duplicated()][0]
        raise InputError(f"{where} has several rows of {column} {twice}; give one per example")
    names = as_names("--id", ids, len(ids))
    if unknown := sorted(set(keys) - set(names)):
        raise InputError(f"{where}: {column} {unknown[0]} is of no row of the table")
    return indexed.reindex(names)
