"""MultiBench's two robustness scores against hand calculations."""

import pytest

from i2m2.stats.robustness import Point, effective_robustness, measures_of, relative_robustness


def test_relative_robustness_is_the_area_under_the_curve():
    assert relative_robustness([0.8] * 11) == pytest.approx(0.8)
    assert relative_robustness([1 - step / 10 for step in range(11)]) == pytest.approx(0.5)
    by_hand = 0.5 * (0.9 + 0.5) / 2 + 0.5 * (0.5 + 0.3) / 2
    assert relative_robustness([0.9, 0.5, 0.3], [0, 0.5, 1]) == pytest.approx(by_hand)


def test_effective_robustness_is_what_is_kept_beyond_the_shifted_baseline():
    baseline = [0.6 - 0.03 * step for step in range(11)]
    shifted = [value + 0.1 for value in baseline]
    better = [0.7 - 0.02 * step for step in range(11)]
    assert effective_robustness(baseline, baseline) == 0
    assert effective_robustness(shifted, baseline) == pytest.approx(0)
    assert effective_robustness(better, baseline) == pytest.approx(0.01 * sum(range(11)))


def test_summary_pairs_a_run_with_the_baseline_of_its_seed():
    def point(run: str, seed: int, name: str, level: float | None, value: float) -> Point:
        return Point(run, seed, name, level, {"accuracy": value, "nll": 9.0}, 0)

    curves = {
        ("a", 0): [0.9, 0.8, 0.7],
        ("a", 1): [0.5, 0.4, 0.2],
        ("base", 1): [0.8, 0.5, 0.1],
    }
    points = [point("a", 0, "missing_image", None, 0.3)]
    for key, values in curves.items():
        points += [point(*key, "image", k / 2, value) for k, value in enumerate(values)]
    summary = measures_of(points, "base")
    assert summary["a"]["image", "clean"] == [0.9, 0.5]
    assert summary["a"]["image", "relative"] == pytest.approx([0.8, 0.375])
    # (-0.1 + 0.3) + (-0.3 + 0.7); seed 0 has no baseline.
    assert summary["a"]["image", "effective"] == pytest.approx([0.6])
    assert summary["a"]["missing_image", "accuracy"] == [0.3]
