"""The audit of a prepared AV-MNIST folder: what is damaged is named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.prepare_avmnist import main
from i2m2.errors import DataError
from tests.AVMNIST_and_MIMIC.tiny_avmnist import prepare


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _rewrite(path: Path, change) -> None:
    array = np.load(path)
    np.save(path, change(array))


def _set(array: np.ndarray, row: int, value: float) -> np.ndarray:
    array[row] = value
    return array


SPOILT = {
    "a missing file": (
        lambda out: (out / "train_labels.npy").unlink(),
        "train_labels.npy missing in",
    ),
    "a truncated array": (
        lambda out: _cut(out / "audio/train_data.npy", 5000),
        "audio/train_data.npy is damaged",
    ),
    "NaN": (
        lambda out: _rewrite(out / "image/train_data.npy", lambda a: _set(a, 7, np.nan)),
        "row 7 holds NaN",
    ),
    "a wrong label": (
        lambda out: _rewrite(out / "test_labels.npy", lambda a: _set(a, 5, 12)),
        "row 5 has label 12",
    ),
    "rows missing": (
        lambda out: _rewrite(out / "audio/test_data.npy", lambda a: a[:-1]),
        r"shape \(59, 112, 112\).* a row per label",
    ),
    "a wrong shape": (
        lambda out: _rewrite(out / "audio/test_data.npy", lambda a: a[:, :100]),
        r"shape \(60, 100, 112\)",
    ),
    "images on another scale": (
        lambda out: _rewrite(out / "image/test_data.npy", lambda a: a / 255),
        "scale should be 0..255",
    ),
}
CHANGED = {
    "another value": (
        lambda out: _rewrite(out / "audio/test_data.npy", lambda a: _set(a, 3, 9)),
        "sha256 differs",
    ),
    "labels in another order": (
        lambda out: _rewrite(out / "train_labels.npy", lambda a: np.roll(a, 1)),
        "sha256 differs",
    ),
    "a damaged dataset.json": (
        lambda out: (out / "dataset.json").write_text("{"),
        "dataset.json is damaged",
    ),
}


@pytest.mark.parametrize("spoil, message", (SPOILT | CHANGED).values(), ids=SPOILT | CHANGED)
def test_check_names_what_is_wrong(avmnist_raw, tmp_path, spoil, message):
    prepare(avmnist_raw, tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(DataError, match=message) as error:
        main(["--check", "--out", str(tmp_path / "out")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT)
def test_check_audits_a_folder_without_dataset_json(avmnist_raw, tmp_path, spoil, message, capsys):
    prepare(avmnist_raw, tmp_path / "out")
    for name in ("dataset.json", "pairs.csv"):
        (tmp_path / "out" / name).unlink()
    main(["--check", str(tmp_path / "out")])
    assert "no dataset.json" in capsys.readouterr().out
    spoil(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        main(["--check", str(tmp_path / "out")])


def test_check_takes_the_tarballs_files_as_the_loader_does(avmnist_raw, tmp_path):
    """Images of 28 x 28, floats for audio: other forms in circulation."""
    prepare(avmnist_raw, tmp_path / "out")
    for name in ("dataset.json", "pairs.csv"):
        (tmp_path / "out" / name).unlink()
    for part in ("train", "test"):
        _rewrite(
            tmp_path / f"out/image/{part}_data.npy",
            lambda a: a.reshape(-1, 28, 28).astype(np.float64),
        )
        _rewrite(tmp_path / f"out/audio/{part}_data.npy", lambda a: a.astype(np.float64))
    main(["--check", str(tmp_path / "out")])


def test_check_finds_a_recording_that_does_not_speak_the_label(avmnist_raw, tmp_path):
    facts = prepare(avmnist_raw, tmp_path / "out")
    path = tmp_path / "out/pairs.csv"
    path.write_text(path.read_text().replace("train,4,4,train,4_", "train,4,4,train,5_"))
    from AVMNIST_and_MIMIC.avmnist.preparation.layout import describe

    facts["files"]["pairs.csv"] = describe(path)
    (tmp_path / "out/dataset.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="train row 4: label 4, but its recording is 5_"):
        main(["--check", str(tmp_path / "out")])
