"""Warm start: a joint model begins with experts trained alone (paper, section 5, Table 5)."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from torch import nn

from i2m2.errors import DataError, SettingsError, there_and_now
from i2m2.files import Plain
from i2m2.names import INTER, method_of
from i2m2.runs import by_seed, is_done, part_of, read_config
from i2m2.settings import RunConfig, settings_of, to_dict, with_role
from i2m2.training.run import Run, differences, give


def refuse_start(folder: Path, config: RunConfig, facts: Plain, command: str) -> None:
    """The errors of `warm_start` for a run of these settings, as far as its parts show them without
    their weights, if it is to begin: before it has a folder, which would be taken for a run's."""
    run = Run(folder, config)
    if config.init == "warm" and not (run.started or run.done):
        _sources_of(run, facts, command)


def warm_start(model: nn.Module, run: Run, command: str) -> dict[str, str]:
    """Load every expert's weights from the finished run that trained it alone -> {expert: folder of
    that run}. `command` trains the joint model; the one that makes a missing part begins so."""
    sources = _sources_of(run, run.facts, command)
    outside = {k: v for k, v in model.state_dict().items() if not k.startswith("experts.")}
    changed: dict[Path, Plain] = {}
    for name, path in sources.items():
        weights = Run(path, run.config).load_best()
        prefix = f"experts.{name}."
        expert = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        file = path / "best.safetensors"
        give(model.experts[name], expert, file, f"expert {name}")
        # What the experts have in common, a backbone say, comes from the run that changed it; if
        # several did, from the last: the fused one.
        common = {k: v for k, v in weights.items() if k in outside}
        changed[file] = {k: v for k, v in common.items() if not torch.equal(v, outside[k])}
    for file, weights in changed.items():
        if weights:
            give(model, model.state_dict() | weights, file)
    return {name: str(path) for name, path in sources.items()}


def _sources_of(run: Run, facts: Plain, command: str) -> dict[str, Path]:
    """{expert: folder of the run that trains it alone}, for data with these facts. SettingsError or
    DataError for one that cannot be begun from."""
    sources = _finished_parts(run, command)
    for name, path in sources.items():
        _refuse_copied(path)
        _refuse_unlike(path, run, facts, name)
    return sources


def _finished_parts(run: Run, command: str) -> dict[str, Path]:
    """{expert: folder of the run that trains it alone}. SettingsError if one is not finished."""
    config, values = run.config, to_dict(run.config)
    results, seed = run.dir.parents[1], run.dir.name
    sources = {name: part_of(results, values, name, seed) for name in config.experts}
    if missing := [name for name, path in sources.items() if not is_done(path)]:
        commands = []
        for name in missing:
            fusion = ["--fusion", config.fusion] if name == INTER and config.fusion else []
            commands.append(f"{command} {shlex.join(['--method', method_of(name), *fusion])}")
        raise SettingsError(
            f"--init warm needs the finished runs {', '.join(str(sources[m]) for m in missing)}; "
            f"make them with: {' && '.join(commands)}; or add --init scratch"
        )
    return sources


def _refuse_unlike(source: Path, run: Run, facts: Plain, expert: str) -> None:
    """DataError if a part saw other examples, SettingsError if any of the data set's own settings
    differs in what the expert uses: the joint run's numbers would mean something else."""
    remedy = (
        "restore them, delete that folder and train it again, or train it and this run on these "
        "data under the same new --tag"
    )
    Run(source, run.config).refuse_other_data(facts, remedy)
    beside_groups = settings_of(RunConfig).keys() | with_role(type(run.config), "identity")
    differing = {
        key: values
        for key, values in differences(read_config(source), run.config, (expert,)).items()
        if ("." in key or key not in beside_groups) and not key.startswith("optim.")
    }
    if differing:
        raise SettingsError(
            f"--init warm: {source} was trained with other settings: {there_and_now(differing)}; "
            "train it with these, under the same --tag"
        )


def _refuse_copied(source: Path) -> None:
    """DataError where a part's folder is by its config.yaml that of another run, or seed."""
    (seed,) = by_seed([source])
    if seed != source.name:
        raise DataError(
            f"--init warm: {source} holds {seed}, as its config.yaml says; "
            "move that folder back or delete it"
        )
