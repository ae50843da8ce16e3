"""Writing files so that a reader, or a restart after a kill, never meets half of one."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from i2m2.errors import BusyError

Plain = dict[str, Any]  # nested plain values, as JSON and YAML files hold them

HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # Lustre and NFS may be mounted so
UNFINISHED = ".unfinished-"  # begins the names of folders that are not whole yet
OPEN: set[Path] = set()  # those of this process
# A byte of a file's name that is no UTF-8, which JSON could not give back.
NO_CHARACTER = re.compile(r"(?<!\\ud[89ab][0-9a-f]{2})\\udc[89a-f][0-9a-f]")


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it.

    On any error (a full disk, say) the temporary file goes and what stood at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: numpy and others append their own where it is missing. Another machine may
    # have a process of the same number.
    temporary = path.with_name(f".{socket.gethostname()}-{os.getpid()}.tmp.{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # of a disk that is read-only, say: the first error counts
            temporary.unlink()
        # A full disk does not say which file it was, and nobody knows the temporary one.
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    content = text.encode("utf-8", "backslashreplace")  # names of files may be no UTF-8
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def finite(value: object) -> Any:
    """Nested values with NaN and infinity as None, for JSON."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically; ValueError for NaN and infinity, see `finite`."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_text(path, NO_CHARACTER.sub(r"\\ufffd", text))


def lock(file: IO[str], wait: bool = False) -> bool | None:
    """Lock an open file until this process closes it or ends, however it ends; whether it is ours.
    `wait`: until it is. None, with a warning, where the file system has no locks."""
    try:
        # Not flock: a data loader's workers would inherit it, and outlive a kill by seconds.
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in HELD_BY_ANOTHER:
            return False
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks(error.strerror)
        return None
    return True


@cache  # once
def _warn_of_no_locks(why: str) -> None:
    print(
        f"warning: this file system has no locks ({why}); going on without: "
        "see that no two processes work on the same folder",
        file=sys.stderr,
    )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of `folder`, made if need be. BusyError where
    another is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        if lock(file) is False:
            raise BusyError(
                f"{folder}: another process is at work on it; wait for it, or give another --out"
            )
        yield


def is_vacant(folder: Path) -> bool:
    """Whether it is not there, or holds nothing but hidden files."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(".") for path in folder.iterdir())


@contextmanager
def unfinished_folder(near: Path) -> Iterator[Path]:
    """A new folder below `near` that is gone afterwards. It is locked meanwhile, which tells those
    that killed processes left, and that go as well."""
    for leftover in near.glob(f"{UNFINISHED}*/content"):
        if leftover.resolve() in OPEN:  # a lock does not keep out the process that has it
            continue
        with suppress(OSError), open(leftover.with_name("lock"), "r+") as file:
            if lock(file):
                shutil.rmtree(leftover.parent, ignore_errors=True)
    try:
        with (
            TemporaryDirectory("", UNFINISHED, near, ignore_cleanup_errors=True) as folder,
            open(Path(folder, "lock"), "w") as file,
        ):
            lock(file)
            content = Path(folder, "content")
            content.mkdir()
            OPEN.add(content.resolve())
            yield content
    except OSError as error:
        if UNFINISHED in str(error.filename):  # which nobody knows
            error.filename = str(near)
        raise


def fill(folder: Path, make: Callable[[Path], object]) -> None:
    """Let `make` fill a temporary folder whose content becomes that of the vacant `folder`."""
    folder = folder.resolve()  # a link stays one
    is_there = folder.exists()  # it may be a mount point, which nothing can be renamed to
    near = folder if is_there else folder.parent
    near.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(near) as content:
        make(content)
        if not is_there:
            os.rename(content, folder)
            return
        # In the order of writing: what describes the others comes last.
        for path in sorted(content.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            os.rename(path, folder / path.name)


def make_once(folder: Path, make: Callable[[Path], object]) -> None:
    """`fill` a folder, unless something is there; of several processes one works and the others
    wait for it."""
    if not is_vacant(folder):
        return
    near = folder if folder.exists() else folder.parent
    near.mkdir(parents=True, exist_ok=True)
    with open(near / f".{folder.name}.lock", "w") as file:
        lock(file, wait=True)
        if is_vacant(folder):
            fill(folder, make)
