"""I2M2: jointly modelling inter- and intra-modality dependencies (Madaan et al., NeurIPS 2024), for
any number of modalities.

    method    model (experts and their product), fusion, losses, metrics
    training  settings to finished runs: config, data, loop, evaluate, run, warm_start, experiment
    stats     arrays to numbers: intervals, paired tests, calibration; needs no torch
    report    finished runs to tables, figures and one page; needs no torch
    commands  results, compare, combine, sweep
    dial      data whose intra- and inter-modality information is known exactly

The core knows no data set; each has a folder of its own beside this one.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # noqa: F401 (for type checkers)
    from i2m2.estimator.estimators import I2M2Classifier, I2M2Regressor
    from i2m2.fusion import FUSIONS, Concat, GatedFusion, LowRankTensorFusion, TensorFusion
    from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert

__version__ = "0.1.0"

_MODULE_OF = {  # of every public name; loaded when asked for, since torch takes seconds to import
    "ProductOfExperts": "model", "UnimodalExpert": "model", "FusionExpert": "model",
    "FUSIONS": "fusion", "Concat": "fusion", "LowRankTensorFusion": "fusion",
    "TensorFusion": "fusion", "GatedFusion": "fusion",
    "I2M2Classifier": "estimator.estimators", "I2M2Regressor": "estimator.estimators",
}  # fmt: skip

__all__ = [*_MODULE_OF, "diagnose"]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name == "diagnose":
        return import_module("i2m2.diagnose")  # a module that can be called
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"i2m2.{_MODULE_OF[name]}"), name)
