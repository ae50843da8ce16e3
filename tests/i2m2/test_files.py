"""Folders that are made once, however many processes want them; locks; names that are no text."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from i2m2 import files
from i2m2.errors import BusyError
from i2m2.files import alone_in, fill, lock, make_once, unfinished_folder, write_json, write_text
from tests.conftest import ROOT, held_by_another

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


def test_a_folder_in_which_another_process_is_at_work_is_busy_until_that_ends(tmp_path):
    with held_by_another(tmp_path / "out"):
        says = "out: another process is at work on it; wait for it, or give another --out"
        with pytest.raises(BusyError, match=says), alone_in(tmp_path / "out"):
            pass
    with alone_in(tmp_path / "out"):
        pass


KILLED = """
import os, sys
from pathlib import Path
from i2m2.files import unfinished_folder

with unfinished_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    if sys.argv[2:]:
        os.kill(os.getpid(), 9)
    print("ready", flush=True)
    input()
"""


def test_a_failure_leaves_nothing_and_leftovers_go_unless_their_process_is_alive(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as alive:
        alive.stdout.readline()
        (of_alive,) = tmp_path.iterdir()
        subprocess.run([*command, "killed"], cwd=ROOT)
        assert len(list(tmp_path.iterdir())) == 2
        with unfinished_folder(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == [of_alive]
        alive.communicate("\n")

    def fail(folder):
        (folder / "half").touch()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        make_once(tmp_path / "made", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".made.lock"]


def test_an_unfinished_folder_of_this_process_is_no_leftover(tmp_path):
    with unfinished_folder(tmp_path) as first, unfinished_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir()


def make(folder):
    (folder / "parts").mkdir()
    (folder / "description.json").touch()


@pytest.mark.parametrize("place", ["../new/folder", ".", "../link", "../dangling"])
def test_a_folder_is_filled_wherever_it_lies_and_links_remain(place, tmp_path, monkeypatch):
    vacant = tmp_path / "vacant"
    vacant.mkdir()
    (tmp_path / "link").symlink_to("vacant")
    (tmp_path / "dangling").symlink_to("nowhere")
    inode = vacant.stat().st_ino
    monkeypatch.chdir(vacant)
    make_once(Path(place), make)
    visible = [path.name for path in Path(place).iterdir() if not path.name.startswith(".")]
    assert sorted(visible) == ["description.json", "parts"]
    assert vacant.stat().st_ino == inode and (tmp_path / "link").is_symlink()
    assert not list(tmp_path.rglob(f"{files.UNFINISHED}*"))


def test_a_vacant_folder_is_filled_in_one_that_must_not_be_written_to(tmp_path, monkeypatch):
    out = tmp_path / "read_only/out"
    out.mkdir(parents=True)
    where = []
    monkeypatch.setattr(files, "TemporaryDirectory", noting(where, files.TemporaryDirectory))
    fill(out, make)
    assert where == [out] and sorted(os.listdir(out)) == ["description.json", "parts"]


def noting(where, call):
    def note(suffix, prefix, near, **options):
        where.append(near)
        return call(suffix, prefix, near, **options)

    return note


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


def test_a_file_system_that_is_only_read_is_no_error_of_the_temporary_file(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error:
        write_json(tmp_path / "result.json", {})
    assert error.value.filename == str(tmp_path / "result.json")


def test_an_error_names_the_folder_that_was_given_not_the_temporary_one_below(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        fill(tmp_path / "made", lambda folder: os.rmdir(folder / "missing"))
    assert error.value.filename == str(tmp_path)
