"""Raw files in the form of MNIST and FSDD, small, and the command that prepares them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from AVMNIST_and_MIMIC.avmnist.preparation.layout import FILES
from AVMNIST_and_MIMIC.prepare_avmnist import main

TRAIN, TEST = 240, 60


def idx(array: np.ndarray) -> bytes:
    """uint8 array -> content of an idx file."""
    return np.array([2048 + array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    """Samples [L] or [L, channels] of any WAV type -> content of a WAV file."""
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def tone(frequency: float, seconds: float = 0.3, rate: int = 8000) -> np.ndarray:
    """A tone at half of full scale: float64 [L]."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def prepare(raw: Path, out: Path, *options: str) -> dict:
    """Run the command on the fixture -> dataset.json."""
    main(["--mnist", str(raw), "--speech", str(raw / "speech"), "--out", str(out), *options])
    return json.loads((out / "dataset.json").read_text())


def pairs(out: Path) -> list[dict[str, str]]:
    with open(out / "pairs.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}
