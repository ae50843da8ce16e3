"""Noise at test time has the size and the distribution that it should have."""

import pytest
import torch
from scipy.stats import rice

from fastMRI.data import load_fastmri
from fastMRI.rician_noise import Noisy
from fastMRI.settings import FastMRIData


@pytest.fixture
def split(fastmri_files):
    return load_fastmri(FastMRIData(dir=str(fastmri_files))).splits["test"]


def test_noise_of_complex_images_has_the_stated_size_and_that_of_rss_is_rician(split):
    noisy = Noisy(split, 10.0)
    images = torch.full((1, 400, 400), 0.5, dtype=torch.complex64)
    images[0, 0, 0] = 2.0  # the largest magnitude: a standard deviation of 0.2
    added = noisy._add_noise(images, [3]) - images
    assert added.real.std().item() == pytest.approx(0.2, rel=0.01)
    assert added.imag.std().item() == pytest.approx(0.2, rel=0.01)
    rss = noisy._add_noise(images.abs(), [3])
    assert rss.mean().item() == pytest.approx(rice.mean(0.5 / 0.2, scale=0.2), rel=0.005)


def test_noise_of_level_0_changes_nothing(split):
    noisy = Noisy(split, 0.0)[[2]]["inputs"]
    assert torch.equal(noisy["image"], split[[2]]["inputs"]["image"])


def test_noise_of_a_slice_does_not_depend_on_its_batch(split):
    noisy = Noisy(split, 10.0)
    together, alone = noisy[[4, 2]]["inputs"], noisy[[2]]["inputs"]
    assert torch.equal(together["image"][1], alone["image"][0])
    assert torch.equal(together["rss"][1], alone["rss"][0])
    of_other_slice = together["image"][0] - split[[4]]["inputs"]["image"][0]
    assert not torch.equal(of_other_slice, together["image"][1])
