"""RoBERTa encoder with FIBER's image-to-text attention in its last layers, under the published
parameter names.

Liu et al., 2019 (RoBERTa); Dou et al., NeurIPS 2022 (FIBER, section 3).

Shapes: B texts of L tokens of width D, M image tokens of width C.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.errors import SettingsError

# Added to the scores of padding: exp of it is 0 in float32, and float16 can still hold it.
PADDING = -10_000.0


@dataclass(frozen=True, kw_only=True)
class RobertaSizes:
    """Sizes of the text encoder; the defaults are RoBERTa-base's. SettingsError where they do not
    fit together."""

    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise SettingsError(
                f"hidden_size {self.hidden_size} must be divisible "
                f"by {self.num_attention_heads} heads"
            )

    @property
    def longest(self) -> int:
        """Most tokens of a text: positions are counted from behind the padding's."""
        return self.max_position_embeddings - self.pad_token_id - 1


class Roberta(nn.Module):
    """Embeddings and layers, run one after another by the owner. `image_widths`: C of the image
    tokens that the last layers see."""

    def __init__(self, sizes: RobertaSizes, image_widths: list[int]) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes)
        alone = sizes.num_hidden_layers - len(image_widths)
        widths = [None] * alone + image_widths
        layers = nn.ModuleList(RobertaLayer(sizes, width) for width in widths)
        self.encoder = nn.ModuleDict({"layer": layers})
        self.apply(initialise)
        with torch.no_grad():
            self.embeddings.word_embeddings.weight[sizes.pad_token_id] = 0

    @property
    def layers(self) -> nn.ModuleList:
        return self.encoder["layer"]


class Embeddings(nn.Module):
    """Word, position and token type (always 0), normalised: ids [B, L] -> [B, L, D]."""

    def __init__(self, sizes: RobertaSizes) -> None:
        super().__init__()
        self.padding = padding = sizes.pad_token_id
        width, positions = sizes.hidden_size, sizes.max_position_embeddings
        self.word_embeddings = nn.Embedding(sizes.vocab_size, width, padding_idx=padding)
        self.position_embeddings = nn.Embedding(positions, width, padding_idx=padding)
        self.token_type_embeddings = nn.Embedding(sizes.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=sizes.layer_norm_eps)
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(self, ids: Tensor) -> Tensor:
        real = (ids != self.padding).long()
        positions = real.cumsum(dim=1) * real + self.padding
        types = self.token_type_embeddings.weight[0]
        embedded = self.word_embeddings(ids) + self.position_embeddings(positions) + types
        return self.dropout(self.LayerNorm(embedded))


class RobertaLayer(nn.Module):
    """Self-attention, then attention to the image where it comes in, then two linear layers: [B, L,
    D] -> the same."""

    def __init__(self, sizes: RobertaSizes, image_width: int | None) -> None:
        super().__init__()
        width, eps = sizes.hidden_size, sizes.layer_norm_eps
        self.attention = Attention(sizes, width)
        self.attention.output["LayerNorm"] = nn.LayerNorm(width, eps=eps)
        if image_width is not None:
            self.crossattention_t2i = Attention(sizes, image_width)
            self.alpha_t2i = nn.Parameter(torch.zeros(1))
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, sizes.intermediate_size)})
        dense, norm = nn.Linear(sizes.intermediate_size, width), nn.LayerNorm(width, eps=eps)
        self.output = nn.ModuleDict({"dense": dense, "LayerNorm": norm})
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(
        self, x: Tensor, mask: Tensor, image: Tensor | None = None, last_norm: bool = True
    ) -> Tensor:
        """`mask` [B, 1, 1, L] is additive. `image` [B, M, C]: only in a layer that was made with
        `image_width`; no mask over it."""
        a = self.attention(x, x, mask)
        if image is not None:
            a = a + self.alpha_t2i * self.crossattention_t2i(a, image, None)
        x = self.attention.output["LayerNorm"](a + x)
        x = self.dropout(self.output["dense"](F.gelu(self.intermediate["dense"](x)))) + x
        return self.output["LayerNorm"](x) if last_norm else x


class Attention(nn.Module):
    """Queries of the text [B, L, D], keys and values of `context` [B, M, C], and the linear layer
    after it: -> [B, L, D]."""

    def __init__(self, sizes: RobertaSizes, context_width: int) -> None:
        super().__init__()
        width = sizes.hidden_size
        self.heads, self.probability = sizes.num_attention_heads, sizes.attention_probs_dropout_prob
        widths = {"query": width, "key": context_width, "value": context_width}
        layers = {name: nn.Linear(inside, width) for name, inside in widths.items()}
        self.self = nn.ModuleDict(layers)
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        q = self._heads(self.self["query"](x))
        k, v = self._heads(self.self["key"](context)), self._heads(self.self["value"](context))
        mask = None if mask is None else mask.to(q.dtype)
        dropout = self.probability if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.dropout(self.output["dense"](out.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def additive_mask(mask: Tensor) -> Tensor:
    """[B, L], true for real tokens -> [B, 1, 1, L], 0 for them and a large negative number for
    padding."""
    # Not -inf: a text without any token (an absent modality) would give NaN, also in gradients.
    return torch.where(mask, 0.0, PADDING)[:, None, None]


def initialise(module: nn.Module) -> None:
    """N(0, 0.02) for linear layers and embeddings, biases 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
