"""From k-space to the cropped complex image: centred, orthonormal inverse Fourier transforms in
single precision."""

from __future__ import annotations

import numpy as np

SIZE = 320  # rows and columns of the published reconstructions
PADDED_WIDTH = 400  # columns that the published code fills k-space up to


def centred_ifft(array: np.ndarray, axis: int) -> np.ndarray:
    """Inverse FFT along `axis`, orthonormal; frequency 0 and position 0 are both at index n // 2.
    complex64 stays complex64.

    For odd n the order matters: ifftshift before, fftshift after.
    """
    from scipy import fft  # here: commands that only need the sizes above start without it

    shifted = fft.ifftshift(array, axes=axis)
    image = fft.ifft(shifted, axis=axis, norm="ortho", overwrite_x=True, workers=1)
    return fft.fftshift(image, axes=axis)


def fit(array: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Crop, or pad with zeros, to `size` along `axis`, so that index n // 2 comes to size // 2."""
    axis %= array.ndim
    start = array.shape[axis] // 2 - size // 2
    if start >= 0 and start + size <= array.shape[axis]:
        return array[(slice(None),) * axis + (slice(start, start + size),)]
    padding = [(0, 0)] * array.ndim
    padding[axis] = (-start, size + start - array.shape[axis])
    return np.pad(array, padding)


def image_of(kspace: np.ndarray, geometry: str = "native") -> np.ndarray:
    """K-space [..., H, W] -> complex image [..., 320, 320].

    native: inverse FFT at the width W that was measured, then the centre: what reconstruction_esc
    shows. Narrow images are padded. official_code: columns of zeros up to 400 first, as published.
    The field of view stays and the pixel shrinks, so the image is stretched by 400/W across and the
    crop shows 0.8 W native columns. Unlike there, the centre stays in place where W is odd.
    """
    if geometry == "official_code":
        kspace = fit(kspace, PADDED_WIDTH, -1)
    # Rows first: the crop then saves half of the transforms along the columns.
    rows = fit(centred_ifft(kspace, -2), SIZE, -2)
    return np.ascontiguousarray(fit(centred_ifft(rows, -1), SIZE, -1))


def block_mean(array: np.ndarray, n: int) -> np.ndarray:
    """Mean of n x n pixels: [S, H, W] -> [S, H/n, W/n]. Of complex pixels, since angles have no
    mean."""
    if n == 1:
        return array
    slices, height, width = array.shape
    return array.reshape(slices, height // n, n, width // n, n).mean(axis=(2, 4), dtype=array.dtype)
