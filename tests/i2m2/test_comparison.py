"""Two methods compared on the same examples, through their saved predictions."""

import numpy as np
import pytest

from i2m2.compare import comparison_of
from i2m2.stats.paired_tests import delong
from i2m2.stats.summary import resample, summarise
from tests.i2m2.conftest import two_class_runs


def save_runs(folder, predictions):
    """A folder per seed; -> the folders."""
    folders = [folder / f"seed{seed}" for seed in range(len(predictions))]
    for run, columns in zip(folders, predictions, strict=True):
        run.mkdir(parents=True)
        np.savez(run / "predictions_test.npz", **columns)
    return folders


def test_a_difference_is_paired_over_examples_and_seeds(tmp_path):
    a = two_class_runs((0, 1, 2), 1.5)
    b = two_class_runs((0, 1, 2), 1.0, shift=50)
    first, second = save_runs(tmp_path / "a", a), save_runs(tmp_path / "b", b)
    found = comparison_of(first, second, ["accuracy", "auroc"])
    assert (found.groups, found.examples) == (100, 300)
    accuracy = found.metrics["accuracy"]
    apart = np.subtract(accuracy.first.values, accuracy.second.values)
    assert accuracy.difference.values == pytest.approx(apart)
    assert accuracy.difference.low > 0 and accuracy.difference.p < 0.05
    by_itself = resample(a, ["accuracy"])["accuracy"]
    assert accuracy.first == summarise("accuracy", *by_itself, groups=100)


def test_every_pair_of_runs_has_its_tests(tmp_path):
    a, b = two_class_runs((0,), 1.5), two_class_runs((0,), 1.0, shift=50)
    first, second = save_runs(tmp_path / "a", a), save_runs(tmp_path / "b", b)
    by_answer, by_rank = comparison_of(first, second, ["accuracy"]).tests[0][""]
    log_odds = [p["log_prob"][:, 1].astype(float) - p["log_prob"][:, 0] for p in (a[0], b[0])]
    assert by_rank.p == delong(a[0]["y"] == 1, *log_odds).p
    right = [p["log_prob"].argmax(-1) == p["y"] for p in (a[0], b[0])]
    assert by_answer.won == (right[0] & ~right[1]).sum()


def test_the_same_predictions_differ_in_nothing(tmp_path):
    one = two_class_runs((0,), 1.5)
    first, second = save_runs(tmp_path / "a", one), save_runs(tmp_path / "b", one)
    found = comparison_of(first, second, ["accuracy"])
    assert found.metrics["accuracy"].difference.p == 1
