"""Running the frozen backbone once over a data set, into a folder of `features`.

The images are cut into parts of SHARD images. A part is one file, with the features of its images,
of the pairs about them, and of the texts that first occur there; it is written whole or not at all.
Any number of processes may work on a folder: each takes a part that nobody is at work on, and what
a killed process has not written another one does. The last one puts the parts together.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import nn
from tqdm import tqdm

from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic, write_json, write_text
from VQA_and_NLVR2.backbones.base import Backbone, BackboneSettings
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.features.cache import (
    LAYOUT,
    FeatureSettings,
    Plan,
    differences,
    key_of,
    made_with,
    read_facts,
    refuse_left_out,
)
from VQA_and_NLVR2.features.frozen import VIEW_SEED, Frozen, Pictures
from VQA_and_NLVR2.features.shards import SHARD, Work, compute_part
from VQA_and_NLVR2.features.source_files import files_of, identities, picture_bytes


def extract(
    plan: Plan, paths: Sequence[Path | None], backbone: Backbone, chosen: BackboneSettings, settings: FeatureSettings,
    folder: Path, device: torch.device, workers: int = 0, shard: int = SHARD,
) -> None:  # fmt: skip
    """Make `folder`, or go on with it; one that is complete is left alone.

    `paths` [images], None for a missing one. `chosen`: the settings that `backbone` was built from.
    DataError if the folder holds features of anything else (weights, tokens, data, transform ...),
    or images are missing or damaged and not to be skipped.
    """
    _refuse_missing(plan, paths, settings)
    ids, mask = _tokens(plan, backbone)
    made_of = _made_of(plan, backbone, settings, ids, mask)
    with _claim(folder / ".lock", wait=True):
        facts = _begin(
            folder,
            plan,
            made_of,
            made_with(chosen, settings),
            {**files_of(chosen), **plan.files},
            paths,
            shard,
        )
    if facts["complete"]:
        refuse_left_out(folder, facts, settings)
        return print(f"{folder}: already complete (key {facts['key'][:12]})")
    frozen = Frozen(backbone, device, settings.precision, settings.batch_size)
    pictures = Pictures(paths, backbone.image_size, settings.flip)
    _work_on(Work(plan, frozen, pictures, settings, ids, mask, workers, facts["shard"]), folder)


def _refuse_missing(plan: Plan, paths: Sequence[Path | None], settings: FeatureSettings) -> None:
    missing = [row for row, path in enumerate(paths) if path is None]
    if missing:
        about = int(np.isin(plan.pairs[:, 0], missing).sum())
        named = ", ".join(plan.images[row] for row in missing[:3]) + ", ..." * (len(missing) > 3)
        line = f"images: {len(missing):,} of {len(plan.images):,} missing, which {about:,} of {len(plan.pairs):,} pairs need: {named}"
        if not settings.skip_missing:
            raise DataError(
                f"{line}; get them, or set features.skip_missing to leave those pairs out"
            )
        print(f"{line}; left out")


def _tokens(plan: Plan, backbone: Backbone) -> tuple[np.ndarray, np.ndarray]:
    ids, mask, cut = tokenize(
        load_tokenizer(backbone.tokenizer), list(plan.texts), backbone.max_text_length
    )
    if cut:
        print(
            f"texts: {cut:,} of {len(plan.texts):,} are longer than {backbone.max_text_length} tokens and cut"
        )
    # The words are the longest of a backbone's tables. Without this look a GPU would stop at an
    # assertion.
    words = max(
        module.num_embeddings for module in backbone.modules() if isinstance(module, nn.Embedding)
    )
    if ids.max() >= words:
        raise SettingsError(
            f"tokenizer {backbone.tokenizer} makes ids up to {ids.max()}, but {backbone.name} knows {words}; set "
            "backbone.tokenizer to the one that the weights were made with"
        )
    return ids, mask


def _made_of(
    plan: Plan, backbone: Backbone, settings: FeatureSettings, ids: np.ndarray, mask: np.ndarray
) -> dict[str, Any]:
    """What the key is the hash of. The tokens stand for the tokenizer's files and the length of the
    texts."""
    tokens = hashlib.sha256(np.ascontiguousarray(ids))
    tokens.update(np.ascontiguousarray(mask))
    flips = "with" if settings.flip else "without"
    varied = f"; views: albef_randaug {flips} flips, seed {VIEW_SEED}" if settings.views > 1 else ""
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


def _begin(
    folder: Path, plan: Plan, made_of: Mapping[str, Any], settings: Mapping[str, Any], files: Mapping[str, Path],
    paths: Sequence[Path | None], shard: int,
) -> dict[str, Any]:  # fmt: skip
    """features.json, made if it is not there. DataError if it is of something else.

    Where only the data set's own arrays have changed these are written again, and where image files
    have been exchanged the parts that they belong to are to be made again: `todo`.
    """
    facts, sizes = read_facts(folder), picture_bytes(paths)
    if facts is None:
        facts = {
            "layout": LAYOUT,
            "complete": False,
            "key": key_of(made_of),
            "made_of": dict(made_of),
            "todo": None,
            "shard": shard,
        }
        changed = np.empty(0, int)
    else:
        if differing := differences(facts["made_of"], made_of):
            raise DataError(
                f"{folder} holds features of something else: {differing}; give another --features.dir, or delete it"
            )
        changed = np.flatnonzero(_read_sizes(folder, len(sizes)) != sizes)
    now = facts | {
        "about": dict(plan.about),
        "settings": dict(settings),
        "files": identities(files),
        "index": plan.index_fingerprint,
    }
    if len(changed):
        again = sorted(set((changed // facts["shard"]).tolist()))
        print(
            f"{folder}: {len(changed):,} image files are others than before; {len(again):,} parts are made again",
            flush=True,
        )
        if facts["complete"] or facts["todo"] is not None:
            now["todo"] = sorted({*again, *(facts["todo"] or [])})
        now["complete"] = False
        for k in again:
            with _claim(
                _lock(folder, k), wait=True
            ):  # whoever is at work on it may have read the file of before
                _part(folder, k).unlink(missing_ok=True)
    if now != facts:
        if now["index"] != facts.get("index"):
            write_atomic(
                folder / "index.npz", lambda path: np.savez(path, pairs=plan.pairs, **plan.index)
            )
        write_json(folder / "features.json", now)
    if len(changed) or not (folder / "pictures.npy").exists():
        write_atomic(folder / "pictures.npy", lambda path: np.save(path, sizes))
    return now


def _read_sizes(folder: Path, images: int) -> np.ndarray:
    """Sizes of the image files as they were; -2, which no file has, where they are not known."""
    try:
        stored = np.load(folder / "pictures.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.full(images, -2)
    return stored if stored.shape == (images,) else np.full(images, -2)


def _part(folder: Path, k: int) -> Path:
    return folder / "parts" / f"{k:05d}.npz"


def _work_on(work: Work, folder: Path) -> None:
    """Parts until none is left; then, as the first to get there, all of them together.

    What is to be done is read anew every time, since another process may have found more of it.
    """
    began = time.perf_counter()
    files = _files_of(work, folder)
    done = sum(file.exists() for file in files.values())
    print(
        f"{folder}: {work.frozen.backbone.name}; {done} of {len(files)} parts of {work.shard} images are there",
        flush=True,
    )
    with tqdm(total=len(files), initial=done, unit="part", disable=None) as bar:
        while not read_facts(folder)["complete"]:
            worked = False
            for k, file in [
                (k, file) for k, file in _files_of(work, folder).items() if not file.exists()
            ]:
                with _claim(_lock(folder, k)) as mine:
                    # Looked at again: another may have written it, or put everything together, a
                    # moment ago.
                    if mine and not file.exists() and not read_facts(folder)["complete"]:
                        part = compute_part(work, k)
                        write_atomic(file, lambda path, part=part: np.savez(path, **part))
                        bar.update()
                        worked = True
            with _claim(folder / ".lock", wait=True):
                files = _files_of(work, folder)
                if (
                    all(file.exists() for file in files.values())
                    and not read_facts(folder)["complete"]
                ):
                    _put_together(
                        work,
                        folder,
                        files,
                        read_facts(folder)["todo"] is None,
                        time.perf_counter() - began,
                    )
            if not worked:
                time.sleep(
                    0.2
                )  # others are at work on what is left; if one of them dies, its part becomes free


def _files_of(work: Work, folder: Path) -> dict[int, Path]:
    """{part: its file} of those that are to be there before all is put together."""
    todo = read_facts(folder)["todo"]
    return {k: _part(folder, k) for k in (range(work.parts) if todo is None else todo)}


def _lock(folder: Path, k: int) -> Path:
    """Held by the process that is at work on part k; not in the folder of the parts, which goes
    when all is put together."""
    return folder / ".locks" / f"{k:05d}"


def _put_together(
    work: Work, folder: Path, files: Mapping[int, Path], whole: bool, seconds: float
) -> None:
    """The arrays, then features.json that says so; the parts are then removed. Without `whole`, the
    parts replace those of before.

    DataError names images that cannot be used, unless those are to be skipped; all of them stand in
    unreadable.txt.
    """
    plan, shapes = work.plan, _shapes(work)
    temporary = {name: folder / f".tmp.{name}" for name in shapes}
    kinds = dict.fromkeys(shapes, work.settings.dtype) | {"readable.npy": bool}
    if whole:
        arrays = {
            name: open_memmap(temporary[name], "w+", kinds[name], shape)
            for name, shape in shapes.items()
        }
    else:
        arrays = {
            name: np.load(shutil.copy(folder / name, temporary[name]), mmap_mode="r+")
            for name in shapes
        }
    before = {} if whole else _read_complaints(folder)
    again = {plan.images[row] for k in files for row in work.rows(k).tolist()}
    complaints = {name: text for name, text in before.items() if name not in again} | _fill(
        arrays, work, files
    )
    write_text(
        folder / "unreadable.txt", "".join(f"{name}: {text}\n" for name, text in complaints.items())
    )
    first = next((f"{name}: {text}" for name, text in complaints.items()), "")
    affected = int((~arrays["readable.npy"][plan.pairs[:, 0]]).sum())
    if complaints and not work.settings.skip_missing:
        raise DataError(
            f"{len(complaints):,} of {len(plan.images):,} images cannot be used, which {affected:,} pairs need; first: {first} "
            f"(all: {folder / 'unreadable.txt'}); mend them and give the same command, or set features.skip_missing"
        )
    for name, array in arrays.items():
        array.flush()
        temporary[name].replace(folder / name)
    counts = {"images": len(plan.images), "texts": len(plan.texts), "pairs": len(plan.pairs)}
    size = sum((folder / name).stat().st_size for name in shapes)
    left_out = {
        "images": len(complaints),
        "of": len(plan.images),
        "pairs": affected,
        "first": first,
    }
    made = {
        "complete": True,
        "todo": None,
        "shapes": shapes,
        "bytes": size,
        "left_out": left_out,
        **counts,
    }
    write_json(folder / "features.json", read_facts(folder) | made)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    without = f"; left out: {len(complaints):,} images, {affected:,} pairs" if complaints else ""
    listed = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    print(
        f"{folder}: complete: {listed}, {size / 1e6:,.1f} MB, {seconds:.0f} s{without}", flush=True
    )


def _read_complaints(folder: Path) -> dict[str, str]:
    path = folder / "unreadable.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split(": ", 1) for line in lines)


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


def _fill(
    arrays: Mapping[str, np.ndarray], work: Work, files: Mapping[int, Path]
) -> dict[str, str]:
    """Every part to its rows -> {image: what is wrong}. A part with any such is removed and made
    again, unless they are skipped."""
    plan, complaints = work.plan, {}
    for k, file in files.items():
        part = _read_part(file)
        if len(part["complaints"]) and not work.settings.skip_missing:
            file.unlink()
        complaints |= dict(line.split(": ", 1) for line in part["complaints"].tolist())
        rows, pairs = work.rows(k), work.pairs(k)
        texts = np.unique(plan.pairs[pairs, 1])
        arrays["image.npy"][rows], arrays["fused.npy"][pairs] = part["image_0"], part["fused_0"]
        arrays["text.npy"][texts[work.first[texts] == k]], arrays["readable.npy"][rows] = (
            part["text"],
            part["readable"],
        )
        for view in range(1, work.settings.views):
            arrays["image_views.npy"][rows[rows < plan.varied_images], view - 1] = part[
                f"image_{view}"
            ]
            arrays["fused_views.npy"][pairs[pairs < plan.varied_pairs], view - 1] = part[
                f"fused_{view}"
            ]
    return complaints


def _read_part(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as part:
            return dict(part)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        file.unlink(missing_ok=True)
        raise DataError(
            f"{file}: was damaged ({error}) and is removed; the same command makes it again"
        ) from error


@contextmanager
def _claim(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone holds `path` meanwhile. The system frees it when a process ends,
    however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield True
