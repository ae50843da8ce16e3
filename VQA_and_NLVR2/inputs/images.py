"""Images: decoding by content, and the transform of evaluation (the published code's `albef`)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2m2.errors import DataError
from i2m2.reading.paths import what_else

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What Pillow raises for a file that is no image, or only a part of one.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError,
)  # fmt: skip
MOST_PIXELS = (1 << 29) // 3  # of an image: half a gigabyte as RGB
Image.MAX_IMAGE_PIXELS = None  # Pillow refuses at the same size, and from half of it on warns


def load_rgb(path: Path) -> Image.Image:
    """Decode an image by its content, whatever its name says (NLVR2's .png are often JPEG), to
    8-bit RGB.

    Grey, palette and CMYK are converted; of 16-bit grey the upper byte is taken. What is
    transparent shows white, as on the web page that people answered from (the published code shows
    whatever colour lies under it); of an animation the first frame. An EXIF orientation is not
    applied: neither did the published code, nor the browsers of those years, so that left and right
    in questions and sentences mean the pixels as stored. DataError names a file that is missing, no
    image, cut short, too large, or of 32-bit grey.
    """
    if other := what_else(path):
        raise DataError(f"{path}: no readable image (it is {other}); get the file again")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:  # before anything is decoded
                raise DataError(
                    f"{path}: {image.width} x {image.height} pixels are more than an image may "
                    f"have, {MOST_PIXELS:,}; put a smaller copy in its place"
                )
            image.load()
            if image.mode in ("I", "F"):
                raise DataError(
                    f"{path}: has grey of 32 bits, of which nothing says what is white; "
                    "save it with 8 or 16 bits"
                )
            if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
                image = _of_16_bits(image)
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image") from error
    except _BROKEN as error:
        what = " ".join(str(error).split()).replace(repr(str(path)), "the file")
        raise DataError(f"{path}: no readable image ({what}); get the file again") from error


def _of_16_bits(image: Image.Image) -> Image.Image:
    """The upper byte of each pixel; of the value that means transparent, white."""
    values = np.array(image)
    grey = (values >> 8).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey)


def evaluation_transform(image: Tensor | Image.Image, side: int) -> Tensor:
    """uint8 [3, H, W], or RGB -> uint8 [3, side, side]: resized whatever its aspect, bicubic, by
    Pillow as in the published code.

    (torchvision's own uint8 kernel is several times faster, but off by one or two grey levels in
    some of the values.)
    """
    return as_tensor(as_pil(image).resize((side, side), Image.Resampling.BICUBIC))


def as_pil(image: Tensor | Image.Image) -> Image.Image:
    """uint8 [3, H, W] -> RGB; RGB as it is."""
    if not isinstance(image, Tensor):
        return image
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def as_tensor(image: Image.Image) -> Tensor:
    """RGB -> uint8 [3, H, W]. torchvision has this too, and takes a second to import."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def normalise_images(
    images: Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """uint8 [B, 3, s, s], on any device -> (image / 255 - mean) / std by channel."""
    mean = torch.tensor(mean, dtype=dtype, device=images.device).view(3, 1, 1)
    std = torch.tensor(std, dtype=dtype, device=images.device).view(3, 1, 1)
    return images.to(dtype).div_(255).sub_(mean).div_(std)
