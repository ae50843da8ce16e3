"""The order of a table's runs, and what happens when one fails."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from i2m2.errors import SettingsError
from i2m2.sweep import Job, main, plan, rows_of, run_jobs, seeds_of
from tests.conftest import ROOT

ROWS = [
    "unimodal_image",
    "unimodal_audio",
    "inter --fusion concat",
    "inter --fusion low_rank_tensor",
    "intra",
    "i2m2 --fusion concat",
]


def test_joint_rows_wait_for_the_rows_they_start_from_and_for_no_others():
    jobs = {job.name: job for job in plan(ROWS, ["0", "1"], ["train"], ["--tag", "x"])}
    assert len(jobs) == 12
    assert jobs["intra seed 1"].needs == ["unimodal_image seed 1", "unimodal_audio seed 1"]
    assert jobs["i2m2 --fusion concat seed 0"].needs == [
        "unimodal_image seed 0",
        "unimodal_audio seed 0",
        "inter --fusion concat seed 0",
    ]
    assert jobs["inter --fusion low_rank_tensor seed 0"].needs == []
    command = ["train", "--method", "intra", "--seed", "1", "--tag", "x"]
    assert jobs["intra seed 1"].command == command
    for scratch in (["--init", "scratch"], ["--init=scratch"]):
        assert not any(job.needs for job in plan(ROWS, ["0"], ["train"], scratch))


def touch(path, needs_file=None, fail=0):
    needed = f"assert pathlib.Path({str(needs_file)!r}).exists()" if needs_file else ""
    touched = f"pathlib.Path({str(path)!r}).touch()"
    lines = ["import pathlib, sys", needed, touched, f"sys.exit({fail})"]
    return [sys.executable, "-c", "\n".join(lines)]


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_needs_are_met_before_a_job_starts(at_a_time, tmp_path):
    last = Job("last", touch(tmp_path / "last", tmp_path / "first"), needs=["first"])
    others = [Job(name, touch(tmp_path / name)) for name in ("first", "other")]
    assert run_jobs([last, *others], at_a_time) == {"last": 0, "first": 0, "other": 0}
    assert (tmp_path / "last").exists() and (tmp_path / "other").exists()


@pytest.mark.parametrize("code, good", [(1, 0), (4, 0), (3, 3)])
def test_a_failed_job_leaves_out_what_needs_it_and_after_a_mistake_in_the_data_everything(
    code, good, tmp_path
):
    jobs = [
        Job("bad", touch(tmp_path / "bad", fail=code)),
        Job("after bad", touch(tmp_path / "never"), needs=["bad"]),
        Job("good", touch(tmp_path / "good")),
    ]
    assert run_jobs(jobs, 1) == {"bad": code, "after bad": code, "good": good}
    assert (tmp_path / "good").exists() == (good == 0) and not (tmp_path / "never").exists()


def test_jobs_run_side_by_side_with_the_threads_divided(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6,1")  # of nested levels, as OpenMP allows
    # Each says that it has begun and how many threads it has, and ends only when it has seen all
    # three.
    script = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]).parent
pathlib.Path(sys.argv[1]).write_text(os.environ["OMP_NUM_THREADS"])
while len(list(folder.iterdir())) < 3:
    time.sleep(0.01)
"""
    jobs = [Job(name, [sys.executable, "-c", script, str(tmp_path / name)]) for name in "abc"]
    assert run_jobs(jobs, 3) == dict.fromkeys("abc", 0)
    assert [(tmp_path / name).read_text() for name in "abc"] == ["2", "2", "2"]


def test_the_exit_code_is_that_of_the_run_that_failed(tmp_path, capsys):
    program = ["--train", "AVMNIST_and_MIMIC.train", "--config", "nowhere.yaml"]
    with pytest.raises(SystemExit) as exit:
        main([*program, "--rows", "intra, inter --fusion concat"])
    assert exit.value.code == 2
    assert "not made: intra seed 0, inter --fusion concat seed 0" in capsys.readouterr().err


def test_settings_that_make_no_sense_are_refused():
    for arguments in (["--jobs", "0"], ["--seeds", ""]):
        with pytest.raises(SettingsError, match="at least one job and one seed"):
            main(["--train", "x", "--config", "y", "--rows", "intra", *arguments])


@pytest.mark.parametrize(
    "words, message",
    [
        (["--rows", "intra,"], "one is empty; give methods"),
        (["--rows", "intra --tag 'x"], "No closing quotation; give methods"),
        (["--rows", "intra", "--seeds", "0,1"], "SEEDS='0,1': seeds are whole numbers"),
        (["--rows", "intra", "--seeds", "1_0"], "SEEDS='1_0': seeds are whole numbers"),
    ],
)
def test_rows_and_seeds_that_are_none_are_refused_in_one_line(words, message):
    with pytest.raises(SettingsError, match=message):
        main(["--train", "x", "--config", "y", *words])


def test_a_row_or_seed_given_twice_is_one_job():
    assert seeds_of("0 1 00 10 010") == ["0", "1", "10"]
    assert rows_of("intra, intra,inter --fusion lf") == ["intra", "inter --fusion lf"]


SWEEP = """
import sys
from i2m2.sweep import Job, run_jobs
script = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
run_jobs([Job("long", [sys.executable, "-c", script, sys.argv[1]])], 1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_a_sweep_has_started_ends_with_it(number, tmp_path):
    begun = tmp_path / "begun"
    sweep = subprocess.Popen([sys.executable, "-c", SWEEP, str(begun)], cwd=ROOT)
    while not begun.exists():
        time.sleep(0.02)
    child = Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()[0]
    sweep.send_signal(number)
    assert sweep.wait() == (128 + number if number != signal.SIGKILL else -number)
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def is_running(pid):
    """Whether a process is there, and no zombie that nobody has asked for its end."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
