"""Low-rank interactions of two modalities, for linear models.

A weak interaction spread over many cells escapes networks and trees, which have to find it before
they can use it. The score of a bilinear term x_aᵀ B_k x_b in logit k, taken at the model without
it, is the tensor S[i, j, k] = sum_n x_a[n, i] x_b[n, j] (y[n, k] - q[n, k]). Its best approximation
of low multilinear rank (Tucker decomposition by higher-order orthogonal iteration, De Lathauwer et
al., SIAM J. Matrix Anal. Appl. 2000) names a few directions of x_a and x_b; their products are what
a linear model can use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from i2m2.estimator.prepared.forms import CLIP, PreparedBlocks

SWEEPS = 10  # of the orthogonal iteration
DAMPING = 0.01  # of a modality's mean variance, added to that of every direction


@dataclass
class Interaction:
    """Two modalities, their means [D], and at most R directions of each [D, R] along which their
    values have variances of about 1."""

    modalities: tuple[str, str]
    means: list[np.ndarray]
    directions: list[np.ndarray]

    def products(self, blocks: PreparedBlocks) -> np.ndarray:
        """Of every two directions, [n, R_a * R_b]."""
        a, b = (
            np.clip((blocks[name].dense - mean) @ along, -CLIP, CLIP)
            for name, mean, along in zip(self.modalities, self.means, self.directions, strict=True)
        )
        return np.einsum("ni,nj->nij", a, b).reshape(len(a), -1)


@dataclass
class Score:
    """The tensor S [D_a, D_b, K] of two modalities whose values were made uncorrelated by `axes`
    [D, D] of each."""

    modalities: tuple[str, str]
    means: list[np.ndarray]
    axes: list[np.ndarray]
    tensor: np.ndarray

    @classmethod
    def of(cls, blocks: PreparedBlocks, pair: tuple[str, str], residuals: np.ndarray) -> Score:
        """At the residuals [n, K] of a model without interactions."""
        means, axes, values = [], [], []
        for name in pair:
            x = blocks[name].dense.astype(np.float64)
            means.append(x.mean(axis=0))
            axes.append(_uncorrelated(x - means[-1]))
            values.append((x - means[-1]) @ axes[-1])
        a, b = values
        tensor = np.stack([(a * one[:, None]).T @ b for one in residuals.T], axis=-1)
        return cls(pair, means, axes, tensor)

    def interaction(self, rank: int) -> Interaction:
        """The directions of the tensor's best approximation of this rank."""
        along = leading_directions(self.tensor, rank)
        directions = [axes @ one for axes, one in zip(self.axes, along[:2], strict=True)]
        return Interaction(self.modalities, self.means, directions)


def _uncorrelated(x: np.ndarray) -> np.ndarray:
    """Axes [D, D] along which centred rows [n, D] have no correlation and variances of about 1."""
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    return axes / np.sqrt(variances + DAMPING * variances.mean() + 1e-12)


def leading_directions(tensor: np.ndarray, rank: int) -> list[np.ndarray]:
    """Orthonormal directions [D, rank] of each of the three modes, by higher-order orthogonal
    iteration. Fewer where there are no more, or where those of the other modes have no more to
    say."""
    along = [_left_vectors(tensor, mode, rank) for mode in range(3)]
    for _ in range(SWEEPS):
        for mode in range(3):
            rest = tensor
            for other in {0, 1, 2} - {mode}:
                rest = np.moveaxis(np.tensordot(rest, along[other], (other, 0)), -1, other)
            along[mode] = _left_vectors(rest, mode, rank)
    return along


def _left_vectors(tensor: np.ndarray, mode: int, rank: int) -> np.ndarray:
    """Leading left singular vectors of the tensor unfolded along a mode."""
    unfolded = np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
    if unfolded.shape[0] >= unfolded.shape[1]:
        return np.linalg.svd(unfolded, full_matrices=False)[0][:, :rank]
    return np.linalg.eigh(unfolded @ unfolded.T)[1][:, ::-1][:, :rank]
