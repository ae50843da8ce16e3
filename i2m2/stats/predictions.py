"""What predictions of a split hold, as arrays by name: `id`, `group` [n], `y` [n(, L)], `log_prob`
[n, (L,) C], `expert_<name>` of the same shape for every expert, and `labels` [L] where an example
has several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import TypeVar

import numpy as np

from i2m2.errors import DataError
from i2m2.names import EXPERT

Predictions = Mapping[str, np.ndarray]
AtLabel = Callable[[np.ndarray], np.ndarray]  # [n, L, ...] -> [n, ...]: one label's part
Found = TypeVar("Found")

MOST_OFF = 0.05  # of a sum of probabilities that were rounded to bfloat16


def labels_of(predictions: Predictions) -> list[str] | None:
    """Names of the labels; None where an example has one."""
    return predictions["labels"].tolist() if "labels" in predictions else None


def expert_log_probs(predictions: Predictions) -> dict[str, np.ndarray]:
    """{expert: its own log-probabilities [n, (L,) C]}."""
    names = [name for name in predictions if name.startswith(EXPERT)]
    return {name.removeprefix(EXPERT): predictions[name] for name in names}


def label_names(predictions: Predictions) -> list[str]:
    """Names of the labels, their numbers where they have none; [] where an example has one."""
    if "log_prob" not in predictions or predictions["log_prob"].ndim == 2:
        return []
    return labels_of(predictions) or [str(k) for k in range(predictions["log_prob"].shape[1])]


def label_in(metric: str, labels: Iterable[str]) -> str:
    """The one of the `labels` that a metric is of, '' if of none: `nll_acl_tear` is of `acl_tear`,
    although `tear` ends it, too."""
    return max((label for label in labels if metric.endswith(f"_{label}")), key=len, default="")


def per_label(predictions: Predictions, of: Callable[[AtLabel], Found]) -> dict[str, Found]:
    """{label: of(what takes the label's part of an array)}; with one label {"": of(identity)}."""
    labels = label_names(predictions)
    if not labels:
        return {"": of(lambda array: array)}
    return {label: of(lambda array, k=k: array[:, k]) for k, label in enumerate(labels)}


def log_prob_of(predictions: Predictions) -> np.ndarray:
    """[n, (L,) C]. DataError for the compact predictions of thousands of answers, which lack it."""
    if "log_prob" not in predictions:
        raise DataError(
            "these predictions hold no log_prob: with thousands of answers only the best are kept; "
            "score them by the evaluate command of their data set "
            "(such as python -m VQA_and_NLVR2.evaluate RUN)"
        )
    return predictions["log_prob"]


def speaks(log_prob: np.ndarray) -> np.ndarray:
    """Where an expert says anything, [n, (L,) C] -> bool [n(, L)]: who lacks its modality abstains,
    and finds all answers alike."""
    return np.ptp(log_prob, axis=-1) != 0


def abstaining(predictions: Predictions) -> np.ndarray:
    """Where every expert abstains, bool [n(, L)]."""
    heard = list(map(speaks, expert_log_probs(predictions).values()))
    return ~np.any(heard, axis=0) if heard else np.zeros(log_prob_of(predictions).shape[:-1], bool)


def factors_of(predictions: Mapping[str, Predictions]) -> dict[str, np.ndarray]:
    """{run: its part in the product of these runs, [n, (L,) C] float64}: its log-probabilities, but
    0 where it abstains and its answer is the class prior. Where all abstain, the prior is the
    product's answer too: that of the first run."""
    absent = {name: abstaining(of_run) for name, of_run in predictions.items()}
    absent[next(iter(absent))] &= ~np.all(list(absent.values()), axis=0)
    return {
        name: np.where(absent[name][..., None], 0.0, log_prob_of(of_run).astype(np.float64))
        for name, of_run in predictions.items()
    }


def mark_of(*answers: np.ndarray) -> int:
    """A number (int64) that arrays have in common with none but equal ones."""
    digest = blake2b(digest_size=7)
    for array in answers:
        digest.update(np.ascontiguousarray(array))
    return int.from_bytes(digest.digest(), "big")


def mark_of_answers(predictions: Predictions, metric: str) -> int:
    """`mark_of` what a run answered: its log-probabilities, of a label's metric those of the label,
    or all that compact predictions say."""
    labels = label_names(predictions)
    if label := label_in(metric, labels):
        return mark_of(predictions["log_prob"][:, labels.index(label)])
    names = ["log_prob"] if "log_prob" in predictions else sorted(predictions)
    return mark_of(*(predictions[name] for name in names))


def same_examples(first: Predictions, second: Predictions) -> bool:
    """Whether both are of the same examples, in the same groups and order."""
    columns = ("id", "y", "group", "labels")
    return all(np.array_equal(first.get(name, ()), second.get(name, ())) for name in columns)


def classes_of(predictions: Predictions) -> int | None:
    """How many classes they tell apart; None where only the best of thousands are kept."""
    return predictions["log_prob"].shape[-1] if "log_prob" in predictions else None


def refuse_other_examples(predictions: Mapping[str, Predictions]) -> None:
    """DataError unless all, given by name, are of the same examples, in the same groups, and tell
    the same number of classes apart."""
    first, *others = predictions
    for name in others:
        if not same_examples(predictions[first], predictions[name]):
            raise DataError(
                f"{first} and {name} predicted other examples, or in another order; "
                "take runs of the same data and split"
            )
        numbers = [classes_of(predictions[run]) for run in (first, name)]
        if None not in numbers and numbers[0] != numbers[1]:
            raise DataError(
                f"{first} tells {numbers[0]:,} classes apart and {name} {numbers[1]:,}; "
                "take runs of the same labels"
            )


def fault_of(predictions: Predictions) -> str:
    """What is wrong with the columns, sizes, labels or numbers of predictions; '' if nothing is."""
    if missing := [name for name in ("id", "group") if name not in predictions]:
        return f"has no {' and no '.join(missing)}"
    for name in {"id", "group", "labels"} & set(predictions):
        column = predictions[name]
        if column.ndim != 1 or column.dtype.kind not in "iuU":
            return f"needs integers or texts {name} in a row, not {column.dtype} {column.shape}"
    n, groups = len(predictions["id"]), len(predictions["group"])
    if groups != n or n == 0:
        return f"has {n:,} ids and {groups:,} groups; it needs one group per id"
    names = [name for name in predictions if name == "log_prob" or name.startswith(EXPERT)]
    if not names:
        return ""  # a data set's own form, which its own statistics read
    if "log_prob" not in names:
        return f"has {', '.join(names)}, but no log_prob"
    y = predictions.get("y")
    shape = predictions["log_prob"].shape
    if len(shape) not in (2, 3) or shape[-1] == 0:
        return f"log_prob has the shape {shape}; it needs examples, labels if several, and classes"
    if "labels" in predictions and predictions["labels"].shape != shape[1:-1]:
        return f"names {len(predictions['labels'])} labels, but log_prob has the shape {shape}"
    integers = y is not None and np.issubdtype(y.dtype, np.integer)
    if not integers or y.shape != shape[:-1] or len(y) != n:
        return f"needs integers y of the shape {shape[:-1]} of log_prob, for {n:,} ids"
    if y.min() < 0 or y.max() >= shape[-1]:
        return f"has labels {y.min()} to {y.max()}, but log_prob is of {shape[-1]} classes"
    for name in names:
        value = predictions[name]
        if value.shape != shape:
            return f"{name} has the shape {value.shape}, not that of log_prob, {shape}"
        if value.dtype.kind != "f":
            return f"{name} is {value.dtype}, not floating-point numbers"
        if np.isnan(value).any():
            return f"{name} holds NaN"
        if (value > 1e-3).any():
            return f"{name} holds numbers above 0, which are no log-probabilities"
        if (np.abs(np.exp(value, dtype=np.float64).sum(-1) - 1) > MOST_OFF).any():
            return f"{name} holds probabilities that do not add up to 1"
    return ""
