"""The rows of Table 2 that benchmarks/mimic.py trains, and the usual models and data."""

from __future__ import annotations

import operator
from functools import reduce
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from AVMNIST_and_MIMIC.mimic.experiment import build_model
from AVMNIST_and_MIMIC.mimic.settings import MIMICConfig
from benchmarks.compared.training import Ours, replaced, settings_of, usual_pass
from benchmarks.measuring.timing import alternate
from i2m2.encoders.series import SeriesGRU
from i2m2.training.data import ArrayDataset, seed_everything

# Of Table 2.
ROWS = {
    "static": "--method unimodal_static",
    "series": "--method unimodal_series",
    "intra": "--method intra",
    "inter concat": "--method inter --fusion concat",
    "inter low_rank_tensor": "--method inter --fusion low_rank_tensor",
    "i2m2 concat": "--method i2m2 --fusion concat",
}


def config_of(row: str, folder: Path | None = None) -> MIMICConfig:
    """The settings of a row of Table 2, as configs/mimic.yaml has them, on the CPU."""
    place = ["--data.dir", str(folder)] if folder else []
    return settings_of(MIMICConfig, "mimic.yaml", ROWS[row], *place)


def new_model(config: MIMICConfig) -> nn.Module:
    """Always with the same weights."""
    seed_everything(config.seed)
    return build_model(config)


class TorchGRU(nn.Module):
    """What a `SeriesGRU` computes, by `nn.GRU`; it takes the modules over."""

    def __init__(self, encoder: SeriesGRU, time_first: bool = False) -> None:
        super().__init__()
        self.gru, self.projection, self.time_first = encoder.gru, encoder.projection, time_first
        self.gru.batch_first = not time_first

    def forward(self, x: Tensor) -> Tensor:
        if self.time_first:
            hidden = self.gru(x.transpose(0, 1))[0].transpose(0, 1)
        else:
            hidden = self.gru(x)[0]
        return self.projection(hidden).flatten(1)


class UsualProduct(nn.Module):
    """The product of a model's experts with no more to it: logits added, `nn.GRU`.

    The weights are copies.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.experts = replaced(model, SeriesGRU, TorchGRU).experts

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, None]:
        logits = (expert(inputs) for expert in self.experts.values())
        return reduce(operator.add, logits).log_softmax(dim=-1), None


def usual_samples(train: ArrayDataset) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """A tuple per stay: static [5], series [24, 12], label."""
    return [
        (train.inputs["static"][i], train.inputs["series"][i], int(y))
        for i, y in zip(train.rows, train.y, strict=True)
    ]


def refuse_unequal_loss(ours: nn.Module, usual: nn.Module, train: ArrayDataset, size: int) -> None:
    """AssertionError unless both models give the first examples the same loss."""
    batch = train[np.arange(min(size, len(train)))]
    losses = [F.nll_loss(model(batch["inputs"])[0], batch["y"]) for model in (ours, usual)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


def usual_ratio(
    row: str, train: ArrayDataset, workers: int, threads: int, rounds: int
) -> dict[str, float]:
    """Seconds per training pass: 'usual', 'ours'."""
    torch.set_num_threads(threads)
    config = config_of(row)
    model = new_model(config)
    usual = UsualProduct(model)
    refuse_unequal_loss(model, usual, train, config.optim.batch_size)
    tasks = {
        "usual": usual_pass(config, usual, usual_samples(train), workers),
        "ours": Ours(config, model, train).pass_of_a_run,
    }
    return alternate(tasks, rounds)
