"""The data sets of this folder, by the name their settings give in `dataset`; VQA-VS if none."""

from i2m2.training.commands import DatasetSpec
from VQA_and_NLVR2.nlvr2.settings import NLVR2Config
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig

DATASETS = {
    "vqa_vs": DatasetSpec(VQAConfig, "VQA_and_NLVR2.vqa_vs.experiment"),
    "nlvr2": DatasetSpec(NLVR2Config, "VQA_and_NLVR2.nlvr2.experiment"),
}
