"""The data sets of this folder, by the name their settings give in `dataset`."""

from __future__ import annotations

from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTConfig
from AVMNIST_and_MIMIC.mimic.settings import MIMICConfig
from i2m2.training.commands import DatasetSpec

DATASETS = {
    "avmnist": DatasetSpec(AVMNISTConfig, "AVMNIST_and_MIMIC.avmnist.experiment"),
    "mimic": DatasetSpec(MIMICConfig, "AVMNIST_and_MIMIC.mimic.experiment"),
}
