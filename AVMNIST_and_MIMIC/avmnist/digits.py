"""The embedded default, `avmnist-digits`: AV-MNIST's recipe on data that need no download.

Images are scikit-learn's 1,797 real handwritten digits (8x8, enlarged to 28x28). Speech is
synthesised (`speech`), for several voices with many takes each. PCA, noise, pairing, spectrograms
and files are those of `preparation.build`.
"""

from __future__ import annotations

import itertools
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from AVMNIST_and_MIMIC.avmnist.preparation.layout import (
    FILES,
    Label,
    facts_of,
    holds,
    read_facts,
)
from AVMNIST_and_MIMIC.avmnist.preparation.rules import Rules
from i2m2.errors import DataError, SettingsError
from i2m2.reading.paths import files_below

if TYPE_CHECKING:
    from AVMNIST_and_MIMIC.avmnist.preparation.build import Material

# Rows, in scikit-learn's order, so that writers differ: 1,200 train, 200 validation; the other 397
# test.
TRAIN_FILE = 1400
RULES = Rules(
    components=3,
    val_rows=200,
    test_takes=(0, 1, 2, 3),
    val_takes=(4, 5, 6),
    snr_min=-21.0,
    snr_max=-1.0,
)
TAKES = 15  # of every voice and digit: 4 test, 3 validation, 8 train
LABEL = Label("digits", True, "real handwritten digits (scikit-learn), synthesised speech")
INPUTS = {"digits": "embedded"}


def make_digits(out: Path) -> bool:
    """Write the embedded data set to `out` in seconds; -> False if it is there already.

    It is always the same bytes. One that is damaged, or that an earlier version of the recipe made,
    is replaced. SettingsError if `out` holds anything else.
    """
    try:
        if holds(out, facts_of(RULES, LABEL, INPUTS)):
            return False
    except (SettingsError, DataError):
        if not _holds_digits(out):
            raise SettingsError(
                f"{out} holds other files than the generated digits, which need a folder of their "
                "own; give another one (--out, or for training --data.dir)"
            ) from None
        shutil.rmtree(out.resolve(), ignore_errors=True)  # a link, or a mount point, stays
    # Here, since scikit-learn and scipy are only needed where something is made.
    from AVMNIST_and_MIMIC.avmnist.preparation.build import build

    return build(out, _material(), RULES, LABEL)


def _holds_digits(out: Path) -> bool:
    """And nothing of a user's own beside them."""
    ours = {out / name for name in (*FILES, "dataset.json")}
    if any(path not in ours and path.name[0] != "." for path in files_below(out)):
        return False
    with suppress(DataError):
        return (read_facts(out) or {}).get("variant") == LABEL.variant
    return False


def _material() -> Material:
    from sklearn.datasets import load_digits

    from AVMNIST_and_MIMIC.avmnist.preparation.audio import Recording, normalise
    from AVMNIST_and_MIMIC.avmnist.preparation.build import Material
    from AVMNIST_and_MIMIC.avmnist.preparation.images import Digits
    from AVMNIST_and_MIMIC.avmnist.speech import VOICES, speak

    digits = load_digits()
    images, labels = enlarge(digits.images), digits.target.astype(np.uint8)
    recordings = []
    for digit, voice, take in itertools.product(range(10), VOICES, range(TAKES)):
        name = f"{digit}_{voice.name}_{take}.wav"
        samples = normalise(speak(digit, voice, take))
        recordings.append(Recording(name, digit, voice.name, take, samples))
    return Material(
        train=Digits(images[:TRAIN_FILE], labels[:TRAIN_FILE]),
        test=Digits(images[TRAIN_FILE:], labels[TRAIN_FILE:]),
        recordings=sorted(recordings, key=lambda recording: recording.name),
        sha256=INPUTS,
    )


def enlarge(images: np.ndarray) -> np.ndarray:
    """[N, 8, 8] in 0..16 -> uint8 [N, 784] in 0..255, by linear interpolation to 28x28."""
    from scipy import ndimage

    scaled = images * (255 / 16)
    large = ndimage.zoom(scaled, (1, 3.5, 3.5), order=1, grid_mode=True, mode="nearest")
    return large.round().astype(np.uint8).reshape(len(images), 784)
