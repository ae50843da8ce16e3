"""What the experts of a product know by themselves: entropies (Table C.7) and the cases in which
the product is right or wrong against all of them (section 4.6)."""

from __future__ import annotations

import numpy as np

from i2m2.metrics import entropy, label_entropy
from i2m2.names import PRODUCT
from i2m2.stats.predictions import AtLabel, Predictions, expert_log_probs, per_label, speaks


def entropies(predictions: Predictions) -> dict[str, dict[str, float]]:
    """Table C.7: {label, or "": {"y": entropy of the label frequencies, "product", each expert:
    mean entropy of its predictions, where it speaks}}, in nats; NaN if it never does."""
    y, product, experts = predictions["y"], predictions["log_prob"], expert_log_probs(predictions)

    def of_expert(y: np.ndarray, log_prob: np.ndarray) -> float:
        there = speaks(log_prob)
        return entropy(y[there], log_prob[there]) if there.any() else float("nan")

    def table(at: AtLabel) -> dict[str, float]:
        of_experts = {name: of_expert(at(y), at(value)) for name, value in experts.items()}
        return {"y": label_entropy(at(y)), PRODUCT: entropy(at(y), at(product)), **of_experts}

    return per_label(predictions, table)


def rescues(predictions: Predictions) -> dict[str, dict[str, float | None]]:
    """Section 4.6: {label, or "": `rescue_rate`}; right is who finds the label most probable."""
    y, product, experts = predictions["y"], predictions["log_prob"], expert_log_probs(predictions)

    def rate(at: AtLabel) -> dict[str, float | None]:
        heard = np.stack([speaks(at(value)) for value in experts.values()])
        right = np.stack([at(value).argmax(-1) == at(y) for value in experts.values()])
        return rescue_rate(at(product).argmax(-1) == at(y), right, heard)

    return per_label(predictions, rate)


def rescue_rate(
    product: np.ndarray, experts: np.ndarray, heard: np.ndarray | None = None
) -> dict[str, float | None]:
    """How often a product is right ([n] bool) against its experts ([M, n] bool), or wrong. Who is
    not `heard` ([M, n] bool) is neither, and examples where nobody is are none of these.

    `rescued`: product right where every expert is wrong (`all_wrong` examples). `spoilt`: product
    wrong where every expert is right (`all_right`). `lost`: product wrong where any expert is right
    (`some_right`). Each as a count, as `<name>_share` of all examples, and as `<name>_of_<cases>`,
    its share of the examples in which it could happen (None if there are none).
    """
    heard = np.ones_like(experts) if heard is None else heard
    asked = heard.any(axis=0)
    n = int(asked.sum())
    some, every = (experts & heard).any(axis=0), asked & (experts | ~heard).all(axis=0)
    found: dict[str, float | None] = {"examples": n}
    for name, cases, possible, outcome in (
        ("rescued", "all_wrong", asked & ~some, product),
        ("spoilt", "all_right", every, ~product),
        ("lost", "some_right", some, ~product),
    ):
        size, count = int(possible.sum()), int((possible & outcome).sum())
        found |= {cases: size, name: count, f"{name}_share": count / n if n else None}
        found[f"{name}_of_{cases}"] = count / size if size else None
    return found
