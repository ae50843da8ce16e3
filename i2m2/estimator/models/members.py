"""The models of an expert, one per fold of the training rows: linear, network, trees, or a user's.

`fit` trains model e on the rows outside fold e and returns each row's outputs [n, L, K] by the
model that did not see it (NaN where the expert's modalities are absent); `outputs` gives new rows
the mean of all models."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from i2m2.estimator.families import Categorical, Family
from i2m2.estimator.given.values import InputError
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.linear import Linear
from i2m2.estimator.models.networks import (
    AdditiveNetwork,
    ModuleStack,
    StackedNetwork,
    outputs_of,
    rows_of,
    tensors_of,
)
from i2m2.estimator.models.training import TrainingSettings, padded, train
from i2m2.estimator.prepared.forms import Prepared, PreparedBlocks, joined

FEW_ROWS = 10_000  # up to which trees are small and tell few values apart, which takes less time
FEW_BINS = 63
FEW_CLASSES = 5
MOST_ROUNDS = 400  # of boosting


class Fitted:
    """A model that was fitted on the same examples before, and its outputs of them."""

    def __init__(self, member: Linear, held_out: np.ndarray) -> None:
        self.member, self.held_out = member, held_out

    def fit(self, examples: Examples) -> np.ndarray:
        return self.held_out

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        return self.member.outputs(blocks)


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


def with_values(x: Any) -> Any:
    """Training rows in which a column that has no value holds 0: it says as little, and trees
    cannot be fitted on NaN alone."""
    if hasattr(x, "columns"):
        empty = x.columns[x.isna().all()]
        return x.assign(**dict.fromkeys(empty, 0.0)) if len(empty) else x
    return np.where(np.isnan(x).all(axis=0), 0.0, x)


class Network:
    """The default network or a user's module, see `networks`."""

    def __init__(self, settings: TrainingSettings, given: Any = None) -> None:
        self.settings, self.given = settings, given

    def fit(self, examples: Examples) -> np.ndarray:
        self.modalities, self.family = examples.modalities, examples.family
        self.models = examples.models
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(examples.seed)
            self.build(examples.blocks)
            self._train(examples, self.settings)
        return self.held_out(examples)

    def held_out(self, examples: Examples) -> np.ndarray:
        """Each row's outputs by the model that did not see it."""
        found = examples.unknown()
        rows = [held_out for _, held_out in examples.splits()]
        for own, outputs in zip(rows, self._each(examples.blocks, padded(rows)[0]), strict=True):
            found[own] = outputs[: len(own)]
        return found

    def build(self, blocks: PreparedBlocks) -> None:
        """The untrained network, of the widths that the blocks have."""
        shape = self.family.shape
        self.shapes = {name: _shape_of(blocks[name]) for name in self.modalities}
        if self.given is None:
            known = (self.models, blocks, self.modalities, shape, self.settings)
            self.network = StackedNetwork(*known)
        else:
            with _errors_of(self.given, self.modalities):
                self.network = ModuleStack(self.models, self.given, blocks, self.modalities, shape)

    def _train(
        self, examples: Examples, settings: TrainingSettings, begin_with: bool = False
    ) -> None:
        inputs = tensors_of(examples.blocks, self.modalities)
        y = torch.from_numpy(examples.y)
        y = y.float() if y.is_floating_point() else y

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return self.family.network_loss(self.network(rows_of(inputs, rows)), y[rows])

        generator = torch.Generator().manual_seed(examples.seed)
        train([self.network], loss, examples.folds, settings, generator, begin_with)

    def _each(self, blocks: PreparedBlocks, rows: torch.Tensor) -> np.ndarray:
        """Every model's outputs for its rows [E, m], [E, m, L, K]."""
        return self.family.network_outputs(outputs_of(self.network, blocks, rows))

    def outputs(self, blocks: PreparedBlocks) -> np.ndarray:
        every = torch.arange(len(next(iter(blocks.values()))))
        return self._each(blocks, every.expand(self.models, -1)).mean(axis=0)


class SumOfNetworks(Network):
    """Default networks of one modality each, trained alone and then further, together. `trained`:
    some that were trained alone already, on a model per fold of all that have the modality."""

    def __init__(self, settings: TrainingSettings, trained: Mapping[str, Network]) -> None:
        super().__init__(settings)
        self.trained = trained

    def fit(self, examples: Examples) -> np.ndarray:
        self.modalities, self.family = examples.modalities, examples.family
        self.models = examples.models
        parts = [self._alone(examples, name) for name in self.modalities]
        self.network = AdditiveNetwork([copy.deepcopy(part.network) for part in parts])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(examples.seed)
            self._train(examples, self.settings.for_fine_tuning(), begin_with=True)
        return self.held_out(examples)

    def _alone(self, examples: Examples, name: str) -> Network:
        known = self.trained.get(name)
        if known is not None and known.models == examples.models:  # else of other folds
            return known
        network = Network(self.settings)
        network.fit(replace(examples, modalities=(name,)))
        return network


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
                with _errors_of(model, self.modalities):
                    seen = with_values(_rows(x, training))
                    models.append(int(y[0]) if alone else model.fit(seen, y))
            self.models.append(models)
            with _errors_of(self.given, self.modalities):
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
        with _errors_of(self.given, self.modalities):
            each = [outputs_of_models(models, x, self.family, self.rows) for models in self.models]
        return np.mean(each, axis=0)


def _names_columns(model: Any) -> bool:
    """Whether a ColumnTransformer, which selects columns by name, is it or a part of it."""
    from sklearn.compose import ColumnTransformer

    parts = [model, *model.get_params(deep=True).values()]
    return any(isinstance(part, ColumnTransformer) for part in parts)


@contextmanager
def _errors_of(model: Any, modalities: Sequence[str]) -> Iterator[None]:
    """What a user's model, or function that makes one, raises as an InputError of one line that
    names it."""
    name = getattr(model, "__name__", type(model).__name__)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # it is not our code that runs there
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name}, the expert that reads {' and '.join(modalities)}: {reason}"
        ) from error


def _shape_of(block: Prepared) -> tuple[int, tuple[int, ...] | None]:
    """Width of the dense form, and the grid's shape."""
    grid = None if block.grid is None else tuple(block.grid.shape[1:])
    return block.dense.shape[1], grid


Member = Linear | Fitted | Trees | Network | ScikitLearn


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
