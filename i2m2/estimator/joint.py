"""Joint training: the experts' networks trained further through their product, as in the paper."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from i2m2.estimator.experts import Experts, Pools, available, with_any, without_gaps
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.members import Member, Network
from i2m2.estimator.models.networks import rows_of, tensors_of
from i2m2.estimator.models.training import TrainingSettings, train
from i2m2.estimator.prepared.forms import PreparedBlocks


def train_jointly(
    experts: Experts,
    names: Sequence[str],
    pools: Pools,
    blocks: PreparedBlocks,
    y: np.ndarray,
    folds: np.ndarray,
    settings: TrainingSettings,
    seed: int,
) -> Experts:
    """The named experts with their networks trained further, jointly through the product (the
    paper's warm start, section 5). Their other models and the pool's weights stay as they are; with
    no gain on held-out rows the networks stay so too."""
    chosen = {
        name: [copy.deepcopy(m) if isinstance(m, Network) else m for m in experts.members[name]]
        for name in names
    }
    networks = {name: _network_of(chosen[name]) for name in names}
    modules = [net.network for net in networks.values() if net is not None]
    rows = with_any(blocks, [experts.reads[name] for name in names])
    own_folds = without_gaps(np.where(rows, folds, -1))
    if modules:
        loss = _joint_loss(experts, networks, pools, blocks, y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            fine = settings.for_fine_tuning()
            train(modules, loss, own_folds, fine, generator, begin_with=True)
    return _again(experts, names, chosen, blocks, y, folds)


def _joint_loss(
    experts: Experts,
    networks: Mapping[str, Network | None],
    pools: Pools,
    blocks: PreparedBlocks,
    y: np.ndarray,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Rows [E, B] -> the product's loss of each, [E, B]."""
    family, pool = experts.family, pools.of(list(networks))
    inputs = tensors_of(blocks, tuple({m: 0 for name in networks for m in experts.reads[name]}))
    fixed, weights, shares = [], [], []
    for name, of_pool in zip(networks, pool.weights, strict=True):
        rest, weight = _without_network(experts, name)
        speaks = available(blocks, experts.reads[name])
        fixed.append(_float(rest))
        weights.append(_float(weight))
        shares.append(_float(speaks[:, None] * of_pool))
    gamma, prior = _float(pool.gamma), _float(pools.prior)
    target = _float(y) if y.dtype.kind == "f" else torch.from_numpy(y)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        own = rows_of(inputs, rows)
        silent = torch.zeros(*rows.shape, *family.shape)
        raw = [silent if net is None else net.network(own) for net in networks.values()]
        rest, share = [one[rows] for one in fixed], [one[rows] for one in shares]
        return family.joint_loss(raw, rest, weights, (share, gamma), prior, target[rows])

    return loss


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array)).float()


def _network_of(members: Sequence[Member]) -> Network | None:
    return next((member for member in members if isinstance(member, Network)), None)


def _without_network(experts: Experts, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The weighted sum of an expert's other models, [n, L, K] with 0 where it abstains, and the
    weight [L] of its network."""
    members = experts.members[name]
    place = next((k for k, one in enumerate(members) if isinstance(one, Network)), None)
    blend = experts.blends[name]
    weight = np.zeros(blend.shape[1]) if place is None else blend[place].copy()
    others = blend.copy()
    models = [np.nan_to_num(one) for one in experts.of_members[name]]
    if place is not None:
        others[place] = 0.0
    return experts.family.sum_of_fixed(others, models), weight


def _again(
    experts: Experts,
    names: Sequence[str],
    chosen: dict[str, list[Member]],
    blocks: PreparedBlocks,
    y: np.ndarray,
    folds: np.ndarray,
) -> Experts:
    """The experts with their networks' new outputs of held-out rows."""
    family = experts.family
    found = Experts(family, {n: experts.reads[n] for n in names}, chosen, {}, {}, {})
    for name in names:
        rows = available(blocks, experts.reads[name])
        own_folds = without_gaps(np.where(rows, folds, -1))
        examples = Examples(blocks, experts.reads[name], y, own_folds, family, 0)
        each = list(experts.of_members[name])
        for place, member in enumerate(chosen[name]):
            if isinstance(member, Network):
                each[place] = member.held_out(examples)
        found.blends[name] = experts.blends[name]
        found.of_members[name] = each
        found.held_out[name] = np.full((len(y), *family.shape), np.nan)
        found.held_out[name][rows] = family.blend(found.blends[name], [one[rows] for one in each])
    return found
