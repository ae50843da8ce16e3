"""NLVR2's accuracy and consistency, from [n] predicted labels. Fractions."""

from __future__ import annotations

import numpy as np

from VQA_and_NLVR2.nlvr2.files import Sentences


def accuracy(right: np.ndarray) -> float:
    """Share of examples that are right; NaN over none."""
    return float(right.mean()) if len(right) else float("nan")


def consistency(group: np.ndarray, right: np.ndarray) -> float:
    """Share of groups (the same sentence about several image pairs) of which every example is
    right; NaN over none."""
    if not len(right):
        return float("nan")
    _, group = np.unique(group, return_inverse=True)
    return float((np.bincount(group, ~np.asarray(right, bool)) == 0).mean())


def scores(
    sentences: Sentences,
    predicted: np.ndarray,
    balanced: np.ndarray | None = None,
    unbalanced: np.ndarray | None = None,
) -> dict[str, float]:
    """accuracy, consistency and, where masks [n] of the subsets are given, accuracy_balanced and
    accuracy_unbalanced."""
    right = np.asarray(predicted) == sentences.label
    found = {"accuracy": accuracy(right), "consistency": consistency(sentences.group, right)}
    masks = {"accuracy_balanced": balanced, "accuracy_unbalanced": unbalanced}
    return found | {name: accuracy(right[mask]) for name, mask in masks.items() if mask is not None}
