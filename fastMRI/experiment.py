"""What fastMRI brings to training and evaluation: loader, models, loss and scores."""

from __future__ import annotations

from functools import partial

import torch

from fastMRI.data import class_weights, load_fastmri
from fastMRI.models import build_model
from fastMRI.scores import scores
from fastMRI.settings import FastMRIConfig
from i2m2.losses import negative_log_likelihood
from i2m2.training.data import Data
from i2m2.training.experiment import Experiment
from i2m2.training.loop import Loss

NORMALISE = {"expected": "expected", "realised": "per_batch"}  # setting -> the loss's word


def load(config: FastMRIConfig) -> Data:
    return load_fastmri(config.data)


def loss_of(config: FastMRIConfig, data: Data, device: torch.device) -> Loss:
    """Negative log-likelihood summed over the four labels, their classes weighted by inverse
    frequency in the training slices."""
    if config.class_weights == "none":
        return negative_log_likelihood
    weights = class_weights(data.splits["train"].y).to(device)
    # N / n_c is 2 in the mean over the training slices; only the ratio of the two classes is meant
    # to matter.
    return partial(
        negative_log_likelihood,
        class_weights=weights / 2,
        normalise=NORMALISE[config.class_weights],
    )


EXPERIMENT = Experiment(
    load=load,
    build_model=lambda config, _: build_model(config),
    loss=loss_of,
    scores=scores,
)
