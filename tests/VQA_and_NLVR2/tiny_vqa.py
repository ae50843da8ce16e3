"""A small VQA-VS of generated pictures, and the arguments that make its features with a tiny FIBER
of random weights."""

from pathlib import Path

from i2m2.training.config import load_config
from tests.conftest import ROOT
from VQA_and_NLVR2.extract_features import extract_features
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig

CONFIG = str(ROOT / "VQA_and_NLVR2/configs/vqa_vs.yaml")
SIZES = str(ROOT / "VQA_and_NLVR2/configs/fiber_tiny.json")
SCENES = 60  # six questions each


def arguments(data: Path, features: Path, *more: str) -> list[str]:
    """Later ones win."""
    given = {
        "backbone.kind": "fiber_random",
        "backbone.checkpoint": "null",
        "backbone.sizes": SIZES,
        "backbone.image_size": "null",
        "backbone.max_text_length": "null",
        "backbone.tokenizer": data / "tokenizer",
        "model.hidden": 32,
        "data.dir": data,
        "features.dir": features,
        "features.dtype": "float32",
        "threads": 1,
        "optim.epochs": 1,
        "optim.batch_size": 64,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["--config", CONFIG, *words, *more]


def settings(data: Path, features: Path, *more: str) -> VQAConfig:
    return load_config(VQAConfig, arguments(data, features, *more), "train")


def extracted(data: Path, features: Path, *more: str) -> VQAConfig:
    """Make the features -> the settings."""
    config = settings(data, features, *more)
    extract_features(config, again=True)
    return config
