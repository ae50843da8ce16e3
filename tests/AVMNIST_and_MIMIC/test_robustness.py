"""The robustness command on tiny runs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC import train
from AVMNIST_and_MIMIC.robustness import main
from i2m2.errors import DataError, SettingsError
from i2m2.machine.accelerator import make_accelerator
from tests.conftest import AVMNIST_CONFIG

FACTS = {"variant": "tiny", "synthetic": True, "description": "made up"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two tiny finished runs on made-up files in the official layout, and a product, which has no
    model."""
    root = tmp_path_factory.mktemp("robustness")
    rng = np.random.default_rng(0)
    for name in ("image", "audio"):
        (root / "data" / name).mkdir(parents=True)
    for part, rows in (("train", 48), ("test", 30)):
        images = rng.uniform(0, 255, (rows, 784)).astype(np.float32)
        sounds = rng.integers(0, 256, (rows, 112, 112), dtype=np.uint8)
        np.save(root / f"data/image/{part}_data.npy", images)
        np.save(root / f"data/audio/{part}_data.npy", sounds)
        np.save(root / f"data/{part}_labels.npy", np.arange(rows) % 10)
    (root / "data/dataset.json").write_text(json.dumps(FACTS))
    base = ["--config", AVMNIST_CONFIG, "--optim.epochs", "1", "--threads", "1"]
    base += ["--data.dir", str(root / "data"), "--out", str(root / "results"), "--device", "cpu"]
    for method in ("unimodal_image", "inter"):
        train.main([*base, "--method", method])
    folder = root / "results" / "avmnist-tiny"
    product = shutil.copytree(folder / "unimodal_image/seed0", folder / "product-image/seed0")
    config = product / "config.yaml"
    config.write_text(config.read_text().replace("method: unimodal_image", "method: product"))
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.rendered
def test_the_command_writes_tables_and_figures_of_finished_runs(folder, capsys):
    main([str(folder), "--levels", "0", "1", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "variant tiny" in printed and "SYNTHETIC" in printed
    assert "Image without image (30)" in printed
    lines = read(folder / "robustness.csv")
    assert len(lines) == 2 * (3 * 2 + 2)
    for run in ("unimodal_image", "inter-concat"):
        result = json.loads((folder / run / "seed0/result.json").read_text())
        clean = [line for line in lines if (line["run"], line["level"]) == (run, "0.0")]
        scores = [float(line["accuracy"]) for line in clean]
        assert scores == pytest.approx([result["test"]["accuracy"]] * 3)
    uniform = {(line["run"], line["corruption"]): int(line["answered_uniformly"]) for line in lines}
    assert {key for key, count in uniform.items() if count} == {
        ("unimodal_image", "missing_image"),
        ("inter-concat", "missing_image"),
        ("inter-concat", "missing_audio"),
    }
    lines = read(folder / "robustness_summary.csv")
    means = {(one["run"], one["corruption"], one["measure"]): one["mean"] for one in lines}
    assert float(means["inter-concat", "multimodal", "effective"]) == 0
    assert all((folder / f"robustness.{kind}").stat().st_size > 1000 for kind in ("png", "pdf"))


def test_mistakes_are_one_line_that_says_what_to_do(folder, tmp_path):
    with pytest.raises(SettingsError, match="there is no such results folder"):
        main([str(tmp_path / "nothing")])
    with pytest.raises(SettingsError, match="no runs in it"):
        main([str(tmp_path)])
    with pytest.raises(SettingsError, match="give one of them: avmnist-tiny"):
        main([str(folder.parent)])
    for run in ("inter-concat", "inter-concat/seed0"):
        with pytest.raises(SettingsError, match=f"is one run; give .* folder, {folder}$"):
            main([str(folder / run)])
    with pytest.raises(SettingsError, match="they must rise from 0"):
        main([str(folder), "--levels", "0.5", "1"])
    unfinished = tmp_path / "avmnist-tiny"
    shutil.copytree(folder, unfinished)
    for path in unfinished.rglob("DONE"):
        path.unlink()
    with pytest.raises(SettingsError, match="none of its 3 runs is finished"):
        main([str(unfinished)])


def test_a_damaged_run_is_named_when_the_others_are_measured(folder, tmp_path, capsys):
    copy = tmp_path / "avmnist-tiny"
    shutil.copytree(folder, copy)
    (copy / "inter-concat/seed0/result.json").write_text("{")
    with pytest.raises(DataError, match="inter-concat/seed0/result.json is damaged"):
        main([str(copy), "--levels", "0", "1", "--device", "cpu"])
    assert "| Image |" in capsys.readouterr().out
    (copy / "unimodal_image/seed0/result.json").write_text("{")
    with pytest.raises(DataError, match="inter-concat.*; .*unimodal_image.* is damaged"):
        main([str(copy)])


def test_data_that_are_gone_or_others_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="if they lie elsewhere now, add --data.dir"):
        main([str(folder), "--data.dir", str(tmp_path)])
    other = tmp_path / "other"
    shutil.copytree(folder.parents[1] / "data", other)
    (other / "dataset.json").write_text(json.dumps(FACTS | {"description": "others"}))
    with pytest.raises(DataError, match="was made with other data"):
        main([str(folder), "--data.dir", str(other)])


def test_runs_of_any_precision_are_measured_in_full(folder, tmp_path, monkeypatch):
    mixed = tmp_path / "avmnist-tiny"
    shutil.copytree(folder, mixed)
    for path in mixed.rglob("config.yaml"):
        path.write_text(path.read_text().replace("precision: 'no'", "precision: bf16"))
        assert "bf16" in path.read_text()
    seen = []

    def make(config):
        seen.append((config.precision, config.tracker))
        return make_accelerator(config)

    monkeypatch.setattr("i2m2.training.robustness.make_accelerator", make)
    main([str(mixed), "--levels", "0", "1", "--device", "cpu"])
    assert seen == [("no", None)]
