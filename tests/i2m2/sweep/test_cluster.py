"""Tables through a real SLURM, which `bash scripts/test_slurm.sh` starts; each run has the bits of
the one that was made without it."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from i2m2.sweep.plan import epochs_of
from i2m2.sweep.status import queued, show, statuses
from tests.conftest import ROOT
from tests.i2m2.sweep.test_local import digest
from VQA_and_NLVR2.features.plan import read_facts

pytestmark = pytest.mark.skipif(
    "I2M2_ONE_NODE_SLURM" not in os.environ,
    reason="it needs a SLURM of its own: bash scripts/test_slurm.sh starts one",
)
DIGITS = "AVMNIST_and_MIMIC/configs/avmnist_digits.yaml"
TABLE = "avmnist-digits"
FEW = ("--optim.epochs", "24", "--data.train_size", "200", "--device", "cpu")
SLURM = ("--slurm.cpus", "1", "--slurm.memory", "1", "--slurm.setup", "export OMP_NUM_THREADS=1")
KEPT = ("best.safetensors", "predictions_val.npz", "predictions_test.npz", "result.json")


def run(script, *arguments, **variables):
    """-> what a script prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SEEDS": "0"} | variables
    command = ["bash", f"scripts/{script}.sh", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(script, out, *arguments, **variables):
    return run(script, *SLURM, *arguments, LAUNCHER="slurm", OUT=str(out), **variables)


def until(condition, seconds=240):
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, subprocess.run(["squeue"], capture_output=True).stdout
        time.sleep(0.05)


def state_of(out):
    """{name of a job: its state and its note}."""
    return {status.planned["name"]: (status.state, status.note) for status in statuses(out)}


def assert_same_runs(one, other, names):
    for name in names:
        for file in KEPT:
            first, second = (
                one / TABLE / name / "seed0" / file,
                other / TABLE / name / "seed0" / file,
            )
            assert digest(first) == digest(second), first


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The digits' table made on this machine."""
    out = tmp_path_factory.mktemp("local")
    run("avmnist", *FEW, OUT=str(out), CONFIG=DIGITS, JOBS="2", OMP_NUM_THREADS="2")
    return out


def test_a_table_with_a_run_killed_one_that_fails_and_one_preempted(local, tmp_path):
    out = tmp_path / "out"
    trained = (local / TABLE).glob("*/seed0/best.safetensors")
    folders = {path.parents[1].name: path.parent for path in trained}
    assert len(folders) == 7
    # This one fails: its folder holds a run of other settings.
    other = out / TABLE / "inter-low_rank_tensor/seed0"
    shutil.copytree(folders["inter-low_rank_tensor"], other)
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("batch_size: 40", "batch_size: 41"))
    assert "?" in submit("avmnist", out, *FEW, "--dry_run", CONFIG=DIGITS) and not queued()
    text = submit("avmnist", out, *FEW, CONFIG=DIGITS)
    assert "SLURM: 7 jobs in the queue, 0 finished before" in text

    killed, preempted = (
        out / TABLE / name / "seed0" for name in ("unimodal_audio", "inter-concat")
    )
    until(lambda: epochs_of(killed))
    status = next(s for s in statuses(out) if s.planned["name"] == "unimodal_audio seed 0")
    assert status.state == "running" and status.where[1]
    subprocess.run(["scancel", "--signal=KILL", status.where[0]], check=True)
    until(lambda: epochs_of(preempted))
    sbatch = ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
    subprocess.run(sbatch, check=True, capture_output=True)
    until(lambda: state_of(out)["inter --fusion concat seed 0"][0] == "waiting")
    assert 0 < len(epochs_of(preempted)) < 24
    until(lambda: not queued())

    found = state_of(out)
    assert found["inter --fusion concat seed 0"] == ("done", "")
    log = next((out / "jobs").glob("inter-concat-seed-0-*/log.txt")).read_text()
    assert re.search(r"inter-concat/seed0: resuming after epoch \d+", log)
    killed_note, failed_note = (
        found[f"{name} seed 0"] for name in ("unimodal_audio", "inter --fusion low_rank_tensor")
    )
    assert killed_note[0] == failed_note[0] == "failed"
    assert killed_note[1].startswith("killed; unimodal_audio seed 0  epoch ")
    assert "holds a run of other settings: optim.batch_size (41 there, 40 now)" in failed_note[1]
    assert found["intra seed 0"] == ("cancelled", "needs unimodal_audio seed 0")
    for fusion in ("concat", "low_rank_tensor"):
        assert found[f"i2m2 --fusion {fusion} seed 0"][0] == "cancelled"
    assert found[f"i2m2.results {out} --dataset avmnist"][0] == "done"
    table = (out / TABLE / "table.md").read_text()  # of what is there
    assert "| Image |" in table and "| Audio | missing |" in table

    shutil.rmtree(other)
    text = submit("avmnist", out, *FEW, CONFIG=DIGITS)  # the same command again
    assert "SLURM: 5 jobs in the queue, 2 finished before" in text
    until(lambda: not queued())
    assert {state for state, _ in state_of(out).values()} == {"done"}, show(out)
    assert_same_runs(local, out, folders)
    for table in ("table.csv", "separate_and_joint_training.csv"):
        assert digest(local / TABLE / table) == digest(out / TABLE / table)


def test_a_run_of_two_processes_by_torchrun_whose_time_is_nearly_up(tmp_path):
    here, out = tmp_path / "here", tmp_path / "out"
    words = ["--config", DIGITS, "--method", "unimodal_audio", "--tag", "two", "--threads", "1"]
    words += [*FEW, "--optim.epochs", "60"]  # so many that it is not done before it is requeued
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = [*torchrun, "AVMNIST_and_MIMIC.train", *words, "--out", str(here)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    rows = ["--train", "AVMNIST_and_MIMIC.train", "--rows", "unimodal_audio", "--out", str(out)]
    sweep = ["-m", "i2m2.sweep", "--launcher", "slurm", *SLURM, "--slurm.gpus", "2", *rows]
    subprocess.run([sys.executable, *sweep, *words], cwd=ROOT, check=True)
    until(lambda: epochs_of(out / TABLE / "unimodal_audio-two/seed0"))
    (job,) = queued()
    subprocess.run(["scancel", "--signal=USR2", job], check=True)  # as SLURM does
    until(lambda: not queued())
    assert [status.state for status in statuses(out)] == ["done"]
    (log,) = (out / "jobs").glob("*/log.txt")
    assert "resuming after epoch" in log.read_text()
    assert_same_runs(here, out, ["unimodal_audio-two"])


def test_features_as_an_array_and_the_runs_that_wait_for_them(tmp_path):
    words = f"-m VQA_and_NLVR2.make_synthetic --dataset vqa_vs --out {tmp_path}/vqa --scenes 60"
    subprocess.run([sys.executable, *words.split()], cwd=ROOT, check=True)
    tiny = f"""--backbone.kind fiber_random --backbone.checkpoint null --backbone.image_size null
        --backbone.tokenizer {tmp_path}/vqa/tokenizer --backbone.max_text_length null
        --backbone.sizes VQA_and_NLVR2/configs/fiber_tiny.json --optim.epochs 1 --device cpu"""
    out, features = tmp_path / "out", tmp_path / "features"
    variables = {"DATA": f"{tmp_path}/vqa", "FEATURES": str(features), "ROWS": "unimodal_text"}
    submit("vqa_vs", out, *tiny.split(), GPUS="2", **variables)
    waiting = state_of(out)["unimodal_text seed 0"]
    assert waiting[0] == "waiting" and "for extract_features vqa_vs part 1 of 2" in waiting[1]
    until(lambda: not queued())
    assert {state for state, _ in state_of(out).values()} == {"done"}, show(out)
    assert read_facts(features)["complete"]
