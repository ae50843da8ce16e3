"""What `--modality NAME=...` names, as a block: columns, a file beside the table, or one file per
example (see `i2m2.diagnose.tables` and `.examples`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.diagnose.examples import find_files, is_pattern_of_files, read_examples
from i2m2.diagnose.tables import SUFFIXES, columns_of, table_in_file
from i2m2.errors import SettingsError
from i2m2.estimator.blocks import KINDS


@dataclass(frozen=True)
class Source:
    """A user's table, the folder it lies in, its columns that are no inputs, and its ids."""

    table: Any
    folder: Path
    not_inputs: Sequence[str]
    id_column: str | None
    ids: np.ndarray | None


def blocks_of(source: Source, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """-> {modality: its block}, {modality: kind} of those that name one. SettingsError for what is
    no NAME=COLUMNS, InputError for what is not there, or the target among the inputs."""
    blocks: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for word in words:
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
        blocks[name] = _block(source, name, what)
    return blocks, kinds


def _block(source: Source, name: str, what: str) -> Any:
    """A column whose name is exactly this comes first, then files, then several columns."""
    given = (source.not_inputs, source.ids, source.id_column)
    if what not in source.table:
        if is_pattern_of_files(what):
            return read_examples(name, find_files(name, what, source.folder), source.ids)
        file, _, key = what.partition(":")
        if Path(file).suffix in SUFFIXES:
            path = Path(file) if Path(file).exists() else source.folder / file
            return table_in_file(name, path, key, *given)
    columns, (_, colon, kind) = what.split(","), what.rpartition(":")
    if colon and columns[-1] not in source.table:
        raise SettingsError(
            f"--modality {name}: {kind!r} is no kind of block; choose one of {', '.join(KINDS)}"
        )
    return columns_of(source.table, name, columns, source.not_inputs)
