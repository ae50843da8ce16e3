"""The default networks, of the models of all folds at once, and copies of a user's module.

The weights of E models lie in one tensor [E, ...], so that a step of all E is one step of one
network: small networks spend their time in calling operations, not in computing them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.estimator.given.values import InputError
from i2m2.estimator.models.training import EVALUATED_AT_ONCE, TrainingSettings
from i2m2.estimator.prepared.forms import Prepared, PreparedBlocks


class StackedLinear(nn.Module):
    """E linear maps: [E, B, in] -> [E, B, out]."""

    def __init__(self, models: int, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(models, inputs, outputs) * gain / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(models, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class StackedConvolution(nn.Module):
    """E convolutions of width 3 over the last axis or two: [B, E * in, ...] -> [B, E * out,
    ...]."""

    def __init__(self, models: int, inputs: int, outputs: int, axes: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        scale = (inputs * 3**axes) ** -0.5
        shape = (models, outputs, inputs, *[3] * axes)
        self.weight = nn.Parameter(torch.randn(shape) * scale * 2**0.5)
        self.bias = nn.Parameter(torch.zeros(models, outputs))
        self.convolve = F.conv1d if axes == 1 else F.conv2d

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        return self.convolve(x, weight, bias, self.stride, padding=1, groups=len(self.weight))


class Convolutions(nn.Module):
    """Two convolutions, pooled over time or space: [E, B, C, ...] -> [E, B, features]."""

    def __init__(self, models: int, shape: Sequence[int], width: int) -> None:
        super().__init__()
        channels, *sizes = shape
        self.axes = len(sizes)
        stride = 2 if min(sizes) >= 16 else 1
        self.first = StackedConvolution(models, channels, width // 2, self.axes, stride)
        self.second = StackedConvolution(models, width // 2, width, self.axes)
        self.cells = 1 if self.axes == 1 else 4
        self.out_features = 2 * width if self.axes == 1 else width * self.cells**2

    def forward(self, x: Tensor) -> Tensor:
        models, batch = x.shape[:2]
        x = x.transpose(0, 1).flatten(1, 2)  # [B, E * C, ...]
        x = F.gelu(self.first(x))
        x = F.gelu(self.second(x))
        if self.axes == 1:
            most = x.max(dim=-1).values  # whose gradient is cheaper than that of amax
            x = torch.stack([x.mean(dim=-1), most], dim=-1)
        else:
            x = F.adaptive_avg_pool2d(x, self.cells)
        return x.reshape(batch, models, -1).transpose(0, 1)


def dropout(x: Tensor, p: float) -> Tensor:
    """As F.dropout, with p to 16 bits: torch draws 64 bits for each number, one number at a time,
    which was a tenth of a training."""
    bits = torch.empty(x.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= int(p * 2**16) - 2**15
    return x * (kept / (1 - p))


class BlockEncoder(nn.Module):
    """A block's dense form, and its grid if it has one, -> [E, B, features]."""

    def __init__(self, models: int, block: Prepared, width: int) -> None:
        super().__init__()
        self.dense = StackedLinear(models, block.dense.shape[1], width)
        self.grid = None
        self.out_features = width
        if block.grid is not None:
            self.grid = Convolutions(models, block.grid.shape[1:], width)
            self.out_features += self.grid.out_features

    def forward(self, dense: Tensor, grid: Tensor | None) -> Tensor:
        features = self.dense(dense)
        if self.grid is None:
            return features
        return torch.cat([features, self.grid(grid)], dim=-1)


class StackedNetwork(nn.Module):
    """E networks that read some modalities: linear and convolutional features side by side, one
    hidden layer, one linear head -> [E, B, L, K]."""

    def __init__(
        self,
        models: int,
        blocks: PreparedBlocks,
        modalities: Sequence[str],
        outputs: tuple[int, int],
        settings: TrainingSettings,
    ) -> None:
        super().__init__()
        self.modalities, self.outputs, self.dropout = tuple(modalities), outputs, settings.dropout
        self.encoders = nn.ModuleList(
            BlockEncoder(models, blocks[name], settings.width) for name in modalities
        )
        features = sum(encoder.out_features for encoder in self.encoders)
        self.hidden = StackedLinear(models, features, settings.hidden)
        self.head = StackedLinear(models, settings.hidden, int(np.prod(outputs)), gain=0.1)

    def forward(self, inputs: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        read = zip(self.modalities, self.encoders, strict=True)
        x = torch.cat([encoder(*inputs[name]) for name, encoder in read], dim=-1)
        x = self._drop(x)
        x = self._drop(F.gelu(self.hidden(x)))
        return self.head(x).unflatten(-1, self.outputs)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout) if self.training and self.dropout else x

    def state_of(self, place: int) -> list[Tensor]:
        """The weights of the model at a place among those that still train."""
        return [parameter.data[place] for parameter in self.parameters()]

    def go_on_with(self, places: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Train only the models at some places of those that still train."""
        for parameter in self.parameters():
            state, shape = optimiser.state[parameter], parameter.shape
            parameter.data, parameter.grad = parameter.data[places], None
            state |= {name: x[places] for name, x in state.items() if x.shape == shape}

    def assemble(self, states: Sequence[Sequence[Tensor]]) -> None:
        """All models again, each with its weights."""
        for parameter, each in zip(self.parameters(), zip(*states, strict=True), strict=True):
            parameter.data = torch.stack(each)


class AdditiveNetwork(StackedNetwork):
    """E sums of networks that read one modality each."""

    def __init__(self, networks: Sequence[StackedNetwork]) -> None:
        nn.Module.__init__(self)
        self.modalities = tuple(name for one in networks for name in one.modalities)
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        return sum(network(inputs) for network in self.networks)


class ModuleStack(nn.Module):
    """E copies of a user's module; what it reads and gives, `I2M2Classifier` says."""

    def __init__(
        self,
        models: int,
        given: nn.Module | Callable[..., nn.Module],
        blocks: PreparedBlocks,
        modalities: Sequence[str],
        outputs: tuple[int, int],
    ) -> None:
        super().__init__()
        self.modalities, self.outputs = tuple(modalities), outputs
        shapes = {name: _own_shape(blocks[name]) for name in modalities}
        self.shape = shapes if len(shapes) > 1 else shapes[modalities[0]]
        wanted = outputs[1] if outputs[0] == 1 else outputs
        made = [_make(given, self.shape, wanted) for _ in range(models)]
        self.copies = nn.ModuleList(made)
        self.chosen = list(self.copies)  # those that still train, or all

    def forward(self, inputs: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        outputs = []
        for place, module in enumerate(self.chosen):
            own = {name: _own_form(*(_at(x, place) for x in inputs[name])) for name in inputs}
            own = {name: own[name] for name in self.modalities}
            x = self._call(module, own if len(own) > 1 else own[self.modalities[0]])
            outputs.append(x.reshape(len(x), *self.outputs))
        return torch.stack(outputs)

    def _call(self, module: nn.Module, x: Tensor | dict[str, Tensor]) -> Tensor:
        name = f"the module for {'+'.join(self.modalities)}"
        try:
            found = module(x)
        except Exception as error:  # it is not our code that runs there
            a_dict = "a dict of " * isinstance(x, dict)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"{name} fails with {a_dict}examples of the shape {self.shape} ({reason}); "
                "help(I2M2Classifier) says what a module reads"
            ) from error
        if not isinstance(found, Tensor):
            raise InputError(f"{name} gives a {type(found).__name__}; a tensor of logits is needed")
        if found.numel() != len(found) * np.prod(self.outputs):
            labels, each = self.outputs
            of_labels = f", {each} for each of {labels} labels" * (labels > 1)
            raise InputError(
                f"{name} gives {tuple(found.shape[1:])} numbers an example; "
                f"{labels * each} are needed{of_labels}"
            )
        return found

    def state_of(self, place: int) -> list[Tensor]:
        return list(self.chosen[place].state_dict().values())

    def go_on_with(self, places: Tensor, optimiser: torch.optim.Optimizer) -> None:
        self.chosen = [self.chosen[place] for place in places.tolist()]
        optimiser.zero_grad()  # the weights of the others have no gradient any more

    def assemble(self, states: Sequence[Sequence[Tensor]]) -> None:
        self.chosen = list(self.copies)
        for place, state in enumerate(states):
            for tensor, kept in zip(self.state_of(place), state, strict=True):
                tensor.copy_(kept)


def _at(x: Tensor | None, place: int) -> Tensor | None:
    return None if x is None else x[place].contiguous()


def _own_form(dense: Tensor, grid: Tensor | None) -> Tensor:
    """What a user's module reads of a block: a series with its time before its channels."""
    if grid is None:
        return dense
    return grid.transpose(1, 2) if grid.dim() == 3 else grid


def _own_shape(block: Prepared) -> tuple[int, ...]:
    grid = None if block.grid is None else torch.from_numpy(block.grid[:1])
    return tuple(_own_form(torch.from_numpy(block.dense[:1]), grid).shape[1:])


def _make(given: Any, shape: Any, outputs: Any) -> nn.Module:
    """A fresh module of a factory, called with (shape of an example, number of outputs), or a copy
    with the weights that the given one has: they may be pre-trained."""
    if not isinstance(given, nn.Module):
        module = given(shape, outputs)
        if not isinstance(module, nn.Module):
            raise InputError(f"an expert's function gave {module!r}; it makes an nn.Module")
        return module
    return copy.deepcopy(given)


Inputs = dict[str, tuple[Tensor, Tensor | None]]


def tensors_of(blocks: PreparedBlocks, modalities: Sequence[str], dtype: Any = None) -> Inputs:
    """{modality: (dense [n, D], grid [n, C, ...] or None)}."""
    found = {}
    for name in modalities:
        grid = blocks[name].grid
        tensors = (
            torch.from_numpy(blocks[name].dense),
            None if grid is None else torch.from_numpy(grid),
        )
        found[name] = tuple(x if x is None or dtype is None else x.to(dtype) for x in tensors)
    return found


def rows_of(inputs: Inputs, rows: Tensor) -> Inputs:
    """The rows [E, B] of every tensor -> [E, B, ...]. Grids lie in memory as [B, E, ...], which the
    convolutions of E models read."""
    found = {}
    for name, (dense, grid) in inputs.items():
        of_grid = None if grid is None else _rows(grid, rows.t()).transpose(0, 1)
        found[name] = (_rows(dense, rows), of_grid)
    return found


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows], several times as fast."""
    return x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


@torch.no_grad()
def outputs_of(network: nn.Module, blocks: PreparedBlocks, rows: Tensor) -> np.ndarray:
    """Every model's outputs for its rows [E, m], [E, m, L, K] float64. Our networks compute in
    float64, so that a row's outputs do not depend on the rows beside it; a user's module, which may
    make tensors of its own, in the type that it was trained in."""
    network = copy.deepcopy(network).eval()
    dtype = torch.float64 if isinstance(network, StackedNetwork) else None
    inputs = tensors_of(blocks, network.modalities, dtype)
    network.to(dtype)
    parts = [network(rows_of(inputs, one)) for one in rows.split(EVALUATED_AT_ONCE, dim=1)]
    return torch.cat(parts, dim=1).double().numpy()
