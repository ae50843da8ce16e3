"""The raw tables of MIMIC-III, as PhysioNet ships them: their files, headers and damages."""

from __future__ import annotations

import csv
import glob
import gzip
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

from AVMNIST_and_MIMIC.mimic.extraction.schema import COPY_AGAIN, HOW_TO_GET, OPTIONAL, WANTED
from i2m2.errors import DataError, SettingsError

DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
LONGEST_HEADER = 1 << 20  # bytes


@dataclass(frozen=True)
class RawTable:
    """A table's file and the columns of its header, in lower case and each once."""

    name: str
    path: Path
    header: tuple[str, ...]  # a name that begins with a blank is made up

    def sql(self) -> str:
        """read_csv with every column as text.

        The types are ours, and 'NA' or 'None' is no missing value.
        """
        columns = ", ".join(f"'{_quoted(name)}': 'VARCHAR'" for name in self.header)
        path = _quoted(glob.escape(path_in_sql(self.path)))
        compression = "gzip" if self.path.suffix.lower() == ".gz" else "none"
        return (
            f"read_csv('{path}', columns = {{{columns}}}, compression = '{compression}', "
            "header = true, auto_detect = false, hive_partitioning = false, "
            """delim = ',', quote = '"', escape = '"', nullstr = '')"""
        )


def find_tables(folder: Path) -> dict[str, RawTable]:
    """The needed tables of `folder`, headers checked, small ones first.

    DataError names what is missing or of another release.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {HOW_TO_GET}")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    paths = {name: _file_of(name, files) for name in WANTED}
    missing = [name for name, path in paths.items() if path is None and name not in OPTIONAL]
    if missing:
        names = ", ".join(f"{name}.csv.gz" for name in missing)
        raise DataError(f"{folder}: no {names}; {HOW_TO_GET}")
    present = {name: path for name, path in paths.items() if path}
    return {
        name: RawTable(name, path, _header(path, WANTED[name].needs))
        for name, path in present.items()
    }


def _file_of(table: str, files: list[Path]) -> Path | None:
    """Of a plain file and its gzip the plain one, which several threads can read."""
    plain, packed = (
        [path for path in files if path.name.upper() == table + ending]
        for ending in (".CSV", ".CSV.GZ")
    )
    for same in (plain, packed):
        if len(same) > 1:
            raise DataError(f"{same[0]}: {same[1].name} is the same table; remove one of the two")
    if plain and packed:
        print(f"{plain[0]} is read, not {packed[0].name} beside it")
    return next(iter(plain + packed), None)


def _header(path: Path, needs: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of the first line, in lower case; what follows may be of any encoding."""
    try:
        with _opened(path) as file:
            line = file.readline(LONGEST_HEADER).decode("utf-8-sig")
        header = tuple(name.strip().lower() for name in next(csv.reader(line.splitlines())))
    except (StopIteration, *DAMAGED_GZIP, UnicodeDecodeError, csv.Error):
        raise DataError(
            f"{path}: empty, damaged or not the kind of file its name says; {COPY_AGAIN}"
        ) from None
    missing = [name for name in needs if name not in header]
    if missing and "stay_id" in header:
        raise DataError(
            f"{path}: has stay_id instead of icustay_id, the layout of MIMIC-IV; {HOW_TO_GET}"
        )
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing).upper()} "
            f"(it has {', '.join(filter(None, header)).upper()}); {HOW_TO_GET}"
        )
    twice = [name for name in needs if header.count(name) > 1]
    if twice:
        raise DataError(
            f"{path}: more than one column {', '.join(twice).upper()}; keep one of each, "
            f"or {COPY_AGAIN}"
        )
    return _named(header)


def _named(header: tuple[str, ...]) -> tuple[str, ...]:
    """With names for columns that have none, or that of one before: DuckDB needs them.

    Such as the index that pandas writes. A blank sets them apart from those of the file, which are
    stripped.
    """
    return tuple(
        name if name and name not in header[:k] else f" {k}" for k, name in enumerate(header)
    )


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb")


@contextmanager
def verified(path: Path) -> Iterator[None]:
    """The file is read to its end beside what is done meanwhile.

    DataError if it is a gzip whose checksum or length is another, or holds NUL bytes, as a copy
    with a hole does: DuckDB does not look at these.
    """
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_verify, path, stop)
        try:
            yield
            reading.result()
        finally:
            stop.set()


def _verify(path: Path, stop: Event) -> None:
    """Read a file to its end, or until `stop` is set."""
    try:
        with _opened(path) as file:
            while not stop.is_set() and (block := file.read(1 << 20)):
                if b"\0" in block:
                    raise DataError(f"{path}: damaged (holds NUL bytes); {COPY_AGAIN}")
    except DAMAGED_GZIP as error:
        raise DataError(f"{path}: cut short or damaged ({error}); {COPY_AGAIN}") from None


def has_mixed_line_ends(path: Path) -> bool:
    """Whether some lines end in CRLF and others in LF, as two parts joined do."""
    with suppress(*DAMAGED_GZIP), _opened(path) as file:
        return len({line.endswith(b"\r\n") for line in file if line.endswith(b"\n")}) > 1
    return False


def path_in_sql(path: Path) -> str:
    """Absolute: DuckDB takes a ~ at the beginning for the home folder."""
    text = str(path.absolute())
    if text.encode(errors="ignore").decode() != text:
        raise SettingsError(f"{path}: DuckDB takes no path that is not UTF-8; rename it")
    return text


def _quoted(text: str) -> str:
    return text.replace("'", "''")
