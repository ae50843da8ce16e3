"""Running the frozen backbone once over a data set, into a folder of `features`.

The images are cut into parts of SHARD images. A part is one file, with the features of its images, of the pairs about them, and of
the texts that first occur there; it is written whole or not at all. Any number of processes may work on a folder: each takes a part
that nobody is at work on, and what a killed process has not written another one does. The last one puts the parts together.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import nn
from tqdm import tqdm

from i2m2.data import loader
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic, write_json
from VQA_and_NLVR2.backbone import Backbone, BackboneSettings
from VQA_and_NLVR2.features import LAYOUT, FeatureSettings, Plan, differences, key_of, made_with, read_facts
from VQA_and_NLVR2.frozen import VIEW_SEED, Frozen, Pictures, split
from VQA_and_NLVR2.tokenizer import load_tokenizer, tokenize

SHARD = 512  # images of a part: a minute on a GPU


@dataclass
class Work:
    """What all parts are made from."""

    plan: Plan
    frozen: Frozen
    pictures: Pictures
    settings: FeatureSettings
    ids: np.ndarray  # int32 [texts, L]
    mask: np.ndarray  # bool [texts, L]
    workers: int
    shard: int  # images of a part

    def __post_init__(self) -> None:
        image, text = self.plan.pairs.T
        self.parts = -(-len(self.plan.images) // self.shard)
        self.order = np.argsort(image, kind="stable")  # of the pairs, by their image
        self.first = np.full(len(self.plan.texts), self.parts)  # the part in which a text first occurs
        np.minimum.at(self.first, text, image // self.shard)

    def rows(self, k: int) -> np.ndarray:
        """Images of part k."""
        return np.arange(k * self.shard, min((k + 1) * self.shard, len(self.plan.images)))

    def pairs(self, k: int) -> np.ndarray:
        """Pairs of part k, by their image."""
        begin, end = np.searchsorted(self.plan.pairs[self.order, 0], (k * self.shard, (k + 1) * self.shard))
        return self.order[begin:end]


def extract(
    plan: Plan, paths: Sequence[Path | None], backbone: Backbone, chosen: BackboneSettings, settings: FeatureSettings,
    folder: Path, device: torch.device, workers: int = 0, shard: int = SHARD,
) -> None:  # fmt: skip
    """Make `folder`, or go on with it; one that is complete is left alone.

    `paths` [images], None for a missing one. `chosen`: the settings that `backbone` was built from. DataError if the folder holds
    features of anything else (weights, tokens, data, transform ...), or images are missing or damaged and not to be skipped.
    """
    _refuse_missing(plan, paths, settings)
    ids, mask = _tokens(plan, backbone)
    parts = _made_of(plan, backbone, settings, ids, mask)
    with _claim(folder / ".lock", wait=True):
        facts = _begin(folder, plan, parts, made_with(chosen, settings), shard)
    if facts["complete"]:
        return print(f"{folder}: already complete (key {facts['key'][:12]})")
    frozen = Frozen(backbone, device, settings.precision, settings.batch_size)
    _work_on(Work(plan, frozen, Pictures(paths, backbone.image_size), settings, ids, mask, workers, facts["shard"]), folder)


def _refuse_missing(plan: Plan, paths: Sequence[Path | None], settings: FeatureSettings) -> None:
    missing = [row for row, path in enumerate(paths) if path is None]
    if missing:
        about = int(np.isin(plan.pairs[:, 0], missing).sum())
        named = ", ".join(plan.images[row] for row in missing[:3]) + ", ..." * (len(missing) > 3)
        line = (
            f"images: {len(missing):,} of {len(plan.images):,} missing, which {about:,} of {len(plan.pairs):,} pairs need: {named}"
        )
        if not settings.skip_missing:
            raise DataError(f"{line}; get them, or set features.skip_missing to leave those pairs out")
        print(f"{line}; left out")


def _tokens(plan: Plan, backbone: Backbone) -> tuple[np.ndarray, np.ndarray]:
    ids, mask, cut = tokenize(load_tokenizer(backbone.tokenizer), list(plan.texts), backbone.max_text_length)
    if cut:
        print(f"texts: {cut:,} of {len(plan.texts):,} are longer than {backbone.max_text_length} tokens and cut")
    # The words are the longest of a backbone's tables. Without this look a GPU would stop at an assertion.
    words = max(module.num_embeddings for module in backbone.modules() if isinstance(module, nn.Embedding))
    if ids.max() >= words:
        raise SettingsError(
            f"tokenizer {backbone.tokenizer} makes ids up to {ids.max()}, but {backbone.name} knows {words}; set "
            "backbone.tokenizer to the one that the weights were made with"
        )
    return ids, mask


def _made_of(plan: Plan, backbone: Backbone, settings: FeatureSettings, ids: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """What the key is the hash of. The tokens stand for the tokenizer's files and the length of the texts."""
    tokens = hashlib.sha256(np.ascontiguousarray(ids))
    tokens.update(np.ascontiguousarray(mask))
    varied = f"; views: albef_randaug without flips, seed {VIEW_SEED}" if settings.views > 1 else ""
    return {
        "backbone": backbone.name,
        "weights": weights_hash(backbone),
        "widths": dict(backbone.widths),
        "image_size": backbone.image_size,
        "transform": f"albef, normalised by {list(backbone.mean)}, {list(backbone.std)}{varied}",
        "max_text_length": backbone.max_text_length,
        "tokens": tokens.hexdigest(),
        "data": plan.fingerprint,
        "dtype": settings.dtype,
        "precision": settings.precision,
        "views": settings.views,
    }


def weights_hash(backbone: nn.Module) -> str:
    """SHA-256 of the weights as they are in the model, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _begin(folder: Path, plan: Plan, parts: Mapping[str, Any], settings: Mapping[str, Any], shard: int) -> dict[str, Any]:
    """features.json, made if it is not there. DataError if it is of something else."""
    facts = read_facts(folder)
    if facts is not None:
        if differing := differences(facts["made_of"], parts):
            raise DataError(f"{folder} holds features of something else: {differing}; give another --features.dir, or delete it")
        return facts
    write_atomic(folder / "index.npz", lambda path: np.savez(path, pairs=plan.pairs, **plan.index))
    facts = {
        "layout": LAYOUT,
        "complete": False,
        "key": key_of(parts),
        "about": dict(plan.about),
        "made_of": dict(parts),
        "settings": dict(settings),
        "shard": shard,
    }
    write_json(folder / "features.json", facts)
    return facts


def _work_on(work: Work, folder: Path) -> None:
    """Parts until none is left; then, as the first to get there, all of them together."""
    files = [folder / "parts" / f"{k:05d}.npz" for k in range(work.parts)]
    done = sum(file.exists() for file in files)
    print(f"{folder}: {work.frozen.backbone.name}; {done} of {work.parts} parts of {work.shard} images are there", flush=True)
    began = time.perf_counter()
    with tqdm(total=work.parts, initial=done, unit="part", disable=None) as bar:
        while not read_facts(folder)["complete"]:
            worked = False
            for k in [k for k, file in enumerate(files) if not file.exists()]:
                with _claim(files[k].with_suffix(".lock")) as mine:
                    # Looked at again: another may have written it, or put everything together, a moment ago.
                    if mine and not files[k].exists() and not read_facts(folder)["complete"]:
                        part = compute_part(work, k)
                        write_atomic(files[k], lambda path, part=part: np.savez(path, **part))
                        bar.update()
                        worked = True
            with _claim(folder / ".lock", wait=True):
                if all(file.exists() for file in files) and not read_facts(folder)["complete"]:
                    _put_together(work, folder, files, time.perf_counter() - began)
            if not worked:
                time.sleep(0.2)  # others are at work on what is left; if one of them dies, its part becomes free


@torch.inference_mode()
def compute_part(work: Work, k: int) -> dict[str, np.ndarray]:
    """`image`, `text`, `fused`, `image_views`, `fused_views` of part k, in the order of the plan's rows and of `Work.pairs`;
    `readable`, and `complaints` about images that are not."""
    plan, rows, pairs = work.plan, work.rows(k), work.pairs(k)
    owner, asked = plan.pairs[pairs].T
    texts = np.unique(asked)
    text, states = work.frozen.texts(work.ids[texts], work.mask[texts], work.first[texts] == k)
    found = {"text": _stored(text, work)}
    complaints: dict[int, str] = {}
    for view in range(work.settings.views):
        seen = rows if view == 0 else rows[rows < plan.varied_images]
        varied = np.ones(len(pairs), bool) if view == 0 else pairs < plan.varied_pairs
        batches = [(view, part) for part in split(seen, work.frozen.batch_size)]
        vectors, fused = [], np.zeros((len(pairs), work.frozen.backbone.widths["fused"]), work.settings.dtype)
        for (_, part), batch in zip(
            batches, loader(work.pictures, batches, work.workers, work.frozen.device.type == "cuda"), strict=True
        ):
            complaints |= batch["complaints"]
            image, state = work.frozen.images(batch["images"])
            vectors.append(_stored(image, work))
            about = np.flatnonzero(varied & (owner >= part[0]) & (owner <= part[-1]))
            fused[about] = _stored(
                work.frozen.pairs(state, owner[about] - part[0], states, np.searchsorted(texts, asked[about])), work
            )
        image = np.concatenate(vectors) if vectors else np.zeros((0, work.frozen.backbone.widths["image"]), work.settings.dtype)
        broken = np.array([row in complaints for row in seen.tolist()], bool)
        image[broken], fused[np.isin(owner, seen[broken])] = 0, 0
        found |= {f"image_{view}": image, f"fused_{view}": fused[varied]}
    readable = np.array([row not in complaints for row in rows.tolist()], bool)
    said = [f"{plan.images[row]}: {text}" for row, text in sorted(complaints.items())]
    return found | {"readable": readable, "complaints": np.array(said, str)}


def _stored(vectors: torch.Tensor, work: Work) -> np.ndarray:
    """In the type in which they are kept. DataError if they are not finite there."""
    with np.errstate(over="ignore"):  # looked for below
        array = vectors.cpu().numpy().astype(work.settings.dtype)
    if not np.isfinite(array).all():
        kept = f"precision {work.settings.precision}, dtype {work.settings.dtype}"
        raise DataError(f"{work.frozen.backbone.name}: features are NaN or infinite ({kept}); try precision no and dtype float32")
    return array


def _put_together(work: Work, folder: Path, files: Sequence[Path], seconds: float) -> None:
    """The arrays, then features.json that says so; the parts are then removed. DataError names images that cannot be used, unless
    those are to be skipped."""
    plan, shapes = work.plan, _shapes(work)
    temporary = {name: folder / f".tmp.{name}" for name in shapes}
    kinds = dict.fromkeys(shapes, work.settings.dtype) | {"readable.npy": bool}
    arrays = {name: open_memmap(temporary[name], "w+", kinds[name], shape) for name, shape in shapes.items()}
    complaints = _fill(arrays, work, files)
    affected = int((~arrays["readable.npy"][plan.pairs[:, 0]]).sum())
    if complaints and not work.settings.skip_missing:
        raise DataError(
            f"{len(complaints):,} of {len(plan.images):,} images cannot be used, which {affected:,} pairs need; first: "
            f"{complaints[0]}; put good files there and give the same command, or set features.skip_missing to leave them out"
        )
    for name, array in arrays.items():
        array.flush()
        temporary[name].replace(folder / name)
    counts = {"images": len(plan.images), "texts": len(plan.texts), "pairs": len(plan.pairs)}
    size = sum((folder / name).stat().st_size for name in shapes)
    left_out = {"images": len(complaints), "of": len(plan.images), "pairs": affected, "first": complaints[0] if complaints else ""}
    made = {"complete": True, "shapes": shapes, "bytes": size, "left_out": left_out, **counts}
    write_json(folder / "features.json", read_facts(folder) | made)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    without = f"; left out: {len(complaints):,} images, {affected:,} pairs" if complaints else ""
    listed = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    print(f"{folder}: complete: {listed}, {size / 1e6:,.1f} MB, {seconds:.0f} s{without}", flush=True)


def _shapes(work: Work) -> dict[str, tuple[int, ...]]:
    """Of every file of features."""
    plan, widths, views = work.plan, work.frozen.backbone.widths, work.settings.views
    shapes = {
        "image.npy": (len(plan.images), widths["image"]),
        "text.npy": (len(plan.texts), widths["text"]),
        "fused.npy": (len(plan.pairs), widths["fused"]),
        "readable.npy": (len(plan.images),),
    }
    if views > 1:
        shapes["image_views.npy"] = (plan.varied_images, views - 1, widths["image"])
        shapes["fused_views.npy"] = (plan.varied_pairs, views - 1, widths["fused"])
    return shapes


def _fill(arrays: Mapping[str, np.ndarray], work: Work, files: Sequence[Path]) -> list[str]:
    """Every part to its rows -> complaints about images. A part with any is removed and made again, unless they are skipped."""
    plan, complaints = work.plan, []
    for k, file in enumerate(files):
        part = _read_part(file)
        if len(part["complaints"]) and not work.settings.skip_missing:
            file.unlink()
        complaints += part["complaints"].tolist()
        rows, pairs = work.rows(k), work.pairs(k)
        texts = np.unique(plan.pairs[pairs, 1])
        arrays["image.npy"][rows], arrays["fused.npy"][pairs] = part["image_0"], part["fused_0"]
        arrays["text.npy"][texts[work.first[texts] == k]], arrays["readable.npy"][rows] = part["text"], part["readable"]
        for view in range(1, work.settings.views):
            arrays["image_views.npy"][rows[rows < plan.varied_images], view - 1] = part[f"image_{view}"]
            arrays["fused_views.npy"][pairs[pairs < plan.varied_pairs], view - 1] = part[f"fused_{view}"]
    return complaints


def _read_part(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as part:
            return dict(part)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        file.unlink(missing_ok=True)
        raise DataError(f"{file}: was damaged ({error}) and is removed; the same command makes it again") from error


@contextmanager
def _claim(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone holds `path` meanwhile. The system frees it when a process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield True
