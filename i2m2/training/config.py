"""Settings of a run from a YAML file and the command line; unknown keys and wrong types fail."""

from __future__ import annotations

import difflib
import math
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from i2m2.errors import SettingsError
from i2m2.files import Plain
from i2m2.names import FUSION_ALIASES, INTER, METHOD_ALIASES, experts_of
from i2m2.settings import RunConfig, check_group, flatten, merge_preset, nest, settings_of, to_dict

FLAGS = ("--help", "-h", "--print_config")  # words that take no value
ABOVE_ZERO = {"optim.lr", "optim.clip_norm"}
TYPES = {float: "a number", int: "an integer", bool: "true or false", str: "a text"}
TYPES |= {type(None): "null"}


def read_words(argv: Iterable[str]) -> dict[str, str | None]:
    """The words of a training command, {--name: its value}, the later one of two; None for a word
    without a value. The published code's names of fusions are replaced."""
    words, rest = {}, list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--") or word in FLAGS:
            words[word] = None
        elif equals:
            words[name] = value
        else:  # the next word, unless that is an option of its own
            words[name] = rest.pop(0) if rest and not rest[0].startswith("--") else None
    if fusion := words.get("--fusion"):
        words["--fusion"] = FUSION_ALIASES.get(fusion, fusion)
    return words


def shell_command(argv: Iterable[str], program: str, without: Collection[str] = ()) -> str:
    """The shell's line of a training command, but for some of its options."""
    kept = {name: value for name, value in read_words(argv).items() if name not in without}
    words = [part for pair in kept.items() for part in pair if part is not None]
    return shlex.join(["python", "-m", program, *words])


def load_config(
    cls: type[RunConfig], argv: list[str] | None, program: str = "", purpose: str = ""
) -> RunConfig:
    """Settings from dotted overrides in `argv`, else from its `--config FILE`, else the defaults of
    the class. SettingsError on anything unknown or of the wrong type. --help shows `purpose`."""
    words = read_words(sys.argv[1:] if argv is None else argv)
    hint = "A --config file's values replace the defaults shown; --print_config shows the result."
    shown = {"prog": f"python -m {program}", "description": f"{purpose} {hint}"}
    parser = ArgumentParser(**shown, exit_on_error=False, default_env=False)
    config = "YAML file of settings, or config.yaml of a run to repeat it"
    parser.add_argument("--config", type=str, metavar="FILE", help=config)
    parser.add_class_arguments(cls)
    known = set(settings_of(cls))
    if (path := words.get("--config")) is not None:
        flat = _read_settings(path, words, known)
        _parse(cls, parser.parse_object, nest(flat), where=path)
        parser.set_defaults(flat)
    names = [word[2:] for word in words if word.startswith("--") and word not in FLAGS]
    _refuse_unknown(names, {*known, "config"}, "command line")
    given = [w if v is None else f"{w}={v}" for w, v in words.items() if w != "--print_config"]
    settings = _parse(cls, parser.parse_args, given, where="command line")
    settings.pop("config")
    settings.method = METHOD_ALIASES.get(settings.method, settings.method)
    experts = experts_of(settings.method, cls.modalities, cls.baselines)
    settings.fusion = settings.fusion if INTER in experts else None
    settings.init = settings.init if len(experts) > 1 else "scratch"
    config = cls(**vars(parser.instantiate(settings)))
    _check_ranges(config)
    if "--print_config" in words:
        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        sys.exit(0)
    return config


def _read_settings(path: str, words: Mapping[str, str | None], known: set[str]) -> Plain:
    """Dotted settings of a YAML file for the preset, the task and the method in force."""
    values = read_yaml(path)
    names = ("method", "task", "preset")
    method, task, preset = (words.get(f"--{name}", values.get(name)) for name in names)
    parts = {"per_task": str(task), "per_method": str(METHOD_ALIASES.get(method, method))}
    flat = merge_preset(values, path, str(preset or "paper"), parts)
    for name in flat:
        if any(setting.startswith(f"{name}.") for setting in known):
            check_group(flat[name], f"{path}: {name}")
    _refuse_unknown(flat, known, path)
    return flat


def _check_ranges(config: RunConfig) -> None:
    """Check ranges: no setting is negative; integers are at least 1, or what the setting says."""
    settings = settings_of(type(config))
    for name, value in flatten(to_dict(config)).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        least = _least(settings[name][1]) if isinstance(value, int) else 0
        if not least <= value < math.inf or (name in ABOVE_ZERO and value == 0):
            bound = "above 0" if name in ABOVE_ZERO else f"at least {least}"
            raise SettingsError(f"{name}={value} must be {bound}")
    for name in ("warmup", "momentum"):
        if (value := getattr(config.optim, name)) >= 1:
            raise SettingsError(f"optim.{name}={value} must be below 1")
    if (select := config.optim.select) not in config.metrics:
        choices = ", ".join(config.metrics)
        raise SettingsError(f"optim.select={select!r} is not a metric; choose one of {choices}")
    for name in ("dataset", "tag", "preset"):
        value = getattr(config, name)
        if value and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
            raise SettingsError(
                f"{name}={value!r} becomes part of a folder's name: "
                "use letters, digits, '.', '-' and '_'"
            )


def _least(setting: Field) -> int:
    """The smallest value of an integer: what the setting says, else 1, or a default below it."""
    if (declared := setting.metadata.get("least")) is not None:
        return declared
    return min(1, setting.default) if isinstance(setting.default, int) else 1


def read_yaml(path: str) -> Plain:
    """The content of a config file; names of the published code are replaced."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    values = check_group(values, path)
    for name, aliases in {"method": METHOD_ALIASES, "fusion": FUSION_ALIASES}.items():
        if isinstance(values.get(name), str):
            values[name] = aliases.get(values[name], values[name])
    return values


def _refuse_unknown(names: Iterable[str], known: set[str], where: str) -> None:
    for name in names:
        if name in known or any(k.startswith(f"{name}.") for k in known):
            continue
        group = name.rpartition(".")[0]
        siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == group]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f" Did you mean {close[0]}?" if close else ""
        of = f" of {group}" if group else ""
        choices = ", ".join(sorted(siblings or known))
        raise SettingsError(f"{where}: {name} is not a setting.{hint} Settings{of}: {choices}")


def _parse(cls: type, parse: Callable[[Any], Namespace], values: Any, where: str) -> Namespace:
    try:
        return parse(values)
    except (ArgumentError, TypeError, ValueError) as error:
        message, settings = str(error), settings_of(cls)
        key = re.search(r'key "([\w.]+)"', message)
        value = re.search(r"(?:Got|Given) value: (.*)", message)
        if key and value and key[1] in settings:
            takes = _describe(settings[key[1]][0])
            message = f"{key[1]}={value[1]} is not possible; it takes {takes}"
        raise SettingsError(f"{where}: {message}") from error


def _describe(hint: Any) -> str:
    """A type as a user would say it: `a number`, `one of sgd, adamw`, `an integer or null`."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return TYPES.get(hint) or " or ".join(map(_describe, get_args(hint))) or str(hint)
