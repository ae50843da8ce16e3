"""The method: one classifier per modality (intra), one fused classifier (inter), their
log-probabilities summed.

    log p(y | x_1..x_M) = sum_m log q_m(y | x_m) + log q(y | x_1..x_M) - log Z

Every row of every table is `ProductOfExperts` with another set of experts (`experts_of`). Madaan et
al., NeurIPS 2024, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from i2m2.errors import SettingsError

INTER = "inter"  # the name of the fusion expert beside the experts that bear their modality's name

METHOD_ALIASES = {
    "intra_modality": "intra",
    "inter_modality": "inter",
    "inter_and_intra_modality": "i2m2",
}  # of the published code


def product_of_experts(log_probs: Iterable[Tensor]) -> Tensor:
    """Multiply distributions over classes and renormalise: [..., C] each -> [..., C]
    log-probabilities.

    The same as `log_softmax` of the summed logits, since an expert's own normaliser is constant
    over the classes.
    """
    return torch.stack(list(log_probs)).sum(dim=0).log_softmax(dim=-1)


class UnimodalExpert(nn.Module):
    """Intra-modality classifier q_m(y | x_m): encoder and head. {modality: x_m} -> logits [B, (L,)
    C]."""

    def __init__(self, modality: str, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.modalities = (modality,)
        self.encoder = encoder
        self.head = head

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.head(self.encoder(inputs[self.modalities[0]]))


class FusionExpert(nn.Module):
    """Inter-modality classifier q(y | x_1..x_M): an encoder per modality, fusion and head.
    {modality: x} -> logits [B, (L,) C]."""

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.modalities = tuple(encoders)
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.head = head

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.head(
            self.fusion({name: encoder(inputs[name]) for name, encoder in self.encoders.items()})
        )


class ProductOfExperts(nn.Module):
    """Named experts whose distributions are multiplied and renormalised; trained jointly through
    the product.

    An expert is any module with an attribute `modalities` (the names it reads) and forward(inputs)
    -> logits [B, (L,) C]. With `normalise=False` the C answers do not exclude each other: a logit
    is an answer's own log-odds, nothing is normalised, and a product of such (Bernoulli)
    distributions sums them.
    """

    def __init__(self, experts: Mapping[str, nn.Module], normalise: bool = True) -> None:
        super().__init__()
        if not experts:
            raise ValueError("a product needs at least one expert")
        self.experts = nn.ModuleDict(experts)
        self.normalise = normalise

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the experts read, each modality once."""
        return tuple(
            dict.fromkeys(
                modality for expert in self.experts.values() for modality in expert.modalities
            )
        )

    def forward(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (log p(y | x) [B, (L,) C], each expert's own log-probabilities [B, (L,) C]).

        `present` maps a modality to a boolean [B]; a modality that is not named is present. Where
        any modality of an expert is absent the expert says nothing (uniform), which leaves the
        product of the others as it is; with every modality absent the answer is uniform. What
        stands in an absent place of `inputs` has no influence, NaN included. A modality that
        `inputs` lacks altogether is absent from every example.
        """
        present = dict(present or {})
        inputs = {
            name: _blank(x, present[name]) if name in present else x for name, x in inputs.items()
        }
        inputs = self.shared(inputs)
        by_expert = {
            name: self._log_prob(expert, inputs, present) for name, expert in self.experts.items()
        }
        said = [log_prob for log_prob in by_expert.values() if log_prob is not None]
        if not said:
            raise ValueError(
                f"inputs hold {', '.join(inputs) or 'nothing'}: not enough for any expert of {', '.join(self.experts)}"
            )
        multiply = product_of_experts if self.normalise else sum
        product = (
            multiply(said) if len(said) > 1 else said[0]
        )  # one expert's are normalised as they are
        if len(said) == len(by_expert):
            return product, by_expert
        uniform = torch.full_like(said[0], self._nothing(said[0]))
        return product, {
            name: uniform if log_prob is None else log_prob for name, log_prob in by_expert.items()
        }

    def shared(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the experts get: `inputs`. A subclass adds here what several of them share, so that
        it is computed once."""
        return inputs

    def _nothing(self, log_prob: Tensor) -> float:
        """What an expert that says nothing gives every answer: 1/C, or even odds."""
        return -math.log(log_prob.shape[-1]) if self.normalise else 0.0

    def _log_prob(
        self, expert: nn.Module, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor | None:
        """One expert's log-probabilities, uniform where a modality of it is absent; None if
        `inputs` lacks one altogether."""
        if not set(expert.modalities) <= set(inputs):
            return None
        log_prob = expert(inputs).log_softmax(dim=-1) if self.normalise else expert(inputs)
        masks = [present[modality] for modality in expert.modalities if modality in present]
        if not masks:
            return log_prob
        seen = torch.stack(masks).all(dim=0).view(-1, *[1] * (log_prob.dim() - 1))
        return torch.where(seen, log_prob, self._nothing(log_prob))


def _blank(x: Any, present: Tensor) -> Any:
    """Zero the absent examples (they still count in batch statistics), so that a NaN that marks
    them reaches nothing.

    A modality may be a mapping of tensors, such as tokens and their mask.
    """
    if isinstance(x, Mapping):
        return {name: _blank(item, present) for name, item in x.items()}
    return x.masked_fill(~present.view(-1, *[1] * (x.dim() - 1)), 0)


def methods_of(modalities: Sequence[str], baselines: Sequence[str] = ()) -> tuple[str, ...]:
    """Every method there is for these modalities: ('unimodal_image', 'unimodal_audio', 'intra',
    'inter', 'i2m2').

    `baselines` are modalities with a unimodal row of their own that no joint row has.
    """
    return (
        *(f"unimodal_{modality}" for modality in (*baselines, *modalities)),
        "intra",
        "inter",
        "i2m2",
    )


def experts_of(
    method: str, modalities: Sequence[str], baselines: Sequence[str] = ()
) -> tuple[str, ...]:
    """The experts a method multiplies, by name: 'i2m2' -> ('image', 'audio', 'inter').
    SettingsError if there is no such method."""
    method, methods = METHOD_ALIASES.get(method, method), methods_of(modalities, baselines)
    if method not in methods:
        raise SettingsError(f"method={method!r} is unknown; choose one of {', '.join(methods)}")
    if method.startswith("unimodal_"):
        return (method.removeprefix("unimodal_"),)
    return {"intra": tuple(modalities), "inter": (INTER,), "i2m2": (*modalities, INTER)}[method]
