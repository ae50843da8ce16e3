"""A user's mistakes, and how a command reports them: one line, no traceback."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

NO_MEMORY = re.compile(  # what PyTorch says, on the CPU and on GPUs
    r"can't allocate memory|not enough memory|out of memory|Storage size calculation overflowed"
    r"|numel: integer multiplication overflow|overflow when unpacking long"
)

TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)  # files of a process, of the machine


class SettingsError(Exception):
    """A setting or a command line is wrong, or a run it needs is missing. Exit code 2."""

    exit_code = 2


class BusyError(SettingsError):
    """Another process is at work on a run, or in a folder. Exit code 4: no mistake that other runs
    would share."""

    exit_code = 4


class DataError(Exception):
    """A data file is missing, damaged or not what it should be. Exit code 3."""

    exit_code = 3


class DamagedError(DataError):
    """A file is there and cannot be read."""


def in_yaml(value: object) -> str:
    """A setting's value in a message, as a config file has it."""
    known = {None: "null", True: "true", False: "false"}
    return known[value] if value is None or isinstance(value, bool) else str(value)


def there_and_now(differing: Mapping[str, tuple[object, object]]) -> str:
    """`optim.lr (0.05 there, null now), ...` of {setting: (its value there, its value now)}."""
    return ", ".join(
        f"{name} ({in_yaml(there)} there, {in_yaml(now)} now)"
        for name, (there, now) in differing.items()
    )


class CommandParser(argparse.ArgumentParser):
    """argparse, with a mistake as one line instead of the whole usage, and the lines of a module's
    docstring, given as the description, as they are."""

    def __init__(self, prog: str | None = None, description: str = "", **options: Any) -> None:
        if "\n" in description:
            options |= {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(prog, description=description, **options)

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} (see --help)")


def run_command(main: Callable[[list[str] | None], None]) -> None:
    """Call a command's `main`; what a user can fix becomes a line on stderr and an exit code.

    2: settings, 3: data, 4: another process is at work, 1: the disk or the numbers (full disk,
    non-finite loss), 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name may be no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        main(None)
    except (SettingsError, DataError) as error:
        # A data loader's worker sends its error with a traceback in front of it.
        _exit(str(error).rpartition(f"{type(error).__name__}: ")[2], error.exit_code)
    except FloatingPointError as error:
        _exit(str(error), 1)
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror or error}"
        remedy = "free space or fix the path"
        if error.errno in TOO_MANY_OPEN:
            remedy = "allow more at a time (ulimit -n 65536)"
        _exit(f"{what}; {remedy}, then give the same command again", 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _exit("this takes more memory than there is; choose a smaller batch or smaller sizes", 1)
    except KeyboardInterrupt:
        kept = "what is in the folder of results is kept, and the same command resumes there"
        _exit(f"interrupted; {kept}", 130)


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says that memory could not be had, or that no machine has so much."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def aligned(rows: Sequence[Sequence[str]], first: str = "left", others: str = "right") -> str:
    """Rows of cells as an aligned text table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = {"left": str.ljust, "right": str.rjust}
    sides = [first] + [others] * (len(widths) - 1)
    lines = []
    for row in rows:
        cells = zip(sides, row, widths, strict=True)
        lines.append("  ".join(pad[side](cell, width) for side, cell, width in cells).rstrip())
    return "\n".join(lines)


def _show_warning(message: Warning | str, *where: Any) -> None:
    print("warning: " + " ".join(str(message).split()), file=sys.stderr)


def _exit(message: str, code: int) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
