"""What the tests of VQA-VS and NLVR2 share: small generated data sets, and features of one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.VQA_and_NLVR2.tiny_vqa import SCENES, arguments, extracted
from VQA_and_NLVR2 import train as training
from VQA_and_NLVR2.features import extraction
from VQA_and_NLVR2.make_synthetic import make_synthetic
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig

MANY_SCENES, MANY_SENTENCES = 300, 60
PART = 16  # images of a part of the features, so that there are several


@pytest.fixture(scope="session")
def vqa_files(tmp_path_factory) -> Path:
    """A VQA-VS of generated pictures."""
    out = tmp_path_factory.mktemp("vqa") / "data"
    make_synthetic(out, "vqa_vs", SCENES)
    return out


@pytest.fixture(scope="session")
def made(vqa_files, tmp_path_factory) -> tuple[Path, Path]:
    """-> folder of the data, folder of the features."""
    features = tmp_path_factory.mktemp("features") / "whole"
    extracted(vqa_files, features)
    return vqa_files, features


@pytest.fixture(scope="session")
def in_parts(vqa_files, tmp_path_factory) -> tuple[VQAConfig, Path]:
    """Features made in parts of 16 images -> settings, folder."""
    folder = tmp_path_factory.mktemp("features") / "parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "SHARD", PART)
        config = extracted(vqa_files, folder)
    return config, folder


@pytest.fixture
def own_data(vqa_files, tmp_path) -> Path:
    """A copy to damage."""
    shutil.copytree(vqa_files, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def small_parts(monkeypatch) -> None:
    """Features are made in parts of 16 images."""
    monkeypatch.setattr(extraction, "SHARD", PART)


@pytest.fixture
def train_vqa(made, tmp_path) -> Callable[..., Path]:
    """train_vqa("--method", "inter") -> folder of the run, after one epoch on the tiny files."""

    def call(*more: str) -> Path:
        training.main(arguments(*made, "--out", str(tmp_path), *more))
        return max(tmp_path.rglob("DONE"), key=lambda path: path.stat().st_mtime_ns).parent

    return call


@pytest.fixture(scope="session")
def vqa(tmp_path_factory) -> Path:
    """As many generated questions as statistics need."""
    out = tmp_path_factory.mktemp("vqa") / "data"
    make_synthetic(out, "vqa_vs", MANY_SCENES)
    return out


@pytest.fixture(scope="session")
def nlvr2(tmp_path_factory) -> Path:
    """As many generated sentences as statistics need."""
    out = tmp_path_factory.mktemp("nlvr2") / "data"
    make_synthetic(out, "nlvr2", MANY_SENTENCES)
    return out


@pytest.fixture(scope="session")
def nlvr2_files(tmp_path_factory) -> Path:
    """About 40 training sentences, 12 of dev and 32 of test1."""
    out = tmp_path_factory.mktemp("nlvr2") / "data"
    make_synthetic(out, "nlvr2", 20)
    return out


@pytest.fixture
def own_files(nlvr2_files, tmp_path) -> Path:
    """A copy to damage."""
    ignored = shutil.ignore_patterns("checked_images.json")
    shutil.copytree(nlvr2_files, tmp_path / "own", ignore=ignored)
    return tmp_path / "own"
