"""What is on record of finished and unfinished runs: settings, result, environment, read back from
their folders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from i2m2.errors import DataError


@dataclass(frozen=True)
class Record:
    """A training in `<results>/<dataset>/<name>/seed<k>`; `test` holds its metrics (fractions),
    None until it is finished."""

    dir: Path
    test: dict[str, float] | None
    config: dict[str, Any]
    data: dict[str, Any]  # what env.json says of the data; {} if nothing
    commit: str | None = None  # of the code that made it
    product_of: tuple[str, ...] = ()  # of a product of separately trained runs, their folders

    @property
    def name(self) -> str:
        return self.dir.parent.name

    @property
    def seed(self) -> int:
        return int(self.dir.name.removeprefix("seed"))


def run_folders(folder: Path) -> list[Path]:
    """The folders of the runs in one results folder (`results/avmnist`)."""
    return [
        path
        for path in folder.glob("*/seed*")
        if path.is_dir() and re.fullmatch(r"seed\d+", path.name)
    ]


def collect(folder: Path) -> list[Record]:
    """Every run in one results folder, ordered by name and seed, the unfinished ones among them."""
    return sorted(map(read_run, run_folders(folder)), key=lambda run: (run.name, run.seed))


def read_run(path: Path) -> Record:
    """The run in the folder `path`. A finished one must have a readable result; config and
    environment may be absent."""
    test = None
    if (path / "DONE").exists():
        test = read_mapping(path / "result.json").get("test")
        if not isinstance(test, dict):
            raise DataError(
                f"{path / 'result.json'}: has no 'test' with a number per metric; delete {path} and run it again"
            )
    config, env = (
        read_mapping(path / name) if (path / name).exists() else {}
        for name in ("config.yaml", "env.json")
    )
    data, commit, members = env.get("data"), env.get("git_commit"), env.get("product_of") or ()
    return Record(
        path,
        test,
        config,
        data if isinstance(data, dict) else {},
        None if commit is None else str(commit),
        tuple(members),
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON or YAML file whose content is a mapping; DataError otherwise."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing although the run is marked DONE; delete {path.parent} and run it again"
        ) from error
    except (ValueError, yaml.YAMLError) as error:  # ValueError: not JSON, or not UTF-8
        raise DataError(
            f"{path}: cannot be read ({error}); delete {path.parent} and run it again"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no mapping; delete {path.parent} and run it again")
    return content


def lookup(config: dict[str, Any], key: str) -> Any:
    """lookup({'optim': {'lr': 0.1}}, 'optim.lr') -> 0.1; None where there is no such key."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
