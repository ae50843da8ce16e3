"""Warm start: a joint model begins with the experts that were trained alone with the same seed
(paper section 5, Table 5)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import nn

from i2m2.errors import SettingsError
from i2m2.model import INTER
from i2m2.training.config import RunConfig, flatten, to_dict
from i2m2.training.run import WITHOUT_INFLUENCE, Run


def warm_start(model: nn.Module, run: Run, command: str) -> dict[str, str]:
    """Load every expert's weights from the finished run that trained it alone -> {expert: that
    run's folder}.

    `command` is the one that trains a source, for the error that names the missing ones.
    """
    config, sources = run.config, source_runs(run.config, run.dir)
    missing = [name for name, path in sources.items() if not (path / "DONE").exists()]
    if missing:
        commands = " && ".join(f"{command} {arguments_of(config, name)}" for name in missing)
        raise SettingsError(
            f"--init warm needs the finished runs {', '.join(str(sources[name]) for name in missing)}; "
            f"make them with: {commands}; or add --init scratch"
        )
    own = {
        key: value for key, value in model.state_dict().items() if not key.startswith("experts.")
    }
    shared = {}
    for name, path in sources.items():
        source = Run(path, config)
        source.refuse_other_data(run.facts)
        _refuse_other_parts(config, path)
        weights = source.load_best()
        prefix = f"experts.{name}."
        model.experts[name].load_state_dict(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        # What the experts share, a backbone say, comes from the run that changed it; of several,
        # from the last: the fused one.
        shared |= {
            key: value
            for key, value in weights.items()
            if key in own and not torch.equal(value, own[key])
        }
    if shared:
        model.load_state_dict(shared, strict=False)
    return {name: str(path) for name, path in sources.items()}


def source_runs(config: RunConfig, directory: Path) -> Mapping[str, Path]:
    """{expert: folder of the run that trains it alone}, with the joint run's preset, tag and seed.

    Where there is no run of that tag, the untagged one: an ablation of the joint training alone
    need not repeat its parts.
    """
    sources = {}
    for name in config.experts:
        alone = _alone(config, name)
        tagged, untagged = (
            directory.parent.parent / c.run_name / directory.name
            for c in (alone, replace(alone, tag=None))
        )
        sources[name] = tagged if tagged.exists() or not (untagged / "DONE").exists() else untagged
    return sources


def arguments_of(config: RunConfig, expert: str) -> str:
    """Arguments that train one expert alone: `--method inter --fusion concat`."""
    alone = _alone(config, expert)
    return shlex.join(
        ["--method", alone.method, *(["--fusion", alone.fusion] if alone.fusion else [])]
    )


def training_command(program: str, argv: list[str]) -> str:
    """The command line at hand without what makes it a joint run: with `arguments_of` an expert it
    trains that expert."""
    kept = []
    words = iter(argv)
    for word in words:
        if word in ("--method", "--fusion", "--init"):
            next(words, None)
        elif word.partition("=")[0] not in ("--method", "--fusion", "--init"):
            kept.append(word)
    return f"python -m {program} {shlex.join(kept)}"


def _alone(config: RunConfig, expert: str) -> RunConfig:
    method = INTER if expert == INTER else f"unimodal_{expert}"
    return replace(
        config, method=method, fusion=config.fusion if expert == INTER else None, init="warm"
    )


def _refuse_other_parts(config: RunConfig, source: Path) -> None:
    """A part that saw other examples, or has another architecture, would make the joint run's
    numbers mean something else."""
    there = flatten(yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8")))
    now = flatten(to_dict(config))
    compared = {
        key for key in {*there, *now} if key.startswith(("data.", "model.", "backbone."))
    } - WITHOUT_INFLUENCE
    differing = [key for key in sorted(compared) if there.get(key) != now.get(key)]
    if differing:
        keys = ", ".join(f"{key} ({there.get(key)} there, {now.get(key)} now)" for key in differing)
        raise SettingsError(
            f"--init warm: {source} was trained with other settings: {keys}; train it with these, under the same --tag"
        )
