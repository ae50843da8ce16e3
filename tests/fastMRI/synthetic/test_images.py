"""Transforms of the generator, and a signal that is where it should be and nowhere else."""

import dataclasses

import h5py
import numpy as np
import pytest

from fastMRI.make_synthetic import make_volumes
from fastMRI.synthetic.images import crop, make_volume, to_image, to_kspace
from fastMRI.synthetic.plan import WIDTHS, Strengths
from tests.fastMRI.synthetic.tiny_plans import ALONE, files, plans


def test_reconstruction_is_the_cropped_inverse_transform_at_every_width(made):
    widths = set()
    for path in files(made):
        with h5py.File(path) as file:
            kspace, esc = file["kspace"][:], file["reconstruction_esc"][:]
        # Another route: numpy, double precision, the transform's definition in fastMRI.
        axes = (1, 2)
        image = np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho")
        image = np.fft.fftshift(image, axes=axes)
        left = (kspace.shape[2] - 320) // 2
        magnitude = np.abs(image[:, 160:480, left : left + 320])
        np.testing.assert_allclose(magnitude, esc, rtol=0, atol=1e-4 * esc.max())
        widths.add(kspace.shape[2])
    assert widths == set(WIDTHS)


@pytest.mark.parametrize("width", [320, 368, 369])
def test_transforms_leave_no_phase_ramp(width):
    point = np.zeros((640, width), np.complex64)
    point[320, width // 2] = 1
    np.testing.assert_allclose(to_kspace(point), 1 / np.sqrt(point.size), atol=1e-6)
    field = np.random.default_rng(0).standard_normal((640, width)).astype(np.complex64)
    assert to_kspace(field).dtype == np.complex64
    np.testing.assert_allclose(to_image(to_kspace(field)), field, atol=1e-5)


def test_phase_is_smooth_over_the_knee_at_an_odd_width():
    plan = dataclasses.replace(plans(4)[3], slices=1, sites=())
    assert plan.width == 369
    image = crop(to_image(make_volume(plan, 0).kspace))[0, 100:220, 100:220]
    pooled = image.reshape(30, 4, 30, 4).mean((1, 3))
    steps = np.angle(pooled[:, 1:] * pooled[:, :-1].conj())
    # One column off would turn 2 pi over 369 columns: 0.068 at every step of 4, on top.
    assert np.abs(np.median(steps)) < 0.06


def test_single_coil_file_is_the_same_with_and_without_the_coils_and_a_sum_of_them(tmp_path):
    plan = dataclasses.replace(plans(2)[1], slices=1)  # with columns of zeros
    alone, both = make_volume(plan, 0), make_volume(plan, 0, multicoil=True)
    assert plan.acquired < plan.width and both.coils.shape == (1, 8, 640, plan.width)
    np.testing.assert_array_equal(alone.kspace, both.kspace)
    np.testing.assert_array_equal(alone.rss, both.rss)
    rss = np.sqrt((np.abs(crop(to_image(both.coils))) ** 2).sum(1))
    np.testing.assert_allclose(rss, both.rss, atol=1e-5 * rss.max())
    coils = np.moveaxis(both.coils, 1, -1).reshape(-1, 8)
    weights = np.linalg.lstsq(coils, both.kspace.ravel(), rcond=None)[0]
    assert np.abs(coils @ weights - both.kspace.ravel()).max() < 1e-4 * np.abs(both.kspace).max()
    make_volumes(tmp_path / "raw", 2, slices=(1, 1), multicoil=True, workers=1)
    with h5py.File(tmp_path / "raw/multicoil_train/file9000000.h5") as file:
        assert set(file) == {"ismrmrd_header", "kspace", "reconstruction_rss"}
        assert file["kspace"].shape == (1, 8, 640, 368)
        assert file.attrs["max"] == file["reconstruction_rss"][:].max()


def test_magnitude_and_phase_change_independently_of_each_other():
    """At native size the phase does not know the magnitude's part, nor the magnitude the phase's,
    noise included."""
    full = [p for p in plans(9, Strengths(0.3, 0.9, 0), (2, 2)) if p.acquired == p.width]
    chosen = next(p.index for p in full if any(s.change * s.shift > 0 for s in p.sites))
    images = {}
    for name, strengths in {"none": Strengths(0, 0, 0), **ALONE}.items():
        plan = plans(9, strengths, (2, 2))[chosen]
        volume = make_volume(plan, 0)
        images[name] = crop(to_image(volume.kspace)), volume.rss
    plain, rss = images["none"]
    bright, bright_rss = images["magnitude"]
    turned, turned_rss = images["phase"]
    scale = np.abs(plain).max()
    assert np.abs(np.abs(bright) - np.abs(plain)).max() > 0.05 * scale
    assert np.abs(turned - plain).max() > 0.05 * scale
    np.testing.assert_allclose(np.abs(turned), np.abs(plain), atol=1e-5 * scale)
    product = bright * plain.conj()
    np.testing.assert_allclose(np.abs(product), product.real, atol=1e-5 * scale**2)
    np.testing.assert_allclose(turned_rss, rss, atol=1e-5 * scale)
    assert np.abs(bright_rss - rss).max() > 0.05 * scale
