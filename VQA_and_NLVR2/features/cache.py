"""Features of a frozen backbone, computed once: what is in their folder, whether it is the right
one, and batches of them.

    image.npy [images, D]   text.npy [texts, D]   fused.npy [pairs, D]     once per image, per distinct text, per pair of them
    image_views.npy [varied images, k - 1, D]   fused_views.npy [varied pairs, k - 1, D]     of the augmented views, where k > 1
    readable.npy [images]   false: the image is missing or damaged, its features and those of its pairs are 0 (`skip_missing`)
    index.npz               what the data set keeps beside them: ids, splits, answers; made anew where only these have changed
    pictures.npy [images]   sizes of the images' files: features of a file that was exchanged are made again
    unreadable.txt          the images that cannot be used, and why; a line each
    features.json           what all of it was made of, and the key: the hash of that

`extraction` makes the folder; nothing in it counts before features.json says that it is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2m2.errors import DataError
from i2m2.training.data import Batch
from VQA_and_NLVR2.backbones.base import BackboneSettings
from VQA_and_NLVR2.features.source_files import compare, files_of

KINDS = ("image", "text", "fused")
LAYOUT = 2  # counts up when the same inputs give other files
EXTRACT = "python -m VQA_and_NLVR2.extract_features"


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """The features of the frozen backbone: where they lie, and how they are computed.

    Args:
        dir: their folder; null: that of the data with `-features` after its name
        dtype: in which they are stored
        precision: of the backbone while they are computed; no: float32
        views: of every training image: the plain one and views - 1 augmented ones, of which
            training draws one per epoch
        batch_size: images, texts or pairs at a time
        flip: mirror half of the augmented views, although that makes "left" in a question untrue
        skip_missing: leave out questions whose image is missing or damaged, and count them, instead
            of refusing to begin
    """

    dir: str | None = None
    dtype: Literal["float16", "float32"] = "float16"
    precision: Literal["no", "bf16", "fp16"] = "no"
    views: int = 1
    flip: bool = False
    batch_size: int = 64
    skip_missing: bool = False


@dataclass(frozen=True)
class Plan:
    """What a data set needs features of; rows of the arrays are in these orders.

    The first `varied_images` images and `varied_pairs` pairs, those of training, get augmented
    views. `index` holds arrays of the data set's own; `about` says what it is: at least variant,
    synthetic and description; `files` are those it was read from.
    """

    images: Sequence[str]  # names, which tell one data set's images from another's
    texts: Sequence[str]
    pairs: np.ndarray  # int32 [pairs, 2]: row of the image, row of the text
    varied_images: int
    varied_pairs: int
    about: Mapping[str, Any]
    index: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the features depend on: images by name, texts, and their pairs."""
        start = json.dumps(
            [list(self.images), list(self.texts), self.varied_images, self.varied_pairs]
        )
        return _hash_of(start, {"pairs": self.pairs})

    @property
    def index_fingerprint(self) -> str:
        """SHA-256 of the data set's own arrays."""
        return _hash_of("", self.index)


def _hash_of(start: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(start.encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def made_with(backbone: BackboneSettings, settings: FeatureSettings) -> dict[str, Any]:
    """The settings that features depend on, as features.json records them: of files and hub names
    only the last part."""
    without = {
        "fiber": {"image_encoder", "flava"},
        "fiber_hub": {"flava"},
        "flava": {"image_encoder", "text_encoder"},
    }
    unused = without.get(backbone.kind, without["fiber"]) | {"activation_checkpointing"}
    named = {
        name: Path(value).name if isinstance(value, str) else value
        for name, value in asdict(backbone).items()
    }
    chosen = {f"backbone.{name}": value for name, value in named.items() if name not in unused}
    return chosen | {
        f"features.{name}": getattr(settings, name)
        for name in ("dtype", "precision", "views", "flip")
    }


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """'backbone.kind (fiber there, flava now), ...'; '' where there is none. Hashes are cut short."""
    differing = [name for name in dict.fromkeys([*there, *now]) if there.get(name) != now.get(name)]
    return ", ".join(
        f"{name} ({_short(there.get(name))} there, {_short(now.get(name))} now)"
        for name in differing
    )


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of what features are made of."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_facts(folder: Path) -> dict[str, Any] | None:
    """features.json; None where there is none. DataError if it is damaged or of another layout."""
    path = folder / "features.json"
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["layout"] != LAYOUT or facts["key"] != key_of(facts["made_of"]):
            raise ValueError("of another version of this code, or edited")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be used ({error}); delete its folder and extract the features again"
        ) from error
    return facts


class Features:
    """An open folder of features. `widths`: {image, text, fused: D}; `views`: of what is varied;
    `facts`: features.json; `not_compared`: of the files that they were made of, those that are not
    at hand."""

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], not_compared: Sequence[str] = ()
    ) -> None:
        self.folder, self.facts, self.not_compared = folder, facts, list(not_compared)
        self.backbone: str = facts["made_of"]["backbone"]
        self.key: str = facts["key"]
        self.fingerprint = hashlib.sha256(
            f"{facts['key']} {facts['index']}".encode()
        ).hexdigest()  # ids and answers included
        self.views: int = facts["settings"]["features.views"]
        self.arrays = {kind: self._open(f"{kind}.npy") for kind in KINDS}
        self.varied = {
            kind: self._open(f"{kind}_views.npy") for kind in ("image", "fused") if self.views > 1
        }
        self.widths = {kind: array.shape[1] for kind, array in self.arrays.items()}
        self.readable = np.array(self._open("readable.npy"))

    def _open(self, name: str) -> np.ndarray:
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path} is missing or damaged ({error}); delete its folder and extract the features again"
            ) from error
        wanted = tuple(self.facts["shapes"][name])
        if array.shape != wanted:
            raise DataError(
                f"{path} is {array.shape}, not {wanted}; delete its folder and extract the features again"
            )
        return array

    def index(self, *names: str) -> dict[str, np.ndarray]:
        """Arrays of the data set's own, by name; those that are not there are left out."""
        path = self.folder / "index.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in names if name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path} is missing or damaged ({error}); delete its folder and extract the features again"
            ) from error

    def take(self, kind: str, rows: np.ndarray, view: np.ndarray | None = None) -> np.ndarray:
        """[B, k * D] features of rows [B, k], side by side; `view` [B] 0..views - 1 of varied rows,
        0 being the plain one."""
        flat = rows.reshape(-1)
        picked = np.asarray(self.arrays[kind][flat])
        if view is not None and kind in self.varied:
            view = np.repeat(view, rows.shape[1])
            other = view > 0
            picked[other] = self.varied[kind][flat[other], view[other] - 1]
        return picked.reshape(len(rows), -1)


def open_features(
    folder: Path,
    backbone: BackboneSettings,
    settings: FeatureSettings,
    command: str = EXTRACT,
    files: Mapping[str, Path] | None = None,
) -> Features:
    """The features in `folder`, made by that backbone with these settings, of the data set that was
    read from `files`; `command` makes them, for the errors.

    DataError if they are not there, not complete, or others; files that are not at hand cannot be
    compared.
    """
    facts = read_facts(folder)
    if facts is None:
        raise DataError(f"{folder}: no features of the backbone; make them with: {command}")
    if differing := differences(facts["settings"], made_with(backbone, settings)):
        raise DataError(
            f"{folder}: made with other settings: {differing}; give the settings there, or another --features.dir"
        )
    if not facts["complete"]:
        raise DataError(
            f"{folder}: the extraction is not finished; the same command goes on with it: {command}"
        )
    refuse_left_out(folder, facts, settings)
    return Features(
        folder, facts, compare(folder, facts["files"], {**files_of(backbone), **(files or {})})
    )


def refuse_left_out(folder: Path, facts: Mapping[str, Any], settings: FeatureSettings) -> None:
    """DataError if the features are without images that are not to be left out."""
    if facts["left_out"]["images"] and not settings.skip_missing:
        raise DataError(
            f"{folder}: made without {said(facts['left_out'])}; to do without them, set features.skip_missing; or put good files "
            "there and extract again, which adds them"
        )


def said(left_out: Mapping[str, Any]) -> str:
    """'2 of 940 images (first: 57: no such file) and their 11 pairs with texts'."""
    return f"{left_out['images']:,} of {left_out['of']:,} images (first: {left_out['first']}) and their {left_out['pairs']:,} pairs"


class CachedExamples(Dataset):
    """Examples whose inputs are features: `inputs` {kind: [B, k * D]} in their stored type, for
    rows [n, k] of each kind.

    `y` is an array [n], or a mapping of arrays that the loss takes, and then `columns` what is
    saved beside the predictions. With `varied` (of training) a view of every image is drawn per
    example and epoch.
    """

    def __init__(
        self, features: Features, rows: Mapping[str, np.ndarray], y: np.ndarray | Mapping[str, np.ndarray], id: np.ndarray,
        group: np.ndarray, columns: Mapping[str, np.ndarray] | None = None, varied: bool = False,
    ) -> None:  # fmt: skip
        self.features, self.rows, self.y, self.id, self.group, self.varied = (
            features,
            dict(rows),
            y,
            id,
            group,
            varied,
        )
        self.columns = {"y": y} if columns is None else dict(columns)
        self.view: np.ndarray | None = None

    def select(self, modalities: Iterable[str]) -> CachedExamples:
        """The same examples without the features that nobody reads."""
        rows = {kind: self.rows[kind] for kind in modalities}
        return CachedExamples(
            self.features, rows, self.y, self.id, self.group, self.columns, self.varied
        )

    def set_epoch(self, epoch: int) -> None:
        """From now on the views of this epoch: the same whatever the batches, devices and workers."""
        if self.varied and self.features.views > 1:
            self.view = np.random.default_rng([epoch, self.features.views]).integers(
                self.features.views, size=len(self)
            )

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        positions = np.asarray(positions)
        view = None if self.view is None else self.view[positions]
        inputs = {
            kind: torch.from_numpy(self.features.take(kind, rows[positions], view))
            for kind, rows in self.rows.items()
        }
        of = self.y if isinstance(self.y, Mapping) else {"": self.y}
        y = {name: torch.from_numpy(array[positions]) for name, array in of.items()}
        return {"inputs": inputs, "y": y if isinstance(self.y, Mapping) else y[""]}

    def prepare(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> float32; runs on the device."""
        return {kind: features.float() for kind, features in inputs.items()}
