"""Fusions of two or more modalities: {modality: features [B, D_m]} -> fused [B, out_features]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.errors import SettingsError
from i2m2.names import FUSION_ALIASES


class Concat(nn.Module):
    """Late fusion (the paper's LF): the features side by side, in the order of `sizes`."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = tuple(sizes)
        self.out_features = sum(sizes.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([features[name] for name in self.modalities], dim=-1)


class LowRankTensorFusion(nn.Module):
    """Low-rank tensor fusion (the paper's LRTF; Liu et al., ACL 2018): sum_r w_r prod_m [1, h_m]
    F_m,r + b.

    Factors F_m [rank, D_m + 1, out], weights w [1, rank], bias b [1, out]. With `frozen_factors`
    none of them is trained, as in the published code on a GPU.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        out_features: int = 120,
        rank: int = 40,
        frozen_factors: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        shapes = {name: (rank, size + 1, out_features) for name, size in sizes.items()}
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(shape)) for name, shape in shapes.items()}
        )
        self.weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(1, out_features))
        for parameter in (*self.factors.values(), self.weights):
            nn.init.xavier_normal_(parameter)
        self.requires_grad_(not frozen_factors)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        projected = []  # [rank, B, out] each
        for name, factor in self.factors.items():
            # The copy of h with a one in front is small; slicing F instead would cost its backward
            # pass twice F in zeros.
            h = F.pad(features[name], (1, 0), value=1.0)
            projected.append(torch.bmm(h.expand(factor.shape[0], -1, -1), factor))
        product = reduce(torch.mul, projected).to(self.weights.dtype)  # half of it under autocast
        return torch.tensordot(self.weights[0], product, dims=1) + self.bias


class TensorFusion(nn.Module):
    """Full tensor fusion (Zadeh et al., EMNLP 2017): all [1, h_m] multiplied, then flattened."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = tuple(sizes)
        self.out_features = math.prod(size + 1 for size in sizes.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        extended = [F.pad(features[name], (1, 0), value=1.0) for name in self.modalities]
        return reduce(lambda a, b: (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2), extended)


class GatedFusion(nn.Module):
    """Gated multimodal unit (Arevalo et al., 2017) for any number of modalities: sum_m
    softmax_m(gate) * tanh(A_m h_m). The gate of every output feature sees all modalities."""

    def __init__(self, sizes: Mapping[str, int], out_features: int = 120) -> None:
        super().__init__()
        self.modalities = tuple(sizes)
        self.out_features = out_features
        self.project = nn.ModuleDict(
            {name: nn.Linear(size, out_features) for name, size in sizes.items()}
        )
        self.gate = nn.Linear(sum(sizes.values()), len(sizes) * out_features)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        projected = [self.project[name](features[name]).tanh() for name in self.modalities]
        candidates = torch.stack(projected, dim=-2)  # [B, M, out]
        gate = self.gate(torch.cat([features[name] for name in self.modalities], dim=-1))
        return (candidates * gate.view_as(candidates).softmax(dim=-2)).sum(dim=-2)


FUSIONS = {  # by the names in i2m2.names.FUSIONS
    "concat": Concat,
    "low_rank_tensor": LowRankTensorFusion,
    "tensor": TensorFusion,
    "gated": GatedFusion,
}


def build_fusion(
    name: str,
    sizes: Mapping[str, int],
    out_features: int = 120,
    rank: int = 40,
    frozen_factors: bool = False,
) -> nn.Module:
    """The fusion called `name` (or `lf`, `lrtf`) for {modality: its number of features}, with those
    other arguments that it has. SettingsError if unknown, or for fewer than two modalities."""
    name = FUSION_ALIASES.get(name, name)
    if name not in FUSIONS:
        raise SettingsError(
            f"fusion={name!r} is unknown; choose one of {', '.join(FUSIONS)} "
            f"(aliases: {', '.join(FUSION_ALIASES)})"
        )
    if len(sizes) < 2:
        raise SettingsError(
            f"fusion needs two or more modalities, not {', '.join(sizes) or 'none'}"
        )
    options = {"out_features": out_features, "rank": rank, "frozen_factors": frozen_factors}
    known = signature(FUSIONS[name]).parameters
    return FUSIONS[name](sizes, **{key: v for key, v in options.items() if key in known})
