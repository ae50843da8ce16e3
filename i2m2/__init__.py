"""I2M2: jointly modelling inter- and intra-modality dependencies (Madaan et al., NeurIPS 2024), for
any number of modalities.

    method    model (experts and their product), fusion, encoders, losses, metrics
    training  settings to finished runs: config, data, loop, evaluate, run, warm_start, experiment
    stats     arrays to numbers: intervals, paired tests, contrasts, calibration; needs no torch
    report    finished runs to tables, figures and one page; needs no torch
    commands  results, compare, combine, sweep
    estimator I2M2Classifier and I2M2Regressor, for data of one's own
    diagnose  the question answered for data of one's own
    dial      data whose intra- and inter-modality information is known exactly

The core knows no data set; each has a folder of its own beside this one.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from i2m2 import diagnose
    from i2m2.encoders.dense import mlp
    from i2m2.encoders.series import SeriesGRU
    from i2m2.estimator.estimators import I2M2Classifier, I2M2Regressor
    from i2m2.fusion import FUSIONS, Concat, GatedFusion, LowRankTensorFusion, TensorFusion
    from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert
    from i2m2.training.data import ArrayDataset
    from i2m2.training.preparation import group_split, standardise, stratified_folds

__version__ = "0.1.0"

__all__ = [
    "FUSIONS", "ArrayDataset", "Concat", "FusionExpert", "GatedFusion", "I2M2Classifier",
    "I2M2Regressor", "LowRankTensorFusion", "ProductOfExperts", "SeriesGRU", "TensorFusion",
    "UnimodalExpert", "diagnose", "group_split", "mlp", "standardise", "stratified_folds",
]  # fmt: skip

# The module of each name, but for those of i2m2.fusion.
MODULES = {
    "ArrayDataset": "training.data",
    "FusionExpert": "model",
    "I2M2Classifier": "estimator.estimators",
    "I2M2Regressor": "estimator.estimators",
    "ProductOfExperts": "model",
    "SeriesGRU": "encoders.series",
    "UnimodalExpert": "model",
    "group_split": "training.preparation",
    "mlp": "encoders.dense",
    "standardise": "training.preparation",
    "stratified_folds": "training.preparation",
}


def __getattr__(name: str) -> object:
    """The public names are loaded when asked for, since torch takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "diagnose":
        return import_module("i2m2.diagnose")  # a module that can be called
    return getattr(import_module(f"i2m2.{MODULES.get(name, 'fusion')}"), name)
