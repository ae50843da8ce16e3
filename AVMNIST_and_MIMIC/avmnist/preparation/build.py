"""Building a prepared AV-MNIST folder from images, labels and recordings, by rules that it records.

image/{train,test}_data.npy   float32 [N, 784], 0..255
audio/{train,test}_data.npy   uint8 [N, 112, 112]
{train,test}_labels.npy       uint8 [N], 0..9
pairs.csv                     file, row, label, part, recording, noise, snr_db of every row
dataset.json                  what it is, every rule, the validation rows, size and sha256 of every file
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits  # comes with scikit-learn
from tqdm import tqdm

from AVMNIST_and_MIMIC.avmnist.preparation import audio
from AVMNIST_and_MIMIC.avmnist.preparation.images import (
    Digits,
    count_components,
    fit_pca,
    keep_components,
)
from AVMNIST_and_MIMIC.avmnist.preparation.noise import KINDS, Mixer, NoiseClips
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_json

RECIPE = 1  # raised when the same rules would give other values
COLUMNS = ("file", "row", "label", "part", "recording", "noise", "snr_db")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Every rule of the preparation; the defaults are the variant `calibrated`.

    The range of signal-to-noise ratios is calibrated on the validation rows of MNIST and FSDD with
    generated noise, so that audio alone reaches 40-45 %: see README.md, "Variants", which also says
    what was known of test rows.
    """

    energy: float = 0.25  # share of the variance the kept components explain
    energy_rule: Literal["reach", "within"] = (
        "reach"  # the fewest components that reach it, or the most that stay within
    )
    components: int | None = None  # a fixed number instead of the energy
    add_mean: bool = True
    pca_fit: Literal["train", "each"] = (
        "train"  # on the training images alone, or on each file by itself
    )
    val_rows: int | None = (
        None  # the last rows of the train files; null: a twelfth of them (5,000 of 60,000)
    )
    speakers: tuple[str, ...] = ()  # empty: all
    split: Literal["take", "speaker"] = "take"  # what no two parts share
    test_takes: tuple[int, ...] = tuple(range(5))  # FSDD's own test split
    val_takes: tuple[int, ...] = tuple(
        range(5, 10)
    )  # empty: validation shares the training recordings
    test_speakers: tuple[str, ...] = ()  # split `speaker`; empty: the last by name
    val_speakers: tuple[str, ...] = ()  # empty: the last by name that is left
    noise: tuple[str, ...] = KINDS  # of these kinds, or `clips`; empty: none
    snr_min: float = -30.0  # dB over the whole clip
    snr_max: float = -5.0

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.noise if kind not in (*KINDS, "clips")]
        if unknown:
            raise SettingsError(
                f"noise: {unknown[0]!r} is unknown; choose from {', '.join(KINDS)}, a folder of WAVs, or none"
            )
        if self.components is not None and not 1 <= self.components <= 784:
            raise SettingsError(f"components={self.components}: must be 1..784")
        if not 0 < self.energy <= 1:
            raise SettingsError(f"energy={self.energy:g}: must lie in 0..1, for example 0.25")
        if not (math.isfinite(self.snr_min) and math.isfinite(self.snr_max)):
            raise SettingsError(
                f"snr_min={self.snr_min:g}, snr_max={self.snr_max:g}: give decibels, such as -30 and -5"
            )
        if self.snr_min > self.snr_max:
            raise SettingsError(
                f"snr_min={self.snr_min:g} exceeds snr_max={self.snr_max:g}; give the lower one as --snr-min"
            )
        if self.val_rows is not None and self.val_rows < 1:
            raise SettingsError(f"val_rows={self.val_rows}: must be at least 1")
        if set(self.test_takes) & set(self.val_takes):
            raise SettingsError(
                f"takes {sorted(set(self.test_takes) & set(self.val_takes))} are named for both test and validation"
            )


@dataclass(frozen=True)
class Material:
    """What is combined, and the sha256 of each input, by which a repeated command is recognised."""

    train: Digits
    test: Digits
    recordings: list[audio.Recording]
    sha256: Mapping[str, str]
    misnamed: int = 0
    noise: NoiseClips | None = None


@dataclass(frozen=True)
class Label:
    """What the folder says it is."""

    variant: str
    synthetic: bool
    description: str
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


def build(out: Path, material: Material, rules: Rules, label: Label) -> bool:
    """Write the folder `out`, whole or not at all; -> False if it already holds exactly this. Other
    content is refused."""
    facts = facts_of(rules, label, material.sha256)
    if holds(out, facts):
        return False
    need = (len(material.train.labels) + len(material.test.labels)) * (
        audio.SIZE**2 + 4 * 784
    )  # bytes, nearly all of them
    out.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(out.parent).free < need:
        raise OSError(errno.ENOSPC, f"{need / 1e9:.1f} GB are needed", str(out))
    temporary = out.with_name(f".{os.getpid()}.tmp.{out.name}")
    try:
        with threadpool_limits(
            1
        ):  # the products are small: more threads only wait for each other, and would decide the last bits
            facts |= _write(temporary, material, rules, label.seed)
        facts["files"] = {name: describe(temporary / name) for name in FILES}
        write_json(temporary / "dataset.json", facts)
        _publish(temporary, out, facts)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


FILES = ("image/train_data.npy", "image/test_data.npy", "audio/train_data.npy", "audio/test_data.npy",
         "train_labels.npy", "test_labels.npy", "pairs.csv")  # fmt: skip
IDENTITY = ("variant", "recipe", "seed", "settings", "inputs")


def facts_of(rules: Rules, label: Label, sha256: Mapping[str, str]) -> dict[str, Any]:
    """What dataset.json says before anything is built."""
    facts = {"dataset": "avmnist", "variant": label.variant, "synthetic": label.synthetic, "description": label.description,
             "recipe": RECIPE, "seed": label.seed, "settings": asdict(rules), "inputs": dict(sha256)}  # fmt: skip
    return json.loads(json.dumps(facts))  # tuples as lists, as they will be read back


def holds(out: Path, facts: Mapping[str, Any]) -> bool:
    """Whether `out` is this very data set; SettingsError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        there = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        differing = [key for key in IDENTITY if there.get(key) != facts[key]]
    except (OSError, ValueError, AttributeError):
        raise SettingsError(
            f"{out} is not empty and not a folder this command wrote; give another --out, or remove it"
        ) from None
    if "settings" in differing and isinstance(there.get("settings"), dict):
        differing += [
            f"settings.{key}"
            for key, value in facts["settings"].items()
            if there["settings"].get(key) != value
        ]
        differing.remove("settings")
    if differing:
        raise SettingsError(
            f"{out} holds a data set prepared otherwise ({', '.join(differing)} differ); give another --out, or remove it"
        )
    return True


def _publish(temporary: Path, out: Path, facts: Mapping[str, Any]) -> None:
    """Rename to `out`; if another process was first with the same data set, theirs stays."""
    try:
        os.rename(temporary, out)
    except OSError:
        if not holds(out, facts):
            raise


def _write(folder: Path, material: Material, rules: Rules, seed: int) -> dict[str, Any]:
    for name in ("image", "audio"):
        (folder / name).mkdir(parents=True)
    total = len(material.train.labels)
    val_rows = rules.val_rows if rules.val_rows is not None else max(1, total // 12)
    if val_rows >= total:
        raise SettingsError(f"val_rows={val_rows}: the train files have only {total} rows")
    np.save(folder / "train_labels.npy", material.train.labels)
    np.save(folder / "test_labels.npy", material.test.labels)
    images = _write_images(folder / "image", material, rules)
    speech = _write_audio(folder, material, rules, seed, total - val_rows)
    counts = {"train": total - val_rows, "val": val_rows, "test": len(material.test.labels)}
    return {
        "counts": counts,
        "validation_rows": [total - val_rows, total],
        **images,
        "speech": speech,
    }


def _write_images(folder: Path, material: Material, rules: Rules) -> dict[str, Any]:
    pca, facts = fit_pca(material.train.images), {}
    for name, digits in (("train", material.train), ("test", material.test)):
        if name == "test" and rules.pca_fit == "each":
            pca = fit_pca(digits.images)
        components = rules.components or count_components(
            pca.ratio, rules.energy, rules.energy_rule
        )
        np.save(
            folder / f"{name}_data.npy",
            keep_components(digits.images, pca, components, rules.add_mean),
        )
        facts |= {
            f"components_{name}": components,
            f"explained_{name}": round(float(pca.ratio[:components].sum()), 6),
        }
    if rules.pca_fit == "train":
        return {"components": facts["components_train"], "explained": facts["explained_train"]}
    return {"components": facts["components_train"], "explained": facts["explained_train"], **facts}


def choose(
    recordings: list[audio.Recording], rules: Rules
) -> tuple[list[audio.Recording], dict[str, list[int]]]:
    """-> the recordings of the chosen speakers, and for every part their positions in that list."""
    speakers = sorted({recording.speaker for recording in recordings})
    for key in ("speakers", "test_speakers", "val_speakers"):
        unknown = [name for name in getattr(rules, key) if name not in speakers]
        if unknown:
            raise SettingsError(
                f"{key}: there is no speaker {unknown[0]!r}; choose from {', '.join(speakers)}, or `all`"
            )
    chosen = [
        recording
        for recording in recordings
        if not rules.speakers or recording.speaker in rules.speakers
    ]
    lacking = sorted(set(range(10)) - {recording.digit for recording in chosen})
    if lacking:
        raise DataError(
            f"there is no recording of digit {lacking[0]}; every digit 0..9 needs some. Complete the folder given as --speech"
        )
    if rules.split == "take":
        return chosen, audio.split_by_take(chosen, rules.test_takes, rules.val_takes)
    speakers = sorted({recording.speaker for recording in chosen})
    test = rules.test_speakers or tuple(
        [name for name in speakers if name not in rules.val_speakers][-1:]
    )
    val = rules.val_speakers or tuple([name for name in speakers if name not in test][-1:])
    if set(test) & set(val):
        raise SettingsError(
            f"speaker {sorted(set(test) & set(val))[0]!r} is named for both test and validation"
        )
    return chosen, audio.split_by_speaker(chosen, test, val)


def _write_audio(
    folder: Path, material: Material, rules: Rules, seed: int, val_start: int
) -> dict[str, Any]:
    recordings, held = choose(material.recordings, rules)
    mixer = Mixer(
        seed, rules.noise, (rules.snr_min, rules.snr_max),
        voices={part: [recordings[i].samples for i in held[part]] for part in audio.PARTS},
        clips=material.noise.clips if material.noise else {},
    )  # fmt: skip
    train, test = material.train.labels, material.test.labels
    spans = {
        "train": ("train", 0, train[:val_start]),
        "val": ("train", val_start, train[val_start:]),
        "test": ("test", 0, test),
    }
    files = {
        name: np.lib.format.open_memmap(
            folder / f"audio/{name}_data.npy", "w+", np.uint8, (len(labels), audio.SIZE, audio.SIZE)
        )
        for name, labels in (("train", train), ("test", test))
    }
    with (
        open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as table,
        tqdm(total=len(train) + len(test), desc="spectrograms", unit="pair", disable=None) as bar,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        for index, (part, (name, start, labels)) in enumerate(spans.items()):
            chosen = audio.assign(
                labels, recordings, held[part], np.random.default_rng((seed, index))
            )
            lines = [None] * len(labels)
            for i in np.unique(chosen):
                rows = np.flatnonzero(chosen == i) + start
                clips, kinds, snrs = mixer.mix(recordings[i].samples, part, rows)
                files[name][rows] = audio.spectrograms(clips)
                for row, kind, snr in zip(rows, kinds, snrs, strict=True):
                    lines[row - start] = (
                        name,
                        row,
                        labels[row - start],
                        part,
                        recordings[i].name,
                        kind,
                        f"{snr:.2f}",
                    )
                bar.update(len(rows))
            writer.writerows(lines)
    for file in files.values():
        file.flush()
    return {
        "recordings": {part: len(positions) for part, positions in held.items()},
        "speakers": {
            part: sorted({recordings[i].speaker for i in positions})
            for part, positions in held.items()
        },
        "misnamed": material.misnamed,
    }


def describe(path: Path) -> dict[str, Any]:
    """Shape, dtype (arrays only), bytes and sha256 of a file."""
    facts: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        facts = {"shape": list(array.shape), "dtype": str(array.dtype), **facts}
    return facts


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
