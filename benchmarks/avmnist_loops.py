"""The training loops that benchmarks/avmnist.py compares: ours, its bare computation, and the usual way to write it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from AVMNIST_and_MIMIC.avmnist import AVMNISTConfig, Data, build_model
from benchmarks.timing import alternate
from i2m2.config import load_config
from i2m2.data import ArrayDataset, seed_everything, to_device
from i2m2.losses import negative_log_likelihood
from i2m2.train import Loss, _train_epoch, build_optimizer, lr_factor, make_accelerator

ROOT = Path(__file__).resolve().parents[1]
ROWS = {  # of Table 1
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
    path = ROOT / "AVMNIST_and_MIMIC/configs/avmnist.yaml"
    return load_config(
        AVMNISTConfig, ["--config", str(path), "--device", "cpu", "--init", "scratch", *ROWS[row].split()], "benchmark"
    )


def new_model(config: AVMNISTConfig) -> nn.Module:
    """Always with the same weights."""
    seed_everything(config.seed)
    return build_model(config)


def subset(split: ArrayDataset, size: int) -> ArrayDataset:
    """`size` rows from all over the split, every row more than once if it has fewer."""
    pick = np.resize(np.random.default_rng(0).permutation(len(split)), size)
    return ArrayDataset(split.inputs, split.y[pick], split.rows[pick], split.id[pick], split.prepare, source=split.source)


class Ours:
    """Our training of one row; `one_pass` is the real epoch of `i2m2.train.fit`, without its evaluation and files."""

    def __init__(self, config: AVMNISTConfig, model: nn.Module, train: ArrayDataset, loss: Loss = negative_log_likelihood) -> None:
        self.config, self.model, self.train, self.loss = config, model, train.only(model.modalities), loss
        self.accelerator = make_accelerator(config)
        self.optimizer = build_optimizer(list(model.parameters()), config.optim)
        self.scheduler = LambdaLR(self.optimizer, lr_factor(config.optim, 10**9))
        self.wrapped = self.accelerator.prepare(model)
        self.epoch = -1

    def one_pass(self) -> float:
        """-> the mean loss."""
        self.epoch += 1
        state = self.wrapped, self.train, self.optimizer, self.scheduler, self.loss, self.config, self.epoch, self.accelerator
        return _train_epoch(*state)


def bare_steps(config: AVMNISTConfig, model: nn.Module, train: ArrayDataset, steps: int) -> Callable[[], None]:
    """What no training can do without: forward, loss, backward, clipping and update, on one batch that is prepared already."""
    batch = to_device(train[np.arange(config.optim.batch_size)], torch.device("cpu"), train.prepare)
    inputs = {name: x for name, x in batch["inputs"].items() if any(name in e.modalities for e in model.experts.values())}
    parameters = list(model.parameters())
    optimizer = build_optimizer(parameters, config.optim)
    model.train()

    def run() -> None:
        for _ in range(steps):
            log_prob, _ = model(inputs)
            F.nll_loss(log_prob, batch["y"]).backward()
            nn.utils.clip_grad_norm_(parameters, config.optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad()

    return run


def usual_samples(train: ArrayDataset) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """A tuple per example, held in memory: image float64 [1, 28, 28], audio float64 [1, 112, 112], label."""
    batch = train[np.arange(len(train))]
    inputs = (
        x.numpy().reshape(len(train), 1, side, side) / 255 for x, side in zip(batch["inputs"].values(), (28, 112), strict=True)
    )
    return list(zip(*inputs, batch["y"].tolist(), strict=True))


def usual_pass(config: AVMNISTConfig, model: nn.Module, samples: list, workers: int) -> Callable[[], tuple[float, Tensor, Tensor]]:
    """A training pass as it is usually written -> mean loss, outputs and labels of all examples."""
    names = {name for expert in model.experts.values() for name in expert.modalities}
    optimizer = build_optimizer(list(model.parameters()), config.optim)
    batches = DataLoader(samples, batch_size=config.optim.batch_size, shuffle=True, num_workers=workers)

    def run() -> tuple[float, Tensor, Tensor]:
        model.train()
        total, outputs, labels = 0.0, [], []
        for image, audio, y in batches:
            inputs = {name: x.float() for name, x in (("image", image), ("audio", audio)) if name in names}
            optimizer.zero_grad()
            log_prob, _ = model(inputs)
            loss = F.nll_loss(log_prob, y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
            optimizer.step()
            total += loss.item() * len(y)
            outputs.append(log_prob.detach())
            labels.append(y)
        return total / len(samples), torch.cat(outputs), torch.cat(labels)

    return run


def steps_of(row: str, steps: int) -> int:
    """The image row's steps are short: it takes twice as many."""
    return steps * 2 if row == "image" else steps


def loop_ratio(row: str, data: Data, steps: int, rounds: int) -> tuple[float, float]:
    """Seconds per step: ours, bare."""
    config, steps = config_of(row), steps_of(row, steps)
    train = subset(data.splits["train"], steps * config.optim.batch_size)
    model = new_model(config)
    tasks = {"bare": bare_steps(config, copy.deepcopy(model), train, steps), "ours": Ours(config, model, train).one_pass}
    seconds = alternate(tasks, rounds)
    return seconds["ours"] / steps, seconds["bare"] / steps


def usual_ratio(row: str, data: Data, steps: int, rounds: int, workers: tuple[int, ...]) -> dict[str | int, float]:
    """Seconds per training pass: 'ours', and per number of workers the usual way."""
    config = config_of(row)
    train = subset(data.splits["train"], steps_of(row, steps) * config.optim.batch_size)
    samples, model = usual_samples(train), new_model(config)
    tasks = {n: usual_pass(config, copy.deepcopy(model), samples, n) for n in workers} | {
        "ours": Ours(config, model, train).one_pass
    }
    return alternate(tasks, rounds)
