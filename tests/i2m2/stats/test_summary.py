"""Metrics of runs on the same examples: values, means over the labels, and what is said of them."""

import json

import msgspec
import numpy as np
import pytest

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import accuracy, auroc, score
from i2m2.stats.resampling import mean_of
from i2m2.stats.summary import resample, summarise
from tests.i2m2.conftest import two_class_runs


def summaries_of(predictions, metrics, custom=None, resamples=100):
    """{metric: summary} of a method's runs, the predictions of one per seed."""
    groups = len(np.unique(predictions[0]["group"]))
    found = resample(predictions, metrics, custom, resamples)
    return {name: summarise(name, *of_metric, groups) for name, of_metric in found.items()}


def test_summaries_are_of_the_metrics_and_fit_into_json():
    runs = two_class_runs((0, 1, 2), 1.5)
    found = summaries_of(runs, ["accuracy", "auroc", "nll"], resamples=200)
    json.dumps(msgspec.to_builtins(found), allow_nan=False)
    values = [accuracy(p["y"], p["log_prob"]) for p in runs]
    of_accuracy = found["accuracy"]
    assert of_accuracy.values == pytest.approx(values)
    assert of_accuracy.mean == pytest.approx(np.mean(values))
    assert of_accuracy.std == pytest.approx(np.std(values, ddof=1))
    assert of_accuracy.low < np.mean(values) < of_accuracy.high
    assert of_accuracy.rule == "t, seeds and examples" and of_accuracy.p is msgspec.UNSET
    of_auroc = [auroc(p["y"], p["log_prob"]) for p in runs]
    assert found["auroc"].values == pytest.approx(of_auroc)
    one = summaries_of(runs[:1], ["accuracy"], resamples=200)["accuracy"]
    assert one.std is None and "one seed" in one.rule


def test_labels_and_their_mean_are_those_of_score_and_an_undefined_one_is_null():
    (p,) = two_class_runs((0,), 1.0, labels=["acl", "meniscus"])
    found = summaries_of([p], ["auroc", "auroc_acl", "ece_meniscus", "auprc"])
    expected = score(p["y"], p["log_prob"], ["auroc", "auprc", "ece"], ["acl", "meniscus"])
    of_labels = {f"{metric}_{label}" for metric in ("auroc", "auprc") for label in p["labels"]}
    assert set(found) == {"auroc", "auprc", "ece_meniscus"} | of_labels
    means = {name: summary.mean for name, summary in found.items()}
    assert means == pytest.approx({name: expected[name] for name in found})
    p["y"][:, 0] = 0
    found = summaries_of([p], ["auroc"])
    assert found["auroc_acl"].mean is None and found["auroc_acl"].low is None
    assert found["auroc"].mean == found["auroc_meniscus"].mean
    assert found["auroc"].mean == pytest.approx(expected["auroc_meniscus"])


def test_a_label_of_infinite_nll_makes_the_mean_infinite_in_the_run_that_has_it():
    runs = two_class_runs((0, 1), 1.0, labels=["acl", "meniscus"])
    right = runs[0]["y"][0, 0]
    runs[0]["log_prob"][0, 0] = np.where(np.arange(2) == right, -np.inf, 0)
    expected = [score(p["y"], p["log_prob"], ["nll"], ["acl", "meniscus"])["nll"] for p in runs]
    found = summaries_of(runs, ["nll"])["nll"]
    assert expected[0] == np.inf and found.values == [None, pytest.approx(expected[1])]
    assert found.mean is None and found.rule == "no interval: not defined, or infinite"


def test_a_custom_metric_and_unknown_ones():
    runs = two_class_runs((0, 1), 1.0)

    def vqa_score(p, index, groups):
        return mean_of((p["log_prob"].argmax(-1) == p["y"]) * 0.9, index, groups)

    custom = {"vqa_score": vqa_score, "soft": lambda p, *_: p["soft"]}
    found = summaries_of(runs, ["vqa_score", "accuracy"], custom)
    assert found["vqa_score"].mean == pytest.approx(0.9 * found["accuracy"].mean)
    assert found["vqa_score"].low == pytest.approx(0.9 * found["accuracy"].low)
    with pytest.raises(SettingsError, match="'acuracy' is unknown; choose from accuracy"):
        summaries_of(runs, ["acuracy"])
    with pytest.raises(DataError, match="metric 'soft' needs a column 'soft'"):
        summaries_of(runs, ["soft"], custom)


def test_the_interval_of_a_difference_ends_at_the_largest_that_there_can_be():
    values, noise = np.array([-0.3, 0.4]), 0.05 * np.random.default_rng(0).normal(size=(100, 2))
    found = {
        name: summarise(name, values, values + noise, 9, difference=True)
        for name in ("accuracy", "brier", "nll")
    }
    assert (found["accuracy"].low, found["accuracy"].high) == (-1, 1)
    assert (found["brier"].low, found["brier"].high) == (-2, 2)
    assert found["nll"].low < -2 and found["nll"].high > 2


def test_seeds_that_share_networks_have_no_interval():
    values, resampled = np.array([0.7, 0.8]), np.full((10, 2), 0.75)
    found = summarise("accuracy", values, resampled, 9, difference=True, shared=True)
    assert found.values == [0.7, 0.8] and found.mean == pytest.approx(0.75)
    assert (found.low, found.high, found.p) == (None, None, None)
    assert found.rule == "no interval: its seeds share networks"
