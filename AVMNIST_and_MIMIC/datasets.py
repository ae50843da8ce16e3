"""The data sets of this folder, by the name their settings give in `dataset`."""

from __future__ import annotations

from AVMNIST_and_MIMIC.avmnist import experiment as avmnist
from AVMNIST_and_MIMIC.mimic import experiment as mimic
from i2m2.errors import SettingsError
from i2m2.training.config import peek
from i2m2.training.experiment import Experiment

DATASETS = {
    "avmnist": Experiment(
        avmnist.AVMNISTConfig, lambda config: avmnist.load_avmnist(config.data), avmnist.build_model
    ),
    "mimic": Experiment(mimic.MIMICConfig, mimic.load_mimic, mimic.build_model),
}


def dataset_of(argv: list[str]) -> Experiment:
    """The data set that a command line or its --config file names, avmnist if none. SettingsError
    if there is no such one."""
    name = peek("dataset", argv) or "avmnist"
    if name not in DATASETS:
        raise SettingsError(
            f"dataset={name!r} is unknown here; choose one of {', '.join(DATASETS)}"
        )
    return DATASETS[name]
