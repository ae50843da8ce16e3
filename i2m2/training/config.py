"""Settings of a run from a YAML file and the command line; unknown keys and wrong types fail."""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field
from itertools import chain, product
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_loader

from i2m2.errors import SettingsError, in_yaml
from i2m2.files import Plain
from i2m2.names import FUSION_ALIASES, INTER, METHOD_ALIASES, experts_of, methods_of
from i2m2.reading.paths import what_else
from i2m2.reading.yaml12 import YamlError, dump_yaml, load_yaml
from i2m2.settings import (
    RunConfig,
    check_group,
    flatten,
    flatten_at,
    merge_preset,
    nest,
    settings_of,
    to_dict,
    with_role,
)

FLAGS = ("--help", "-h", "--print_config")  # words that take no value
ABOVE_ZERO = {"optim.lr", "optim.clip_norm"}
NO_SETTINGS = ("presets", "per_method", "per_task")  # keys of a config file that hold settings
# Settings that together only a resolved file has, such as a run's config.yaml.
WHOLE = {"init", "tag", "out", "threads", "tracker"}
TYPES = {float: "a number", int: "an integer", bool: "true or false", str: "a text"}
TYPES |= {type(None): "null"}
MOST = {"threads": 1024, "workers": 1024}  # no machine is helped by more; others: 64 bits
LARGEST = 1e30  # an optimiser multiplies it further, and float32 ends at 3.4e38

set_loader("yaml12", load_yaml, exceptions=(YamlError,))


def read_words(argv: Iterable[str]) -> dict[str, str | None]:
    """The words of a training command, {--name: its value}, the later one of two; None for a word
    without a value. The published code's names of fusions are replaced. SettingsError for a second
    --config, in whose favour the first would be dropped."""
    words, rest = {}, list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name == "--config" and name in words:
            raise SettingsError(
                "command line: --config is given twice; give one file, and what differs from it as "
                "options"
            )
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
    options = {"exit_on_error": False, "default_env": False, "parser_mode": "yaml12"}
    parser = ArgumentParser(**shown, **options)
    config = "YAML file of settings, or config.yaml of a run to repeat it"
    parser.add_argument("--config", type=str, metavar="FILE", help=config)
    parser.add_class_arguments(cls)
    types = settings_of(cls)
    for action in parser._actions:  # a word for a whole group, whose values nobody would check
        action.help = SUPPRESS if action.dest in groups_of(types) else action.help
    flat, path = {}, words.get("--config")
    if path is None:
        _check_tag(words.get("--tag"))
    else:
        flat = _read_settings(path, words, cls)
        # What the file leaves to the command line is no mistake of the file.
        left = {name: _any_of(types[name][0]) for name in _required(cls)}
        _parse(cls, parser.parse_object, nest(left | flat), where=path)
        parser.set_defaults(flat)
    _check_words(words, types)
    if not {"--help", "-h"} & words.keys():
        _refuse_missing(cls, {*flat, *(word.removeprefix("--") for word in words)}, path)
    given = [w if v is None else f"{w}={v}" for w, v in words.items() if w != "--print_config"]
    settings = _parse(cls, parser.parse_args, given, where="command line")
    settings.pop("config")
    for name in {"out", *with_role(cls, "location")}:  # a shell leaves `--out=~/x` as it is
        settings[name] = settings[name] and os.path.expanduser(settings[name])
    settings.tag = settings.tag or None  # empty, as a shell's variable may be
    settings.method = METHOD_ALIASES.get(settings.method, settings.method)
    with named_in(path, words):
        experts = experts_of(settings.method, cls.modalities, cls.baselines)
        settings.fusion = settings.fusion if INTER in experts else None
        settings.init = settings.init if len(experts) > 1 else "scratch"
        config = cls(**vars(parser.instantiate(settings)))
        _check_ranges(config)
    if "--print_config" in words:
        print(dump_yaml(to_dict(config)), end="")
        sys.exit(0)
    return config


def _read_settings(path: str, words: Mapping[str, str | None], cls: type[RunConfig]) -> Plain:
    """Dotted settings of a YAML file for the preset, the task and the method in force."""
    values, types = read_yaml(path), settings_of(cls)
    names = ("method", "task", "preset")
    for name in names:
        if not isinstance(values.get(name, ""), (str, int, float)):
            raise _not_possible(path, name, values[name], str)
    usual = {name: types[name][1].default for name in names if name in types}
    method, task, preset = (str(words.get(f"--{n}") or values.get(n, usual.get(n))) for n in names)
    parts = {"per_task": task, "per_method": METHOD_ALIASES.get(method, method)}
    is_of_run = values.keys() >= WHOLE
    flat = merge_preset(values if is_of_run else {"presets": {}, **values}, path, preset, parts)
    for name in groups_of(types) & flat.keys():
        check_group(flat.pop(name), f"{path}: {name}")
    _check_parts(values, path, cls)
    if "--tag" in words or "presets" in values:  # else it may be a run's own file
        with named_in(path, words):
            _check_tag(words.get("--tag", flat.get("tag")), values.get("presets", ()))
    _refuse_unknown(flat, set(types), path)
    return {name: _value(path, name, value, types[name][0]) for name, value in flat.items()}


def _check_words(words: Mapping[str, str | None], types: Mapping[str, tuple[Any, Field]]) -> None:
    """SettingsError for words of a command that are no settings, or no values of theirs."""
    names = [word[2:] for word in words if word.startswith("--") and word not in FLAGS]
    _refuse_unknown(names, {*types, "config"}, "command line")
    if group := next((name for name in names if name in groups_of(types)), None):
        first = next(name for name in types if name.startswith(f"{group}."))
        raise SettingsError(f"command line: {group} is a group; name its settings, as in --{first}")
    for name in names:
        if (value := words[f"--{name}"]) is not None and name in types:
            _value("command line", name, value, types[name][0])


def _check_tag(tag: object, presets: Iterable[str] = ()) -> None:
    """SettingsError for a tag that would make a folder's name that of another run."""
    for part in ("scratch", "paper", *presets):
        named = part != "paper"  # which no folder's name says, so that none is ever `paper-x`
        if tag == part or (named and str(tag).startswith(f"{part}-")):
            meaning = "--init scratch" if part == "scratch" else f"--preset {part}"
            raise SettingsError(
                f"tag={tag!r} would mean {meaning} in the name of a run's folder; "
                f"choose another tag, such as my-{tag}"
            )


def _required(cls: type[RunConfig]) -> list[str]:
    """The settings that have no default, such as `method`."""
    types = settings_of(cls)
    return [name for name, (_, f) in types.items() if f.default is f.default_factory is MISSING]


def _any_of(hint: Any) -> Any:
    """Some value of a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if type(None) in parts:
        return None
    if origin is Literal:
        return parts[0]
    if origin in (Union, UnionType):
        return _any_of(parts[0])
    return [_any_of(part) for part in parts if part is not ...] if origin is tuple else hint()


def _refuse_missing(cls: type[RunConfig], given: Collection[str], path: str | None) -> None:
    """SettingsError for a setting without a default that stands neither in the file nor on the
    command line."""
    for name in _required(cls):
        if name not in given:
            where = "command line" if path is None else path
            methods = ", ".join(methods_of(cls.modalities, cls.baselines))
            choices = f", one of {methods}" if name == "method" else ""
            raise SettingsError(f"{where}: {name} is not given; give --{name}{choices}")


def groups_of(names: Iterable[str]) -> set[str]:
    """The groups of dotted names, `optim` say."""
    return {name.rpartition(".")[0] for name in names} - {""}


def _value(where: str, name: str, value: object, hint: object) -> Any:
    """A setting as YAML 1.2 reads it where it is a number. SettingsError for what is none, and for
    null where the setting has no null."""
    kinds = (hint, *get_args(hint))
    if isinstance(value, str) and {int, float} & set(kinds):
        with suppress(YamlError):
            value = load_yaml(value)
        if isinstance(value, str):
            raise _not_possible(where, name, value, hint)
    if value is None and not {None, type(None)} & set(kinds):
        raise _not_possible(where, name, value, hint)
    return value


def _check_parts(values: Plain, path: str, cls: type[RunConfig]) -> None:
    """SettingsError for settings of a method or a task that there is not, which nobody would ever
    get, and for a key that is no setting, also where this run does not get it."""
    types = settings_of(cls)
    task = types["task"][0] if "task" in types else Literal[()]
    tasks = get_args(task) if get_origin(task) is Literal else None
    there_are = {"method": methods_of(cls.modalities, cls.baselines), "task": tasks}
    presets = check_group(values.get("presets", {}), f"{path}: presets")
    groups = {path: values} | {f"{path}: presets.{name}": of for name, of in presets.items()}
    for where, group in groups.items():
        of_all = {key: x for key, x in check_group(group, where).items() if key not in NO_SETTINGS}
        _refuse_unknown(flatten_at(where, of_all).keys() - groups_of(types), set(types), where)
    for (where, group), (what, names) in product(groups.items(), there_are.items()):
        parts = check_group(group, where).get(f"per_{what}", {})
        # The kind, `unimodal` say, then those of that kind.
        both = ((name.partition("_")[0], name) for name in names or ())
        choices = dict.fromkeys(chain.from_iterable(both))
        for part, settings in check_group(parts, f"{where}: per_{what}").items():
            place = f"{where}: per_{what}.{part}"
            if part not in choices and names is not None:
                choose = f"choose one of {', '.join(choices)}" if choices else "there are none here"
                raise SettingsError(f"{place} is no {what}; {choose}")
            _refuse_unknown(flatten_at(place, settings), set(types), place)


def _not_possible(where: str, name: str, value: object, hint: object) -> SettingsError:
    takes = _describe(hint)
    return SettingsError(f"{where}: {name}={in_yaml(value)} is not possible; it takes {takes}")


@contextmanager
def named_in(path: str | None, words: Mapping[str, str | None]) -> Iterator[None]:
    """An error that begins with a setting begins with the file, if that is where it stands."""
    try:
        yield
    except SettingsError as error:
        setting = re.match(r"[\w.]*", str(error))[0]
        if path is None or f"--{setting}" in words:
            raise
        raise SettingsError(f"{path}: {error}") from error


def _check_ranges(config: RunConfig) -> None:
    """Check ranges: no setting is negative; integers are at least 1, or what the setting says."""
    settings = settings_of(type(config))
    for name, value in flatten(to_dict(config)).items():
        if isinstance(value, str) and "\0" in value:
            raise SettingsError(f"{name} holds a NUL character, which no name of a file has")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        most = MOST.get(name, 2**63 - 1) if isinstance(value, int) else LARGEST
        if math.inf > value > most:
            raise SettingsError(f"{name}={value} must be at most {most}")
        least = _least(settings[name][1]) if isinstance(value, int) else 0
        if not least <= value < math.inf or (name in ABOVE_ZERO and value == 0):
            bound = "above 0" if name in ABOVE_ZERO else f"at least {least}"
            number = "" if math.isfinite(value) else "a finite number "
            raise SettingsError(f"{name}={value} must be {number}{bound}")
    for name in ("warmup", "momentum"):
        if (value := getattr(config.optim, name)) >= 1:
            raise SettingsError(f"optim.{name}={value} must be below 1")
    hint, fusion = settings["fusion"]
    # Null is a default where the networks have a fusion of their own.
    if INTER in config.experts and config.fusion is None and fusion.default is not None:
        names = _describe(hint).removesuffix(" or null")
        raise SettingsError(f"fusion=null is not possible with {config.method}; it takes {names}")
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


def read_yaml(path: str, option: str = "--config") -> Plain:
    """The content of a config file, which that option names; names of the published code are
    replaced."""
    if other := what_else(Path(path)):
        raise SettingsError(f"{option} {path} is {other}; give a YAML file")
    try:
        values = load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{option} {path}: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or no YAML
        raise SettingsError(f"{path}: {error}") from error
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
        of = f" of {group}" if group and siblings else ""
        choices = ", ".join(sorted(siblings or known))
        raise SettingsError(f"{where}: {name} is not a setting.{hint} Settings{of}: {choices}")


def _parse(cls: type, parse: Callable[[Any], Namespace], values: object, where: str) -> Namespace:
    try:
        return parse(values)
    except (ArgumentError, TypeError, ValueError) as error:
        message, settings = str(error), settings_of(cls)
        key = re.search(r'key "([\w.]+)"', message)
        value = re.search(r"(?:Got|Given) value: (.*)", message)
        if key and value and key[1] in settings:
            raise _not_possible(where, key[1], value[1], settings[key[1]][0]) from error
        raise SettingsError(f"{where}: {message}") from error


def _describe(hint: object) -> str:
    """A type as a user would say it: `a number`, `one of sgd, adamw`, `an integer or null`, `a list
    of integers`."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {_describe(get_args(hint)[0]).partition(' ')[2]}s"
    return TYPES.get(hint) or " or ".join(map(_describe, get_args(hint))) or str(hint)
