"""fastMRI's scores: the operating point, by volume, and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fastMRI.preparation.labels import LABELS
from fastMRI.scores import (
    CUSTOM_METRICS,
    at_threshold,
    auroc_intervals,
    by_volume,
    log_odds_of,
    operating_point,
    scores,
)
from i2m2.stats.intervals import EXAMPLES
from i2m2.stats.resampling import group_index


def test_operating_point_is_the_highest_threshold_that_finds_more_than_nine_tenths():
    log_odds = np.arange(20.0, 0.0, -1.0)
    # 9/10 are not enough: of 12 positives it takes 11, the second last of all.
    y = np.array([1] * 10 + [0] * 8 + [1, 1])
    assert operating_point(y, log_odds) == 2.0
    assert at_threshold(y, log_odds, 2.0) == {
        "sensitivity": 11 / 12,
        "specificity": 0.0,
        "balanced_accuracy_operating": 11 / 24,
    }
    assert np.isnan(operating_point(np.zeros(20, int), log_odds))


def random_predictions(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Of one label, in volumes of four slices."""
    y = rng.integers(0, 2, (n, 1))
    log_prob = np.log(rng.dirichlet([1, 1], (n, 1))).astype(np.float32)
    log_prob = log_prob + y[..., None] * [0, 1.0]
    return {"y": y, "log_prob": log_prob, "labels": np.array(["acl"]), "group": np.arange(n) // 4}


def test_scores_take_the_threshold_from_validation_and_the_log_odds_of_both_classes():
    rng = np.random.default_rng(0)
    val, test = random_predictions(300, rng), random_predictions(200, rng)
    result = scores({"val": val, "test": test})["test"]
    y, odds = test["y"][:, 0], log_odds_of(test["log_prob"][:, 0])
    threshold = operating_point(val["y"][:, 0], log_odds_of(val["log_prob"][:, 0]))
    assert result["auroc_acl"] == pytest.approx(roc_auc_score(y, odds), rel=1e-12)
    assert result["sensitivity_acl"] == (odds >= threshold)[y == 1].mean()
    assert result["specificity"] == (odds < threshold)[y == 0].mean()


def test_a_volume_is_as_suspicious_as_its_worst_slice():
    y, log_odds, group = [0, 1, 0, 0], [0.1, -2.0, 3.0, -1.0], ["b", "b", "a", "a"]
    positive, highest = by_volume(np.array(y), np.array(log_odds), np.array(group))
    assert positive.tolist() == [0, 1] and highest.tolist() == [3.0, 0.1]


def test_the_auroc_by_volume_is_resampled_by_volume():
    """Every volume once is the score itself; a volume drawn twice is as good as one that is there
    twice."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 3)
    y = rng.integers(0, 2, (36, 4)) * (group % 2)[:, None]
    log_prob = np.log(rng.dirichlet((1, 1), (36, 4)))
    p = {"y": y, "log_prob": log_prob, "group": group, "labels": np.array(LABELS)}
    index, groups = group_index(group)
    statistic = CUSTOM_METRICS["auroc_volume"](p, index, groups)
    value = scores({"val": p, "test": p})["test"]["auroc_volume"]
    assert statistic(np.ones((1, groups)))[0] == pytest.approx(value, abs=1e-12)
    drawn = np.array([0, 0, 1, 3, 5, 5, 6, 7, 8, 9, 10, 11])
    rows = np.concatenate([np.flatnonzero(group == volume) for volume in drawn])
    again = p | {"y": y[rows], "log_prob": log_prob[rows], "group": np.repeat(np.arange(12), 3)}
    value = scores({"val": again, "test": again})["test"]["auroc_volume"]
    counts = np.bincount(drawn, minlength=groups)[None].astype(float)
    assert statistic(counts)[0] == pytest.approx(value, abs=1e-12)


def test_intervals_count_resamples_without_both_classes_and_hold_the_estimate():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(40), 5)
    y = np.stack([rng.integers(0, 2, 200), (group == 0).astype(int)], axis=1)
    log_prob = np.zeros((200, 2, 2), np.float32)
    log_prob[..., 1] = y + rng.normal(size=(200, 2))
    p = {"y": y, "log_prob": log_prob, "group": group, "labels": np.array(["often", "one volume"])}
    intervals = auroc_intervals(p, resamples=1000)
    often, one_volume = intervals["auroc_often"], intervals["auroc_one volume"]
    aurocs = []
    for _ in range(1000):
        volumes = rng.integers(0, 40, 40)
        rows = np.concatenate([np.flatnonzero(group == volume) for volume in volumes])
        aurocs.append(roc_auc_score(y[rows, 0], log_prob[rows, 0, 1]))
    by_hand = np.percentile(aurocs, [2.5, 97.5])
    assert (often.low, often.high) == pytest.approx(by_hand, abs=0.02)
    assert often.low < often.mean < often.high
    assert often.rule == EXAMPLES and often.resamples_left_out == 0
    assert 0.2 < one_volume.resamples_left_out / 1000 < 0.5  # (1 - 1/40)^40 = 0.36
    assert intervals == auroc_intervals(p, resamples=1000)


def test_a_label_without_both_classes_has_no_interval_and_no_part_in_the_mean():
    rng = np.random.default_rng(2)
    y = np.stack([rng.integers(0, 2, 200), np.zeros(200, int)], axis=1)
    log_prob = np.log(rng.dirichlet((1, 1), (200, 2)))
    labels = np.array(["often", "never"])
    p = {"y": y, "log_prob": log_prob, "group": np.arange(200) // 5, "labels": labels}
    intervals = auroc_intervals(p, resamples=100)
    assert intervals["auroc"] == intervals["auroc_often"]
    never = intervals["auroc_never"]
    assert never.low is None and never.resamples_left_out == 100
