"""The optimisers are torch's own."""

import copy

import pytest
import torch

from i2m2.training.optimizers import OPTIMIZERS

TORCH = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adamw": torch.optim.AdamW}
OPTIONS = {"lr": 0.1, "weight_decay": 0.01}


def trained(optimizer, model, steps=3):
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((4, 3), step + 1.0)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_schedules_and_states_are_those_of_torch_bit_for_bit(name):
    model = torch.nn.Linear(3, 2)
    weights = []
    for kind in (OPTIMIZERS[name], TORCH[name]):
        own = copy.deepcopy(model)
        optimizer = kind(own.parameters(), **OPTIONS)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        trained(optimizer, own)
        schedule.step()
        resumed = kind(own.parameters(), **OPTIONS)
        resumed.load_state_dict(optimizer.state_dict())
        weights.append(trained(resumed, own))
        assert isinstance(resumed, TORCH[name])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*weights, strict=True))
