"""NLVR2 with a tiny FIBER of random weights on a few generated pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from i2m2.model import ProductOfExperts
from i2m2.names import methods_of
from i2m2.training.config import load_config
from i2m2.training.data import Batch, to_device
from tests.conftest import ROOT
from VQA_and_NLVR2 import train as training
from VQA_and_NLVR2.nlvr2.experiment import build_model, load
from VQA_and_NLVR2.nlvr2.settings import NLVR2Config

CONFIG = str(ROOT / "VQA_and_NLVR2/configs/nlvr2.yaml")
SYNTHETIC = str(ROOT / "VQA_and_NLVR2/configs/nlvr2_synthetic.yaml")
SIZES = str(ROOT / "VQA_and_NLVR2/configs/fiber_tiny.json")
METHODS = methods_of(("image", "text"))


def tiny(files: Path, *more: str, config: str = CONFIG) -> list[str]:
    """Arguments for the tiny FIBER with random weights on a few examples; later ones win."""
    given = {
        "backbone.kind": "fiber_random",
        "backbone.checkpoint": "null",
        "backbone.sizes": SIZES,
        "backbone.tokenizer": files / "tokenizer",
        "model.hidden": 32,
        "data.source": "files",
        "data.dir": files,
        "data.train_size": 12,
        "workers": 0,
        "threads": 1,
        "optim.epochs": 1,
        "optim.batch_size": 8,
        "optim.micro_batches": 1,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["--config", config, *words, *more]


def settings(files: Path, *more: str) -> NLVR2Config:
    return load_config(NLVR2Config, tiny(files, *more), "train")


def train(files: Path, out: Path, *more: str, config: str = CONFIG) -> Path:
    """-> folder of the run."""
    training.main(tiny(files, "--out", str(out), *more, config=config))
    return max(out.rglob("DONE"), key=lambda path: path.stat().st_mtime_ns).parent


def a_model(files: Path, method: str = "i2m2", *more: str) -> tuple[ProductOfExperts, Batch]:
    """The row's model with the gates of its fusion open, and a batch of four examples of test1."""
    torch.manual_seed(0)
    config = settings(files, "--method", method, *more)
    model = build_model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "alpha_" in name:
                parameter.fill_(0.5)
    split = load(config).splits["test"].select(model.modalities)
    return model, to_device(split[np.array([0, 3, 5, 9])], torch.device("cpu"), split.prepare)
