"""`I2M2Classifier` and `I2M2Regressor`: the method for data of one's own, as scikit-learn
estimators.

    from i2m2 import I2M2Classifier
    model = I2M2Classifier().fit({"static": table, "series": array}, y)
    model.predict_proba(X)        # the product of all experts
    model.experts_proba(X)        # each expert by itself
    model.contributions(X)        # what each adds to the logits, in nats

One expert per modality and one (or more, `interactions`) for all of them together; each is an
average of models of five folds of the training rows, and their product is fitted on the rows that
each model did not see. Madaan et al., NeurIPS 2024, sections 3 and 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from i2m2.estimator.experts import (
    INTERACTIONS,
    Pools,
    expert_names,
    fit_experts,
    trainable,
)
from i2m2.estimator.families import Categorical, Family, Gaussian
from i2m2.estimator.given.blocks import read_blocks, refuse_other_order
from i2m2.estimator.given.folds import as_groups, make_folds, strata_of
from i2m2.estimator.given.kinds import Blocks, refuse_duplicates, warn_of_unique_texts
from i2m2.estimator.given.targets import (
    as_labels,
    as_targets,
    encode_labels,
    refuse_constant,
    refuse_target,
)
from i2m2.estimator.given.values import InputError, as_array, as_frame, shown
from i2m2.estimator.joint import train_jointly
from i2m2.estimator.models.training import TrainingSettings, few_threads
from i2m2.estimator.prepared.forms import PreparedBlocks
from i2m2.estimator.prepared.preparation import Preparation

COMBINE = ("best", "joint", "separate")


class _I2M2(BaseEstimator):
    """What classifier and regressor share."""

    def __init__(
        self,
        modalities: Mapping[str, Any] | None = None,
        *,
        kinds: Mapping[str, str] | None = None,
        experts: Mapping[str, Any] | None = None,
        interactions: str = "all",
        combine: str = "best",
        folds: int = 5,
        network: Mapping[str, Any] | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.modalities = modalities
        self.kinds = kinds
        self.experts = experts
        self.interactions = interactions
        self.combine = combine
        self.folds = folds
        self.network = network
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None) -> _I2M2:
        """Fit on `X` (see the class), labels or targets `y` [n] or [n, L]; rows of one of `groups`
        [n] are never on both sides of a split. InputError for what cannot be used."""
        self._check_settings()
        _refuse_other_order(X, y, groups=groups)
        target = as_labels(y)
        blocks = self._blocks(X, fitting=True)
        n = len(next(iter(blocks.values())))
        if len(target) != n:
            raise InputError(
                f"X has {n} rows and y has {len(target)}, inconsistent numbers of samples; "
                "give one label a row"
            )
        if isinstance(X, Mapping) or hasattr(X, "columns") or self.modalities is not None:
            refuse_target(blocks, y)  # of a bare array scikit-learn's checks predict a column
        warn_of_unique_texts(blocks)
        self.family_, encoded, strata = self._encode(target)
        of_rows = None if groups is None else as_groups(groups, n)
        seed = self._seed()
        folds = make_folds(strata, of_rows, n, self.folds, seed)
        with few_threads(n):
            self.preparation_ = Preparation().fit(blocks, seed)
            prepared = self.preparation_.transform(blocks)
            self._fit_experts(prepared, encoded, folds, seed)
        return self

    def _check_settings(self) -> None:
        for name in ("experts", "network"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Mapping):
                raise InputError(f"{name}={shown(given)}: give a mapping, {name}={{name: value}}")
        choices = {"interactions": INTERACTIONS, "combine": COMBINE}
        for name, allowed in choices.items():
            given = getattr(self, name)
            if not isinstance(given, str) or given not in allowed:
                choose = f"choose one of {', '.join(allowed)}"
                raise InputError(f"{name}={shown(given)} is unknown; {choose}")
        if not isinstance(self.folds, (int, np.integer)) or self.folds < 2:
            raise InputError(f"folds={shown(self.folds)}: give a whole number from 2")
        TrainingSettings.of(self.network)

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state) % 2**31
        from sklearn.utils import check_random_state

        try:
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        except ValueError as error:
            given = shown(self.random_state)
            raise InputError(f"random_state={given}: give a whole number or None") from error

    def _blocks(self, X: Any, fitting: bool = False) -> Blocks:
        """Read `X`; a table must have the columns that it had in training."""
        if hasattr(X, "toarray"):
            raise TypeError("X is sparse; dense data is required, use X.toarray()")
        if not isinstance(X, Mapping):
            X = self._check_columns(as_frame("X", X), fitting)
            if not fitting and self.modalities is None and "X" not in self.preparation_.of_block:
                known = ", ".join(self.preparation_.of_block)
                raise InputError(f"X was a mapping of blocks in training ({known}); give one again")
        elif fitting and self.modalities is not None:
            raise InputError(
                "modalities deals out the columns of a table, and X is a mapping of blocks; leave "
                "modalities out, and of X what no expert is to read"
            )
        elif not fitting:
            known = self.preparation_.of_block
            X = {name: part for name, part in X.items() if part is not None or name not in known}
        blocks = read_blocks(
            X, self.modalities if not isinstance(X, Mapping) else None, self._kinds(X, fitting)
        )
        if not len(next(iter(blocks.values()))):
            raise InputError("X has 0 sample(s), while a minimum of 1 is required")
        return blocks

    def _kinds(self, X: Any, fitting: bool) -> Mapping[str, str] | None:
        """The kinds that are named, and after training those found then."""
        kinds = self.kinds
        if not fitting:
            kinds = self.preparation_.kinds | dict(kinds or {})
            if isinstance(X, Mapping):
                kinds = {name: kind for name, kind in kinds.items() if name in X}
        return kinds

    def _check_columns(self, X: Any, fitting: bool) -> Any:
        """A table, or what is one, with scikit-learn's `n_features_in_`, `feature_names_in_`. Of a
        DataFrame whose columns `modalities` names, only these need be there after training."""
        from sklearn.utils.validation import _check_feature_names, _check_n_features

        X = X if hasattr(X, "columns") else as_array("X", X)
        if X.ndim != 2 and (self.modalities is not None or not self.kinds):
            raise InputError(
                f"Reshape your data: X is a table [n, D] or a mapping of blocks, "
                f"not an array of shape {X.shape}"
            )
        if 0 in X.shape:
            what = "sample" if X.shape[0] == 0 else "feature"
            raise InputError(
                f"X has 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required."
            )
        if not fitting and self.modalities is not None and hasattr(X, "columns"):
            return X
        if hasattr(X, "columns"):
            refuse_duplicates("X", X)
        _check_feature_names(self, X, reset=fitting)
        _check_n_features(self, X, reset=fitting)
        return X

    def _fit_experts(
        self, prepared: PreparedBlocks, y: np.ndarray, folds: np.ndarray, seed: int
    ) -> None:
        """Experts trained alone and, where asked for and possible, jointly; keep the better."""
        reads = expert_names(tuple(prepared), self.interactions)
        given = dict(self.experts or {})
        if unknown := [name for name in given if name not in reads]:
            raise InputError(
                f"experts: there is no expert {unknown[0]!r}; there are {', '.join(reads)}"
            )
        reads = trainable(reads, prepared, folds)
        settings = TrainingSettings.of(self.network)
        self.prior_ = self.family_.prior(y)
        separate = fit_experts(prepared, y, folds, self.family_, reads, given, settings, seed)
        ways = {"separate": (separate, Pools(separate, y, self.prior_))}
        jointly = separate.can_be_trained_jointly(prepared, folds)
        if self.combine == "joint" and not jointly:
            raise InputError(
                "combine='joint' needs two or more experts, a network among them, and rows of "
                "every network's modalities in every fold; take combine='separate'"
            )
        if self.combine != "separate" and jointly:
            pools = ways["separate"][1]
            joint = train_jointly(separate, list(reads), pools, prepared, y, folds, settings, seed)
            ways["joint"] = (joint, Pools(joint, y, self.prior_))
        self.validation_nll_ = {
            name: float(pools.validation_losses(folds).mean()) for name, (_, pools) in ways.items()
        }
        wanted = list(ways) if self.combine == "best" else [self.combine]
        self.combine_ = min(wanted, key=lambda name: self.validation_nll_[name])
        self.experts_, self.pools_ = ways[self.combine_]
        self.expert_names_ = list(reads)

    def _outputs(self, X: Any) -> dict[str, np.ndarray]:
        check_is_fitted(self)
        blocks = self._blocks(X)
        prepared = self.preparation_.transform(blocks)
        with few_threads(len(next(iter(prepared.values())))):
            return self.experts_.outputs(prepared)

    def _product(self, X: Any) -> np.ndarray:
        outputs = self._outputs(X)
        return self.pools_.product(outputs)

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a folder, without pickle: networks as safetensors, the rest by
        skops, an overview as JSON."""
        from i2m2.estimator.persistence import save

        check_is_fitted(self)
        save(self, Path(path))

    @classmethod
    def load(
        cls, path: str | Path, experts: Mapping[str, Any] | None = None, trusted: Sequence[str] = ()
    ) -> _I2M2:
        """Read a model from the folder that `save` wrote. `experts`: the modules or factories that
        it was fitted with, whose code is not in the folder; `trusted`: names of further types that
        it may hold (`skops.io.get_untrusted_types` lists them). InputError if it cannot be read."""
        from i2m2.estimator.persistence import load

        return load(cls, Path(path), experts, trusted)


class I2M2Classifier(ClassifierMixin, _I2M2):
    """Classify multi-modal examples by the product of intra- and inter-modality experts.

    Args:
        modalities: for a table, {modality: its columns}: a list of columns, a column of arrays,
            texts or strings, a slice, or (columns, shape of an example); None: `X` is a mapping of
            blocks, or one table
        kinds: {modality: table, series, picture, text or embedding} where not to be inferred
        experts: {expert: a scikit-learn classifier, an nn.Module, or a function (shape of an
            example, classes) -> module}; an expert is a modality, `inter`, or `a+b`; default: a
            linear model, boosted trees and a network, whose log-probabilities are weighted. What a
            module reads and gives stands below
        interactions: fused experts: `all` (one of all modalities), `pairs`, `subsets` (paper,
            section 5)
        combine: `joint` (networks trained further through the product, as in the paper), `separate`
            (a logarithmic opinion pool of experts trained alone), `best`: the one with the smaller
            NLL on held-out training rows, see `combine_`
        folds: models of every expert, each trained without one fold of the training rows
        network: settings of the networks, see `TrainingSettings`
        random_state: fixes folds, initialisation and order; None: another every time

    A row whose values of a modality are all missing (NaN, None) lacks it: the experts that read it
    abstain, and the others are pooled with weights fitted for them; with none left the answer is
    the class prior. Attributes: `classes_` (a list for several labels), `combine_`,
    `validation_nll_` (nats), `expert_names_`.

    A module of yours reads standardised float32: [B, D] of a table (categories one-hot), text or
    embedding; [B, T, C] of a series, of at most 64 steps (longer ones are averaged), or [B, T, 2 C]
    where the training data have gaps, the C behind saying whether a value was measured;
    [B, C, H, W] of a picture; a fused one a dict {modality: these}. It gives logits [B, K], or
    [B, L, K] of L labels. A module is trained on from the weights that it has, in a copy for every
    fold; a function makes fresh ones."""

    def _encode(self, y: np.ndarray) -> tuple[Family, np.ndarray, np.ndarray]:
        encoded, classes = encode_labels(y)
        self.classes_ = classes[0] if y.ndim == 1 else classes
        return Categorical([len(one) for one in classes]), encoded, strata_of(encoded)

    def predict_log_proba(self, X: Any) -> np.ndarray | list[np.ndarray]:
        """log p(y | x) [n, C]; of several labels a list of these."""
        return self._by_label(self._product(X))

    def predict_proba(self, X: Any) -> np.ndarray | list[np.ndarray]:
        """p(y | x) [n, C]; of several labels a list of these."""
        return self._by_label(np.exp(self._product(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, [n] or [n, L]."""
        found = self._product(X).argmax(axis=-1)
        if isinstance(self.classes_, np.ndarray):
            return self.classes_[found[:, 0]]
        columns = [classes[found[:, k]] for k, classes in enumerate(self.classes_)]
        kinds = {column.dtype.kind for column in columns}
        if len(kinds) > 1:  # numbers beside texts stay numbers
            columns = [column.astype(object) for column in columns]
        return np.stack(columns, axis=1)

    def experts_proba(self, X: Any) -> dict[str, np.ndarray | list[np.ndarray]]:
        """{expert: q(y | x) [n, C]}, rows of NaN where it abstains."""
        return {name: self._by_label(np.exp(one)) for name, one in self._outputs(X).items()}

    def contributions(self, X: Any) -> dict[str, np.ndarray | list[np.ndarray]]:
        """{expert, and `prior`: what it adds to the logits [n, C], nats}; their sum is the logits
        of the product, of which `predict_log_proba` is the log-softmax."""
        outputs = self._outputs(X)
        found = self.pools_.contributions(outputs)
        return {name: self._by_label(one) for name, one in found.items()}

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; of several labels the mean of theirs."""
        _refuse_other_order(X, y)
        if isinstance(getattr(self, "classes_", None), list):
            found, labels = self.predict(X), as_labels(y)
            _refuse_other_shape(labels, found)
            right = (found == labels).mean(axis=1)
            return float(np.average(right, weights=sample_weight))
        return super().score(X, y, sample_weight)

    def _by_label(self, values: np.ndarray) -> np.ndarray | list[np.ndarray]:
        if isinstance(self.classes_, np.ndarray):
            return values[:, 0]
        return [values[:, k, : len(classes)] for k, classes in enumerate(self.classes_)]


class I2M2Regressor(RegressorMixin, _I2M2):
    """Predict numbers by the product of intra- and inter-modality experts, each a Gaussian: mean
    and variance of the target given what it reads. The product is the precision-weighted Gaussian.

    Arguments: as of `I2M2Classifier`; a scikit-learn expert is a regressor, and a module gives two
    numbers per target, mean and log variance of the standardised target.
    """

    def _encode(self, y: np.ndarray) -> tuple[Family, np.ndarray, None]:
        target = as_targets(y)
        refuse_constant(target)
        self.single_ = y.ndim == 1
        self.center_, scale = target.mean(axis=0), target.std(axis=0)
        self.scale_ = np.where(scale > 0, scale, 1.0)
        return Gaussian(target.shape[1]), (target - self.center_) / self.scale_, None

    def predict(
        self, X: Any, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The mean of every row's Gaussian [n] or [n, L], and if asked its standard deviation."""
        mean, std = self._gaussian(self._product(X))
        return (mean, std) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.95) -> np.ndarray:
        """Ends [2, n] (or [2, n, L]) of the interval that holds the target with this
        probability."""
        from scipy.stats import norm

        _check_level(level)
        mean, std = self.predict(X, return_std=True)
        half = norm.ppf(0.5 + level / 2) * std
        return np.stack([mean - half, mean + half])

    def experts_predict(self, X: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{expert: mean and standard deviation of each row}, NaN where it abstains."""
        return {name: self._gaussian(one) for name, one in self._outputs(X).items()}

    def contributions(self, X: Any) -> dict[str, np.ndarray]:
        """{expert, and `prior`: what it adds to the mean, in units of the target}; their sum is
        `predict`."""
        outputs = self._outputs(X)
        parts = self.pools_.contributions(outputs)
        found = {name: self._shaped(part * self.scale_) for name, part in parts.items()}
        found["prior"] = found["prior"] + self._shaped(self.center_[None])
        return found

    def scores(self, X: Any, y: Any, level: float = 0.95) -> dict[str, float]:
        """R2, RMSE, NLL (nats, of the density of `y`) and the share of targets within their
        interval of this level; the mean over several targets."""
        _check_level(level)
        _refuse_other_order(X, y)
        target = as_targets(as_labels(y))
        outputs = self._product(X)
        _refuse_other_shape(target, outputs[..., 0])
        mean, std = (one.reshape(target.shape) for one in self._gaussian(outputs))
        return gaussian_scores(target, mean, std, level)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2; of several targets the mean of theirs."""
        _refuse_other_order(X, y)
        return super().score(X, y, sample_weight)

    def _gaussian(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = outputs[..., 0] * self.scale_ + self.center_
        return self._shaped(mean), self._shaped(np.exp(outputs[..., 1] / 2) * self.scale_)

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self.single_ else values


def _refuse_other_order(X: Any, y: Any, **others: Any) -> None:
    refuse_other_order({**(X if isinstance(X, Mapping) else {"X": X}), "y": y, **others})


def _refuse_other_shape(y: np.ndarray, predicted: np.ndarray) -> None:
    if y.shape != predicted.shape:
        raise InputError(
            f"y has the shape {y.shape}, and what is predicted {predicted.shape}; give the labels "
            "or targets of training, one row for each of X"
        )


def _check_level(level: Any) -> None:
    if not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise InputError(f"level={shown(level)} must be between 0 and 1")


def gaussian_scores(
    y: np.ndarray, mean: np.ndarray, std: np.ndarray, level: float = 0.95
) -> dict[str, float]:
    """R2 (NaN where the targets are all equal), RMSE, NLL and coverage of targets [n, L] by
    Gaussians; see `I2M2Regressor.scores`."""
    from scipy.stats import norm

    error = y - mean
    spread = ((y - y.mean(axis=0)) ** 2).mean(axis=0)
    nll = 0.5 * np.log(2 * np.pi * std**2) + 0.5 * (error / std) ** 2
    return {
        "r2": float(np.mean(1 - (error**2).mean(axis=0) / np.where(spread > 0, spread, np.nan))),
        "rmse": float(np.sqrt((error**2).mean(axis=0)).mean()),
        "nll": float(nll.mean()),
        "coverage": float((np.abs(error) <= norm.ppf(0.5 + level / 2) * std).mean()),
    }
