"""Published JSON files, found and read record by record.

VQA-VS's training answers are one list of 461,124 records with ten answers each; `json.load` would
hold gigabytes of dictionaries.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from i2m2.errors import DataError
from i2m2.reading.paths import what_else

BLOCK = 1 << 22  # characters read at a time
LARGEST = 1 << 27  # characters of one value; more than that is a file that is no list of records
UNREADABLE = (
    OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    NotImplementedError, RuntimeError,  # of a zip: unknown method, password; JSON: too deep
)  # fmt: skip
_BLANKS = re.compile(r"[ \t\r\n]*")


class Source(NamedTuple):
    """A JSON file, plain or .gz, or a member of a .zip."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)


@contextmanager
def open_text(source: Source | Path) -> Iterator[TextIO]:
    """Open a .json, .json.gz or .zip (without a member named: its only .json) for reading text.
    DataError names a damaged file.

    So is a ValueError from inside the `with` block (text that is no UTF-8, or no JSON).
    """
    path, member = source if isinstance(source, Source) else (source, "")
    if other := what_else(path):
        raise DataError(f"{source}: is {other}, not a file; give the file as published")
    try:
        if path.suffix == ".zip":
            with (
                zipfile.ZipFile(path) as archive,
                archive.open(member or _only_member(path, archive)) as raw,
            ):
                yield io.TextIOWrapper(raw, "utf-8-sig")
        else:
            with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as raw:
                yield io.TextIOWrapper(raw, "utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file") from error
    except UNREADABLE as error:
        raise DataError(
            f"{source}: cut short or damaged ({' '.join(str(error).split())}); download it again"
        ) from error


def _only_member(path: Path, archive: zipfile.ZipFile) -> str:
    names = (name for name in archive.namelist() if name.endswith(".json"))
    found = [name for name in names if not name.startswith("__MACOSX")]
    if len(found) != 1:
        raise DataError(f"{path}: holds {len(found)} .json files, not one; unpack it")
    return found[0]


def find_source(bases: Iterable[Path], name: str) -> Source | None:
    """`name`, such as Val/Val-Ques.json, below the first of `bases` that has it: plain, .gz, .zip,
    or inside Val.zip."""
    for base in bases:
        for path in (base / name, base / f"{name}.gz", base / f"{name}.zip"):
            if path.is_file():
                return Source(path)
        path = base / f"{Path(name).parts[0]}.zip"
        if path.is_file() and (member := _member_of(path, Path(name).name)):
            return Source(path, member)
    return None


def _member_of(path: Path, name: str) -> str | None:
    """The member of a .zip whose last part is `name`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.namelist() if Path(member).name == name]
    except UNREADABLE as error:
        raise DataError(f"{path}: cut short or damaged ({error}); download it again") from error
    return next((member for member in members if not member.startswith("__MACOSX")), None)


def read_list(
    source: Source | Path, key: str, rest: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Records of a file that is a bare list, or an object whose entry `key` is one; its other
    entries go to `rest`.

    DataError names the file: damaged, not JSON, or without such a list.
    """
    with open_text(source) as file:
        reader = _Reader(file)
        if reader.take() == "[":
            yield from reader.elements()
        else:
            found = False
            for name in reader.names():
                if name == key and reader.peek() == "[":
                    reader.take()
                    found = True
                    yield from reader.elements()
                else:
                    value = reader.value()
                    if rest is not None:
                        rest[name] = value
            if not found:
                raise DataError(
                    f"{source}: neither a list of records nor an object with a list {key!r}"
                )
        if reader.peek():
            raise reader.error("nothing more after its end")


def first_record(source: Source | Path) -> Any:
    """The first record of a list, of an object's list, or of JSON lines; None where there is
    none, the value itself where the file is another value."""
    with open_text(source) as file:
        reader = _Reader(file)
        if reader.peek() not in ("[", "{"):
            return reader.value()
        if reader.take() == "[":
            return next(reader.elements(), None)
        record = {}
        for name in reader.names():
            if reader.peek() == "[":
                reader.take()
                values = list(itertools.islice(elements := reader.elements(), 1))
                if values and isinstance(values[0], dict):
                    return values[0]
                record[name] = values + list(elements)
            else:
                record[name] = reader.value()
        return record


def json_files(folder: Path) -> list[Path]:
    """The files of `folder` that are named .json or .json.gz, ascending."""
    return [path for path in sorted(folder.glob("*")) if path.name.endswith((".json", ".json.gz"))]


def files_with(folder: Path, *keys: str) -> list[Path]:
    """Files of `folder` (.json or .json.gz), ascending by name, whose records have all of
    `keys`."""
    records = {path: first_record(path) for path in json_files(folder)}
    records = {path: record for path, record in records.items() if isinstance(record, dict)}
    return [path for path, record in records.items() if set(keys) <= set(record)]


class _Reader:
    """JSON from a stream, one value at a time, with no more than a block and a value in memory."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.at, self.before = file, "", 0, 0
        self.decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is not blank; '' at the end."""
        self.at = _BLANKS.match(self.text, self.at).end()
        while self.at == len(self.text) and self._more():
            self.at = _BLANKS.match(self.text, self.at).end()
        return self.text[self.at : self.at + 1]

    def take(self, allowed: str = "[{") -> str:
        """The same, moving on past it."""
        character = self.peek()
        if not character or character not in allowed:
            raise self.error(f"one of {' '.join(allowed)}")
        self.at += 1
        return character

    def value(self) -> Any:
        """The next value, whatever it is."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                where = self.before + error.pos  # of the text that was read, before more is
                if len(self.text) - self.at < LARGEST and self._more():
                    continue  # it may be complete with the next block
                raise ValueError(f"no JSON: {error.msg} at character {where:,}") from None
            # At the block's end the next one may continue a number.
            if end < len(self.text) or not self._more():
                self.at = end
                return value

    def elements(self) -> Iterator[Any]:
        """Values of a list whose bracket was taken."""
        if self.peek() == "]":
            self.take("]")
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()

    def names(self) -> Iterator[str]:
        """Keys of an object whose brace was taken; the caller takes the value after each."""
        more = self.peek() != "}"
        while more:
            name = self.value()
            self.take(":")
            yield name
            more = self.take(",}") == ","

    def error(self, wanted: str) -> ValueError:
        """What is wrong, and where."""
        return ValueError(f"no JSON: expected {wanted} at character {self.before + self.at:,}")

    def _more(self) -> bool:
        """Read on, at least as much as is kept, so that a long value costs no more than its length;
        False at the end."""
        rest = self.text[self.at :]
        block = self.file.read(max(BLOCK, len(rest)))
        self.text, self.before, self.at = rest + block, self.before + self.at, 0
        return bool(block)
