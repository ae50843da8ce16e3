"""Rescues and entropies by hand."""

import math

import numpy as np
import pytest

from i2m2.metrics import entropy
from i2m2.stats.complementarity import entropies, rescue_rate, rescues
from tests.i2m2.stats.conftest import as_predictions


def test_rescues_and_their_counterparts_by_hand():
    product = np.array([1, 0, 0, 1, 0, 1], bool)
    experts = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0]], bool)
    found = rescue_rate(product, experts)
    # All wrong: 0, 1, 5, of which 0 and 5 are rescued. All right: 2, spoilt. Some right: 2, 3, 4,
    # of which 2 and 4 are lost.
    assert found == {
        "examples": 6,
        **{"all_wrong": 3, "rescued": 2, "rescued_share": 2 / 6, "rescued_of_all_wrong": 2 / 3},
        **{"all_right": 1, "spoilt": 1, "spoilt_share": 1 / 6, "spoilt_of_all_right": 1},
        **{"some_right": 3, "lost": 2, "lost_share": 2 / 6, "lost_of_some_right": 2 / 3},
    }
    assert rescue_rate(product, np.ones((2, 6), bool))["rescued_of_all_wrong"] is None


def test_an_expert_that_abstains_is_neither_right_nor_wrong():
    """Without its modality it finds all answers alike, of which `argmax` takes the first."""
    image = np.log([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
    audio = np.log([[0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [0.5, 0.5]])
    y = np.array([1, 1, 0, 0])
    predictions = as_predictions(y, {"image": image, "audio": audio})
    found = rescues(predictions)[""]
    assert (found["examples"], found["all_wrong"], found["all_right"]) == (3, 1, 2)
    assert (found["rescued"], found["spoilt"], found["lost"]) == (0, 0, 0)
    table = entropies(predictions)[""]
    assert table["image"] == pytest.approx(entropy(y[:3], image[:3]))
    assert table["audio"] == pytest.approx(entropy(y[2:3], audio[2:3]))
    silent = rescues(as_predictions(y, {"image": image * 0 - math.log(2)}))[""]
    assert (silent["examples"], silent["rescued_share"]) == (0, None)


def test_rescues_of_predictions_and_entropies_per_label():
    image = np.log([[0.5, 0.1, 0.4], [0.6, 0.3, 0.1]])
    audio = np.log([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1]])
    y = np.array([2, 0])  # 0.16 beats 0.05: together right where each is wrong
    found = rescues(as_predictions(y, {"image": image, "audio": audio}))[""]
    assert (found["examples"], found["rescued"], found["lost"]) == (2, 1, 0)
    two_labels = {"image": np.stack([image, audio], axis=1)}
    table = entropies(as_predictions(np.stack([y, y * 0], axis=1), two_labels))
    assert table["0"]["y"] == pytest.approx(math.log(2)) and table["1"]["y"] == 0
    assert table["1"]["image"] == pytest.approx(entropy(y, audio))
