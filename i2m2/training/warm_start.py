"""Warm start: a joint model begins with the experts that were trained alone with the same seed
(paper, section 5, Table 5)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from i2m2.errors import SettingsError
from i2m2.names import INTER
from i2m2.runs import is_done, part_of, read_config
from i2m2.settings import (
    WITHOUT_INFLUENCE,
    RunConfig,
    config_diff,
    settings_of,
    to_dict,
    with_role,
)
from i2m2.training.run import Run, shown


def warm_start(model: nn.Module, run: Run, command: str) -> dict[str, str]:
    """Load every expert's weights from the finished run that trained it alone -> {expert: that
    run's folder}.

    `command`: of training without method and fusion; the error that names missing parts adds those
    of each.
    """
    config, sources = run.config, source_runs(run.config, run.dir)
    if missing := [name for name, path in sources.items() if not is_done(path)]:
        folders = ", ".join(str(sources[name]) for name in missing)
        commands = " && ".join(f"{command} {arguments_of(config, name)}" for name in missing)
        raise SettingsError(
            f"--init warm needs the finished runs {folders}; make them with: {commands}; "
            "or add --init scratch"
        )
    state = model.state_dict()
    own = {key: value for key, value in state.items() if not key.startswith("experts.")}
    shared = {}
    for name, path in sources.items():
        source = Run(path, config)
        source.refuse_other_data(run.facts)
        _refuse_other_parts(config, path)
        weights = source.load_best()
        prefix = f"experts.{name}."
        of_expert = {k: v for k, v in weights.items() if k.startswith(prefix)}
        of_expert = {k.removeprefix(prefix): v for k, v in of_expert.items()}
        model.experts[name].load_state_dict(of_expert)
        # What the experts share, a backbone say, comes from the run that changed it; of several,
        # from the last: the fused one.
        changed = {k: v for k, v in weights.items() if k in own and not torch.equal(v, own[k])}
        shared |= changed
    if shared:
        model.load_state_dict(shared, strict=False)
    return {name: str(path) for name, path in sources.items()}


def source_runs(config: RunConfig, directory: Path) -> Mapping[str, Path]:
    """{expert: folder of the run that trains it alone}, with the joint run's preset, tag and
    seed."""
    results, seed = directory.parent.parent, directory.name
    values = to_dict(config)
    return {name: part_of(results, values, name, seed) for name in config.experts}


def arguments_of(config: RunConfig, expert: str) -> str:
    """Arguments that train one expert alone: `--method inter --fusion concat`."""
    method = INTER if expert == INTER else f"unimodal_{expert}"
    fusion = ["--fusion", config.fusion] if expert == INTER and config.fusion else []
    return shlex.join(["--method", method, *fusion])


def _refuse_other_parts(config: RunConfig, source: Path) -> None:
    """A part that saw other examples, or has another architecture, would make the joint run's
    numbers mean something else: every group of settings but the optimiser's has to be alike."""
    cls = type(config)
    stored = read_config(source)
    ignored = with_role(cls, *WITHOUT_INFLUENCE)
    ignored |= {name for name in settings_of(cls) if "." not in name or name.startswith("optim.")}
    differing = config_diff(stored, to_dict(config), ignored)
    differing = {key: values for key, values in differing.items() if "." in key}
    if differing:
        raise SettingsError(
            f"--init warm: {source} was trained with other settings: {shown(differing)}; "
            "train it with these, under the same --tag"
        )
