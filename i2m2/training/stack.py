"""Several models alike as one, which computes what each of them does.

Small networks spend their time in calling operations, not in computing them. Here the weights of S
models lie in one tensor [S, ...], inputs and outputs are [S, B, ...], and a step of all is about as
many operations as a step of one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map, tree_map_with_path

from i2m2.encoders.cpu_kernels import GRUOnCPU
from i2m2.encoders.series import SeriesGRU
from i2m2.files import Plain
from i2m2.fusion import Concat, GatedFusion, TensorFusion
from i2m2.model import FusionExpert, Inputs, ProductOfExperts, UnimodalExpert

# They have no weights of their own, and take any number of axes before the features.
AS_THEY_ARE = (
    ProductOfExperts, UnimodalExpert, FusionExpert, Concat, GatedFusion, TensorFusion, SeriesGRU,
    nn.Sequential, nn.ModuleDict, nn.Identity,
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus,
)  # fmt: skip


def stack(models: Sequence[nn.Module], generators: Sequence[torch.Generator]) -> nn.Module:
    """A module of inputs [S, B, ...] and outputs [S, B, ...]: model s gets and gives [s].

    Its parameters and buffers have the models' names, and values [S, ...]. Linear layers, GRUs and
    dropout, which draws from `generators` [S], compute all S at once; what else is not listed above
    goes through `torch.vmap` as a whole. RuntimeError in a forward pass where that cannot be done,
    with random numbers for example.
    """
    stacked = copy.deepcopy(models[0])
    _stack_weights(stacked, models)
    _give_forms(stacked, models[0], generators)
    return stacked


class OfOneBatch(nn.Module):
    """A stack of S products of experts, all given the same examples: [B, ...] -> [B, S, ...]."""

    def __init__(self, stacked: nn.Module, models: int) -> None:
        super().__init__()
        self.stacked, self.models = stacked, models

    def forward(self, inputs: Inputs, present: Mapping[str, Tensor] | None = None) -> Any:
        given = tree_map(lambda x: x.expand(self.models, *x.shape), (inputs, present or {}))
        return tree_map(lambda x: x.movedim(0, 1), self.stacked(*given))


def joined(states: Sequence[Plain]) -> Plain:
    """The state of a stack (of its weights, its optimiser), of those of its models."""

    def join(path: tuple, first: Any, *others: Any) -> Any:
        return torch.stack([first, *others]) if _is_one_models(path, first) else first

    return tree_map_with_path(join, *states)


def slice_of(state: Plain, place: int) -> Plain:
    """One model's part of the state of a stack, copied to the CPU, where what was read from last.pt
    lies: the inverse of `joined`."""

    def own(path: tuple, value: Any) -> Any:
        return value[place].to("cpu", copy=True) if _is_one_models(path, value) else value

    return tree_map_with_path(own, state)


def _is_one_models(path: tuple, value: object) -> bool:
    """Not the number of steps that an optimiser counts, which is the same for all."""
    return isinstance(value, Tensor) and path[-1].key != "step"


def _stack_weights(stacked: nn.Module, models: Sequence[nn.Module]) -> None:
    """Parameters that layers share stay shared. What a module of AS_THEY_ARE keeps in a buffer, the
    classes' frequencies, is the same in all models."""
    made: dict[Tensor, nn.Parameter] = {}
    for name, first in list(stacked.named_parameters(remove_duplicate=False)):
        if first not in made:
            values = torch.stack([model.get_parameter(name).detach() for model in models])
            made[first] = nn.Parameter(values, first.requires_grad)
        owner, _, own_name = name.rpartition(".")
        setattr(stacked.get_submodule(owner), own_name, made[first])
    for name, _ in list(stacked.named_buffers()):
        owner, _, own_name = name.rpartition(".")
        if type(stacked.get_submodule(owner)) not in AS_THEY_ARE:
            values = torch.stack([model.get_buffer(name) for model in models])
            setattr(stacked.get_submodule(owner), own_name, values)


def _give_forms(module: nn.Module, plain: nn.Module, generators: Sequence[torch.Generator]) -> None:
    """Give the layers of a stack a `forward` for all models; `plain` is one of these."""
    if type(module) in AS_THEY_ARE:
        for name, child in module.named_children():
            _give_forms(child, plain.get_submodule(name), generators)
    elif type(module) is nn.Linear:
        module.forward = partial(_linear, module)
    elif type(module) is nn.Dropout:
        module.forward = partial(_dropout, module, generators)
    elif type(module) is nn.GRU and _is_simple(module):
        module.forward = partial(_gru, module)
    else:
        module.forward = partial(_through_vmap, module, plain)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    rows, weight = x.flatten(1, -2), layer.weight.mT  # [S, n, inputs], [S, inputs, outputs]
    if layer.bias is None:
        y = torch.bmm(rows, weight)
    else:
        y = torch.baddbmm(layer.bias.unsqueeze(1), rows, weight)
    return y.view(*x.shape[:-1], -1)


def _dropout(layer: nn.Dropout, generators: Sequence[torch.Generator], x: Tensor) -> Tensor:
    """As `F.dropout` on the CPU, but that each model draws from a generator of its own."""
    if not layer.training or layer.p == 0:
        return x
    kept = torch.empty_like(x)
    for own, generator in zip(kept, generators, strict=True):
        own.bernoulli_(1 - layer.p, generator=generator)
    return x * kept.div_(1 - layer.p)


def _is_simple(layer: nn.GRU) -> bool:
    return layer.num_layers == 1 and not layer.bidirectional and layer.bias


def _gru(layer: nn.GRU, x: Tensor) -> tuple[Tensor, Tensor]:
    time_first = x.transpose(1, 2) if layer.batch_first else x  # [S, T, B, inputs]
    hidden = GRUOnCPU.apply(time_first, *layer.all_weights[0])
    last = hidden[:, -1:]
    return (hidden.transpose(1, 2) if layer.batch_first else hidden), last


def _through_vmap(module: nn.Module, plain: nn.Module, *inputs: Any) -> Any:
    plain.train(module.training)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    axes = tree_map(lambda x: 0 if isinstance(x, Tensor) else None, inputs)
    return vmap(partial(functional_call, plain), in_dims=(0, axes))(tensors, inputs)
