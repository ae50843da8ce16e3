"""A data set of one's own in one file: breast cancer (scikit-learn), its measurements taken as two
modalities, the second of which a third of the patients lack.

python -m tests.i2m2.training.own_data --method i2m2 --init scratch --optim.select auroc --seed 0
python -m i2m2.results results --dataset cancer
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from sklearn.datasets import load_breast_cancer

import i2m2
from i2m2.errors import run_command
from i2m2.settings import RunConfig
from i2m2.training import commands
from i2m2.training.data import Data, check_dataset
from i2m2.training.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class CancerConfig(RunConfig):
    modalities: ClassVar[tuple[str, ...]] = ("mean", "worst")
    dataset: Literal["cancer"] = "cancer"
    hidden: int = 16


def load(config: CancerConfig) -> Data:
    x, y = load_breast_cancer(return_X_y=True)
    patient = np.array([f"patient {k}" for k in range(len(y))])
    measured = np.random.default_rng(0).random(len(y)) < 2 / 3
    rows = i2m2.group_split(patient)
    blocks = {"mean": x[:, :10], "worst": x[:, 20:]}
    inputs = {name: i2m2.standardise(block, rows.train)[0] for name, block in blocks.items()}
    splits = {}
    for name, r in rows._asdict().items():
        present = {"worst": measured[r]}
        splits[name] = i2m2.ArrayDataset(inputs, y[r], r, id=patient[r], present=present)
    check_dataset(splits, num_classes=2)
    facts = {"variant": "", "synthetic": False, "description": "Wisconsin", "fingerprint": "1995"}
    return Data(splits, "", facts)


def build_model(config: CancerConfig, data: Data) -> i2m2.ProductOfExperts:
    h, mlp = config.hidden, i2m2.mlp
    sizes = {m: x.shape[1] for m, x in data.splits["train"].inputs.items()}
    experts = {m: i2m2.UnimodalExpert(m, mlp(d, h, h), mlp(h, h, 2)) for m, d in sizes.items()}
    encoders = {m: mlp(d, h, h) for m, d in sizes.items()}
    fusion = i2m2.Concat(dict.fromkeys(sizes, h))
    experts["inter"] = i2m2.FusionExpert(encoders, fusion, mlp(fusion.out_features, h, 2))
    return i2m2.ProductOfExperts({name: experts[name] for name in config.experts})


EXPERIMENT = Experiment(load=load, build_model=build_model)
DATASETS = {"cancer": commands.DatasetSpec(CancerConfig, "tests.i2m2.training.own_data")}

if __name__ == "__main__":
    run_command(lambda argv: commands.train(DATASETS, argv, "tests.i2m2.training.own_data"))
