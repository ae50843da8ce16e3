"""What the tests of fastMRI share: tiny prepared volumes, and runs on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastMRI.train import main
from tests.fastMRI.tiny_fastmri import CONFIG, SMALL, write_fastmri


@pytest.fixture(scope="session")
def fastmri_files(tmp_path_factory) -> Path:
    """A prepared folder of 12 volumes (6 train, 3 validation, 3 test) of 4 slices of 40 x 40."""
    folder = tmp_path_factory.mktemp("fastmri")
    write_fastmri(folder, parts={"train": 6, "val": 3, "test": 3}, slices=4, side=40)
    return folder


def train_one_epoch(data: Path, out: Path, *arguments: str) -> Path:
    """-> folder of the run."""
    before = set(out.rglob("DONE"))
    where = ["--data.dir", str(data), "--out", str(out)]
    main(["--config", CONFIG, *where, "--threads", "1", "--optim.epochs", "1", *SMALL, *arguments])
    (done,) = set(out.rglob("DONE")) - before
    return done.parent


@pytest.fixture
def train(fastmri_files, tmp_path):
    """train("--method", "inter") -> folder of the run, after one epoch on the tiny files."""
    return lambda *arguments: train_one_epoch(fastmri_files, tmp_path, *arguments)


@pytest.fixture(scope="session")
def runs(fastmri_files, tmp_path_factory) -> Path:
    """results/fastmri-...: three seeds of magnitude, one of phase and inter, one epoch each."""
    out = tmp_path_factory.mktemp("results")
    magnitude = [("unimodal_magnitude", seed) for seed in "012"]
    for method, seed in (*magnitude, ("unimodal_phase", "0"), ("inter", "0")):
        train_one_epoch(fastmri_files, out, "--method", method, "--seed", seed)
    (results,) = out.iterdir()
    return results
