"""What is on record of a job's process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest

from i2m2.sweep.records import is_alive, is_running, read_state, write_state

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says when one began")


@LINUX
def test_another_process_that_was_given_the_number_of_a_run_is_not_the_run(tmp_path):
    write_state(tmp_path)
    state = read_state(tmp_path)
    assert is_alive(state) and state["pid"] == os.getpid()
    with subprocess.Popen(["sleep", "60"]) as other:
        assert is_running(other.pid) and not is_alive(state | {"pid": other.pid})
        before = {name: value for name, value in state.items() if name != "started"}
        assert is_alive(before | {"pid": other.pid})  # as records were that did not say
        other.kill()
    assert not is_running(other.pid)


@LINUX
@pytest.mark.parametrize("name", [b"sleep", b"a b", b"x) Z 1 (y", b"\xff\xfe"])
def test_a_run_is_known_by_when_it_began_whatever_its_name(name, tmp_path):
    program = os.path.join(os.fsencode(tmp_path), name)
    shutil.copy(shutil.which("sleep"), program)
    before = ticks()
    with subprocess.Popen([program, "60"]) as run:
        times, process = range(before, ticks() + 1), {"host": gethostname(), "pid": run.pid}
        assert is_alive(process) and any(is_alive(process | {"started": t}) for t in times)
        assert not is_alive(process | {"started": before - 100})
        run.kill()
    assert not is_alive(process)


def ticks():
    """Since the machine began."""
    return int(float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK"))
