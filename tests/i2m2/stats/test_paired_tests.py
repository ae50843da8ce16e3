"""DeLong by its definition, McNemar as a binomial test, Holm by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from i2m2.stats.paired_tests import delong, holm, mcnemar


def delong_by_definition(positive, first, second):
    """DeLong et al. 1988: every positive against every negative."""
    kernels = []
    for scores in (first, second):
        above, below = scores[positive][:, None], scores[~positive][None, :]
        kernels.append((above > below) + 0.5 * (above == below))
    areas = [kernel.mean() for kernel in kernels]
    (m, n), variance = kernels[0].shape, 0.0
    for axis, size in ((1, m), (0, n)):
        part = kernels[0].mean(axis) - kernels[1].mean(axis) - (areas[0] - areas[1])
        variance += (part @ part) / (size - 1) / size
    z = (areas[0] - areas[1]) / math.sqrt(variance)
    return *areas, variance, math.erfc(abs(z) / math.sqrt(2))


@pytest.mark.parametrize("seed", range(3))
def test_delong_is_its_definition_over_all_pairs_ties_included(seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(150) < 0.3
    shared = rng.normal(size=150)
    first = np.round(shared + positive, 1)
    second = np.round(shared + rng.normal(size=150) + 0.7 * positive, 1)
    found = delong(positive, first, second)
    expected = delong_by_definition(positive, first, second)
    numbers = (found.first, found.second, found.variance, found.p)
    np.testing.assert_allclose(numbers, expected, rtol=1e-10)
    assert found.error**2 == pytest.approx(found.variance)
    assert (delong(positive, second, second).variance, delong(positive, second, second).p) == (0, 1)


def test_delong_without_anything_to_say():
    positive = np.array([True, True, False, False])
    assert delong(positive, np.arange(4.0), np.arange(4.0)).p == 1
    assert math.isnan(delong(np.array([True, False]), np.arange(2.0), np.arange(2.0)).p)
    assert math.isnan(delong(np.ones(3, bool), np.arange(3.0), np.arange(3.0)).first)


@pytest.mark.parametrize("won, lost", [(10, 3), (0, 5), (4, 4), (0, 0), (120, 90)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(won, lost):
    first = np.array([True] * won + [False] * lost + [True, False] * 7)
    second = np.array([False] * won + [True] * lost + [True, False] * 7)
    found = mcnemar(first, second)
    assert (found.won, found.lost) == (won, lost)
    n, fewer = won + lost, min(won, lost)
    by_hand = [sum(math.comb(n, k) for k in range(upto)) / 2**n for upto in (fewer, fewer + 1)]
    assert found.p == pytest.approx(min(1, 2 * by_hand[1]), abs=1e-10)
    # Half of the observed outcome, on both sides.
    assert found.mid_p == pytest.approx(by_hand[0] + by_hand[1], abs=1e-10)
    if n:
        assert found.p == pytest.approx(stats.binomtest(won, n).pvalue, abs=1e-10)


def test_holm_by_hand():
    # Sorted: 0.01, 0.015, 0.03, 0.04; times 4, 3, 2, 1: 0.04, 0.045, 0.06, 0.04 -> no less than the
    # one before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.015]), [0.06, 0.04, 0.06, 0.045])
    np.testing.assert_allclose(holm([0.6, np.nan, 0.7]), [1, np.nan, 1])
