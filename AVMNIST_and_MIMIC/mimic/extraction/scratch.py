"""The raw tables filtered into a DuckDB database on disk.

CHARTEVENTS has 330 million rows. Every table is read once, as a stream; what passes the filter
(wanted items, wanted columns) goes to a temporary database, so that memory stays bounded by
`memory_gb` whatever the size of the tables.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from itertools import takewhile
from pathlib import Path

import duckdb
import numpy as np
from tqdm import tqdm

from AVMNIST_and_MIMIC.mimic.extraction.schema import (
    COPY_AGAIN,
    HOW_TO_GET,
    UNIQUE,
    WANTED,
    release_of,
)
from AVMNIST_and_MIMIC.mimic.extraction.tables import (
    RawTable,
    has_mixed_line_ends,
    path_in_sql,
    verified,
)
from i2m2.errors import DataError, SettingsError
from i2m2.files import unfinished_folder

KINDS = {"INTEGER": "integer", "DOUBLE": "number", "TIMESTAMP": "time"}
NO_SPACE = re.compile("no space left|not enough space", re.IGNORECASE)
NO_END_OF_LINE = re.compile("state machine reached an invalid state|unterminated quote")
TELLING = ("Expected", "Value with", "Column", "Invalid unicode", "Maximum line size")


class Scratch:
    """A DuckDB database in a temporary folder.

    Use it as a context: afterwards, also after an error or Ctrl-C, nothing is left. `memory_gb`
    bounds DuckDB's own memory (decimal gigabytes); threads are DuckDB's default, at most one per
    quarter of a gigabyte.
    """

    def __init__(self, near: Path, memory_gb: float) -> None:
        # One that there is, so that no new folder outlives an error.
        near = next(folder for folder in (near, *near.absolute().parents) if folder.exists())
        if "?" in path_in_sql(near):  # what follows were parameters of the connection
            raise SettingsError(f"{near}: DuckDB takes no path with a '?'; give another --out")
        self.memory_gb = memory_gb
        self._folder = unfinished_folder(near)
        folder = self._folder.__enter__()
        self._bar = tqdm(total=0, unit="B", unit_scale=True, delay=0.1, disable=None)
        config = {
            "memory_limit": f"{memory_gb}GB",
            "temp_directory": f"{folder}/spill",
            "preserve_insertion_order": "false",
        }
        self._connection = _connect(f"{folder}/scratch.duckdb", config)
        default = self._connection.execute("SELECT current_setting('threads')").fetchone()[0]
        threads = max(1, min(default, os.cpu_count() or 1, int(memory_gb * 4)))
        self._connection.execute(
            f"SET threads = {threads}; "
            "SET enable_progress_bar = true; SET enable_progress_bar_print = false; "
            "PRAGMA disable_checkpoint_on_shutdown"  # the database is thrown away
        )

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._connection.close()
        self._folder.__exit__(None, None, None)

    def load(self, tables: dict[str, RawTable]) -> dict[str, int]:
        """Read every table into a table of the same name in lower case.

        -> rows of each file, before the filter.
        """
        self._bar.reset(total=sum(table.path.stat().st_size for table in tables.values()))
        rows: dict[str, int] = {}
        for name, table in tables.items():
            rows[name] = self._load(table)
            if {"PATIENTS", "ADMISSIONS", "ICUSTAYS"} <= set(rows):
                # At once, not after the long reading that follows.
                release_of(rows, {name: str(table.path) for name, table in tables.items()})
        return rows

    def _load(self, table: RawTable) -> int:
        wanted, size = WANTED[table.name], table.path.stat().st_size
        columns = [f"{value} AS {name}" for name, value in wanted.columns.items()]
        if wanted.hashed:
            ours = (name for name in table.header if name != "row_id" and name[0] != " ")
            names = ", ".join('"' + name.replace('"', '""') + '"' for name in ours)
            columns.append(f"hash({names}) AS row_hash")
        select = f"SELECT {', '.join(columns)} FROM {table.sql()} WHERE {wanted.where}"
        # EXPLAIN ANALYZE runs the statement and also says how many rows the reader saw, without a
        # second reading.
        create = f"EXPLAIN (ANALYZE, FORMAT JSON) CREATE TABLE {table.name} AS {select}"
        if not columns:
            create = f"SELECT count(*) FROM {table.sql()}"
        culprit = partial(self._culprit, table)
        with verified(table.path), _errors(self.memory_gb, table.path, culprit):
            first = self._wait(create, table.name, size)[0]
        if not columns:
            return first[0]
        rows = self.value(f"SELECT count(*) FROM {table.name}")
        if not rows:
            raise DataError(
                f"{table.path}: holds no row of use (no wanted item, or no id); {HOW_TO_GET}"
            )
        key = UNIQUE.get(table.name)
        if key and rows != self.value(f"SELECT count(DISTINCT {key}) FROM {table.name}"):
            raise DataError(
                f"{table.path}: {key.upper()} is missing or repeated in some rows; {COPY_AGAIN}"
            )
        for fault, what in wanted.faults.items():
            if self.value(f"SELECT {fault} FROM {table.name}"):
                raise DataError(f"{table.path}: {what}; {COPY_AGAIN}")
        return _rows_read(json.loads(first[1]))

    def _culprit(self, table: RawTable) -> str:
        """A value that is not of its column's type; '' if none can be found."""
        wanted = WANTED[table.name]
        sql = " ".join([*wanted.columns.values(), wanted.where])
        found = set(re.findall(r"CAST\((\w+) AS (\w+)\)", sql))
        casts = sorted(found, key=lambda cast: cast[1] == "DOUBLE")  # ids are also cast to these
        bad = [f"any_value({n}) FILTER (TRY_CAST({n} AS {kind}) IS NULL)" for n, kind in casts]
        with suppress(duckdb.Error):
            query = f"SELECT {', '.join(bad)} FROM {table.sql()}"
            values = self._connection.execute(query).fetchone()
            for (name, kind), value in zip(casts, values, strict=True):
                if value is not None:
                    return f"{name.upper()} holds {value!r}, which is no {KINDS[kind]}"
        return ""

    def run(self, stage: str, *statements: str) -> None:
        """Execute SQL; `stage` is shown meanwhile."""
        with _errors(self.memory_gb):
            for statement in statements:
                self._wait(statement, stage)

    def arrays(self, query: str) -> dict[str, np.ndarray]:
        """The result's columns; a missing DOUBLE is NaN, and no other type may be missing."""
        with _errors(self.memory_gb):
            result = self._connection.execute(query).fetchnumpy()
        return {
            name: column.filled(np.nan) if np.ma.is_masked(column) else np.asarray(column)
            for name, column in result.items()
        }

    def value(self, query: str) -> int:
        """The one number that `query` asks for."""
        with _errors(self.memory_gb):
            return self._connection.execute(query).fetchone()[0]

    def _wait(self, statement: str, stage: str, size: int = 0) -> list[tuple]:
        """Execute in a thread, so that the bar moves and Ctrl-C stops the query.

        `size`: bytes that are then done.
        """
        self._bar.set_description(stage)
        start = self._bar.n
        progress = getattr(self._connection, "query_progress", lambda: 0)  # DuckDB >= 1.3
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(lambda: self._connection.execute(statement).fetchall())
            try:
                while not wait([future], timeout=0.1).done:
                    self._bar.update(max(0, int(start + size * progress() / 100) - self._bar.n))
            except BaseException:
                self._connection.interrupt()
                raise
        self._bar.update(start + size - self._bar.n)
        return future.result()


def _rows_read(plan: dict) -> int:
    """Rows that left the CSV reader of a profiled plan; the key depends on DuckDB's version."""
    nodes = [plan]
    for node in nodes:
        nodes += [*node.get("children", ()), *node.get("operator", ())]
        facts = {key: value for key, value in node.items() if key not in ("children", "operator")}
        if "READ_CSV" in str(facts):
            return int(facts.get("intermediate_rows", facts.get("operator_cardinality")))
    raise RuntimeError("DuckDB's plan names no READ_CSV")


def _connect(file: str, config: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """A database in `file`; where that cannot be locked one in memory, which spills to the disk as
    well."""
    try:
        return duckdb.connect(file, config=config)
    except duckdb.IOException as error:
        if "lock" not in str(error).lower():
            raise
    return duckdb.connect(config=config)


@contextmanager
def _errors(
    memory_gb: float,
    path: Path | None = None,
    culprit: Callable[[], str] = str,
) -> Iterator[None]:
    """DuckDB's errors as ours; `path` is the file being read, and `culprit` finds the value that it
    stumbled over."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if "temp" in str(error).lower() and "disk" in str(error).lower():
            raise OSError(errno.ENOSPC, "no space for the temporary database") from error
        raise SettingsError(
            f"{memory_gb:g} GB of memory are too little for these tables; "
            "give more with --memory-gb"
        ) from error
    except duckdb.IOException as error:
        _check_space(error)
        where, what = path or "scratch database", f"cut short or damaged ({_reason(error)})"
        raise DataError(f"{where}: {what}; {COPY_AGAIN}") from error
    except duckdb.Error as error:
        _check_space(error)  # a commit that finds no space is no IOException
        of_data = duckdb.ConversionException | duckdb.OutOfRangeException
        if path is None and not isinstance(error, of_data):
            raise
        what = culprit() or _reason(error)
        if path and NO_END_OF_LINE.search(str(error)) and has_mixed_line_ends(path):
            what = "some of its lines end in CRLF, others in LF"
        raise DataError(f"{path or 'the tables'}: {what}; correct it, or {COPY_AGAIN}") from error


def _check_space(error: duckdb.Error) -> None:
    if NO_SPACE.search(str(error)):
        raise OSError(errno.ENOSPC, "no space for the temporary database") from error


def _reason(error: Exception) -> str:
    """The first line, with those that say what was expected or found."""
    first, *others = str(error).splitlines() or [""]
    before_advice = takewhile(lambda line: not line.startswith("Possible"), others)
    return " ".join([first, *(line for line in before_advice if line.startswith(TELLING))])
