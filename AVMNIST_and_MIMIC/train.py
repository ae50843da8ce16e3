"""python -m AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/avmnist.yaml --method i2m2 --fusion concat --seed 0

python -m AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/mimic.yaml --task icd9_1 --method intra
"""

from __future__ import annotations

import sys

import torch

from AVMNIST_and_MIMIC.datasets import dataset_of
from i2m2.config import load_config
from i2m2.data import seed_everything
from i2m2.errors import run_command
from i2m2.evaluate import predict
from i2m2.metrics import score
from i2m2.run import Run, run_dir
from i2m2.train import fit, make_accelerator, start_tracker
from i2m2.warm_start import training_command, warm_start

PROGRAM = "AVMNIST_and_MIMIC.train"


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    dataset = dataset_of(argv)
    config = load_config(dataset.config, argv, PROGRAM)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        data = dataset.load(config)
        run = Run.open(run_dir(config, data.variant), config, data.facts, writes=accelerator.is_main_process)
    if run.done:
        return accelerator.print(f"{run.dir}: already done")
    config = run.config
    torch.set_num_threads(config.threads)
    start_tracker(accelerator, run)
    seed_everything(config.seed)
    model = dataset.build_model(config)
    splits = {name: split.only(model.modalities) for name, split in data.splits.items()}
    if config.init == "warm" and not run.started:
        run.add_to_environment(warm_start=warm_start(model, run, training_command(PROGRAM, argv)))
    fit(model, splits["train"], splits["val"], run, accelerator)
    result = {}
    for split in ("val", "test"):
        predictions = predict(model, splits[split], accelerator, config.step_size, config.workers)
        result[split] = score(predictions["y"], predictions["log_prob"])
        run.save_predictions(split, predictions)
    run.finish(result)
    accelerator.end_training()
    accelerator.print(f"{run.dir}: test accuracy {result['test']['accuracy']:.4f} (data: {data.facts['description']})")


if __name__ == "__main__":
    run_command(main)
