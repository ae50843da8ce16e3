"""A user's scikit-learn model as an expert, and what is asked of any model of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from i2m2.estimator.families import Categorical, Family
from i2m2.estimator.given.values import InputError, errors_of
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.prepared.forms import PreparedBlocks, joined


class ScikitLearn:
    """A user's scikit-learn model, a clone per fold. It reads a DataFrame of the block's features
    (numbers with NaN, categories) if it can work with NaN or names columns itself, else the dense
    form."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def fit(self, examples: Examples) -> np.ndarray:
        from sklearn.base import clone, is_classifier
        from sklearn.utils import get_tags

        if is_classifier(self.given) and not isinstance(examples.family, Categorical):
            kind = type(self.given).__name__
            raise InputError(f"{kind} is a classifier; a regression's expert is a regressor")
        self.modalities, self.family = examples.modalities, examples.family
        self.raw = get_tags(self.given).input_tags.allow_nan or _names_columns(self.given)
        x = self._inputs(examples.blocks)
        self.models, outputs = [], examples.unknown()
        for place, (training, held_out) in enumerate(examples.splits()):
            models = []
            for k in range(self.family.shape[0]):
                y = examples.y[training, k]
                model = clone(self.given)
                _seed(model, examples.seed + place)
                alone = isinstance(self.family, Categorical) and len(np.unique(y)) == 1
                with errors_of(model, self.modalities):
                    seen = with_values(_rows(x, training))
                    models.append(int(y[0]) if alone else model.fit(seen, y))
            self.models.append(models)
            with errors_of(self.given, self.modalities):
                outputs[held_out] = outputs_of_models(
                    models, _rows(x, held_out), self.family, len(training)
                )
        self.rows = int((examples.folds >= 0).sum())
        return outputs

    def _inputs(self, blocks: PreparedBlocks) -> Any:
        block = joined(blocks, self.modalities)
        if not self.raw:
            return block.dense
        import pandas as pd

        frame = pd.DataFrame(block.features, columns=block.names)
        for place in np.flatnonzero(block.categorical):
            frame[block.names[place]] = frame[block.names[place]].astype("category")
        return frame

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        x = self._inputs(blocks)
        with errors_of(self.given, self.modalities):
            each = [outputs_of_models(models, x, self.family, self.rows) for models in self.models]
        return np.mean(each, axis=0)


def _names_columns(model: Any) -> bool:
    """Whether a ColumnTransformer, which selects columns by name, is it or a part of it."""
    from sklearn.compose import ColumnTransformer

    parts = [model, *model.get_params(deep=True).values()]
    return any(isinstance(part, ColumnTransformer) for part in parts)


def _rows(x: Any, rows: np.ndarray) -> Any:
    return x.iloc[rows] if hasattr(x, "iloc") else x[rows]


def _seed(model: Any, seed: int) -> None:
    """Every `random_state` that was left open, that of a pipeline's step too."""
    open_ones = {
        name: seed
        for name, value in model.get_params(deep=True).items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    model.set_params(**open_ones)


def with_values(x: Any) -> Any:
    """Training rows in which a column that has no value holds 0: it says as little, and trees
    cannot be fitted on NaN alone."""
    if hasattr(x, "columns"):
        empty = x.columns[x.isna().all()]
        return x.assign(**dict.fromkeys(empty, 0.0)) if len(empty) else x
    return np.where(np.isnan(x).all(axis=0), 0.0, x)


def _checked(found: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """What a model predicts. ValueError where that is of another shape, or no number that it can
    be."""
    found = np.asarray(found, dtype=np.float64)
    if found.shape != shape:
        raise ValueError(f"{what} gives an array of the shape {found.shape}, not {shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{what} gives NaN or infinite values")
    if what == "predict_proba" and (found < 0).any():
        raise ValueError(f"{what} gives numbers below 0, which are no probabilities")
    return found


def outputs_of_models(models: Sequence[Any], x: Any, family: Family, rows: int) -> np.ndarray:
    """Outputs [n, L, K] of one model per label, each fitted on so many rows; an int stands for a
    class that was the only one."""
    n = len(x)
    outputs = np.zeros((n, *family.shape))
    if not n:
        return outputs
    for label, model in enumerate(models):
        if not isinstance(family, Categorical):
            outputs[:, label, 0] = _checked(model.predict(x), (n,), "predict")
            continue
        size = family.sizes[label]
        p = np.zeros((n, family.shape[1]))
        if isinstance(model, int):
            p[:, model] = 1.0
        elif hasattr(model, "predict_proba"):
            wanted = (n, len(model.classes_))
            p[:, model.classes_] = _checked(model.predict_proba(x), wanted, "predict_proba")
        else:
            kind = type(model).__name__
            raise InputError(f"{kind} has no predict_proba; give a classifier that has")
        # No model may be surer than its rows allow: at most as if one more row spoke against it.
        p[:, :size] = (p[:, :size] * rows + 1 / size) / (rows + 1)
        with np.errstate(divide="ignore"):
            outputs[:, label] = np.maximum(np.log(p), -1e3)
    return outputs
