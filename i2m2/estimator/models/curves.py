"""A curve for each part of a linear model's logits, fitted on rows that its weights have not seen.

A generalised additive model (Hastie and Tibshirani, 1990) of a few parts: what each modality adds
to the logits, and what each interaction adds. Large and small values of a part that is mostly noise
say less than they seem to; its curve shrinks and calibrates it, which one weight for all values
cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from i2m2.estimator.families import Categorical
from i2m2.stats.calibration import log_softmax

KNOTS = 4  # of a curve, at equal shares of a part's values
MOST_VALUES = 20_000_000  # in a fit; of more examples only some are taken


@dataclass
class Curves:
    """Continuous, piecewise linear functions of each part's logits, the same ones for all classes:
    `knots` [L, P, J], and weights `theta` [1 + P + P * J, L] of the offsets, of the parts, and of
    what each part is above its knots."""

    family: Categorical
    knots: np.ndarray
    theta: np.ndarray

    @classmethod
    def fit(
        cls, family: Categorical, parts: np.ndarray, y: np.ndarray
    ) -> tuple[Curves, np.ndarray]:
        """Curves for parts [n, L, K, 1 + P] (the offsets first) of labels [n, L], straight lines
        where these do as well, and each example's NLL [n] by Akaike's criterion (1974): as much
        larger as fitting them on the same examples has made it too small on average."""
        ways = []
        for knots in (0, KNOTS):
            curves = cls._of(family, parts, y, knots)
            ways.append((curves, family.nll(curves(parts), y) + len(curves.theta) / len(y)))
        return min(ways, key=lambda way: way[1].mean())

    @classmethod
    def _of(cls, family: Categorical, parts: np.ndarray, y: np.ndarray, knots: int) -> Curves:
        values, shares = _centred(parts)[..., 1:], np.linspace(0, 1, knots + 2)[1:-1]
        places = [
            np.quantile(values[:, label, :size], shares, axis=(0, 1)).T
            for label, size in enumerate(family.sizes)
        ]
        curves = cls(family, np.stack(places), np.zeros(0))
        start = np.repeat([1.0, 0.0], [parts.shape[-1], values.shape[-1] * knots])
        every = max(1, parts[..., 0].size * len(start) // MOST_VALUES)
        features = curves._features(parts[::every])
        curves.theta = family.fit_weights(features, y[::every], start)
        return curves

    def __call__(self, parts: np.ndarray) -> np.ndarray:
        """Log-probabilities [n, L, K]."""
        logits = np.einsum("nlkf,fl->nlk", self._features(parts), self.theta)
        return log_softmax(logits + self.family.mask)

    def _features(self, parts: np.ndarray) -> np.ndarray:
        parts = _centred(parts)
        above = np.maximum(parts[..., 1:, None] - self.knots[:, None], 0)
        return np.concatenate([parts, above.reshape(*parts.shape[:3], -1)], axis=-1)


def _centred(parts: np.ndarray) -> np.ndarray:
    """Logits whose mean over the classes is 0."""
    return parts - parts.mean(axis=2, keepdims=True)
