"""What the experts of a product know by themselves, from saved predictions: entropies (Table C.7)
and rescues (section 4.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from i2m2.errors import SettingsError
from i2m2.metrics import entropy, label_entropy
from i2m2.training.evaluate import EXPERT, experts_in
from i2m2.training.experiment import Predictions, labels_of

Part = Callable[[np.ndarray], np.ndarray]  # [n, L, ...] -> [n, ...]: one label's part of an array
Found = TypeVar("Found")


def expert_log_probs(predictions: Predictions) -> dict[str, np.ndarray]:
    """{expert: its own log-probabilities [n, (L,) C]}."""
    return {name: predictions[f"{EXPERT}{name}"] for name in experts_in(predictions)}


def per_label(predictions: Predictions, of: Callable[[Part], Found]) -> dict[str, Found]:
    """{label: of(a function that takes the label's part out of an array)}; {"": of(identity)} where
    an example has one label."""
    if predictions["y"].ndim == 1:
        return {"": of(lambda array: array)}
    labels = labels_of(predictions) or list(map(str, range(predictions["y"].shape[1])))
    return {
        label: of(lambda array, place=place: array[:, place]) for place, label in enumerate(labels)
    }


def entropies(predictions: Predictions) -> dict[str, dict[str, float]]:
    """Table C.7: {label, or "": {"y": entropy of the label frequencies, "product", each expert:
    mean entropy of its predictions}}, in nats. An expert that knows nothing but the frequencies is
    as uncertain as y."""
    y, log_probs = (
        predictions["y"],
        {"product": predictions["log_prob"], **expert_log_probs(predictions)},
    )

    def table(at: Part) -> dict[str, float]:
        return {
            "y": label_entropy(at(y)),
            **{name: entropy(at(y), at(value)) for name, value in log_probs.items()},
        }

    return per_label(predictions, table)


def rescues(predictions: Predictions) -> dict[str, dict[str, Any]]:
    """Section 4.6: {label, or "": `rescue_rate`}; right is who finds the label most probable.
    SettingsError with fewer than two experts, of which the product is nothing else."""
    y, product, experts = predictions["y"], predictions["log_prob"], expert_log_probs(predictions)
    if len(experts) < 2:
        raise SettingsError(
            "a product rescues what its experts miss, and this run has fewer than two; give one of intra or i2m2"
        )

    def rate(at: Part) -> dict[str, Any]:
        right = [at(value).argmax(-1) == at(y) for value in experts.values()]
        return rescue_rate(at(product).argmax(-1) == at(y), np.stack(right))

    return per_label(predictions, rate)


def rescue_rate(product: np.ndarray, experts: np.ndarray) -> dict[str, Any]:
    """Of [n] bool, whether the product is right, and [M, n] bool, whether each expert is:

    `rescued`: product right where every expert is wrong (`all_wrong` examples). `spoilt`: product
    wrong where every expert is right (`all_right`). `lost`: product wrong where any expert is right
    (`some_right`). Each as a count, as `<name>_share` of all examples, and as `<name>_of_<cases>`,
    its share of the examples in which it could happen (None if there are none).
    """
    n = len(product)
    none, every = ~experts.any(axis=0), experts.all(axis=0)
    found: dict[str, Any] = {"examples": n}
    for name, cases, possible, outcome in (
        ("rescued", "all_wrong", none, product),
        ("spoilt", "all_right", every, ~product),
        ("lost", "some_right", ~none, ~product),
    ):
        size, count = int(possible.sum()), int((possible & outcome).sum())
        found |= {
            cases: size,
            name: count,
            f"{name}_share": count / n,
            f"{name}_of_{cases}": count / size if size else None,
        }
    return found
