"""What the tests of the core share: predictions of two classes, and results with a paper."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import log_softmax


def two_class_runs(seeds, strength, labels=None, n=300, shift=0):
    """Predictions of one run per seed on the same `n` examples in groups of three; the larger
    `strength`, the better they are."""
    y = np.random.default_rng(0).integers(0, 2, (n, 2) if labels else n)
    runs = []
    for seed in seeds:
        noise = np.random.default_rng(100 + seed + shift).normal(size=(*y.shape, 2))
        log_prob = log_softmax(noise + strength * np.eye(2)[y], axis=-1).astype(np.float32)
        columns = {"id": np.arange(n), "group": np.arange(n) // 3, "y": y, "log_prob": log_prob}
        runs.append(columns | ({"labels": np.array(labels)} if labels else {}))
    return runs


# A made-up data set with a made-up paper: one value known for a row, one known only as the best of
# two rows.
PAPER = """
toy:
  - name: Table 9
    title: Toys & co
    metrics: [accuracy, auroc]
    train: python -m toy.train
    config: lab/toy.yaml
    settings: tests.i2m2.report.toy_settings.ToySettings
    source: the rest is not known.
    rows:
      - label: Image
        run: unimodal_image
        args: --method unimodal_image
        paper: {accuracy: {value: 70, std: 0.5, source: page 3}}
      - {label: Inter_modality, run: inter-concat, args: --method inter --fusion concat}
      - {label: I2M2, run: i2m2-concat, args: --method i2m2 --fusion concat}
    best:
      value: 72.38
      rows: [inter-concat, i2m2-concat]
      source: a leaderboard
      certainty: second-hand
"""
CONFIG = {
    "preset": "paper",
    "tag": None,
    "optim": {"epochs": 3},
    "data": {"dir": "data/toy", "train_size": None},
}
FACTS = {"variant": "v1", "synthetic": False, "description": "Made by hand.", "fingerprint": "f"}
ENV = {"data": FACTS}
TRAIN = "python -m toy.train --config lab/toy.yaml"
# Arguments of the rows that nobody has trained in `make_three`.
INTER, I2M2 = "--method inter --fusion concat", "--method i2m2 --fusion concat"


@pytest.fixture
def out(tmp_path, monkeypatch) -> Path:
    """The results folder of a current directory that knows the data set `toy`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "paper.yaml").write_text(PAPER)
    (tmp_path / "lab" / "toy.yaml").write_text(yaml.safe_dump(CONFIG))
    return Path("results")


def make_run(
    out: Path, name: str, test: dict | None, config: dict = CONFIG, env: dict | None = ENV
) -> Path:
    """A run's folder, `name` being `<dataset>/<run>/seed<k>`; `test` None leaves it unfinished."""
    path = out / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if env is not None:
        (path / "env.json").write_text(json.dumps(env))
    if test is not None:
        result = {"val": {"accuracy": 0.99, "auroc": 0.99}, "test": test}
        (path / "result.json").write_text(json.dumps(result))
        (path / "DONE").touch()
    return path


def make_three(out: Path, **kwargs) -> None:
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.71, "auroc": 0.8}, **kwargs)
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.73, "auroc": None}, **kwargs)
    make_run(out, "toy/i2m2-concat/seed0", {"accuracy": 0.75, "auroc": 0.9}, **kwargs)


def save_predictions(run: Path, right: list[bool]) -> None:
    """Two classes, 3 to 1 for the one that is answered."""
    y = np.arange(len(right)) % 2
    answered = np.where(right, y, 1 - y)
    log_prob = np.log(np.where(np.arange(2) == answered[:, None], 0.75, 0.25)).astype(np.float32)
    places = np.arange(len(y))
    np.savez(run / "predictions_test.npz", id=places, group=places, y=y, log_prob=log_prob)


def of_two_rows(out: Path) -> tuple[Path, Path]:
    """Runs of 200 examples with predictions; 190 and 100 are right."""
    runs = []
    for name, right in {"i2m2-concat": 190, "unimodal_image": 100}.items():
        runs.append(make_run(out, f"toy/{name}/seed0", {"accuracy": right / 200}))
        save_predictions(runs[-1], np.arange(200) < right)
    return tuple(runs)


def row_of(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
