"""What benchmarks compare, for any data set: training loops, and ways to run a module.

The loops are ours, its bare computation, and the usual way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.measuring.process import ROOT
from benchmarks.measuring.timing import alternate
from i2m2.losses import negative_log_likelihood
from i2m2.machine.accelerator import make_accelerator
from i2m2.settings import RunConfig
from i2m2.training.config import load_config
from i2m2.training.data import ArrayDataset, to_device
from i2m2.training.loop import Loss, Trainer
from i2m2.training.optimizers import OPTIMIZERS, build_optimizer

# Implementations of an optimiser's step.
UPDATES = {
    "sgd": {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}},
    "rmsprop": {"for-loop": {"foreach": False}, "foreach": {"foreach": True}},
}


def settings_of(kind: type[RunConfig], file: str, row: str, *overrides: str) -> RunConfig:
    """The settings of a table's row, such as `--method intra`, from scratch on the CPU.

    They are as a file of the configs has them.
    """
    path = ROOT / "AVMNIST_and_MIMIC/configs" / file
    general = ["--config", str(path), "--device", "cpu", "--init", "scratch"]
    return load_config(kind, [*general, *row.split(), *overrides], "benchmark")


def subset(split: ArrayDataset, size: int) -> ArrayDataset:
    """`size` rows from all over the split, every row more than once if it has fewer."""
    pick = np.resize(np.random.default_rng(0).permutation(len(split)), size)
    y, rows, id = split.y[pick], split.rows[pick], split.id[pick]
    return ArrayDataset(split.inputs, y, rows, id, split.prepare, source=split.source)


class Ours:
    """Our training of one row, without its evaluation and files."""

    def __init__(
        self,
        config: RunConfig,
        model: nn.Module,
        train: ArrayDataset,
        loss: Loss = negative_log_likelihood,
    ) -> None:
        self.config, self.model = config, model
        self.train = train.select(model.modalities)
        self.accelerator = make_accelerator(config)
        self.trainer = Trainer(model, config, self.accelerator, loss, None, len(train))
        self.epoch = -1

    def one_pass(self) -> float:
        """The real epoch of `i2m2.training.loop.fit` -> the mean loss."""
        self.epoch += 1
        return self.trainer.train_epoch(self.train, self.epoch)

    def pass_of_a_run(self) -> float:
        """`one_pass` with the threads that a run takes where none are set."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.usual_threads or threads)
        loss = self.one_pass()
        torch.set_num_threads(threads)
        return loss


def bare_steps(
    config: RunConfig, model: nn.Module, train: ArrayDataset, steps: int
) -> Callable[[], None]:
    """What no training can do without: forward, loss, backward, clipping and update.

    It is done on one batch that is prepared already.
    """
    batch = to_device(train[np.arange(config.optim.batch_size)], torch.device("cpu"), train.prepare)
    inputs = {name: batch["inputs"][name] for name in model.modalities}
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


def usual_pass(
    config: RunConfig, model: nn.Module, samples: list, workers: int
) -> Callable[[], tuple[float, Tensor, Tensor]]:
    """A training pass as it is usually written -> mean loss, outputs and labels of all examples."""
    read = set().union(*(expert.modalities for expert in model.experts.values()))
    optimizer = build_optimizer(list(model.parameters()), config.optim)
    size = config.optim.batch_size
    batches = DataLoader(samples, batch_size=size, shuffle=True, num_workers=workers)

    def run() -> tuple[float, Tensor, Tensor]:
        model.train()
        total, outputs, labels = 0.0, [], []
        for *values, y in batches:
            named = zip(config.modalities, values, strict=True)
            inputs = {name: x.float() for name, x in named if name in read}
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


def replaced(
    model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """A copy with `make(module)` in the place of every module of a kind below it."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
    return model


def passes(encoder: nn.Module, x: Tensor, repeats: int, threads: int) -> Callable[[], None]:
    """Forward and backward passes in training mode."""

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(repeats):
            encoder.zero_grad()
            encoder(x).sum().backward()

    return run


def result(encoder: nn.Module, x: Tensor) -> list[Tensor]:
    """Features and gradients of one pass.

    The features' weights differ, so that no gradient cancels out.
    """
    encoder.zero_grad()
    features = encoder(x)
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return [features.detach(), *(p.grad.clone() for p in encoder.parameters())]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest absolute difference, relative to the largest value of each tensor."""
    pairs = zip(a, b, strict=True)
    return max(((x - y).abs().max() / x.abs().max().clamp_min(1e-12)).item() for x, y in pairs)


def compare(
    variants: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    threads: int,
    rounds: int,
    repeats: int,
) -> dict[str, tuple]:
    """{variant: (seconds per forward and backward pass, difference of features, of gradients)}.

    The differences are relative, from the first variant's.
    """
    torch.set_num_threads(threads)
    results = {name: result(module, inputs[name]) for name, module in variants.items()}
    tasks = {
        name: passes(module, inputs[name], repeats, threads) for name, module in variants.items()
    }
    seconds = alternate(tasks, rounds)
    first = next(iter(results.values()))
    return {name: (seconds[name] / repeats, *_apart(first, results[name])) for name in variants}


def _apart(ours: list[Tensor], other: list[Tensor]) -> tuple[float, float]:
    """Differences of the features, and of the gradients."""
    return difference(ours[:1], other[:1]), difference(ours[1:], other[1:])


def update_row(
    model: nn.Module, rounds: int, repeats: int, optimizer: str = "sgd"
) -> dict[str, tuple]:
    """{implementation of an optimiser: (seconds per step, difference of the weights)}.

    The difference is relative, from the for-loop after one step.
    """
    torch.manual_seed(0)
    gradients = [torch.randn_like(p) for p in model.parameters()]
    tasks, weights = {}, {}
    for name, options in UPDATES[optimizer].items():
        copied = copy.deepcopy(model)
        updater = OPTIMIZERS[optimizer](copied.parameters(), lr=0.05, weight_decay=1e-4, **options)
        for p, gradient in zip(copied.parameters(), gradients, strict=True):
            p.grad = gradient.clone()
        updater.step()
        weights[name] = [p.detach().clone() for p in copied.parameters()]
        tasks[name] = lambda step=updater.step: [step() for _ in range(repeats)]
    seconds = alternate(tasks, rounds)
    usual = weights["for-loop"]
    return {name: (seconds[name] / repeats, difference(usual, weights[name])) for name in tasks}
