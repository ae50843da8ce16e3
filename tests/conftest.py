"""What the tests share: tiny files in the layout of AV-MNIST, and a way to the shared real data, which may be absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

ROOT = Path(__file__).resolve().parent.parent
AVMNIST_CONFIG = str(ROOT / "AVMNIST_and_MIMIC/configs/avmnist.yaml")


@pytest.fixture(autouse=True)
def _fresh_state():
    """One thread, since the last bits depend on their number, and no precision left over from the test before."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data for development (environment: I2M2_SHARED); skips where there is none."""
    folder = Path(os.environ.get("I2M2_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set I2M2_SHARED")
    return folder


@pytest.fixture(scope="session")
def avmnist_files(tmp_path_factory) -> Path:
    """132 training rows (the last 11 of them validation) and 30 test rows, the label visible in both modalities."""
    folder = tmp_path_factory.mktemp("avmnist")
    write_avmnist(folder, train=132, test=30)
    return folder


def write_avmnist(folder: Path, train: int, test: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "image").mkdir(parents=True)
    (folder / "audio").mkdir()
    for part, n in (("train", train), ("test", test)):
        y = np.arange(n) % 10
        image = rng.normal(100, 60, (n, 28, 28))
        audio = rng.integers(0, 200, (n, 112, 112))
        for i, digit in enumerate(y):
            image[i, 2 * digit : 2 * digit + 8] += 80
            audio[i, 10 * digit : 10 * digit + 12] += 55
        np.save(folder / f"image/{part}_data.npy", image.reshape(n, 784).astype(np.float32))
        np.save(folder / f"audio/{part}_data.npy", audio.astype(np.uint8))
        np.save(folder / f"{part}_labels.npy", y.astype(np.uint8))


@pytest.fixture
def train(avmnist_files, tmp_path):
    """Train on the tiny files: train("--method", "inter") -> folder of the run. One epoch unless said otherwise."""
    from AVMNIST_and_MIMIC.train import main

    def call(*arguments: str, out: Path = tmp_path, config: str = AVMNIST_CONFIG) -> Path:
        before = set(out.rglob("DONE"))
        epochs = [] if any(word.startswith("--optim.epochs") for word in arguments) else ["--optim.epochs", "1"]
        main(["--config", config, "--data.dir", str(avmnist_files), "--out", str(out), "--threads", "1", *epochs, *arguments])
        made = set(out.rglob("DONE")) - before
        return made.pop().parent if made else out

    return call
