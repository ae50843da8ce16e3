"""The optimisers, without what torch.compile alone needs of them, and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import unwrap

import torch
from torch.optim import Optimizer

from i2m2.settings import OptimConfig

# Of an optimiser, what imports torch._dynamo to be left out of compiled graphs.
LEFT_OUT = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(kind: type[Optimizer]) -> type[Optimizer]:
    """An optimiser that loads torch._dynamo nowhere, which takes as long as torch itself.

    Its methods are the same functions without their decorators. It can stand beside a compiled
    model, but not in a compiled step.
    """
    methods = {name: unwrap(getattr(kind, name)) for name in LEFT_OUT}
    step = torch.no_grad()(unwrap(kind.step))  # torch's own decorator does this and breaks graphs
    return type(kind.__name__, (kind,), {**methods, "step": step})


OPTIMIZERS = {
    "sgd": eager(torch.optim.SGD),
    "rmsprop": eager(torch.optim.RMSprop),
    "adamw": eager(torch.optim.AdamW),
}


def build_optimizer(parameters: list, optim: OptimConfig) -> Optimizer:
    """The optimiser named in the settings, over parameters or groups of them."""
    options = {} if optim.name == "adamw" else {"momentum": optim.momentum}
    # All parameters at once; RMSprop has no fused kernel.
    options |= {"foreach": True} if optim.name == "rmsprop" else {"fused": True}
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
