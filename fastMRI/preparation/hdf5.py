"""HDF5 files, and what the library says of one that it cannot read, told apart: locked, of a filter
that is not installed, or damaged."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from i2m2.errors import DataError
from i2m2.reading.paths import require_file

UNREADABLE = (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError)
FILTERS = {307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp"}
FILTERS |= {32015: "zstd", 32026: "blosc2"}  # by their registered numbers


@contextmanager
def open_hdf5(path: Path, remedy: str) -> Iterator[h5py.File]:
    """The file; whatever the library raises while it is opened and read becomes a DataError."""
    require_file(path, remedy)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except UNREADABLE as error:
        raise fault_of(path, error, remedy) from error


def fault_of(path: Path, error: Exception, remedy: str) -> DataError:
    """What to tell of an error of the library; `remedy`: what to do about a damaged file."""
    reason = " ".join(str(error).split())  # may be of several lines
    if "unable to lock file" in reason:
        if any(f"errno = {held}," in reason for held in (errno.EAGAIN, errno.EACCES)):
            return DataError(f"{path}: another program is writing it; wait for that, or end it")
        return DataError(
            f"{path}: cannot be locked, since its file system has no locks; "
            "set HDF5_USE_FILE_LOCKING=FALSE in the environment, and give the same command again"
        )
    if isinstance(error, PermissionError):
        return DataError(f"{path}: {error.strerror or reason}; let this user read it")
    return DataError(f"{path}: no HDF5 file, or a damaged one ({reason}); {remedy}")


def array_in(path: Path, file: h5py.File, key: str, remedy: str) -> h5py.Dataset:
    """An array of a file. DataError if there is none, if its compression is not installed, or if it
    announces more than the file holds."""
    array = file.get(key)
    if not isinstance(array, h5py.Dataset):
        others = ", ".join(file) or "nothing"
        raise DataError(f"{path}: has no array {key}, only {others}; {remedy}")
    plan = array.id.get_create_plist()
    filters = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
    for number in filters:
        if not _is_installed(number):
            name = FILTERS.get(number, "unknown")
            raise DataError(
                f"{path}: {key} is compressed with filter {number} ({name}), which is not "
                "installed; pip install hdf5plugin, or use the files as published"
            )
    announced, held = math.prod(array.shape) * array.dtype.itemsize, array.id.get_storage_size()
    if not filters and not array.is_virtual and held < announced:
        raise DataError(
            f"{path}: {key} announces {announced:,} bytes, and {held:,} are there; {remedy}"
        )
    return array


def check_slice(path: Path, what: str, index: int, image: np.ndarray, remedy: str) -> None:
    """DataError unless it is finite, not zero everywhere and, where it is real, nowhere below."""
    fault = ""
    if not np.isfinite(image).all():
        fault = "holds NaN or infinity"
    elif not image.any():
        fault = "is empty: zero everywhere"
    elif not np.iscomplexobj(image) and image.min() < 0:
        fault = "is negative in places, which no magnitude is"
    if fault:
        raise DataError(f"{path}: {what} of slice {index} {fault}; {remedy}")


def _is_installed(number: int) -> bool:
    if not h5py.h5z.filter_avail(number):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401  (which registers its filters)
    return h5py.h5z.filter_avail(number)
