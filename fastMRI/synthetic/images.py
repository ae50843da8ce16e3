"""The physics of the synthetic knees: anatomy, phase, coils, noise, sites, k-space.

Lengths in pixels of the native image; x to the right, y *down in the annotations' frame*, which is
upside down: rows of the arrays run against y. Brightness in units of the brightest tissue until
`SCALE` brings it to fastMRI's.

Coil images are never transformed: an orthonormal transform maps white noise to white noise, so they
are made in image space, and only in the rows that the crop keeps; the other rows need them only for
multi-coil files. All arrays are float32 or complex64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft

from fastMRI.synthetic.plan import Plan, Site

HEIGHT = 640  # rows: the readout, oversampled twofold
CROP = 320
COILS = 8
PIXEL_MM = 0.5
SCALE = 1.0e-4  # brings the root mean square of `reconstruction_esc` near 5e-5
# Standard deviation of a coil's noise, real and imaginary part each, in units of brightness
NOISE = 0.04
# Standard deviation of harmless smooth variations: relative magnitude, phase in radians
TEXTURE, SWIRL = 0.04, 0.08
GRAIN = 20.0  # their length
# Radius of a finding in half-widths of its box: drawn boxes hug what stands out
REACH = np.sqrt(1.5)

# Tissue: brightness without and with fat suppression
MUSCLE = (0.50, 0.45)
FAT = (0.95, 0.20)
MARROW = (0.80, 0.35)
CARTILAGE = (0.65, 0.70)
FLUID = (0.55, 0.90)
MENISCUS = (0.35, 0.30)
SUPPRESSED_SCALE = 0.7  # the whole image is dimmer with fat suppression


@dataclass(frozen=True)
class Volume:
    """Arrays of one volume: kspace complex64 [S, H, W], esc and rss float32 [S, 320, 320], coils
    complex64 [S, C, H, W] or None."""

    kspace: np.ndarray
    esc: np.ndarray
    rss: np.ndarray
    coils: np.ndarray | None = None


def to_kspace(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal Fourier transform over the last two axes; complex64 stays complex64."""
    axes = (-2, -1)
    return fft.fftshift(fft.fft2(fft.ifftshift(image, axes=axes), norm="ortho"), axes=axes)


def to_image(kspace: np.ndarray) -> np.ndarray:
    """Inverse of `to_kspace`, for odd sizes too."""
    axes = (-2, -1)
    return fft.fftshift(fft.ifft2(fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)


def crop(image: np.ndarray) -> np.ndarray:
    """[..., H, W] -> [..., 320, 320] about the centre."""
    top, left = (image.shape[-2] - CROP) // 2, (image.shape[-1] - CROP) // 2
    return image[..., top : top + CROP, left : left + CROP]


def make_volume(plan: Plan, seed: int, multicoil: bool = False, height: int = HEIGHT) -> Volume:
    """Images and k-space of one volume: the same whether `multicoil` asks for the coils' k-space or
    not."""
    rng = np.random.default_rng((seed, 3, plan.index))
    outer_rng = np.random.default_rng((seed, 4, plan.index))
    clean = SCALE * _clean(plan, height, rng)
    maps = _sensitivities(height, plan.width, plan.knee, rng)
    weights = _weights(maps)
    measured = _measured(plan)
    top = (height - CROP) // 2
    inner, outer = slice(top, top + CROP), np.r_[0:top, top + CROP : height]
    image = clean * _combined(weights, maps)
    rss = np.empty((plan.slices, CROP, CROP), np.float32)
    coils = np.empty((plan.slices, COILS, height, plan.width), np.complex64) if multicoil else None
    for index in range(plan.slices):  # slice by slice: the coils of one fit a processor's cache
        stack = clean[index, inner] * maps[:, inner] + _noise((COILS, CROP, plan.width), rng)
        for rows, columns, factor in _bumps(plan, index):
            stack[:, rows, columns] *= factor
        outer_noise = np.linalg.norm(weights) * _noise((height - CROP, plan.width), rng)
        image[index, inner] = _combined(weights, stack)
        image[index, outer] += outer_noise
        rss[index] = np.sqrt((np.abs(crop(_filtered(stack, measured))) ** 2).sum(0))
        if coils is not None:
            coils[index, :, inner] = stack
            outer_stack = clean[index, outer] * maps[:, outer]
            outer_stack = outer_stack + _split(outer_noise, weights, outer_rng)
            coils[index, :, outer] = np.moveaxis(outer_stack, 1, 0)
            coils[index] = to_kspace(coils[index]) * measured
    kspace = to_kspace(image) * measured
    return Volume(kspace, np.abs(crop(to_image(kspace))), rss, coils)


def _combined(weights: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """Single-coil image [rows, W] of coil images [C, rows, W]."""
    return np.einsum("c,chw->hw", weights, stack)


def _measured(plan: Plan) -> np.ndarray:
    """Which columns of k-space are not zero: bool [W]."""
    columns = np.arange(plan.width) - plan.width // 2 + plan.acquired // 2
    return (columns >= 0) & (columns < plan.acquired)


def _filtered(stack: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Coil images [C, rows, W] without the columns of k-space that were not measured; rows do not
    mix, so any of them will do."""
    if measured.all():
        return stack
    kspace = fft.fft(stack, axis=-1)
    # The image's own shift is a phase in k-space, which the mask leaves alone.
    kspace[..., ~fft.ifftshift(measured)] = 0
    return fft.ifft(kspace, axis=-1)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Complex Gaussian noise of one coil's strength: complex64."""
    parts = SCALE * NOISE * rng.standard_normal((*shape, 2), dtype=np.float32)
    return parts.view(np.complex64)[..., 0]


def _split(noise: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of the single-coil image [rows, W] -> independent noise of the coils [C, rows, W] whose
    weighted sum it is."""
    free = _noise((COILS, *noise.shape), rng)
    toward = (np.conj(weights) / np.linalg.norm(weights) ** 2)[:, None, None]
    return free + toward * (noise - _combined(weights, free))


def _bumps(plan: Plan, index: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Where in [320, W] the slice's sites lie, and what multiplies the noisy image there.

    Image and noise are multiplied alike. Were the signal alone changed, the phase's noise would
    tell the magnitude's change.
    """
    for site in plan.sites:
        if site.first <= index <= site.last:
            yield _bump(site, index, plan.width)


def _bump(site: Site, index: int, width: int) -> tuple[slice, slice, np.ndarray]:
    """A paraboloid, 1 at the site's centre, 1/3 at the middle of its box's edges, 0 a little
    outside."""
    x, y = site.centre(index)
    centre = CROP - y - 0.5, x - 0.5 + (width - CROP) // 2  # a pixel's middle is a whole number
    radii = REACH * site.height / 2, REACH * site.width / 2
    rows = _within(centre[0], radii[0], CROP)
    columns = _within(centre[1], radii[1], width)
    down = ((rows[:, None] - centre[0]) / radii[0]) ** 2
    across = ((columns - centre[1]) / radii[1]) ** 2
    bump = np.maximum(0, 1 - (down + across))
    factor = (1 + site.change * bump) * np.exp(1j * site.shift * bump)
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
        factor.astype(np.complex64),
    )


def _within(middle: float, radius: float, size: int) -> np.ndarray:
    """Whole numbers about `middle`, within 0..size - 1."""
    first, end = max(0, int(middle - radius)), min(size, int(middle + radius) + 2)
    return np.arange(first, end, dtype=np.float32)


def _clean(plan: Plan, height: int, rng: np.random.Generator) -> np.ndarray:
    """The knee without coils, noise and sites: complex64 [S, H, W]."""
    x = (np.arange(plan.width, dtype=np.float32) - plan.width // 2)[None, None]
    y = (height // 2 - np.arange(height, dtype=np.float32))[None, :, None]
    depth = np.linspace(-1, 1, plan.slices, dtype=np.float32)[:, None, None]
    depth = depth * np.float32(rng.uniform(0.6, 1.0))
    right, down = plan.knee
    magnitude, fat = _anatomy(x - right, y - down, depth, int(plan.fat_suppressed), rng)
    shape = (plan.slices, height, plan.width)
    magnitude *= 1 + TEXTURE * _smooth_field(shape, rng)
    phase = _background_phase(x / 160, y / 160, depth, rng) + SWIRL * _smooth_field(shape, rng)
    # Drawn in any case, so that both contrasts use up the same numbers.
    fat_shift = np.float32(rng.uniform(0.3, 0.9))
    if not plan.fat_suppressed:
        phase += fat_shift * fat
    loudness = rng.uniform(0.8, 1.2) * (SUPPRESSED_SCALE if plan.fat_suppressed else 1)
    clean = np.empty(shape, np.complex64)
    magnitude *= np.float32(loudness)
    clean.real, clean.imag = magnitude * np.cos(phase), magnitude * np.sin(phase)
    return clean


def _anatomy(
    x: np.ndarray, y: np.ndarray, depth: np.ndarray, contrast: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and the share of fat, float32 [S, H, W] each; x [1, 1, W] and y [1, H, 1] from the
    knee's centre, depth [S, 1, 1].

    The joint line is where the real boxes of menisci and cartilage lie: about 32 below the centre
    of the image.
    """
    size = rng.uniform(0.95, 1.05, 4).astype(np.float32)
    leg = size[0] * (126 + 8 * (y / 160) ** 2 - 4 * depth**2)
    bone = size[1] * (98 - 10 * depth**2)
    femur_width = 45 + (bone - 45) * np.clip((y + 105) / 60, 0, 1)
    tibia_width = bone - (bone - 42) * np.clip((y - 60) / 70, 0, 1)
    notch = (42 * size[2] * np.maximum(0, 1 - (x / 24) ** 2)).astype(np.float32)
    sides = np.abs(x)
    inside = _edge(leg - sides)
    muscle = _edge(leg - 14 * size[3] - sides)
    femur = _edge(np.minimum(femur_width - sides, 24 - notch - y))
    tibia = _edge(np.minimum(tibia_width - sides, y - 40))
    gap = _edge(np.minimum(bone - 2 - sides, np.minimum(y - 24, 40 - y)))
    meniscus = _edge(np.minimum(sides - bone + 32, (sides - bone + 38) / 4 - np.abs(y - 32)) / 2)
    lining = np.clip(np.abs(y - 32) / 4 - 0.5, 0, 1)  # cartilage on both sides of the fluid
    joint = FLUID[contrast] + (CARTILAGE[contrast] - FLUID[contrast]) * lining
    joint = joint + (MENISCUS[contrast] - joint) * meniscus
    fat = inside - muscle + femur + tibia
    soft = muscle * (1 - femur - tibia - gap)
    magnitude = (
        FAT[contrast] * (inside - muscle)
        + MARROW[contrast] * (femur + tibia)
        + MUSCLE[contrast] * soft
        + joint * gap
    )
    return np.maximum(magnitude, 0), np.clip(fat, 0, 1)


def _edge(distance: np.ndarray) -> np.ndarray:
    """0 outside, 1 inside, a linear ramp of three pixels between: cheaper than an exponential."""
    return np.clip(distance / 3 + 0.5, 0, 1)


def _background_phase(
    x: np.ndarray, y: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Offset of the volume, uniform, and a polynomial of order 2 that drifts through the slices,
    about ±1 rad over the knee."""
    offset = rng.uniform(-np.pi, np.pi)
    start = rng.normal(0, (0.35, 0.35, 0.25, 0.25, 0.25)).astype(np.float32)
    drift = rng.normal(0, 0.1, 5).astype(np.float32)
    a, b, c, d, e = (value + change * depth for value, change in zip(start, drift, strict=True))
    return np.float32(offset) + a * x + b * y + c * x * x + d * x * y + e * y * y


def _smooth_field(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field of unit variance and length GRAIN [S, H, W], changing slowly from slice
    to slice."""
    slices, height, width = shape
    down, right = (_interpolation(size) for size in (height, width))
    coarse = rng.standard_normal((slices + 2, down.shape[1], right.shape[1]), dtype=np.float32)
    coarse = (coarse[:-2] + 2 * coarse[1:-1] + coarse[2:]) / np.float32(np.sqrt(6))
    return down @ coarse @ right.T


def _interpolation(size: int) -> np.ndarray:
    """Weights [size, knots] of Gaussian interpolation from knots GRAIN apart, each row of unit
    length."""
    knots = np.arange(-GRAIN, size + 2 * GRAIN, GRAIN)
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - knots) / (0.7 * GRAIN)) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def _sensitivities(
    height: int, width: int, knee: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Eight coils around the knee, smooth in magnitude and phase, sum of squares about 1 over it:
    complex64 [C, H, W]."""
    x = (np.arange(width, dtype=np.float32) - width // 2 - knee[0]) / 160
    y = (height // 2 - np.arange(height, dtype=np.float32) - knee[1])[:, None] / 160
    angle = 2 * np.pi * (np.arange(COILS) + rng.uniform(-0.15, 0.15, COILS)) / COILS
    turn = rng.uniform(-np.pi, np.pi, COILS)
    maps = np.empty((COILS, height, width), np.complex64)
    for coil in range(COILS):
        cos, sin = np.cos(angle[coil]), np.sin(angle[coil])
        dx, dy = x - 1.1 * cos, y - 1.1 * sin
        across = np.exp(-0.35 * dx * dx).astype(np.float32)
        along = np.exp(-0.35 * dy * dy).astype(np.float32)
        tilt = np.exp(1j * (turn[coil] + 0.4 * sin * x)) * np.exp(1j * 0.4 * cos * y)
        maps[coil] = across * along * tilt
    return maps / np.float32(np.sqrt((np.abs(maps[:, height // 2, width // 2]) ** 2).sum()))


def _weights(sensitivities: np.ndarray) -> np.ndarray:
    """Complex weights [C] whose sum of coils comes closest to the coils' root sum of squares over
    the crop."""
    maps = crop(sensitivities)[:, 8::16, 8::16].reshape(COILS, -1)
    target = np.sqrt((np.abs(maps) ** 2).sum(0))
    # Keeps the weights, and so the noise, small.
    ridge = 0.3 * np.eye(COILS) * np.sqrt(maps.shape[1])
    rows, values = np.vstack([maps.T, ridge]), np.r_[target, np.zeros(COILS)]
    weights = np.linalg.lstsq(rows, values, rcond=None)[0]
    weights *= (target**2).sum() / np.abs(np.vdot(target, weights @ maps))
    return weights.astype(np.complex64)
