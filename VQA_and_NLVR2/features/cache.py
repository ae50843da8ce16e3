"""Features of a frozen backbone, computed once: their folder, and batches of them.

    image.npy [images, D]         once per image
    text.npy [texts, D]           once per distinct text
    fused.npy [pairs, D]          once per pair of them
    image_views.npy [varied images, k - 1, D]   of the augmented views, where k > 1
    fused_views.npy [varied pairs, k - 1, D]
    readable.npy [images]         false: the image is missing or damaged, its features and those
                                  of its pairs are 0 (`skip_missing`)
    index.npz                     what the data set keeps beside them: ids, splits, answers; made
                                  anew where only these have changed
    pictures.npy [images]         sizes of the images' files: features of a file that was exchanged
                                  are made again
    unreadable.txt                the images that cannot be used, and why; a line each
    features.json                 what all of it was made of, and the key: the hash of that

`extraction` makes the folder; nothing in it counts before features.json says that it is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2m2.errors import DataError
from i2m2.reading.arrays import Array, ArrayFile, check_arrays, open_array
from i2m2.reading.paths import damaged
from i2m2.training.data import Batch
from VQA_and_NLVR2.backbones.settings import BackboneSettings
from VQA_and_NLVR2.features.plan import (
    AGAIN,
    FeatureFacts,
    differences,
    given_as,
    hash_of,
    made_with,
    read_facts,
    refuse_left_out,
)
from VQA_and_NLVR2.features.settings import FeatureSettings
from VQA_and_NLVR2.features.source_files import compare, files_of

KINDS = ("image", "text", "fused")
EXTRACT = "python -m VQA_and_NLVR2.extract_features"


class Features:
    """An open folder of features.

    `widths`: {image, text, fused: D}; `views`: of what is varied; `facts`: features.json;
    `pictures`: what stands for the images' files, '' in a folder of an earlier version;
    `not_compared`: of the files that they were made of, those that are not at hand.
    """

    def __init__(self, folder: Path, facts: FeatureFacts, not_compared: Sequence[str] = ()) -> None:
        self.folder, self.facts, self.not_compared = folder, facts, list(not_compared)
        self.backbone: str = facts["made_of"]["backbone"]
        self.key: str = facts["key"]
        self.pictures = facts.get("pictures", "")
        # Ids and answers included, and which images they are of, not how a machine rounds.
        made_of = f"{facts['key']} {facts['index']} {self.pictures}".rstrip()
        self.fingerprint = hashlib.sha256(made_of.encode()).hexdigest()
        self.views: int = facts["settings"]["features.views"]
        varied = ("image", "fused") if self.views > 1 else ()
        self.arrays = {kind: self._open(f"{kind}.npy") for kind in KINDS}
        self.varied = {kind: self._open(f"{kind}_views.npy") for kind in varied}
        self.widths = {kind: array.shape[1] for kind, array in self.arrays.items()}
        self.readable = np.array(self._open("readable.npy"))

    def _open(self, name: str) -> np.ndarray:
        path, shape = self.folder / name, self.facts["shapes"].get(name)
        if shape is None:
            raise damaged(self.folder / "features.json", f"shapes: expected one of {name}", AGAIN)
        array = open_array(path, AGAIN)
        kinds = "b" if name == "readable.npy" else "f"
        check_arrays(path, {name: array}, {name: Array(kinds, tuple(shape))}, AGAIN)
        return array

    def index(self, *names: str) -> dict[str, np.ndarray]:
        """`pairs`, and arrays of the data set's own, by name; those that are not there are left
        out. DataError unless all of them are those that features.json tells of."""
        path = self.folder / "index.npz"
        stored = dict(ArrayFile(path, AGAIN))
        own = {name: array for name, array in stored.items() if name != "pairs"}
        if hash_of("", own) != self.facts["index"]:
            raise damaged(path, "not the arrays that features.json names", AGAIN)
        pairs = {"pairs": stored.get("pairs", np.empty(0))}
        check_arrays(path, pairs, {"pairs": Array("i", (self.facts["pairs"], 2))}, AGAIN)
        ends = (self.facts["images"], self.facts["texts"])
        if (stored["pairs"] < 0).any() or (stored["pairs"] >= ends).any():
            raise damaged(path, f"pairs: expected rows of {ends[0]} images, {ends[1]} texts", AGAIN)
        return {name: stored[name] for name in names if name in stored}

    def take(self, kind: str, rows: np.ndarray, view: np.ndarray | None = None) -> np.ndarray:
        """[B, k * D] features of rows [B, k], side by side; `view` [B] 0..views - 1 of varied rows,
        0 being the plain one. DataError for what is not finite."""
        flat = rows.reshape(-1)
        picked = np.asarray(self.arrays[kind][flat])
        if view is not None and kind in self.varied:
            view = np.repeat(view, rows.shape[1])
            other = view > 0
            picked[other] = self.varied[kind][flat[other], view[other] - 1]
        if not np.isfinite(picked).all():
            row = flat[~np.isfinite(picked).all(axis=1)][0]
            raise damaged(self.folder / f"{kind}.npy", f"row {row} holds NaN or infinity", AGAIN)
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
    now = made_with(backbone, settings)
    known = given_as(facts, now)
    if not known:
        raise DataError(
            f"{folder}: made with other settings: {differences(facts['settings'], now)}; "
            "give the settings there, or another --features.dir; or extract with these once: "
            "if they mean the same, the features are kept, and known by both"
        )
    if not facts["complete"]:
        raise DataError(
            f"{folder}: the extraction is not finished; the same command resumes it: {command}"
        )
    refuse_left_out(folder, facts, settings)
    named = {**files_of(backbone), **(files or {})}
    return Features(folder, facts, compare(folder, [one["files"] for one in known], named))


class CachedExamples(Dataset):
    """Examples whose inputs are features: `inputs` {kind: [B, k * D]} in their stored type, for
    rows [n, k] of each kind.

    `y` is an array [n], or a mapping of arrays that the loss takes, and then `columns` what is
    saved beside the predictions. With `varied` (of training) a view of every image is drawn per
    example and epoch.
    """

    def __init__(
        self,
        features: Features,
        rows: Mapping[str, np.ndarray],
        y: np.ndarray | Mapping[str, np.ndarray],
        id: np.ndarray,
        group: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        varied: bool = False,
    ) -> None:
        self.features, self.rows, self.varied = features, dict(rows), varied
        self.y, self.id, self.group = y, id, group
        self.columns = {"y": y} if columns is None else dict(columns)
        self.view: np.ndarray | None = None

    def select(self, modalities: Iterable[str]) -> CachedExamples:
        """The same examples without the features that nobody reads."""
        rows = {kind: self.rows[kind] for kind in modalities}
        return CachedExamples(
            self.features, rows, self.y, self.id, self.group, self.columns, self.varied
        )

    def set_epoch(self, epoch: int) -> None:
        """From now on the views of this epoch: the same whatever the batches, devices and
        workers."""
        views = self.features.views
        if self.varied and views > 1:
            self.view = np.random.default_rng([epoch, views]).integers(views, size=len(self))

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        positions = np.asarray(positions)
        view = None if self.view is None else self.view[positions]
        inputs = {
            kind: torch.from_numpy(self.features.take(kind, rows[positions], view))
            for kind, rows in self.rows.items()
        }
        if not isinstance(self.y, Mapping):
            return {"inputs": inputs, "y": torch.from_numpy(self.y[positions])}
        y = {name: torch.from_numpy(array[positions]) for name, array in self.y.items()}
        return {"inputs": inputs, "y": y}

    def prepare(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> float32; runs on the device."""
        return {kind: features.float() for kind, features in inputs.items()}
