"""What an interaction of columns may know that the experts do not find.

A weak interaction of many cells escapes every learner that has to find it before it can use it, and
a score that no model reaches bounds nothing. So the upper end of its information also rests on a
model that leaves nothing to be found: logistic regression with the product of every pair of columns
of two blocks. Its gain over the columns alone is too large on its own examples and too small on
others, by the same amount to first order (p / 2n for p weights and n examples; Akaike 1974), so the
mean of both estimates what the products know.

Blocks of few distinct rows are symbols, with a column for each. Then the columns alone hold every
sum of functions of one modality, the products hold all that two modalities know together, and the
mean estimates the interaction itself. Of other blocks the columns alone hold only linear functions,
and a product of two that go together stands for a curve of one. There the out-of-fold logits of the
product of unimodal experts are columns too, so that the products gain only what it does not know.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from i2m2.diagnose.answer import Bound
from i2m2.diagnose.rows import Question
from i2m2.estimator.families import Categorical
from i2m2.estimator.given.folds import make_folds
from i2m2.estimator.prepared.preparation import Preparation
from i2m2.stats.calibration import log_softmax
from i2m2.stats.intervals import LEVEL

MOST_PRODUCTS = 1_000
EXAMPLES_PER_WEIGHT = 4  # fewer, and the two errors are no longer alike
FOLDS = 5
PENALTY = 0.4  # of squared weights: it decides where a cell has few examples


def pairwise_interaction(question: Question, intra: np.ndarray) -> Bound | None:
    """By the examples that have every modality, and the out-of-fold log-probabilities [n, K] of the
    product of unimodal experts. None for several labels, numbers, or more products than the
    examples can tell of."""
    family = question.family
    if not isinstance(family, Categorical) or family.shape[0] > 1:
        return None
    rows = np.flatnonzero(np.logical_and.reduce([b.present for b in question.blocks.values()]))
    blocks = {name: block.take(rows) for name, block in question.blocks.items()}
    y = question.y[rows, 0]
    if len(np.unique(y)) < 2 or min(np.bincount(y, minlength=family.shape[1])) < FOLDS:
        return None
    prepared = Preparation().fit(blocks).transform(blocks)
    dense = [_from_0_to_1(one.dense) for one in prepared.values()]
    most = min(MOST_PRODUCTS, len(rows) // EXAMPLES_PER_WEIGHT // (family.shape[1] - 1))
    symbols = [np.unique(one, axis=0, return_inverse=True)[1].ravel() for one in dense]
    few = bool(_products([one.max() + 1 for one in symbols]) <= most)
    columns = [_indicators(one) for one in symbols] if few else dense
    if _products([one.shape[1] for one in columns]) > most:
        return None
    alone = np.concatenate(columns if few else [*columns, intra[rows]], axis=1)
    each = [np.einsum("ni,nj->nij", a, b).reshape(len(a), -1) for a, b in combinations(columns, 2)]
    folds = make_folds(*question.of(rows), len(rows), FOLDS, seed=0)
    if not all(np.isin(y, y[folds != fold]).all() for fold in range(folds.max() + 1)):
        return None  # a class lies in one group
    inside, outside = _losses(alone, y, folds)
    inside_with, outside_with = _losses(np.concatenate([alone, *each], axis=1), y, folds)
    gain = outside - outside_with
    nats = (inside - inside_with + gain.mean()) / 2
    groups = None if question.groups is None else question.groups[rows]
    half = norm.ppf(0.5 + LEVEL / 2) * _standard_error(gain, groups)
    return Bound(nats=float(nats), high=float(nats + half), symbols=few)


def _products(columns: list[int]) -> int:
    """Number of products of two columns of different blocks."""
    return sum(a * b for a, b in combinations(columns, 2))


def _indicators(symbols: np.ndarray) -> np.ndarray:
    """Symbols [n] from 0 -> [n, number of symbols], 1 in one column each."""
    return np.eye(symbols.max() + 1, dtype=np.float32)[symbols]


def _from_0_to_1(x: np.ndarray) -> np.ndarray:
    """Every column from 0 to 1, so that the product of two indicators indicates a cell."""
    low, width = x.min(axis=0), np.ptp(x, axis=0)
    return (x - low) / np.where(width > 0, width, 1.0)


def _losses(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> tuple[float, np.ndarray]:
    """-> mean NLL of the models' own examples, NLL of each example by the model of other folds."""
    inside, outside = [], np.empty(len(y))
    for fold in range(folds.max() + 1):
        training, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        model = LogisticRegression(C=1 / PENALTY, solver="newton-cg")
        model.fit(x[training], y[training])
        inside.append(_nll(model, x[training], y[training]).mean())
        outside[held_out] = _nll(model, x[held_out], y[held_out])
    return float(np.mean(inside)), outside


def _nll(model: LogisticRegression, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    logits = model.decision_function(x)
    if logits.ndim == 1:
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    return -log_softmax(logits)[np.arange(len(y)), np.searchsorted(model.classes_, y)]


def _standard_error(gain: np.ndarray, groups: np.ndarray | None) -> float:
    """Of the mean over examples [n], which come in groups."""
    away = gain - gain.mean()
    if groups is not None:
        away = np.bincount(np.unique(groups, return_inverse=True)[1], away)
    return float(np.sqrt((away**2).sum()) / len(gain))
