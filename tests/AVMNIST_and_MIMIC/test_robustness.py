"""Corruptions against what they promise, robustness scores against hand calculations, and the
command on tiny runs."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from AVMNIST_and_MIMIC import train
from AVMNIST_and_MIMIC.avmnist import corruptions
from AVMNIST_and_MIMIC.avmnist.corruptions import BLOCK, corrupt
from AVMNIST_and_MIMIC.robustness import main
from i2m2.errors import DataError, SettingsError
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert, product_of_experts
from i2m2.stats.robustness import (
    Answer,
    Point,
    effective_robustness,
    relative_robustness,
    summarise,
)
from i2m2.training.data import ArrayDataset
from i2m2.training.evaluate import predict
from i2m2.training.robustness import Without, measure, of_arrays, uniform_answers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Zero-centred float32 [1100, 784], every one with the data's least and largest value."""
    x = np.random.default_rng(0).uniform(-60, 190, (1100, 784)).astype(np.float32)
    x[:, 0], x[:, 1] = -61, 191
    return x


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """uint8 [700, 112, 112] without zeros."""
    return np.random.default_rng(1).integers(1, 256, (700, 112, 112), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which examples differ [N]."""
    return (before != after).reshape(len(before), -1).any(axis=1)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_level_zero_is_the_stored_data_bit_for_bit(modality, images, audio):
    stored = {"image": images, "audio": audio}[modality]
    result = corrupt(modality, stored, 0.0)
    assert result.dtype == stored.dtype and result.tobytes() == stored.tobytes()


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_type_shape_and_range_stay_and_the_seed_decides(modality, images, audio):
    stored = {"image": images[:300], "audio": audio[:100]}[modality]
    result = corrupt(modality, stored, 0.5, seed=3)
    assert result.dtype == stored.dtype and result.shape == stored.shape
    assert (
        result.min() >= stored.min() - 1e-3 - (modality == "audio")
        and result.max() <= stored.max() + 1e-3
    )
    assert np.array_equal(result, corrupt(modality, stored, 0.5, seed=3))
    assert not np.array_equal(result, corrupt(modality, stored, 0.5, seed=4))


def test_an_example_is_corrupted_alike_whatever_follows_it(images, audio):
    assert np.array_equal(corrupt("image", images, 0.4)[:637], corrupt("image", images[:637], 0.4))
    assert np.array_equal(corrupt("audio", audio, 0.4)[:520], corrupt("audio", audio[:520], 0.4))


def test_blocks_and_levels_draw_different_noise(audio):
    same = np.repeat(audio[:1], 2 * BLOCK, axis=0)
    at_half = corrupt("audio", same, 0.5)
    assert not np.array_equal(changed(same, at_half)[:BLOCK], changed(same, at_half)[BLOCK:])
    assert not np.array_equal(changed(same, at_half), changed(same, corrupt("audio", same, 0.51)))


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_a_clip_is_corrupted_with_probability_p_and_else_unchanged(p, audio):
    share = changed(audio, corrupt("audio", audio, p)).mean()
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / len(audio))


def test_an_image_stays_unchanged_with_probability_one_minus_p_to_the_seventh(images):
    share = changed(images, corrupt("image", images, 0.1)).mean()
    expected = 1 - 0.9**7
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(images))


def test_the_three_audio_corruptions_are_equally_frequent_and_what_they_say():
    p = 0.3
    clips = np.full((1000, 112, 112), 128, np.uint8)
    after = corrupt("audio", clips, p)
    after = after[changed(clips, after)].astype(int)
    dropped = np.isin(after, (0, 128)).all(axis=(1, 2))  # noise leaves other values
    silent = (after[dropped] == 0).all(axis=1)  # [n, time]
    assert np.array_equal(
        silent, (after[dropped] == 0).any(axis=1)
    )  # whole time steps, which are columns
    starts = np.diff(silent.astype(int), axis=1, prepend=0) == 1
    in_runs = silent.sum(axis=1) > 60  # 30 % of single steps are about 34 of 112, runs about 80
    assert abs(dropped.mean() - 2 / 3) < 0.12 and abs(in_runs.mean() - 1 / 2) < 0.15
    assert abs(silent[~in_runs].mean() - p) < 0.02
    for row, first in zip(silent[in_runs], starts[in_runs], strict=True):
        assert all(row[start : start + 10].all() for start in np.flatnonzero(first))
    noise = after[~dropped]
    inside = noise[(noise > 0) & (noise < 255)]  # the rest is clipped: |z| > 127.5 / 76.5
    assert abs(np.mean((noise == 0) | (noise == 255)) - 0.0956) < 0.005
    assert (
        abs(inside.mean() - 128) < 0.5 and len(np.unique(noise[0, 0])) > 50
    )  # another number in every pixel


def test_runs_begin_at_sounding_steps_only_and_never_within_a_run():
    sounding = np.array([[False, True, *[True] * 23]])
    u = np.full((1, 25), 0.9)
    u[0, [0, 1, 5, 11]] = 0.1  # step 0 is silent anyway, step 5 lies in the run that begins at 1
    silent = corruptions.runs(sounding, u, 0.5)
    assert np.flatnonzero(silent[0]).tolist() == list(range(1, 21))


def test_salt_and_pepper_are_the_extremes_half_of_p_each():
    x = np.full((200, 28, 28), 10.0, np.float32)
    after = corruptions.salt_and_pepper(x, 0.3, -61.0, 191.0, np.random.default_rng(0))
    assert set(np.unique(after)) == {-61.0, 10.0, 191.0}
    assert abs((after == -61).mean() - 0.15) < 0.005 and abs((after == 191).mean() - 0.15) < 0.005


def test_gaussian_noise_has_sigma_p_of_the_whole_scale():
    x = np.full((200, 28, 28), 100.0, np.float32)
    noise = corruptions.gaussian_noise(x, 0.1, -1e6, 1e6, np.random.default_rng(0)) - x
    assert abs(noise.std() - 25.5) < 0.2 and abs(noise.mean()) < 0.3
    assert len(np.unique(noise[0])) > 700
    assert corruptions.gaussian_noise(x, 1.0, 0.0, 200.0, np.random.default_rng(0)).max() == 200


class Fixed:
    """A generator whose uniform numbers are all `u`."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self, shape):
        return np.full(shape, self.u)


@pytest.mark.parametrize("u, degrees", [(0.0, -20.0), (1.0, 20.0)])
def test_turn_moves_a_spot_as_trigonometry_says(u, degrees):
    x = np.full((1, 28, 28), -5.0, np.float32)
    x[0, 13:15, 22:24] = 100  # centre (9, 0) from the middle, in pixels to the right and down
    yes, no = np.array([True]), np.array([False])
    rows, columns = np.mgrid[:28, :28] - 13.5

    def spot(image: np.ndarray) -> tuple[float, float]:
        weight = image[0] + 5
        return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()

    angle = np.deg2rad(degrees)
    expected = np.array([9 * np.cos(angle), -9 * np.sin(angle)])
    assert spot(x) == pytest.approx((9, 0), abs=1e-4)
    assert spot(corruptions.turn(x, no, yes, no, -5.0, Fixed(u))) == pytest.approx((-9, 0), abs=0.1)
    assert spot(corruptions.turn(x, yes, no, no, -5.0, Fixed(u))) == pytest.approx(
        expected, abs=0.1
    )
    assert spot(corruptions.turn(x, yes, yes, no, -5.0, Fixed(u))) == pytest.approx(
        expected * [-1, 1], abs=0.1
    )
    assert spot(corruptions.turn(x, no, no, yes, -5.0, Fixed(0.5))) == pytest.approx(
        (9 / 0.8, 0), abs=0.1
    )  # a centred crop
    assert corruptions.turn(x, yes, no, no, -5.0, Fixed(u)).min() == pytest.approx(
        -5.0
    )  # outside is dark, not 0


def test_relative_robustness_is_the_area_under_the_curve():
    assert relative_robustness([0.8] * 11) == pytest.approx(0.8)
    assert relative_robustness([1 - step / 10 for step in range(11)]) == pytest.approx(0.5)
    assert relative_robustness([0.9, 0.5, 0.3], [0, 0.5, 1]) == pytest.approx(
        0.5 * (0.9 + 0.5) / 2 + 0.5 * (0.5 + 0.3) / 2
    )


def test_effective_robustness_is_what_is_kept_beyond_the_shifted_baseline():
    baseline = [0.6 - 0.03 * step for step in range(11)]
    shifted = [value + 0.1 for value in baseline]
    better = [0.7 - 0.02 * step for step in range(11)]
    assert effective_robustness(baseline, baseline) == 0
    assert effective_robustness(shifted, baseline) == pytest.approx(0)
    assert effective_robustness(better, baseline) == pytest.approx(0.01 * sum(range(11)))


def test_summary_pairs_a_run_with_the_baseline_of_its_seed():
    def curve(run: str, seed: int, values: list[float]) -> list[Point]:
        return [
            Point(run, seed, "image", level, {"accuracy": value}, 0)
            for level, value in zip((0.0, 0.5, 1.0), values, strict=True)
        ]

    points = [
        *curve("a", 0, [0.9, 0.8, 0.7]),
        *curve("a", 1, [0.5, 0.4, 0.2]),
        Point("a", 0, "missing_image", None, {"accuracy": 0.3}, 0),
    ]
    summary = summarise([*points, *curve("base", 1, [0.8, 0.5, 0.1])], "base")
    assert summary["a"]["image", "clean"] == [0.9, 0.5]
    assert summary["a"]["image", "relative"] == pytest.approx([0.8, 0.375])
    assert summary["a"]["image", "effective"] == pytest.approx(
        [0.6]
    )  # (-0.1 + 0.3) + (-0.3 + 0.7); seed 0 has no baseline
    assert summary["a"]["missing_image", "accuracy"] == [0.3]


def toy() -> tuple[dict[str, ProductOfExperts], ArrayDataset]:
    """Untrained linear experts of three classes on two modalities, and 40 examples."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    experts = {
        name: UnimodalExpert(name, nn.Identity(), nn.Linear(4, 3)) for name in ("left", "right")
    }

    class Mean(nn.Module):
        def forward(self, features):
            return torch.stack(list(features.values())).mean(0)

    experts["inter"] = FusionExpert(
        {"left": nn.Identity(), "right": nn.Identity()}, Mean(), nn.Linear(4, 3)
    )
    models = {
        "i2m2": ProductOfExperts(experts),
        "unimodal_left": ProductOfExperts({"left": experts["left"]}),
    }
    inputs = {name: rng.standard_normal((60, 4)).astype(np.float32) for name in ("left", "right")}
    rows = rng.permutation(60)[:40]
    return models, ArrayDataset(inputs, rng.integers(0, 3, 40), rows, np.arange(40))


def test_a_missing_modality_equals_removing_its_experts_by_hand():
    models, test = toy()
    accelerator = Accelerator(cpu=True)
    clean = predict(models["i2m2"], test, accelerator, 7)
    altered = predict(models["i2m2"], Without(test, "right"), accelerator, 7)
    by_hand = product_of_experts([torch.from_numpy(clean["expert_left"])]).numpy()
    assert np.allclose(altered["log_prob"], by_hand, atol=1e-6)
    assert uniform_answers(altered["log_prob"]) == 0
    assert np.array_equal(altered["y"], test.y) and np.array_equal(altered["id"], test.id)


def test_a_unimodal_row_without_its_modality_answers_every_example_uniformly():
    models, test = toy()
    answered = predict(models["unimodal_left"], Without(test, "left"), Accelerator(cpu=True), 7)[
        "log_prob"
    ]
    assert np.allclose(answered, -np.log(3)) and uniform_answers(answered) == len(test)


def test_measure_alters_only_what_it_says_once_per_level_and_asks_no_model_twice():
    models, test = toy()
    made, asked = [], []

    def corrupt_by_level(modality: str, array: np.ndarray, level: float) -> np.ndarray:
        made.append((modality, level))
        assert np.array_equal(array, test.inputs[modality][test.rows])
        return array + np.float32(level)

    def evaluate(model: nn.Module, split) -> Answer:
        """A fingerprint of what the model reads, in place of a score."""
        inputs = split[np.arange(len(split))]
        present = inputs.get("present", {})
        read = {modality for expert in model.experts.values() for modality in expert.modalities}
        asked.append(len(read))
        means = {m: float(inputs["inputs"][m].mean()) for m in read}
        value = sum(-100.0 if m in present else mean for m, mean in means.items())
        return Answer({"accuracy": value}, 0)

    by = {modality: partial(corrupt_by_level, modality) for modality in ("left", "right")}
    both = {"left": {"left": by["left"]}, "right": {"right": by["right"]}, "multimodal": by}
    keyed = {(name, 0): model for name, model in models.items()}
    levels, modalities = (0.0, 0.5, 1.0), ("left", "right")
    points = measure(keyed, test, of_arrays(both), evaluate, levels, modalities)
    value = {(p.run, p.corruption, p.level): p.scores["accuracy"] for p in points}
    clean = {name: value[name, "left", 0.0] for name in models}
    assert sorted(made) == [(m, level) for m in ("left", "right") for level in (0.5, 1.0)]
    assert asked.count(1) == 1 + 2 + 1 and asked.count(2) == 1 + 6 + 2  # clean, levels, missing
    for level in (0.5, 1.0):
        assert value["i2m2", "left", level] == pytest.approx(clean["i2m2"] + level, abs=1e-5)
        assert value["i2m2", "multimodal", level] == pytest.approx(
            clean["i2m2"] + 2 * level, abs=1e-5
        )
        assert value["unimodal_left", "right", level] == clean["unimodal_left"]
        assert value["unimodal_left", "multimodal", level] == value["unimodal_left", "left", level]
    assert value["unimodal_left", "missing_right", None] == clean["unimodal_left"]
    assert value["unimodal_left", "missing_left", None] == -100


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two tiny finished runs on made-up files in the official layout."""
    root = tmp_path_factory.mktemp("robustness")
    rng = np.random.default_rng(0)
    for name in ("image", "audio"):
        (root / "data" / name).mkdir(parents=True)
    for part, rows in (("train", 48), ("test", 30)):
        np.save(
            root / f"data/image/{part}_data.npy",
            rng.uniform(0, 255, (rows, 784)).astype(np.float32),
        )
        np.save(
            root / f"data/audio/{part}_data.npy",
            rng.integers(0, 256, (rows, 112, 112), dtype=np.uint8),
        )
        np.save(root / f"data/{part}_labels.npy", np.arange(rows) % 10)
    (root / "data/dataset.json").write_text(
        json.dumps({"variant": "tiny", "synthetic": True, "description": "made up"})
    )
    base = [
        "--config",
        str(ROOT / "AVMNIST_and_MIMIC/configs/avmnist.yaml"),
        "--optim.epochs",
        "1",
        "--threads",
        "1",
    ]
    base += ["--data.dir", str(root / "data"), "--out", str(root / "results"), "--device", "cpu"]
    for method in ("unimodal_image", "inter"):
        train.main([*base, "--method", method])
    return root / "results" / "avmnist-tiny"


def test_the_command_writes_tables_and_figures_of_finished_runs(folder, capsys):
    main([str(folder), "--levels", "0", "1", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "variant tiny" in printed and "SYNTHETIC" in printed
    assert "Image without image (30)" in printed
    with open(folder / "robustness.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (3 * 2 + 2)
    for run in ("unimodal_image", "inter-concat"):
        accuracy = json.loads((folder / run / "seed0" / "result.json").read_text())["test"][
            "accuracy"
        ]
        clean = [
            float(line["accuracy"])
            for line in lines
            if line["run"] == run and line["level"] == "0.0"
        ]
        assert clean == pytest.approx([accuracy] * 3)
    uniform = {(line["run"], line["corruption"]): int(line["answered_uniformly"]) for line in lines}
    assert {key for key, count in uniform.items() if count} == {
        ("unimodal_image", "missing_image"),
        ("inter-concat", "missing_image"),
        ("inter-concat", "missing_audio"),
    }
    with open(folder / "robustness_summary.csv", newline="") as file:
        summary = {
            (line["run"], line["corruption"], line["measure"]): float(line["mean"])
            for line in csv.DictReader(file)
        }
    assert summary["inter-concat", "multimodal", "effective"] == 0
    assert all((folder / f"robustness.{kind}").stat().st_size > 1000 for kind in ("png", "pdf"))


def test_mistakes_are_one_line_that_says_what_to_do(folder, tmp_path):
    with pytest.raises(SettingsError, match="there is no such results folder"):
        main([str(tmp_path / "nothing")])
    with pytest.raises(SettingsError, match="no runs in it"):
        main([str(tmp_path)])
    with pytest.raises(SettingsError, match="give one of them: avmnist-tiny"):
        main([str(folder.parent)])
    with pytest.raises(SettingsError, match="they must rise from 0"):
        main([str(folder), "--levels", "0.5", "1"])
    unfinished = tmp_path / "avmnist-tiny"
    shutil.copytree(folder, unfinished)
    for path in unfinished.rglob("DONE"):
        path.unlink()
    with pytest.raises(SettingsError, match="none of its 2 runs is finished"):
        main([str(unfinished)])


def test_data_that_are_gone_or_others_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="if they lie elsewhere now, add --data.dir"):
        main([str(folder), "--data.dir", str(tmp_path)])
    other = tmp_path / "other"
    shutil.copytree(folder.parents[1] / "data", other)
    (other / "dataset.json").write_text(
        json.dumps({"variant": "tiny", "synthetic": True, "description": "others"})
    )
    with pytest.raises(DataError, match="was made with other data"):
        main([str(folder), "--data.dir", str(other)])
