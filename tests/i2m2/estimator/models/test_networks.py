"""The default networks: their dropout, and which model answers for which row."""

import numpy as np
import pytest
import torch

from i2m2.estimator.families import Categorical
from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.members import Network
from i2m2.estimator.models.networks import dropout, outputs_of
from i2m2.estimator.models.training import TrainingSettings
from i2m2.estimator.prepared.preparation import Preparation


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.9])
def test_dropout_leaves_out_a_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(5, 400, 101, requires_grad=True)
    y = dropout(x, p)
    share = (y == 0).float().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    assert y.detach().unique().numpy() == pytest.approx([0, 1 / (1 - p)])
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    torch.manual_seed(0)
    assert torch.equal(dropout(x, p), y)


def test_dropout_of_nearly_everything_and_of_one_number():
    assert dropout(torch.ones(1, 1, 1), 1 - 1e-7).shape == (1, 1, 1)


def test_neighbouring_numbers_are_left_out_independently():
    torch.manual_seed(0)
    gone = dropout(torch.ones(40_000, 8), 0.5) == 0
    correlation = np.corrcoef(gone.numpy().T)
    assert np.abs(correlation - np.eye(8)).max() < 0.03


def test_held_out_rows_are_answered_by_the_model_that_did_not_see_them():
    rng = np.random.default_rng(0)
    given = read_blocks(
        {"a": rng.normal(size=(70, 3)), "b": rng.normal(size=(70, 9, 2))}, None, None
    )
    blocks = Preparation().fit(given, 0).transform(given)
    folds = np.repeat([2, 0, -1, 1], [40, 7, 3, 20])  # unequal, and rows of none
    y = rng.integers(3, size=(70, 1))
    network = Network(TrainingSettings(epochs=2))
    found = network.fit(Examples(blocks, ("a", "b"), y, folds, Categorical([3]), 0))
    every = outputs_of(network.network, blocks, torch.arange(70).expand(3, -1))
    of_all = network.family.network_outputs(every)
    known = folds >= 0
    own = of_all[folds[known], np.flatnonzero(known)]
    np.testing.assert_allclose(found[known], own, rtol=0, atol=1e-12)
    assert np.isnan(found[~known]).all()
