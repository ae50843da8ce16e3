"""A faster form, on the CPU, of batch norm and 2x2 max pooling: the values and gradients of
PyTorch's own, to rounding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def batch_norm_max_pool(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """`F.max_pool2d(norm(x), 2)`: [B, C, H, W] -> [B, C, H // 2, W // 2], fastest where channels
    lie last. In training it updates the running statistics.

    Batch norm is monotone in each channel, so that only the maxima, a quarter of the map, have to
    be normalised. PyTorch's kernels on the CPU find a batch's moments value by value in double
    precision, and pool without vector instructions: an audio encoder's forward and backward pass
    gets about 1.5 times as fast (benchmarks/avmnist.py, part encoder).
    """
    maps = x.permute(0, 2, 3, 1).contiguous()  # [B, H, W, C]
    if norm.training:
        with torch.no_grad():
            mean, variance = _moments(maps)
            _update(norm, mean, variance, maps[..., 0].numel())
    else:
        mean, variance = norm.running_mean, norm.running_var
    std = (variance + norm.eps).sqrt()
    pooled = _NormalisedMaxima.apply(maps, norm.weight, norm.bias, mean, std, norm.training)
    return pooled.permute(0, 3, 1, 2)


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel, [C] each."""
    rows, width, channels = _rows(maps), *maps.shape[2:]
    count = maps[..., 0].numel()
    mean = _of_channels(rows, channels) / count
    centred = rows - mean.repeat(width)
    return mean, _of_channels(centred.square_(), channels) / count


def _update(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    norm.num_batches_tracked.add_(1)


class _NormalisedMaxima(torch.autograd.Function):
    """(max(x) - mean) / std * weight + bias: [B, H, W, C] -> [B, H // 2, W // 2, C]; the minima of
    channels whose weight is negative. `of_batch`: mean and std are those of x."""

    @staticmethod
    def forward(ctx, maps, weight, bias, mean, std, of_batch):
        sign = torch.where(weight < 0, -1.0, 1.0)
        negative = bool((sign < 0).any())
        pooled, places = _maxima(maps * sign if negative else maps)
        if negative:
            pooled *= sign
        scale, width = weight / std, pooled.shape[2]
        ctx.save_for_backward(maps, pooled, places, weight, mean, std)
        ctx.of_batch = of_batch
        shift = (bias - mean * scale).repeat(width)
        return torch.addcmul(shift, _rows(pooled), scale.repeat(width)).view_as(pooled)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        maps, pooled, places, weight, mean, std = ctx.saved_tensors
        width, channels = maps.shape[2:]
        grad, scale = _rows(grad.contiguous()), weight / std
        grad_bias = _of_channels(grad, channels)
        grad_weight = (_of_channels(grad * _rows(pooled), channels) - mean * grad_bias) / std
        # Every value moves the batch's mean and variance, the maxima the output itself.
        count = maps[..., 0].numel() if ctx.of_batch else float("inf")
        by_x = -scale * grad_weight / (std * count)
        by_one = -scale * grad_bias / count - by_x * mean
        grad_maps = torch.addcmul(by_one.repeat(width), _rows(maps), by_x.repeat(width))
        of_maxima = grad * scale.repeat(pooled.shape[2])
        batch = len(maps)
        grad_maps.view(batch, -1).scatter_add_(1, places.view(batch, -1), of_maxima.view(batch, -1))
        return grad_maps.view_as(maps), grad_weight, grad_bias, None, None, None


def _maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of every 2x2 values, an odd last row or column left out, and their places in an
    example [H * W * C]. Of equal ones the first in reading order, as `F.max_pool2d` has it."""
    height, width, channels = maps.shape[1:]
    whole = maps[:, : height // 2 * 2, : width // 2 * 2]
    left, right = whole[:, :, 0::2], whole[:, :, 1::2]
    of_rows, is_right = torch.maximum(left, right), right > left
    upper, lower = of_rows[:, 0::2], of_rows[:, 1::2]
    maxima, is_lower = torch.maximum(upper, lower), lower > upper
    if_upper, if_lower = is_right[:, 0::2], is_right[:, 1::2]
    is_right = if_upper ^ (is_lower & (if_upper ^ if_lower))  # torch.where, but vectorised
    places = torch.arange(height * width * channels).view(height, width, channels)
    first = places[: height // 2 * 2 : 2, : width // 2 * 2 : 2]
    places = torch.add(first, is_lower, alpha=width * channels).add_(is_right, alpha=channels)
    return maxima, places


def _rows(maps: Tensor) -> Tensor:
    """[B, H, W, C] -> [B * H, W * C], long rows, on which operations are fast."""
    return maps.view(-1, maps.shape[2] * maps.shape[3])


def _of_channels(rows: Tensor, channels: int) -> Tensor:
    """The sum of each channel, [C]."""
    return rows.sum(dim=0).view(-1, channels).sum(dim=0)
