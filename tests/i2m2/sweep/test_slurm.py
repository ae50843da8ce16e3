"""What is asked of SLURM, with commands that only write down what they are given."""

import os
import re
import sys

import pytest

from i2m2.errors import SettingsError
from i2m2.sweep import records
from i2m2.sweep.__main__ import main
from i2m2.sweep.resources import HELP, Resources, resources_of
from i2m2.sweep.slurm import command_of, submit
from i2m2.sweep.status import show, statuses
from tests.conftest import AVMNIST_CONFIG, ROOT

README = ROOT / "i2m2/README.md"
ROWS = "i2m2, unimodal_image, intra, inter, unimodal_audio"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A SLURM that takes jobs and begins none: cluster() -> the scripts given to sbatch so far."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "srun": "",
        "scancel": f'[ "$1" = --state=PENDING ] && sed -i "/^$2 /d" {folder}/queue',
        "sbatch": f'n=$(($(ls {folder} | wc -l) - 1)); cp "$1" {folder}/job$n; '
        f'echo "$n $(sed -n "s/.*--array=0-\\([0-9]*\\).*/\\1/p" $1)" >> {folder}/queue; '
        'echo "Submitted batch job $n"',
        "squeue": f"[ ! -f {folder}/queue ] || while read job last; do "
        'for k in $(seq 0 ${last:-0}); do echo "$job${last:+_$k}|PENDING||Resources"; done; '
        f"done < {folder}/queue",
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: [file.read_text() for file in sorted(folder.glob("job*"), key=number)]


def number(file):
    return int(file.name[3:])


def sweep(tmp_path, *words):
    out = ["--launcher", "slurm", "--out", str(tmp_path / "out")]
    main([*out, *words])


def table(tmp_path, rows, *words):
    train = ["--train", "AVMNIST_and_MIMIC.train", "--config", AVMNIST_CONFIG, "--rows", rows]
    sweep(tmp_path, *train, *words)


def option(script, name):
    found = re.search(rf"^#SBATCH --{name}(?:=(.*))?$", script, re.M)
    return found and found[1]


def test_runs_that_wait_for_the_same_are_an_array_and_the_table_waits_for_all(
    cluster, tmp_path, capsys
):
    table(tmp_path, ROWS, "--seeds", "0 1")
    sweep(tmp_path, "--last", "i2m2.results", "any", "--dataset", "avmnist")
    first, *joint, last = cluster()
    assert option(first, "array") == "0-5%6" and option(first, "dependency") is None
    n = 3  # of the first job: so many commands there are
    image, inter, audio = (f"{n}_{k}" for k in (0, 1, 2))
    assert [option(script, "dependency") for script in joint[:2]] == [
        f"afterok:{image}:{inter}:{audio}",
        f"afterok:{image}:{audio}",
    ]
    assert len(joint) == 4 and all(option(script, "array") is None for script in joint)
    everything = [f"{n}_{k}" for k in range(6)] + [str(n + 2 + k) for k in range(4)]
    assert option(last, "dependency").startswith("afterany:")
    assert sorted(option(last, "dependency").split(":")[1:]) == sorted(everything)
    for script in cluster():
        assert re.search("^#SBATCH --requeue$", script, re.M)
        assert option(script, "kill-on-invalid-dep") == "yes"
    text = show(tmp_path / "out")
    assert text.endswith("11 waiting")
    assert "for unimodal_image seed 0, inter seed 0, unimodal_audio seed 0" in text
    capsys.readouterr()
    table(tmp_path, ROWS, "--seeds", "0 1")  # the same command again
    assert "10 jobs in the queue, 0 finished" in capsys.readouterr().out and len(cluster()) == 6


def test_a_folder_whose_name_slurm_would_change_is_refused(cluster, tmp_path):
    with pytest.raises(SettingsError, match="--out .*/50%/out: SLURM puts .* folder without %"):
        table(tmp_path / "50%", "unimodal_image")
    assert not cluster() and not (tmp_path / "50%").exists()


def test_a_run_waits_for_its_parts_that_an_earlier_command_has_submitted(cluster, tmp_path):
    table(tmp_path, "unimodal_image, inter, unimodal_audio", "--seeds", "0 1")
    table(tmp_path, "i2m2", "--tag", "x")
    table(tmp_path, "i2m2", "--init", "scratch")
    table(tmp_path, "unimodal_audio", "--tag", "x")
    joint, scratch, single = (option(script, "dependency") for script in cluster()[1:])
    assert joint == "afterok:3_0:3_1:3_2" and scratch is None and single is None


def test_the_table_waits_for_a_run_that_is_submitted_again(cluster, tmp_path, capsys):
    last = ["--last", "i2m2.results", "any"]
    table(tmp_path, "unimodal_image, unimodal_audio")
    sweep(tmp_path, *last)
    squeue = tmp_path / "bin/squeue"  # the image has failed and left the queue
    squeue.write_text(squeue.read_text().rstrip() + " | grep -v ^3_0\n")
    table(tmp_path, "unimodal_image, unimodal_audio")
    sweep(tmp_path, *last)
    assert option(cluster()[-1], "dependency") == "afterany:3_1:6"
    assert (tmp_path / "bin/queue").read_text() == "3 1\n6 \n7 \n"
    (tmp_path / "bin/queue").write_text("7 \n")  # the runs have ended
    sweep(tmp_path, *last)
    assert len(cluster()) == 4


def test_features_are_shared_by_an_array_and_runs_wait_for_what_puts_them_together(
    cluster, tmp_path
):
    resources = ["--slurm.gpus", "4", "--slurm.nodes", "2"]
    others = ["--first", "m.extract", "--config", "others.yaml"]
    sweep(tmp_path, *others)
    first = ["--first", "m.extract", "--config", AVMNIST_CONFIG, "--parts", "3"]
    sweep(tmp_path, *first, *resources)
    table(tmp_path, "unimodal_image", *resources)
    _, parts, whole, run = cluster()
    assert option(parts, "array") == "0-2%3"
    assert option(whole, "dependency") == "afterok:5_0:5_1:5_2"
    assert option(run, "dependency") == "afterok:5_0:5_1:5_2:6"
    assert [option(script, "gpus-per-node") for script in (parts, whole, run)] == ["1", "1", "4"]
    assert [option(script, "nodes") for script in (parts, whole, run)] == ["1", "1", "2"]
    (tmp_path / "bin/queue").unlink()
    folder = next((tmp_path / "out/jobs").glob("extract-*-part-1-of-3-*"))
    records.write_state(folder, 3)
    found = {status.planned["name"]: status for status in statuses(tmp_path / "out")}
    run = found["unimodal_image seed 0"]
    assert run.state == "cancelled" and "needs extract avmnist part 1 of 3, " in run.note


def test_resources_stand_in_a_file_and_options_replace_them(cluster, tmp_path, monkeypatch):
    file = tmp_path / "cluster.yaml"
    lines = "partition: gpu\ntime: 1.5\nmemory: 3\nsetup: [module load cuda, ulimit -c 0]\n"
    file.write_text(lines + "sbatch: {account: vision}\n")
    monkeypatch.setenv("CLUSTER", str(file))
    table(tmp_path, "unimodal_image", "--slurm.time", "0.5", "--slurm.cpus", "2")
    setup = ["--slurm.setup", "export A='b c'", "--slurm.setup", "d"]
    table(tmp_path, "unimodal_audio", "--slurm.time", "0.05", "--slurm.memory", "0.1", *setup)
    script, other = cluster()
    asked = {"partition": "gpu", "time": "30", "mem": "3072MB", "cpus-per-task": "2"}
    asked |= {"account": "vision", "gpus-per-node": None}
    assert {name: option(script, name) for name in asked} == asked
    assert script.index("module load cuda\nulimit -c 0\n") < script.index("\nsrun ")
    assert "\nexport A='b c'\nd\n" in other
    assert (option(other, "time"), option(other, "mem")) == ("3", "102MB")


def test_the_file_of_the_readme_is_one(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(re.search("```yaml\n(partition.*?)```", README.read_text(), re.S)[1])
    options = {f"slurm.{name}": None for name in HELP} | {"slurm": str(file)}
    found = resources_of(options, [], True)
    assert (found.partition, found.sbatch) == ("gpu", {"account": "vision"})


@pytest.mark.parametrize(
    "lines, message",
    [
        ("cpu: 3", "cluster.yaml: cpu is nothing that a run gets; there are partition, nodes"),
        ("cpus: many", "cluster.yaml .*cpus: expected int, got str"),
        ("gpus: -1", "slurm.gpus=-1 is too small"),
        ("time: 0.02", "slurm.time=0.02 is too small; give at least 0.05"),
        ("memory: 0", "slurm.memory=0 is too small"),  # to SLURM that is no limit
        ("time: .inf", "slurm.time=inf is no amount; give a number"),
    ],
)
def test_resources_that_cannot_be_are_refused(lines, message, tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(lines)
    with pytest.raises(SettingsError, match=message):
        table(tmp_path, "unimodal_image", "--slurm", str(file))


def test_an_option_or_a_file_that_is_none_and_what_sbatch_refuses_are_said_in_one_line(
    cluster, tmp_path, capfd
):
    with pytest.raises(SettingsError, match="--slurm.gpu is no option; there are --slurm FILE, --"):
        table(tmp_path, "unimodal_image", "--slurm.gpu", "1")
    with pytest.raises(SettingsError, match="^--slurm nowhere.yaml: No such file"):
        table(tmp_path, "unimodal_image", "--slurm", "nowhere.yaml")
    (tmp_path / "bin/sbatch").write_text("#!/bin/sh\necho invalid partition >&2; exit 1\n")
    with pytest.raises(SettingsError, match="sbatch refuses: invalid partition; see the options"):
        table(tmp_path, "unimodal_image", "--slurm.partition", "nowhere")
    assert capfd.readouterr().err == ""


def test_where_there_is_no_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="there is no SLURM here .squeue.; go where"):
        table(tmp_path, "unimodal_image")


def test_where_there_is_no_slurm_files_say_what_has_ended(toy, cluster, tmp_path, monkeypatch):
    submit([toy("a"), toy("b")], Resources(), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    first, second = records.all_planned(tmp_path)
    records.write_state(first, 0)
    with pytest.raises(SettingsError, match="there is no SLURM here"):
        show(tmp_path)
    records.write_state(second, 0)
    assert show(tmp_path).endswith("2 done")


def test_what_can_never_start_is_called_cancelled_and_by_what(toy, tmp_path, cluster):
    jobs = [toy("part"), toy("joint", needs=["part"])]
    submit(jobs, Resources(), tmp_path)
    (tmp_path / "bin/queue").unlink()  # SLURM has ended them all
    folder = records.folder_of(tmp_path, jobs[0])
    with records.open_log(folder) as log:
        log.write("one line\nerror: the last one\n")
    records.write_state(folder, 3)
    part, joint = statuses(tmp_path)
    assert (part.state, part.note) == ("failed", "error: the last one")
    assert (joint.state, joint.note) == ("cancelled", "needs part")
    (folder / "state.json").unlink()  # its setup has failed, say
    part, joint = statuses(tmp_path)
    assert part.state == "failed" and part.note.endswith("began: cancelled, or by its setup")
    (tmp_path / "jobs/submitit/3_0_log.err").write_text("module: command not found\n")
    assert statuses(tmp_path)[0].note.endswith(
        "left the queue before it began: module: command not found"
    )
    assert (joint.state, joint.note) == ("cancelled", "needs part")


def test_a_run_that_was_made_and_deleted_is_not_called_done(cluster, tmp_path):
    table(tmp_path, "unimodal_image")
    (tmp_path / "bin/queue").unlink()
    (folder,) = records.all_planned(tmp_path / "out")
    records.write_state(folder, 0)
    (run,) = statuses(tmp_path / "out")
    assert (run.state, run.note) == ("not started", "there are no results of its settings here")


TORCHRUN = """error: of an earlier attempt
W1129 16:55:31 9 torch/distributed/elastic/agent/server/api.py:9] Received 15 death signal
Traceback (most recent call last):
error: optim.lr=-1
W1129 16:55:32 9 torch/distributed/elastic/multiprocessing/api.py:9] Sending process 7 SIGTERM
E1129 16:55:32 9 torch/distributed/elastic/multiprocessing/api.py:9] failed (exitcode: 2) rank: 0
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
{rule}
m FAILED
Root Cause (first observed failure):
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
{rule}
"""


@pytest.mark.parametrize("log", ["error: optim.lr=-1\n\n  \n", TORCHRUN.format(rule="=" * 60)])
def test_why_a_run_failed_is_the_last_that_it_said_itself(log, toy, tmp_path):
    job = toy("part")
    records.announce(tmp_path, [job])
    folder = records.folder_of(tmp_path, job)
    with records.open_log(folder) as file:
        file.write(log)
    records.write_state(folder, 1)
    assert [status.note for status in statuses(tmp_path)] == ["error: optim.lr=-1"]


def test_several_gpus_or_nodes_are_driven_by_torchrun():
    python, words = [sys.executable, "-m"], ["--seed", "0"]
    assert command_of("m", words, 1, ["a"], "7") == [*python, "m", *words]
    torchrun = [*python, "torch.distributed.run"]
    one_node = ["--nnodes=1", "--nproc-per-node=4", "--standalone", "-m", "m", *words]
    assert command_of("m", words, 4, ["a"], "7_1") == [*torchrun, *one_node]
    meeting = ["--rdzv-backend=c10d", "--rdzv-endpoint=a:20007", "--rdzv-id=7_1", "-m", "m", *words]
    two_nodes = ["--nnodes=2", "--nproc-per-node=4", *meeting]
    assert command_of("m", words, 4, ["a", "b"], "7_1") == [*torchrun, *two_nodes]
