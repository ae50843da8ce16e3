"""Run folders as they are read back: `<results>/<dataset>/<name>/seed<k>` with config.yaml,
env.json, result.json, predictions_<split>.npz and DONE. `i2m2.training.run` writes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from i2m2.errors import DamagedError, DataError, SettingsError, in_yaml
from i2m2.files import Plain
from i2m2.names import EXPERT, INTER, JOINT, PRODUCT, method_of, name_parts
from i2m2.reading.arrays import ArrayFile
from i2m2.reading.paths import damaged
from i2m2.reading.records import as_record, read_record
from i2m2.stats.predictions import Predictions, fault_of

Numbers = dict[str, float | None]  # metric -> its value, None where it is undefined


class StoredConfig(TypedDict, total=False):
    """config.yaml, as far as others than the run itself read it; it holds every setting."""

    dataset: str
    method: str
    fusion: str | None
    preset: str
    init: str
    tag: str | None
    task: str
    seed: int
    threads: int | None
    optim: Plain
    data: Plain
    model: Plain


class DataFacts(TypedDict, total=False):
    """What env.json says of the data; every data set adds its own."""

    variant: str
    synthetic: bool
    description: str
    fingerprint: str
    backbone: str
    baseline: Numbers


class Environment(TypedDict, total=False):
    """env.json: what a number depends on beside the settings."""

    python: str
    versions: dict[str, str]
    device: str
    git_commit: str | None
    command: str
    processes: list[int]
    batch_norm: str
    data: DataFacts | None
    warm_start: dict[str, str]
    product_of: list[str] | None


class Result(TypedDict):
    """result.json; there may be further splits."""

    test: Numbers
    val: NotRequired[Numbers]


@dataclass(frozen=True)
class RunRecord:
    """What is on record of one training."""

    dir: Path
    test: Numbers | None  # metrics as fractions; None until it is finished, or if it is left out
    config: Plain
    data: Plain  # what env.json says of the data; {} if nothing
    commit: str | None = None  # of the code that made it
    product_of: tuple[str, ...] = ()  # of a product of separately trained runs, their folders
    processes: tuple[int, ...] = ()  # that trained it; several numbers if it was resumed
    batch_norm: str = ""  # over what batch norm took its statistics, if not over whole updates
    fault: str = ""  # what is wrong with its files; it is in no table then
    copy_of: Path | None = None  # the folder of the same training that is counted in its place

    @property
    def name(self) -> str:
        return self.dir.parent.name

    @property
    def seed(self) -> int:
        """By its config.yaml: folders are copied and renamed."""
        return self.config.get("seed", int(self.dir.name.removeprefix("seed")))


def seed_folders(run: Path) -> list[Path]:
    """The folders `seed<k>` of one run (`results/avmnist/intra`), by their number."""
    found = filter(is_seed_folder, run.glob("seed*"))
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed")))


def is_seed_folder(path: Path) -> bool:
    """Whether its name is that of one seed's run, such as `seed0`."""
    return bool(re.fullmatch(r"seed\d+", path.name))


def by_seed(runs: Iterable[Path]) -> dict[str, Path]:
    """{`seed<k>`, by its config.yaml: the folder of that run}, copies not counted. DataError for a
    seed folder of other settings than its run is named by."""
    found: dict[str, Path] = {}
    for run in runs:
        config, name = read_config(run), run.resolve().name
        if is_seed_folder(run):
            _refuse_other_name(run.absolute(), config)
        name = f"seed{config['seed']}" if "seed" in config else name
        found[name] = run if run.name == name else found.get(name, run)
    return found


def run_folders(results: Path) -> list[Path]:
    """The folders of the runs in one results folder (`results/avmnist`), by name and seed."""
    seeds = [path for run in sorted(results.glob("*")) for path in seed_folders(run)]
    return [path for path in seeds if path.is_dir()]


def collect(results: Path) -> list[RunRecord]:
    """Every run in one results folder, ordered by name and seed, the unfinished ones among them.
    One whose files are damaged, or that is a copy of another, says so and has no `test`."""
    return _count_once([_read_run(path) for path in run_folders(results)])


def is_done(run: Path) -> bool:
    """Whether a run has finished: its file DONE is written last."""
    return (run / "DONE").exists()


def _read_run(path: Path) -> RunRecord:
    try:
        env, config = read_environment(path), read_config(path)
        test = read_result(path)["test"] if is_done(path) else None
        _refuse_other_name(path, config)
        _refuse_outdated(path, env.get("product_of") or ())
    except DataError as error:
        return RunRecord(dir=path, test=None, config={}, data={}, fault=str(error))
    return RunRecord(
        dir=path,
        test=test,
        config=config,
        data=env.get("data") or {},
        commit=env.get("git_commit"),
        product_of=tuple(env.get("product_of") or ()),
        processes=tuple(env.get("processes", ())),
        batch_norm=env.get("batch_norm", ""),
    )


def _refuse_other_name(path: Path, config: Plain) -> None:
    """DataError for a folder that was copied to, or renamed as, one of other settings."""
    name = path.parent.name
    if setting := _not_named(name, config):
        value = in_yaml(config.get(setting))
        raise DataError(
            f"{path}/config.yaml: {setting} is {value}, which is no run of {name}; "
            "move that folder back or delete it"
        )


def _not_named(name: str, config: Plain) -> str | None:
    """The first setting that a run's folder is not named by; None where it bears the run's name. A
    product may have any; of a config that lacks part of what makes a name, the method counts."""
    method = config.get("method", PRODUCT)
    if method == PRODUCT:
        return None
    if not {"fusion", "init", "tag"} <= config.keys():
        return None if f"{name}-".startswith(f"{method}-") else "method"
    fusion, init, tag = (config[setting] for setting in ("fusion", "init", "tag"))
    scratch = init == "scratch" and method in JOINT
    parts = name_parts(method, fusion, config.get("preset", "paper"), scratch, tag)
    if name == "-".join(parts.values()):
        return None
    rest = f"{name}-"
    for setting, part in parts.items():
        if not rest.startswith(f"{part}-"):
            return setting
        rest = rest.removeprefix(f"{part}-")
    return "init" if rest.startswith("scratch-") else "tag"


def _refuse_outdated(product: Path, parts: Iterable[str]) -> None:
    """DataError for a product of runs beside it whose predictions are others now. Of what has no
    predictions that can be read nothing is said."""
    with suppress(DamagedError):
        multiplied = read_predictions(product, "test") or {}
        for part in map(Path, parts):
            run = product.parents[1] / part.parent.name / part.name
            now = (read_predictions(run, "test") or {}).get("log_prob")
            then = multiplied.get(f"{EXPERT}{part}")
            if now is not None and then is not None and not np.array_equal(then, now):
                raise DataError(
                    f"{product}: not a product of {run} as that is now; give the `controls` "
                    "command of this data set again, or delete that product"
                )


def _count_once(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, of finished ones with the same name and seed only one with its `test`: that
    whose folder bears the seed, else the first."""
    counted: dict[tuple[str, int], RunRecord] = {}
    finished = [record for record in records if record.test is not None]
    for record in sorted(finished, key=lambda record: record.dir.name != f"seed{record.seed}"):
        counted.setdefault((record.name, record.seed), record)
    once = []
    for record in records:
        first = counted.get((record.name, record.seed), record)
        is_copy = record.test is not None and first is not record
        once.append(replace(record, test=None, copy_of=first.dir) if is_copy else record)
    return once


def read_result(run: Path) -> Result:
    """result.json of a finished run. DataError if it is missing or damaged."""
    remedy = f"the run is marked DONE; delete {run} and run it again"
    return read_record(run / "result.json", Result, remedy)


def read_config(run: Path) -> Plain:
    """config.yaml of a run, every setting that was in force; {} where there is none."""
    return _read_checked(run / "config.yaml", StoredConfig)


def read_environment(run: Path) -> Plain:
    """env.json of a run: versions, device, commit, data; {} where there is none."""
    return _read_checked(run / "env.json", Environment)


def read_facts(run: Path) -> Plain:
    """What a run recorded about its data. DataError if it is not there."""
    if facts := read_environment(run).get("data"):
        return facts
    raise DataError(
        f"{run}/env.json does not say what data the run had; delete that folder, run it again"
    )


def _read_checked(path: Path, kind: type[Mapping]) -> Plain:
    """A file of a run by its schema, with what is not in that; {} where there is none."""
    if not path.exists():
        return {}
    remedy = f"delete {path.parent} and run it again"
    content = read_record(path, Plain, remedy)
    as_record(path, content, kind, remedy)
    return content


def part_of(results: Path, config: Plain, expert: str, seed: str) -> Path:
    """The folder of the run that trained an expert of a joint run alone: with its preset, tag and
    seed, else, where there is none of that tag, without one: an ablation of the joint training
    alone need not repeat its parts. `config`: of the joint run; `seed`: name of its folder."""
    tagged, untagged = (results / name / seed for name in part_names(config, expert))
    return tagged if tagged.exists() or not is_done(untagged) else untagged


def part_names(config: Plain, expert: str) -> tuple[str, str]:
    """The names of the runs that may have trained an expert of a joint run alone: that of its tag,
    which goes first, and that without one."""
    fusion = config.get("fusion") if expert == INTER else None
    preset = config.get("preset", "paper")
    tagged, untagged = (
        "-".join(name_parts(method_of(expert), fusion, preset, scratch=False, tag=tag).values())
        for tag in (config.get("tag"), None)
    )
    return tagged, untagged


def lookup(config: Plain, key: str) -> Any:
    """lookup({'optim': {'lr': 0.1}}, 'optim.lr') -> 0.1; None where there is no such key."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def predictions_file(run: Path, split: str = "test") -> Path:
    """Where a run keeps its predictions on a split; the file need not exist."""
    return run / f"predictions_{split}.npz"


def read_predictions(run: Path, split: str) -> ArrayFile | None:
    """Saved predictions of a run, None where there are none. DamagedError if unreadable."""
    path = predictions_file(run, split)
    remedy = f"predict again by {evaluate_command(run, split)}"
    return ArrayFile(path, remedy) if path.exists() else None


def evaluate_command(run: Path, split: str) -> str:
    """The command that predicts from a run's weights, or makes a product, as its env.json tells; in
    general words where it does not."""
    command = ""
    with suppress(DataError):
        command = read_environment(run).get("command", "")
    if ".controls" in command:
        return command
    if made := re.search(r"-m (\S+)\.train\b", command):
        words = ["python", "-m", f"{made[1]}.evaluate", str(run), "--split", split, "--again"]
        return shlex.join(words)
    return "the evaluate command of its data set with --again"


def require_predictions(run: Path, split: str) -> Predictions:
    """Saved predictions of a finished run. SettingsError if it has none, DataError if faulty."""
    if (found := read_predictions(run, split)) is None:
        finished = f"make them by {evaluate_command(run, split)}"
        what = finished if is_done(run) else "give the folder of a finished run"
        raise SettingsError(f"{run} has no predictions of the {split} split; {what}")
    if fault := fault_of(found):
        file = predictions_file(run, split)
        raise DataError(f"{file}: {fault}; predict again by {evaluate_command(run, split)}")
    return found


@contextmanager
def usual_columns(run: Path, split: str) -> Iterator[None]:
    """DamagedError where using a run's predictions shows that a column is missing or of another
    form: of a data set's own columns nobody else knows what they must be."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        what = f"column {error}" if isinstance(error, KeyError) else error
        file = predictions_file(run, split)
        remedy = f"predict again by {evaluate_command(run, split)}"
        raise damaged(file, f"no usual columns: {what}", remedy) from error


def stamp(run: Path, split: str = "test") -> str | None:
    """Seed, size and time of a run's predictions; None where there are none."""
    path = predictions_file(run, split)
    if not path.exists():
        return None
    status = path.stat()
    return f"{run.name} {status.st_size} {status.st_mtime_ns}"
