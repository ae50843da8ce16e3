"""Encoders of AV-MNIST and MIMIC-III: one modality -> features [B, D]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LeNet(nn.Module):
    """Convolution, batch norm, 2x2 max pooling, ReLU, repeated: [B, 1, H, W] -> [B, width *
    2**blocks].

    The first block has a 5x5 kernel and `width` channels; each of the `blocks` that follow has a
    3x3 kernel and twice the channels of the one before. The map left at the end must be 1x1: 3
    blocks for 28x28 images, 5 for 112x112 spectrograms. Pooling before the ReLU instead of after it
    changes no value and no gradient, and touches a quarter of the elements.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        channels = [1] + [width * 2**i for i in range(blocks + 1)]
        self.out_features = channels[-1]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(outside),
                MaxPool2x2(),
                nn.ReLU(),
            )
            for inside, outside, kernel in zip(
                channels, channels[1:], [5] + [3] * blocks, strict=False
            )
        )
        for block in self.blocks:
            nn.init.kaiming_uniform_(block[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if x.shape[-2:] != (1, 1):
            raise ValueError(
                f"LeNet with {len(self.blocks) - 1} further blocks leaves a map of {tuple(x.shape[-2:])}, not 1x1"
            )
        return x.flatten(1)


class MaxPool2x2(nn.Module):
    """2x2 max pooling with stride 2; an odd last row or column is left out, as in
    `nn.MaxPool2d(2)`."""

    def forward(self, x: Tensor) -> Tensor:
        plain_cpu = (
            x.device.type == "cpu"
            and x.dtype == torch.float32
            and not torch.compiler.is_compiling()
        )
        return _MaxPool2x2OnCPU.apply(x) if plain_cpu and x.shape[-1] >= 56 else F.max_pool2d(x, 2)


class _MaxPool2x2OnCPU(torch.autograd.Function):
    """The same values and gradients, ties included, as `F.max_pool2d(x, 2)`, whose CPU kernel is
    not vectorised.

    Maxima of strided views are: an audio encoder's forward and backward pass gets 1.1 to 1.4 times
    faster. On small maps the kernel is the faster one (benchmarks/avmnist.py, part encoder). On a
    tie the gradient goes to the upper row, then to the left column: the first maximum in reading
    order.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        height, width = (size // 2 * 2 for size in x.shape[-2:])
        rows = torch.maximum(
            x[..., :height, 0:width:2], x[..., :height, 1:width:2]
        )  # [..., H, W/2]: the better of two columns
        pooled = torch.maximum(rows[..., 0::2, :], rows[..., 1::2, :])
        ctx.save_for_backward(x, rows, pooled)
        return pooled

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        x, rows, pooled = ctx.saved_tensors
        height, width = (size // 2 * 2 for size in x.shape[-2:])
        grad_rows = torch.empty_like(rows)
        grad_rows[..., 0::2, :] = grad * (rows[..., 0::2, :] == pooled)
        grad_rows[..., 1::2, :] = grad - grad_rows[..., 0::2, :]
        grad_x = (
            torch.empty_like(x) if (height, width) == tuple(x.shape[-2:]) else torch.zeros_like(x)
        )
        grad_x[..., :height, 0:width:2] = grad_rows * (x[..., :height, 0:width:2] == rows)
        grad_x[..., :height, 1:width:2] = grad_rows - grad_x[..., :height, 0:width:2]
        return grad_x


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, ReLU, linear: [B, inputs] -> [B, outputs]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class SeriesGRU(nn.Module):
    """A one-layer GRU over time, all of its steps flattened: [B, T, inputs] -> [B, T * features].

    With `projection`, a linear layer first maps every step's features to so many: [B, T *
    projection].
    """

    def __init__(self, inputs: int, features: int, projection: int | None = None) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, features, batch_first=True)
        self.projection = nn.Linear(features, projection) if projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        plain_cpu = (
            x.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )
        hidden = (
            _GRUOnCPU.apply(x.transpose(0, 1), *self.gru.all_weights[0]).transpose(0, 1)
            if plain_cpu
            else self.gru(x)[0]
        )
        return self.projection(hidden).flatten(1)


class _GRUOnCPU(torch.autograd.Function):
    """`nn.GRU` of one layer, from a state of zeros: [T, B, inputs] -> [T, B, features], values and
    gradients equal to rounding.

        r, z = sigmoid(W x + b + U h + c)    m = U_n h + c_n    n = tanh(W_n x + b_n + r m)    h' = n + z (h - n)

    On the CPU small operations, each with its node in the graph, are all that `nn.GRU` spends its
    time on. Here W x is one product for all steps, a step takes six operations forward and three
    backward, and every weight's gradient is one product over all steps: both passes together get
    about twice as fast (benchmarks/mimic.py, part gru).
    """

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor) -> Tensor:
        size = u.shape[1]
        (u_rz, u_n), (c_rz, c_n) = u.split([2 * size, size]), c.split([2 * size, size])
        gates_rz, gates_n = F.linear(x, w, b).split([2 * size, size], dim=-1)
        gates_rz += c_rz
        h = x.new_zeros(len(x) + 1, x.shape[1], size)
        rz, n, m = (h.new_empty(*h[1:].shape[:2], k * size) for k in (2, 1, 1))
        r, z = rz.split(size, dim=-1)
        for g_rz, g_n, h_t, rz_t, r_t, z_t, n_t, m_t, h_next in zip(
            gates_rz, gates_n, h[:-1], rz, r, z, n, m, h[1:], strict=True
        ):
            torch.addmm(g_rz, h_t, u_rz.t(), out=rz_t).sigmoid_()
            torch.addmm(c_n, h_t, u_n.t(), out=m_t)
            torch.addcmul(g_n, r_t, m_t, out=n_t).tanh_()
            torch.lerp(n_t, h_t, z_t, out=h_next)
        ctx.save_for_backward(x, w, u, h, r, z, n, m)
        return h[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w, u, h, r, z, n, m = ctx.saved_tensors
        by_n = (1 - z) * (
            1 - n * n
        )  # the slope of h' in what tanh is taken of; below in r's and z's sigmoid, and in m
        slopes = torch.stack(
            [by_n * m * r * (1 - r), (h[:-1] - n) * z * (1 - z), by_n * r], dim=2
        )  # [T, B, 3, features]
        grad_h, grad_gates = (
            grad.clone(memory_format=torch.contiguous_format),
            torch.empty_like(slopes),
        )
        flat = grad_gates.flatten(2)
        for t in reversed(range(len(grad))):
            torch.mul(slopes[t], grad_h[t].unsqueeze(1), out=grad_gates[t])
            if t:
                grad_h[t - 1].addcmul_(grad_h[t], z[t]).addmm_(flat[t], u)
        flat = flat.flatten(0, 1)
        grad_u, grad_c = (h[:-1].flatten(0, 1).t() @ flat).t(), flat.sum(dim=0)
        grad_gates[:, :, 2] = by_n * grad_h
        grad_w, grad_b = (x.flatten(0, 1).t() @ flat).t(), flat.sum(dim=0)
        grad_x = (flat @ w).view(x.shape) if ctx.needs_input_grad[0] else None
        return grad_x, grad_w, grad_u, grad_b, grad_c
