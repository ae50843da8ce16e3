"""VQA-VS on a frozen backbone's features: models, losses, what is kept; Table 3 and Fig. C.6."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from i2m2.losses import binary_cross_entropy, soft_cross_entropy
from i2m2.model import ProductOfExperts, UnimodalExpert
from i2m2.names import INTER, PRODUCT
from i2m2.settings import flatten, to_dict
from i2m2.stats.predictions import Predictions
from i2m2.training.config import load_config
from i2m2.training.data import Data
from i2m2.training.evaluate import SelectOutputs, table_of
from i2m2.training.experiment import Experiment
from i2m2.training.loop import Loss
from VQA_and_NLVR2.backbones.heads import make_head
from VQA_and_NLVR2.features.cache import EXTRACT, Features, open_features
from VQA_and_NLVR2.features.extraction import extract_from_settings
from VQA_and_NLVR2.features.plan import is_complete
from VQA_and_NLVR2.vqa_vs.answers import Vocabulary
from VQA_and_NLVR2.vqa_vs.data import (
    baseline,
    left_out_line,
    plan_of,
    splits_of,
    vocabulary_of,
)
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS, files_of
from VQA_and_NLVR2.vqa_vs.outputs import select_all_answers, select_top_answers
from VQA_and_NLVR2.vqa_vs.predictions import (
    answer_entropy,
    metrics_of,
    names_in,
    rescues,
    scores,
)
from VQA_and_NLVR2.vqa_vs.scores import MEANS, OTHERS
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig

KINDS = {"image": "image", "text": "text", INTER: "fused"}  # the features that each expert reads
BETAS = (0.9, 0.98)  # of AdamW, in every published recipe
USUAL = "VQA_and_NLVR2/configs/vqa_vs.yaml"
ROOT = Path(__file__).parents[2]  # of the project


def load(config: VQAConfig) -> Data:
    """The three splits as features; what is left out of them is printed, once where several
    processes load them."""
    if config.data.source == "synthetic" and not is_complete(config.features_folder):
        extract_from_settings(*plan_of(config.data), config)
    features, vocabulary = open_vqa(config)
    splits, sizes = splits_of(features, vocabulary, config.data)
    if int(os.environ.get("RANK", 0)) == 0:
        print(left_out_line(sizes, vocabulary, config.data.vocabulary), flush=True)
        if features.not_compared:
            names = ", ".join(features.not_compared)
            print(
                "vqa_vs: not at hand, and so not compared with what the features were made of: "
                f"{names}"
            )
    about, made_of = features.facts["about"], features.facts["made_of"]
    without = sum(size["without_image"] for size in sizes.values())
    left_out = f"; {without:,} questions LEFT OUT, whose images are missing or damaged"
    left_out = left_out if without else ""
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
    kind = config.backbone.kind
    variant = ["synthetic" if about["synthetic"] else "", "" if kind == "fiber" else kind]
    return Data(splits, "-".join(filter(None, variant)), facts)


def open_vqa(config: VQAConfig) -> tuple[Features, Vocabulary]:
    """The features, and the vocabulary of the configured rule. DataError if either is not to be
    had."""
    features = open_features(
        config.features_folder,
        config.backbone,
        config.features,
        extract_command(config),
        files_of(config.data.folder),
    )
    return features, vocabulary_of(features, config.data.vocabulary)


def extract_command(config: VQAConfig) -> str:
    """What makes the features of these settings: the command with all that its config file has
    otherwise."""
    usual = load_config(VQAConfig, ["--config", str(ROOT / USUAL)], "VQA_and_NLVR2")
    usual = flatten(to_dict(usual))
    folders = {"data.dir": config.data.folder, "features.dir": config.features_folder}
    words = [*EXTRACT.split(), "--config", USUAL]
    for name, value in (flatten(to_dict(config)) | folders).items():
        decisive = name.startswith(("data.", "features.", "backbone."))
        if decisive and (value != usual[name] or name.endswith(".dir")):
            text = str(value) if isinstance(value, (str, Path)) else json.dumps(value)
            words += [f"--{name}", text]
    return shlex.join(words)


def build_model(config: VQAConfig) -> ProductOfExperts:
    """A head per expert of the configured method, on its own vector of the backbone's."""
    features, vocabulary = open_vqa(config)
    experts = {}
    for name in config.experts:
        kind = KINDS[name]
        head = make_head(features.widths[kind], len(vocabulary), config.model.hidden)
        experts[name] = UnimodalExpert(kind, nn.Identity(), head)
    # The published loss takes the logits of one expert as they are, but normalised
    # log-probabilities of a product.
    of_product = config.loss == "paper" and len(experts) > 1
    return ProductOfExperts(experts, of_product or config.loss == "soft_cross_entropy")


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
    betas = {"betas": BETAS} if config.optim.name == "adamw" else {}
    return [{"params": list(model.parameters()), **betas}]


def select_outputs(config: VQAConfig) -> SelectOutputs:
    """The best answers, or with `save_all` all of them."""
    return select_all_answers if config.save_all else select_top_answers


def validate(predictions: Predictions) -> dict[str, float]:
    """Scores of an epoch."""
    metrics = metrics_of(predictions)
    return {name: metrics[name] for name in ("vqa_score", *OTHERS)}


def report(predictions: Predictions) -> str:
    """Tables of product and experts: means, OOD sets, other scores; of several experts, what the
    product rescues."""
    metrics = {name: metrics_of(predictions, name) for name in names_in(predictions)}
    parts = []
    for columns in (MEANS, OOD_SETS, OTHERS):
        shown = [name for name in columns if name in metrics[PRODUCT]]
        if shown:
            rows = {row: {n: values[n] for n in shown} for row, values in metrics.items()}
            parts.append(table_of(rows))
    parts.append(
        "vqa_score, its OOD sets and answer types: official, over all questions. "
        f"Entropy of the answers that people gave: {answer_entropy(predictions):.4f}"
    )
    if len(metrics) > 1:
        rescue = rescues(predictions)
        share = rescue["rescued_of_all_wrong"]
        parts.append(
            f"every expert alone wrong: {rescue['all_wrong']:,} of {rescue['examples']:,} "
            f"questions, product right in {rescue['rescued']:,} of them"
            + (f" ({share:.1%})" if share is not None else "")
            + "; right: as two people or more said"
        )
    return "\n\n".join(parts)


EXPERIMENT = Experiment(
    load=load,
    build_model=lambda config, _: build_model(config),
    loss=loss_of,
    scores=scores,
    parameters=parameters,
    select_outputs=select_outputs,
    validate=validate,
    report=report,
)
