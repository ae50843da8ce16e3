"""A faster form, on the CPU, of the GRU: the values and gradients of PyTorch's own, to rounding.

`plain_cpu` says where it may stand in for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


def plain_cpu(x: Tensor) -> bool:
    """Whether `x` lies on the CPU and no compiler is at work, which has kernels of its own."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class GRUOnCPU(torch.autograd.Function):
    """`nn.GRU` of one layer, from a state of zeros: [T, B, inputs] -> [T, B, features].

        r, z = sigmoid(W x + b + U h + c)    m = U_n h + c_n
        n = tanh(W_n x + b_n + r m)          h' = n + z (h - n)

    On the CPU small operations, each with its node in the graph, are all that `nn.GRU` spends its
    time on. Here W x is one product for all steps, a step takes six operations forward and three
    backward, and every weight's gradient is one product over all steps: both passes together get
    about twice as fast (benchmarks/mimic.py, part gru). S layers at once, on any device, have an
    axis [S, ...] in front of inputs, weights and outputs.
    """

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor) -> Tensor:
        x = x.contiguous()  # read again for the gradient of W
        *lead, steps, batch, _ = x.shape
        size, addmm = u.shape[-1], torch.baddbmm if lead else torch.addmm
        b, c = b.unsqueeze(-2), c.unsqueeze(-2)
        (u_rz, u_n), (c_rz, c_n) = (part.split([2 * size, size], dim=-1) for part in (u.mT, c))
        gates_rz, gates_n = _affine(x, w, b).split([2 * size, size], dim=-1)
        gates_rz += c_rz.unsqueeze(-3)
        h = x.new_empty(*lead, steps + 1, batch, size)
        h.select(-3, 0).zero_()
        # Time comes first where a product is written: it needs what lies in one piece.
        rz, n, m = (h.new_empty(steps, *lead, batch, k * size) for k in (2, 1, 1))
        r, z = rz.split(size, dim=-1)
        for g_rz, g_n, h_t, rz_t, r_t, z_t, n_t, m_t, h_next in zip(
            gates_rz.unbind(-3), gates_n.unbind(-3), h.unbind(-3)[:-1],
            rz, r, z, n, m, h.unbind(-3)[1:], strict=True,
        ):  # fmt: skip
            addmm(g_rz, h_t, u_rz, out=rz_t).sigmoid_()
            addmm(c_n, h_t, u_n, out=m_t)
            torch.addcmul(g_n, r_t, m_t, out=n_t).tanh_()
            torch.lerp(n_t, h_t, z_t, out=h_next)
        ctx.save_for_backward(x, w, u, h, r, z, n, m)
        return h.narrow(-3, 1, steps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w, u, h, r, z, n, m = ctx.saved_tensors
        before = h.narrow(-3, 0, len(n)).movedim(-3, 0)  # [T, (S,) B, features]
        # The slopes of h' in what tanh is taken of, then in r's and z's sigmoid and in m.
        by_n = tanh_backward(1 - z, n)
        slopes = n.new_empty(*n.shape[:-1], 3, n.shape[-1])  # [T, (S,) B, 3, features]
        by_r, by_z, by_m = slopes.unbind(-2)
        sigmoid_backward.grad_input(by_n * m, r, grad_input=by_r)
        sigmoid_backward.grad_input(before - n, z, grad_input=by_z)
        torch.mul(by_n, r, out=by_m)
        grad_h = grad.movedim(-3, 0).clone(memory_format=torch.contiguous_format)
        grad_gates = torch.empty_like(slopes.movedim(0, -4), memory_format=torch.contiguous_format)
        flat = grad_gates.flatten(-2)
        for t in reversed(range(len(n))):
            torch.mul(slopes[t], grad_h[t].unsqueeze(-2), out=grad_gates.select(-4, t))
            if t:
                carried = grad_h[t - 1].addcmul_(grad_h[t], z[t])
                (carried.baddbmm_ if u.dim() == 3 else carried.addmm_)(flat.select(-3, t), u)
        flat = flat.flatten(-3, -2)  # [(S,) T * B, 3 * features]
        grad_u, grad_c = _products(before.movedim(0, -3), flat), flat.sum(dim=-2)
        # W's last gate sees n's slope itself; U's saw it times r.
        torch.mul(by_n, grad_h, out=grad_gates.select(-2, 2).movedim(-3, 0))
        grad_w, grad_b = _products(x, flat), grad_c.clone()
        grad_b[..., -h.shape[-1] :] = flat[..., -h.shape[-1] :].sum(dim=-2)
        grad_x = (flat @ w).view(x.shape) if ctx.needs_input_grad[0] else None
        return grad_x, grad_w, grad_u, grad_b, grad_c


def _affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """W x + b: [(S,) T, B, inputs], [(S,) outputs, inputs], [(S,) 1, outputs] -> [(S,) T, B,
    outputs]."""
    if w.dim() == 2:
        return F.linear(x, w, b[0])
    return torch.baddbmm(b, x.flatten(1, 2), w.mT).view(*x.shape[:-1], -1)


def _products(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of a weight: x [(S,) T, B, inputs], grad [(S,) T * B, outputs] -> [(S,) outputs,
    inputs]."""
    return (x.flatten(-3, -2).mT @ grad).mT
