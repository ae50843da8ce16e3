"""Images of AV-MNIST against hand-worked values: idx files, PCA."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.avmnist.preparation.images import (
    count_components,
    fit_pca,
    keep_components,
    read_mnist,
)
from i2m2.errors import SettingsError

SHARED = Path(os.environ.get("I2M2_SHARED", "../shared"))


def test_component_rules_on_a_worked_example():
    ratio = np.array([0.10, 0.10, 0.10, 0.70])
    assert count_components(ratio, 0.25, "reach") == 3
    assert count_components(ratio, 0.25, "within") == 2
    assert count_components(ratio, 0.20, "reach") == 2
    assert count_components(ratio, 0.20, "within") == 2
    with pytest.raises(SettingsError, match="keeps nothing"):
        count_components(ratio, 0.05, "within")


def test_pca_agrees_with_singular_values_and_all_components_restore_the_image():
    images = np.random.default_rng(1).integers(0, 256, (900, 784), dtype=np.uint8)
    pca = fit_pca(images)
    squares = np.linalg.svd(images - images.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(pca.ratio, squares / squares.sum(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(keep_components(images, pca, 784, add_mean=True), images, atol=0.01)
    one = keep_components(images, pca, 1, add_mean=False)
    assert (
        abs(
            one.astype(float).var(axis=0).sum() / images.astype(float).var(axis=0).sum()
            - pca.ratio[0]
        )
        < 1e-4
    )


@pytest.mark.skipif(
    not (SHARED / "data/avmnist_raw").is_dir(),
    reason="needs the real MNIST under $I2M2_SHARED/data/avmnist_raw",
)
def test_real_mnist_keeps_4_components_to_reach_a_quarter_and_3_to_stay_within():
    train, test = read_mnist(SHARED / "data/avmnist_raw")
    assert np.bincount(train.labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert len(test.labels) == 10_000
    ratio = fit_pca(train.images).ratio
    assert count_components(ratio, 0.25, "reach") == 4
    assert count_components(ratio, 0.25, "within") == 3
    assert ratio[:3].sum() == pytest.approx(0.230, abs=5e-4)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_are_found_plain_or_gzipped_in_both_spellings(avmnist_raw, compress, dotted):
    expected = read_mnist(avmnist_raw)[0].images
    for path in list(avmnist_raw.glob("*-ubyte")):
        name = path.name.replace("s-idx", "s.idx") if dotted else path.name
        data = path.read_bytes()
        path.unlink()
        (avmnist_raw / "below").mkdir(exist_ok=True)
        (avmnist_raw / "below" / (name + ".gz" * compress)).write_bytes(
            gzip.compress(data) if compress else data
        )
    np.testing.assert_array_equal(read_mnist(avmnist_raw)[0].images, expected)
