"""Linear models: logistic or ridge regression on the dense forms and on products of a few
directions within a modality, and of every two modalities, each part of the logits through a curve
of its own.

Products within a modality come first, in models of one modality too: else the products of two
modalities that tell the same would find what happens within one of them, and it would be called an
interaction of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from i2m2.estimator.families import Categorical, Family
from i2m2.estimator.models.curves import Curves
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.interactions import Interaction, Score
from i2m2.estimator.prepared.forms import PreparedBlocks
from i2m2.stats.calibration import log_softmax

PENALTIES = (1e3, 1e2, 1e1, 1.0, 1e-1)  # of squared weights, strongest first
RANKS = (1, 2, 3, 4, 6)  # directions of each of two modalities
RANKS_WITHIN = (2, 4, 6)  # the same of one: a product of two columns is a form of rank 2
ROUNDS_WITHIN = 3  # each by what the one before leaves
MOST_PRODUCTS = 500  # of directions, over all pairs of modalities
CERTAIN = 1.64  # standard errors of a gain: what chance surpasses once in 20 times
SURE = 3.0  # of products within a modality, which every expert of a small table may try in vain


@dataclass
class _Fit:
    """Models of every fold: interactions and weights [L, D + 1, K or 1]; what each part adds to the
    held-out rows' logits [n, L, K or 1, 1 + P], the offsets first; curves, and the held-out rows'
    losses [n] with them."""

    penalty: float
    interactions: list[list[Interaction]]
    weights: list[np.ndarray]
    parts: np.ndarray
    losses: np.ndarray
    curves: Curves | None = None

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def surpasses(self, other: _Fit, errors: float) -> bool:
        """Whether the loss is smaller by so many standard errors."""
        gains = other.losses - self.losses
        return gains.mean() > errors * gains.std() / np.sqrt(len(gains))


class Linear:
    """Multinomial logistic or ridge regression with the penalty that predicts held-out rows best.
    Curves, and products of the best rank, only where these rows leave little doubt of them: on
    a small table the best of many ways is often chance, and costs more than it seems to gain.
    `additive`: no products of two modalities. `shapes`: with the shapes of series among the
    columns, and no products."""

    def __init__(self, additive: bool = False, shapes: bool = False) -> None:
        self.additive, self.shapes = additive, shapes

    def fit(self, examples: Examples) -> np.ndarray:
        self.modalities, self.family = examples.modalities, examples.family
        nothing: list[list[Interaction]] = [[] for _ in range(examples.models)]
        plain = self._best_penalty(examples, nothing, PENALTIES)
        best = self._best(examples, plain, [plain])
        own = [(name, name) for name in self.modalities]
        for _ in range(0 if self.shapes else ROUNDS_WITHIN):
            before = best
            ways = self._with_products(examples, before, own, RANKS_WITHIN)
            best = self._best(examples, before, ways, SURE, while_better=True)
            if best is before:
                break
        if not self.additive:
            pairs = list(combinations(self.modalities, 2))
            best = self._best(examples, best, self._with_products(examples, best, pairs, RANKS))
        self.interactions, self.weights, self.curves = best.interactions, best.weights, best.curves
        outputs, rows = examples.unknown(), examples.folds >= 0
        outputs[rows] = self._outputs(best.parts[rows])
        return outputs

    def _best(
        self,
        examples: Examples,
        base: _Fit,
        ways: Iterable[_Fit],
        errors: float = CERTAIN,
        while_better: bool = False,
    ) -> _Fit:
        """Of the ways that surpass the base, the one with the least loss; else the base.
        `while_better`: none after the first that is no better than the one before."""
        best = last = base
        for way in ways:
            if isinstance(self.family, Categorical):
                way = self._with_curves(way, examples.y, examples.folds >= 0)
            if way.surpasses(base, errors) and way.loss < best.loss:
                best = way
            if while_better and way.loss >= last.loss:
                break
            last = way
        return best

    def _best_penalty(
        self,
        examples: Examples,
        interactions: list[list[Interaction]],
        penalties: Sequence[float],
    ) -> _Fit:
        best = None
        for penalty in penalties:
            found = self._fit(examples, penalty, interactions)
            if best is not None and found.loss >= best.loss:
                break
            best = found
        return best

    def _with_products(
        self, examples: Examples, base: _Fit, pairs: list[tuple[str, str]], ranks: Sequence[int]
    ) -> Iterator[_Fit]:
        """The base with products of these pairs, a fit for every rank. Curves make up for its
        penalty, which may be too strong for products; a regression has none."""
        curved = isinstance(self.family, Categorical)
        penalties = (base.penalty,) if curved else PENALTIES
        ranks = [rank for rank in ranks if 0 < len(pairs) * rank**2 <= MOST_PRODUCTS]
        folds = zip(base.weights, base.interactions, examples.splits(), strict=True)
        scores = [self._scores(examples, *one, pairs) for one in folds if ranks]
        for rank in ranks:
            further = ([score.interaction(rank) for score in of_fold] for of_fold in scores)
            both = [known + more for known, more in zip(base.interactions, further, strict=True)]
            yield self._best_penalty(examples, both, penalties)

    def _fit(
        self, examples: Examples, penalty: float, interactions: list[list[Interaction]]
    ) -> _Fit:
        y, family, weights, parts = examples.y, self.family, [], None
        for of_fold, (training, held_out) in zip(interactions, examples.splits(), strict=True):
            columns = self._columns(examples.blocks, of_fold)
            x = np.concatenate([one[training] for one in columns], axis=1)
            labels = range(family.shape[0])
            each = [_fit_label(x, y[training, k], penalty, family, k) for k in labels]
            weights.append(np.stack(each))
            found = _parts(weights[-1], [one[held_out] for one in columns])
            if parts is None:
                parts = np.full((len(y), *found.shape[1:]), np.nan)
            parts[held_out] = found
        rows = examples.folds >= 0
        losses = _losses_of(family, _sum_of(family, parts[rows]), y[rows])
        return _Fit(penalty, interactions, weights, parts, losses)

    def _with_curves(self, found: _Fit, y: np.ndarray, rows: np.ndarray) -> _Fit:
        curves, losses = Curves.fit(self.family, found.parts[rows], y[rows])
        return replace(found, curves=curves, losses=losses)

    def _scores(
        self,
        examples: Examples,
        weights: np.ndarray,
        known: list[Interaction],
        split: tuple[np.ndarray, np.ndarray],
        pairs: list[tuple[str, str]],
    ) -> list[Score]:
        """Of every pair, at a fold's training rows and its model with the known products alone."""
        blocks = {name: examples.blocks[name].take(split[0]) for name in self.modalities}
        outputs = _sum_of(self.family, _parts(weights, self._columns(blocks, known)))
        residuals = _residuals(self.family, outputs, examples.y[split[0]])
        return [Score.of(blocks, pair, residuals) for pair in pairs]

    def _columns(
        self, blocks: PreparedBlocks, interactions: Sequence[Interaction]
    ) -> list[np.ndarray]:
        """[n, D_p] of every part."""
        columns = [blocks[name].dense for name in self.modalities]
        if self.shapes:
            shapes = (blocks[name].shapes for name in self.modalities)
            columns += [one for one in shapes if one is not None]
        return columns + [one.products(blocks) for one in interactions]

    def _outputs(self, parts: np.ndarray) -> np.ndarray:
        return _sum_of(self.family, parts) if self.curves is None else self.curves(parts)

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        each = (
            _parts(weights, self._columns(blocks, interactions))
            for weights, interactions in zip(self.weights, self.interactions, strict=True)
        )
        return self._outputs(sum(each) / len(self.weights))


def _parts(weights: np.ndarray, columns: Sequence[np.ndarray]) -> np.ndarray:
    """The offsets, and what the columns [n, D_p] of every part add: [n, L, K, 1 + P]."""
    ends = np.cumsum([one.shape[1] for one in columns])
    own = np.split(weights[:, :-1], ends[:-1], axis=1)
    each = [np.einsum("nd,ldk->nlk", *one) for one in zip(columns, own, strict=True)]
    return np.stack([np.broadcast_to(weights[:, -1], each[0].shape), *each], axis=-1)


def _sum_of(family: Family, parts: np.ndarray) -> np.ndarray:
    """Outputs [n, L, K] of the parts as they are."""
    raw = parts.sum(axis=-1)
    if isinstance(family, Categorical):
        return log_softmax(raw + family.mask)
    return np.concatenate([raw, np.zeros_like(raw)], axis=-1)


def _fit_label(
    x: np.ndarray, y: np.ndarray, penalty: float, family: Family, label: int
) -> np.ndarray:
    """Weights [D + 1, K], the offset last, of one label; [D + 1, 1] of a regression."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if not isinstance(family, Categorical):
        model = Ridge(alpha=penalty).fit(x, y)
        return np.append(model.coef_, model.intercept_)[:, None]
    weights = np.zeros((x.shape[1] + 1, family.shape[1]))
    classes, counts = np.unique(y, return_counts=True)
    weights[-1] = np.log(0.5 / (len(y) + 1))  # a class that these rows lack
    if len(classes) == 1:
        weights[-1, classes] = 0.0
        return weights
    model = LogisticRegression(C=1 / penalty, max_iter=300).fit(x, y)
    coefficients = np.concatenate([model.coef_, model.intercept_[:, None]], axis=1).T
    if len(classes) == 2:
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2], axis=1)
    weights[:, classes] = coefficients
    return weights


def _residuals(family: Family, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What outputs [n, L, K] leave of labels or targets [n, L], of variance 1: [n, L * K]."""
    if isinstance(family, Categorical):
        p = np.exp(outputs)
        rest = (np.arange(family.shape[1]) == y[..., None]) - p
        scale = np.sqrt((p * (1 - p)).mean(axis=0))
    else:
        rest = (y - outputs[..., 0])[..., None]
        scale = rest.std(axis=0)
    return (rest / np.maximum(scale, 1e-6)).reshape(len(y), -1)


def _losses_of(family: Family, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NLL, or squared error, of each row [n]."""
    if isinstance(family, Categorical):
        return family.nll(outputs, y)
    return ((outputs[..., 0] - y) ** 2).mean(axis=-1)
