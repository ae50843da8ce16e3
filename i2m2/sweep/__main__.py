"""`python -m i2m2.sweep`: the runs of a table, each in a process of its own, JOBS at a time on this
machine, or as SLURM jobs (LAUNCHER=slurm).

    python -m i2m2.sweep --train AVMNIST_and_MIMIC.train \\
        --config AVMNIST_and_MIMIC/configs/avmnist.yaml \\
        --rows "unimodal_image, unimodal_audio, inter --fusion concat, i2m2 --fusion concat" \\
        --seeds "0 1 2" [overrides]
    python -m i2m2.sweep --status results

`intra` and `i2m2` wait for the rows they start from. CPU threads are divided between the jobs, GPUs
given out one to each. What needs a run that failed is left out; the others are still made, except
after a mistake in the settings or the data (exit codes 2 and 3), which they would share. A run that
another process is at work on (exit code 4) is left to it.
"""

from __future__ import annotations

import os
import shlex
import sys
from argparse import REMAINDER, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from i2m2.errors import CommandParser, SettingsError, run_command
from i2m2.sweep.resources import Resources, add_options, resources_of

if TYPE_CHECKING:
    from i2m2.sweep.plan import Job

LAUNCHERS = ("local", "slurm")
MOST = 1024  # processes; no machine is helped by more


def main(argv: list[str] | None = None) -> None:
    """Make what the options say; exits with the code of the first run that failed."""
    args, others = _parser().parse_known_args(argv)
    if args.status:
        from i2m2.sweep.status import show

        return print(show(args.status))
    if args.launcher not in LAUNCHERS:
        choices = " or ".join(LAUNCHERS)
        raise SettingsError(f"LAUNCHER={args.launcher} is unknown; choose {choices}")
    at_a_time, parts = _number("JOBS", args.jobs), _number("--parts", args.parts)
    resources = resources_of(vars(args), others, args.launcher == "slurm")
    from i2m2.sweep import plan
    from i2m2.training.commands import seeds_of

    base = ["--config", args.config] if args.config else []
    out = plan.out_of(others)
    if args.last:
        jobs = [plan.last(args.last)]
    elif args.first:
        jobs = plan.first(args.first, [*base, *others], parts, args.launcher == "slurm")
    elif args.config and args.rows:
        rows, seeds = plan.rows_of(args.rows), seeds_of(" ".join(args.seeds), "SEEDS")
        together = args.seeds_together and args.launcher == "local"
        jobs = plan.plan(rows, [str(seed) for seed in seeds], args.train, base, others, together)
    else:
        raise SettingsError("--train needs --config and --rows (see --help)")
    if args.dry_run:
        print(plan.show(jobs))
    elif args.launcher == "slurm":
        _submit(jobs, resources, out)
    else:
        _run(args, jobs, at_a_time, out)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m i2m2.sweep",
        description="Make the runs of a table, several at a time or as SLURM jobs. All other "
        "options, --out among them, go to the training program.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    program = "training program, such as AVMNIST_and_MIMIC.train"
    what.add_argument("--train", metavar="MODULE", help=program)
    first = "program that makes what the runs of --out need, given before them"
    what.add_argument("--first", metavar="MODULE", help=first)
    last = "program and its arguments that come after all runs of --out; all that follows"
    what.add_argument("--last", metavar="MODULE", nargs=REMAINDER, help=last)
    status = "print the state of every run that a sweep has planned for this --out"
    what.add_argument("--status", metavar="OUT", type=Path, help=status)
    config = "YAML file of settings of the program"
    parser.add_argument("--config", metavar="FILE", help=config)
    rows = "rows of the table, separated by commas: method and its arguments"
    parser.add_argument("--rows", help=rows)
    seeds = "seeds, 0..4 or 0 1 2 (environment: SEEDS; default: 0)"
    default = [os.environ.get("SEEDS", "0")]
    parser.add_argument("--seeds", nargs="+", default=default, help=seeds)
    together = "on this machine: all seeds of a row in one process, where its layers are small"
    parser.add_argument("--seeds_together", action="store_true", help=together)
    jobs = "number of runs at a time on this machine (environment: JOBS; default: 1)"
    parser.add_argument("--jobs", default=os.environ.get("JOBS", "1"), help=jobs)
    parts = "number of processes that share the work of --first, in SLURM of jobs (default: 1)"
    parser.add_argument("--parts", default="1", help=parts)
    dry = "print the plan, with what each run waits for and how long its like took"
    parser.add_argument("--dry_run", action="store_true", help=dry)
    launcher = "local: on this machine; slurm: as jobs (environment: LAUNCHER; default: local)"
    default = os.environ.get("LAUNCHER", "local")
    parser.add_argument("--launcher", default=default, metavar="NAME", help=launcher)
    add_options(parser, os.environ.get("CLUSTER"))
    return parser


def _number(name: str, text: str) -> int:
    if not (text.isdecimal() and len(text) <= 9 and 0 < int(text) <= MOST):
        raise SettingsError(f"{name}={text} is no number of processes; give 1 to {MOST}")
    return int(text)


def _run(args: Namespace, jobs: list[Job], at_a_time: int, out: Path) -> None:
    """Make the jobs on this machine."""
    if not args.train:
        job = jobs[0]
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", job.program, *job.arguments])
    from i2m2.sweep.local import run_jobs

    codes = run_jobs(jobs, at_a_time, out)
    if failed := {name: code for name, code in codes.items() if code}:
        first = next(iter(failed.values()))
        why = "the lines above say why; once that is mended, the same command makes them"
        if first < 0:  # which leaves no lines
            why = (
                f"a run was killed (by signal {-first}, as the system does when memory is short); "
            )
            why += "the same command goes on with it"
        print(f"error: not made: {', '.join(failed)}; {why}", file=sys.stderr)
        sys.exit(first if first > 0 else 128 - first)


def _submit(jobs: list[Job], resources: Resources, out: Path) -> None:
    """Make the jobs those of SLURM."""
    if not find_spec("submitit"):
        raise SettingsError("LAUNCHER=slurm needs submitit: pip install -r requirements.txt")
    from i2m2.sweep.slurm import submit

    ids = submit(jobs, resources, out)
    finished = len(jobs) - len(ids)
    print(
        f"SLURM: {len(ids)} jobs in the queue, {finished} finished before; "
        f"their state: python -m i2m2.sweep --status {shlex.quote(str(out))}"
    )


if __name__ == "__main__":
    run_command(main)
