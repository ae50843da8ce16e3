"""Folders that are made once, however many processes want them; locks; names that are no text."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from i2m2 import files
from i2m2.files import lock, make_once, write_json, write_text
from tests.conftest import ROOT

MAKE = """
import sys, time
from pathlib import Path
from i2m2.files import make_once

def make(folder):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(0.5)
    (folder / "whole").touch()

make_once(Path(sys.argv[1]), make)
assert (Path(sys.argv[1]) / "whole").exists()
"""


def test_of_several_processes_one_makes_the_folder_and_the_others_wait_for_it(tmp_path):
    command = [sys.executable, "-c", MAKE, str(tmp_path / "data/made"), str(tmp_path / "log")]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_failure_leaves_nothing_and_the_leftover_of_a_killed_process_is_removed(tmp_path):
    leftover = tmp_path / ".123.tmp.made"
    leftover.mkdir()

    def fail(folder):
        (folder / "half").touch()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        make_once(tmp_path / "made", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".made.lock"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_work_goes_on_with_one_warning(number, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "lockf", failing(number))
    files._warn_of_no_locks.cache_clear()
    with open(tmp_path / "lock", "w") as file:
        assert lock(file) is None and lock(file, wait=True) is None
    make_once(tmp_path / "made", lambda folder: (folder / "whole").touch())
    assert (tmp_path / "made/whole").exists()
    assert capsys.readouterr().err.count("has no locks") == 1


def test_only_two_errors_of_a_lock_mean_another_process(tmp_path, monkeypatch):
    with open(tmp_path / "lock", "w") as file:
        assert lock(file) is True
        for number in (errno.EAGAIN, errno.EACCES):
            monkeypatch.setattr(fcntl, "lockf", failing(number))
            assert lock(file) is False
        monkeypatch.setattr(fcntl, "lockf", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            lock(file)


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def test_names_of_files_that_are_no_utf8_can_be_written_and_read_back(tmp_path):
    name = os.fsdecode(b"scan-\xff")
    write_json(tmp_path / "a.json", {"file": name, "smile": "\U0001f600"})
    found = json.loads((tmp_path / "a.json").read_text())
    assert found == {"file": "scan-\ufffd", "smile": "\U0001f600"}
    write_text(tmp_path / "a.md", f"the file {name}")
    assert (tmp_path / "a.md").read_text() == "the file scan-\\udcff"


def test_an_error_names_the_file_that_was_to_be_written_not_the_temporary_one(tmp_path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_json(tmp_path / "result.json", {})
    assert error.value.filename == str(tmp_path / "result.json")
