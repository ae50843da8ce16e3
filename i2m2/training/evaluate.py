"""`predict`, the one place that chooses evaluation mode, and scores of predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from i2m2.errors import SettingsError, aligned
from i2m2.metrics import METRICS, score
from i2m2.names import EXPERT, PRODUCT
from i2m2.stats.calibration import log_frequencies
from i2m2.stats.predictions import (
    Predictions,
    abstaining,
    expert_log_probs,
    labels_of,
    speaks,
)
from i2m2.training.data import MultimodalDataset, loader, to_device

# What is kept of a batch: (log-probabilities [B, (L,) C], those of every expert, the batch's y) ->
# columns [B, ...] by name.
SelectOutputs = Callable[[Tensor, Mapping[str, Tensor], Any], dict[str, Tensor]]


def all_outputs(log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Any) -> dict[str, Tensor]:
    """`log_prob` and `expert_<name>`, whole."""
    return {"log_prob": log_prob, **{f"{EXPERT}{name}": v for name, v in by_expert.items()}}


@torch.inference_mode()
def predict(
    model: nn.Module,
    dataset: MultimodalDataset,
    accelerator: Accelerator,
    batch_size: int,
    workers: int = 0,
    select_outputs: SelectOutputs = all_outputs,
) -> dict[str, np.ndarray]:
    """Predictions of a whole split (`i2m2.stats.predictions` says what they hold), float32, in its
    order, whatever the number of devices and `batch_size`, the examples of a step over all of them.

    `select_outputs` may choose less, for thousands of classes. The model is in evaluation mode
    meanwhile, and goes back to the mode it was in.
    """
    was_training = model.training
    model.eval()
    mine = np.arange(accelerator.process_index, len(dataset), accelerator.num_processes)
    share = -(-batch_size // accelerator.num_processes)
    if not len(mine):  # fewer examples than devices: take part with one that is dropped again
        mine = np.array([len(dataset)])
    batches = np.array_split(np.minimum(mine, len(dataset) - 1), range(share, len(mine), share))
    outputs = []
    for batch in loader(dataset, batches, workers, accelerator.device.type == "cuda"):
        batch = to_device(batch, accelerator.device, dataset.prepare)
        with accelerator.autocast():
            log_prob, by_expert = model(batch["inputs"], batch.get("present"))
        by_expert = {name: value.float() for name, value in by_expert.items()}
        outputs.append(select_outputs(log_prob.float(), by_expert, batch["y"]))
    model.train(was_training)
    columns = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
    if accelerator.num_processes > 1:
        columns = _gather(columns, mine, len(dataset), accelerator)
    labels = getattr(dataset, "labels", None)
    return {
        **({"labels": np.array(labels)} if labels else {}),
        "id": dataset.id,
        "group": dataset.group,
        **getattr(dataset, "columns", {"y": dataset.y}),
        **{name: value.cpu().numpy() for name, value in columns.items()},
    }


def _gather(
    columns: Mapping[str, Tensor], mine: np.ndarray, total: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Every device's rows, each in its place, without the padding that makes the shares equal."""
    places = torch.from_numpy(mine).to(accelerator.device)
    places = accelerator.gather(accelerator.pad_across_processes(places, pad_index=total))
    gathered = {}
    for name, column in columns.items():
        rows = accelerator.gather(accelerator.pad_across_processes(column))
        ordered = rows.new_empty(total + 1, *rows.shape[1:]).index_copy_(0, places, rows)
        gathered[name] = ordered[:total]
    return gathered


def answered_by_none(predictions: Predictions) -> int:
    """Number of examples for which every expert abstains."""
    if "log_prob" not in predictions:
        return 0  # of thousands of answers only the best are kept
    alone = abstaining(predictions)
    return int(alone.reshape(len(alone), -1).all(axis=1).sum())


def mixture_of_experts(predictions: Predictions) -> np.ndarray:
    """Log of the experts' mean probability, by which the published code tested its intra rows."""
    experts = np.stack([v.astype(np.float64) for v in expert_log_probs(predictions).values()])
    return np.logaddexp.reduce(experts, axis=0) - np.log(len(experts))


def score_predictions(
    predictions: Predictions, metrics: Sequence[str] = tuple(METRICS)
) -> dict[str, float]:
    """{metric: value} for the product."""
    return score(predictions["y"], predictions["log_prob"], metrics, labels_of(predictions))


def general_scores(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, float]]:
    """{split: `score_predictions`}."""
    return {split: score_predictions(of_split) for split, of_split in predictions.items()}


def as_numbers(scores: object, function: str, select: str | None) -> dict[str, float]:
    """{metric: value} that a data set's `function` gives, as Python's floats, NaN for None.
    SettingsError for what is no number, or if `select` is not among them."""
    if not isinstance(scores, Mapping):
        kind = type(scores).__name__
        raise SettingsError(f"{function} gives a {kind}; let it give {{metric: number}}")
    numbers = {str(name): _number(value, f"{function}: {name}") for name, value in scores.items()}
    if select is not None and select not in numbers:
        given = ", ".join(numbers) or "nothing"
        raise SettingsError(
            f"{function} gives {given}, without the {select} that optim.select names; add it there"
        )
    return numbers


def _number(value: object, what: str) -> float:
    if value is None:
        return float("nan")
    with suppress(AttributeError, ValueError, RuntimeError):  # of an array of one number
        value = value.item()
    if not isinstance(value, Real):
        raise SettingsError(f"{what} is a {type(value).__name__}; let it be a number")
    return float(value)


def scores_table(predictions: Predictions, combine: str = PRODUCT) -> str:
    """All metrics of the product (or the `mixture`) and of each expert, as an aligned table; of one
    that abstains somewhere, over the examples in which it speaks."""
    product, y, labels = combine == PRODUCT, predictions["y"], labels_of(predictions)
    combined = predictions["log_prob"] if product else mixture_of_experts(predictions)
    scores = {combine: score(y, combined, labels=labels)}
    undefined = dict.fromkeys(scores[combine], float("nan"))
    for name, value in expert_log_probs(predictions).items():
        heard = speaks(value).reshape(len(y), -1).any(axis=1)
        row = name if heard.all() else f"{name} (of {heard.sum():,} examples)"
        pair = y[heard], value[heard]
        scores[row] = score(*pair, labels=labels) if heard.any() else undefined
    return table_of(scores)


def score_of_class_frequencies(
    train_y: np.ndarray, y: np.ndarray, num_classes: int
) -> dict[str, float]:
    """Scores of the training labels' frequencies as every answer, each class counted once more."""
    return score(y, np.tile(log_frequencies(train_y, num_classes), (len(y), 1)))


def table_of(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Scores as an aligned text table: a row per expert, a column per metric."""
    metrics = list(next(iter(scores.values())))
    rows = [[name, *(f"{values[m]:.4f}" for m in metrics)] for name, values in scores.items()]
    return aligned([["", *metrics], *rows])
