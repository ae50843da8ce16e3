"""Boosted trees, a model of every default expert."""

from __future__ import annotations

from typing import Any

import numpy as np

from i2m2.estimator.families import Categorical, Family
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.scikit_learn import outputs_of_models, with_values
from i2m2.estimator.prepared.forms import Prepared, PreparedBlocks, joined

FEW_ROWS = 10_000  # up to which trees are small and tell few values apart, which takes less time
FEW_BINS = 63
FEW_CLASSES = 5
MOST_ROUNDS = 400  # of boosting


class Trees:
    """Histogram-based gradient boosting on the few features, stopped where held-out rows are
    predicted best. `additive`: no tree splits by two modalities."""

    def __init__(self, additive: bool = False) -> None:
        self.additive = additive

    def fit(self, examples: Examples) -> np.ndarray:
        block = joined(examples.blocks, examples.modalities)
        self.modalities, self.family = examples.modalities, examples.family
        self.models: list[list[Any]] = []
        options = {"interaction_cst": _columns_of_each(examples)} if self.additive else {}
        outputs = examples.unknown()
        for place, (training, held_out) in enumerate(examples.splits()):
            options["random_state"] = examples.seed + place
            models = [
                _boosted(block, examples.y[:, k], training, held_out, self.family, options)
                for k in range(self.family.shape[0])
            ]
            self.models.append(models)
            outputs[held_out] = outputs_of_models(
                models, block.features[held_out], self.family, len(training)
            )
        self.rows = int((examples.folds >= 0).sum())
        return outputs

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        features = joined(blocks, self.modalities).features
        each = [
            outputs_of_models(models, features, self.family, self.rows) for models in self.models
        ]
        return np.mean(each, axis=0)


def _columns_of_each(examples: Examples) -> list[set[int]]:
    """The places of each modality's columns among those of all."""
    widths = [len(examples.blocks[name].names) for name in examples.modalities]
    places = np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1])
    return [set(one.tolist()) for one in places]


def _boosted(block: Prepared, y, training, held_out, family: Family, options: dict) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    classes = len(np.unique(y[training])) if isinstance(family, Categorical) else 0
    if classes == 1:
        return int(y[training][0])
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    many, few = classes > 2, len(training) <= FEW_ROWS
    model = kind(
        learning_rate=_learning_rate(classes, len(training)),
        max_iter=MOST_ROUNDS,
        max_leaf_nodes=15 if few else 31,
        max_bins=FEW_BINS if few and _most_categories(block) <= FEW_BINS else 255,
        l2_regularization=1.0,
        early_stopping=True,
        n_iter_no_change=10 if many else 20,
        categorical_features=block.categorical if block.categorical.any() else None,
        **options,
    )
    x = block.features
    seen = with_values(x[training])
    if classes:  # a class that the training rows lack cannot be scored
        held_out = held_out[np.isin(y[held_out], np.unique(y[training]))]
    if not len(held_out):
        held_out = training
    return model.fit(seen, y[training], X_val=x[held_out], y_val=y[held_out])


def _most_categories(block: Prepared) -> int:
    codes = block.features[:, block.categorical]
    return int(np.fmax.reduce(codes, axis=None, initial=0)) + 1


def _learning_rate(classes: int, rows: int) -> float:
    """Larger where a round of boosting takes long: a tree per class, many rows."""
    if classes > FEW_CLASSES:
        return 0.3
    return 0.1 if classes > 2 or rows > FEW_ROWS else 0.05
