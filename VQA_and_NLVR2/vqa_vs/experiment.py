"""VQA-VS on the features of a frozen backbone: settings, data, models and losses; the paper's Table
3 and Fig. C.6.

An example is a question about an image; its answer one of thousands, with a soft score for each
that any of ten people gave.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from i2m2.losses import binary_cross_entropy, soft_cross_entropy
from i2m2.model import ProductOfExperts, UnimodalExpert
from i2m2.names import INTER
from i2m2.settings import RunConfig, flatten, to_dict
from i2m2.stats.predictions import Predictions
from i2m2.training.config import load_config
from i2m2.training.data import Data
from i2m2.training.experiment import Experiment
from i2m2.training.loop import Loss
from VQA_and_NLVR2.backbones.base import BackboneSettings
from VQA_and_NLVR2.backbones.heads import HIDDEN, make_head
from VQA_and_NLVR2.features.cache import Features, FeatureSettings, open_features
from VQA_and_NLVR2.vqa_vs.answers import Vocabulary
from VQA_and_NLVR2.vqa_vs.data import VQAData, baseline, said, splits_of, vocabulary_of
from VQA_and_NLVR2.vqa_vs.files import files_of
from VQA_and_NLVR2.vqa_vs.predictions import OTHERS, keep, metrics_of, report, scores

KINDS = {"image": "image", "text": "text", INTER: "fused"}  # the features that each expert reads
BETAS = (0.9, 0.98)  # of AdamW, in every published recipe


@dataclass(frozen=True, kw_only=True)
class VQAModel:
    """The heads.

    Args:
        hidden: width of their hidden layer
    """

    hidden: int = HIDDEN


@dataclass(frozen=True, kw_only=True)
class VQAConfig(RunConfig):
    """Train the heads of one method on VQA-VS with one seed.

    Args:
        dataset: name of the data set
        method: unimodal_image, unimodal_text, intra, inter or i2m2
        fusion: the backbone's own
        loss: paper: binary cross-entropy, of products on their normalised log-probabilities;
            soft_cross_entropy: with the answers' scores scaled to sum to 1; bernoulli: binary
            cross-entropy on the summed logits, each answer on its own
        save_all: of predictions the log-probabilities of all answers too
        data: where the data lie, and which answers there are
        features: of the frozen backbone
        backbone: which backbone, and where its weights come from
        model: the heads
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    metrics: ClassVar[tuple[str, ...]] = ("vqa_score", *OTHERS)

    dataset: Literal["vqa_vs"] = "vqa_vs"
    method: str = "i2m2"
    fusion: Literal[None] = None
    loss: Literal["paper", "soft_cross_entropy", "bernoulli"] = "paper"
    save_all: bool = False
    data: VQAData = field(default_factory=VQAData)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    model: VQAModel = field(default_factory=VQAModel)

    @property
    def features_folder(self) -> Path:
        return Path(
            self.features.dir or self.data.folder.with_name(f"{self.data.folder.name}-features")
        )


def open_vqa(config: VQAConfig) -> tuple[Features, Vocabulary]:
    """The features, and the vocabulary of the configured rule. DataError if either is not to be
    had."""
    files = files_of(config.data.folder)
    features = open_features(
        config.features_folder, config.backbone, config.features, extract_command(config), files
    )
    return features, vocabulary_of(features, config.data.vocabulary)


def extract_command(config: VQAConfig) -> str:
    """What makes the features of these settings: the command with all that its config file has
    otherwise."""
    file = "VQA_and_NLVR2/configs/vqa_vs.yaml"
    usual = flatten(
        to_dict(
            load_config(
                VQAConfig, ["--config", str(Path(__file__).parents[2] / file)], "VQA_and_NLVR2"
            )
        )
    )
    wanted = flatten(to_dict(config)) | {
        "data.dir": config.data.folder,
        "features.dir": config.features_folder,
    }
    words = ["python", "-m", "VQA_and_NLVR2.extract_features", "--config", file]
    for name, value in wanted.items():
        if name.startswith(("data.", "features.", "backbone.")) and (
            value != usual[name] or name.endswith(".dir")
        ):
            words += [
                f"--{name}",
                str(value) if isinstance(value, (str, Path)) else json.dumps(value),
            ]
    return shlex.join(words)


def load(config: VQAConfig) -> Data:
    """The three splits as features; what is left out of them is printed, once where several
    processes load them."""
    if config.data.source == "synthetic":
        from VQA_and_NLVR2.extract_features import extract_features  # here: it imports this module

        extract_features(config)
    features, vocabulary = open_vqa(config)
    splits, sizes = splits_of(features, vocabulary, config.data)
    if int(os.environ.get("RANK", 0)) == 0:
        print(said(sizes, vocabulary, config.data.vocabulary), flush=True)
        if features.not_compared:
            print(
                f"vqa_vs: not at hand, and so not compared with what the features were made of: {', '.join(features.not_compared)}"
            )
    about, made_of = features.facts["about"], features.facts["made_of"]
    without = sum(size["without_image"] for size in sizes.values())
    left_out = (
        f"; {without:,} questions LEFT OUT, whose images are missing or damaged" if without else ""
    )
    facts = {
        "variant": about["variant"],
        "synthetic": about["synthetic"],
        "description": f"{about['description']}; backbone: {features.backbone}{left_out}",
        "backbone": features.backbone,
        "image_size": made_of["image_size"],
        "weights": made_of["weights"],
        "vocabulary": f"{config.data.vocabulary}, {len(vocabulary):,} answers",
        "sizes": sizes,
        "baseline": baseline(splits),
        "fingerprint": features.fingerprint,
    }
    kind = "" if config.backbone.kind == "fiber" else config.backbone.kind
    return Data(splits, "-".join(filter(None, ["synthetic" * about["synthetic"], kind])), facts)


def build_model(config: VQAConfig) -> ProductOfExperts:
    """A head per expert of the configured method, on its own vector of the backbone's."""
    features, vocabulary = open_vqa(config)
    widths = {name: features.widths[KINDS[name]] for name in config.experts}
    heads = {
        name: make_head(width, len(vocabulary), config.model.hidden)
        for name, width in widths.items()
    }
    # The published loss takes the logits of one expert as they are, but normalised
    # log-probabilities of a product.
    normalise = config.loss == "soft_cross_entropy" or (config.loss == "paper" and len(heads) > 1)
    experts = {
        name: UnimodalExpert(KINDS[name], nn.Identity(), head) for name, head in heads.items()
    }
    return ProductOfExperts(experts, normalise)


def loss_of(config: VQAConfig, data: Data, device: torch.device) -> Loss:
    """The configured loss: [B, K] log-probabilities or logits, {"answer": [B, 10], "score": [B,
    10]} -> [B]."""

    def loss(log_prob: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        target = soft_target(y, log_prob.shape[1])
        if config.loss == "soft_cross_entropy":
            return soft_cross_entropy(log_prob, target / target.sum(dim=1, keepdim=True))
        return binary_cross_entropy(log_prob, target)

    return loss


def soft_target(y: Mapping[str, Tensor], classes: int) -> Tensor:
    """Sparse scores -> [B, K], 0 for every answer that nobody gave."""
    target = y["score"].new_zeros(len(y["score"]), classes + 1)
    answer = y["answer"].long()
    return target.scatter_(1, torch.where(answer < 0, classes, answer), y["score"])[:, :classes]


def parameters(config: VQAConfig, model: nn.Module) -> list[dict[str, Any]]:
    """One group, with weight decay on everything, as published."""
    return [
        {
            "params": list(model.parameters()),
            **({"betas": BETAS} if config.optim.name == "adamw" else {}),
        }
    ]


def validate(predictions: Predictions) -> dict[str, float]:
    """Scores of an epoch."""
    found = metrics_of(predictions)
    return {name: found[name] for name in ("vqa_score", *OTHERS)}


VQA_VS = Experiment(
    VQAConfig, load, build_model, loss_of, scores, parameters, keep, validate, report
)
