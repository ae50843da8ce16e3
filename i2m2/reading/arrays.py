"""Files of arrays, .npy and .npz, read by their schema; nothing is allocated before the file is
seen to hold what it announces, and nothing in it is run."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from i2m2.reading.paths import damaged, require_file

UNREADABLE = (ValueError, OSError, EOFError, KeyError, TypeError, NotImplementedError)
UNREADABLE += (zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError, OverflowError)
UNREADABLE += (tokenize.TokenError,)  # of a header, which NumPy takes for a line of Python
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
KINDS = {"f": "floating-point numbers", "u": "integers", "i": "integers", "b": "booleans"}
KINDS |= {"U": "texts"}


class Array(NamedTuple):
    """What an array must be: kinds of type, as in `dtype.kind`, and its shape, in which a letter
    stands for a size that arrays of the same file share, and None for any."""

    kinds: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        kinds = " or ".join(dict.fromkeys(KINDS.get(kind, kind) for kind in self.kinds))
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{kinds} of shape [{sizes}]"


Arrays = dict[str, np.ndarray]
Schema = Mapping[str, Array]


def read_arrays(path: Path, schema: Schema, remedy: str, **sizes: int) -> Arrays:
    """The arrays of a .npz that the schema names. `sizes`: what letters of the shapes stand for.
    DataError names the array, what was expected of it and what to do."""
    file = ArrayFile(path, remedy)
    if absent := [name for name in schema if name not in file]:
        raise damaged(path, f"it has no array {', '.join(absent)}", remedy)
    arrays = {name: file[name] for name in schema}
    check_arrays(path, arrays, schema, remedy, **sizes)
    return arrays


def check_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], schema: Schema, remedy: str, **sizes: int
) -> None:
    """DamagedError for an array of another type or shape than its schema says."""
    known = dict(sizes)
    for name, array in arrays.items():
        wanted = schema[name]
        fits = array.ndim == len(wanted.shape) and array.dtype.kind in wanted.kinds
        for size, there in zip(wanted.shape, array.shape, strict=False):
            size = known.setdefault(size, there) if isinstance(size, str) else size
            fits = fits and size in (None, there)
        if not fits:
            shape = tuple(known.get(size, size) for size in wanted.shape)
            found = f"{array.dtype} of shape {list(array.shape)}"
            raise damaged(path, f"{name}: expected {wanted._replace(shape=shape)}, {found}", remedy)


def open_array(path: Path, remedy: str) -> np.ndarray:
    """A .npy, memory-mapped. DataError if it is missing, damaged, shorter than it announces, or of
    another machine's order of bytes, which torch does not read."""
    require_file(path, remedy)
    try:
        with open(path, "rb") as file:
            npy.read_magic(file)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise damaged(path, error, remedy) from error
    if not array.dtype.isnative:
        raise damaged(path, f"{array.dtype.str} is another machine's order of bytes", remedy)
    return array


class ArrayFile(Mapping[str, np.ndarray]):
    """The arrays of a .npz, each read when it is first asked for, since some take gigabytes, and
    then kept; the file is closed after the last. DamagedError for what cannot be read."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path, self.remedy = path, remedy
        self._arrays: Arrays = {}
        require_file(path, remedy)
        try:
            self._archive = zipfile.ZipFile(path)  # stays open: another may replace the file
        except UNREADABLE as error:
            raise damaged(path, error, remedy) from error
        members = self._archive.infolist()
        self._members = {one.filename.removesuffix(".npy"): one for one in members}

    def __getitem__(self, name: str) -> np.ndarray:
        member = self._members[name]
        if name not in self._arrays:
            try:
                with self._archive.open(member) as file:
                    _refuse_short(file, self._size_of(member))
                with self._archive.open(member) as file:
                    array = npy.read_array(file, allow_pickle=False)
                # torch takes the machine's own order of bytes alone
                self._arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
            except (*UNREADABLE, MemoryError) as error:
                raise damaged(self.path, f"{name}: {error}", self.remedy) from error
            if len(self._arrays) == len(self._members):  # there may be more runs than files may be
                self._archive.close()
        return self._arrays[name]

    def _size_of(self, member: zipfile.ZipInfo) -> int:
        """Bytes of a member; of one that is not compressed, at most those of the file."""
        if member.compress_type != zipfile.ZIP_STORED:
            return member.file_size
        return min(member.file_size, self.path.stat().st_size)

    def __contains__(self, name: object) -> bool:  # the one inherited would read the array
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _refuse_short(file: BinaryIO, held: int) -> None:
    """ValueError if an array's header announces more bytes than are `held`."""
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"of version {version} of NumPy's format")
    shape, _, kind = HEADERS[version](file)
    announced = math.prod(shape) * kind.itemsize
    if announced > held or min(shape, default=0) < 0:
        raise ValueError(f"its header announces {announced:,} bytes, and there are {held:,}")
