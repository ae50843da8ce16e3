"""Swin transformer with FIBER's text-to-image attention in its last blocks, under the published
parameter names.

Liu et al., ICCV 2021 (Swin); Dou et al., NeurIPS 2022 (FIBER, section 3). The window is 1/32 of the
image side in every stage, whatever the variant's name says, so that an image has 64, 16, 4 and 1
windows and nothing is padded.

Shapes: B images, G x G grid of a stage, C its width, h heads of d channels, n x n windows of w x w
positions, L text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from i2m2.errors import SettingsError
from VQA_and_NLVR2.backbones.windows import relative_position_index, window_mask

PATCH, STAGES = 4, 4
SMALLEST = 32  # the side of the image is a multiple of it: patches of 4, halved by three mergings


@dataclass(frozen=True, kw_only=True)
class SwinSizes:
    """Sizes of the image encoder; the defaults are Swin-B's at 384 pixels. SettingsError where they
    do not fit together."""

    image_size: int = 384
    embed_dim: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-5
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST or self.image_size % SMALLEST:
            raise SettingsError(
                f"image_size {self.image_size} must be a multiple of {SMALLEST}, such as 384 or 576"
            )
        sizes = (len(self.depths), len(self.num_heads))
        if sizes != (STAGES, STAGES) or min(*self.depths, *self.num_heads) < 1:
            raise SettingsError(
                f"depths {self.depths} and num_heads {self.num_heads} must be "
                f"{STAGES} positive numbers each"
            )
        if any(width % heads for width, heads in zip(self.widths, self.num_heads, strict=True)):
            raise SettingsError(
                f"widths {self.widths} must be divisible by num_heads {self.num_heads}"
            )

    @property
    def window(self) -> int:
        return self.image_size // SMALLEST

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of every stage; the last one is the encoder's."""
        return tuple(self.embed_dim * 2**stage for stage in range(STAGES))


class Swin(nn.Module):
    """Patch embedding, blocks and mergings, to be run one after another by the owner: images [B, 3,
    s, s] -> tokens [B, G * G, C].

    `blocks` lists the blocks of all stages in order; `downsample_before(x, k)` gives what block k
    works on. The last `fused` blocks can take text tokens of width `text_width`. `norm` belongs to
    the image-only path.
    """

    def __init__(self, sizes: SwinSizes, text_width: int, fused: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.patch_embed = PatchEmbedding(sizes.embed_dim, sizes.layer_norm_eps)
        rates = torch.linspace(0, sizes.drop_path_rate, sum(sizes.depths), device="cpu").tolist()
        self.layers = nn.ModuleList()
        texts = [None] * (len(rates) - fused) + [text_width] * fused
        for t, depth in enumerate(sizes.depths):
            first = sum(sizes.depths[:t])
            stage = slice(first, first + depth)
            self.layers.append(Stage(sizes, t, rates[stage], texts[stage]))
        self.norm = nn.LayerNorm(sizes.widths[-1], eps=sizes.layer_norm_eps)
        self.apply(_initialise)

    @property
    def blocks(self) -> list[SwinBlock]:
        return [block for stage in self.layers for block in stage.blocks]

    def downsample_before(self, x: Tensor, k: int) -> Tensor:
        """Tokens after the patch merging that stands before block k, if one does."""
        for t, depth in enumerate(self.sizes.depths[:-1]):
            k -= depth
            if k == 0:
                return self.layers[t].downsample(x)
        return x


class PatchEmbedding(nn.Module):
    """Patches of 4 x 4 pixels, row by row: [B, 3, s, s] -> [B, (s / 4)^2, C]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).flatten(2).transpose(1, 2))


class Stage(nn.Module):
    """The blocks of one resolution, and the merging that closes it (not in the last stage)."""

    def __init__(
        self, sizes: SwinSizes, t: int, rates: Sequence[float], texts: Sequence[int | None]
    ) -> None:
        super().__init__()
        grid = sizes.image_size // PATCH // 2**t
        self.blocks = nn.ModuleList(
            SwinBlock(sizes, t, grid, shifted=b % 2 == 1, rate=rate, text_width=text)
            for b, (rate, text) in enumerate(zip(rates, texts, strict=True))
        )
        if t < STAGES - 1:
            self.downsample = PatchMerging(sizes.widths[t], sizes.layer_norm_eps)


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the width: [B, G * G, C] -> [B, G * G / 4, 2 C]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        half = round(tokens**0.5) // 2
        # (row, column) of the four: (0, 0), (1, 0), (0, 1), (1, 1)
        x = x.view(batch, half, 2, half, 2, width).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.reshape(batch, half * half, 4 * width)))


class SwinBlock(nn.Module):
    """Attention inside (shifted) windows, then an MLP, both residual: [B, G * G, C] -> the same."""

    def __init__(
        self,
        sizes: SwinSizes,
        t: int,
        grid: int,
        shifted: bool,
        rate: float,
        text_width: int | None,
    ) -> None:
        super().__init__()
        width, window, eps = sizes.widths[t], sizes.window, sizes.layer_norm_eps
        shift = window // 2 if shifted and grid > window else 0
        self.grid, self.rate = grid, rate
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = WindowAttention(
            width, sizes.num_heads[t], window, shift, text_width, sizes.qkv_bias, eps
        )
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, int(sizes.mlp_ratio * width))
        mask = window_mask(grid, window, shift) if shift else None
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(
        self, x: Tensor, text: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Tensor:
        """`text` [B, L, D] and its additive mask [B, 1, 1, L]: only in a block that was made with
        `text_width`."""
        batch, tokens, width = x.shape
        grid = self.norm1(x).view(batch, self.grid, self.grid, width)
        seen = self.attn(grid, self.attn_mask, text, text_mask)
        x = x + self._dropped(seen.view(batch, tokens, width))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth: in training this branch is left out for some images."""
        return stochastic_depth(x, self.rate, "row", self.training) if self.rate else x


class WindowAttention(nn.Module):
    """Self-attention inside windows, and of every position to the text where one comes in: [B, G,
    G, C] -> the same."""

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        shift: int,
        text_width: int | None,
        qkv_bias: bool,
        eps: float,
    ) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        index = relative_position_index(window)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        if text_width is not None:
            self.qkv_text_i2t = nn.Linear(text_width, 2 * width, bias=qkv_bias)
            self.qkv_i2t = nn.Linear(width, width, bias=qkv_bias)
            self.proj_i2t = nn.Linear(width, width)
            self.norm_i2t_i = nn.LayerNorm(width, eps=eps)
            self.alpha_i2t = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        x = self.proj(self._rolled(self._windows(self._rolled(x, -self.shift), mask), self.shift))
        return x if text is None else x + self.alpha_i2t * self._from_text(x, text, text_mask)

    def _windows(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, grid, _, width = x.shape
        w, h = self.window, self.heads
        n, d = grid // w, width // h
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.T.view(h, w * w, w * w)
        qkv = self.qkv(x).view(batch, n, w, n, w, 3, h, d)
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # 3, B, n, n, h, w, w, d
        if mask is None:
            q, k, v = qkv.reshape(3, batch * n * n, h, w * w, d)
        else:
            # The windows stand beside the heads: a mask that differs between windows is then shared
            # by the images, not copied.
            q, k, v = qkv.reshape(3, batch, n * n * h, w * w, d)
            bias = (mask[:, None] + bias).flatten(0, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        out = out.view(batch, n, n, h, w, w, d).permute(0, 1, 4, 2, 5, 3, 6)
        return out.reshape(batch, grid, grid, width)

    def _from_text(self, x: Tensor, text: Tensor, text_mask: Tensor | None) -> Tensor:
        # Every position sees the whole sentence, so that windows make no difference here. The
        # published code repeats it for each.
        batch, grid, _, width = x.shape
        h, d = self.heads, width // self.heads
        q = self.qkv_i2t(self.norm_i2t_i(x)).view(batch, grid * grid, h, d).transpose(1, 2)
        k, v = self.qkv_text_i2t(text).view(batch, -1, 2, h, d).permute(2, 0, 3, 1, 4)
        mask = None if text_mask is None else text_mask.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj_i2t(out.transpose(1, 2).reshape(x.shape))

    def _rolled(self, x: Tensor, by: int) -> Tensor:
        return torch.roll(x, (by, by), dims=(1, 2)) if by else x


class MLP(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inside)
        self.fc2 = nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
