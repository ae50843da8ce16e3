"""The data sets of this folder, by the name their settings give in `dataset`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from AVMNIST_and_MIMIC.avmnist import AVMNISTConfig, load_avmnist
from AVMNIST_and_MIMIC.avmnist import build_model as build_avmnist_model
from AVMNIST_and_MIMIC.avmnist_corruptions import avmnist_corruptions
from AVMNIST_and_MIMIC.mimic import MIMICConfig, load_mimic
from AVMNIST_and_MIMIC.mimic import build_model as build_mimic_model
from AVMNIST_and_MIMIC.mimic_corruptions import mimic_corruptions
from i2m2.config import RunConfig, peek
from i2m2.data import Data
from i2m2.errors import SettingsError
from i2m2.model import ProductOfExperts
from i2m2.robustness import Corruptions


class DatasetCode(NamedTuple):
    """What the commands of this folder need of a data set."""

    config: type[RunConfig]
    load: Callable[[RunConfig], Data]
    build_model: Callable[[RunConfig], ProductOfExperts]
    corruptions: Callable[[int], Corruptions]  # seed -> what a corruption does to which modality


DATASETS = {
    "avmnist": DatasetCode(AVMNISTConfig, lambda config: load_avmnist(config.data), build_avmnist_model, avmnist_corruptions),
    "mimic": DatasetCode(MIMICConfig, load_mimic, build_mimic_model, mimic_corruptions),
}


def dataset_of(argv: list[str]) -> DatasetCode:
    """The data set that a command line or its --config file names, avmnist if none. SettingsError if there is no such one."""
    name = peek("dataset", argv) or "avmnist"
    if name not in DATASETS:
        raise SettingsError(f"dataset={name!r} is unknown here; choose one of {', '.join(DATASETS)}")
    return DATASETS[name]
