"""The tiny FIBER of the synthetic data, pre-trained on first use."""

from __future__ import annotations

from pathlib import Path

import torch

from i2m2.files import make_once
from VQA_and_NLVR2.backbones.base import BackboneSettings

FOLDER = Path(
    "data/fiber_tiny"
)  # of weights.ckpt and the tokenizer, which the synthetic configs name


def make_tiny_fiber_once(settings: BackboneSettings) -> None:
    """Pre-train the weights that `settings` names if they are those of FOLDER and not there yet:
    minutes on a CPU."""
    if settings.checkpoint is not None and Path(settings.checkpoint) == FOLDER / "weights.ckpt":
        make_once(FOLDER, _make)


def _make(folder: Path) -> None:
    from VQA_and_NLVR2.make_synthetic import save_tokenizer
    from VQA_and_NLVR2.pretrain_tiny import SIZES, pretrain

    print(f"{FOLDER}: pre-training the tiny FIBER on generated scenes, this once", flush=True)
    save_tokenizer(folder / "tokenizer")
    model, _ = pretrain(SIZES, folder / "tokenizer")
    torch.save({"state_dict": model.state_dict()}, folder / "weights.ckpt")
