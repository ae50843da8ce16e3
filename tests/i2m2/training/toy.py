"""A small model and data for tests of the training loop. As a program (under torchrun) it trains
and leaves the run in a folder."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from i2m2.fusion import Concat
from i2m2.losses import negative_log_likelihood
from i2m2.machine.accelerator import make_accelerator, start_tracker
from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
from i2m2.settings import OptimConfig, RunConfig
from i2m2.training.data import ArrayDataset, seed_everything
from i2m2.training.evaluate import predict
from i2m2.training.loop import Trainer, fit
from i2m2.training.run import Run, run_dir


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RunConfig):
    modalities: ClassVar[tuple[str, ...]] = ("left", "right")


def toy_config(out, **optim):
    settings = {"name": "sgd", "lr": 0.1, "epochs": 3, "batch_size": 10, "clip_norm": 1.0, **optim}
    run = {"dataset": "toy", "method": "i2m2", "out": str(out), "device": "cpu", "threads": 1}
    return ToyConfig(**run, optim=OptimConfig(**settings))


def toy_split(n, first_id, labels=None):
    """[n, 3] and [n, 4] inputs whose signs decide among 3 classes, n not a multiple of anything
    used here."""
    rng = np.random.default_rng(first_id)
    inputs = {
        "left": rng.normal(size=(n, 3)).astype(np.float32),
        "right": rng.normal(size=(n, 4)).astype(np.float32),
    }
    y = (inputs["left"][:, 0] > 0).astype(np.int64) + (inputs["right"][:, 0] > 0)
    if labels:
        y = np.stack([(y > k).astype(np.int64) for k in range(labels)], axis=1)
    return ArrayDataset(inputs, y, np.arange(n), id=np.arange(n) + first_id)


class Heads(nn.Module):
    """Logits of L labels: [B, D] -> [B, L, C]."""

    def __init__(self, features, labels, classes):
        super().__init__()
        self.linear = nn.Linear(features, labels * classes)
        self.shape = (labels, classes)

    def forward(self, h):
        return self.linear(h).unflatten(-1, self.shape)


def toy_model(head=lambda d: nn.Linear(d, 3)):
    experts = {
        "left": UnimodalExpert("left", nn.Sequential(nn.Linear(3, 8), nn.Tanh()), head(8)),
        "right": UnimodalExpert("right", nn.Sequential(nn.Linear(4, 8), nn.Tanh()), head(8)),
        "inter": FusionExpert(
            {"left": nn.Linear(3, 8), "right": nn.Linear(4, 8)},
            Concat({"left": 8, "right": 8}),
            head(16),
        ),
    }
    return ProductOfExperts(experts)


def train_toy(config, data=(43, 27), model=None):
    """-> (trained model, its run). `data`: examples of train and val, or the two splits."""
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        facts, writes = {"fingerprint": "toy"}, accelerator.is_main_process
        run = Run.open(run_dir(config), config, facts, writes)
    torch.set_num_threads(config.threads)
    start_tracker(accelerator, config, run.dir)
    seed_everything(config.seed)
    model = toy_model() if model is None else model
    train, val = (toy_split(n, 1000 * i) if isinstance(n, int) else n for i, n in enumerate(data))
    trainer = Trainer(model, config, accelerator, negative_log_likelihood, None, len(train))
    fit(trainer, train, val, run)
    predictions = predict(model, val, accelerator, batch_size=4)
    if run.writes:
        run.save_predictions("val", predictions)
    accelerator.end_training()
    return model, run


def threads():
    """The names of this process's threads (Linux)."""
    return [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    train_toy(replace(toy_config(Path(sys.argv[1])), tag="two"))
    # A thread of the process group that outlives it may abort the process at its exit.
    assert not [name for name in threads() if "gloo" in name], threads()
