"""Networks of all folds trained at once."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from i2m2.estimator.models.networks import ModuleStack, StackedNetwork, rows_of, tensors_of
from i2m2.estimator.models.training import LEAST_GAIN, SHARE_WAITED, TrainingSettings, train
from i2m2.estimator.prepared.forms import Prepared

ROWS, MODELS = 90, 3
SETTINGS = TrainingSettings(dropout=0.0, patience=2, epochs=60, batch_size=30, lr=0.02)


@pytest.fixture
def blocks():
    values = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    grid = np.repeat(values[:, :, None], 4, axis=2)
    of_columns = (["x", "y"], np.zeros(2, bool))
    return {"a": Prepared(values, values, *of_columns, grid, np.ones(ROWS, bool))}


def ours(blocks):
    return StackedNetwork(MODELS, blocks, ["a"], (1, 2), SETTINGS)


def of_a_user(blocks):
    def make(shape, outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], outputs))

    return ModuleStack(MODELS, make, blocks, ["a"], (1, 2))


@pytest.mark.parametrize("kind", [ours, of_a_user])
def test_every_model_ends_with_its_best_epoch_and_is_not_computed_once_it_has_stopped(kind, blocks):
    torch.manual_seed(0)
    network, inputs = kind(blocks), tensors_of(blocks, ["a"])
    y = torch.from_numpy((blocks["a"].dense[:, 0] > 0).astype(np.int64))
    y[torch.randperm(ROWS)[:20]] = 0
    folds = np.arange(ROWS) % MODELS
    validation = []

    def loss(rows):
        log_prob = network(rows_of(inputs, rows))[:, :, 0].log_softmax(-1)
        found = -log_prob.gather(-1, y[rows].unsqueeze(-1))[..., 0]
        if not network.training:
            of_models = folds[rows[:, 0].numpy()].tolist()
            validation.append(dict(zip(of_models, found.mean(dim=1).tolist(), strict=True)))
        return found

    train([network], loss, folds, SETTINGS, torch.Generator().manual_seed(0))

    models = range(MODELS)
    history = {model: [one[model] for one in validation if model in one] for model in models}
    assert validation[0].keys() == set(models)
    assert len({len(losses) for losses in history.values()}) > 1
    network.eval()
    held_out = torch.stack([torch.from_numpy(np.flatnonzero(folds == e)) for e in models])
    with torch.no_grad():
        found = loss(held_out).mean(dim=1)
    for model, losses in history.items():
        best = kept_epoch(losses)
        waited = max(SETTINGS.patience, math.ceil(SHARE_WAITED * (best + 1)))
        assert len(losses) == min(best + 1 + waited, SETTINGS.epochs)
        torch.testing.assert_close(float(found[model]), losses[best], rtol=0, atol=1e-6)


def kept_epoch(losses):
    """The last that was better than the one kept before."""
    best = 0
    for epoch, one in enumerate(losses):
        if one < losses[best] - LEAST_GAIN:
            best = epoch
    return best
