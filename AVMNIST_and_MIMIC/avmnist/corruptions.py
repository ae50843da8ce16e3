"""Corruptions of AV-MNIST's stored arrays at a level p in 0..1.

They follow MultiBench's robustness tests (Liang et al., 2021) as documented, on the scale the data
have: its code drew salt of 1 and noise of standard deviation p on images of 0..255, and returned
the clips it had not chosen as silence. An example's noise depends on (seed, modality, level, the
example's place in the array), not on the size of the array or of a batch.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from i2m2.stats.robustness import ArrayCorruptions

BLOCK = 500  # examples that share a random generator; part of the result
SCALE = 255.0  # stored units of a value of 1
SIDES = {"image": 28, "audio": 112}
ROTATION = 20.0  # largest angle, degrees
CROP = 0.8  # side of the crop over side of the image
RUN = 10  # time steps that one structured drop silences


def avmnist_corruptions(seed: int) -> ArrayCorruptions:
    """What is corrupted: one modality, or both."""
    by_modality = {modality: partial(corrupt, modality, seed=seed) for modality in SIDES}
    return {
        **{modality: {modality: by_modality[modality]} for modality in SIDES},
        "multimodal": by_modality,
    }


def corrupt(modality: str, array: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    """`array` [N, ...], as stored, at level p -> the same shape and type; level 0 changes nothing.

    Images are floats around 0..255, zero-centred or not, and stay within the least and the largest
    value of `array`; audio is 0..255. Integers are rounded.
    """
    if level == 0:
        return array
    side = SIDES[modality]
    image = modality == "image"
    low, high = (float(array.min()), float(array.max())) if image else (0.0, SCALE)
    result = np.empty(array.shape, array.dtype)
    for block, start in enumerate(range(0, len(array), BLOCK)):
        part = array[start : start + BLOCK]
        # Always a whole block, so that the numbers an example draws do not depend on how many
        # follow it.
        x = np.full((BLOCK, side, side), low, dtype=np.float32)
        x[: len(part)] = part.reshape(-1, side, side)
        rng = np.random.default_rng([seed, list(SIDES).index(modality), round(1000 * level), block])
        x = corrupt_images(x, level, low, high, rng) if image else corrupt_audio(x, level, rng)
        x = np.rint(x) if array.dtype.kind in "ui" else x
        result[start : start + BLOCK] = x[: len(part)].reshape(part.shape)
    return result


def corrupt_images(
    x: np.ndarray, p: float, low: float, high: float, rng: np.random.Generator
) -> np.ndarray:
    """float32 [B, H, W] within low..high -> the same.

    Seven transforms in this order, each of an example with probability p. The other three of
    MultiBench, grey-scale, colour temperature and tint, do nothing to an image
    of one channel.
    """
    contrast, inverted, peppered, noisy, *turned = rng.random((7, len(x))) < p
    x = x.copy()
    mean = x[contrast].mean(axis=(1, 2), keepdims=True)
    x[contrast] = mean + 0.5 * (x[contrast] - mean)
    x[inverted] = low + high - x[inverted]
    x[peppered] = salt_and_pepper(x[peppered], p, low, high, rng)
    x[noisy] = gaussian_noise(x[noisy], p, low, high, rng)
    moved = np.logical_or.reduce(turned)
    if moved.any():
        x[moved] = turn(x[moved], *(chosen[moved] for chosen in turned), low, rng)
    return x


def salt_and_pepper(
    x: np.ndarray, p: float, low: float, high: float, rng: np.random.Generator
) -> np.ndarray:
    """Each pixel becomes `low` with probability p / 2, `high` with p / 2."""
    u = rng.random(x.shape, dtype=np.float32)
    salted = np.where(u >= 1 - p / 2, np.float32(high), x)
    return np.where(u < p / 2, np.float32(low), salted)


def gaussian_noise(
    x: np.ndarray, p: float, low: float, high: float, rng: np.random.Generator
) -> np.ndarray:
    """Plus noise of standard deviation p on the scale 0..1 in every pixel, clipped to low..high."""
    return np.clip(x + SCALE * p * rng.standard_normal(x.shape, dtype=np.float32), low, high)


def turn(
    x: np.ndarray,
    rotated: np.ndarray,
    flipped: np.ndarray,
    cropped: np.ndarray,
    low: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rotation, horizontal flip and crop, where the masks [B] say so.

    Rotation is by U(-20, 20) degrees, the crop to 80 % at a random place and back to size. One
    bilinear interpolation for all three; what lies outside the image is `low`, its darkest.
    """
    u = rng.random((len(x), 3))
    angle = np.deg2rad(ROTATION) * (2 * u[:, 0] - 1) * rotated
    mirror = np.where(flipped, -1.0, 1.0)
    scale = np.where(cropped, CROP, 1.0)
    # From where a pixel of the result takes its value, in coordinates -1..1: into the crop, then
    # mirrored, then rotated.
    shift = (2 * u[:, 1:] - 1) * (1 - scale)[:, None]
    entries = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
    rotation = np.stack(entries, axis=1).reshape(-1, 2, 2)
    rotation[:, :, 0] *= mirror[:, None]
    theta = np.concatenate([rotation * scale[:, None, None], rotation @ shift[:, :, None]], axis=2)
    images = torch.from_numpy(x - np.float32(low))[:, None]
    grid = F.affine_grid(torch.from_numpy(theta).float(), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)[:, 0].numpy() + np.float32(low)


def corrupt_audio(x: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """float32 spectrograms 0..255 [B, frequencies, time steps] -> the same.

    With probability p a clip gets one of three, each equally often: white noise of standard
    deviation p on the scale 0..1 (another in every pixel), single time steps zeroed with
    probability p each, or runs of time steps zeroed. The other clips stay as they are.
    """
    kind = np.where(rng.random(len(x)) < p, rng.integers(0, 3, len(x)), -1)
    noisy, dotted, gapped = (kind == k for k in range(3))
    u = rng.random((len(x), x.shape[2]))
    x = x.copy()
    x[dotted] *= (u[dotted] >= p)[:, None, :]
    x[gapped] *= ~runs(x[gapped].any(axis=1), u[gapped], p)[:, None, :]
    x[noisy] = gaussian_noise(x[noisy], p, 0.0, SCALE, rng)
    return x


def runs(sounding: np.ndarray, u: np.ndarray, p: float) -> np.ndarray:
    """Time steps [B, T] that fall silent.

    Going forward, a step that is not zero (`sounding`) nor silenced yet begins, with probability p,
    a run of ten.
    """
    silent = np.zeros(u.shape, dtype=bool)
    end = np.full(len(u), -math.inf)
    for step in range(u.shape[1]):
        begins = sounding[:, step] & (step >= end) & (u[:, step] < p)
        end = np.where(begins, step + RUN, end)
        silent[:, step] = step < end
    return silent
