"""A user's files: a table (CSV, Parquet, npz) and blocks beside it, as `--modality` names them.

NAME=a,b,c           columns of the table; `vital_*` names all that match
NAME=FILE.npz:key    an array of an npz file, rows in the order of the table
NAME=FILE.csv        all columns of another table, rows in the same order
...=...:KIND         table, series, picture, text or embedding where not to be inferred
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import SettingsError
from i2m2.estimator.blocks import KINDS, InputError

SUFFIXES = (".csv", ".tsv", ".gz", ".parquet", ".pq", ".npz", ".npy")


def read_table(path: Path) -> Any:
    """A DataFrame of a CSV or Parquet file, {name: array} of an npz. InputError if unreadable."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a CSV, Parquet or npz file")
    try:
        if path.suffix in (".parquet", ".pq"):
            return _parquet(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".npy":
            return {path.stem: np.load(path, allow_pickle=False)}
        import pandas as pd

        return pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",")
    except (OSError, ValueError, KeyError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be read ({reason}); give a CSV, Parquet or npz file"
        ) from error


def _parquet(path: Path) -> Any:
    import duckdb

    try:
        return duckdb.sql("SELECT * FROM read_parquet(?)", params=[str(path)]).df()
    except duckdb.Error as error:
        raise ValueError(error) from error


def column(table: Any, name: str, option: str) -> np.ndarray:
    """One column of a table, [n] (or [n, L] of an npz). InputError where there is none."""
    if name not in table:
        raise InputError(f"{option} {name}: there is no such column; there are {_names(table)}")
    return np.asarray(table[name])


def blocks_of(
    table: Any, modalities: Sequence[str], folder: Path, not_inputs: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """-> {modality: its block}, {modality: kind} of those that name one. SettingsError for what is
    no NAME=COLUMNS, InputError for what is not there, or the target among the inputs."""
    blocks: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for word in modalities:
        name, equals, what = word.partition("=")
        if not equals or not name or not what:
            raise SettingsError(
                f"--modality {word}: give NAME=COLUMNS or NAME=FILE, such as static=age,weight"
            )
        if name in blocks:
            raise SettingsError(
                f"--modality {name} is given twice; give each modality its own name"
            )
        rest, _, last = what.rpartition(":")
        if rest and last in KINDS:
            what, kinds[name] = rest, last
        blocks[name] = _block(table, name, what, folder, not_inputs)
    return blocks, kinds


def _block(table: Any, name: str, what: str, folder: Path, not_inputs: Sequence[str]) -> Any:
    file, _, key = what.partition(":")
    if Path(file).suffix in SUFFIXES and what not in table:
        return _from_file(name, folder / file if not Path(file).exists() else Path(file), key)
    columns: list[str] = []
    for pattern in what.split(","):
        found = [one for one in table if one == pattern] or [
            one for one in table if fnmatchcase(str(one), pattern) and one not in not_inputs
        ]
        if not found:
            raise InputError(
                f"--modality {name}: there is no column {pattern!r}; there are {_names(table)}"
            )
        columns += [one for one in found if one not in columns]
    if target := [one for one in columns if one in not_inputs]:
        raise InputError(
            f"--modality {name}: {target[0]!r} is the target, the group or the id; "
            "an input must not hold it"
        )
    if len(columns) == 1:
        return table[columns[0]]
    if hasattr(table, "columns"):
        return table[columns]
    return np.column_stack([table[one] for one in columns])


def _from_file(name: str, path: Path, key: str) -> Any:
    """An array of an npz, or the whole of another table."""
    other = read_table(path)
    if hasattr(other, "columns"):
        return other[key.split(",")] if key else other
    if key and key not in other:
        raise InputError(f"--modality {name}: {path} has no array {key!r}; it has {_names(other)}")
    if not key and len(other) != 1:
        raise InputError(
            f"--modality {name}: {path} holds {_names(other)}; "
            f"name one, as {path.name}:{next(iter(other), 'key')}"
        )
    return other[key] if key else next(iter(other.values()))


def _names(table: Any) -> str:
    names = list(map(str, table))
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
