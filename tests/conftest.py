"""What the tests share: tiny files in the layout of AV-MNIST, and a way to the shared real data,
which may be absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from i2m2.report import figures

ROOT = Path(__file__).resolve().parent.parent
AVMNIST_CONFIG = str(ROOT / "AVMNIST_and_MIMIC/configs/avmnist.yaml")
MIMIC_CONFIG = str(ROOT / "AVMNIST_and_MIMIC/configs/mimic.yaml")


@pytest.fixture(autouse=True)
def _fresh_state():
    """One thread, since the last bits depend on their number, and no precision left over from the
    test before."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _unrendered(request, monkeypatch):
    """Figures are drawn, but rendered only for tests marked `rendered`: it takes longer than all
    else of a table."""
    if not request.node.get_closest_marker("rendered"):
        monkeypatch.setattr(figures, "save_figure", _empty_files)


def _empty_files(_, path: Path) -> list[Path]:
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    for to in paths:
        to.touch()
    return paths


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data for development (environment: I2M2_SHARED); skips where there is none."""
    folder = Path(os.environ.get("I2M2_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set I2M2_SHARED")
    return folder


@pytest.fixture(scope="session")
def avmnist_files(tmp_path_factory) -> Path:
    """132 training rows (the last 11 of them validation) and 30 test rows, the label visible in
    both modalities."""
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


@pytest.fixture(scope="session")
def mimic_files(tmp_path_factory) -> Path:
    """mimic.npz of 120 stays, with gaps, and its dataset.json."""
    folder = tmp_path_factory.mktemp("mimic")
    write_mimic(folder, stays=120)
    return folder


def write_mimic(folder: Path, stays: int) -> None:
    """Stays whose labels show in both modalities: in the first static feature, and in the level of
    the first series."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (stays, 20))
    series = rng.normal(100, 20, (stays, 24, 12)) + 40 * labels[:, 1, None, None]
    series[rng.random(series.shape) < 0.3] = np.nan
    series[: stays // 2, :, 4] = np.nan  # never measured
    static = rng.normal(20_000, 3_000, (stays, 5)) + 9_000 * labels[:, :1]
    static[:, 1] = 0  # AIDS: constant
    arrays = {
        "series": series.astype(np.float32),
        "series_mask": np.isfinite(series).astype(np.uint8),
        "static": static.astype(np.float32),
        "mortality_labels": rng.integers(0, 2, (stays, 6)),
        "icd9": labels,
        "hadm_id": np.arange(100_000, 100_000 + stays),
        "subject_id": np.arange(stays) + 7,
    }
    np.savez(folder / "mimic.npz", **arrays)
    described = {
        "variant": "clean",
        "synthetic": True,
        "description": "random numbers in the layout of MIMIC",
    }
    (folder / "dataset.json").write_text(json.dumps(described))


@pytest.fixture
def train(avmnist_files, tmp_path):
    """Train on the tiny files: train("--method", "inter") -> folder of the run. One epoch unless
    said otherwise."""
    from AVMNIST_and_MIMIC.train import main

    def call(*arguments: str, out: Path = tmp_path, config: str = AVMNIST_CONFIG) -> Path:
        before = set(out.rglob("DONE"))
        epochs = (
            []
            if any(word.startswith("--optim.epochs") for word in arguments)
            else ["--optim.epochs", "1"]
        )
        main(
            [
                "--config",
                config,
                "--data.dir",
                str(avmnist_files),
                "--out",
                str(out),
                "--threads",
                "1",
                *epochs,
                *arguments,
            ]
        )
        made = set(out.rglob("DONE")) - before
        return made.pop().parent if made else out

    call.files = avmnist_files
    return call


@pytest.fixture
def graphs_as_they_are(monkeypatch) -> list[str]:
    """Traced steps without code generation, which takes minutes: the modes that were asked for."""
    asked, compiled = [], torch.compile

    def traced(model, mode):
        asked.append(mode)
        return compiled(model, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", traced)
    return asked


HOLD = """
import sys
from pathlib import Path
from i2m2.files import alone_in

with alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator[None]:
    """While another process is in it."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"in\n"
        yield
