"""The data sets of this folder, by the name their settings give in `dataset`."""

from __future__ import annotations

from i2m2.errors import SettingsError
from i2m2.training.config import peek
from i2m2.training.experiment import Experiment
from VQA_and_NLVR2.nlvr2.experiment import NLVR2
from VQA_and_NLVR2.vqa_vs.experiment import VQA_VS
from VQA_and_NLVR2.vqa_vs.predictions import keep_everything

DATASETS = {"vqa_vs": VQA_VS, "nlvr2": NLVR2}


def dataset_of(argv: list[str]) -> Experiment:
    """The data set that a command line or its --config file names, vqa_vs if none. SettingsError if
    there is no such one."""
    name = peek("dataset", argv) or "vqa_vs"
    if name not in DATASETS:
        raise SettingsError(
            f"dataset={name!r} is unknown here; choose one of {', '.join(DATASETS)}"
        )
    if name == "vqa_vs" and (peek("save_all", argv) or "").lower() == "true":
        return VQA_VS._replace(keep=keep_everything)
    return DATASETS[name]
