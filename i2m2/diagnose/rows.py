"""One fold: every row's predictions of its test examples, by models of its training examples alone.

| row | what it is |
|---|---|
| prior | class frequencies, or mean and variance |
| unimodal_<m> | one modality's expert |
| intra-separate, intra-joint | product of the unimodal experts, trained alone or jointly |
| intra-additive | one model of all whose logits, or mean, are a sum of functions of one modality |
| inter | the fused expert or experts alone |
| i2m2-separate, i2m2-joint | product of all |
| lr-<m>, hgb-<m>, lr-all, hgb-all | references: linear model and boosted trees of scikit-learn |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from i2m2.diagnose.predicted import HALF
from i2m2.estimator.experts import Additive, Experts, Pools, available, expert_names, fit_experts
from i2m2.estimator.families import Categorical, Family, Gaussian
from i2m2.estimator.given.folds import make_folds, strata_of
from i2m2.estimator.given.kinds import Blocks
from i2m2.estimator.joint import train_jointly
from i2m2.estimator.models.members import Member
from i2m2.estimator.models.scikit_learn import outputs_of_models, with_values
from i2m2.estimator.models.training import TrainingSettings, few_threads
from i2m2.estimator.prepared.forms import Prepared, PreparedBlocks, joined
from i2m2.estimator.prepared.preparation import Preparation
from i2m2.names import INTER
from i2m2.stats.calibration import log_softmax

JOINT, SEPARATE, ADDED = "-joint", "-separate", "-additive"
REFERENCES = {"lr": "linear model", "hgb": "boosted trees"}
Known = dict[Member, np.ndarray]  # what members say of the test examples
EMAP_ROWS = 150  # test examples of a fold whose every pair the fused expert is asked about


@dataclass(frozen=True)
class Question:
    """What is diagnosed: blocks, encoded target [n, L], groups [n] or None, and how."""

    blocks: Blocks
    y: np.ndarray
    groups: np.ndarray | None
    family: Family
    experts: Mapping[str, Any] = field(default_factory=dict)
    interactions: str = "all"
    folds: int = 5
    network: Mapping[str, Any] = field(default_factory=dict)
    further: bool = False

    def of(self, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Strata and groups of some examples, by which they are split."""
        classify = isinstance(self.family, Categorical)
        strata = strata_of(self.y[rows]) if classify else None
        return strata, None if self.groups is None else self.groups[rows]

    def inner_folds(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """The fold of every one of some training examples, within which experts are fitted."""
        return make_folds(*self.of(rows), len(rows), self.folds, seed)

    def half(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Half of some training examples, groups whole."""
        return rows[make_folds(*self.of(rows), len(rows), 2, seed + 1) == 0]

    def outer_folds(self, seed: int) -> np.ndarray:
        """The fold [n] of every example."""
        n = len(self.y)
        return make_folds(*self.of(np.arange(n)), n, self.folds, seed)


@dataclass
class FoldRows:
    """Of one fold: outputs {row: [t, L, K]} of its test examples, each row's NLL on the held-out
    part of the training examples, the experts' own outputs, and scores asked for further."""

    outputs: dict[str, np.ndarray]
    validation: dict[str, float]
    experts: dict[str, np.ndarray]
    further: dict[str, np.ndarray]


def predict_rows(question: Question, test: np.ndarray, seed: int) -> FoldRows:
    """Train on the examples outside `test` [n] bool and predict those inside."""
    training, held_out = np.flatnonzero(~test), np.flatnonzero(test)
    with few_threads(len(training)):
        fold = _TrainedFold.of(question, training, seed)
        blocks = fold.prepare(held_out)
        known: Known = {}
        rows = fold.separate_rows(blocks, known)
        rows.outputs["prior"] = fold.prior(len(held_out))
        fold.add_joint_rows(rows, blocks, known)
        fold.add_references(rows, blocks)
        if question.further:
            rows.further = _further(fold, blocks, question.y[held_out], seed)
    return rows


def predict_rows_by_half(question: Question, test: np.ndarray, seed: int) -> FoldRows:
    """The separate rows by experts that saw half of the training examples, for a learning curve."""
    training, held_out = np.flatnonzero(~test), np.flatnonzero(test)
    with few_threads(len(training)):
        fold = _TrainedFold.of(question, question.half(training, seed), seed)
        rows = fold.separate_rows(fold.prepare(held_out), {}).outputs
    return FoldRows({f"{HALF}{row}": one for row, one in rows.items()}, {}, {}, {})


@dataclass
class _TrainedFold:
    """The experts of one fold, trained alone, and what they were trained on."""

    question: Question
    rows: np.ndarray
    seed: int
    preparation: Preparation
    blocks: PreparedBlocks
    y: np.ndarray
    scaling: tuple[np.ndarray, np.ndarray] | None
    folds: np.ndarray
    reads: dict[str, tuple[str, ...]]
    settings: TrainingSettings
    experts: Experts
    pools: Pools

    @classmethod
    def of(cls, question: Question, rows: np.ndarray, seed: int) -> _TrainedFold:
        family = question.family
        given = {name: block.take(rows) for name, block in question.blocks.items()}
        preparation = Preparation().fit(given, seed)
        blocks = preparation.transform(given)
        y, scaling = question.y[rows], None
        if isinstance(family, Gaussian):
            scaling = (y.mean(axis=0), np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0))
            y = (y - scaling[0]) / scaling[1]
        folds = question.inner_folds(rows, seed)
        reads = expert_names(list(blocks), question.interactions)
        settings = TrainingSettings.of(question.network)
        known = (blocks, y, folds, family, reads, question.experts, settings, seed)
        experts = fit_experts(*known)
        pools = Pools(experts, y, family.prior(y))
        found = (preparation, blocks, y, scaling, folds, reads, settings, experts, pools)
        return cls(question, rows, seed, *found)

    @property
    def modalities(self) -> list[str]:
        return list(self.blocks)

    def prepare(self, rows: np.ndarray) -> PreparedBlocks:
        blocks = {name: block.take(rows) for name, block in self.question.blocks.items()}
        return self.preparation.transform(blocks)

    def prior(self, rows: int) -> np.ndarray:
        return self.unscale(np.broadcast_to(self.pools.prior, (rows, *self.pools.prior.shape)))

    def unscale(self, outputs: np.ndarray) -> np.ndarray:
        """Mean and log variance in units of the target; log-probabilities as they are."""
        if self.scaling is None:
            return outputs
        center, scale = self.scaling
        mean, log_variance = outputs[..., 0], outputs[..., 1]
        return np.stack([mean * scale + center, log_variance + 2 * np.log(scale)], axis=-1)

    def separate_rows(self, blocks: PreparedBlocks, known: Known) -> FoldRows:
        """Products of the experts trained alone, whose members' outputs are `known` then."""
        found = FoldRows({}, {}, {}, {})
        outputs = self.experts.outputs(blocks, known)
        fused = [name for name in self.reads if name not in self.modalities]
        sets = {f"unimodal_{name}": [name] for name in self.modalities}
        sets |= {f"intra{SEPARATE}": self.modalities, "inter": fused}
        for row, names in (sets | {f"i2m2{SEPARATE}": list(self.reads)}).items():
            self._add(found, row, self.pools, outputs, names)
        found.experts = {name: self.unscale(one) for name, one in outputs.items()}
        self._add_additive(found, blocks)
        return found

    def _add_additive(self, found: FoldRows, blocks: PreparedBlocks) -> None:
        """A sum of functions of one modality each, fitted together. To an expert that is trained
        alone what the other modalities explain is noise: where effects add up, a fused expert
        would surpass the product of such experts without any interaction. Who lacks a modality
        has the product of the unimodal experts here, too."""
        together = available(self.blocks, self.modalities)
        if len(np.unique(self.folds[together])) < 2:
            return
        names = {"additive": tuple(self.modalities)}
        known = (self.blocks, self.y, self.folds, self.question.family, names)
        before = self.experts
        additive = Additive(before.default_networks(), before.of_shapes(INTER))
        experts = fit_experts(*known, {"additive": additive}, self.settings, self.seed)
        pools = Pools(experts, self.y, self.pools.prior)
        row, alone = f"intra{ADDED}", self.pools.validation_losses(self.folds, self.modalities)
        self._add(found, row, pools, experts.outputs(blocks), list(names))
        lacking = ~available(blocks, self.modalities)
        found.outputs[row][lacking] = found.outputs[f"intra{SEPARATE}"][lacking]
        losses = np.where(together, pools.validation_losses(self.folds), alone)
        found.validation[row] = float(losses.mean())

    def add_joint_rows(self, found: FoldRows, blocks: PreparedBlocks, known: Known) -> None:
        """Products of experts trained further, jointly through the product."""
        if not self.experts.can_be_trained_jointly(self.blocks, self.folds):
            return
        data = (self.pools, self.blocks, self.y, self.folds, self.settings, self.seed)
        for row, names in {"intra": self.modalities, "i2m2": list(self.reads)}.items():
            joint = train_jointly(self.experts, names, *data)
            pools = Pools(joint, self.y, self.pools.prior)
            outputs = joint.outputs(blocks, known)
            self._add(found, f"{row}{JOINT}", pools, outputs, names)

    def _add(self, found, row, pools: Pools, outputs, names) -> None:
        found.outputs[row] = self.unscale(pools.product(outputs, names))
        found.validation[row] = float(pools.validation_losses(self.folds, names).mean())

    def add_references(self, found: FoldRows, blocks: PreparedBlocks) -> None:
        parts = {name: (name,) for name in self.modalities} | {"all": tuple(self.modalities)}
        for part, names in parts.items():
            training, test = _all_rows(self.blocks, names), _all_rows(blocks, names)
            family = self.question.family
            for kind in REFERENCES:
                outputs = _reference(kind, training, test, self.y, self.folds, family, self.seed)
                found.outputs[f"{kind}-{part}"] = self.unscale(outputs)


def _all_rows(blocks: PreparedBlocks, names: tuple[str, ...]) -> Prepared:
    """The blocks side by side, with an indicator of those that some rows lack."""
    found = joined(blocks, names)
    lacks = np.stack([blocks[name].present for name in names], axis=1).astype(np.float32)
    return replace(found, dense=np.concatenate([found.dense, lacks], axis=1))


def _reference(
    kind: str,
    training: Prepared,
    test: Prepared,
    y: np.ndarray,
    folds: np.ndarray,
    family: Family,
    seed: int,
) -> np.ndarray:
    """Outputs of a usual model with usual settings, one per label; its variance is that of its
    errors on the folds of the training examples."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    classify = isinstance(family, Categorical)
    trees = {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 15, "random_state": seed}
    if training.categorical.any():
        trees["categorical_features"] = training.categorical
    if kind == "lr":
        model = LogisticRegression(C=0.1, max_iter=1000) if classify else Ridge(alpha=10.0)
        x, x_test = training.dense, test.dense
    else:
        of_kind = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
        model, x, x_test = of_kind(**trees), training.features, test.features
    models, spread, x = [], [], with_values(x)
    for k in range(family.shape[0]):
        if classify and len(np.unique(y[:, k])) == 1:
            models.append(int(y[0, k]))
            continue
        models.append(clone(model).fit(x, y[:, k]))
        if not classify:
            held_out = cross_val_predict(clone(model), x, y[:, k], cv=PredefinedSplit(folds))
            spread.append(np.log(np.mean((held_out - y[:, k]) ** 2)))
    outputs = outputs_of_models(models, x_test, family, len(x))
    if not classify:
        outputs[..., 1] = np.array(spread)
    return outputs


def _further(fold: _TrainedFold, blocks: PreparedBlocks, y: np.ndarray, seed: int) -> dict:
    """Scores per test example [t], nats: `without:<m>` the product without the experts that read a
    modality, `shuffled:<m>` with that modality of another example, and of some examples `inter` and
    `additive`, the fused expert and its additive projection; NaN for the others."""
    family, pools = fold.question.family, fold.pools
    target = y if fold.scaling is None else (y - fold.scaling[0]) / fold.scaling[1]
    outputs = fold.experts.outputs(blocks)
    found = {"all": family.nll(pools.product(outputs), target)}
    generator = np.random.default_rng(seed)
    for name in fold.modalities:
        rest = [expert for expert, reads in fold.reads.items() if name not in reads]
        found[f"without:{name}"] = family.nll(pools.product(outputs, rest), target)
        other = blocks[name].take(generator.permutation(len(y)))
        shuffled = fold.experts.outputs(blocks | {name: other})
        found[f"shuffled:{name}"] = family.nll(pools.product(shuffled), target)
    fused = [name for name in fold.reads if name not in fold.modalities]
    chosen = generator.permutation(len(y))[:EMAP_ROWS]
    few = {name: block.take(chosen) for name, block in blocks.items()}
    for name, one in _additive(fold, few, fused).items():
        found[name] = np.full(len(y), np.nan)
        found[name][chosen] = family.nll(one, target[chosen])
    return found


def _additive(fold: _TrainedFold, blocks: PreparedBlocks, fused: list[str]) -> dict:
    """The fused experts' product and the best sum of functions of one modality each that is made
    from it (empirical multimodally-additive projection, Hessel and Lee, EMNLP 2020): the mean over
    the other modalities of other examples, summed over modalities, less (M - 1) times the mean of
    all."""
    n, count = len(next(iter(blocks.values()))), len(blocks)
    own, other = (part.ravel() for part in np.meshgrid(range(n), range(n), indexing="ij"))
    total = 0.0
    for name in blocks:
        mixed = {m: block.take(own if m == name else other) for m, block in blocks.items()}
        outputs = fold.pools.product(fold.experts.outputs(mixed), fused)
        by_row = outputs.reshape(n, n, *outputs.shape[1:]).mean(axis=1)
        total = total + by_row - (count - 1) / count * by_row.mean(axis=0)
    if isinstance(fold.question.family, Categorical):
        total = log_softmax(total)
    return {"inter": fold.pools.product(fold.experts.outputs(blocks), fused), "additive": total}
