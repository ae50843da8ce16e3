"""Settings: frozen dataclasses, a YAML file, dotted overrides. Unknown keys and wrong types fail
before any data is read."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from i2m2.errors import SettingsError
from i2m2.fusion import FUSION_ALIASES
from i2m2.metrics import METRICS
from i2m2.model import INTER, METHOD_ALIASES, experts_of


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How a model is trained.

    Args:
        name: optimiser
        lr: learning rate, the peak one under a schedule
        weight_decay: L2 penalty (adamw: decoupled)
        momentum: of sgd and rmsprop
        epochs: passes over the training split
        batch_size: examples per update, over all devices and micro-batches
        micro_batches: parts into which a device splits its share of an update (gradient
            accumulation)
        clip_norm: largest global L2 norm of the gradient; null: no clipping
        schedule: of the learning rate, per update: constant, or after the warm-up down to 0 along a
            line or a cosine
        warmup: share of all updates over which the rate rises from 0
        select: metric on the validation split that picks the best epoch
        patience: training ends once this many epochs in a row brought no improvement; null: never
    """

    name: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    lr: float = 0.05
    weight_decay: float = 0.0
    momentum: float = 0.0
    epochs: int = 25
    batch_size: int = 40
    micro_batches: int = 1
    clip_norm: float | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    select: str = "accuracy"
    patience: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every data set's settings share; a data set adds `data` and `model`, and says which
    modalities it has.

    Args:
        dataset: name of the data set
        method: unimodal_<modality>, intra, inter or i2m2
        fusion: of the inter-modality expert
        seed: of the initialisation and the order of the examples, nothing else
        preset: named group of settings of the YAML file
        init: how joint models start: warm from the finished runs of their parts with the same seed,
            or from scratch
        tag: sets a run apart from others of its method; part of its folder's name
        out: folder of all results
        device: auto takes a GPU where there is one
        precision: mixed precision, or no
        compile: use torch.compile
        threads: CPU threads; null: those a broken-off run began with, else PyTorch's choice
            (OMP_NUM_THREADS)
        workers: processes that load data
        tracker: a further log for TensorBoard or Weights & Biases, beside metrics.jsonl
        optim: how a model is trained
    """

    modalities: ClassVar[tuple[str, ...]] = ()
    baselines: ClassVar[tuple[str, ...]] = ()  # modalities that only have a unimodal row
    from_zero: ClassVar[frozenset[str]] = frozenset(
        {"seed", "workers"}
    )  # whole numbers that may be 0
    metrics: ClassVar[tuple[str, ...]] = tuple(METRICS)  # that `optim.select` may name
    unused_parameters: ClassVar[bool] = (
        False  # a step may leave some of the trained parameters without a gradient
    )

    dataset: str
    method: str
    fusion: Literal["concat", "low_rank_tensor", "tensor", "gated"] | None = "concat"
    seed: int = 0
    preset: str = "paper"
    init: Literal["warm", "scratch"] = "warm"
    tag: str | None = None
    out: str = "results"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["no", "fp16", "bf16"] = "no"
    compile: bool = False
    threads: int | None = None
    workers: int = 0
    tracker: Literal["tensorboard", "wandb"] | None = None
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts of the method: modalities and `inter`."""
        return experts_of(self.method, self.modalities, self.baselines)

    @property
    def step_size(self) -> int:
        """Examples of one forward pass over all devices, in training and so in evaluation: it fits
        wherever training does."""
        return -(-self.optim.batch_size // self.optim.micro_batches)

    @property
    def run_name(self) -> str:
        """`<method>[-<fusion>][-<preset>][-scratch][-<tag>]`; the preset `paper` and a warm start
        are not named."""
        tags = [self.fusion, self.preset if self.preset != "paper" else None, self.tag]
        tags.insert(2, "scratch" if self.init == "scratch" and len(self.experts) > 1 else None)
        return "-".join([self.method, *filter(None, tags)])


ABOVE_ZERO = {"optim.lr", "optim.clip_norm"}


def load_config(cls: type[RunConfig], argv: list[str] | None, prog: str) -> RunConfig:
    """Settings from `--config FILE` and dotted overrides in `argv`. SettingsError on anything
    unknown or of the wrong type.

    Later ones win: the dataclasses' defaults, the file, its `per_task` and `per_method` parts, its
    preset, that preset's `per_task` and `per_method` parts, argv. A part may be for one task or
    method (`icd9_1`, `unimodal_image`) or a kind (`icd9`, `unimodal`).
    """
    argv = [_expand_alias(word) for word in (sys.argv[1:] if argv is None else argv)]
    print_config = "--print_config" in argv
    argv = [word for word in argv if word != "--print_config"]
    about = f"{cls.__doc__.splitlines()[0]} Add --print_config to see what is in force without running anything."
    parser = ArgumentParser(
        prog=f"python -m {prog}", description=about, exit_on_error=False, default_env=False
    )
    parser.add_argument(
        "--config",
        type=str,
        metavar="FILE",
        help="YAML file of settings, or config.yaml of a run to repeat it",
    )
    parser.add_class_arguments(cls)
    known = set(_type_hints(cls))
    if (path := _option(argv, "--config")) is not None:
        flat = _read_settings(path, argv, known)
        _parse(cls, parser.parse_object, nest(flat), where=path)
        parser.set_defaults(flat)
    given = [word[2:].split("=")[0] for word in argv if word.startswith("--") and word != "--help"]
    _refuse_unknown(given, {*known, "config"}, "command line")
    settings = _parse(cls, parser.parse_args, argv, where="command line")
    settings.pop("config")
    settings.method = METHOD_ALIASES.get(settings.method, settings.method)
    experts = experts_of(settings.method, cls.modalities, cls.baselines)
    settings.fusion = settings.fusion if INTER in experts else None
    settings.init = settings.init if len(experts) > 1 else "scratch"
    config = cls(**vars(parser.instantiate(settings)))
    _check(config)
    if print_config:
        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        sys.exit(0)
    return config


def peek(name: str, argv: list[str]) -> str | None:
    """A setting of the command line, else of its --config file, before it is known which dataclass
    describes the settings."""
    path = _option(argv, "--config")
    given = _option(argv, f"--{name}") or (_read_yaml(Path(path)).get(name) if path else None)
    return None if given is None else str(given)


def _read_settings(path: str, argv: list[str], known: set[str]) -> dict[str, Any]:
    """Dotted settings of a YAML file for the preset and the method that `argv` or the file names."""
    values = _read_yaml(Path(path))
    method, task = (
        str(_option(argv, f"--{name}") or values.get(name)) for name in ("method", "task")
    )
    preset = str(_option(argv, "--preset") or values.get("preset", "paper"))
    flat = merge_preset(
        values, path, preset, {"per_task": task, "per_method": METHOD_ALIASES.get(method, method)}
    )
    for group in [
        name for name in flat if any(setting.startswith(f"{name}.") for setting in known)
    ]:
        _mapping(flat[group], f"{path}: {group}")
    _refuse_unknown(flat, known, path)
    return flat


def _check(config: RunConfig) -> None:
    """Ranges that types cannot say. No setting is negative; whole numbers are at least 1, but for
    the few that count from 0."""
    for name, value in flatten(to_dict(config)).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        least = 1 if isinstance(value, int) and name not in config.from_zero else 0
        if not least <= value < math.inf or (name in ABOVE_ZERO and value == 0):
            raise SettingsError(
                f"{name}={value} must be {'above 0' if name in ABOVE_ZERO else f'at least {least}'}"
            )
    for name in ("warmup", "momentum"):
        if (value := getattr(config.optim, name)) >= 1:
            raise SettingsError(f"optim.{name}={value} must be below 1")
    if config.optim.select not in config.metrics:
        raise SettingsError(
            f"optim.select={config.optim.select!r} is not a metric; choose one of {', '.join(config.metrics)}"
        )
    for name in ("dataset", "tag", "preset"):
        if (value := getattr(config, name)) and not re.fullmatch(
            r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value
        ):
            raise SettingsError(
                f"{name}={value!r} becomes part of a folder's name: use letters, digits, '.', '-' and '_'"
            )


def to_dict(config: Any) -> dict[str, Any]:
    """A settings dataclass as nested plain values, in the order of its fields, for YAML."""
    if is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in fields(config)}
    return (
        dict(config)
        if isinstance(config, Mapping)
        else list(config)
        if isinstance(config, tuple)
        else config
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'optim': {'lr': 1}} -> {'optim.lr': 1}."""
    flat = {}
    for key, value in values.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{'optim.lr': 1} -> {'optim': {'lr': 1}}."""
    nested = Namespace()
    for key, value in flat.items():
        nested[key] = value
    return nested.as_dict()


def _type_hints(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> type of every setting of a dataclass."""
    hints = {}
    for f, hint in ((f, get_type_hints(cls)[f.name]) for f in fields(cls)):
        hints |= (
            _type_hints(hint, f"{prefix}{f.name}.")
            if is_dataclass(hint)
            else {f"{prefix}{f.name}": hint}
        )
    return hints


def merge_preset(
    values: dict[str, Any], path: str, preset: str, parts: Mapping[str, str]
) -> dict[str, Any]:
    """Content of a config file -> dotted settings. SettingsError for a preset that is not there;
    `path` is for messages.

    `presets`, and `per_method` and the like (`parts`: their names and what to choose in them), are
    resolved, and go from `values`.
    """
    own = values.get(
        "preset", "paper"
    )  # a run's config.yaml is resolved already, and says which preset it was
    presets = _mapping(values.pop("presets", {}), f"{path}: presets")
    choices = list(dict.fromkeys([own, "paper", *presets]))
    if preset not in choices:
        raise SettingsError(
            f"preset={preset!r} is unknown in {path}; choose one of {', '.join(choices)}"
        )
    named = f"{path}: presets.{preset}"
    merged: dict[str, Any] = {}
    for where, group in ((path, values), (named, _mapping(presets.get(preset, {}), named))):
        chosen = []
        for name, choice in parts.items():
            choices = _mapping(group.pop(name, {}), f"{where}: {name}")
            keys = dict.fromkeys((choice.partition("_")[0], choice))  # the kind, then the one
            chosen += [_mapping(choices.get(key, {}), f"{where}: {name}.{key}") for key in keys]
        for part in (group, *chosen):
            merged |= flatten(part)
    return merged | {"preset": preset}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{where} must hold settings as `key: value` lines, not {value!r}")
    return value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    values = _mapping(values, str(path))
    for name, aliases in {"method": METHOD_ALIASES, "fusion": FUSION_ALIASES}.items():
        if isinstance(values.get(name), str):
            values[name] = aliases.get(values[name], values[name])
    return values


def _refuse_unknown(names: Any, known: set[str], where: str) -> None:
    for name in names:
        if name not in known and not any(k.startswith(f"{name}.") for k in known):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            group = name.rpartition(".")[0]
            siblings = sorted(
                k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == group
            ) or sorted(known)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise SettingsError(
                f"{where}: {name} is not a setting.{hint} Settings{' of ' + group if group else ''}: {', '.join(siblings)}"
            )


def _parse(cls: type, parse: Any, values: Any, where: str) -> Namespace:
    try:
        return parse(values)
    except (ArgumentError, TypeError, ValueError) as error:
        key, value = (
            re.search(r'key "([\w.]+)"', str(error)),
            re.search(r"(?:Got|Given) value: (.*)", str(error)),
        )
        if key and value and key[1] in (hints := _type_hints(cls)):
            raise SettingsError(
                f"{where}: {key[1]}={value[1]} is not possible; it takes {_describe(hints[key[1]])}"
            ) from error
        raise SettingsError(f"{where}: {error}") from error


def _describe(hint: Any) -> str:
    """A type as a user would say it: `a number`, `one of sgd, adamw`, `an integer or null`."""
    names = {
        float: "a number",
        int: "an integer",
        bool: "true or false",
        str: "a text",
        type(None): "null",
    }
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return names.get(hint) or " or ".join(map(_describe, get_args(hint))) or str(hint)


def _option(argv: list[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`, the last one given."""
    found = None
    for i, word in enumerate(argv):
        if word == name and i + 1 < len(argv):
            found = argv[i + 1]
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found


def _expand_alias(word: str) -> str:
    """`lf` and `--fusion=lf` -> the fusion's name; other words as they are."""
    option, equals, value = word.rpartition("=")
    return (
        f"{option}{equals}{FUSION_ALIASES.get(value, value)}"
        if option in ("", "--fusion")
        else word
    )
