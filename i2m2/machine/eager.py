"""Optimisers without what torch.compile alone needs of them."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import Optimizer

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
