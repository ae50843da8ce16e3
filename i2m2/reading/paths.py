"""What lies in a folder, and whether a path is a file that can be read to its end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from i2m2.errors import TOO_MANY_OPEN, DamagedError, DataError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def damaged(path: Path, what: object, remedy: str) -> DamagedError:
    """The error for a file that is there and not what it should be: `what` is wrong, what to do.
    Where that says that too many files are open, it is raised itself: no file is damaged then."""
    if isinstance(what, OSError) and what.errno in TOO_MANY_OPEN:
        raise what
    return DamagedError(f"{path} is damaged ({' '.join(str(what).split())}); {remedy}")


def what_else(path: Path) -> str:
    """What stands at `path` instead of a file, `a named pipe` say; '' for a file, or nothing."""
    try:
        return KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (ValueError, OSError) as error:  # ValueError: a path with a NUL
        return f"no path that can be used ({getattr(error, 'strerror', None) or error})"


def require_file(path: Path, remedy: str) -> Path:
    """`path` if it is a file. DataError if there is none, or something that may have no end."""
    if other := what_else(path):
        raise DataError(f"{path} is {other}, not a file; {remedy}")
    if not path.exists():
        raise DataError(f"{path} is missing; {remedy}")
    return path


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and those below it, linked folders too, in the order of their names.
    A folder that several links lead to is looked into once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(place, name)).is_file())
