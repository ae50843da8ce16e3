"""Models on altered test data, and without a modality."""

from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert, product_of_experts
from i2m2.stats.robustness import Answer
from i2m2.training.data import ArrayDataset
from i2m2.training.evaluate import answered_by_none, predict
from i2m2.training.robustness import Without, array_corruptions, measure


class Mean(nn.Module):
    def forward(self, features):
        return torch.stack(list(features.values())).mean(0)


def toy() -> tuple[dict[str, ProductOfExperts], ArrayDataset]:
    """Untrained linear experts of three classes on two modalities, and 40 examples."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    sides = ("left", "right")
    experts = {name: UnimodalExpert(name, nn.Identity(), nn.Linear(4, 3)) for name in sides}
    encoders = {name: nn.Identity() for name in sides}
    experts["inter"] = FusionExpert(encoders, Mean(), nn.Linear(4, 3))
    unimodal = ProductOfExperts({"left": experts["left"]})
    models = {"i2m2": ProductOfExperts(experts), "unimodal_left": unimodal}
    inputs = {name: rng.standard_normal((60, 4)).astype(np.float32) for name in sides}
    rows = rng.permutation(60)[:40]
    return models, ArrayDataset(inputs, rng.integers(0, 3, 40), rows, np.arange(40))


def test_a_missing_modality_equals_removing_its_experts_by_hand():
    models, test = toy()
    accelerator = Accelerator(cpu=True)
    clean = predict(models["i2m2"], test, accelerator, 7)
    altered = predict(models["i2m2"], Without(test, "right"), accelerator, 7)
    by_hand = product_of_experts([torch.from_numpy(clean["expert_left"])]).numpy()
    assert np.allclose(altered["log_prob"], by_hand, atol=1e-6)
    assert answered_by_none(altered) == 0
    assert np.array_equal(altered["y"], test.y) and np.array_equal(altered["id"], test.id)


def test_a_unimodal_row_without_its_modality_answers_every_example_uniformly():
    models, test = toy()
    altered = Without(test, "left")
    answers = predict(models["unimodal_left"], altered, Accelerator(cpu=True), 7)
    assert np.allclose(answers["log_prob"], -np.log(3))
    assert answered_by_none(answers) == len(test)


def test_measure_alters_only_what_it_says_once_per_level_and_asks_no_model_twice():
    models, test = toy()
    sides = ("left", "right")
    made, asked = [], []

    def corrupt_by_level(modality: str, array: np.ndarray, level: float) -> np.ndarray:
        made.append((modality, level))
        assert np.array_equal(array, test.inputs[modality][test.rows])
        return array + np.float32(level)

    def evaluate(model: nn.Module, split) -> Answer:
        """A fingerprint of what the model reads, in place of a score."""
        batch = split[np.arange(len(split))]
        asked.append(len(model.modalities))
        means = {m: float(batch["inputs"][m].mean()) for m in model.modalities}
        absent = means.keys() & batch.get("present", {}).keys()
        return Answer({"sum": sum((means | dict.fromkeys(absent, -100.0)).values())}, 0)

    by = {modality: partial(corrupt_by_level, modality) for modality in sides}
    both = {"left": {"left": by["left"]}, "right": {"right": by["right"]}, "multimodal": by}
    keyed = {(name, 0): model for name, model in models.items()}
    points = measure(keyed, test, array_corruptions(both), evaluate, (0.0, 0.5, 1.0), sides)
    value = {(p.run, p.corruption, p.level): p.scores["sum"] for p in points}
    clean = {name: value[name, "left", 0.0] for name in models}
    assert sorted(made) == [(m, level) for m in sides for level in (0.5, 1.0)]
    assert asked.count(1) == 1 + 2 + 1 and asked.count(2) == 1 + 6 + 2  # clean, levels, missing
    for level in (0.5, 1.0):
        once, twice = (clean["i2m2"] + times * level for times in (1, 2))
        assert value["i2m2", "left", level] == pytest.approx(once, abs=1e-5)
        assert value["i2m2", "multimodal", level] == pytest.approx(twice, abs=1e-5)
        assert value["unimodal_left", "right", level] == clean["unimodal_left"]
        assert value["unimodal_left", "multimodal", level] == value["unimodal_left", "left", level]
    assert value["unimodal_left", "missing_right", None] == clean["unimodal_left"]
    assert value["unimodal_left", "missing_left", None] == -100


def test_a_level_that_is_given_twice_is_one_point_of_every_run():
    models, test = toy()
    keyed = {(name, 0): model for name, model in models.items()}
    corruptions = array_corruptions({"left": {"left": lambda array, level: array}})
    answer = Answer({"sum": 0.0}, 0)
    points = measure(keyed, test, corruptions, lambda *_: answer, (0.0, 0.5, 0.5, 1.0))
    assert [point.level for point in points if point.run == "i2m2"] == [0.0, 0.5, 1.0]
