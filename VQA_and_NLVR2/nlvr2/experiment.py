"""NLVR2: is a sentence true of two photographs? Data, models and scores; Suhr et al., ACL 2019; the
paper's Table 3."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2m2.errors import SettingsError
from i2m2.model import ProductOfExperts
from i2m2.names import PRODUCT
from i2m2.stats.predictions import Predictions, expert_log_probs
from i2m2.training.data import Data, seed_everything
from i2m2.training.evaluate import table_of
from i2m2.training.experiment import Experiment
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.features.cache import Features, open_features
from VQA_and_NLVR2.features.extraction import extract, weights_hash
from VQA_and_NLVR2.features.plan import Plan
from VQA_and_NLVR2.nlvr2 import on_features
from VQA_and_NLVR2.nlvr2.analysis import metrics_of, scores
from VQA_and_NLVR2.nlvr2.data import load_nlvr2
from VQA_and_NLVR2.nlvr2.examples import make_synthetic_once, say
from VQA_and_NLVR2.nlvr2.files import SUBSETS
from VQA_and_NLVR2.nlvr2.models import SharedBackbone, heads_on_features, parameter_groups
from VQA_and_NLVR2.nlvr2.settings import NLVR2Config
from VQA_and_NLVR2.synthetic.tiny_fiber import make_tiny_fiber_once

# What `evaluate` prints.
REPORTED = ("accuracy", "consistency", *(f"accuracy_{name}" for name in SUBSETS), "nll", "ece")


def load(config: NLVR2Config) -> Data:
    """The three splits in the form the backbone reads, or its features; what the data set says of
    itself names the backbone too.

    Results with another backbone than FIBER's own weights have a folder of their own,
    `nlvr2-<kind>`.
    """
    check_unused_settings(config)
    if config.data.source == "synthetic":
        make_synthetic_once(config.data.folder)
        make_tiny_fiber_once(config.backbone)
    # Features are kept: those of a backbone whose fusion is random must be the same in every run.
    seed_everything(0)
    backbone = build_backbone(config.backbone)
    say(backbone.report.splitlines())
    data = load_nlvr2(config.data, backbone, config.seed)
    kind = config.backbone.kind
    # Of weights that are in part random, and drawn by each run, a hash would say nothing.
    weights = weights_hash(backbone) if kind in ("fiber", "flava") else None
    key, pictures = None, ""
    if config.model.train == "heads":
        examples = {name: split.examples for name, split in data.splits.items()}
        planned = on_features.plan_for(examples, data.facts)
        extract(planned.plan, planned.paths, backbone, config)
        features = features_of_run(config)
        data = on_features.with_features(data, features, planned.rows)
        key, pictures = features.key, features.pictures
    made_of = f"{data.facts['fingerprint']} {backbone.name} {weights} {key} {pictures}".rstrip()
    facts = data.facts | {
        "description": f"{data.facts['description']}; backbone: {backbone.name}",
        "backbone": backbone.name,
        "weights": weights,
        "features": key,
        "fingerprint": hashlib.sha256(made_of.encode()).hexdigest(),
    }
    variant = [data.variant, "" if kind == "fiber" else kind]
    return Data(data.splits, "-".join(filter(None, variant)), facts)


def plan_of(config: NLVR2Config) -> tuple[Plan, Sequence[Path | None]]:
    """What features are needed of, and the files of the images. SettingsError for settings that
    train the backbone."""
    if config.model.train != "heads":
        raise SettingsError(
            "model.train=all changes the backbone, whose features are then not kept; "
            "give the settings that train heads on them, "
            "such as --preset frozen of VQA_and_NLVR2/configs/nlvr2.yaml"
        )
    check_unused_settings(config)
    if config.data.source == "synthetic":
        make_synthetic_once(config.data.folder)
    plan, paths, _ = on_features.plan_of(config.data)
    return plan, paths


def check_unused_settings(config: NLVR2Config) -> None:
    """SettingsError for a setting without effect, which is a mistake."""
    heads = config.model.train == "heads"
    if heads and (config.data.augment or config.data.flip):
        raise SettingsError(
            "data.augment and data.flip have no effect on features (model.train=heads); "
            "set them to false"
        )
    if not heads and config.features.views > 1:
        raise SettingsError(
            "features.views has no effect where the backbone is trained (model.train=all); "
            "leave it at 1"
        )
    if config.features.skip_missing:
        raise SettingsError(
            "features.skip_missing has no effect here; "
            "data.incomplete says what becomes of incomplete pairs"
        )


def features_of_run(config: NLVR2Config) -> Features:
    """The features, which `load` has made. DataError if they are not there, or others."""
    return open_features(
        config.features_folder, config.backbone, config.features, "the command that trains"
    )


def build_model(config: NLVR2Config) -> ProductOfExperts:
    """The experts of the configured method on one backbone, or on its features."""
    if config.model.train == "heads":
        widths = features_of_run(config).widths
        return heads_on_features(widths, config.experts, config.model.hidden)
    return SharedBackbone(build_backbone(config.backbone), config.experts, config.model.hidden)


def parameters(config: NLVR2Config, model: ProductOfExperts) -> list[dict[str, Any]]:
    """The optimiser's groups."""
    return parameter_groups(model, config.optim, config.model)


def report(predictions: Predictions) -> str:
    """A table of product and experts."""
    log_probs = {PRODUCT: predictions["log_prob"], **expert_log_probs(predictions)}
    rows = {}
    for row, log_prob in log_probs.items():
        metrics = metrics_of(predictions, log_prob)
        rows[row] = {name: metrics[name] for name in REPORTED}
    return table_of(rows)


EXPERIMENT = Experiment(
    load=load,
    build_model=lambda config, _: build_model(config),
    scores=scores,
    parameters=parameters,
    report=report,
)
