"""Building a prepared AV-MNIST folder from images, labels and recordings, by recorded rules."""

from __future__ import annotations

import csv
import errno
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from AVMNIST_and_MIMIC.avmnist.preparation.layout import (
    COLUMNS,
    FILES,
    Facts,
    Label,
    describe,
    facts_of,
    holds,
)
from AVMNIST_and_MIMIC.avmnist.preparation.noise import Mixer, NoiseClips
from AVMNIST_and_MIMIC.avmnist.preparation.rules import PARTS, Rules
from AVMNIST_and_MIMIC.avmnist.preparation.splits import (
    Positions,
    assign,
    choose,
    refuse_shared,
)
from i2m2.errors import SettingsError
from i2m2.files import fill, write_json

UTF8 = {"encoding": "utf-8", "errors": "surrogateescape"}  # a name of a file may be no text
PAIR_BYTES = audio.SIZE**2 + 4 * 784  # nearly all that a pair takes on the disk


@dataclass(frozen=True)
class Material:
    """What is combined, and the sha256 of each input, by which a repeated command is recognised."""

    train: Digits
    test: Digits
    recordings: list[audio.Recording]
    sha256: Mapping[str, str]
    misnamed: int = 0
    noise: NoiseClips | None = None
    silent: int = 0  # recordings


def build(out: Path, material: Material, rules: Rules, label: Label) -> bool:
    """Write the folder `out`, whole or not at all; -> False if it already holds exactly this.

    Other content is refused.
    """
    facts = facts_of(rules, label, material.sha256)
    if holds(out, facts):
        return False

    def write(folder: Path) -> None:
        need = (len(material.train.labels) + len(material.test.labels)) * PAIR_BYTES
        if shutil.disk_usage(folder).free < need:
            raise OSError(errno.ENOSPC, f"{need / 1e9:.1f} GB are needed", str(out))
        # The products are small: more threads only wait for each other, and would decide the last
        # bits.
        with threadpool_limits(1):
            described = _write(folder, material, rules, label.seed)
        files = {name: describe(folder / name) for name in FILES}
        write_json(folder / "dataset.json", {**facts, **described, "files": files})

    try:
        fill(out, write)
    except OSError:
        if not holds(out, facts):  # unless another process was first with the same
            raise
    return True


def _write(folder: Path, material: Material, rules: Rules, seed: int) -> Facts:
    """Everything but dataset.json -> what that says of it."""
    for name in ("image", "audio"):
        (folder / name).mkdir(parents=True)
    total = len(material.train.labels)
    val_rows = rules.val_rows if rules.val_rows is not None else max(1, total // 12)
    if val_rows >= total:
        raise SettingsError(f"val_rows={val_rows}: the train files have only {total} rows")
    _refuse_shared_images(material, total - val_rows)
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


def _refuse_shared_images(material: Material, val_start: int) -> None:
    train = [(f"row {row}", image) for row, image in enumerate(material.train.images)]
    test = [(f"row {row}", image) for row, image in enumerate(material.test.images)]
    refuse_shared("images", {"train": train[:val_start], "val": train[val_start:], "test": test})


def _refuse_shared_recordings(recordings: list[audio.Recording], positions: Positions) -> None:
    by_part = {
        part: [(recordings[i].name, recordings[i].samples) for i in places]
        for part, places in positions.items()
        if part == "train" or places != positions["train"]  # by the rules, val may share train's
    }
    refuse_shared("recordings", by_part)


def _write_images(folder: Path, material: Material, rules: Rules) -> Facts:
    pca, facts = fit_pca(material.train.images), {}
    for name, digits in (("train", material.train), ("test", material.test)):
        if name == "test" and rules.pca_fit == "each":
            pca = fit_pca(digits.images)
        components = rules.components or count_components(
            pca.ratio, rules.energy, rules.energy_rule
        )
        images = keep_components(digits.images, pca, components, rules.add_mean)
        np.save(folder / f"{name}_data.npy", images)
        facts[f"components_{name}"] = components
        facts[f"explained_{name}"] = round(float(pca.ratio[:components].sum()), 6)
    both = {"components": facts["components_train"], "explained": facts["explained_train"]}
    return both if rules.pca_fit == "train" else both | facts


def _write_audio(
    folder: Path, material: Material, rules: Rules, seed: int, val_start: int
) -> Facts:
    """The spectrograms and pairs.csv -> what dataset.json says of the speech."""
    recordings, positions, by_order = choose(material.recordings, rules)
    _refuse_shared_recordings(recordings, positions)
    mixer = Mixer(
        seed,
        rules.noise,
        (rules.snr_min, rules.snr_max),
        voices={part: [recordings[i].samples for i in positions[part]] for part in PARTS},
        clips=material.noise.clips if material.noise else {},
    )
    train, test = material.train.labels, material.test.labels
    spans = (
        _Span("train", "train", 0, train[:val_start]),
        _Span("val", "train", val_start, train[val_start:]),
        _Span("test", "test", 0, test),
    )
    files = {
        "train": _new_spectrograms(folder / "audio/train_data.npy", len(train)),
        "test": _new_spectrograms(folder / "audio/test_data.npy", len(test)),
    }
    with (
        open(folder / "pairs.csv", "w", newline="", **UTF8) as table,
        tqdm(total=len(train) + len(test), desc="spectrograms", unit="pair", disable=None) as bar,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        for index, span in enumerate(spans):
            rng = np.random.default_rng((seed, index))
            chosen = assign(span.labels, recordings, positions[span.part], rng)
            writer.writerows(_write_span(files[span.file], span, chosen, recordings, mixer, bar))
    for file in files.values():
        file.flush()
    rare = {"silent": material.silent, "takes_by_order": by_order}
    return {
        "recordings": {part: len(places) for part, places in positions.items()},
        "speakers": {
            part: sorted({recordings[i].speaker for i in places})
            for part, places in positions.items()
        },
        "misnamed": material.misnamed,
        **{name: fact for name, fact in rare.items() if fact},
    }


@dataclass(frozen=True)
class _Span:
    """The rows of one part: labels [N] from row `start` of the train or the test files on."""

    part: str
    file: str
    start: int
    labels: np.ndarray


def _new_spectrograms(path: Path, rows: int) -> np.ndarray:
    shape = (rows, audio.SIZE, audio.SIZE)
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def _write_span(
    file: np.ndarray,
    span: _Span,
    chosen: np.ndarray,
    recordings: list[audio.Recording],
    mixer: Mixer,
    bar: tqdm,
) -> list[tuple]:
    """The spectrograms of one part into `file` -> its lines of pairs.csv.

    All rows of a recording are done at once. `chosen` [N]: each row's place in `recordings`.
    """
    lines: list[tuple] = [()] * len(span.labels)
    for i in np.unique(chosen):
        recording, rows = recordings[i], np.flatnonzero(chosen == i) + span.start
        clips, kinds, snrs = mixer.mix(recording.samples, span.part, rows)
        file[rows] = audio.spectrograms(clips)
        for row, kind, snr in zip(rows, kinds, snrs, strict=True):
            label = span.labels[row - span.start]
            pair = (span.file, row, label, span.part, recording.name, kind, f"{snr:.2f}")
            lines[row - span.start] = pair
        bar.update(len(rows))
    return lines
