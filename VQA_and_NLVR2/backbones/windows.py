"""The windows of a Swin transformer: positions relative to each other, and who may see whom."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the scores of two positions that only the roll made neighbours (as published; not -inf).
OTHER_REGION = -100.0


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for every pair of positions of a window: [w * w, w * w] integers."""
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)
    rows, columns = row[:, None] - row + window - 1, column[:, None] - column + window - 1
    return rows * (2 * window - 1) + columns


def window_mask(grid: int, window: int, shift: int) -> Tensor:
    """What is added to the scores of the shifted windows: [n * n, w * w, w * w], 0 inside a region
    of the image, else -100.

    A roll brings the far sides of the image together: the last window of each axis then holds parts
    that were no neighbours.
    """
    place = torch.arange(grid)
    band = (place >= grid - window).long() + (place >= grid - shift).long()
    region = (3 * band[:, None] + band).view(grid // window, window, grid // window, window)
    region = region.transpose(1, 2).reshape(-1, window * window)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, OTHER_REGION)
