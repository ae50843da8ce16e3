"""Run the frozen backbone once over a data set, for training heads on its features.

    python -m VQA_and_NLVR2.extract_features --config VQA_and_NLVR2/configs/vqa_vs.yaml --backbone.checkpoint fiber_pretrain.ckpt
    python -m VQA_and_NLVR2.extract_features --config VQA_and_NLVR2/configs/nlvr2.yaml --preset frozen
    torchrun --nproc-per-node 4 -m VQA_and_NLVR2.extract_features --config ... --device cuda --features.precision bf16 --workers 4

It takes the settings that training takes, and training the features that it made with them. Broken
off, the same command goes on; given several times at once, or by torchrun, the processes share the
work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from i2m2.errors import run_command
from i2m2.settings import RunConfig
from i2m2.training.config import load_config
from i2m2.training.data import seed_everything
from VQA_and_NLVR2.backbones.base import build_backbone
from VQA_and_NLVR2.features.cache import read_facts
from VQA_and_NLVR2.features.extraction import extract
from VQA_and_NLVR2.features.frozen import device_of
from VQA_and_NLVR2.nlvr2 import experiment as nlvr2
from VQA_and_NLVR2.synthetic.tiny_fiber import make_tiny_fiber_once
from VQA_and_NLVR2.vqa_vs import data as vqa_data
from VQA_and_NLVR2.vqa_vs import experiment as vqa

PLANS: dict[type[RunConfig], Callable] = {  # settings -> plan, files of the images
    vqa.VQAConfig: lambda config: vqa_data.plan_of(config.data),
    nlvr2.NLVR2Config: nlvr2.plan_of,
}


def main(argv: list[str] | None = None) -> None:
    """Make the features that the settings describe."""
    from VQA_and_NLVR2.datasets import dataset_of

    argv = sys.argv[1:] if argv is None else argv
    config = load_config(dataset_of(argv).config, argv, "VQA_and_NLVR2.extract_features")
    if config.threads:
        torch.set_num_threads(config.threads)
    extract_features(config, again=True)


def extract_features(config: RunConfig, again: bool = False) -> None:
    """The same from Python. Features that are complete are left alone, with `again` only if they
    would be the same again."""
    facts = None if again else read_facts(config.features_folder)
    if facts is not None and facts["complete"]:
        return
    plan, paths = PLANS[type(config)](config)
    make_tiny_fiber_once(config.backbone)
    seed_everything(
        0
    )  # where parts of a backbone have random weights, they are the same ones every time
    backbone = build_backbone(config.backbone)
    print(backbone.report, flush=True)
    device, folder = device_of(config.device), config.features_folder
    extract(plan, paths, backbone, config.backbone, config.features, folder, device, config.workers)


if __name__ == "__main__":
    run_command(main)
