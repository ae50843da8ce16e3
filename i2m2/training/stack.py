"""Several models alike as one, which computes what each of them does, and its training.

Small networks spend their time in calling operations, not in computing them. Here the weights of S
models lie in one tensor [S, ...], inputs and outputs are [S, B, ...], and a step of all is about as
many operations as a step of one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map, tree_map_with_path

from i2m2.encoders.cpu_kernels import GRUOnCPU
from i2m2.encoders.series import SeriesGRU
from i2m2.files import Plain
from i2m2.fusion import Concat, GatedFusion, TensorFusion
from i2m2.losses import negative_log_likelihood
from i2m2.model import FusionExpert, Inputs, ProductOfExperts, UnimodalExpert
from i2m2.stats.predictions import Predictions
from i2m2.training import data
from i2m2.training.data import Batch, MicroBatch, MultimodalDataset
from i2m2.training.evaluate import SelectOutputs, predict
from i2m2.training.loop import CHECK_EVERY, History, Loss, Trainer, per_example, training_ended
from i2m2.training.run import Run

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


@dataclass(eq=False)
class Seed:
    """One run of several: its own model, and its state after its latest epoch."""

    run: Run
    model: ProductOfExperts
    state: Plain  # of the model, then also of optimizer and scheduler, as in last.pt
    history: History = field(default_factory=list)
    error: FloatingPointError | None = None  # which ended its training

    @property
    def waits(self) -> bool:
        """Whether it has epochs left."""
        return self.error is None and not training_ended(self.history, self.run.config.optim)


class StackTrainer(Trainer):
    """`Trainer` of the models of several seeds, which are at the same epoch."""

    def __init__(
        self, seeds: Sequence[Seed], accelerator: Accelerator, loss: Loss, examples: int
    ) -> None:
        self.configs = [seed.run.config for seed in seeds]
        self.generators = [torch.Generator(accelerator.device) for _ in seeds]
        self.errors: dict[int, FloatingPointError] = {}  # by place in the stack
        model = stack([seed.model for seed in seeds], self.generators)
        super().__init__(model, self.configs[0], accelerator, loss, None, examples)
        states = [seed.state for seed in seeds]
        for name, part in self.parts.items():
            if name in states[0]:
                part.load_state_dict(joined([state[name] for state in states]))

    def state_of(self, place: int) -> Plain:
        """The state of one seed, as `Trainer` has it."""
        return slice_of({name: part.state_dict() for name, part in self.parts.items()}, place)

    def predict(
        self, dataset: MultimodalDataset, select_outputs: SelectOutputs
    ) -> list[Predictions]:
        """Every seed's predictions of a split."""
        config, places = self.config, range(len(self.configs))

        def of_each(log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Any) -> dict[str, Tensor]:
            columns = {}
            for s in places:
                own = {name: value[:, s] for name, value in by_expert.items()}
                selected = select_outputs(log_prob[:, s], own, y)
                columns |= {f"{s}/{name}": column for name, column in selected.items()}
            return columns

        model = OfOneBatch(self.model, len(places))
        columns = predict(
            model, dataset, self.accelerator, config.step_size, config.workers, of_each
        )
        common = {name: column for name, column in columns.items() if "/" not in name}
        own = [
            {n.removeprefix(f"{s}/"): c for n, c in columns.items() if n.startswith(f"{s}/")}
            for s in places
        ]
        return [common | columns for columns in own]

    def _plan(self, examples: int, epoch: int) -> list[MicroBatch]:
        """Seed an epoch's random numbers -> its micro-batches: all seeds' examples in a row."""
        optim, plans = self.config.optim, []
        for config, generator in zip(self.configs, self.generators, strict=True):
            data.seed_generator(generator, config.seed, epoch, 0)
            update = (optim.batch_size, config.seed, epoch, optim.micro_batches)
            plans.append(data.training_plan(examples, *update))
        return [
            MicroBatch(np.concatenate([own.positions for own in parts]), *parts[0][1:])
            for parts in zip(*plans, strict=True)
        ]

    def _forward_backward(self, part: MicroBatch, batch: Batch, train: MultimodalDataset) -> Tensor:
        """Add a micro-batch's gradients -> every seed's share of the mean loss of its update."""
        batch = data.to_device(batch, self.accelerator.device, train.prepare)
        log_prob, _ = self.wrapped(
            self._by_seed(batch["inputs"]), self._by_seed(batch.get("present") or {})
        )
        mean = self._losses(log_prob, batch["y"]) * part.scale
        mean.sum().backward()
        return mean.detach()

    def _by_seed(self, values: Any) -> Any:
        """Tensors [S * B, ...] -> [S, B, ...]."""
        return tree_map(lambda x: x.view(len(self.configs), -1, *x.shape[1:]), values)

    def _losses(self, log_prob: Tensor, y: Any) -> Tensor:
        """Every seed's loss, summed over its examples: [S, B, (L,) C], y [S * B(, L)] -> [S]."""
        if self.loss is negative_log_likelihood:  # an example's does not depend on the others
            return self.loss(log_prob.flatten(0, 1), y).view(len(log_prob), -1).sum(dim=1)
        y = self._by_seed(y)
        own = [tree_map(lambda x, s=s: x[s], y) for s in range(len(log_prob))]
        pairs = zip(log_prob, own, strict=True)
        return torch.stack([per_example(self.loss, *pair).sum() for pair in pairs])

    def _clip(self, parameters: list[Tensor], norm: float) -> None:
        """Each seed's gradient on its own."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norms = [torch.linalg.vector_norm(g.view(len(g), -1), dim=1) for g in gradients]
        total = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # [S]
        factor = (norm / (total + 1e-6)).clamp(max=1)
        for g in gradients:
            g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))

    def _refuse_non_finite(self, losses: list[Tensor], plan: list[MicroBatch], epoch: int) -> None:
        """Note whose loss is not finite; the others go on."""
        begin = (len(losses) - 1) // CHECK_EVERY * CHECK_EVERY
        recent = torch.stack(losses[begin:])  # [steps, S]
        for place in (~torch.isfinite(recent)).any(dim=0).nonzero().flatten().tolist():
            found = self._not_finite(recent[:, place], begin, plan, epoch, self.configs[place])
            self.errors.setdefault(place, found)
