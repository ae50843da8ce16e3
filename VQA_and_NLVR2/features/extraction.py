"""Running the frozen backbone once over a data set, into a folder of `features`.

The images are cut into parts of SHARD images. A part is one file, with the features of its images,
of the pairs about them, and of the texts that first occur there; it is written whole or not at all.
Any number of processes may work on a folder; the last one puts the parts together. With a `share`
a process makes its own parts, by their numbers, and leaves the rest to others, so that they need no
locks to share the work.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from i2m2.errors import DataError, SettingsError
from i2m2.files import write_atomic
from i2m2.training.data import seed_everything
from VQA_and_NLVR2.backbones.base import Backbone
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.features.assembly import put_together
from VQA_and_NLVR2.features.cache import Features
from VQA_and_NLVR2.features.folder import (
    begin,
    claim,
    folder_lock,
    part_lock,
    parts_to_make,
    refuse_foreign,
)
from VQA_and_NLVR2.features.frozen import VIEW_SEED, Frozen, Pictures, device_of
from VQA_and_NLVR2.features.plan import Plan, is_complete, made_with, refuse_left_out
from VQA_and_NLVR2.features.settings import FeatureConfig, FeatureSettings
from VQA_and_NLVR2.features.shards import Work, compute_part
from VQA_and_NLVR2.features.source_files import files_of
from VQA_and_NLVR2.synthetic.tiny_fiber import make_tiny_fiber_once

SHARD = 512  # images of a part: a minute on a GPU
Share = tuple[int, int]  # (k, n): the parts k, k + n, ...


def extract_from_settings(
    plan: Plan, paths: Sequence[Path | None], config: FeatureConfig, share: Share | None = None
) -> None:
    """`extract` with the backbone that the settings describe."""
    make_tiny_fiber_once(config.backbone)
    # Where parts of a backbone have random weights, they are the same ones every time.
    seed_everything(0)
    backbone = build_backbone(config.backbone)
    print(backbone.report, flush=True)
    extract(plan, paths, backbone, config, share)


def extract(
    plan: Plan,
    paths: Sequence[Path | None],
    backbone: Backbone,
    config: FeatureConfig,
    share: Share | None = None,
) -> None:
    """Make the folder of features, or resume it; one that is complete is left alone. With a `share`
    only its parts, which are not put together.

    `paths` [images], None for a missing one; `config`: the settings that `backbone` was built from.
    SettingsError if the folder holds files of anybody else. DataError if it holds features of
    anything else (weights, tokens, data, transform ...), complete ones of which a file is missing
    or damaged, or images are missing or damaged and not to be skipped.
    """
    settings, folder, device = config.features, config.features_folder, device_of(config.device)
    refuse_foreign(folder)
    _refuse_missing(plan, paths, settings)
    ids, mask = _tokens(plan, backbone)
    made_of = _made_of(plan, backbone, settings, ids, mask)
    files = {**files_of(config.backbone), **plan.files}
    with claim(folder_lock(folder), wait=True):
        chosen = made_with(config.backbone, settings)
        facts = begin(folder, plan, made_of, chosen, files, paths, SHARD)
    if facts["complete"]:
        refuse_left_out(folder, facts, settings)
        Features(folder, facts).index()  # as training opens them: a file may be gone or cut short
        return print(f"{folder}: already complete (key {facts['key'][:12]})")
    frozen = Frozen(backbone, device, settings.precision, settings.batch_size)
    pictures = Pictures(paths, backbone.image_size, settings.flip)
    work = Work(plan, frozen, pictures, settings, ids, mask, config.workers, facts["shard"])
    _work_on(work, folder, share)


def _refuse_missing(plan: Plan, paths: Sequence[Path | None], settings: FeatureSettings) -> None:
    missing = [row for row, path in enumerate(paths) if path is None]
    if not missing:
        return
    about = int(np.isin(plan.pairs[:, 0], missing).sum())
    named = ", ".join(plan.images[row] for row in missing[:3]) + ", ..." * (len(missing) > 3)
    line = (
        f"images: {len(missing):,} of {len(plan.images):,} missing, "
        f"which {about:,} of {len(plan.pairs):,} pairs need: {named}"
    )
    if not settings.skip_missing:
        where = f" (looked for as {plan.looked_for})" if plan.looked_for else ""
        raise DataError(
            f"{line}{where}; get them, or set features.skip_missing to leave those pairs out"
        )
    print(f"{line}; left out")


def _tokens(plan: Plan, backbone: Backbone) -> tuple[np.ndarray, np.ndarray]:
    longest = backbone.max_text_length
    ids, mask, cut = tokenize(load_tokenizer(backbone.tokenizer), list(plan.texts), longest)
    if cut:
        texts = f"{cut:,} of {len(plan.texts):,}"
        print(f"texts: {texts} are longer than {longest} tokens and cut")
    # The words are the longest of a backbone's tables. Without this look a GPU would stop at an
    # assertion.
    tables = [module for module in backbone.modules() if isinstance(module, nn.Embedding)]
    words = max(table.num_embeddings for table in tables)
    if ids.max() >= words:
        raise SettingsError(
            f"tokenizer {backbone.tokenizer} makes ids up to {ids.max()}, but {backbone.name} "
            f"knows {words}; set backbone.tokenizer to the one that the weights were made with"
        )
    return ids, mask


def _made_of(
    plan: Plan, backbone: Backbone, settings: FeatureSettings, ids: np.ndarray, mask: np.ndarray
) -> dict[str, object]:
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


def _work_on(work: Work, folder: Path, share: Share | None) -> None:
    """Parts until none is left; then, as the first to get there, all of them together. With a
    `share` its parts alone.

    What is to be done is read anew every time, since another process may have found more of it.
    """
    began = time.perf_counter()
    files = parts_to_make(folder, work.parts)
    done = sum(file.exists() for file in files.values())
    parts = f"{done} of {len(files)} parts of {work.shard} images are there"
    print(f"{folder}: {work.frozen.backbone.name}; {parts}", flush=True)
    with tqdm(total=len(files), initial=done, unit="part", disable=None) as bar:
        if share:
            _make_free_parts(work, folder, bar, share)
            return
        while not is_complete(folder):
            made = _make_free_parts(work, folder, bar)
            with claim(folder_lock(folder), wait=True):
                files = parts_to_make(folder, work.parts)
                if all(file.exists() for file in files.values()) and not is_complete(folder):
                    put_together(work, folder, files, time.perf_counter() - began)
            if not made:
                # Others are at work on what is left; if one of them dies, its part becomes free.
                time.sleep(0.2)


def _make_free_parts(work: Work, folder: Path, bar: tqdm, share: Share = (0, 1)) -> int:
    """Make every part of the share that is not there and that nobody is at work on -> how many."""
    made = 0
    place, count = share
    parts = {k: file for k, file in parts_to_make(folder, work.parts).items() if k % count == place}
    for k, file in [(k, file) for k, file in parts.items() if not file.exists()]:
        with claim(part_lock(folder, k)) as mine:
            # Looked at again: another may have written it, or put everything together, a moment
            # ago.
            if mine and not file.exists() and not is_complete(folder):
                part = compute_part(work, k)
                write_atomic(file, lambda path, part=part: np.savez(path, **part))
                bar.update()
                made += 1
    return made
