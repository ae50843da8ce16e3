"""What every data set's `train` and `evaluate` commands do before torch is needed."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from i2m2.errors import CommandParser, SettingsError
from i2m2.names import PRODUCT
from i2m2.runs import read_config, read_environment
from i2m2.settings import RunConfig
from i2m2.training.config import load_config, named_in, read_words, read_yaml, shell_command

if TYPE_CHECKING:
    from i2m2.stats.predictions import Predictions
    from i2m2.training.experiment import Experiment
    from i2m2.training.run import Run


class DatasetSpec(NamedTuple):
    """A data set: its settings, which need no torch, and the module that holds everything else."""

    config: type[RunConfig]
    module: str  # its EXPERIMENT is an `i2m2.training.experiment.Experiment`

    def experiment(self) -> Experiment:
        return import_module(self.module).EXPERIMENT


Datasets = Mapping[str, DatasetSpec]  # by the name that settings give in `dataset`, the usual first


def dataset_of(datasets: Datasets, argv: list[str]) -> DatasetSpec:
    """The data set that a command line or its --config file names, else the first one."""
    words = read_words(argv)
    first = next(iter(datasets))
    in_file = read_yaml(words["--config"]).get("dataset", first) if words.get("--config") else first
    name = words.get("--dataset") or ("null" if in_file is None else str(in_file))
    if name not in datasets:
        choices = ", ".join(datasets)
        with named_in(words.get("--config"), words):
            raise SettingsError(f"dataset={name!r} is unknown here; choose one of {choices}")
    return datasets[name]


def load_settings(
    datasets: Datasets, argv: list[str], program: str, purpose: str
) -> tuple[DatasetSpec, RunConfig]:
    """The data set and the settings of a command line; `purpose` says what it does, for --help."""
    first, *others = datasets
    shown = f"Without --dataset or --config the settings shown are those of {first}"
    purpose += f" {shown}; there are also: {', '.join(others)}." if others else ""
    spec = dataset_of(datasets, argv)
    return spec, load_config(spec.config, argv, program, purpose)


def train(datasets: Datasets, argv: list[str] | None, program: str) -> None:
    """Make the run that the command line describes, or resume it; never redo a finished one."""
    argv = sys.argv[1:] if argv is None else argv
    argv, seeds = split_seeds(argv)
    purpose = (
        "Train one method with one seed, or resume such a run; with several: --seeds 0..4, or "
        "--seeds 0 1 2."
    )
    spec, config = load_settings(datasets, argv, program, purpose)
    # Without what makes it a joint run: a warm start adds what makes one of its parts.
    command = shell_command(argv, program, without=("--method", "--fusion", "--init"))
    if seeds is None:
        from i2m2.training.experiment import train_run

        return train_run(spec.experiment(), config, command)
    from i2m2.training.seeds import train_seeds

    command += f" --seeds {' '.join(map(str, seeds))}"
    train_seeds(spec.experiment(), [replace(config, seed=seed) for seed in seeds], command)


def seeds_at_once(datasets: Datasets, argv: list[str]) -> bool:
    """Whether `--seeds` in place of one `--seed` after the other makes this training command's runs
    faster; no torch."""
    return load_settings(datasets, argv, "", "")[1].seeds_at_once


def split_seeds(argv: Sequence[str]) -> tuple[list[str], list[int] | None]:
    """A command line without `--seeds 0..4` (or `0 1 2`, `0,1,2`), and these seeds, each once; None
    where it has none. SettingsError for what are no seeds."""
    before = list(takewhile(lambda word: word.partition("=")[0] != "--seeds", argv))
    if len(before) == len(argv):
        return before, None
    first, *others = argv[len(before) :]
    values = list(takewhile(lambda word: not word.startswith("--"), others))
    rest = [*before, *others[len(values) :]]
    given = [first.partition("=")[2], *values]
    if any(word.partition("=")[0] in ("--seed", "--seeds") for word in rest):
        raise SettingsError("--seeds stands beside --seed, or twice; give one of them, once")
    return rest, seeds_of(" ".join(given), "--seeds")


def seeds_of(text: str, name: str) -> list[int]:
    """`0..4`, `0 1 2` or `0,1,2` -> these seeds, each once. SettingsError, under this name of the
    setting, for what are no seeds."""
    seeds: list[int] = []
    for word in text.replace(",", " ").split():
        match = re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise SettingsError(f"{name}: {word!r} is no seed; give 0..4, or 0 1 2")
        if last - first >= 1000:
            raise SettingsError(f"{name}: {word} is {last - first + 1:,}; give at most 1,000")
        seeds += range(first, last + 1)
    if not seeds:
        raise SettingsError(f"{name} names no seed; give 0..4, or 0 1 2")
    return list(dict.fromkeys(seeds))


def evaluate(
    datasets: Datasets,
    argv: list[str] | None,
    program: str,
    example: str,
    options: Callable[[CommandParser], object] = lambda parser: None,
    overrides: Callable[[Namespace, RunConfig], list[str]] = lambda args, config: [],
) -> tuple[Run, Predictions, Namespace]:
    """Print the scores of a run from its saved predictions, or from its weights where there are
    none -> run, predictions, arguments.

    `options` adds a data set's own to the command line, `overrides` says which settings they are:
    where there are any, saved predictions are of others, and new ones are made.
    """
    purpose = "Score a run: the product and each of its experts."
    parser = CommandParser(prog=f"python -m {program}", description=purpose, allow_abbrev=False)
    parser.add_argument("run", type=Path, help=f"folder of the run, such as {example}")
    split = "split whose predictions are scored (default: test)"
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help=split)
    way = "mixture: the experts' mean probability instead of their product"
    parser.add_argument("--combine", choices=("product", "mixture"), default="product", help=way)
    add_run_options(parser)
    again = "predict again from the weights instead of scoring saved predictions"
    parser.add_argument("--again", action="store_true", help=again)
    options(parser)
    args = parser.parse_args(argv)
    _refuse_product(args.run)
    spec, config = config_of_run(datasets, args.run, args, example=example)
    if changed := overrides(args, config):
        spec, config = config_of_run(datasets, args.run, args, changed, example)
    from i2m2.training.experiment import Run, evaluate_run

    run, again = Run(args.run, config), args.again or bool(changed)
    predictions = evaluate_run(spec.experiment(), run, args.split, args.combine, again)
    return run, predictions, args


def _refuse_product(run: Path) -> None:
    """SettingsError for a folder that a `controls` command made, with what scores it."""
    if read_config(run).get("method") == PRODUCT:
        parts = read_environment(run).get("product_of", ["RUN", "RUN"])
        command = shlex.join(["python", "-m", "i2m2.combine", *parts])
        raise SettingsError(
            f"{run} is a product of other runs and has no model of its own; score it by: {command}"
        )


def add_run_options(parser: CommandParser) -> None:
    """Add what may differ from a run's settings: where its data lie, the device."""
    folder = "folder of the data, if not where the run found them"
    parser.add_argument("--data.dir", dest="data_dir", metavar="DIR", help=folder)
    device = "where the model runs (default: auto, a GPU where there is one)"
    devices = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--device", choices=devices, default="auto", help=device)


def config_of_run(
    datasets: Datasets,
    run: Path,
    args: Namespace,
    overrides: Sequence[str] = (),
    example: str = "results/avmnist/intra/seed0",
) -> tuple[DatasetSpec, RunConfig]:
    """The data set and the settings of a run, with the options of `add_run_options`."""
    path = run / "config.yaml"
    if not path.exists():
        raise SettingsError(f"{run} has no config.yaml; give a run's folder such as {example}")
    stored = ["--config", str(path)]
    here = ["--device", args.device, "--tracker", "null", *overrides]
    if args.data_dir:
        here += ["--data.dir", args.data_dir]
    spec = dataset_of(datasets, stored)
    return spec, load_config(spec.config, [*stored, *here])
