"""Run the frozen backbone once over a data set, for training heads on its features.

    python -m VQA_and_NLVR2.extract_features --config VQA_and_NLVR2/configs/vqa_vs.yaml --backbone.checkpoint fiber_pretrain.ckpt
    torchrun --nproc-per-node 4 -m VQA_and_NLVR2.extract_features --config ... --device cuda --features.precision bf16 --workers 4

It takes the settings that training takes, and training the features that it made with them. Broken off, the same command goes on;
given several times at once, or by torchrun, the processes share the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import torch

from i2m2.config import RunConfig, load_config
from i2m2.data import seed_everything
from i2m2.errors import SettingsError, run_command
from VQA_and_NLVR2 import vqa, vqa_data
from VQA_and_NLVR2.backbone import build_backbone
from VQA_and_NLVR2.extraction import extract
from VQA_and_NLVR2.features import read_facts
from VQA_and_NLVR2.tiny_fiber import make_tiny_fiber_once

PLANS: dict[type[RunConfig], Callable] = {vqa.VQAConfig: vqa_data.plan_of}  # of `config.data` -> plan, files of the images


def main(argv: list[str] | None = None) -> None:
    """Make the features that the settings describe."""
    from VQA_and_NLVR2.datasets import dataset_of

    argv = sys.argv[1:] if argv is None else argv
    config = load_config(dataset_of(argv).config, argv, "VQA_and_NLVR2.extract_features")
    if type(config) not in PLANS:
        raise SettingsError(f"dataset {config.dataset} has no features that can be extracted; choose vqa_vs")
    if config.threads:
        torch.set_num_threads(config.threads)
    extract_features(config, again=True)


def extract_features(config: RunConfig, again: bool = False) -> None:
    """The same from Python. Features that are complete are left alone, with `again` only if they would be the same again."""
    facts = None if again else read_facts(config.features_folder)
    if facts is not None and facts["complete"]:
        return
    plan, paths = PLANS[type(config)](config.data)
    make_tiny_fiber_once(config.backbone)
    seed_everything(0)  # where parts of a backbone have random weights, they are the same ones every time
    backbone = build_backbone(config.backbone)
    print(backbone.report, flush=True)
    extract(plan, paths, backbone, config.backbone, config.features, config.features_folder, _device(config), config.workers)


def _device(config: RunConfig) -> torch.device:
    kind = config.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device=cuda, but PyTorch finds none here; use --device cpu or auto")
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", 0))) if kind == "cuda" else torch.device(kind)


if __name__ == "__main__":
    run_command(main)
