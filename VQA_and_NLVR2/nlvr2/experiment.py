"""NLVR2: is a sentence true of two photographs? Settings, models and scores; Suhr et al., ACL 2019;
the paper's Table 3."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from i2m2.errors import SettingsError
from i2m2.model import ProductOfExperts
from i2m2.settings import RunConfig
from i2m2.training.data import Data, seed_everything
from i2m2.training.experiment import Experiment
from VQA_and_NLVR2.backbones.base import BackboneSettings, build_backbone
from VQA_and_NLVR2.features.cache import Features, FeatureSettings, Plan, open_features
from VQA_and_NLVR2.features.extraction import extract, weights_hash
from VQA_and_NLVR2.features.frozen import device_of
from VQA_and_NLVR2.nlvr2 import on_features as nlvr2_features
from VQA_and_NLVR2.nlvr2.analysis import report, scores
from VQA_and_NLVR2.nlvr2.data import NLVR2Data, load_nlvr2, make_synthetic_once, say
from VQA_and_NLVR2.nlvr2.models import (
    NLVR2Model,
    SharedBackbone,
    heads_on_features,
    parameter_groups,
)
from VQA_and_NLVR2.nlvr2.on_features import on_features, plan_for
from VQA_and_NLVR2.synthetic.tiny_fiber import make_tiny_fiber_once


@dataclass(frozen=True, kw_only=True)
class NLVR2Config(RunConfig):
    """Train one method on NLVR2 with one seed.

    Args:
        dataset: name of the data set
        fusion: the backbone's own
        data: where the data lie, and how they are read
        backbone: which backbone, and where its weights come from
        features: of a backbone that is not trained (model.train=heads); made on first use, or by
            extract_features
        model: what is trained, and how its parts differ
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    unused_parameters: ClassVar[bool] = True  # a row needs parts of the backbone only

    dataset: Literal["nlvr2"] = "nlvr2"
    fusion: Literal[None] = None
    data: NLVR2Data = field(default_factory=NLVR2Data)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    model: NLVR2Model = field(default_factory=NLVR2Model)

    @property
    def features_folder(self) -> Path:
        return Path(
            self.features.dir or self.data.folder.with_name(f"{self.data.folder.name}-features")
        )


def load(config: NLVR2Config) -> Data:
    """The three splits in the form the backbone reads, or its features; what the data set says of
    itself names the backbone too.

    Results with another backbone than FIBER's own weights have a folder of their own,
    `nlvr2-<kind>`.
    """
    _refuse_idle(config)
    heads = config.model.train == "heads"
    if config.data.source == "synthetic":
        make_synthetic_once(config.data.folder)
        make_tiny_fiber_once(config.backbone)
    seed_everything(
        0
    )  # features are kept: those of a backbone whose fusion is random must be the same in every run
    backbone = build_backbone(config.backbone)
    say(backbone.report.splitlines())
    data = load_nlvr2(config.data, backbone, config.seed)
    # Of weights that are in part random, and drawn by each run, a hash would say nothing.
    weights = weights_hash(backbone) if config.backbone.kind in ("fiber", "flava") else None
    key = None
    if heads:
        plan, paths, rows = plan_for(
            {name: split.examples for name, split in data.splits.items()}, data.facts
        )
        device = device_of(config.device)
        extract(
            plan,
            paths,
            backbone,
            config.backbone,
            config.features,
            config.features_folder,
            device,
            config.workers,
        )
        features = features_of_run(config)
        data, key = on_features(data, features, rows), features.key
    made_of = f"{data.facts['fingerprint']} {backbone.name} {weights} {key}"
    facts = data.facts | {
        "description": f"{data.facts['description']}; backbone: {backbone.name}",
        "backbone": backbone.name,
        "weights": weights,
        "features": key,
        "fingerprint": hashlib.sha256(made_of.encode()).hexdigest(),
    }
    other = config.backbone.kind if config.backbone.kind != "fiber" else ""
    return Data(data.splits, "-".join(filter(None, [data.variant, other])), facts)


def plan_of(config: NLVR2Config) -> tuple[Plan, list[Path]]:
    """What features are needed of, and the files of the images. SettingsError for settings that
    train the backbone."""
    if config.model.train != "heads":
        raise SettingsError(
            "model.train=all changes the backbone, whose features are then not kept; give the settings that train heads on them, "
            "such as --preset frozen of VQA_and_NLVR2/configs/nlvr2.yaml"
        )
    _refuse_idle(config)
    if config.data.source == "synthetic":
        make_synthetic_once(config.data.folder)
    return nlvr2_features.plan_of(config.data)


def _refuse_idle(config: NLVR2Config) -> None:
    """A setting without effect is a mistake."""
    if config.model.train == "heads" and (config.data.augment or config.data.flip):
        raise SettingsError(
            "data.augment and data.flip have no effect on features (model.train=heads); set them to false"
        )
    if config.model.train == "all" and config.features.views > 1:
        raise SettingsError(
            "features.views has no effect where the backbone is trained (model.train=all); leave it at 1"
        )
    if config.features.skip_missing:
        raise SettingsError(
            "features.skip_missing has no effect here; data.incomplete says what becomes of incomplete pairs"
        )


def features_of_run(config: NLVR2Config) -> Features:
    """The features, which `load` has made. DataError if they are not there, or others."""
    return open_features(
        config.features_folder, config.backbone, config.features, "the command that trains"
    )


def build_model(config: NLVR2Config) -> ProductOfExperts:
    """The experts of the configured method on one backbone, or on its features."""
    if config.model.train == "heads":
        return heads_on_features(
            features_of_run(config).widths, config.experts, config.model.hidden
        )
    return SharedBackbone(build_backbone(config.backbone), config.experts, config.model.hidden)


def parameters(config: NLVR2Config, model: ProductOfExperts) -> list[dict[str, Any]]:
    """The optimiser's groups."""
    return parameter_groups(model, config.optim, config.model)


NLVR2 = Experiment(
    NLVR2Config, load, build_model, scores=scores, parameters=parameters, report=report
)
