"""The distribution of a dial, and what it knows exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from i2m2.dial.tables import (
    accuracy_of,
    all_cells,
    entropy_of,
    finite_log,
    fit_additive,
    mutual_information,
    sum_of_tables,
)
from i2m2.errors import DataError, SettingsError
from i2m2.stats.calibration import log_softmax

MOST_CELLS = 20_000_000  # of the table p(y, c_1..c_M), which takes about 1 GB

# What `Dial.exact` says.
EXACT = {
    "label_entropy": "H(y)",
    "modality": "{name: I(y; x_m)}, what each modality knows by itself",
    "best_modality": "the modality that knows most, of equal ones the first",
    "intra": "what q knows, H(y) - intra_nll",
    "inter": "what is left for a fused expert, total - intra",
    "total": "I(y; x_1..x_M)",
    "prior_accuracy": "of the most probable class by p(y)",
    "modality_accuracy": "{name: of the most probable class by p(y | x_m)}",
    "intra_accuracy": "of the most probable class by q",
    "bayes_accuracy": "of the most probable class by p(y | x_1..x_M)",
    "intra_nll": "E[-log q(y | x_1..x_M)]",
    "bayes_nll": "H(y | x_1..x_M)",
}

Symbols = Mapping[str, np.ndarray]  # {modality: [n] integers in 0..K*K-1}
Present = Mapping[str, np.ndarray]  # {modality: [n] booleans}


@dataclass(frozen=True)
class DialData:
    """Examples drawn from a `Dial`: labels `y` [n] int64, and {modality: symbols [n] int64}."""

    y: np.ndarray
    symbols: dict[str, np.ndarray]


@dataclass(frozen=True)
class Dial:
    """The distribution of `classes` labels and `len(alpha)` modalities, named x1, x2, ..

    `prior` p(y): uniform unless given. `copy`: the probability that c_2 is replaced by c_1, which
    makes the first two modalities redundant. `pairs`: the modalities whose b's enter the sum, all
    unless given; the others' b's say nothing. SettingsError for values that make no distribution.
    """

    classes: int
    alpha: Sequence[float]
    beta: float
    prior: Sequence[float] | None = None
    copy: float = 0.0
    pairs: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _check_strengths(self)
        plain = {
            "alpha": tuple(map(float, self.alpha)),
            "beta": float(self.beta),
            "prior": _checked_prior(self.prior, self.classes),
            "copy": float(self.copy),
            "pairs": _checked_pairs(self.pairs, self.modalities),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def modalities(self) -> tuple[str, ...]:
        """x1, x2, .., one per alpha."""
        return tuple(f"x{m + 1}" for m in range(len(self.alpha)))

    def sample(self, n: int, seed: int = 0) -> DialData:
        """`n` independent examples, the same ones for the same `seed`."""
        if n < 1:
            raise SettingsError(f"n is {n}; at least one example is drawn")
        rng = generator_of(seed, "symbols")
        y = rng.choice(self.classes, size=n, p=self.prior)
        c = [_draw(rng, y, alpha, self.classes) for alpha in self.alpha]
        c[1] = np.where(rng.random(n) < self.copy, c[0], c[1])
        b = rng.integers(self.classes, size=(len(c), n))
        total = _draw(rng, y, self.beta, self.classes)
        # Uniform b's of which the last makes up the sum are uniform among those with that sum.
        *free, last = self._members
        b[last] = (total - b[free].sum(axis=0)) % self.classes
        symbols = {name: self.classes * b[m] + c[m] for m, name in enumerate(self.modalities)}
        return DialData(y, symbols)

    def log_prob(self, symbols: Symbols, present: Present | None = None) -> np.ndarray:
        """log p(y | x_1..x_M), which no classifier surpasses: {modality: [n]} -> [n, K].

        `present` as `drop_modalities` gives it: then log p(y | those that are present), the others'
        symbols are ignored. A modality that it does not name is present.
        """
        b, c = self._parts(symbols)
        seen = self._seen(present or {}, b.shape[1])
        total = b[self._members].sum(axis=0) % self.classes
        fused = finite_log(_channel(self.beta, self.classes))[total]
        logits = np.log(self.prior) + np.zeros_like(fused)
        for needed, term in [*self._terms(c), (self._members, fused)]:
            logits += np.where(seen[needed].all(axis=0)[:, None], term, 0)
        return log_softmax(logits)

    def cells(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Every combination of symbols {modality: [n]}, and p(x_1..x_M, y) of each, [n, K].
        SettingsError for more than MOST_CELLS of them."""
        shape = (self.classes**2,) * len(self.alpha)
        _check_size(self.classes, "2 * modalities + 1", 2 * len(shape) + 1)
        found = np.indices(shape).reshape(len(shape), -1)
        b, c = np.divmod(found, self.classes)
        total = b[self._members].sum(axis=0) % self.classes
        of_sum = _channel(self.beta, self.classes)[total] / self.classes ** (len(shape) - 1)
        joint = np.exp(self._log_table())[tuple(c)] * of_sum
        return dict(zip(self.modalities, found, strict=True)), joint

    def intra_log_prob(self, symbols: Symbols) -> np.ndarray:
        """The best log q(y | x) that is a sum of functions of (y, x_m), normalised: {modality: [n]}
        -> [n, K]. It is the product of unimodal experts with the largest expected likelihood."""
        return log_softmax(sum_of_tables(self._intra_tables, self._parts(symbols)[1]))

    def exact(self) -> dict[str, Any]:
        """All information in nats and all accuracies as fractions, exact up to rounding.

        The keys and what they mean: EXACT. Source: Madaan et al. (NeurIPS 2024), section 3.
        SettingsError where the table of p(y, c_1..c_M) has more than MOST_CELLS cells,
        FloatingPointError with copies where the labels are nearly certain.
        """
        log_joint = self._log_table()
        joint = np.exp(log_joint)
        log_posterior = log_softmax(log_joint)
        grid = all_cells(self.classes, len(self.alpha))
        log_intra = log_softmax(sum_of_tables(self._intra_tables, grid))
        intra_nll = -float((joint * log_intra).sum())
        sum_nats, bayes_accuracy = self._sum_knows(joint.sum(-1), np.exp(log_posterior))
        bayes_nll = -float((joint * log_posterior).sum()) - sum_nats
        entropy = entropy_of(np.array(self.prior))
        singles = [channel * self.prior for channel in self._channels]  # p(c_m, y)
        modality = dict(zip(self.modalities, map(mutual_information, singles), strict=True))
        accuracy = [float(single.max(axis=-1).sum()) for single in singles]
        return {
            "label_entropy": entropy,
            "modality": modality,
            "best_modality": max(modality, key=lambda name: round(modality[name], 12)),
            "intra": max(0.0, entropy - intra_nll),  # rounding alone takes it below 0
            "inter": max(0.0, intra_nll - bayes_nll),
            "total": max(0.0, entropy - bayes_nll),
            "prior_accuracy": max(self.prior),
            "modality_accuracy": dict(zip(self.modalities, accuracy, strict=True)),
            "intra_accuracy": accuracy_of(joint, log_intra),
            "bayes_accuracy": bayes_accuracy,
            "intra_nll": intra_nll,
            "bayes_nll": bayes_nll,
        }

    @property
    def _members(self) -> list[int]:
        """The places of the modalities whose b's enter the sum."""
        return [self.modalities.index(name) for name in self.pairs]

    @cached_property
    def _channels(self) -> list[np.ndarray]:
        """p(c_m | y) of each modality, copies included, [K, K] by c_m and y."""
        channels = [_channel(alpha, self.classes) for alpha in self.alpha]
        channels[1] = (1 - self.copy) * channels[1] + self.copy * channels[0]
        return channels

    def _terms(self, c: Sequence[np.ndarray]) -> list[tuple[list[int], np.ndarray]]:
        """What the c's add to log p(y), and the places of the modalities that each part needs.

        M index arrays that broadcast to a shape -> parts that broadcast to [*shape, K].
        """
        logs = [finite_log(channel) for channel in self._channels]
        alone = [([m], table[c[m]]) for m, table in enumerate(logs)]
        drawn = (1 - self.copy) * _channel(self.alpha[1], self.classes)
        copied = self.copy * np.eye(self.classes)[:, :, None]
        second = finite_log(drawn + copied)  # log p(c_2 | c_1, y), [K, K, K]
        return [*alone, ([0, 1], second[c[0], c[1]] - logs[1][c[1]])]

    def _log_table(self) -> np.ndarray:
        """log p(c_1..c_M, y), [K, .., K]. SettingsError for more than MOST_CELLS cells."""
        _check_size(self.classes, "modalities + 1", len(self.alpha) + 1)
        terms = self._terms(all_cells(self.classes, len(self.alpha)))
        return np.log(self.prior) + sum(term for _, term in terms)

    @cached_property
    def _intra_tables(self) -> list[np.ndarray]:
        """What each expert of the best product adds to the logits, [K, K] by c_m and y.

        It takes no b: shifting two b's against each other changes no probability, so the average
        of a concave likelihood's maximiser over all such shifts is one too, and it ignores them.
        """
        if self.copy:
            return fit_additive(np.exp(self._log_table()))
        first, *others = map(finite_log, self._channels)
        return [first + np.log(self.prior), *others]

    def _sum_knows(self, weight: np.ndarray, posterior: np.ndarray) -> tuple[float, float]:
        """p(c) [..] and p(y | c) [.., K] -> I(y; s | c) and the best accuracy given c and s."""
        channel = _channel(self.beta, self.classes)
        hit, miss = channel[0, 0], channel[0, 1]
        p_sum = miss + (hit - miss) * posterior
        entropy = -float((weight[..., None] * p_sum * finite_log(p_sum)).sum())
        guess = np.maximum(hit * posterior, miss * posterior.max(axis=-1, keepdims=True))
        accuracy = float((weight * guess.sum(axis=-1)).sum())
        return entropy - entropy_of(channel[0]), accuracy

    def _parts(self, symbols: Symbols) -> tuple[np.ndarray, np.ndarray]:
        """b and c, [M, n] each. DataError unless every modality has a symbol per example."""
        if missing := [name for name in self.modalities if name not in symbols]:
            raise DataError(f"no symbols of {', '.join(missing)}")
        columns = [np.asarray(symbols[name]) for name in self.modalities]
        if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
            raise DataError("symbols are one array [n] per modality, all of one length")
        together = np.stack(columns)
        if not np.isin(together, np.arange(self.classes**2)).all():
            raise DataError(f"symbols are integers from 0 to {self.classes**2 - 1}")
        b, c = np.divmod(together.astype(np.int64), self.classes)
        return b, c

    def _seen(self, present: Present, n: int) -> np.ndarray:
        """Whether each modality is present in each example, [M, n]."""
        if unknown := sorted(set(present) - set(self.modalities)):
            raise DataError(f"present names {', '.join(unknown)}, which is no modality")
        seen = np.ones((len(self.alpha), n), dtype=bool)
        for name, mask in present.items():
            seen[self.modalities.index(name)] = mask
        return seen


def generator_of(seed: int, purpose: str) -> np.random.Generator:
    """Random numbers of one purpose, independent of those of the others with the same seed."""
    if seed < 0:
        raise SettingsError(f"seed is {seed}; it is at least 0")
    return np.random.default_rng((seed, *purpose.encode()))


def _check_strengths(dial: Dial) -> None:
    """SettingsError for what is no number of classes, strength or probability of copying."""
    if dial.classes < 2:
        raise SettingsError(f"classes is {dial.classes}; at least 2 are told apart")
    if len(dial.alpha) < 2:
        raise SettingsError(f"alpha has {len(dial.alpha)} value; give one per modality, 2 or more")
    for name, value in [*(("alpha", alpha) for alpha in dial.alpha), ("beta", dial.beta)]:
        if not (math.isfinite(value) and value >= 0):
            raise SettingsError(f"{name} is {value}; it is a finite number of at least 0")
    if not 0 <= dial.copy <= 1:
        raise SettingsError(f"copy is {dial.copy}; it is a probability, 0 to 1")


def _checked_prior(prior: Sequence[float] | None, classes: int) -> tuple[float, ...]:
    """`prior`, or the uniform one; SettingsError unless it has a probability per class."""
    if prior is None:
        return (1 / classes,) * classes
    if len(prior) != classes:
        raise SettingsError(f"prior has {len(prior)} values for {classes} classes")
    if not all(p > 0 for p in prior):
        raise SettingsError("prior: every class needs a probability above 0")
    total = math.fsum(prior)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise SettingsError(f"prior sums to {total:.6g}, not to 1")
    return tuple(float(p / total) for p in prior)


def _checked_pairs(pairs: Sequence[str] | None, modalities: Sequence[str]) -> tuple[str, ...]:
    """`pairs`, or all modalities; SettingsError unless it names two of them or more."""
    if pairs is None:
        return tuple(modalities)
    if unknown := [name for name in pairs if name not in modalities]:
        known = ", ".join(modalities)
        raise SettingsError(f"pairs names {', '.join(unknown)}; the modalities are {known}")
    if len(set(pairs)) < len(pairs) or len(pairs) < 2:
        raise SettingsError("pairs names at least two modalities, each once")
    return tuple(pairs)


def _check_size(classes: int, power: str, value: int) -> None:
    """SettingsError for more than MOST_CELLS cells, classes ** power."""
    if (cells := classes**value) > MOST_CELLS:
        size = f"classes ** ({power}) is {cells:,}"
        raise SettingsError(f"{size}; exact values are summed over at most {MOST_CELLS:,}")


def _channel(strength: float, classes: int) -> np.ndarray:
    """p(symbol | y) = exp(strength [symbol = y]) / Z, [K, K], symmetric."""
    hit = 1 / (1 + (classes - 1) * math.exp(-strength))
    miss = hit * math.exp(-strength)
    return np.where(np.eye(classes, dtype=bool), hit, miss)


def _draw(rng: np.random.Generator, y: np.ndarray, strength: float, classes: int) -> np.ndarray:
    """A symbol per label through `_channel`: the label itself, or any of all. [n] -> [n]."""
    hit, miss = _channel(strength, classes)[0, :2]
    return np.where(rng.random(len(y)) < hit - miss, y, rng.integers(classes, size=len(y)))
