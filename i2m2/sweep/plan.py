"""The runs of a table: the command of each, the runs it starts from, its folder, its hours."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Literal, TypedDict

import msgspec

from i2m2.errors import DataError, SettingsError, aligned
from i2m2.runs import is_done, part_names, read_config
from i2m2.settings import RunConfig, config_diff, to_dict, with_role
from i2m2.training.commands import DatasetSpec, dataset_of
from i2m2.training.config import load_config, read_words

Stage = Literal["first", "run", "last"]  # before the runs (features), a run, after them (tables)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command, `python -m program arguments`, and the jobs that it waits for."""

    name: str
    program: str
    arguments: list[str]
    needs: list[str] = field(default_factory=list)
    configs: list[RunConfig] = field(default_factory=list)  # of its runs, where they can be read
    stage: Stage = "run"

    @property
    def command(self) -> str:
        """As a shell's line."""
        return shlex.join(["python", "-m", self.program, *self.arguments])

    @property
    def finished(self) -> bool:
        """Whether its runs are there, whoever made them."""
        return bool(self.configs) and all(
            any(is_done(folder) for folder in folders_of(config)) for config in self.configs
        )


class Epoch(TypedDict):
    """A line of metrics.jsonl, as far as it is read here."""

    epoch: int
    seconds: float


def rows_of(text: str) -> list[str]:
    """`intra, inter --fusion concat` -> its rows, each once. SettingsError for what are none."""
    rows = list(dict.fromkeys(row.strip() for row in text.split(",")))
    try:
        if not all(map(shlex.split, rows)):
            raise ValueError("one is empty")
    except ValueError as error:
        raise SettingsError(
            f"--rows {text!r}: {error}; give methods and their arguments, separated by commas"
        ) from error
    return rows


def plan(
    rows: list[str],
    seeds: list[str],
    program: str,
    base: list[str],
    overrides: list[str],
    together: bool = False,
) -> list[Job]:
    """A job per row and seed, seed by seed, rows in the order given, of rows with the same settings
    the first; its arguments begin with `base`. `together`: a job per row, of all seeds, where these
    are faster at once. SettingsError for settings that a row cannot have."""
    _refuse_seeds(rows, overrides)
    _refuse_replacing(rows, overrides)
    words = {row: [*base, "--method", *shlex.split(row)] for row in rows}
    configs = _once({row: settings_of(program, [*words[row], *overrides]) for row in rows})
    at_once = {row for row in configs if together and len(seeds) > 1 and _is_faster(configs[row])}
    of_row = {row: [seeds] if row in at_once else [[seed] for seed in seeds] for row in configs}
    jobs: dict[str, Job] = {}
    for seed in seeds:
        for row in configs:
            own = next(group for group in of_row[row] if seed in group)
            needed = [(need, s) for need in _needs(row, configs) for s in own]
            needs = [_name(need, next(g for g in of_row[need] if s in g)) for need, s in needed]
            job = Job(
                name=_name(row, own),
                program=program,
                arguments=[*words[row], f"--seed{'s' * (len(own) > 1)}", *own, *overrides],
                needs=list(dict.fromkeys(needs)),
                configs=[replace(configs[row], seed=int(s)) for s in own if configs[row]],
            )
            jobs.setdefault(job.name, job)
    return list(jobs.values())


def _refuse_seeds(rows: Sequence[str], overrides: Sequence[str]) -> None:
    """SettingsError for a seed beside those of `--seeds`, which every job is named by."""
    given = {"command line": overrides} | {f"--rows {row!r}": shlex.split(row) for row in rows}
    for where, words in given.items():
        if {"--seed", "--seeds"} & read_words(words).keys():
            raise SettingsError(
                f"{where}: the seeds of all rows are --seeds (or SEEDS); leave this one out"
            )


def _refuse_replacing(rows: Sequence[str], overrides: Sequence[str]) -> None:
    """SettingsError for an option that would replace what a row says, which its job is named by."""
    given = read_words(overrides).items()
    for row in rows:
        method, *arguments = shlex.split(row)
        own = {"--method": method, **read_words(arguments)}
        if twice := next((name for name, value in given if own.get(name, value) != value), None):
            raise SettingsError(
                f"command line: {twice} would replace what --rows {row!r} says; leave it out"
            )


def _once(configs: Mapping[str, RunConfig | None]) -> dict[str, RunConfig | None]:
    """The rows without those whose settings an earlier one has, in other words."""
    once: dict[str, RunConfig | None] = {}
    for row, config in configs.items():
        if config is None or config not in once.values():
            once[row] = config
    return once


def _name(row: str, seeds: Sequence[str]) -> str:
    return f"{row} seed{'s' * (len(seeds) > 1)} {' '.join(seeds)}"


def _is_faster(config: RunConfig | None) -> bool:
    """Whether a row's seeds are faster at once, and can be (`i2m2.training.seeds`)."""
    usual = config and config.precision == "no" and not config.compile and not config.tracker
    return bool(usual and config.seeds_at_once)


def first(program: str, arguments: list[str], parts: int, as_jobs: bool) -> list[Job]:
    """What comes before the runs, shared by so many processes: of one torchrun, or as jobs of which
    each makes its part, and one that then puts the parts together."""
    name = f"{program.rpartition('.')[2]} {Path(read_words(arguments).get('--config') or '').stem}"
    if not as_jobs and parts > 1:
        arguments = [f"--nproc-per-node={parts}", "-m", program, *arguments]
        program = "torch.distributed.run"
    whole = Job(name=name, program=program, arguments=arguments, stage="first")
    if not as_jobs or parts == 1:
        return [whole]
    shares = [
        replace(
            whole,
            name=f"{name} part {part} of {parts}",
            arguments=[*arguments, "--share", f"{part}/{parts}"],
        )
        for part in range(1, parts + 1)
    ]
    return [*shares, replace(whole, needs=[share.name for share in shares])]


def last(words: list[str]) -> Job:
    """What comes after the runs: a program and its arguments."""
    program, *arguments = words
    return Job(name=" ".join(words), program=program, arguments=arguments, stage="last")


def _needs(row: str, configs: Mapping[str, RunConfig | None]) -> list[str]:
    """The rows that a row starts from; none where the settings cannot be read."""
    joint = configs[row]
    return parts_of(joint, [(other, c) for other, c in configs.items() if c]) if joint else []


def parts_of(joint: RunConfig, others: Iterable[tuple[str, RunConfig]]) -> list[str]:
    """Which of other runs, (name, settings), a run starts from: those that have trained its experts
    alone, by the rule of `i2m2.runs.part_of`."""
    if joint.init != "warm":
        return []
    same = ("dataset", "task", "seed")
    like = [
        (name, other.run_name)
        for name, other in others
        if all(getattr(other, key, None) == getattr(joint, key, None) for key in same)
    ]
    there = {run for _, run in like}
    choices = [part_names(to_dict(joint), expert) for expert in joint.experts]
    parts = {tagged if tagged in there else untagged for tagged, untagged in choices}
    return [name for name, run in like if run in parts]


def dataset(program: str, arguments: list[str]) -> DatasetSpec | None:
    """The data set that a training command is of; None for a program without `DATASETS`."""
    if not program or program.startswith("."):
        raise SettingsError(
            f"--train {program!r} is no module's name; give one such as AVMNIST_and_MIMIC.train"
        )
    try:
        datasets = getattr(import_module(program), "DATASETS", None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{program}.".startswith(f"{error.name}."):
            raise
        raise SettingsError(f"--train {program}: there is no such module") from None
    return datasets and dataset_of(datasets, arguments)


def settings_of(program: str, arguments: list[str]) -> RunConfig | None:
    """The settings of a training command. SettingsError if it cannot have them."""
    spec = dataset(program, arguments)
    return spec and load_config(spec.config, arguments, program)


def folders_of(config: RunConfig) -> Iterator[Path]:
    """The folders, one at most as a rule, that hold a run of these settings, finished or not."""
    pattern = f"{config.dataset}*/{config.run_name}/seed{config.seed}"
    for folder in sorted(Path(config.out).glob(pattern)):
        if not differing(folder, config):
            yield folder


def differing(folder: Path, config: RunConfig) -> dict[str, tuple[object, object]]:
    """{dotted name: (value there, value in `config`)} of the settings that a run was made with
    other values of; all if it has none that can be read."""
    stored = {}
    with suppress(DataError):
        stored = read_config(folder)
    ignored = with_role(type(config), "neutral", "location", "rounding")
    return config_diff(stored, to_dict(config), ignored)


def epochs_of(folder: Path) -> list[Epoch]:
    """The epochs that a run has finished."""
    with suppress(OSError, ValueError):
        lines = (folder / "metrics.jsonl").read_bytes()
        return msgspec.json.Decoder(Epoch).decode_lines(lines)
    return []


def hours_of(configs: Sequence[RunConfig]) -> float | None:
    """How long the runs of a job will take, by the median epoch of runs that differ from them in
    nothing but seed, tag and number of epochs; None where no such run has been timed."""
    if not configs:
        return None
    config = configs[0]
    folders = Path(config.out).glob(f"{config.dataset}*/*/seed*")
    like = [f for f in folders if differing(f, config).keys() <= {"seed", "tag", "optim.epochs"}]
    seconds = [record["seconds"] for folder in like for record in epochs_of(folder)]
    return len(configs) * median(seconds) * config.optim.epochs / 3600 if seconds else None


def show(jobs: Sequence[Job]) -> str:
    """The plan as a text: jobs, what they wait for, the hours of a run where they are known."""
    rows, known = [["job", "waits for", "hours"]], []
    for job in jobs:
        hours = None if job.finished else hours_of(job.configs)
        known += [hours] if hours else []
        needs = ", ".join(job.needs) if job.stage != "last" else "whatever comes before it"
        unknown = "finished" if job.finished else "?" if job.stage == "run" else ""
        rows.append([job.name, needs, f"{hours:.2g}" if hours else unknown])
    but = ", without those that are not known" * any(row[-1] == "?" for row in rows)
    timed = f"\n{_amount(sum(known))} one after the other{but}"
    return aligned(rows, others="left") + (timed if known else "")


def _amount(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} hours"
    minutes = round(60 * hours)
    return f"{minutes} min" if minutes else "under a minute"


def out_of(arguments: list[str]) -> Path:
    """The folder of all results that a command names."""
    return Path(read_words(arguments).get("--out") or "results")
