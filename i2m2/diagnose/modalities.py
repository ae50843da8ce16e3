"""What `--modality NAME=...` names, as a block.

NAME=a,b,c           columns of the table; `vital_*` names all that match; a column with a comma
                     in its name stands alone
NAME=FILE.npz:key    an array of an npz file, rows in the order of the table
NAME=FILE.csv        all columns of another table, or FILE.csv:a,b; rows in the same order, or
                     matched by the --id column where that table has it
NAME=notes/*.txt     one file per example, which belongs to the row whose id is the file's name;
                     `notes/**/*.txt` those of all folders below
...=...:KIND         table, series, picture, text or embedding where not to be inferred; a column
                     or an array of that name comes first

| suffix of one file per example | what an example is |
|---|---|
| .txt | a text |
| .npy | an array: a series [T, C], a picture or an embedding |
| .csv, .tsv, .parquet | a series, a row per step |
| .png, .jpg, .bmp, .tif | a picture |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.diagnose.tables import SUFFIXES, columns_of, names_of, read_table, table_in_file
from i2m2.errors import SettingsError
from i2m2.estimator.given.folds import as_names
from i2m2.estimator.given.kinds import KINDS, is_number
from i2m2.estimator.given.values import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TABLES = (".csv", ".tsv", ".parquet", ".pq")
READABLE = (".txt", ".npy", *TABLES, *PICTURES)


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
        if rest and last in KINDS and not _is_there(source, what):
            what, kinds[name] = rest, last
        blocks[name] = _block(source, name, what)
    return blocks, kinds


def _is_there(source: Source, what: str) -> bool:
    """Whether a column is called exactly this, or a file holds what stands behind its colon."""
    file, _, key = what.partition(":")
    if what in source.table:
        return True
    suffix = Path(file).suffix.lower()
    names = suffix in SUFFIXES and suffix != ".npy"  # which holds one array
    return names and not has_magic(file) and key in read_table(_path_of(source, file))


def _path_of(source: Source, file: str) -> Path:
    """A file, from here or else from the table's folder."""
    return Path(file) if os.path.exists(file) else source.folder / file


def _block(source: Source, name: str, what: str) -> Any:
    """A column whose name is exactly this comes first, then files, then several columns."""
    given = (source.not_inputs, source.ids, source.id_column)
    if what not in source.table:
        if is_pattern_of_files(what):
            return read_examples(name, find_files(name, what, source.folder), source.ids)
        file, _, key = what.partition(":")
        if Path(file).suffix.lower() in SUFFIXES or os.path.isfile(_path_of(source, file)):
            return table_in_file(name, _path_of(source, file), key, *given)
    columns, (_, colon, kind) = names_of(source.table, what), what.rpartition(":")
    if colon and columns[-1] not in source.table:
        raise SettingsError(
            f"--modality {name}: {kind!r} is no kind of block; choose one of {', '.join(KINDS)}"
        )
    return columns_of(source.table, name, columns, source.not_inputs)


def is_pattern_of_files(word: str) -> bool:
    """Whether a word such as `notes/*.txt` stands for a file per example."""
    return has_magic(word) and Path(word).suffix.lower() in READABLE


def find_files(name: str, pattern: str, folder: Path) -> list[Path]:
    """Files that match a pattern (`**`: folders of any depth), from here or else from the table's
    folder. InputError if none."""
    found = set(glob(pattern, recursive=True) or glob(str(folder / pattern), recursive=True))
    if not found:
        raise InputError(f"--modality {name}: there is no file {pattern}")
    return [Path(file) for file in sorted(found)]


def read_examples(name: str, files: Sequence[Path], ids: np.ndarray | None) -> np.ndarray:
    """An object array [n], None for a row without a file; the files are of one suffix.
    SettingsError without ids, InputError for files that cannot be read or are of no row."""
    if ids is None:
        raise SettingsError(
            f"--modality {name}: {files[0]} is one of {len(files)} files, one per example; give "
            "--id COLUMN, which holds the files' names without their suffix"
        )
    places = {one: row for row, one in enumerate(as_names("--id", ids, len(ids)))}
    reader = _reader_of(files)
    block = np.full(len(ids), None, dtype=object)
    read: dict[str, Path] = {}
    for path in files:
        if path.stem not in places:
            raise InputError(
                f"--modality {name}: {path} is of no row; the --id column has no {path.stem!r}"
            )
        if path.stem in read:
            raise InputError(
                f"--modality {name}: {read[path.stem]} and {path} are both of {path.stem!r}; give "
                "one file per example, and another modality the files of another folder"
            )
        read[path.stem], block[places[path.stem]] = path, reader(path)
    examples = [one for one in block if one is not None]
    _refuse_unequal(name, files, examples)
    _refuse_without_header(name, files, examples)
    return block


def _reader_of(files: Sequence[Path]) -> Callable[[Path], Any]:
    kind = files[0].suffix.lower()
    if kind == ".txt":
        return _text
    if kind in PICTURES:
        return _picture
    return _array if kind == ".npy" else _steps


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a text in UTF-8") from error


def _picture(path: Path) -> Any:
    """A picture of Pillow, so that it is one whatever the type of its pixels; upright, as its EXIF
    orientation has it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if picture.format == "TIFF" and (pages := picture.n_frames) > 1:
                raise InputError(f"{path} has {pages} pages; give a picture of one per example")
            return ImageOps.exif_transpose(picture)
    except OSError as error:  # which a picture that PIL does not know is, too
        raise InputError(f"{path} cannot be read ({error}); give a picture") from error


def _array(path: Path) -> np.ndarray:
    return next(iter(read_table(path).values()))


def _steps(path: Path) -> Any:
    """A DataFrame [T, C]: its columns must be those of the other examples. Those of a header alone
    have no type: nothing was measured."""
    frame = read_table(path)
    typed = frame if len(frame) else ()
    if wrong := [column for column in typed if frame[column].dtype.kind not in "fiub"]:
        raise InputError(f"{path}: column {wrong[0]!r} is no number; a series holds numbers")
    return frame.astype(np.float64)


def _refuse_unequal(name: str, files: Sequence[Path], examples: Sequence[Any]) -> None:
    """Pictures are of one size; series may be of any length."""
    if files[0].suffix.lower() not in PICTURES:
        return
    sizes = sorted({one.size for one in examples})
    if len(sizes) > 1:
        first, other = ("{} x {}".format(*size) for size in sizes[:2])
        raise InputError(f"--modality {name}: pictures of {first} and {other}; give one size")


def _refuse_without_header(name: str, files: Sequence[Path], examples: Sequence[Any]) -> None:
    """Names may be numbers, but then each file has the same."""
    headers = {tuple(one.columns) for one in examples if hasattr(one, "columns")}
    if len(headers) > 1 and all(is_number(str(word)) for header in headers for word in header):
        raise InputError(
            f"--modality {name}: the first line of {files[0]} holds numbers, as of others; write "
            "the names of columns above them"
        )
