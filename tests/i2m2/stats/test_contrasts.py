"""Planned contrasts: the three answers, Holm over the contrasts alone, and what would be found."""

import json

import msgspec
import numpy as np
import pytest
from scipy import stats

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS, auroc, label_entropy
from i2m2.stats.contrasts import (
    NONE_DETECTABLE,
    Contrast,
    ScoredRows,
    decide,
    holm_levels,
    usual_margin,
)
from i2m2.stats.intervals import SAME, interval
from i2m2.stats.paired_tests import holm
from tests.i2m2.conftest import two_class_runs


def contrast(first, second):
    return Contrast(name=f"{first} over {second}", first=first, second=second)


def scored(n=2000, seeds=3, spread=1.0, seed=0, group=None, **means):
    """Rows whose examples score by a mean of their own, a difficulty they share, and noise."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n)
    rows = {row: m + shared + spread * rng.normal(size=(seeds, n)) for row, m in means.items()}
    return ScoredRows.of_scores(rows, np.arange(n) if group is None else group, resamples=500)


def test_the_three_answers():
    """By hand: the standard error of a difference of two means over 3 x 2,000 is 0.018."""
    rows = scored(best=0.2, same=0.0, worst=0.0)
    better, alike, unclear = decide(
        [contrast("best", "worst"), contrast("same", "worst"), contrast("worst", "same")],
        rows,
        margin=0.1,
    )
    assert (better.answer, better.text) == ("yes", "yes")
    assert alike.answer == unclear.answer == "no"
    assert alike.text == f"no (at most {100 * alike.high:.1f} points)"
    (narrow,) = decide([contrast("same", "worst")], rows, margin=0.001)
    assert narrow.answer == "cannot be told"
    assert narrow.text.startswith("cannot be told (smallest detectable ")


def test_what_is_significant_but_too_small_to_matter_is_no():
    (found,) = decide([contrast("a", "b")], scored(a=0.1, b=0.0), margin=0.5)
    assert found.p_holm < 0.05 and found.low > 0
    assert found.answer == "no" and found.high < 0.5


def test_a_significantly_worse_row_is_no():
    (found,) = decide([contrast("a", "b")], scored(a=0.0, b=0.3), margin=0.01)
    assert found.p_holm < 0.05 and found.answer == "no" and found.high < 0


def test_interval_and_p_are_those_of_the_paired_difference_and_holm_is_over_these_alone():
    rows = scored(a=0.05, b=0.03, c=0.0, d=-3.0)
    asked = [contrast("a", "b"), contrast("a", "c"), contrast("b", "c")]
    found = decide(asked, rows, margin=0.01)
    for one in found:
        first, second = one.contrast.first, one.contrast.second
        values = rows.values[first] - rows.values[second]
        known = interval(values, rows.resampled[first] - rows.resampled[second], rows.groups)
        assert (one.difference, one.low, one.high) == (known.mean, known.low, known.high)
        assert one.p == known.p
    assert [one.p_holm for one in found] == pytest.approx(holm([one.p for one in found]).tolist())


def test_less_is_better_turns_the_sign_round():
    rows = scored(a=0.5, b=0.8)
    (more,) = decide([contrast("a", "b")], rows, margin=0.01)
    (less,) = decide([contrast("a", "b")], rows, margin=0.01, metric=METRICS["nll"])
    assert less.difference == pytest.approx(-more.difference) and less.difference > 0
    assert (less.low, less.high) == pytest.approx((-more.high, -more.low))
    assert (less.answer, more.answer) == ("yes", "no")
    assert "points" in more.text


def test_the_levels_of_holm_by_hand():
    """Sorted 0.01, 0.02, 0.5 are compared with 0.05 / 3, 0.05 / 2 and 0.05."""
    levels = holm_levels(np.array([0.5, 0.01, np.nan, 0.02]))
    np.testing.assert_allclose(levels, [0.05, 0.05 / 3, np.nan, 0.025])


def test_the_smallest_detectable_difference_is_found_four_times_of_five():
    """Drawn again with that true difference, one run of each, so that the examples decide."""
    asked, n = [contrast("a", "b")], 400
    (found,) = decide(asked, scored(n, seeds=1, a=0.0, b=0.0), margin=1e-9)
    by_hand = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * np.sqrt(2 / n)
    assert found.smallest_detectable == pytest.approx(by_hand, rel=0.15)
    answers = [
        decide(asked, scored(n, seeds=1, seed=seed, a=by_hand, b=0.0), margin=1e-9)[0].answer
        for seed in range(200)
    ]
    assert np.mean([answer == "yes" for answer in answers]) == pytest.approx(0.8, abs=0.1)


def test_groups_are_what_is_drawn():
    """Every example ten times over: as sure as the 200 by themselves, no surer."""
    rng = np.random.default_rng(0)
    once = {row: rng.normal(size=(1, 200)) for row in "ab"}
    ten = {row: np.repeat(scores, 10, axis=1) for row, scores in once.items()}
    alone = ScoredRows.of_scores(once, np.arange(200))
    together = ScoredRows.of_scores(ten, np.repeat(np.arange(200), 10))
    (first,), (second,) = (decide([contrast("a", "b")], rows, 0.01) for rows in (alone, together))
    assert (second.low, second.high) == pytest.approx((first.low, first.high))


def test_scores_and_predictions_give_the_same_answer():
    runs = {"weak": two_class_runs((0, 1), 0.5, shift=7), "strong": two_class_runs((0, 1), 1.5)}
    asked = [contrast("strong", "weak")]
    by_prediction = ScoredRows.of_predictions(runs, "accuracy")
    right = {
        row: np.stack([(p["log_prob"].argmax(-1) == p["y"]) * 1.0 for p in seeds])
        for row, seeds in runs.items()
    }
    by_score = ScoredRows.of_scores(right, runs["weak"][0]["group"])
    (first,), (second,) = (decide(asked, rows, 0.01) for rows in (by_prediction, by_score))
    assert first == second and first.difference > 0.1
    ranked = ScoredRows.of_predictions(runs, "auroc")
    expected = [auroc(p["y"], p["log_prob"]) for p in runs["weak"]]
    assert ranked.values["weak"] == pytest.approx(expected)


def test_a_reference_without_a_seed_is_paired_with_every_seed():
    rng = np.random.default_rng(0)
    rows = {"model": rng.normal(size=(3, 500)), "reference": rng.normal(size=500)}
    values, resampled = ScoredRows.of_scores(rows, np.arange(500)).difference(
        contrast("model", "reference")
    )
    assert values == pytest.approx(rows["model"].mean(1) - rows["reference"].mean())
    assert resampled.shape == (2000, 3)


def test_rows_of_the_same_predictions_do_not_differ():
    scores = {row: np.random.default_rng(0).normal(size=(2, 100)) for row in "ab"}
    rows = ScoredRows.of_scores(scores, np.zeros(100), answers=scores)
    (found,) = decide([contrast("a", "b")], rows, margin=0.01)
    assert (found.low, found.high, found.p, found.answer) == (0, 0, 1, "no")
    same = {"a": two_class_runs((0, 1), 1.0), "b": two_class_runs((0, 1), 1.0)}
    (found,) = decide([contrast("a", "b")], ScoredRows.of_predictions(same, "auroc"), margin=0.01)
    assert (found.low, found.high, found.answer) == (0, 0, "no")


@pytest.mark.parametrize(("n", "answer"), [(8, "cannot be told"), (400, "no")])
def test_what_no_example_shows_may_still_be_as_frequent_as_the_exact_limit(n, answer):
    """Of n examples none is right by one row alone: 1 - 0.025^(1/n), of a proportion of 0 of n."""
    y = np.arange(n) % 2
    sure, unsure = (np.log(np.where(y[:, None] == [0, 1], p, 1 - p)) for p in (0.9, 0.6))
    runs = {
        row: [{"id": np.arange(n), "group": np.arange(n), "y": y, "log_prob": log_prob}]
        for row, log_prob in (("sure", sure), ("unsure", unsure))
    }
    asked = [contrast("sure", "unsure")]
    (found,) = decide(asked, ScoredRows.of_predictions(runs, "accuracy"), margin=0.01)
    limit = stats.binomtest(0, n).proportion_ci(0.95, method="exact").high
    assert (found.low, found.high) == pytest.approx((-limit, limit))
    assert (found.difference, found.p, found.answer) == (0, 1, answer)
    scores = {row: np.ones(n) for row in runs}
    assert decide(asked, ScoredRows.of_scores(scores, y + 2 * np.arange(n)), 0.01) == [found]
    (ranked,) = decide(asked, ScoredRows.of_predictions(runs, "auroc"), margin=0.01)
    assert ranked.text == f"cannot be told (no interval: {SAME})"


def test_an_undefined_metric_cannot_be_told_and_is_no_member_of_the_family():
    rows = scored(a=0.3, b=0.0, undefined=np.nan)
    asked = [contrast("a", "b"), contrast("a", "undefined")]
    known, unknown = decide(asked, rows, margin=0.01)
    assert known.p_holm == known.p
    assert unknown.text == "cannot be told (no interval: not defined, or infinite)"
    json.dumps(msgspec.to_builtins([known, unknown]), allow_nan=False)


def test_what_cannot_be_asked_is_refused_by_name():
    rows = scored(a=0.0, b=0.0)
    with pytest.raises(SettingsError, match="no row 'c'; choose from a, b"):
        decide([contrast("a", "c")], rows, 0.01)
    with pytest.raises(SettingsError, match="margin=0: it must be above 0"):
        decide([contrast("a", "b")], rows, 0)
    rng = np.random.default_rng(0)
    uneven = ScoredRows.of_scores({k: rng.normal(size=(int(k), 9)) for k in "23"}, np.arange(9))
    with pytest.raises(SettingsError, match="2 seeds of 2, but 3 of 3"):
        decide([contrast("2", "3")], uneven, 0.01)
    other = two_class_runs((0,), 1.0, n=60)
    with pytest.raises(DataError, match="predicted other examples"):
        ScoredRows.of_predictions({"a": two_class_runs((0,), 1.0), "b": other}, "accuracy")


def test_the_usual_margin_is_a_point_or_a_hundredth_of_the_entropy():
    y = np.array([0, 0, 0, 1])
    assert usual_margin("auroc", y) == usual_margin("accuracy_acl", y) == 0.01
    assert usual_margin("nll", y) == pytest.approx(0.01 * label_entropy(y))
    two = np.stack([y, 1 - y], axis=1)
    assert usual_margin("nll", two) == pytest.approx(usual_margin("nll", y))


def test_no_difference_is_larger_than_the_metric_allows():
    """Two seeds far apart: their t interval alone would reach beyond 100 points."""
    noise = 0.05 * np.random.default_rng(0).normal(size=(500, 2))
    values = {"a": np.array([0.2, 0.9]), "b": np.array([0.5, 0.5])}
    resampled = {"a": values["a"] + noise, "b": np.full((500, 2), 0.5)}
    rows = ScoredRows(values=values, resampled=resampled, groups=50)
    (found,) = decide([contrast("a", "b")], rows, margin=0.01)
    assert (found.low, found.high) == (-1, 1)
    assert found.smallest_detectable is None
    assert found.text == f"cannot be told ({NONE_DETECTABLE})"
    (in_nats,) = decide([contrast("a", "b")], rows, margin=0.01, metric=METRICS["nll"])
    assert in_nats.low < -1 and in_nats.smallest_detectable > 1
