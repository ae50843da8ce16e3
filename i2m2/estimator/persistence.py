"""A fitted estimator as a folder, and back, without pickle.

    model.json             class, versions, experts, checksums of the other files
    networks.safetensors   weights of the networks
    rest.skops             everything else: preparation, linear models, trees, pools

Loading builds objects of the types named below and of those that skops trusts, and of no others
unless `trusted` names them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile

import numpy as np
import safetensors
import safetensors.torch
import torch

from i2m2.estimator import experts, families
from i2m2.estimator.given.values import InputError
from i2m2.estimator.models import (
    curves,
    interactions,
    linear,
    members,
    scikit_learn,
    training,
    trees,
)
from i2m2.estimator.models.members import Network
from i2m2.estimator.packing import boosted, pack, unpack
from i2m2.estimator.prepared import (
    forms,
    preparation,
    random_convolutions,
    series,
    tables,
    wide,
)
from i2m2.estimator.prepared.forms import Prepared
from i2m2.files import write_json

FORMAT = 5  # counts up when older folders can no longer be read
OVERVIEW, WEIGHTS, REST = "model.json", "networks.safetensors", "rest.skops"
OURS = (
    curves, experts, families, forms, interactions, linear, members, preparation,
    random_convolutions, scikit_learn, series, tables, training, trees, wide,
)  # fmt: skip
# Of libraries, in fitted parts. A function that a `partial` calls is asked for by its own name.
KNOWN = [
    "functools.partial",
    "numpy.dtype",
    "sklearn.utils.validation.check_array",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]


def save(model: Any, path: Path) -> None:
    """Write the folder under a temporary name and rename it. InputError if `path` is there and is
    no saved model, or if a part cannot be saved."""
    _refuse_foreign(path)
    parts = copy.deepcopy(vars(model) | {"experts": None})
    given = {name: one for name, one in (model.experts or {}).items() if hasattr(one, "get_params")}
    parts["experts"] = copy.deepcopy(given) or None
    parts["modalities"] = _plain(model.modalities)
    tensors = {}
    for name, member in _networks(parts["experts_"]):
        for key, tensor in member.network.state_dict().items():
            tensors[f"{name}/{key}"] = tensor.contiguous().clone()
        member.network, member.given = None, None
    parts["experts_"].of_members = {}
    for model_of_trees in _boosted(parts["experts_"]):
        pack(model_of_trees)
    temporary = path.with_name(f".tmp.{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        safetensors.torch.save_file(tensors, temporary / WEIGHTS)
        _dump(parts, temporary / REST, path)
        _refuse_unnamed(temporary / REST, path)
        checksums = {name: _checksum(temporary / name) for name in (WEIGHTS, REST)}
        write_json(temporary / OVERVIEW, _overview(model) | {"sha256": checksums})
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_foreign(path: Path) -> None:
    """InputError where `path` is there and holds anything but a saved model."""
    if not path.exists():
        return
    names = {one.name for one in path.iterdir()} if path.is_dir() else set()
    if not _is_overview(path / OVERVIEW):
        raise InputError(f"{path} is there and is no saved model; give another name")
    if others := sorted(names - {OVERVIEW, WEIGHTS, REST}):
        raise InputError(f"{path} holds {others[0]} beside a saved model; give another name")


def _is_overview(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "class", "experts"} <= content.keys()


def _plain(given: Any) -> Any:
    """What names columns (an Index, an array, a range) as lists, which alone can be kept; the pair
    (columns, shape of an example) stays a pair."""
    if isinstance(given, Mapping):
        return {name: _plain(one) for name, one in given.items()}
    if isinstance(given, np.generic):
        return given.item()
    if isinstance(given, (str, bytes)) or not np.iterable(given):
        return given
    each = map(_plain, given)
    return tuple(each) if isinstance(given, tuple) else list(each)


def _dump(parts: dict[str, Any], path: Path, model: Path) -> None:
    import skops.io

    try:
        skops.io.dump(parts, path, compression=ZIP_DEFLATED)
    except (TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{model}: a part of the model cannot be saved ({reason})") from error


def _refuse_unnamed(file: Path, model: Path) -> None:
    """InputError for functions that nobody could find by their name again."""
    import skops.io

    for name in skops.io.get_untrusted_types(file=file):
        if "<lambda>" in name or "<locals>" in name:
            raise InputError(
                f"{model}: a part of the model cannot be saved ({name} has no name of its own "
                "in a module); define it with `def` or `class` at the top of one"
            )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _overview(model: Any) -> dict[str, Any]:
    versions = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "skops")}
    given = sorted(model.experts or {})
    return {
        "format": FORMAT,
        "class": type(model).__name__,
        "experts": model.expert_names_,
        "given": given,
        "combine": model.combine_,
        "versions": versions,
    }


def _networks(found: Any) -> list[tuple[str, Network]]:
    return [
        (f"{expert}/{place}", member)
        for expert, each in found.members.items()
        for place, member in enumerate(each)
        if isinstance(member, Network)
    ]


def _boosted(found: Any) -> list[Any]:
    members = [member for each in found.members.values() for member in each]
    return [one for member in members for one in boosted(getattr(member, "models", None))]


def load(cls: type, path: Path, given: Mapping[str, Any] | None, trusted: Sequence[str]) -> Any:
    """The estimator that `save` wrote, see `I2M2Classifier.load`."""
    import skops.io

    overview = _read_overview(path, cls.__name__)
    try:
        weights = safetensors.torch.load_file(path / WEIGHTS)
        unknown = set(skops.io.get_untrusted_types(file=path / REST))
    except (ValueError, KeyError, TypeError, BadZipFile, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged ({error}); save the model again") from error
    if refused := sorted(unknown - _our_types() - set(KNOWN) - set(trusted)):
        raise InputError(
            f"{path} holds objects of {', '.join(refused)}; "
            "if you trust their origin, name them: load(..., trusted=[...])"
        )
    try:
        parts = skops.io.load(path / REST, trusted=sorted(unknown))
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{path}: a part of the model is not to be found ({error}); "
            "import or define it where it was when the model was saved"
        ) from error
    model = cls.__new__(cls)
    vars(model).update(parts)
    if given:
        model.experts = dict(model.experts or {}) | dict(given)
    for model_of_trees in _boosted(model.experts_):
        unpack(model_of_trees)
    for name, member in _networks(model.experts_):
        expert = name.rpartition("/")[0]
        _restore(member, name, weights, (given or {}).get(expert), overview["given"], path)
    return model


def _read_overview(path: Path, kind: str) -> dict[str, Any]:
    """What `save` wrote about a folder. InputError if that is of another class or version, or if a
    file is missing or not as it was written."""
    if missing := [name for name in (OVERVIEW, WEIGHTS, REST) if not (path / name).is_file()]:
        raise InputError(f"{path / missing[0]} is missing; give a folder that `save` wrote")
    try:
        overview = json.loads((path / OVERVIEW).read_text(encoding="utf-8"))
        found, number = overview["class"], overview["format"]
        checksums = {name: overview["sha256"][name] for name in (WEIGHTS, REST)}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / OVERVIEW} is damaged ({error}); save the model again") from error
    if found != kind:
        raise InputError(f"{path} holds {found}, not {kind}; call {found}.load")
    if number != FORMAT:
        raise InputError(
            f"{path} was saved by another version (format {number}, and not {FORMAT}); "
            "fit the model again, or load it with that version"
        )
    for name, checksum in checksums.items():
        if _checksum(path / name) != checksum:
            raise InputError(f"{path / name} is damaged (its checksum); save the model again")
    return overview


def _our_types() -> set[str]:
    """Names of our classes in these modules: of those, too, that a module names because an earlier
    version defined them there, so that older folders can be read."""
    return {
        f"{module.__name__}.{name}"
        for module in OURS
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__.startswith("i2m2.")
    }


def _restore(
    member: Network, name: str, weights: dict, given: Any, named: list, path: Path
) -> None:
    expert = name.rpartition("/")[0]
    if expert in named and given is None:
        raise InputError(
            f"{path}: the expert {expert} was a module of yours, whose code is not in the folder; "
            f"load(..., experts={{{expert!r}: ...}}) with the one it was fitted with"
        )
    member.given = given
    with torch.random.fork_rng(devices=[]):
        member.build(_empty(member.shapes))
    own = {
        key.removeprefix(f"{name}/"): t for key, t in weights.items() if key.startswith(f"{name}/")
    }
    try:
        member.network.load_state_dict(own)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: the weights of {expert} do not fit ({reason})") from error


def _empty(shapes: dict[str, Any]) -> dict[str, Prepared]:
    """Blocks of no rows, with the widths of those that a network was built for."""
    found = {}
    for name, (dense, grid) in shapes.items():
        form = None if grid is None else np.zeros((1, *grid), np.float32)
        nothing = (np.zeros((1, 0)), [], np.zeros(0, bool))
        found[name] = Prepared(np.zeros((1, dense), np.float32), *nothing, form, np.ones(1, bool))
    return found
