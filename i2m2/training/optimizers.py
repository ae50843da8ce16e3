"""The optimisers and the learning rate of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim import Optimizer

from i2m2.machine.eager import eager
from i2m2.settings import OptimConfig

OPTIMIZERS = {
    "sgd": eager(torch.optim.SGD),
    "rmsprop": eager(torch.optim.RMSprop),
    "adamw": eager(torch.optim.AdamW),
}


def build_optimizer(parameters: list, optim: OptimConfig, real: bool = True) -> Optimizer:
    """The optimiser named in the settings, over parameters or groups of them; `real`: whether all
    are floating-point numbers, none complex."""
    options = {} if optim.name == "adamw" else {"momentum": optim.momentum}
    # All parameters at once; RMSprop has no fused kernel, and the others' take real numbers.
    options |= {"fused": True} if real and optim.name != "rmsprop" else {"foreach": True}
    optimizer = OPTIMIZERS[optim.name]
    return optimizer(parameters, lr=optim.lr, weight_decay=optim.weight_decay, **options)


def lr_factor(optim: OptimConfig, updates: int) -> Callable[[int], float]:
    """update (from 0) -> factor of the learning rate, as `OptimConfig` says."""
    warmup = round(optim.warmup * updates)

    def factor(update: int) -> float:
        if update < warmup:
            return (update + 1) / (warmup + 1)
        done = (update - warmup) / max(1, updates - warmup)
        if optim.schedule == "linear":
            return 1 - done
        return (1 + math.cos(math.pi * done)) / 2 if optim.schedule == "cosine" else 1.0

    return factor
