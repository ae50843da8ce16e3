"""The transform of training (the published code's `albef_randaug`): random crop, optionally a flip,
and RandAugment.

Everything is drawn from a key, such as (seed, view, image id), so that it does not matter which
process does it, or when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from VQA_and_NLVR2.inputs.images import as_pil, as_tensor

AREA, ASPECT = (0.5, 1.0), (3 / 4, 4 / 3)
DRAWN = 2  # operations for an image, with replacement
APPLIED = 0.5  # probability that one is
LEVEL = 7 / 10
FACTOR = 0.1 + 1.8 * LEVEL  # of brightness and sharpness
SHEAR, PIXELS, DEGREES = 0.3 * LEVEL, 10 * LEVEL, 30 * LEVEL
FILL = (128, 128, 128)


def training_transform(
    image: Tensor | Image.Image, side: int, key: Sequence[int], flip: bool = False
) -> Tensor:
    """uint8 [3, H, W], or RGB -> uint8 [3, side, side]. The same key (integers >= 0) gives the same
    result.

    `flip`: mirror half of the images. Off, unlike in the published code, since it makes "left" in a
    question or sentence untrue; and NLVR2's two images would be mirrored each on its own.
    """
    rng = np.random.default_rng(key)
    image = as_pil(image)
    left, top, width, height = crop_box(image.width, image.height, rng)
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    mirror = rng.random() < 0.5  # drawn in any case: the rest does not depend on `flip`
    if flip and mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return as_tensor(rand_augment(image, rng))


def crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """-> left, top, width, height as of RandomResizedCrop: area and log aspect are uniform; after
    ten attempts, the centre."""
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    w = min(width, round(height * ASPECT[1]))  # the whole, cut to an aspect that is allowed
    h = min(height, round(width / ASPECT[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def rand_augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Two of OPERATIONS, each with probability 0.5, at level 7 of 10."""
    for name in rng.choice(list(OPERATIONS), DRAWN):
        applied = rng.random() < APPLIED
        sign = 1 if rng.random() < 0.5 else -1
        if applied:
            image = OPERATIONS[name](image, sign)
    return image


def _affine(
    image: Image.Image, a: float, b: float, c: float, d: float, e: float, f: float
) -> Image.Image:
    """Bilinear; the pixel at column x and row y comes from column a x + b y + c and row d x + e y +
    f."""
    # Pillow takes both points from the corner of a pixel instead of its centre: half a pixel
    # further.
    corner = (a, b, c + 0.5 * (1 - a - b), d, e, f + 0.5 * (1 - d - e))
    how = (Image.Transform.AFFINE, corner, Image.Resampling.BILINEAR)
    return image.transform(image.size, *how, fillcolor=FILL)


def _rotate(image: Image.Image, sign: int) -> Image.Image:
    """About column W / 2 and row H / 2."""
    cos, sin = math.cos(math.radians(DEGREES)), sign * math.sin(math.radians(DEGREES))
    x, y = image.width / 2, image.height / 2
    return _affine(image, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


# Shears leave the first row or column in place. Sharpness blends with a smoothing by ((1, 1, 1),
# (1, 5, 1), (1, 1, 1)) / 13 that leaves a border of one pixel as it is.
OPERATIONS = {
    "identity": lambda image, sign: image,
    "auto_contrast": lambda image, sign: ImageOps.autocontrast(image),
    "equalise": lambda image, sign: ImageOps.equalize(image),
    "brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(FACTOR),
    "sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(FACTOR),
    "shear_x": lambda image, sign: _affine(image, 1, sign * SHEAR, 0, 0, 1, 0),
    "shear_y": lambda image, sign: _affine(image, 1, 0, 0, sign * SHEAR, 1, 0),
    "translate_x": lambda image, sign: _affine(image, 1, 0, sign * PIXELS, 0, 1, 0),
    "translate_y": lambda image, sign: _affine(image, 1, 0, 0, 0, 1, sign * PIXELS),
    "rotate": _rotate,
}
