"""Folders that are made once, however many processes want them."""

import subprocess
import sys

import pytest

from i2m2.files import make_once
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
