"""Raw files of AV-MNIST, and runs on MIMIC's tiny files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.train import main
from tests.AVMNIST_and_MIMIC.tiny_avmnist import TEST, TRAIN, idx, tone, wav
from tests.conftest import MIMIC_CONFIG


@pytest.fixture
def avmnist_raw(tmp_path: Path) -> Path:
    """Idx files of smooth images, and speech: two speakers with three takes of every digit."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw"
    (folder / "speech").mkdir(parents=True)
    for part, rows in (("train", TRAIN), ("t10k", TEST)):
        bases = rng.random((10, 784))
        images = (bases.T @ rng.dirichlet(np.ones(10), rows).T).T * 255
        images = images.astype(np.uint8).reshape(rows, 28, 28)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    for digit, speaker, take in itertools.product(range(10), ("ann", "bob"), range(3)):
        samples = tone(200 + 100 * digit, 0.15 + 0.02 * take)
        samples += 0.01 * rng.standard_normal(len(samples))
        data = wav((samples * 32767).astype(np.int16))
        (folder / "speech" / f"{digit}_{speaker}_{take}.wav").write_bytes(data)
    return folder


@pytest.fixture
def train_mimic(mimic_files, tmp_path):
    """train_mimic("--method", "inter") -> folder of the run, after one epoch on the tiny files."""
    files = ["--config", MIMIC_CONFIG, "--data.dir", str(mimic_files), "--out", str(tmp_path)]

    def call(*arguments: str) -> Path:
        main([*files, "--threads", "1", "--optim.epochs", "1", *arguments])
        return max(tmp_path.rglob("DONE"), key=lambda path: path.stat().st_mtime_ns).parent

    return call
