"""Runs on this machine: their order, what happens when one fails, and how they end."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from i2m2.errors import SettingsError
from i2m2.reading.yaml12 import dump_yaml
from i2m2.settings import to_dict
from i2m2.sweep.__main__ import main
from i2m2.sweep.local import run_jobs
from i2m2.sweep.plan import plan
from i2m2.sweep.records import announce, folder_of, is_running, write_state
from i2m2.sweep.status import show, statuses
from tests.conftest import AVMNIST_CONFIG, ROOT
from tests.i2m2.sweep.conftest import TOY


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_needs_are_met_before_a_job_starts(at_a_time, toy, tmp_path):
    first, other, last = (tmp_path / name for name in ("first", "other", "last"))
    jobs = [
        toy("last", "--touch", last, "--needs", first, needs=["first"]),
        toy("first", "--touch", first),
        toy("other", "--touch", other),
    ]
    assert run_jobs(jobs, at_a_time, tmp_path) == {"last": 0, "first": 0, "other": 0}
    assert last.exists() and other.exists()


@pytest.mark.parametrize("code, good", [(1, 0), (4, 0), (3, 3)])
def test_a_failed_job_leaves_out_what_needs_it_and_after_a_mistake_in_the_data_everything(
    code, good, toy, tmp_path
):
    jobs = [
        toy("bad", "--fail", code),
        toy("after bad", "--touch", tmp_path / "never", needs=["bad"]),
        toy("good", "--touch", tmp_path / "good"),
    ]
    assert run_jobs(jobs, 1, tmp_path) == {"bad": code, "after bad": code, "good": good}
    assert (tmp_path / "good").exists() == (good == 0) and not (tmp_path / "never").exists()
    bad, after, last = statuses(tmp_path)
    assert (bad.state, bad.note) == ("failed", "error: as asked for")
    assert last.state == ("waiting" if good else "done")  # of a sweep that is at work still: us


@pytest.mark.parametrize("at_a_time", [3, 10**20])
def test_jobs_run_side_by_side_with_the_threads_divided(at_a_time, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6,1")  # of nested levels, as OpenMP allows
    # Each says that it has begun and how many threads it has, and ends only when it has seen all
    # three.
    files = {name: tmp_path / f"{name}.toy" for name in "abc"}
    jobs = [toy(name, "--touch", file, "--among", 3) for name, file in files.items()]
    assert run_jobs(jobs, at_a_time, tmp_path) == dict.fromkeys("abc", 0)
    assert [file.read_text().split()[1] for file in files.values()] == ["2", "2", "2"]


def test_the_exit_code_is_that_of_the_run_that_failed(tmp_path, capsys, toy):
    with pytest.raises(SystemExit) as exit:
        rows = ["--config", "any", "--rows", "inter, intra", "--out", str(tmp_path)]
        main(["--train", TOY, *rows, "--fail", "2"])
    assert exit.value.code == 2
    assert "not made: inter seed 0, intra seed 0" in capsys.readouterr().err


def test_a_run_that_was_killed_is_said_to_be_since_it_cannot_say_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("i2m2.sweep.local.run_jobs", lambda *_: {"intra seed 0": -signal.SIGKILL})
    with pytest.raises(SystemExit) as exit:
        main(["--train", TOY, "--config", "any", "--rows", "intra", "--out", str(tmp_path)])
    assert exit.value.code == 137
    assert "intra seed 0; a run was killed (by signal 9, as" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--jobs", "0"], "JOBS=0 is no number of processes; give 1 to 1024"),
        (["--jobs", "x"], "JOBS=x is no number of processes; give 1 to 1024"),
        (["--jobs", "9" * 5000], "JOBS=9+ is no number of processes; give 1 to 1024"),
        (["--parts", "1.5"], "--parts=1.5 is no number of processes; give 1 to 1024"),
        (["--parts", "1000000000"], "--parts=1000000000 is no number of processes"),
        (["--seeds", ""], "SEEDS names no seed"),
        (["--rows", "intra,"], "one is empty; give methods"),
        (["--rows", "intra --tag 'x"], "No closing quotation; give methods"),
        (["--seeds", "0 1_0"], "SEEDS: '1_0' is no seed; give 0..4, or 0 1 2"),
        (["--launcher", "pbs"], "LAUNCHER=pbs is unknown; choose local or slurm"),
        (["--slurm.gpus", "1"], "--slurm.gpus is of LAUNCHER=slurm"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        main(["--train", TOY, "--config", "y", "--rows", "intra", *arguments])


def test_a_dry_run_prints_the_plan_and_makes_nothing(tmp_path, capsys):
    rows = ["--rows", "inter, unimodal_image, i2m2", "--seeds", "0 1", "--out", str(tmp_path)]
    train = ["--train", "AVMNIST_and_MIMIC.train", "--config", AVMNIST_CONFIG]
    main([*train, *rows, "--dry_run"])
    printed = capsys.readouterr().out
    assert re.search("^i2m2 seed 1 +inter seed 1, unimodal_image seed 1 +[?]$", printed, re.M)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("seeds", [["0", "1"], ["0 1"], ["0..1"]])
def test_seeds_are_spelt_as_for_a_training_command(seeds, tmp_path, capsys):
    rows = ["--train", TOY, "--config", "any", "--rows", "intra", "--out", str(tmp_path)]
    main([*rows, "--seeds", *seeds, "--dry_run", "--tag", "x"])
    printed = capsys.readouterr().out
    assert re.findall("seed [0-9]", printed) == ["seed 0", "seed 1"]


def test_a_run_of_a_sweep_has_the_bits_of_one_that_was_started_by_itself(train, tmp_path):
    words = ["--method", "inter", "--seed", "1", "--optim.epochs", "2", "--device", "cpu"]
    alone = train(*words, out=tmp_path / "alone")
    stored = ["--data.dir", str(train.files), "--threads", "1", "--optim.epochs", "2"]
    rows = ["--rows", "inter", "--seeds", "1", "--device", "cpu", "--out", str(tmp_path / "sweep")]
    main(["--train", "AVMNIST_and_MIMIC.train", "--config", AVMNIST_CONFIG, *rows, *stored])
    made = tmp_path / "sweep" / alone.relative_to(tmp_path / "alone")
    for name in ("best.safetensors", "predictions_test.npz", "predictions_val.npz", "result.json"):
        assert digest(made / name) == digest(alone / name), name
    assert (
        '"command": "python -m AVMNIST_and_MIMIC.train --config' in (made / "env.json").read_text()
    )
    status = show(tmp_path / "sweep")
    assert "inter seed 1  done" in status and "2/2" in status and status.endswith("1 done")


def test_the_state_of_runs_is_told_from_any_folder_and_after_a_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = os.path.relpath(AVMNIST_CONFIG)
    base = ["--config", config]
    (job,) = plan(["inter"], ["1"], "AVMNIST_and_MIMIC.train", base, ["--out", "results"])
    announce(Path("results"), [job])
    write_state(folder_of(Path("results"), job), code=0)
    run = Path("results/avmnist/inter-concat/seed1")
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_yaml(to_dict(job.configs[0])))
    (run / "DONE").touch()
    shutil.copytree("results", "copy")
    shutil.rmtree(run)
    monkeypatch.chdir("/")
    assert [status.epoch for status in statuses(tmp_path / "copy")] == ["0/25"]
    assert show(tmp_path / "copy").endswith("1 done")
    assert "there are no results of its settings here" in show(tmp_path / "results")


@pytest.mark.parametrize(
    "then, now, differs",
    [
        ("epochs: 25", "epochs: 7", "optim.epochs (25 there, 7 now)"),
        ("fusion: concat", "fusion: gated", "fusion (concat there, gated now)"),  # another folder
    ],
)
def test_a_finished_run_is_called_so_after_a_change_of_its_config_file(
    then, now, differs, tmp_path
):
    config = tmp_path / "own.yaml"
    shutil.copy(AVMNIST_CONFIG, config)
    words = ["--config", str(config)], ["--out", str(tmp_path)]
    (job,) = plan(["inter"], ["1"], "AVMNIST_and_MIMIC.train", *words)
    announce(tmp_path, [job])
    write_state(folder_of(tmp_path, job), code=0)
    run = tmp_path / "avmnist/inter-concat/seed1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_yaml(to_dict(job.configs[0])))
    (run / "env.json").write_text(json.dumps({"command": job.command}))
    (run / "DONE").touch()
    config.write_text(config.read_text().replace(then, now))
    (status,) = statuses(tmp_path)
    assert (status.state, status.note) == ("done", f"with other settings: {differs}")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_what_a_sweep_has_started_ends_with_it(number, tmp_path):
    sweep, run = begun_sweep([sys.executable], tmp_path)
    sweep.send_signal(number)
    assert sweep.wait() == (128 + number if number != signal.SIGKILL else -number)
    assert ends(run)
    assert statuses(tmp_path)[0].state == "failed"


def test_a_sweep_ends_with_the_script_that_calls_the_script_it_is_in(tmp_path):
    # Its own arguments aside, which would be refused: a real script names --out itself.
    begin = f'words=("$@"); set --; source {ROOT}/scripts/setup.sh'
    (tmp_path / "inner.sh").write_text(f'{begin}; python3 "${{words[@]}}"; exit')
    (tmp_path / "outer.sh").write_text(f'{begin}; bash {tmp_path}/inner.sh "${{words[@]}}"; exit')
    script, run = begun_sweep(["bash", str(tmp_path / "outer.sh")], tmp_path)
    script.terminate()
    assert ends(run)  # although nobody has asked how the script ended
    assert script.wait() == -signal.SIGTERM


def begun_sweep(program, out):
    """-> the process that makes a sweep of one run, and the run's number, once it has begun."""
    begun = out / "begun"
    rows = ["--train", TOY, "--config", "any", "--rows", "intra", "--out", str(out)]
    words = ["-m", "i2m2.sweep", *rows, "--touch", str(begun), "--sleep", "60"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = {"cwd": ROOT, "env": environment, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*program, *words], preexec_fn=heed_signals, **options)
    while not (begun.exists() and begun.read_text()):
        time.sleep(0.02)
    run = begun.read_text().split()[0]
    assert is_running(int(run))
    return process, int(run)


def ends(run):
    """Whether that process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while is_running(run) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(run)


def heed_signals():
    """Where the tests run under nohup, or in the background, a sweep would rightly ignore these."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def test_a_run_goes_on_when_nobody_reads_what_it_prints(tmp_path):
    code = f"""if True:
        from pathlib import Path
        from i2m2.sweep.records import recorded
        with recorded(Path({str(tmp_path)!r})):
            for number in range(3):
                print(number)
    """
    reader, writer = os.pipe()
    os.close(reader)
    assert subprocess.run([sys.executable, "-c", code], stdout=writer).returncode == 0
    os.close(writer)
    assert (tmp_path / "log.txt").read_text() == "0\n1\n2\n"
