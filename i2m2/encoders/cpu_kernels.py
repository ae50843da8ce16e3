"""A faster form, on the CPU, of the GRU: the values and gradients of PyTorch's own, to rounding.

`plain_cpu` says where it may stand in for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


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
        # The slopes of h' in what tanh is taken of, then in r's and z's sigmoid and in m.
        by_n = (1 - z) * (1 - n * n)
        by_r, by_z = by_n * m * r * (1 - r), (h[:-1] - n) * z * (1 - z)
        slopes = torch.stack([by_r, by_z, by_n * r], dim=2)  # [T, B, 3, features]
        grad_h = grad.clone(memory_format=torch.contiguous_format)
        grad_gates = torch.empty_like(slopes)
        flat = grad_gates.flatten(2)
        for t in reversed(range(len(grad))):
            torch.mul(slopes[t], grad_h[t].unsqueeze(1), out=grad_gates[t])
            if t:
                grad_h[t - 1].addcmul_(grad_h[t], z[t]).addmm_(flat[t], u)
        flat = flat.flatten(0, 1)
        grad_u, grad_c = (h[:-1].flatten(0, 1).t() @ flat).t(), flat.sum(dim=0)
        # W's last gate sees n's slope itself; U's saw it times r.
        grad_gates[:, :, 2] = by_n * grad_h
        grad_w, grad_b = (x.flatten(0, 1).t() @ flat).t(), flat.sum(dim=0)
        grad_x = (flat @ w).view(x.shape) if ctx.needs_input_grad[0] else None
        return grad_x, grad_w, grad_u, grad_b, grad_c
