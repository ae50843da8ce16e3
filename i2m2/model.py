"""The method: one classifier per modality (intra), one fused classifier (inter), their
log-probabilities summed.

    log p(y | x_1..x_M) = sum_m log q_m(y | x_m) + log q(y | x_1..x_M) - log Z

Every row of every table is `ProductOfExperts` with another set of experts (`names.experts_of`).
Madaan et al., NeurIPS 2024, section 3. Shapes: B examples, L labels (no such axis where there is
one), C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# The names of methods and experts may be imported from here too.
from i2m2.names import INTER, METHOD_ALIASES, experts_of, methods_of  # noqa: F401

Inputs = Mapping[str, Any]  # {modality: tensor [B, ...], or a mapping of tensors such as tokens}


def product_of_experts(log_probs: Iterable[Tensor]) -> Tensor:
    """Multiply distributions over classes and renormalise: [..., C] each -> [..., C].

    The same as `log_softmax` of the summed logits, since an expert's own normaliser is constant
    over the classes.
    """
    return torch.stack(list(log_probs)).sum(dim=0).log_softmax(dim=-1)


class UnimodalExpert(nn.Module):
    """Intra-modality classifier q_m(y | x_m): {modality: x_m} -> logits [B, (L,) C]."""

    def __init__(self, modality: str, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.modalities = (modality,)
        self.encoder = encoder
        self.head = head

    def forward(self, inputs: Inputs) -> Tensor:
        return self.head(self.encoder(inputs[self.modalities[0]]))


class FusionExpert(nn.Module):
    """Inter-modality classifier q(y | x_1..x_M): {modality: x} -> logits [B, (L,) C]."""

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.modalities = tuple(encoders)
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.head = head

    def forward(self, inputs: Inputs) -> Tensor:
        features = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        return self.head(self.fusion(features))


class ProductOfExperts(nn.Module):
    """Named experts whose distributions are multiplied and renormalised; trained jointly through
    the product.

    An expert is any module with an attribute `modalities` (the names it reads) and forward(inputs)
    -> logits [B, (L,) C]. With `normalise=False` the C answers do not exclude each other: a logit
    is an answer's own log-odds, nothing is normalised, and a product of such (Bernoulli)
    distributions sums them.

    `prior` [(L,) C]: probabilities of the answers, say their frequencies in training. They are the
    answer where every expert abstains, and play no part elsewhere. They are no part of the state
    dict: a model that is loaded is given them anew.
    """

    def __init__(
        self, experts: Mapping[str, nn.Module], normalise: bool = True, prior: Tensor | None = None
    ) -> None:
        super().__init__()
        if not experts:
            raise ValueError("a product needs at least one expert")
        self.experts = nn.ModuleDict(experts)
        self.normalise = normalise
        self.register_buffer("log_prior", None, persistent=False)
        if prior is not None:
            self.set_prior(prior)

    def set_prior(self, prior: Tensor) -> None:
        """Answer by these probabilities [(L,) C] where every expert abstains. ValueError for what
        are none."""
        prior = torch.as_tensor(prior, dtype=torch.float32)
        if not ((prior >= 0) & (prior <= 1)).all() or (prior.sum(-1) == 0).any():
            raise ValueError(f"prior must be probabilities of the answers, not {prior.tolist()}")
        self.log_prior = prior.log().log_softmax(dim=-1) if self.normalise else prior.logit()

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the experts read, each modality once."""
        read = (modality for expert in self.experts.values() for modality in expert.modalities)
        return tuple(dict.fromkeys(read))

    def forward(
        self, inputs: Inputs, present: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (log p(y | x) [B, (L,) C], each expert's own log-probabilities [B, (L,) C]).

        `present` maps a modality to a boolean [B]; a modality that is not named is present. Where
        any modality of an expert is absent the expert abstains (uniform), which leaves the product
        of the others as it is; where all abstain the answer is the prior, or uniform if none is
        known. What stands in an absent place of `inputs` has no influence, NaN included: encoders
        get the values of an example that has the modality. A modality that `inputs` lacks is absent
        from every example. ValueError if that leaves no expert.
        """
        present = dict(present or {})
        inputs = {
            name: _filled(x, present[name]) if name in present else x for name, x in inputs.items()
        }
        inputs = self.shared(inputs)
        log_probs = {
            name: self._log_prob(expert, inputs, present)
            for name, expert in self.experts.items()
            if set(expert.modalities) <= set(inputs)
        }
        if not log_probs:
            raise ValueError(
                f"inputs hold {', '.join(inputs) or 'nothing'}: "
                f"not enough for any expert of {', '.join(self.experts)}"
            )
        product, *others = log_probs.values()
        if others:  # one expert's log-probabilities are normalised as they are
            multiply = product_of_experts if self.normalise else sum
            product = multiply(log_probs.values())
        if self.log_prior is not None:
            product = self._with_prior(product, log_probs, present)
        for name in self.experts:
            if name not in log_probs:
                log_probs[name] = torch.full_like(product, self._uniform_log_prob(product))
        return product, {name: log_probs[name] for name in self.experts}

    def shared(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the experts get: `inputs`, and what a subclass computes once for several of them."""
        return inputs

    def _with_prior(
        self, product: Tensor, names: Iterable[str], present: Mapping[str, Tensor]
    ) -> Tensor:
        """The prior in place of `product` [B, (L,) C] where all experts of these names abstain."""
        complete = [self._complete(self.experts[name], present) for name in names]
        if any(mask is None for mask in complete):
            return product
        answered = _beside(torch.stack(complete).any(dim=0), product)
        return torch.where(answered, product, self.log_prior.to(product.dtype))

    def _uniform_log_prob(self, log_prob: Tensor) -> float:
        """What an expert that abstains gives every answer: 1/C, or even odds."""
        return -math.log(log_prob.shape[-1]) if self.normalise else 0.0

    def _log_prob(self, expert: nn.Module, inputs: Inputs, present: Mapping[str, Tensor]) -> Tensor:
        """One expert's log-probabilities, uniform where a modality of it is absent."""
        log_prob = expert(inputs).log_softmax(dim=-1) if self.normalise else expert(inputs)
        complete = self._complete(expert, present)
        if complete is None:
            return log_prob
        uniform = self._uniform_log_prob(log_prob)
        return torch.where(_beside(complete, log_prob), log_prob, uniform)

    @staticmethod
    def _complete(expert: nn.Module, present: Mapping[str, Tensor]) -> Tensor | None:
        """[B] bool: which examples have all modalities of the expert; None: all of them."""
        masks = [present[modality] for modality in expert.modalities if modality in present]
        return torch.stack(masks).all(dim=0) if masks else None


def _filled(x: Any, present: Tensor) -> Any:
    """The absent examples as copies of the first one present, lest a NaN spread: an encoder may
    divide by a sum, or a length. They still count in batch statistics. Where all are absent, floats
    are 0, and integers (lengths, tokens, masks) as given."""
    if isinstance(x, Mapping):
        return {name: _filled(item, present) for name, item in x.items()}
    if not present.shape[-1]:
        return x
    place = present.to(torch.uint8).argmax(-1, keepdim=True)
    axis = present.dim() - 1
    index = _beside(place, x).expand(*x.shape[:axis], 1, *x.shape[axis + 1 :])
    measured = x.is_floating_point() or x.is_complex()
    others = torch.zeros_like(x) if measured else x
    found = _beside(present.any(-1, keepdim=True), x)
    filler = torch.where(found, x.gather(axis, index), others)
    return torch.where(_beside(present, x), x, filler)


def _beside(mask: Tensor, x: Tensor) -> Tensor:
    """A column of examples, for what has further axes."""
    return mask.view(*mask.shape, *[1] * (x.dim() - mask.dim()))
