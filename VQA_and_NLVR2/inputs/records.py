"""Records of published files as columns, with every distinct string kept once."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.json_files import Source

# What reading a record can raise that is not one.
BAD_RECORD = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
# Half of a character's pair: JSON can spell it, but no file of text and no tokenizer takes it.
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Interned:
    """Strings of any shape: `codes` int32 into `strings`, in which each occurs once; -1 where there
    is none."""

    codes: np.ndarray
    strings: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[str] | Sequence[Sequence[str]]) -> Interned:
        """Strings [n], or [n] lists of strings, the shorter ones filled up with -1."""
        number: dict[str, int] = {}
        if not rows or isinstance(rows[0], str):
            codes = np.array([number.setdefault(text, len(number)) for text in rows], np.int32)
            return cls(codes, tuple(number))
        codes = np.full((len(rows), max(map(len, rows))), -1, np.int32)
        for row, texts in zip(codes, rows, strict=True):
            row[: len(texts)] = [number.setdefault(text, len(number)) for text in texts]
        return cls(codes, tuple(number))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Interned:
        return Interned(self.codes[rows], self.strings)

    def texts(self) -> list[str]:
        """The strings themselves, row by row; places without one are left out."""
        return [self.strings[code] for code in self.codes.ravel().tolist() if code >= 0]

    def look_up(self, index: dict[str, int]) -> np.ndarray:
        """int32 of the shape of `codes`: `index` of each string, -1 where it has none."""
        numbers = [index.get(text, -1) for text in self.strings]
        return np.array([*numbers, -1], np.int32)[self.codes]


class Interner:
    """Collects strings into an Interned, one code at a time."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}
        self.codes = array("i")

    def add(self, texts: Iterable[str]) -> None:
        """Append strings. TypeError if one of them is none, ValueError if it is no Unicode text."""
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"{text!r} is no string")
            if text not in self.number and SURROGATE.search(text):
                raise ValueError(f"{text!r} is no Unicode text (it holds half of a character)")
            self.codes.append(self.number.setdefault(text, len(self.number)))

    def add_text(self, text: str) -> None:
        """Append one that says something. TypeError if it is no string, ValueError if it is empty,
        or no Unicode text."""
        if isinstance(text, str) and not text.strip():
            raise ValueError("its text is empty")
        self.add([text])

    def finish(self, *shape: int) -> Interned:
        """-> the strings in that shape."""
        return Interned(np.frombuffer(self.codes, np.int32).reshape(shape), tuple(self.number))


def column(values: array, kind: type) -> np.ndarray:
    """[n] numbers, without a copy."""
    return np.frombuffer(values, kind) if values else np.zeros(0, kind)


def check_ids(source: Source | Path | str, ids: np.ndarray, key: str = "question_id") -> None:
    """DataError if there are none, or one occurs twice."""
    if not len(ids):
        raise DataError(f"{source}: holds no records; get the file again")
    ordered = np.sort(ids)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise DataError(
            f"{source}: {len(repeated):,} records repeat another's {key}, first {repeated[0]}; "
            "get the file again"
        )


def positions(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """int64 [n]: where each of `wanted` stands in `ids` (distinct), -1 where it does not."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids, kind="stable")
    at = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    return np.where(ids[at] == wanted, at, -1)


def bad_record(where: str, record: Any, key: str, wanted: str, error: Exception) -> DataError:
    """The error for a record that could not be read: `where` it is, its `key` if it has one, and
    what it should be."""
    which = f" ({key} {record[key]})" if isinstance(record, dict) and key in record else ""
    what = f"no {error}" if isinstance(error, KeyError) else error
    return DataError(f"{where}{which}: {what}; a record is {wanted}")
