"""Transforms, crops and averages compared with what they stand for."""

import numpy as np
import pytest

from fastMRI.preparation.fourier import block_mean, centred_ifft, fit, image_of
from tests.fastMRI.preparation.tiny_raw import WIDTHS, centre, knee, kspace_of


@pytest.mark.parametrize("n", [1, 2, 8, 9, 15])
def test_inverse_fft_equals_the_sum_it_stands_for(n):
    rng = np.random.default_rng(n)
    kspace = rng.normal(size=(n, 3)) + 1j * rng.normal(size=(n, 3))
    index = np.arange(n) - n // 2
    direct = np.exp(2j * np.pi * np.outer(index, index) / n) @ kspace / np.sqrt(n)
    assert np.allclose(centred_ifft(kspace, 0), direct)
    assert np.allclose(centred_ifft(kspace.T, 1), direct.T)


@pytest.mark.parametrize("old", range(1, 12))
@pytest.mark.parametrize("new", [1, 4, 7])
def test_fit_keeps_the_centre(old, new):
    marked = np.zeros((2, old))
    marked[:, old // 2] = 1
    fitted = fit(marked, new, -1)
    assert fitted.shape == (2, new) and (fitted[:, new // 2] == 1).all() and fitted.sum() == 2


@pytest.mark.parametrize("width", WIDTHS)
def test_native_image_is_the_centre_of_the_transformed_one(width):
    image = knee(width, 1)[0]
    result = image_of(kspace_of(image))
    assert result.dtype == np.complex64
    assert np.abs(result - centre(image)).max() < 1e-6 * np.abs(image).max()


@pytest.mark.parametrize("width", [320, 368, 369, 372, 400])
def test_official_geometry_stretches_the_image_about_its_centre(width):
    """A blob 60 columns off the centre appears 60 * 400/W columns off it, dimmer, and with its
    phase."""
    y, x = np.meshgrid(np.arange(640) - 320, np.arange(width) - width // 2, indexing="ij")
    blob = np.exp(-(((x - 60) / 4) ** 2) - ((y - 10) / 4) ** 2) * np.exp(0.5j)
    result = image_of(kspace_of(blob), "official_code")
    weight = np.abs(result) ** 2
    share = weight / weight.sum()
    column, row = share.sum(axis=0) @ np.arange(320), share.sum(axis=1) @ np.arange(320)
    assert column == pytest.approx(160 + 60 * 400 / width, abs=0.01)
    assert row == pytest.approx(170, abs=0.01)
    row, column = np.unravel_index(weight.argmax(), weight.shape)
    assert np.abs(result[row, column]) == pytest.approx(np.sqrt(width / 400), rel=0.02)
    # No ramp: where k-space lies one column off, the phase turns by 2 pi over 400 columns.
    inside = np.abs(result) > 0.1
    assert np.abs(np.angle(result[inside]) - 0.5).max() < 1e-3


def test_averaging_is_the_mean_of_complex_pixels():
    image = np.arange(32, dtype=np.complex64).reshape(2, 4, 4) * (1 + 2j)
    result = block_mean(image, 2)
    assert result.dtype == np.complex64 and result.shape == (2, 2, 2)
    assert result[0, 0, 0] == image[0, :2, :2].mean() and result[1, 1, 0] == image[1, 2:, :2].mean()
    assert block_mean(image, 1) is image
