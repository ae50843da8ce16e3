"""Finished runs on altered test data: corrupted at rising levels, or without a modality.

Models are trained on clean data. What a corruption does is the data set's business; what becomes of
the scores is in `i2m2.stats.robustness`.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from i2m2.errors import DataError, SettingsError
from i2m2.metrics import score
from i2m2.runs import RunRecord
from i2m2.stats.robustness import MISSING, Answer, ArrayCorruptions, CorruptArray, Point
from i2m2.training.commands import Datasets, DatasetSpec, config_of_run
from i2m2.training.data import ArrayDataset, Batch, Data, MultimodalDataset
from i2m2.training.evaluate import predict
from i2m2.training.experiment import trained_model
from i2m2.training.loop import make_accelerator
from i2m2.training.run import Run

Key = tuple[str, int]  # a finished run: name of its folder, seed
Evaluate = Callable[[nn.Module, MultimodalDataset], Answer]


class Corruption(NamedTuple):
    """What is done to a split at a level above 0, and {modality that it alters: what identifies
    how}."""

    alterations: Mapping[str, Hashable]
    alter: Callable[[MultimodalDataset, float], MultimodalDataset]


def of_arrays(corruptions: ArrayCorruptions) -> dict[str, Corruption]:
    """Corruptions of an `ArrayDataset`, {name: {modality: function}}. A function is called once per
    modality and level, however many corruptions share it."""
    # Of one split at one level at a time; the split is held, so that its id is no other's.
    altered: dict[tuple[int, float, str, CorruptArray], tuple[ArrayDataset, np.ndarray]] = {}

    def alter(
        functions: Mapping[str, CorruptArray], split: ArrayDataset, level: float
    ) -> ArrayDataset:
        for done in [key for key in altered if key[:2] != (id(split), level)]:
            del altered[done]
        inputs = {name: np.asarray(array[split.rows]) for name, array in split.inputs.items()}
        for modality, function in functions.items():
            key = (id(split), level, modality, function)
            if key not in altered:
                altered[key] = split, function(inputs[modality], level)
            inputs[modality] = altered[key][1]
        changed = copy.copy(split)
        changed.inputs, changed.rows = inputs, np.arange(len(split))
        return changed

    return {
        name: Corruption(functions, partial(alter, functions))
        for name, functions in corruptions.items()
    }


class Without(Dataset):
    """A split in which `modality` is absent from every example: its own expert and the fusion
    expert abstain."""

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


def uniform_answers(log_prob: np.ndarray) -> int:
    """Number of examples whose log-probabilities [n, (L,) C] are the same for all classes, for
    every label."""
    uniform = np.ptp(log_prob, axis=-1) == 0
    return int(uniform.reshape(len(log_prob), -1).all(axis=1).sum())


def measure(
    models: Mapping[Key, nn.Module],
    test: MultimodalDataset,
    corruptions: Mapping[str, Corruption],
    evaluate: Evaluate,
    levels: Sequence[float],
    modalities: Sequence[str] = (),
) -> list[Point]:
    """Every model on every altered test split, and without each of `modalities`; no model is asked
    twice about the same inputs. Level 0 is the clean split."""
    reads = {key: frozenset(model.modalities) for key, model in models.items()}
    clean = {key: evaluate(model, test) for key, model in models.items()}
    points = []
    for level in tqdm(levels, desc="corruption levels", disable=None):
        asked: dict[tuple[Key, frozenset], Answer] = {}
        for name, corruption in corruptions.items():
            split = corruption.alter(test, level) if level else test
            for key, model in models.items():
                answer = clean[key]
                seen = {use for use in corruption.alterations.items() if use[0] in reads[key]}
                if level and (altered := frozenset(seen)):
                    if (key, altered) not in asked:
                        asked[key, altered] = evaluate(model, split)
                    answer = asked[key, altered]
                points.append(Point(*key, name, level, *answer))
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
    levels: Sequence[float],
    args: Namespace,
    program: str,
    without_modalities: bool = True,
) -> tuple[list[Point], Data]:
    """Finished runs of one data set on its altered test split -> points, and the data.

    `args`: with `data_dir` and `device`, as `add_run_options` makes them. SettingsError for runs of
    several data sets; DataError if the data are gone, have changed, or are not the same for all.
    """
    loaded = [config_of_run(datasets, record.dir, args, program, "") for record in records]
    spec = loaded[0][0]
    for record, (other, _) in zip(records, loaded, strict=True):
        if other is not spec:
            raise SettingsError(
                f"{record.dir} is a run of {record.config.get('dataset')}, unlike others there; "
                "keep data sets in separate folders"
            )
    runs = [Run(record.dir, config) for record, (_, config) in zip(records, loaded, strict=True)]
    # Full precision, whatever the runs were trained in: one table, one arithmetic.
    accelerator = make_accelerator(replace(runs[0].config, precision="no"))
    experiment = spec.experiment()

    def evaluate(model: nn.Module, split: MultimodalDataset) -> Answer:
        config = runs[0].config
        split = split.select(model.modalities)
        found = predict(model, split, accelerator, config.step_size, config.workers)
        labels = found["labels"].tolist() if "labels" in found else None
        scores = score(found["y"], found["log_prob"], metrics, labels)
        return Answer(scores, uniform_answers(found["log_prob"]))

    points: list[Point] = []
    groups = _by_data(runs, spec)
    for data, members in groups:
        models = {}
        for run in members:
            model = trained_model(experiment, run).to(accelerator.device)
            models[run.dir.parent.name, run.config.seed] = model
        test = data.splits["test"]
        missing = tuple(runs[0].config.modalities) if without_modalities else ()
        points += measure(models, test, corruptions, evaluate, levels, missing)
    return points, groups[0][0]


def _by_data(runs: Sequence[Run], spec: DatasetSpec) -> list[tuple[Data, list[Run]]]:
    """The runs by their data settings (another standardisation, say, is another test split), each
    group with its data."""
    groups: dict[Any, tuple[Data, list[Run]]] = {}
    load = spec.experiment().load
    for run in runs:
        settings = run.config.data
        try:
            data, members = groups.get(settings) or (load(run.config), [])
        except DataError as error:
            raise DataError(
                f"the data of {run.dir} cannot be read; "
                f"if they lie elsewhere now, add --data.dir: {error}"
            ) from error
        run.refuse_other_data(data.facts)
        groups[settings] = (data, [*members, run])
    if len({data.facts["fingerprint"] for data, _ in groups.values()}) > 1:
        places = ", ".join(str(settings.folder) for settings in groups)
        raise DataError(
            f"the runs read different data ({places}), so they cannot stand in one table; "
            "keep them in separate folders"
        )
    return list(groups.values())
