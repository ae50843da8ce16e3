"""What experts say, and how it is multiplied: distributions over classes, or Gaussians.

`outputs` are float [n, L, K] for L labels: log-probabilities of K classes, or the mean and the log
variance (K = 2) of a standardised target. Both are combined in two steps, each fitted on
out-of-fold predictions and never on rows that trained the models:

* `blend`: the models of one expert (linear, network, trees) -> the expert;
* `pool`: the experts -> the product, a logarithmic opinion pool with weights w >= 0 and a power
  gamma of the prior: log p(y | x) = sum_e w_e log q_e(y | x) + gamma log p(y) - log Z. For
  Gaussians that is the precision-weighted mean, with precision sum_e w_e / var_e + gamma / var(y).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from i2m2.stats.calibration import FLOOR, log_softmax, maximise_likelihood

LOG_VARIANCE = (-8.0, 3.0)  # of a network's Gaussian, in units of the standardised target
EXAMPLES = 10.0  # by which weights of models and of experts are drawn to their mean
MOST_TAKEN = 0.95  # of the experts' precision by a prior whose power is negative
IMPOSSIBLE = -1e3  # log-probability of a class that another label has and this one has not


@dataclass(frozen=True)
class Pool:
    """weights [E, L] and gamma [L] of some experts' logarithmic opinion pool."""

    weights: np.ndarray
    gamma: np.ndarray


class Categorical:
    """L labels of up to C classes; `y` is int [n, L], `sizes` [L] the classes of each label."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self.shape = (len(self.sizes), max(self.sizes))

    @property
    def mask(self) -> np.ndarray:
        """0 for the classes of each label, IMPOSSIBLE for the rest, [L, C]."""
        known = np.arange(self.shape[1]) < np.array(self.sizes)[:, None]
        return np.where(known, 0.0, IMPOSSIBLE)

    def prior(self, y: np.ndarray) -> np.ndarray:
        """log p(y) [L, C] by the frequencies of the labels, each class counted once more."""
        labels, classes = self.shape
        counts = np.stack([np.bincount(y[:, k], minlength=classes) for k in range(labels)]) + 1.0
        return log_softmax(np.log(counts) + self.mask)

    def network_outputs(self, raw: np.ndarray) -> np.ndarray:
        return log_softmax(raw + self.mask)

    def network_loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """-log q(y | x), mean over the labels: [..., L, C] and [..., L] -> [...]."""
        log_prob = (raw + torch.as_tensor(self.mask, dtype=raw.dtype)).log_softmax(dim=-1)
        return -log_prob.gather(-1, y.unsqueeze(-1)).squeeze(-1).mean(dim=-1)

    def nll(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """-log p(y | x) of each example [n], mean over the labels."""
        return -np.take_along_axis(outputs, y[..., None], axis=-1)[..., 0].mean(axis=-1)

    def fit_blend(self, models: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
        """Weights [J, L] >= 0 of the models of an expert; one model is taken as it is."""
        equal = np.full(len(models), 1 / len(models))
        if len(models) == 1:
            return np.ones((1, self.shape[0]))
        return self.fit_weights(np.stack(models, axis=-1), y, equal, len(models), EXAMPLES)

    def blend(self, weights: np.ndarray, models: Sequence[np.ndarray]) -> np.ndarray:
        return log_softmax(_weighted(weights, models) + self.mask)

    def fit_pool(self, experts: Sequence[np.ndarray], y: np.ndarray, prior: np.ndarray) -> Pool:
        """The weights and gamma that make `y` most likely, drawn to the mean of the experts."""
        features = np.stack([*experts, np.broadcast_to(prior, experts[0].shape)], axis=-1)
        start = np.array([*np.full(len(experts), 1 / len(experts)), 0.0])
        *weights, gamma = self.fit_weights(features, y, start, len(experts), EXAMPLES)
        return Pool(np.array(weights), gamma)

    def fit_weights(
        self,
        features: np.ndarray,
        y: np.ndarray,
        start: np.ndarray,
        bounded: int = 0,
        examples: float = 1.0,
    ) -> np.ndarray:
        """theta [K, L] of features [n, L, C, K] that makes `y` most likely, drawn to `start` by
        about so many examples; the first `bounded` of them are not negative."""
        features = np.maximum(features, FLOOR)
        bounds = [(0, None)] * bounded + [(None, None)] * (len(start) - bounded)
        bounds = bounds if bounded else None
        fitted = []
        for label, size in enumerate(self.sizes):
            own = features[:, label, :size].copy()
            target = np.take_along_axis(own, y[:, label, None, None], axis=1)[:, 0].copy()
            fitted.append(maximise_likelihood(own, target, start, bounds, examples**-0.5))
        return np.stack(fitted, axis=-1)

    def pool(self, pool: Pool, experts: Sequence[np.ndarray], prior: np.ndarray) -> np.ndarray:
        return log_softmax(self.contributions(pool, experts, prior).sum(axis=0) + self.mask)

    def contributions(
        self, pool: Pool, experts: Sequence[np.ndarray], prior: np.ndarray
    ) -> np.ndarray:
        """What every expert, and last the prior, adds to the logits: [E + 1, n, L, C] nats."""
        parts = [weight[:, None] * one for weight, one in zip(pool.weights, experts, strict=True)]
        return np.stack([*parts, np.broadcast_to(pool.gamma[:, None] * prior, experts[0].shape)])

    def joint_loss(
        self,
        raw: Sequence[Tensor],
        fixed: Sequence[Tensor],
        weights: Sequence[Tensor],
        pool: tuple[Tensor, Tensor],
        prior: Tensor,
        y: Tensor,
    ) -> Tensor:
        """-log of the product, [E, B]. Of every expert: its network's raw outputs [E, B, L, C], the
        weighted sum of its other models [E, B, L, C], the network's weight [L], and 0 or 1 [E, B]
        where it abstains or speaks (folded into its share of the pool [e, E, B, L])."""
        share, gamma = pool
        logits = gamma[..., None] * prior
        for one, rest, weight, part in zip(raw, fixed, weights, share, strict=True):
            expert = (one.log_softmax(dim=-1) * weight[:, None] + rest).log_softmax(dim=-1)
            logits = logits + part[..., None] * expert
        return self.network_loss(logits, y)

    def sum_of_fixed(self, weights: np.ndarray, models: Sequence[np.ndarray]) -> np.ndarray:
        """The weighted sum of an expert's models that are not trained further, [n, L, C]."""
        return _weighted(weights, models) + self.mask


class Gaussian:
    """L targets; `y` is float [n, L], standardised to mean 0 and variance 1."""

    def __init__(self, targets: int) -> None:
        self.shape = (targets, 2)

    def prior(self, y: np.ndarray) -> np.ndarray:
        """Mean and log variance of the targets, [L, 2]."""
        return np.stack([y.mean(axis=0), np.log(np.maximum(y.var(axis=0), 1e-12))], axis=-1)

    def network_outputs(self, raw: np.ndarray) -> np.ndarray:
        return np.stack([raw[..., 0], np.clip(raw[..., 1], *LOG_VARIANCE)], axis=-1)

    def network_loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """Squared error of the mean, and the likelihood of the variance given that mean. The mean's
        gradient is not divided by the variance, which would let a network neglect what it finds
        hard (Seitzer et al., ICLR 2022)."""
        mean, log_variance = raw[..., 0], raw[..., 1].clamp(*LOG_VARIANCE)
        error = (y - mean) ** 2
        likelihood = log_variance + error.detach() * (-log_variance).exp()
        return 0.5 * (error + likelihood).mean(dim=-1)

    def nll(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """-log density of each example [n], mean over the targets, in units of the standardised
        target."""
        mean, log_variance = outputs[..., 0], outputs[..., 1]
        squared = (y - mean) ** 2 * np.exp(-log_variance)
        return 0.5 * (np.log(2 * np.pi) + log_variance + squared).mean(axis=-1)

    def fit_blend(self, models: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
        """[J + 3, L]: weights of the models' means, an offset, and (a, b) of log var = a + b s."""
        labels = range(self.shape[0])
        return np.stack(
            [_gaussian_blend([one[:, k] for one in models], y[:, k]) for k in labels], -1
        )

    def blend(self, weights: np.ndarray, models: Sequence[np.ndarray]) -> np.ndarray:
        *of_models, offset, level, slope = weights
        mean = offset + _weighted(np.array(of_models), [one[..., :1] for one in models])[..., 0]
        spread = sum(one[..., 1] for one in models)
        return np.stack([mean, level + slope * spread], axis=-1)

    def fit_pool(self, experts: Sequence[np.ndarray], y: np.ndarray, prior: np.ndarray) -> Pool:
        each = range(self.shape[0])
        theta = [_gaussian_pool([e[:, [k]] for e in experts], y[:, [k]], prior[[k]]) for k in each]
        theta = np.stack(theta, axis=-1)
        return Pool(theta[:-1], theta[-1])

    def pool(self, pool: Pool, experts: Sequence[np.ndarray], prior: np.ndarray) -> np.ndarray:
        precisions = self._precisions(pool, experts, prior)
        means = self._means(experts, prior)
        precision = precisions.sum(axis=0)
        mean = (precisions * means).sum(axis=0) / precision
        return np.stack([mean, -np.log(precision)], axis=-1)

    def contributions(
        self, pool: Pool, experts: Sequence[np.ndarray], prior: np.ndarray
    ) -> np.ndarray:
        """What every expert, and last the prior, adds to the pooled mean: [E + 1, n, L]."""
        precisions = self._precisions(pool, experts, prior)
        means = self._means(experts, prior)
        return precisions * means / precisions.sum(axis=0)

    def _means(self, experts: Sequence[np.ndarray], prior: np.ndarray) -> np.ndarray:
        of_prior = np.broadcast_to(prior[:, 0], experts[0].shape[:2])
        return np.stack([*(one[..., 0] for one in experts), of_prior])

    def _precisions(
        self, pool: Pool, experts: Sequence[np.ndarray], prior: np.ndarray
    ) -> np.ndarray:
        parts = [w * np.exp(-one[..., 1]) for w, one in zip(pool.weights, experts, strict=True)]
        of_prior = np.maximum(pool.gamma * np.exp(-prior[:, 1]), -MOST_TAKEN * sum(parts))
        return np.stack([*parts, of_prior])

    def joint_loss(
        self,
        raw: Sequence[Tensor],
        fixed: Sequence[Tensor],
        weights: Sequence[Tensor],
        pool: tuple[Tensor, Tensor],
        prior: Tensor,
        y: Tensor,
    ) -> Tensor:
        """As `Categorical.joint_loss`; `fixed` [E, B, L, 2] holds the rest of an expert's mean and
        its log variance, which stays as it is."""
        share, gamma = pool
        parts = [part * (-rest[..., 1]).exp() for part, rest in zip(share, fixed, strict=True)]
        of_prior = torch.maximum(gamma * (-prior[:, 1]).exp(), -MOST_TAKEN * sum(parts))
        precision, mean = of_prior + sum(parts), of_prior * prior[:, 0]
        for own, one, rest, weight in zip(parts, raw, fixed, weights, strict=True):
            mean = mean + own * (one[..., 0] * weight + rest[..., 0])
        error = (y - mean / precision) ** 2 * precision
        return 0.5 * (error - precision.log()).mean(dim=-1)

    def sum_of_fixed(self, weights: np.ndarray, models: Sequence[np.ndarray]) -> np.ndarray:
        return self.blend(weights, models)


Family = Categorical | Gaussian


def _weighted(weights: np.ndarray, models: Sequence[np.ndarray]) -> np.ndarray:
    """sum_j w_j [L] models_j [n, L, K]."""
    return sum(weight[:, None] * one for weight, one in zip(weights, models, strict=True))


def _gaussian_pool(experts: Sequence[np.ndarray], y: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights of the experts [E] and gamma that make one target most likely. They are sought as
    shares and a common scale (its logarithm), drawn to the mean of the experts by about one
    example: effects that add up take shares of some 1 / E, a negative gamma, and a large scale."""
    from scipy.optimize import minimize

    family, count = Gaussian(1), len(experts)
    start = np.array([*np.full(count, 1 / count), 0.0, 0.0])

    def loss(theta: np.ndarray) -> float:
        weights = theta[:-1] * np.exp(theta[-1])
        nll = family.nll(family.pool(Pool(weights[:-1, None], weights[-1:]), experts, prior), y)
        away = theta - start
        return nll.mean() + away @ away / (2 * len(y))

    bounds = [(1e-6, None)] * count + [(None, None), (-10, 10)]
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    return found[:-1] * np.exp(found[-1])


def _gaussian_blend(models: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Least squares with weights >= 0, drawn to their mean by about one example; then the variance
    that makes the residuals most likely."""
    from scipy.optimize import minimize, nnls

    means = np.stack([one[:, 0] for one in models], axis=-1)
    count = len(models)
    centre, target = means.mean(axis=0), y.mean()
    rows = np.concatenate([means - centre, np.eye(count)])
    weights, _ = nnls(rows, np.concatenate([y - target, np.full(count, 1 / count)]))
    offset = target - centre @ weights
    error = (y - means @ weights - offset) ** 2
    spread = sum(one[:, 1] for one in models)

    def loss(theta: np.ndarray) -> float:
        log_variance = np.clip(theta[0] + theta[1] * spread, -20, 20)
        return (log_variance + error * np.exp(-log_variance)).mean() + theta[1] ** 2 / len(y)

    start = [np.log(max(error.mean(), 1e-12)), 0.0]
    level, slope = minimize(loss, start, method="L-BFGS-B", bounds=[(None, None), (0, 2)]).x
    return np.array([*weights, offset, level, slope])
