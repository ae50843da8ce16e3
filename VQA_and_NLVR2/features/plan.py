"""What features are needed of, and what their folder says that it holds (features.json)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Required, TypedDict

import numpy as np

from i2m2.errors import DataError, there_and_now
from i2m2.files import Plain
from i2m2.reading.paths import damaged
from i2m2.reading.records import read_record
from VQA_and_NLVR2.backbones.settings import BackboneSettings
from VQA_and_NLVR2.features.settings import FeatureSettings

LAYOUT = 2  # counts up when the same inputs give other files
# Settings that the backbone of a kind does not read.
UNREAD = {
    "fiber": {"image_encoder", "flava"},
    "fiber_random": {"image_encoder", "flava"},
    "fiber_hub": {"flava"},
    "flava": {"image_encoder", "text_encoder"},
}
DECISIVE = ("dtype", "precision", "views", "flip")  # settings of features that change them

Values = Mapping[str, object]


@dataclass(frozen=True)
class Plan:
    """What a data set needs features of; rows of the arrays are in these orders.

    The first `varied_images` images and `varied_pairs` pairs, those of training, get augmented
    views. `index` holds arrays of the data set's own; `about` says what it is: at least variant,
    synthetic and description; `files` are those it was read from, `looked_for` says which files
    the images should be.
    """

    images: Sequence[str]  # names, which tell one data set's images from another's
    texts: Sequence[str]
    pairs: np.ndarray  # int32 [pairs, 2]: row of the image, row of the text
    varied_images: int
    varied_pairs: int
    about: Values
    index: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    looked_for: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the features depend on: images by name, texts, and their pairs."""
        images, texts = list(self.images), list(self.texts)
        start = json.dumps([images, texts, self.varied_images, self.varied_pairs])
        return hash_of(start, {"pairs": self.pairs})

    @property
    def index_fingerprint(self) -> str:
        """SHA-256 of the data set's own arrays."""
        return hash_of("", self.index)


def hash_of(start: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a text and arrays, in their order."""
    digest = hashlib.sha256(start.encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


AGAIN = "delete its folder and extract the features again"


class LeftOut(TypedDict):
    """The images that cannot be used."""

    images: int
    of: int
    pairs: int  # that need one of them
    first: str  # its name and what is wrong


class Given(TypedDict):
    """What an extraction was given."""

    settings: Plain  # of backbone and features, see `made_with`
    files: dict[str, str]  # {name: identity}


class FeatureFacts(TypedDict, total=False):
    """features.json. What is below `complete` is there once it is true."""

    layout: Required[int]
    key: Required[str]  # the hash of `made_of`
    made_of: Required[Plain]
    settings: Required[Plain]  # of backbone and features, see `made_with`
    about: Required[Plain]  # the plan's
    files: Required[dict[str, str]]  # {name: identity} of those it was made of
    others: list[Given]  # others than `settings` and `files` that make the same
    index: Required[str]  # fingerprint of the data set's own arrays
    shard: Required[int]  # images of a part
    todo: Required[list[int] | None]  # parts to be made again; None: all
    complete: Required[bool]
    shapes: dict[str, list[int]]  # of every file
    bytes: int
    left_out: LeftOut
    pictures: str  # a hash of the image files' sizes and readability; not in older folders
    images: int
    texts: int
    pairs: int


ONCE_COMPLETE = {"shapes", "bytes", "left_out", "images", "texts", "pairs"}


def made_with(backbone: BackboneSettings, settings: FeatureSettings) -> dict[str, object]:
    """The settings that features depend on, as features.json records them: of files and hub names
    only the last part."""
    unread = UNREAD[backbone.kind] | {"activation_checkpointing"}
    found: dict[str, object] = {}
    for name, value in asdict(backbone).items():
        if name not in unread:
            found[f"backbone.{name}"] = Path(value).name if isinstance(value, str) else value
    return found | {f"features.{name}": getattr(settings, name) for name in DECISIVE}


def given_as(facts: FeatureFacts, now: Values) -> list[Given]:
    """What extractions of these features were given whose settings mean what those of `now` do: a
    null stands for what was made with it."""
    made = {f"backbone.{name}": value for name, value in facts["made_of"].items()}

    def same(there: Values) -> bool:
        usual = {name for name in now if there.get(name) is None and now[name] == made.get(name)}
        return not differences(there, {**now, **dict.fromkeys(usual)})

    return [one for one in (facts, *facts.get("others", [])) if same(one["settings"])]


def differences(there: Values, now: Values) -> str:
    """'backbone.kind (fiber there, flava now), ...'; '' where there is none. Hashes are cut
    short."""
    names = dict.fromkeys([*there, *now])
    differing = [name for name in names if there.get(name) != now.get(name)]
    return there_and_now(
        {name: (_short(there.get(name)), _short(now.get(name))) for name in differing}
    )


def _short(value: object) -> object:
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


def key_of(parts: Values) -> str:
    """SHA-256 of what features are made of."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_facts(folder: Path) -> FeatureFacts | None:
    """features.json; None where there is none. DataError if it is damaged or of another layout."""
    path = folder / "features.json"
    if not path.exists():
        return None
    facts = read_record(path, FeatureFacts, AGAIN)
    if facts["layout"] != LAYOUT or facts["key"] != key_of(facts["made_of"]):
        raise damaged(path, "of another version of this code, or edited", AGAIN)
    if absent := ONCE_COMPLETE - facts.keys() if facts["complete"] else ():
        raise damaged(path, f"complete without {', '.join(sorted(absent))}", AGAIN)
    return facts


def is_complete(folder: Path) -> bool:
    """Whether all features are there."""
    facts = read_facts(folder)
    return facts is not None and facts["complete"]


def refuse_left_out(folder: Path, facts: FeatureFacts, settings: FeatureSettings) -> None:
    """DataError if the features are without images that are not to be left out."""
    left_out = facts["left_out"]
    if left_out["images"] and not settings.skip_missing:
        raise DataError(
            f"{folder}: made without {left_out['images']:,} of {left_out['of']:,} images "
            f"(first: {left_out['first']}) and their {left_out['pairs']:,} pairs; "
            "to do without them, set features.skip_missing; "
            "or put good files there and extract again, which adds them"
        )
