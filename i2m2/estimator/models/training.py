"""The loop that trains the networks of all folds side by side.

Model e of E is trained on the rows outside fold e and stops where its loss on fold e is least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from i2m2.estimator.given.values import InputError
from i2m2.machine.eager import eager

SMALL = 20_000  # rows up to which one thread is faster than several
LEAST = {"width": 2, "hidden": 1, "batch_size": 1, "epochs": 1, "patience": 1}
BETWEEN = {"dropout": (0, 1), "lr": (1e-9, np.inf), "weight_decay": (0, np.inf)}
EVALUATED_AT_ONCE = 4_096  # rows
LEAST_GAIN = 1e-4  # nats of validation loss that count as better
SHARE_WAITED = 0.5  # of the epochs until the best, if that is more than the patience
FINE_TUNING = {"lr": 0.3, "patience": 0.3}  # of what trains networks from the start


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

    def for_fine_tuning(self) -> TrainingSettings:
        """Smaller steps and less patience, for networks that are trained already."""
        patience = max(1, round(self.patience * FINE_TUNING["patience"]))
        return replace(self, lr=self.lr * FINE_TUNING["lr"], patience=patience)

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
    validation, weight = padded([np.flatnonzero(folds == e) for e in range(models)])
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    if not parameters:  # of a module that is wholly frozen
        return
    lr, decay = settings.lr, settings.weight_decay
    optimiser = eager(torch.optim.AdamW)(parameters, lr=lr, weight_decay=decay, fused=True)
    best, waited = torch.full((models,), torch.inf), torch.zeros(models)
    kept = [[_copies(network.state_of(e)) for e in range(models)] for network in networks]
    size = min(map(len, training))
    batches = max(1, size // settings.batch_of(size))
    going = torch.arange(models)  # the models that still train
    for epoch in range(settings.epochs + begin_with):
        if epoch or not begin_with:
            rows = [training[model] for model in going]
            _train_epoch(networks, loss, rows, size, batches, optimiser, generator)
        found = _validation_loss(networks, loss, validation[going], weight[going])
        better = found < best[going] - LEAST_GAIN
        for place in torch.nonzero(better).flatten().tolist():
            model = going[place]
            best[model] = found[place]
            for network, states in zip(networks, kept, strict=True):
                states[model] = _copies(network.state_of(place))
        waited[going] = torch.where(better, 0, waited[going] + 1)
        patient = torch.nonzero(waited[going] < _patience(epoch, waited[going], settings)).flatten()
        if not len(patient):
            break
        if len(patient) < len(going):
            going = going[patient]
            for network in networks:
                network.go_on_with(patient, optimiser)
    for network, states in zip(networks, kept, strict=True):
        network.assemble(states)


def _patience(epoch: int, waited: Tensor, settings: TrainingSettings) -> Tensor:
    """For how many epochs each model is waited for: longer where its best one came late."""
    best_epoch = epoch + 1 - waited
    return (best_epoch * SHARE_WAITED).clamp(min=settings.patience)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows of unequal number as one [E, B], and weights that sum to 1 and are 0 in the padding."""
    longest = max(1, *map(len, rows))
    found = np.zeros((len(rows), longest), np.int64)
    weight = np.zeros((len(rows), longest), np.float32)
    for place, one in enumerate(rows):
        found[place, : len(one)] = one
        weight[place, : len(one)] = 1 / max(len(one), 1)
    return torch.from_numpy(found), torch.from_numpy(weight)


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
