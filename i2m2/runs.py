"""Run folders as they are read back: `<results>/<dataset>/<name>/seed<k>` with config.yaml,
env.json, result.json, predictions_<split>.npz and DONE. `i2m2.training.run` writes them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from i2m2.errors import DamagedError, DataError, SettingsError
from i2m2.files import Plain
from i2m2.names import INTER, method_of
from i2m2.stats.predictions import Predictions, fault_of

UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile)  # what numpy raises
PREDICT_AGAIN = "delete it and predict again"


@contextmanager
def readable(path: Path, remedy: str, *unreadable: type[Exception]) -> Iterator[None]:
    """DamagedError, with what to do, where reading a file ends in one of these errors."""
    try:
        yield
    except unreadable as error:
        raise DamagedError(f"{path} is damaged ({error}); {remedy}") from error


@dataclass(frozen=True)
class RunRecord:
    """What is on record of one training."""

    dir: Path
    test: dict[str, float] | None  # metrics as fractions; None until it is finished
    config: Plain
    data: Plain  # what env.json says of the data; {} if nothing
    commit: str | None = None  # of the code that made it
    product_of: tuple[str, ...] = ()  # of a product of separately trained runs, their folders

    @property
    def name(self) -> str:
        return self.dir.parent.name

    @property
    def seed(self) -> int:
        return int(self.dir.name.removeprefix("seed"))


def seed_folders(run: Path) -> list[Path]:
    """The folders `seed<k>` of one run (`results/avmnist/intra`), by their number."""
    found = [path for path in run.glob("seed*") if re.fullmatch(r"seed\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed")))


def run_folders(results: Path) -> list[Path]:
    """The folders of the runs in one results folder (`results/avmnist`), by name and seed."""
    seeds = [path for run in sorted(results.glob("*")) for path in seed_folders(run)]
    return [path for path in seeds if path.is_dir()]


def collect(results: Path) -> list[RunRecord]:
    """Every run in one results folder, ordered by name and seed, the unfinished ones among them.
    DataError for a file that cannot be read, or a finished run without a result."""
    return [_read_run(path) for path in run_folders(results)]


def is_done(run: Path) -> bool:
    """Whether a run has finished: its file DONE is written last."""
    return (run / "DONE").exists()


def _read_run(path: Path) -> RunRecord:
    test, file = None, path / "result.json"
    if is_done(path):
        test = _read_mapping(file).get("test")
        if not isinstance(test, dict):
            lacks = "has no 'test' with a number per metric"
            what = lacks if file.exists() else "is missing although the run is marked DONE"
            raise DataError(f"{file}: {what}; delete {path} and run it again")
    env = read_environment(path)
    data, commit = env.get("data"), env.get("git_commit")
    return RunRecord(
        dir=path,
        test=test,
        config=read_config(path),
        data=data if isinstance(data, dict) else {},
        commit=None if commit is None else str(commit),
        product_of=tuple(env.get("product_of") or ()),
    )


def read_config(run: Path) -> Plain:
    """config.yaml of a run, every setting that was in force; {} where there is none."""
    return _read_mapping(run / "config.yaml")


def read_environment(run: Path) -> Plain:
    """env.json of a run: versions, device, commit, data; {} where there is none."""
    return _read_mapping(run / "env.json")


def read_facts(run: Path) -> Plain:
    """What a run recorded about its data. DataError if it is not there."""
    facts = read_environment(run).get("data")
    if not isinstance(facts, dict):
        raise DataError(
            f"{run}/env.json does not say what data the run had; delete that folder, run it again"
        )
    return facts


def _read_mapping(path: Path) -> Plain:
    """A JSON or YAML file of a run; {} where there is none. DataError if it holds no mapping."""
    remedy = f"delete {path.parent} and run it again"
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        return {}
    except (ValueError, yaml.YAMLError) as error:  # ValueError: not JSON, or not UTF-8
        raise DataError(f"{path}: cannot be read ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no mapping; {remedy}")
    return content


def part_of(results: Path, config: Plain, expert: str, seed: str) -> Path:
    """The folder of the run that trained an expert of a joint run alone: with its preset, tag and
    seed, else, where there is none of that tag, without one: an ablation of the joint training
    alone need not repeat its parts. `config`: of the joint run; `seed`: name of its folder."""
    fusion = config.get("fusion") if expert == INTER else None
    preset = config.get("preset", "paper")
    parts = [method_of(expert), fusion, preset if preset != "paper" else None]
    tagged, untagged = (
        results / "-".join(part for part in [*parts, tag] if part) / seed
        for tag in (config.get("tag"), None)
    )
    return tagged if tagged.exists() or not is_done(untagged) else untagged


def lookup(config: Plain, key: str) -> Any:
    """lookup({'optim': {'lr': 0.1}}, 'optim.lr') -> 0.1; None where there is no such key."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


class SavedPredictions(Mapping[str, np.ndarray]):
    """The columns of a predictions_<split>.npz, each read when it is first asked for, since some
    take gigabytes, and then kept. DamagedError for what cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, np.ndarray] = {}
        with readable(path, PREDICT_AGAIN, *UNREADABLE):  # it stays open: another may replace it
            self._file = np.load(path, allow_pickle=False)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            with readable(self.path, PREDICT_AGAIN, *UNREADABLE):
                self._columns[name] = self._file[name]
        return self._columns[name]

    def __contains__(self, name: object) -> bool:  # the one inherited would read the column
        return name in self._file.files

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)


def predictions_file(run: Path, split: str = "test") -> Path:
    """Where a run keeps its predictions on a split; the file need not exist."""
    return run / f"predictions_{split}.npz"


def read_predictions(run: Path, split: str) -> SavedPredictions | None:
    """Saved predictions of a run, None where there are none. DamagedError if unreadable."""
    path = predictions_file(run, split)
    return SavedPredictions(path) if path.exists() else None


def require_predictions(run: Path, split: str) -> Predictions:
    """Saved predictions of a finished run. SettingsError if it has none, DataError if faulty."""
    if (found := read_predictions(run, split)) is None:
        raise SettingsError(
            f"{run} has no predictions of the {split} split; give the folder of a finished run"
        )
    if fault := fault_of(found):
        file = predictions_file(run, split)
        raise DataError(f"{file}: {fault}; {PREDICT_AGAIN} (evaluate --again)")
    return found


def stamp(run: Path, split: str = "test") -> str | None:
    """Seed, size and time of a run's predictions; None where there are none."""
    path = predictions_file(run, split)
    if not path.exists():
        return None
    status = path.stat()
    return f"{run.name} {status.st_size} {status.st_mtime_ns}"
