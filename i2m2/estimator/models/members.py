"""The models of an expert, one per fold of the training rows: linear, network, trees, or a user's.

`fit` trains model e on the rows outside fold e and returns each row's outputs [n, L, K] by the
model that did not see it (NaN where the expert's modalities are absent); `outputs` gives new rows
the mean of all models."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from i2m2.estimator.given.values import errors_of
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.linear import Linear
from i2m2.estimator.models.networks import (
    AdditiveNetwork,
    ModuleStack,
    StackedNetwork,
    outputs_of,
    rows_of,
    tensors_of,
)
from i2m2.estimator.models.scikit_learn import ScikitLearn
from i2m2.estimator.models.training import TrainingSettings, padded, train
from i2m2.estimator.models.trees import Trees
from i2m2.estimator.prepared.forms import Prepared, PreparedBlocks


class Fitted:
    """A model that was fitted on the same examples before, and its outputs of them."""

    def __init__(self, member: Linear, held_out: np.ndarray) -> None:
        self.member, self.held_out = member, held_out

    def fit(self, examples: Examples) -> np.ndarray:
        return self.held_out

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        return self.member.outputs(blocks)


class Network:
    """The default network or a user's module, see `networks`."""

    def __init__(self, settings: TrainingSettings, given: Any = None) -> None:
        self.settings, self.given = settings, given

    def fit(self, examples: Examples) -> np.ndarray:
        self.modalities, self.family = examples.modalities, examples.family
        self.models = examples.models
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(examples.seed)
            self.build(examples.blocks)
            self._train(examples, self.settings)
        return self.held_out(examples)

    def held_out(self, examples: Examples) -> np.ndarray:
        """Each row's outputs by the model that did not see it."""
        found = examples.unknown()
        rows = [held_out for _, held_out in examples.splits()]
        for own, outputs in zip(rows, self._each(examples.blocks, padded(rows)[0]), strict=True):
            found[own] = outputs[: len(own)]
        return found

    def build(self, blocks: PreparedBlocks) -> None:
        """The untrained network, of the widths that the blocks have."""
        shape = self.family.shape
        self.shapes = {name: _shape_of(blocks[name]) for name in self.modalities}
        if self.given is None:
            known = (self.models, blocks, self.modalities, shape, self.settings)
            self.network = StackedNetwork(*known)
        else:
            with errors_of(self.given, self.modalities):
                self.network = ModuleStack(self.models, self.given, blocks, self.modalities, shape)

    def _train(
        self, examples: Examples, settings: TrainingSettings, begin_with: bool = False
    ) -> None:
        inputs = tensors_of(examples.blocks, self.modalities)
        y = torch.from_numpy(examples.y)
        y = y.float() if y.is_floating_point() else y

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return self.family.network_loss(self.network(rows_of(inputs, rows)), y[rows])

        generator = torch.Generator().manual_seed(examples.seed)
        train([self.network], loss, examples.folds, settings, generator, begin_with)

    def _each(self, blocks: PreparedBlocks, rows: torch.Tensor) -> np.ndarray:
        """Every model's outputs for its rows [E, m], [E, m, L, K]."""
        return self.family.network_outputs(outputs_of(self.network, blocks, rows))

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        every = torch.arange(len(next(iter(blocks.values()))))
        return self._each(blocks, every.expand(self.models, -1)).mean(axis=0)


class SumOfNetworks(Network):
    """Default networks of one modality each, trained alone and then further, together. `trained`:
    some that were trained alone already, on a model per fold of all that have the modality."""

    def __init__(self, settings: TrainingSettings, trained: Mapping[str, Network]) -> None:
        super().__init__(settings)
        self.trained = trained

    def fit(self, examples: Examples) -> np.ndarray:
        self.modalities, self.family = examples.modalities, examples.family
        self.models = examples.models
        parts = [self._alone(examples, name) for name in self.modalities]
        self.network = AdditiveNetwork([copy.deepcopy(part.network) for part in parts])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(examples.seed)
            self._train(examples, self.settings.for_fine_tuning(), begin_with=True)
        return self.held_out(examples)

    def _alone(self, examples: Examples, name: str) -> Network:
        known = self.trained.get(name)
        if known is not None and known.models == examples.models:  # else of other folds
            return known
        network = Network(self.settings)
        network.fit(replace(examples, modalities=(name,)))
        return network


def _shape_of(block: Prepared) -> tuple[int, tuple[int, ...] | None]:
    """Width of the dense form, and the grid's shape."""
    grid = None if block.grid is None else tuple(block.grid.shape[1:])
    return block.dense.shape[1], grid


Member = Linear | Fitted | Trees | Network | ScikitLearn
