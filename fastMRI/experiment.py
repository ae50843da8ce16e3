"""What fastMRI brings to training and evaluation."""

from __future__ import annotations

from fastMRI.data import load_fastmri
from fastMRI.models import FastMRIConfig, build_model, loss_of
from fastMRI.scores import scores
from i2m2.training.experiment import Experiment

FASTMRI = Experiment(
    FastMRIConfig, lambda config: load_fastmri(config.data), build_model, loss_of, scores
)
