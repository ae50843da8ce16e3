"""Corruptions of images and audio against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from AVMNIST_and_MIMIC.avmnist import corruptions
from AVMNIST_and_MIMIC.avmnist.corruptions import BLOCK, corrupt


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Zero-centred float32 [1100, 784], every one with the data's least and largest value."""
    x = np.random.default_rng(0).uniform(-60, 190, (1100, 784)).astype(np.float32)
    x[:, 0], x[:, 1] = -61, 191
    return x


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """uint8 [700, 112, 112] without zeros."""
    return np.random.default_rng(1).integers(1, 256, (700, 112, 112), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which examples differ [N]."""
    return (before != after).reshape(len(before), -1).any(axis=1)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_level_zero_is_the_stored_data_bit_for_bit(modality, images, audio):
    stored = {"image": images, "audio": audio}[modality]
    result = corrupt(modality, stored, 0.0)
    assert result.dtype == stored.dtype and result.tobytes() == stored.tobytes()


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_type_shape_and_range_stay_and_the_seed_decides(modality, images, audio):
    stored = {"image": images[:300], "audio": audio[:100]}[modality]
    result = corrupt(modality, stored, 0.5, seed=3)
    assert result.dtype == stored.dtype and result.shape == stored.shape
    assert result.min() >= stored.min() - 1e-3 - (modality == "audio")
    assert result.max() <= stored.max() + 1e-3
    assert np.array_equal(result, corrupt(modality, stored, 0.5, seed=3))
    assert not np.array_equal(result, corrupt(modality, stored, 0.5, seed=4))


def test_an_example_is_corrupted_alike_whatever_follows_it(images, audio):
    assert np.array_equal(corrupt("image", images, 0.4)[:637], corrupt("image", images[:637], 0.4))
    assert np.array_equal(corrupt("audio", audio, 0.4)[:520], corrupt("audio", audio[:520], 0.4))


def test_blocks_and_levels_draw_different_noise(audio):
    same = np.repeat(audio[:1], 2 * BLOCK, axis=0)
    at_half = corrupt("audio", same, 0.5)
    assert not np.array_equal(changed(same, at_half)[:BLOCK], changed(same, at_half)[BLOCK:])
    assert not np.array_equal(changed(same, at_half), changed(same, corrupt("audio", same, 0.51)))


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_a_clip_is_corrupted_with_probability_p_and_else_unchanged(p, audio):
    share = changed(audio, corrupt("audio", audio, p)).mean()
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / len(audio))


def test_an_image_stays_unchanged_with_probability_one_minus_p_to_the_seventh(images):
    share = changed(images, corrupt("image", images, 0.1)).mean()
    expected = 1 - 0.9**7
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(images))


def test_the_three_audio_corruptions_are_equally_frequent_and_what_they_say():
    p = 0.3
    clips = np.full((1000, 112, 112), 128, np.uint8)
    after = corrupt("audio", clips, p)
    after = after[changed(clips, after)].astype(int)
    dropped = np.isin(after, (0, 128)).all(axis=(1, 2))  # noise leaves other values
    silent = (after[dropped] == 0).all(axis=1)  # [n, time]
    # Whole time steps, which are columns.
    assert np.array_equal(silent, (after[dropped] == 0).any(axis=1))
    starts = np.diff(silent.astype(int), axis=1, prepend=0) == 1
    in_runs = silent.sum(axis=1) > 60  # 30 % of single steps are about 34 of 112, runs about 80
    assert abs(dropped.mean() - 2 / 3) < 0.12 and abs(in_runs.mean() - 1 / 2) < 0.15
    assert abs(silent[~in_runs].mean() - p) < 0.02
    for row, first in zip(silent[in_runs], starts[in_runs], strict=True):
        assert all(row[start : start + 10].all() for start in np.flatnonzero(first))
    noise = after[~dropped]
    inside = noise[(noise > 0) & (noise < 255)]  # the rest is clipped: |z| > 127.5 / 76.5
    assert abs(np.mean((noise == 0) | (noise == 255)) - 0.0956) < 0.005
    # Another number in every pixel.
    assert abs(inside.mean() - 128) < 0.5 and len(np.unique(noise[0, 0])) > 50


def test_runs_begin_at_sounding_steps_only_and_never_within_a_run():
    sounding = np.array([[False, True, *[True] * 23]])
    u = np.full((1, 25), 0.9)
    u[0, [0, 1, 5, 11]] = 0.1  # step 0 is silent anyway, step 5 lies in the run that begins at 1
    silent = corruptions.runs(sounding, u, 0.5)
    assert np.flatnonzero(silent[0]).tolist() == list(range(1, 21))


def test_salt_and_pepper_are_the_extremes_half_of_p_each():
    x = np.full((200, 28, 28), 10.0, np.float32)
    after = corruptions.salt_and_pepper(x, 0.3, -61.0, 191.0, np.random.default_rng(0))
    assert set(np.unique(after)) == {-61.0, 10.0, 191.0}
    assert abs((after == -61).mean() - 0.15) < 0.005 and abs((after == 191).mean() - 0.15) < 0.005


def test_gaussian_noise_has_sigma_p_of_the_whole_scale():
    x = np.full((200, 28, 28), 100.0, np.float32)
    noise = corruptions.gaussian_noise(x, 0.1, -1e6, 1e6, np.random.default_rng(0)) - x
    assert abs(noise.std() - 25.5) < 0.2 and abs(noise.mean()) < 0.3
    assert len(np.unique(noise[0])) > 700
    assert corruptions.gaussian_noise(x, 1.0, 0.0, 200.0, np.random.default_rng(0)).max() == 200


class Fixed:
    """A generator whose uniform numbers are all `u`."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self, shape):
        return np.full(shape, self.u)


@pytest.mark.parametrize("u, degrees", [(0.0, -20.0), (1.0, 20.0)])
def test_turn_moves_a_spot_as_trigonometry_says(u, degrees):
    x = np.full((1, 28, 28), -5.0, np.float32)
    x[0, 13:15, 22:24] = 100  # centre (9, 0) from the middle, in pixels to the right and down
    yes, no = np.array([True]), np.array([False])
    rows, columns = np.mgrid[:28, :28] - 13.5

    def spot(image: np.ndarray) -> tuple[float, float]:
        weight = image[0] + 5
        return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()

    def turned(*what: np.ndarray, u: float = u) -> np.ndarray:
        return corruptions.turn(x, *what, -5.0, Fixed(u))

    angle = np.deg2rad(degrees)
    expected = np.array([9 * np.cos(angle), -9 * np.sin(angle)])
    assert spot(x) == pytest.approx((9, 0), abs=1e-4)
    assert spot(turned(no, yes, no)) == pytest.approx((-9, 0), abs=0.1)
    assert spot(turned(yes, no, no)) == pytest.approx(expected, abs=0.1)
    assert spot(turned(yes, yes, no)) == pytest.approx(expected * [-1, 1], abs=0.1)
    assert spot(turned(no, no, yes, u=0.5)) == pytest.approx((9 / 0.8, 0), abs=0.1)  # centred crop
    assert turned(yes, no, no).min() == pytest.approx(-5.0)  # outside is dark, not 0
