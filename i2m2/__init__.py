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

if TYPE_CHECKING:
    from i2m2.fusion import FUSIONS, Concat, GatedFusion, LowRankTensorFusion, TensorFusion
    from i2m2.model import FusionExpert, ProductOfExperts, UnimodalExpert

__version__ = "0.1.0"

__all__ = [
    "FUSIONS", "Concat", "FusionExpert", "GatedFusion", "LowRankTensorFusion", "ProductOfExperts",
    "TensorFusion", "UnimodalExpert",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The public names are loaded when asked for, since torch takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    method = name.endswith(("Expert", "Experts"))
    return getattr(import_module("i2m2.model" if method else "i2m2.fusion"), name)
