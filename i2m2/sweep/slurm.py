"""Runs as SLURM jobs, through submitit.

A job is `Step`: it starts the run as a process of its own, by torchrun where there are several GPUs
or nodes, and ends with its exit code. submitit keeps what a job is to do in a pickle, which here
holds the name of `Step` and plain values; what a job has returned is never read.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path

from submitit import JobEnvironment, SlurmExecutor
from submitit.core.utils import FailedJobError
from submitit.helpers import Checkpointable

from i2m2.errors import SettingsError
from i2m2.sweep import records
from i2m2.sweep.plan import Job, parts_of
from i2m2.sweep.resources import Resources
from i2m2.sweep.status import queued, settings_on_record
from i2m2.training.config import read_words

REQUEUES = 100  # of a run that takes longer than a job may; each goes on where the last has ended
WITHDRAWN = 3600  # seconds that a job waits for its end, once SLURM has announced it


def submit(jobs: Sequence[Job], resources: Resources, out: Path) -> dict[str, str]:
    """Submit the jobs that are neither finished nor in the queue -> {name: id} of those that are in
    the queue now. Jobs that wait for the same ones are an array. SettingsError where there is no
    SLURM, or it refuses them, or would write their logs elsewhere."""
    if "%" in str(out.absolute()):
        raise SettingsError(
            f"--out {out.absolute()}: SLURM puts job numbers and the like in the place of % in the "
            "path of a log; give a folder without %"
        )
    queue = queued()
    waiting = {
        folder: planned
        for folder, planned in records.all_planned(out).items()
        if planned["slurm"] in queue
    }
    _withdraw_tables(jobs, waiting, out)
    ids = {
        job.name: waiting[folder]["slurm"]
        for job in jobs
        if (folder := records.folder_of(out, job)) in waiting
    }
    records.announce(out, [job for job in jobs if job.name not in ids])
    todo = {job.name for job in jobs if job.name not in ids and not job.finished}
    before = _Before(list(waiting.values()), ids)
    order = TopologicalSorter({job.name: job.needs for job in jobs})
    order.prepare()
    while order.is_active():
        ready = order.get_ready()
        arrays: dict[str | None, list[Job]] = {}
        for job in jobs:
            if job.name in todo.intersection(ready):
                arrays.setdefault(before.dependency(job), []).append(job)
        for dependency, array in arrays.items():
            submitted = _submit(array, dependency, resources, out)
            after = dependency.split(":")[1:] if dependency and array[0].stage != "last" else []
            for job, slurm in zip(array, submitted, strict=True):
                ids[job.name] = slurm
                records.announce(out, [job], slurm, after)
        order.done(*ready)
    return ids


def _withdraw_tables(jobs: Sequence[Job], waiting: dict[Path, records.Planned], out: Path) -> None:
    """Take what comes last out of the queue where runs are in it: it may not wait for those that
    were submitted after it, and is submitted anew."""
    if all(planned["stage"] == "last" for planned in waiting.values()):
        return
    for job in jobs:
        if job.stage == "last" and (old := waiting.pop(records.folder_of(out, job), None)):
            subprocess.run(["scancel", "--state=PENDING", old["slurm"]], check=False)


class _Before:
    """What is in the queue already: of the results folder, and by name of what is submitted now."""

    def __init__(self, waiting: Sequence[records.Planned], ids: Mapping[str, str]) -> None:
        self.ids = ids
        self.all = [planned["slurm"] for planned in waiting]
        self.first = [planned for planned in waiting if planned["stage"] == "first"]
        self.runs = [(one["slurm"], run) for one in waiting for run in settings_on_record(one)]

    def dependency(self, job: Job) -> str | None:
        """What a job waits for, as sbatch has it: the table for whatever is in the queue, well or
        ill; a run for what comes first and for those it starts from, to end well."""
        if job.stage == "last":
            kind, names = "afterany", self.all
        else:
            kind, names = "afterok", [self.ids[name] for name in job.needs if name in self.ids]
        if job.stage == "run":
            config = _config_of(job.arguments)
            names += [one["slurm"] for one in self.first if _config_of(one["arguments"]) == config]
            names += [name for joint in job.configs for name in parts_of(joint, self.runs)]
        return ":".join([kind, *dict.fromkeys(names)]) if names else None


def _config_of(arguments: Sequence[str]) -> str | None:
    """The file of settings, which a table's runs share with what comes before them."""
    return read_words(arguments).get("--config")


def _submit(
    array: Sequence[Job], dependency: str | None, resources: Resources, out: Path
) -> list[str]:
    """-> the id of every job."""
    if array[0].stage != "run":  # one process: its work is shared by jobs, or small
        resources = replace(resources, nodes=1, gpus=min(1, resources.gpus))
    executor = SlurmExecutor(out / records.FOLDER / "submitit", REQUEUES)
    one = array[0].name if len(array) == 1 else f"{len(array)} runs"
    executor.update_parameters(
        job_name=f"i2m2: {one}",
        partition=resources.partition,
        nodes=resources.nodes,
        ntasks_per_node=1,
        gpus_per_node=resources.gpus or None,
        cpus_per_task=resources.cpus,
        mem=f"{round(1024 * resources.memory)}MB",
        time=round(60 * resources.time),
        setup=list(resources.setup),
        dependency=dependency,
        srun_args=[f"--cpus-per-task={resources.cpus}", "--kill-on-bad-exit=1"],
        additional_parameters={"requeue": True, "kill-on-invalid-dep": "yes", **resources.sbatch},
    )
    step = Step()
    try:
        with redirect_stderr(io.StringIO()), executor.batch():  # the error says it in one line
            jobs = [
                executor.submit(
                    step,
                    job.program,
                    job.arguments,
                    resources.gpus,
                    str(records.folder_of(out, job)),
                )
                for job in array
            ]
    except FailedJobError as error:
        raise SettingsError(f"sbatch refuses: {error}; see the options --slurm") from error
    return [job.job_id for job in jobs]


class Step(Checkpointable):
    """What a job does on each of its nodes. It is requeued when its time is up, since submitit asks
    for a signal before that, and by SLURM itself when it is preempted; the run then resumes."""

    def __call__(self, program: str, arguments: list[str], gpus: int, record: str) -> None:
        place, folder = JobEnvironment(), Path(record)
        writes = place.global_rank == 0
        announced: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: announced.append(number))
        if writes:
            records.write_state(folder)
        command = command_of(program, arguments, gpus, place.hostnames, place.job_id)
        threads = int(os.environ.get("SLURM_CPUS_PER_TASK", 1)) // max(1, gpus)
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, threads))}
        with records.open_log(folder) as log:
            options = {"stdout": log, "stderr": subprocess.STDOUT, "env": environment}
            code = subprocess.Popen(command, preexec_fn=_ignore_warning, **options).wait()
        if code:
            time.sleep(1)  # a signal may reach the run before it reaches this process
        if code and announced:
            time.sleep(WITHDRAWN)  # whether the run has failed is SLURM's to say
        if writes:
            records.write_state(folder, code)
        if code:
            sys.exit(code if code > 0 else 128 - code)


def command_of(
    program: str, arguments: Sequence[str], gpus: int, hosts: Sequence[str], job: str
) -> list[str]:
    """The command that makes a run on one of its `hosts`: by torchrun if it is several processes,
    one per GPU."""
    words = [sys.executable, "-m"]
    if max(1, gpus) * len(hosts) > 1:
        words += ["torch.distributed.run", f"--nnodes={len(hosts)}"]
        words += [f"--nproc-per-node={max(1, gpus)}"]
        if len(hosts) == 1:
            words += ["--standalone"]
        else:
            port = 20_000 + int(job.split("_")[0]) % 20_000  # two jobs of a node seldom share it
            words += ["--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0]}:{port}"]
            words += [f"--rdzv-id={job}"]
        words += ["-m"]
    return [*words, program, *arguments]


def _ignore_warning() -> None:
    """Have the run go on when SLURM warns that its time is nearly up; `Step` answers that."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
