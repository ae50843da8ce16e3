"""The experts of a fit, each trained alone, and the pools that multiply them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from i2m2.estimator.families import Family, Pool
from i2m2.estimator.given.values import InputError
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.linear import Linear
from i2m2.estimator.models.members import Fitted, Member, Network, SumOfNetworks
from i2m2.estimator.models.scikit_learn import ScikitLearn
from i2m2.estimator.models.training import TrainingSettings
from i2m2.estimator.models.trees import Trees
from i2m2.estimator.prepared.forms import PreparedBlocks
from i2m2.names import INTER

INTERACTIONS = ("all", "pairs", "subsets")
RESERVED = (INTER, "prior")  # what contributes to the product beside the modalities
MOST_SUBSETS = 31  # pools fitted beforehand; others when they are asked for


@dataclass(frozen=True)
class Additive:
    """In place of a user's model: the default ones without interactions. `trained`: the default
    networks that the unimodal experts have already; `of_shapes`: the model of the shapes of series,
    which has no interactions in the fused expert either."""

    trained: Mapping[str, Network]
    of_shapes: list[Member]


def expert_names(modalities: Sequence[str], interactions: str) -> dict[str, tuple[str, ...]]:
    """{expert: modalities it reads}: one each, and the fused ones. The one of all modalities is
    called `inter`, others `a+b`. InputError for names of modalities that say something else."""
    for name in modalities:
        if not isinstance(name, str) or name in RESERVED or "+" in name:
            raise InputError(
                f"a modality cannot be called {name!r}; give a text without '+' that is none of "
                f"{', '.join(RESERVED)}"
            )
    names = {name: (name,) for name in modalities}
    sizes = {
        "all": [len(modalities)],
        "pairs": [2],
        "subsets": range(2, len(modalities) + 1),
    }[interactions]
    for size in sizes:
        for subset in combinations(modalities, size):
            if len(subset) > 1:
                names[INTER if len(subset) == len(modalities) else "+".join(subset)] = subset
    return names


def members_for(given: Any, settings: TrainingSettings, shapes: bool = False) -> list[Member]:
    """The models of an expert: the default three, with one more where it reads the shapes of a
    series, or the one that a user gave (a module, a factory of modules, or a scikit-learn
    model)."""
    of_shapes = [Linear(additive=True, shapes=True)] if shapes else []
    if given is None:
        return [Linear(), Trees(), Network(settings), *of_shapes]
    if isinstance(given, Additive):
        network = SumOfNetworks(settings, given.trained)
        of_shapes = given.of_shapes or of_shapes
        return [Linear(additive=True), Trees(additive=True), network, *of_shapes]
    fits = hasattr(given, "fit") and hasattr(given, "get_params")
    if fits and not isinstance(given, type):
        return [ScikitLearn(given)]
    if callable(given) and not fits:
        return [Network(settings, given)]
    raise InputError(
        f"an expert is a scikit-learn estimator, an nn.Module or a function that makes one, "
        f"not {given!r}"
    )


def trainable(
    reads: Mapping[str, tuple[str, ...]], blocks: PreparedBlocks, folds: np.ndarray
) -> dict[str, tuple[str, ...]]:
    """The experts without those fused ones whose modalities occur together in fewer than two folds,
    of which a warning tells."""
    found = {}
    for name, modalities in reads.items():
        together = available(blocks, modalities)
        if len(modalities) > 1 and len(np.unique(folds[together])) < 2:
            warnings.warn(
                f"{' and '.join(modalities)} occur together in {together.sum()} rows, too few for "
                f"the expert {name}; it is left out",
                stacklevel=5,
            )
        else:
            found[name] = modalities
    return found


@dataclass
class Experts:
    """Fitted experts. `held_out`: each one's outputs [n, L, K] for the training rows, by models
    that did not see them; NaN where it abstains."""

    family: Family
    reads: dict[str, tuple[str, ...]]
    members: dict[str, list[Member]]
    blends: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]
    of_members: dict[str, list[np.ndarray]]  # as held_out, of each member; {} once loaded

    def outputs(
        self, blocks: PreparedBlocks, known: dict[Member, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """{expert: its outputs [n, L, K]}, NaN where a modality of it is absent. `known`: what
        members have said of these blocks before, to which the others' is added."""
        known = {} if known is None else known
        n, found = len(next(iter(blocks.values()))), {}
        for name, members in self.members.items():
            found[name] = np.full((n, *self.family.shape), np.nan)
            rows = np.flatnonzero(available(blocks, self.reads[name]))
            if len(rows):
                own = {m: blocks[m].take(rows) for m in self.reads[name]}
                known |= {member: member.outputs(own) for member in members if member not in known}
                each = [known[member] for member in members]
                found[name][rows] = self.family.blend(self.blends[name], each)
        return found

    def of_shapes(self, name: str) -> list[Member]:
        """An expert's model of the shapes of series, fitted, if it has one."""
        known = zip(self.members.get(name, []), self.of_members.get(name, []), strict=True)
        return [
            Fitted(member, held_out)
            for member, held_out in known
            if isinstance(member, Linear) and member.shapes
        ]

    def default_networks(self) -> dict[str, Network]:
        """Those that no user gave, by the expert that has one."""
        return {
            name: member
            for name, members in self.members.items()
            for member in members
            if isinstance(member, Network) and member.given is None
        }

    def can_be_trained_jointly(self, blocks: PreparedBlocks, folds: np.ndarray) -> bool:
        """Whether there are several experts, and networks that have a model for every fold of the
        training rows `blocks`."""
        every = [m for each in self.members.values() for m in each]
        models = {member.models for member in every if isinstance(member, Network)}
        rows = with_any(blocks, self.reads.values())
        return models == {len(np.unique(folds[rows]))} and len(self.members) > 1


def available(blocks: PreparedBlocks, modalities: Sequence[str]) -> np.ndarray:
    """Which rows have all of these modalities, [n] bool."""
    return np.logical_and.reduce([blocks[name].present for name in modalities])


def with_any(blocks: PreparedBlocks, reads: Iterable[Sequence[str]]) -> np.ndarray:
    """Which rows have all modalities of any of these experts, [n] bool."""
    return np.logical_or.reduce([available(blocks, modalities) for modalities in reads])


def fit_experts(
    blocks: PreparedBlocks,
    y: np.ndarray,
    folds: np.ndarray,
    family: Family,
    reads: Mapping[str, tuple[str, ...]],
    given: Mapping[str, Any],
    settings: TrainingSettings,
    seed: int,
) -> Experts:
    """Train every expert alone, on the rows that have its modalities. InputError where these are
    too few."""
    experts = Experts(family, dict(reads), {}, {}, {}, {})
    for place, (name, modalities) in enumerate(reads.items()):
        rows = available(blocks, modalities)
        own_folds = np.where(rows, folds, -1)
        if len(np.unique(own_folds[rows])) < 2:
            raise InputError(
                f"{'+'.join(modalities)}: only {rows.sum()} rows have this, all in one fold; "
                "an expert needs rows in at least two"
            )
        own_folds = without_gaps(own_folds)
        examples = Examples(blocks, modalities, y, own_folds, family, seed + 1_000 * place)
        shapes = any(blocks[m].shapes is not None for m in modalities)
        members = members_for(given.get(name), settings, shapes)
        found = [member.fit(examples) for member in members]
        blend = family.fit_blend([one[rows] for one in found], y[rows])
        held_out = np.full((len(y), *family.shape), np.nan)
        held_out[rows] = family.blend(blend, [one[rows] for one in found])
        experts.members[name], experts.blends[name] = members, blend
        experts.held_out[name], experts.of_members[name] = held_out, found
    return experts


def without_gaps(folds: np.ndarray) -> np.ndarray:
    """Folds numbered from 0 without gaps; -1 stays."""
    known = np.unique(folds[folds >= 0])
    return np.where(folds >= 0, np.searchsorted(known, folds), -1)


class Pools:
    """How experts are multiplied: one pool for every set of them that can speak together.

    Each is fitted on the training rows that have all its modalities, with the experts' outputs of
    held-out rows; where every expert abstains the answer is the prior.
    """

    def __init__(self, experts: Experts, y: np.ndarray, prior: np.ndarray) -> None:
        self.family, self.prior = experts.family, prior
        self.held_out, self.reads, self.y = experts.held_out, experts.reads, y
        self.fitted: dict[str, Pool] = {}
        modalities = tuple(dict.fromkeys(m for read in self.reads.values() for m in read))
        subsets = [s for k in range(1, len(modalities) + 1) for s in combinations(modalities, k)]
        for subset in subsets if len(subsets) <= MOST_SUBSETS else [modalities]:
            names = [name for name, read in self.reads.items() if set(read) <= set(subset)]
            if names:
                self.fitted[_key(names)] = self._fit(names)

    def of(self, names: Sequence[str]) -> Pool:
        """The pool of these experts; fitted now if it was not yet."""
        return self.fitted.get(_key(names)) or self._fit(names)

    def _fit(self, names: Sequence[str]) -> Pool:
        known = [~np.isnan(self.held_out[name]).any(axis=(1, 2)) for name in names]
        rows = np.logical_and.reduce(known)
        if not rows.any():  # no training row has all of them
            ones = np.full((len(names), self.family.shape[0]), 1 / len(names))
            return Pool(ones, np.zeros(self.family.shape[0]))
        own = [self.held_out[name][rows] for name in names]
        return self.family.fit_pool(own, self.y[rows], self.prior)

    def validation_losses(
        self, folds: np.ndarray, names: Sequence[str] | None = None
    ) -> np.ndarray:
        """NLL [n] of the named experts' product (default: all) on the training rows, each by models
        and pools of the other folds; else the product of more experts would always seem better."""
        loss = np.empty(len(self.y))
        for fold in np.unique(folds):
            rest, own = self._of_rows(folds != fold), self._of_rows(folds == fold)
            loss[folds == fold] = self.family.nll(rest.product(own.held_out, names), own.y)
        return loss

    def _of_rows(self, rows: np.ndarray) -> Pools:
        """The same experts on some of the training rows, pools fitted when asked for."""
        part = copy.copy(self)
        part.held_out = {name: one[rows] for name, one in self.held_out.items()}
        part.y, part.fitted = self.y[rows], {}
        return part

    def product(
        self, outputs: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> np.ndarray:
        """The product [n, L, K] of the named experts (default: all), from each one's outputs; an
        expert with NaN abstains."""
        found = np.broadcast_to(self.prior, next(iter(outputs.values())).shape).copy()
        for speaking, rows in self._patterns(outputs, names):
            own = [outputs[name][rows] for name in speaking]
            found[rows] = self.family.pool(self.of(speaking), own, self.prior)
        return found

    def contributions(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{expert, and `prior`: what it adds [n, L, K] or [n, L]}; 0 where it abstains."""
        names = [*outputs, "prior"]
        silent = np.broadcast_to(self.prior, next(iter(outputs.values())).shape)
        first = self.family.contributions(_only_prior(self.family), [silent], self.prior)[-1]
        found = {name: np.zeros(first.shape) for name in names}
        found["prior"] = first.copy()
        for speaking, rows in self._patterns(outputs, None):
            own = [outputs[name][rows] for name in speaking]
            parts = self.family.contributions(self.of(speaking), own, self.prior)
            for name, part in zip([*speaking, "prior"], parts, strict=True):
                found[name][rows] = part
        return found

    def _patterns(self, outputs: Mapping[str, np.ndarray], names: Sequence[str] | None):
        """(experts that speak, rows where exactly these do), without the rows where none does."""
        names = list(outputs if names is None else names)
        speaks = np.stack([~np.isnan(outputs[name]).any(axis=(1, 2)) for name in names], axis=1)
        patterns, place = np.unique(speaks, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            if pattern.any():
                speaking = [name for name, on in zip(names, pattern, strict=True) if on]
                yield speaking, np.flatnonzero(place.ravel() == number)


def _only_prior(family: Family) -> Pool:
    return Pool(np.zeros((1, family.shape[0])), np.ones(family.shape[0]))


def _key(names: Sequence[str]) -> str:
    return "\n".join(names)
