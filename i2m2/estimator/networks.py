"""The default networks, and the loop that trains the models of all folds side by side.

Model e of E is trained on the rows outside fold e and stops where its loss on fold e is least.
Their weights lie in one tensor [E, ...], so that a step of all E is one step of one network: small
networks spend their time in calling operations, not in computing them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.estimator.blocks import InputError
from i2m2.estimator.preparation import Prepared, PreparedBlocks

SMALL = 20_000  # rows up to which one thread is faster than several
EVALUATED_AT_ONCE = 4_096  # rows
LEAST = {"width": 2, "hidden": 1, "batch_size": 1, "epochs": 1, "patience": 1}
BETWEEN = {"dropout": (0, 1), "lr": (1e-9, np.inf), "weight_decay": (0, np.inf)}
LEAST_GAIN = 1e-4  # nats of validation loss that count as better


@dataclass(frozen=True)
class TrainingSettings:
    """How networks are trained; batch_size None: by the number of rows, 32 to 512."""

    width: int = 32
    hidden: int = 64
    dropout: float = 0.2
    lr: float = 3e-3
    weight_decay: float = 0.03
    batch_size: int | None = None
    epochs: int = 200
    patience: int = 12

    def __post_init__(self) -> None:
        """InputError for a value with which no network can be trained."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is None and name == "batch_size":
                continue
            if not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"network: {name}={value!r}; give a whole number from {least}")
        for name, (low, high) in BETWEEN.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.number)) or not low <= value < high:
                raise InputError(f"network: {name}={value!r}; give a number in [{low:g}, {high:g})")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> TrainingSettings:
        """The defaults, but for what is given. InputError for an unknown name or a value as
        above."""
        known = cls.__dataclass_fields__
        if unknown := [name for name in given or {} if name not in known]:
            raise InputError(f"network: {unknown[0]!r} is unknown; choose from {', '.join(known)}")
        return cls(**(given or {}))

    def batch_of(self, rows: int) -> int:
        if self.batch_size is not None:
            return self.batch_size
        return int(np.clip(2 ** round(np.log2(max(rows, 1) / 12)), 32, 512))


@contextmanager
def few_threads(rows: int) -> Iterator[None]:
    """One thread for what is small, which is faster, and the same whatever else the machine
    does."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    if rows > SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


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
        self.models, self.stride = models, stride
        scale = (inputs * 3**axes) ** -0.5
        shape = (models, outputs, inputs, *[3] * axes)
        self.weight = nn.Parameter(torch.randn(shape) * scale * 2**0.5)
        self.bias = nn.Parameter(torch.zeros(models, outputs))
        self.convolve = F.conv1d if axes == 1 else F.conv2d

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        return self.convolve(x, weight, bias, self.stride, padding=1, groups=self.models)


class Convolutions(nn.Module):
    """Two convolutions, pooled over time or space: [E, B, C, ...] -> [E, B, features]."""

    def __init__(self, models: int, shape: Sequence[int], width: int) -> None:
        super().__init__()
        channels, *sizes = shape
        self.models, self.axes = models, len(sizes)
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
            x = torch.stack([x.mean(dim=-1), x.amax(dim=-1)], dim=-1)
        else:
            x = F.adaptive_avg_pool2d(x, self.cells)
        return x.reshape(batch, models, -1).transpose(0, 1)


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
        x = F.dropout(x, self.dropout, self.training)
        x = F.dropout(F.gelu(self.hidden(x)), self.dropout, self.training)
        return self.head(x).unflatten(-1, self.outputs)

    def state_of(self, model: int) -> list[Tensor]:
        return [parameter.data[model] for parameter in self.parameters()]


class AdditiveNetwork(StackedNetwork):
    """E sums of networks that read one modality each."""

    def __init__(self, networks: Sequence[StackedNetwork]) -> None:
        nn.Module.__init__(self)
        self.modalities = tuple(name for one in networks for name in one.modalities)
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        return sum(network(inputs) for network in self.networks)


class ModuleStack(nn.Module):
    """E copies of a user's module. It reads [B, D] of a table, text or embedding, [B, T, C] of a
    series, [B, C, H, W] of a picture, {modality: these} where it fuses several; it gives [B, K], or
    [B, L, K] of L labels."""

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

    def forward(self, inputs: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        outputs = []
        for place, module in enumerate(self.copies):
            own = {name: _own_form(*(_at(x, place) for x in inputs[name])) for name in inputs}
            own = {name: own[name] for name in self.modalities}
            x = self._call(module, own if len(own) > 1 else own[self.modalities[0]])
            if x.numel() != x.shape[0] * np.prod(self.outputs):
                raise InputError(
                    f"the module for {'+'.join(self.modalities)} gives {tuple(x.shape[1:])} "
                    f"numbers an example; {self.outputs[1]} are needed"
                )
            outputs.append(x.reshape(len(x), *self.outputs))
        return torch.stack(outputs)

    def _call(self, module: nn.Module, x: Tensor | dict[str, Tensor]) -> Tensor:
        try:
            return module(x)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the module for {'+'.join(self.modalities)} fails with examples of the shape "
                f"{self.shape}: {str(error).splitlines()[0]}"
            ) from error

    def state_of(self, model: int) -> list[Tensor]:
        return list(self.copies[model].state_dict().values())


def _at(x: Tensor | None, place: int) -> Tensor | None:
    return None if x is None else x[place]


def _own_form(dense: Tensor, grid: Tensor | None) -> Tensor:
    """What a user's module reads of a block: a series with its time before its channels."""
    if grid is None:
        return dense
    return grid.transpose(1, 2) if grid.dim() == 3 else grid


def _own_shape(block: Prepared) -> tuple[int, ...]:
    grid = None if block.grid is None else torch.from_numpy(block.grid[:1])
    return tuple(_own_form(torch.from_numpy(block.dense[:1]), grid).shape[1:])


def _make(given: Any, shape: Any, outputs: Any) -> nn.Module:
    """A fresh module: of a factory called with (shape of an example, number of outputs), or a copy
    with weights drawn anew."""
    if not isinstance(given, nn.Module):
        module = given(shape, outputs)
        if not isinstance(module, nn.Module):
            raise InputError(f"an expert's function gave {module!r}; it makes an nn.Module")
        return module
    module = copy.deepcopy(given)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return module


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
    """The rows [E, B] of every tensor -> [E, B, ...]."""
    return {
        name: tuple(None if x is None else x[rows] for x in pair) for name, pair in inputs.items()
    }


@torch.no_grad()
def outputs_of(network: nn.Module, blocks: PreparedBlocks, models: int) -> np.ndarray:
    """Every model's outputs for all rows, [E, n, L, K] float64. Our networks compute in float64,
    so that a row's outputs do not depend on the rows beside it; a user's module, which may make
    tensors of its own, in the type that it was trained in."""
    network = copy.deepcopy(network).eval()
    dtype = torch.float64 if isinstance(network, StackedNetwork) else None
    inputs = tensors_of(blocks, network.modalities, dtype)
    network.to(dtype)
    n = len(next(iter(blocks.values())))
    parts = []
    for start in range(0, n, EVALUATED_AT_ONCE):
        rows = torch.arange(start, min(start + EVALUATED_AT_ONCE, n))
        parts.append(network(rows_of(inputs, rows.expand(models, -1))))
    return torch.cat(parts, dim=1).double().numpy()


def train(
    networks: Sequence[nn.Module],
    loss: Callable[[Tensor], Tensor],
    folds: np.ndarray,
    settings: TrainingSettings,
    generator: torch.Generator,
    begin_with: bool = False,
) -> None:
    """Train E models at once, each to its best epoch.

    `loss` takes rows [E, B] and gives the loss of each, [E, B]; row i is of fold `folds[i]`, or of
    none (-1: left out). `begin_with`: the weights as they come count as the first epoch, so that
    training never ends with a larger validation loss. FloatingPointError if the loss is not finite.
    """
    models = int(folds.max()) + 1
    known = folds >= 0
    training = [torch.from_numpy(np.flatnonzero(known & (folds != e))) for e in range(models)]
    validation, weight = _padded([np.flatnonzero(folds == e) for e in range(models)])
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    lr, decay = settings.lr, settings.weight_decay
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=decay, fused=True)
    best = torch.full((models,), torch.inf)
    kept = [[tensor.clone() for tensor in _state(networks, e)] for e in range(models)]
    waited = torch.zeros(models)
    size = min(map(len, training))
    batches = max(1, size // settings.batch_of(size))
    for epoch in range(settings.epochs + begin_with):
        if epoch or not begin_with:
            _train_epoch(networks, loss, training, size, batches, optimiser, generator)
        found = _validation_loss(networks, loss, validation, weight)
        better = found < best - LEAST_GAIN
        waited = torch.where(better, 0, waited + 1)
        for model in torch.nonzero(better).flatten().tolist():
            best[model] = found[model]
            for old, new in zip(kept[model], _state(networks, model), strict=True):
                old.copy_(new)
        if (waited >= settings.patience).all():
            break
    for model in range(models):
        for tensor, old in zip(_state(networks, model), kept[model], strict=True):
            tensor.copy_(old)


def _state(networks: Sequence[nn.Module], model: int) -> list[Tensor]:
    return [tensor for network in networks for tensor in network.state_of(model)]


def _padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows of unequal number as one [E, B], and weights that sum to 1 and are 0 in the padding."""
    longest = max(1, *map(len, rows))
    padded = np.zeros((len(rows), longest), np.int64)
    weight = np.zeros((len(rows), longest), np.float32)
    for place, one in enumerate(rows):
        padded[place, : len(one)] = one
        weight[place, : len(one)] = 1 / max(len(one), 1)
    return torch.from_numpy(padded), torch.from_numpy(weight)


def _train_epoch(networks, loss, training, size, batches, optimiser, generator) -> None:
    for network in networks:
        network.train()
    order = torch.stack(
        [rows[torch.randperm(len(rows), generator=generator)[:size]] for rows in training]
    )
    for rows in order.tensor_split(batches, dim=1):
        optimiser.zero_grad()
        loss(rows).mean(dim=1).sum().backward()
        optimiser.step()


@torch.no_grad()
def _validation_loss(networks, loss, validation: Tensor, weight: Tensor) -> Tensor:
    for network in networks:
        network.eval()
    parts = [
        (loss(rows) * share).sum(dim=1)
        for rows, share in zip(
            validation.split(EVALUATED_AT_ONCE, dim=1),
            weight.split(EVALUATED_AT_ONCE, dim=1),
            strict=True,
        )
    ]
    found = torch.stack(parts).sum(dim=0)
    if not torch.isfinite(found).all():
        raise FloatingPointError(
            "the loss of a network is no longer finite; "
            "lower its learning rate (network={'lr': ...})"
        )
    return found
