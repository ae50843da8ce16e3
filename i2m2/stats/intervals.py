"""95 % intervals of a metric, and p-values of a difference, from its bootstrap over groups: of one
run, or of the mean over seeds.

One run: what a model scores on other examples; the training is as it is. With G groups the
percentiles of the bootstrap are taken a little further out than 2.5 and 97.5 %, by the ratio of
Student's t (G - 1 degrees of freedom) to the normal distribution and by sqrt(G / (G - 1)): a
percentile interval is too short for a few groups (Hesterberg 2015, "expanded percentile interval").

Several seeds, evaluated on the same examples: what the method scores on other examples *and* with
other seeds. The score of seed s is theta + e + u_s: e is what these examples do to all seeds alike,
u_s what is a seed's own (its quality, and its luck with these examples). The mean over S seeds
misses theta by e + mean(u), so

    half width = t(nu) * error,    error^2 = var(e) + var(u) / S

var(e) is the covariance of two seeds' scores over the resamples (mean over all pairs), var(u) the
sample variance of the scores over the seeds, which quality and luck both enlarge, so that the two
need not be separated. The degrees of freedom nu are Satterthwaite's, of a sum of variances with
G - 1 and S - 1 of them:

    nu = (var(e) + v)^2 / (var(e)^2 / (G - 1) + v^2 / (S - 1))

where v is the upper 75 % confidence limit of var(u) / S, that is var(u) / S times 9.8, 3.5 and 2.1
for 2, 3 and 5 seeds. Satterthwaite takes var(u) / S itself. But a few seeds may lie close together
by chance, and then both error and t are too small: where seeds make most of the variance, two would
cover 87 %, three 92 %. With the limit normal scores are covered by at least 94 % at every ratio of
the variances; a limit of 70 % would leave two seeds at 93 %. Where the examples make most of it, nu
is large, and a clear difference is found with few seeds. The sum of two t, one for either variance
(Banerjee 1960), never covers less than 95 %, but its p-values come down very slowly: with three
seeds hardly any passes a correction for many comparisons. Ours are right down to 0.003, but for the
case that seeds make ten times the variance of the examples or more; there 0.003 is 0.025 with two
seeds, 0.01 with three, 0.005 with five. The interval is never shorter than that of these very runs
on other examples.

A table has more to go by than the seeds of two rows: `usual_spread` of all its rows, as an analysis
of variance pools them. The seeds of a difference are then taken to lie at least that far apart, and
the degrees of freedom are those of the pool, so that two or three seeds decide even after a
correction for many comparisons.

A plain two-level percentile bootstrap of five seeds has 4/5 of var(u) and no t: it covers far less
where seeds matter. Assumed: seeds are independent and their scores roughly normal, groups are
independent. The training set is given: what another would do is not in it. benchmarks/coverage
measures all of this.

Where no example and no seed tells two rows apart, every resample says 0, and a bootstrap has no
interval. What n independent groups did not show happens in less than 1 - 0.025^(1/n) of all (the
exact limit of a proportion of which none was seen, 95 %), and such an example moves a mean over
examples by no more than the metric allows. Of other metrics nothing is said. Rows that answer the
same throughout do not differ at all.

The ECE is biased: noise in the bins adds to it, and once more in every resample, so that all
percentiles may lie above the truth. Its resamples are reflected about the value (the "basic"
bootstrap), and the mean over seeds is moved by the same bias. Where the true error is near zero
even that covers little more than half the time: read such an interval as "close to calibrated".
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

LEVEL = 0.95
FEW = 10  # resamples on the far side of 0, below which their share says little of p
EXAMPLES = "percentile bootstrap, examples only (one seed)"
SEEDS_AND_EXAMPLES = "t, seeds and examples"
LIMIT = 0.75  # confidence of the limit of the seeds' variance that decides the degrees of freedom
BIASED = ", less the bias of the bootstrap"
SAME = "every resample and seed gives the same value"
UNSEEN = "exact limit of what no group of examples shows"
IDENTICAL = "both give the same predictions"


class Spread(NamedTuple):
    """How far apart the seeds of a difference of two rows usually lie: their variance, and the
    degrees of freedom with which it is known."""

    variance: float
    freedom: float


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A metric, or a difference of two rows in it, over the seeds: fractions (NLL and entropy in
    nats), None where a number does not exist.

    `values`: one per seed, with their `mean` and sample `std`. `low`, `high`: 95 % interval, and
    the `rule` it follows, or why there is none. `resamples_left_out`: those in which the metric is
    not defined. `p`: of a difference, two-sided, of its being 0.
    """

    mean: float | None
    std: float | None
    values: list[float | None]
    low: float | None
    high: float | None
    rule: str
    resamples_left_out: int
    p: float | None | msgspec.UnsetType = msgspec.UNSET


def interval(
    values: np.ndarray,
    resampled: np.ndarray,
    groups: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    biased: bool = False,
    usual: Spread | None = None,
    unseen: float = np.inf,
) -> Summary:
    """95 % interval and p-value of the mean over seeds.

    `values` [S]: one per seed; `resampled` [R, S]: in each resample, drawn alike for all seeds.
    `bounds`: least and greatest value of the metric, or of a difference in it, where the interval
    ends; `biased`: as the ECE; `usual`: the spread of several seeds, as far as other rows tell;
    `unseen`: of a difference, the most that an example can add which is unlike all of these (0: of
    the same predictions; infinite: not known).
    """
    defined = np.isfinite(resampled).all(axis=1)
    left_out, resampled = int((~defined).sum()), resampled[defined]
    if biased:
        resampled = 2 * values - resampled
    if unseen == 0 and not values.any():
        return summary_of(values, IDENTICAL, left_out, 0.0, 0.0, 1.0)
    if reason := _no_interval(values, resampled, groups):
        rule, half, p = f"no interval: {reason}", np.nan, np.nan
        if reason == SAME and values.mean() == 0:
            half, p = unseen * (1 - ((1 - LEVEL) / 2) ** (1 / groups)), 1.0
            rule = UNSEEN if np.isfinite(half) else rule
        return summary_of(values, rule, left_out, -half, half, p)
    centre = float((resampled if biased else values).mean())
    one = len(values) == 1
    if one:
        low, high, p = _one_run(values, resampled, groups, centre)
    else:
        low, high, p = _several_seeds(values, resampled, groups, centre, usual)
    low, high = np.clip([low, high], *bounds)
    rule = (EXAMPLES if one else SEEDS_AND_EXAMPLES) + (BIASED if biased else "")
    return summary_of(values, rule, left_out, low, high, p)


def summary_of(
    values: np.ndarray,
    rule: str,
    left_out: int = 0,
    low: float = np.nan,
    high: float = np.nan,
    p: float = np.nan,
) -> Summary:
    """A summary of [S] values, and what is known of their mean."""
    return Summary(
        mean=_known(values.mean()),
        std=sample_std(values.tolist()) if np.isfinite(values).all() else None,
        values=list(map(_known, values)),
        low=_known(low),
        high=_known(high),
        rule=rule,
        resamples_left_out=left_out,
        p=_known(p),
    )


def sample_std(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _no_interval(values: np.ndarray, resampled: np.ndarray, groups: int) -> str:
    """Why there is no interval; '' if there is one."""
    if not np.isfinite(values).all():
        return "not defined, or infinite"
    if groups < 2:
        return "fewer than two groups"
    if len(resampled) < 2:
        return "not defined in the resamples"
    return SAME if np.ptp(resampled) == 0 and np.ptp(values) == 0 else ""


def _one_run(
    values: np.ndarray, resampled: np.ndarray, groups: int, centre: float
) -> tuple[float, float, float]:
    """-> low, high, p, from the value [1] and its resamples [R, 1]."""
    from scipy import stats  # here: it takes a second to import

    resampled = resampled[:, 0]
    wider = np.sqrt(groups / (groups - 1))
    t = stats.t.ppf((1 - LEVEL) / 2, groups - 1)
    tail = stats.norm.cdf(wider * t)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    # p is the level at which this interval would end at 0: the same steps backwards.
    beyond = min((resampled <= 0).sum(), (resampled >= 0).sum())
    share = (1 + beyond) / (1 + len(resampled))
    z = stats.norm.ppf(share)
    p = 2 * stats.t.cdf(z / wider, groups - 1)
    if beyond < FEW and (spread := resampled.std(ddof=1)) > 0:
        # R resamples tell nothing of a p below 1 / R, which many comparisons need: there t.
        t = abs(centre) / (wider * spread)
        p = min(p, 2 * stats.t.sf(t, groups - 1))
    return low, high, float(min(1, p))


def _several_seeds(
    values: np.ndarray, resampled: np.ndarray, groups: int, centre: float, usual: Spread | None
) -> tuple[float, float, float]:
    """-> low, high, p, from [S] values and their [R, S] resamples."""
    from scipy import stats  # here: it takes a second to import

    error, freedom = standard_errors(values, resampled, groups, usual)
    half = (stats.t.isf((1 - LEVEL) / 2, freedom) * error).max()
    far = np.full(len(error), np.inf if centre else 0.0)
    t = np.divide(abs(centre), error, out=far, where=error > 0)
    p = (2 * stats.t.sf(t, freedom)).max()
    return centre - half, centre + half, float(p)


def standard_errors(
    values: np.ndarray, resampled: np.ndarray, groups: int, usual: Spread | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """-> ([K] standard errors, [K] degrees of freedom) of the mean of [S] values, from their [R, S]
    resamples: first of these very runs on other examples, then, of several seeds, of other seeds
    too. The wider one counts, since few seeds can score alike by chance."""
    from scipy import stats  # here: it takes a second to import

    seeds = len(values)
    of_runs = float(resampled.mean(axis=1).var(ddof=1)) * groups / (groups - 1)
    if seeds == 1:
        return np.sqrt([of_runs]), np.array([groups - 1])
    of_examples, of_seeds = variances(values, resampled, groups)
    least, known_by = usual or Spread(0.0, 0.0)
    of_seeds, of_them = max(of_seeds, least) / seeds, max(seeds - 1, known_by)
    limit = of_seeds * of_them / stats.chi2.ppf(1 - LIMIT, of_them)
    known = of_examples**2 / (groups - 1) + limit**2 / of_them
    freedom = (of_examples + limit) ** 2 / known if known else groups - 1
    return np.sqrt([of_runs, of_examples + of_seeds]), np.array([groups - 1, freedom])


def usual_spread(rows: Iterable[np.ndarray]) -> Spread | None:
    """Of a difference of any two of these rows, [S] values each, whose seeds are independent; None
    if no row has seeds that score differently (a reference without chance has none).

    The median over the rows, lest a row whose seeds diverged stand for all; a median knows about
    half of what a mean does.
    """
    from scipy import stats  # here: it takes a second to import

    several = [values for values in rows if len(values) > 1 and np.ptp(values) > 0]
    if not several:
        return None
    freedoms = [len(values) - 1 for values in several]
    # The median of chi-squared is below its mean, and further below for fewer seeds.
    medians = [
        values.var(ddof=1) * freedom / stats.chi2.median(freedom)
        for values, freedom in zip(several, freedoms, strict=True)
    ]
    return Spread(2 * float(np.median(medians)), sum(freedoms) / 2)


def variances(values: np.ndarray, resampled: np.ndarray, groups: int) -> tuple[float, float]:
    """-> (var(e), var(u)) of the model above, from [S] values and their [R, S] resamples; S > 1."""
    seeds = len(values)
    covariance = np.cov(resampled, rowvar=False) * groups / (groups - 1)
    of_examples = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    return float(max(0, of_examples)), float(values.var(ddof=1))
