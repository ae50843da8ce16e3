"""Folders with links and loops, and paths that are no files."""

import os
import socket

import pytest

from i2m2.errors import DataError
from i2m2.reading.paths import files_below, require_file


def test_linked_folders_are_looked_into_once_and_loops_end(tmp_path):
    (tmp_path / "store/deep").mkdir(parents=True)
    (tmp_path / "store/deep/a.txt").touch()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/b.txt").touch()
    os.symlink(tmp_path / "store", tmp_path / "raw/linked")
    os.symlink(tmp_path / "raw", tmp_path / "store/back")
    os.symlink(tmp_path / "gone", tmp_path / "raw/broken.txt")
    os.mkfifo(tmp_path / "raw/pipe.txt")
    found = [
        path.relative_to(tmp_path / "raw").as_posix() for path in files_below(tmp_path / "raw")
    ]
    assert found == ["b.txt", "linked/deep/a.txt"]


def test_what_may_have_no_end_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, what in {
            tmp_path / "pipe": "a named pipe",
            tmp_path / "socket": "a socket",
            tmp_path: "a folder",
            tmp_path / "a\0b": "no path that can be used",
        }.items():
            with pytest.raises(DataError, match=f"is {what}.*, not a file; give a file"):
                require_file(path, "give a file")
    with pytest.raises(DataError, match="is a device, not a file"):
        require_file(type(tmp_path)("/dev/zero"), "")
