"""`predict`, the one place that chooses evaluation mode, and scores from saved predictions: a new
metric retrains nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2m2.metrics import score
from i2m2.training.data import loader, to_device

EXPERT = "expert_"  # prefix of an expert's own log-probabilities in saved predictions

# What is kept of a batch: (log-probabilities [B, (L,) C], those of every expert, the batch's y) ->
# columns [B, ...] by name
Keep = Callable[[Tensor, Mapping[str, Tensor], Any], dict[str, Tensor]]


def keep_all(log_prob: Tensor, by_expert: Mapping[str, Tensor], y: Any) -> dict[str, Tensor]:
    """`log_prob` and `expert_<name>`, whole."""
    return {"log_prob": log_prob, **{f"{EXPERT}{name}": value for name, value in by_expert.items()}}


@torch.inference_mode()
def predict(
    model: nn.Module,
    dataset: Dataset,
    accelerator: Accelerator,
    batch_size: int,
    workers: int = 0,
    keep: Keep = keep_all,
) -> dict[str, np.ndarray]:
    """Predictions of a whole split, in its order, whatever the number of devices and `batch_size`,
    the examples of a step over all.

    -> `id`, `group`, `y`, `log_prob` [n, (L,) C] and `expert_<name>` of the same shape, float32,
    and `labels` [L] where the data set names them. `keep` may choose less, for thousands of
    classes; a data set whose `y` is no array has `columns` in its place. The model is in evaluation
    mode meanwhile, and goes back to the mode it was in.
    """
    was_training = model.training
    model.eval()
    mine = np.arange(accelerator.process_index, len(dataset), accelerator.num_processes)
    share = -(-batch_size // accelerator.num_processes)
    if not len(mine):  # fewer examples than devices: take part with one that is dropped again
        mine = np.array([len(dataset)])
    batches = np.array_split(np.minimum(mine, len(dataset) - 1), range(share, len(mine), share))
    outputs = []
    for batch in loader(dataset, batches, workers, pin_memory=accelerator.device.type == "cuda"):
        batch = to_device(batch, accelerator.device, dataset.prepare)
        with accelerator.autocast():
            log_prob, by_expert = model(batch["inputs"], batch.get("present"))
        outputs.append(
            keep(
                log_prob.float(),
                {name: value.float() for name, value in by_expert.items()},
                batch["y"],
            )
        )
    model.train(was_training)
    columns = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
    gathered = (
        _gather(columns, mine, len(dataset), accelerator)
        if accelerator.num_processes > 1
        else columns
    )
    labels = {"labels": np.array(dataset.labels)} if getattr(dataset, "labels", None) else {}
    return labels | {
        "id": dataset.id,
        "group": dataset.group,
        **getattr(dataset, "columns", {"y": dataset.y}),
        **{name: value.cpu().numpy() for name, value in gathered.items()},
    }


def _gather(
    columns: Mapping[str, Tensor], mine: np.ndarray, total: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Every device's rows, each in its place; the padding that makes the shares equal is dropped."""
    places = accelerator.pad_across_processes(
        torch.from_numpy(mine).to(accelerator.device), pad_index=total
    )
    places = accelerator.gather(places)
    gathered = {}
    for name, column in columns.items():
        rows = accelerator.gather(accelerator.pad_across_processes(column))
        gathered[name] = rows.new_empty(total + 1, *rows.shape[1:]).index_copy_(0, places, rows)[
            :total
        ]
    return gathered


def experts_in(predictions: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Names of the experts whose own log-probabilities the predictions hold."""
    return tuple(name.removeprefix(EXPERT) for name in predictions if name.startswith(EXPERT))


def mixture_of_experts(predictions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Log of the experts' mean probability: the rule by which the published code tested (but did
    not train) its intra rows."""
    experts = np.stack(
        [predictions[f"{EXPERT}{name}"].astype(np.float64) for name in experts_in(predictions)]
    )
    return np.logaddexp.reduce(experts, axis=0) - np.log(len(experts))


def scores_of(
    predictions: Mapping[str, np.ndarray],
    labels: Sequence[str] | None = None,
    combine: str = "product",
) -> dict[str, dict[str, float]]:
    """{'product' (or 'mixture'): {metric: value}, expert: {metric: value}, ...} of saved
    predictions."""
    combined = predictions["log_prob"] if combine == "product" else mixture_of_experts(predictions)
    named = {
        combine: combined,
        **{name: predictions[f"{EXPERT}{name}"] for name in experts_in(predictions)},
    }
    return {
        name: score(predictions["y"], log_prob, labels=labels) for name, log_prob in named.items()
    }


def score_of_class_frequencies(
    train_y: np.ndarray, y: np.ndarray, num_classes: int
) -> dict[str, float]:
    """Scores of the answer that knows the training labels [n] alone: their frequencies (each class
    counted once more, so that none is impossible), for every example; its accuracy is that of the
    majority class."""
    counts = np.bincount(train_y, minlength=num_classes) + 1.0
    return score(y, np.tile(np.log(counts / counts.sum()), (len(y), 1)))


def table_of(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Scores as an aligned text table: a row per expert, a column per metric."""
    metrics = list(next(iter(scores.values())))
    rows = [
        ["", *metrics],
        *([name, *(f"{values[m]:.4f}" for m in metrics)] for name, values in scores.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
