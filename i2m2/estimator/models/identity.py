"""What a user's expert is, as a text that is the same in the next process and another once its
settings, code or weights are."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from torch import nn

LIBRARIES = ("sklearn", "torch")  # whose code is not looked at


def identity_of(given: Any) -> str:
    """Of a scikit-learn model every setting, of a module its code and weights, of a function its
    code and what that holds on to. What these call in turn is not followed."""
    if hasattr(given, "get_params") and not isinstance(given, type):
        settings = {name: _setting(one) for name, one in given.get_params(deep=True).items()}
        return f"{type(given).__name__} {_code_of_class(type(given))} {settings}"
    if isinstance(given, nn.Module):
        kinds = {type(part) for part in given.modules()}
        code = sorted(f"{kind.__name__} {_code_of_class(kind)}" for kind in kinds)
        return _hash(f"{given} {code} {[_hash(one) for one in _weights(given)]}")
    if isinstance(given, partial):
        inputs = [identity_of(one) for one in (*given.args, *given.keywords.values())]
        return f"{identity_of(given.func)} {inputs} {list(given.keywords)}"
    if isinstance(given, FunctionType):
        held = [_held(cell.cell_contents) for cell in given.__closure__ or ()]
        return _hash(f"{_code(given.__code__)} {_lasting(given.__defaults__)} {held}")
    if isinstance(given, type):
        return f"{given.__name__} {_code_of_class(given)}"
    return _lasting(given)


def _lasting(value: Any) -> str:
    """As a text without addresses in memory, which the next process does not have, and without the
    order of a set."""
    value = sorted(map(repr, value)) if isinstance(value, (set, frozenset)) else value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _setting(value: Any) -> str:
    """A part that is a model has its own settings beside it."""
    return type(value).__name__ if hasattr(value, "get_params") else identity_of(value)


def _held(value: Any) -> str:
    """Of a function its code alone: it may hold on to itself."""
    return str(_code(value.__code__)) if isinstance(value, FunctionType) else identity_of(value)


def _weights(module: nn.Module) -> list[bytes]:
    return [tensor.detach().cpu().numpy().tobytes() for tensor in module.state_dict().values()]


def _code_of_class(kind: type) -> str:
    if kind.__module__.partition(".")[0] in LIBRARIES:
        return ""
    methods = [one for one in vars(kind).values() if isinstance(one, FunctionType)]
    return _hash(str([_code(method.__code__) for method in methods]))


def _code(code: CodeType) -> list[Any]:
    constants = [
        _code(one) if isinstance(one, CodeType) else _lasting(one) for one in code.co_consts
    ]
    return [code.co_code.hex(), code.co_names, constants]


def _hash(what: str | bytes) -> str:
    return hashlib.sha256(what.encode() if isinstance(what, str) else what).hexdigest()
