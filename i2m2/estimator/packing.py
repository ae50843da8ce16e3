"""Boosted trees as a few long arrays: one by one, thousands of trees take minutes to write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

PARTS = ("nodes", "binned_left_cat_bitsets", "raw_left_cat_bitsets")  # of a tree


def boosted(models: Any) -> Iterator[Any]:
    """The histogram-based gradient boosting models among nested lists."""
    if isinstance(models, list):
        for one in models:
            yield from boosted(one)
    elif hasattr(models, "_predictors"):
        yield models


def pack(model: Any) -> None:
    """Put the trees of a model, a list for each round, into one array for each part."""
    trees = [tree for of_round in model._predictors for tree in of_round]
    parts = {name: [getattr(tree, name) for tree in trees] for name in PARTS}
    model._predictors = {
        "rounds": [len(of_round) for of_round in model._predictors],
        "ends": {name: np.cumsum([len(one) for one in each]) for name, each in parts.items()},
        "parts": {name: np.concatenate(each) for name, each in parts.items()},
    }


def unpack(model: Any) -> None:
    """The reverse of `pack`."""
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    packed = model._predictors
    parts = (np.split(packed["parts"][name], packed["ends"][name][:-1]) for name in PARTS)
    trees = (TreePredictor(*own) for own in zip(*parts, strict=True))
    model._predictors = [[next(trees) for _ in range(count)] for count in packed["rounds"]]
