"""The tiny FIBER of the synthetic data, pre-trained on first use."""

from __future__ import annotations

from pathlib import Path

import torch

from i2m2.files import make_once
from VQA_and_NLVR2.backbones.settings import BackboneSettings
from VQA_and_NLVR2.synthetic.generate import save_tokenizer

# Of weights.ckpt and the tokenizer, which the synthetic configs name.
FOLDER = Path("data/fiber_tiny")
SIZES = Path(__file__).parents[1] / "configs/fiber_tiny.json"


def make_tiny_fiber_once(settings: BackboneSettings) -> None:
    """Pre-train the weights that `settings` names if they are those of FOLDER and not there yet:
    minutes on a CPU."""
    if settings.checkpoint is not None and Path(settings.checkpoint) == FOLDER / "weights.ckpt":
        make_once(FOLDER, _make)


def _make(folder: Path) -> None:
    from VQA_and_NLVR2.synthetic.pretraining import pretrain  # here: it needs torchvision

    print(f"{FOLDER}: pre-training the tiny FIBER on generated scenes, this once", flush=True)
    save_tokenizer(folder / "tokenizer")
    model, _ = pretrain(SIZES, folder / "tokenizer")
    torch.save({"state_dict": model.state_dict()}, folder / "weights.ckpt")
