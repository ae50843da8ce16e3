"""The rows of Table 1 that benchmarks/avmnist.py trains, and what it compares of each."""

from __future__ import annotations

import copy

import numpy as np
from torch import nn

from AVMNIST_and_MIMIC.avmnist.experiment import build_model
from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTConfig
from AVMNIST_and_MIMIC.encoders import LeNet
from benchmarks.compared.avmnist_encoder import of_modules
from benchmarks.compared.training import (
    Ours,
    bare_steps,
    replaced,
    settings_of,
    subset,
    usual_pass,
)
from benchmarks.measuring.timing import alternate
from i2m2.training.data import ArrayDataset, Data, seed_everything

# Of Table 1.
ROWS = {
    "image": "--method unimodal_image",
    "audio": "--method unimodal_audio",
    "inter concat": "--method inter --fusion concat",
    "inter low_rank_tensor": "--method inter --fusion low_rank_tensor",
    "intra": "--method intra",
    "i2m2 concat": "--method i2m2 --fusion concat",
    "i2m2 low_rank_tensor": "--method i2m2 --fusion low_rank_tensor",
}


def config_of(row: str) -> AVMNISTConfig:
    """The settings of a row of Table 1, as configs/avmnist.yaml has them, on the CPU."""
    return settings_of(AVMNISTConfig, "avmnist.yaml", ROWS[row])


def new_model(config: AVMNISTConfig) -> nn.Module:
    """Always with the same weights."""
    seed_everything(config.seed)
    return build_model(config)


def usual_samples(train: ArrayDataset) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """A tuple per example, held in memory.

    image float64 [1, 28, 28], audio float64 [1, 112, 112], label.
    """
    batch = train[np.arange(len(train))]
    inputs = (
        x.numpy().reshape(len(train), 1, side, side) / 255
        for x, side in zip(batch["inputs"].values(), (28, 112), strict=True)
    )
    return list(zip(*inputs, batch["y"].tolist(), strict=True))


def steps_of(row: str, steps: int) -> int:
    """The image row's steps are short: it takes twice as many."""
    return steps * 2 if row == "image" else steps


def loop_ratio(row: str, data: Data, steps: int, rounds: int) -> tuple[float, float]:
    """Seconds per step: ours, bare."""
    config, steps = config_of(row), steps_of(row, steps)
    train = subset(data.splits["train"], steps * config.optim.batch_size)
    model = new_model(config)
    tasks = {
        "bare": bare_steps(config, copy.deepcopy(model), train, steps),
        "ours": Ours(config, model, train).one_pass,
    }
    seconds = alternate(tasks, rounds)
    return seconds["ours"] / steps, seconds["bare"] / steps


def usual_ratio(
    row: str, data: Data, steps: int, rounds: int, workers: tuple[int, ...]
) -> dict[str | int, float]:
    """Seconds per training pass: 'ours', and per number of workers the usual way, whose encoders
    are PyTorch's modules."""
    config = config_of(row)
    train = subset(data.splits["train"], steps_of(row, steps) * config.optim.batch_size)
    samples, model = usual_samples(train), new_model(config)
    plain = (replaced(model, LeNet, of_modules) for _ in workers)
    tasks = {n: usual_pass(config, own, samples, n) for n, own in zip(workers, plain, strict=True)}
    return alternate(tasks | {"ours": Ours(config, model, train).pass_of_a_run}, rounds)
