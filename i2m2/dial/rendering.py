"""The symbols of a dial as what an encoder reads, with missing modalities, and as files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from i2m2.dial.distribution import Dial, Symbols, generator_of
from i2m2.errors import SettingsError
from i2m2.files import write_atomic, write_json

KINDS = ("onehot", "vector", "picture", "series", "words")
NOISY = ("vector", "picture", "series")
# At this noise the nearest template is another symbol's at most 5 times in a million, up to 11
# classes: the exact values hold for the blocks as well.
NOISE = 0.25
VECTOR_SIZE = 16
SERIES_STEPS = 8


def render(
    symbols: Symbols,
    kinds: str | Mapping[str, str],
    classes: int,
    seed: int = 0,
    noise: float = NOISE,
) -> dict[str, np.ndarray]:
    """Symbols as what an encoder reads: {modality: [n]} -> {modality: [n, ..]}, see `templates`.

    `kinds`: one for all modalities, or {modality: kind}. Normal noise of standard deviation `noise`
    is added to vectors, pictures and series, float32; one-hot blocks and words are exact.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise SettingsError(f"noise is {noise}; it is a finite number of at least 0")
    rng = generator_of(seed, "noise")
    blocks = {}
    for name, x in symbols.items():
        kind = kinds if isinstance(kinds, str) else kinds[name]
        block = templates(kind, classes)[x]
        if kind in NOISY:
            block += noise * rng.standard_normal(block.shape, dtype=np.float32)
        blocks[name] = block
    return blocks


def templates(kind: str, classes: int) -> np.ndarray:
    """What every symbol x = K b + c looks like without noise, [K*K, ..] float32.

    onehot [K*K, K*K]: place x is 1. vector [K*K, 16]: a row of a normal matrix, the same always.
    picture [K*K, 2 K, 2 K]: a bright square in row b and column c. series [K*K, 8, K]: channel b is
    1 in the first half of the steps, channel c in the second. words [K*K]: "box3 holds card1",
    objects. SettingsError for another kind.
    """
    symbols = classes**2
    b, c = np.divmod(np.arange(symbols), classes)
    one_hot = np.eye(symbols, dtype=np.float32)
    if kind == "onehot":
        return one_hot
    if kind == "vector":
        rng = np.random.default_rng(symbols)
        return rng.standard_normal((symbols, VECTOR_SIZE), dtype=np.float32)
    if kind == "picture":
        cells = one_hot.reshape(symbols, classes, classes)
        return cells.repeat(2, axis=1).repeat(2, axis=2)
    if kind == "series":
        halves = np.eye(classes, dtype=np.float32)[np.stack([b, c], axis=1)]
        return halves.repeat(SERIES_STEPS // 2, axis=1)
    if kind == "words":
        return np.array([f"box{i} holds card{j}" for i, j in zip(b, c, strict=True)], dtype=object)
    raise SettingsError(f"no kind of block {kind!r}; known: {', '.join(KINDS)}")


def drop_modalities(
    blocks: Mapping[str, np.ndarray], rate: float, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Blocks with each modality of each example missing with probability `rate`, independently of
    everything -> blocks with rows of NaN (None for words), and {modality: [n] whether present}."""
    if not 0 <= rate < 1:
        raise SettingsError(f"missing is {rate}; it is a rate of at least 0 and below 1")
    rng = generator_of(seed, "missing")
    present = {name: rng.random(len(block)) >= rate for name, block in blocks.items()}
    kept = {name: block.copy() for name, block in blocks.items()}
    for name, block in kept.items():
        block[~present[name]] = None if block.dtype == object else np.nan
    return kept, present


def save(
    path: Path,
    dial: Dial,
    n: int,
    seed: int = 0,
    kinds: Sequence[str] = ("onehot",),
    missing: float = 0.0,
) -> None:
    """Write `n` examples to `path` and what is known of them beside it, as .json.

    The .npz needs no pickle: `y` [n] and one block per modality, missing rows NaN, missing words
    "". The .json holds the settings and, under `exact`, `Dial.exact()`, which is what the complete
    examples hold. `kinds`: one for all modalities, or one each.
    """
    if path.suffix != ".npz":
        raise SettingsError(f"{path}: the name of the data ends in .npz")
    if len(kinds) not in (1, len(dial.modalities)):
        raise SettingsError(f"{len(kinds)} kinds for {len(dial.modalities)} modalities; 1 or each")
    each = kinds if len(kinds) > 1 else [*kinds] * len(dial.modalities)
    kind_of = dict(zip(dial.modalities, each, strict=True))
    facts = {"dial": asdict(dial), "n": n, "seed": seed, "render": kind_of, "missing": missing}
    facts["exact"] = dial.exact()
    data = dial.sample(n, seed)
    blocks = render(data.symbols, kind_of, dial.classes, seed)
    blocks, _ = drop_modalities(blocks, missing, seed)
    arrays = {name: _without_objects(block) for name, block in blocks.items()} | {"y": data.y}
    write_atomic(path, lambda temporary: np.savez_compressed(temporary, **arrays))
    write_json(path.with_suffix(".json"), facts)


def _without_objects(block: np.ndarray) -> np.ndarray:
    """The block as numpy saves it without pickle: texts as fixed-width strings, None as ""."""
    if block.dtype != object:
        return block
    return np.array([text or "" for text in block], dtype=str)
