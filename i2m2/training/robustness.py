"""Finished runs on altered test data: corrupted at rising levels, or without a modality.

Models are trained on clean data. What a corruption does is the data set's business; what becomes of
the scores is in `i2m2.stats.robustness`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from i2m2.errors import DataError, SettingsError
from i2m2.machine.accelerator import make_accelerator
from i2m2.runs import RunRecord
from i2m2.stats.robustness import MISSING, Answer, ArrayCorruptions, CorruptArray, Point
from i2m2.training.commands import Datasets, config_of_run
from i2m2.training.data import ArrayDataset, Batch, Data, MultimodalDataset
from i2m2.training.evaluate import answered_by_none, predict, score_predictions
from i2m2.training.experiment import Experiment, trained_model
from i2m2.training.run import Run

Key = tuple[str, int]  # a finished run: name of its folder, seed


class Corruption(NamedTuple):
    """What is done to a split at a level above 0, and {modality it alters: what identifies how}."""

    alterations: Mapping[str, Hashable]
    alter: Callable[[MultimodalDataset, float], MultimodalDataset]


def array_corruptions(corruptions: ArrayCorruptions) -> dict[str, Corruption]:
    """Corruptions of an `ArrayDataset`, {name: {modality: function}}. A function is called once per
    modality and level, however many corruptions share it."""
    alterations = {one for functions in corruptions.values() for one in functions.items()}

    @lru_cache(maxsize=len(alterations))  # all of one level
    def altered(
        split: ArrayDataset, level: float, modality: str, function: CorruptArray
    ) -> np.ndarray:
        return function(np.asarray(split.inputs[modality][split.rows]), level)

    def alter(
        functions: Mapping[str, CorruptArray], split: ArrayDataset, level: float
    ) -> ArrayDataset:
        inputs = {name: np.asarray(array[split.rows]) for name, array in split.inputs.items()}
        for modality, function in functions.items():
            inputs[modality] = altered(split, level, modality, function)
        made = copy(split)  # not built again: a subclass keeps what it has of its own
        made.inputs, made.rows = inputs, np.arange(len(split))
        return made

    return {
        name: Corruption(functions, partial(alter, functions))
        for name, functions in corruptions.items()
    }


class Without(Dataset):
    """A split without `modality`: its own expert and the fusion expert abstain."""

    def __init__(self, dataset: MultimodalDataset, modality: str) -> None:
        self.dataset = dataset
        self.modality = modality
        self.id, self.group, self.y = dataset.id, dataset.group, dataset.y
        self.prepare = dataset.prepare

    def select(self, modalities: Iterable[str]) -> Without:
        return Without(self.dataset.select(modalities), self.modality)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        batch = self.dataset[positions]
        absent = torch.zeros(len(positions), dtype=torch.bool)
        return batch | {"present": {**batch.get("present", {}), self.modality: absent}}


def measure(
    models: Mapping[Key, nn.Module],
    test: MultimodalDataset,
    corruptions: Mapping[str, Corruption],
    evaluate: Callable[[nn.Module, MultimodalDataset], Answer],
    levels: Sequence[float],
    modalities: Sequence[str] = (),
) -> list[Point]:
    """Every model on every altered test split, and without each of `modalities`; no model is asked
    twice about the same inputs. Level 0 is the clean split; a repeated level counts once."""
    reads = {key: frozenset(model.modalities) for key, model in models.items()}
    clean = {key: evaluate(model, test) for key, model in models.items()}
    points = []
    for level in tqdm(dict.fromkeys(levels), desc="corruption levels", disable=None):
        # A model answers as on clean data where nothing that it reads is altered.
        asked = {(key, frozenset()): answer for key, answer in clean.items()}
        for name, corruption in corruptions.items():
            split = corruption.alter(test, level) if level else test
            how = corruption.alterations.items() if level else ()
            for key, model in models.items():
                seen = key, frozenset(use for use in how if use[0] in reads[key])
                if seen not in asked:
                    asked[seen] = evaluate(model, split)
                points.append(Point(*key, name, level, *asked[seen]))
    for modality in modalities:
        split = Without(test, modality)
        for key, model in models.items():
            answer = evaluate(model, split) if modality in reads[key] else clean[key]
            points.append(Point(*key, MISSING + modality, None, *answer))
    return points


def measure_runs(
    datasets: Datasets,
    records: Sequence[RunRecord],
    corruptions: Mapping[str, Corruption],
    metrics: Sequence[str],
    args: Namespace,
    without_modalities: bool = True,
) -> tuple[list[Point], Data]:
    """Finished runs of one data set on its altered test split -> points, and the data.

    `args`: with `levels`, and `data_dir` and `device`, as `add_run_options` makes them.
    SettingsError for runs of several data sets; DataError if the data are gone, have changed, or
    are not the same for all.
    """
    loaded = {record.dir: config_of_run(datasets, record.dir, args) for record in records}
    runs = [Run(path, config) for path, (_, config) in loaded.items()]
    config = runs[0].config
    if names := {run.config.dataset for run in runs} - {config.dataset}:
        folder, listed = runs[0].dir.parents[1], ", ".join([config.dataset, *sorted(names)])
        raise SettingsError(f"{folder} holds runs of {listed}; keep them in separate folders")
    # Full precision, whatever the runs were trained in: one table, one arithmetic.
    accelerator = make_accelerator(replace(config, precision="no"))
    experiment = loaded[runs[0].dir][0].experiment()

    def evaluate(model: nn.Module, split: MultimodalDataset) -> Answer:
        split = split.select(model.modalities)
        found = predict(model, split, accelerator, config.step_size, config.workers)
        return Answer(score_predictions(found, metrics), answered_by_none(found))

    missing = config.modalities if without_modalities else ()
    data = _data_of(runs, experiment)
    points: list[Point] = []
    for settings, its_data in data.items():
        models = {}
        for run in runs:
            if run.config.data == settings:
                model = trained_model(experiment, run, its_data).to(accelerator.device)
                models[run.dir.parent.name, run.config.seed] = model
        test = its_data.splits["test"]
        points += measure(models, test, corruptions, evaluate, args.levels, missing)
    return points, data[config.data]


def _data_of(runs: Sequence[Run], experiment: Experiment) -> dict[Any, Data]:
    """The data by their settings: another standardisation, say, is another test split."""
    data: dict[Any, Data] = {}
    for run in runs:
        settings = run.config.data
        try:
            data[settings] = data.get(settings) or experiment.load(run.config)
        except DataError as error:
            raise DataError(
                f"the data of {run.dir} cannot be read; "
                f"if they lie elsewhere now, add --data.dir: {error}"
            ) from error
        run.refuse_other_data(data[settings].facts)
    if len({loaded.facts["fingerprint"] for loaded in data.values()}) > 1:
        places = ", ".join(str(settings.folder) for settings in data)
        raise DataError(
            f"the runs read different data ({places}), so they cannot stand in one table; "
            "keep them in separate folders"
        )
    return data
