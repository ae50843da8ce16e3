"""Speech of AV-MNIST against hand-worked values: WAVs, splits, noise, spectrograms."""

from __future__ import annotations

import io
import itertools
import zipfile

import numpy as np
import pytest

from AVMNIST_and_MIMIC.avmnist.preparation import audio
from AVMNIST_and_MIMIC.avmnist.preparation.noise import Mixer, coloured, read_noise
from AVMNIST_and_MIMIC.avmnist.preparation.rules import KINDS, Rules
from AVMNIST_and_MIMIC.avmnist.preparation.splits import assign, split_by_take
from AVMNIST_and_MIMIC.prepare_avmnist import VARIANTS
from tests.AVMNIST_and_MIMIC.tiny_avmnist import pairs, prepare, tone, wav


def test_window_of_4000_samples_is_81_with_overlap_46():
    assert audio.window_of(4000) == (81, 46)


def test_window_is_the_smallest_that_gives_112_frames():
    for length in (800, 1120, 1999, 3360, 5000, 9111, 18240, audio.LONGEST):
        shortest = max(1, -(-length // 112) - 1)
        pairs = ((window, o) for window in range(shortest, 400) for o in range(window))
        fits = (pair for pair in pairs if (length - pair[1]) // (pair[0] - pair[1]) == 112)
        assert audio.window_of(length) == next(fits)
        assert audio.window_of(length)[0] <= audio.FFT


def test_power_equals_a_zero_padded_fft():
    clip = np.random.default_rng(2).standard_normal(4000).astype(np.float32)
    density = audio.power(clip[None])[0]
    assert density.shape == (112, 112)
    for frame in (0, 50, 111):
        piece = clip[frame * 35 : frame * 35 + 81] * np.hanning(81)
        expected = np.abs(np.fft.rfft(piece, 223)) ** 2 / (8000 * np.sum(np.hanning(81) ** 2))
        expected[1:] *= 2
        np.testing.assert_allclose(density[frame], expected, rtol=1e-3, atol=1e-9)


def test_a_tone_is_a_dark_row_at_its_frequency_counted_from_the_bottom():
    picture = audio.spectrograms(tone(1000, 0.5).astype(np.float32)[None])[0]
    row = int(picture.mean(axis=1).argmin())
    assert abs((111 - row) - 1000 / (8000 / 223)) <= 1
    assert picture.min() == 0
    assert picture.max() == 255


def test_grey_values_follow_the_published_scale():
    assert audio._GREY[[0, 4095]].tolist() == [255, 0] and audio._GREY[round(4095 * 3 / 8)] == 189


def test_a_silent_clip_is_white():
    assert (audio.spectrograms(np.zeros((2, 2000), np.float32)) == 255).all()


def test_clips_of_a_row_do_not_depend_on_the_others_in_the_batch():
    clips = np.random.default_rng(3).standard_normal((5, 3000)).astype(np.float32)
    np.testing.assert_array_equal(audio.spectrograms(clips)[3], audio.spectrograms(clips[3:4])[0])


@pytest.mark.parametrize(
    "encode",
    [
        lambda x: (x * 32767).astype(np.int16),
        lambda x: (x * 127 + 128).astype(np.uint8),
        lambda x: (x * (2**31 - 1)).astype(np.int32),
        lambda x: x.astype(np.float32),
        lambda x: np.stack([x, x], axis=1).astype(np.float64),
    ],
    ids=["int16", "uint8", "int32", "float32", "stereo"],
)
@pytest.mark.parametrize("rate", [8000, 44100])
def test_any_wav_becomes_the_same_8_khz_mono(encode, rate):
    samples = audio.decode_wav("x.wav", wav(encode(tone(440, 0.3, rate)), rate))
    inner = slice(100, -100)  # resampling rings at the ends
    assert len(samples) == pytest.approx(2400, abs=1)
    expected = tone(440)[: len(samples)]
    np.testing.assert_allclose(samples[inner], expected[inner], atol=0.02)  # 8 bits: 1/128


def test_24_bit_wav_is_read():
    frames = (tone(440) * (2**23 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 3, 8000, 0, "NONE", ""))
        writer.writeframes(frames)
    np.testing.assert_allclose(audio.decode_wav("x.wav", file.getvalue()), tone(440), atol=1e-4)


def test_speech_is_the_same_from_a_folder_and_from_a_nested_zip(avmnist_raw):
    with zipfile.ZipFile(avmnist_raw / "fsdd.zip", "w") as archive:
        for path in (avmnist_raw / "speech").iterdir():
            archive.write(path, f"fsdd-master/recordings/{path.name}")
    folder = audio.read_speech(avmnist_raw / "speech")
    zipped = audio.read_speech(avmnist_raw / "fsdd.zip")
    assert folder.sha256 == zipped.sha256
    assert len(folder.recordings) == 60
    assert all(np.mean(r.samples**2) == pytest.approx(1, rel=1e-3) for r in zipped.recordings)


def _recordings(takes: range) -> list[audio.Recording]:
    return [
        audio.Recording(f"{d}_{s}_{t}.wav", d, s, t, np.zeros(1))
        for d, s, t in itertools.product(range(10), "ab", takes)
    ]


def test_takes_are_held_out_by_number_where_they_exist_and_by_order_elsewhere():
    recordings = _recordings(range(50))
    parts, why = split_by_take(recordings, range(40, 50), ())
    assert not why
    assert {recordings[i].take for i in parts["test"]} == set(range(40, 50))
    assert parts["val"] == parts["train"]
    parts, why = split_by_take(_recordings(range(7, 12)), range(5), range(5, 10))
    assert why == "by the takes named digit 0 has no recording for test"
    assert {part: len(i) for part, i in parts.items()} == {"train": 80, "val": 10, "test": 10}


def test_rows_walk_through_all_recordings_of_their_digit_before_any_repeats():
    recordings = _recordings(range(4))
    labels = np.tile(np.arange(10), 20)
    chosen = assign(labels, recordings, range(len(recordings)), np.random.default_rng(0))
    for digit in range(10):
        walk = chosen[labels == digit]
        assert len(set(walk[:8])) == 8 and walk[8:16].tolist() == walk[:8].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_drawn_signal_to_noise_ratio_and_depends_on_the_row_alone(kind):
    speech = audio.normalise(tone(500, 0.4).astype(np.float32))
    voices = [audio.normalise(coloured(np.random.default_rng(i), 2000, 1)) for i in range(5)]
    mixer = Mixer(7, (kind,), (-12.0, 3.0), voices={"train": voices})
    mixed, kinds, snrs = mixer.mix(speech, "train", [5, 6, 900])
    noise = mixed - speech
    np.testing.assert_allclose(
        10 * np.log10((speech**2).mean() / (noise**2).mean(axis=1)), snrs, atol=1e-3
    )
    assert kinds == [kind] * 3 and len(set(snrs)) == 3 and ((snrs >= -12) & (snrs <= 3)).all()
    np.testing.assert_array_equal(mixer.mix(speech, "train", [900])[0][0], mixed[2])


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_with_its_exponent(exponent):
    spectrum = np.abs(np.fft.rfft(coloured(np.random.default_rng(0), 2**16, exponent))) ** 2
    low, high = spectrum[100:200].mean(), spectrum[10_000:20_000].mean()
    assert np.log10(low / high) == pytest.approx(2 * exponent, abs=0.15)


def test_noise_recordings_keep_takes_of_one_source_in_one_part(tmp_path):
    for i, take in itertools.product(range(20), "AB"):
        (tmp_path / f"1-{1000 + i}-{take}-{i}.wav").write_bytes(
            wav(tone(100 + 50 * i, 0.5).astype(np.float32))
        )
    clips = read_noise(tmp_path).clips
    assert {part: len(waves) for part, waves in clips.items()} == {"train": 32, "val": 4, "test": 4}
    peaks = {
        part: {int(np.abs(np.fft.rfft(wave, 8000)).argmax()) for wave in waves}
        for part, waves in clips.items()
    }
    assert not peaks["train"] & peaks["test"]
    assert not peaks["train"] & peaks["val"]
    assert not peaks["val"] & peaks["test"]


def test_one_noise_under_two_names_is_in_one_part(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.wav").write_bytes(wav(tone(100 + 50 * i, 0.5).astype(np.float32)))
    (tmp_path / "copy.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    clips = read_noise(tmp_path).clips
    assert {part: len(waves) for part, waves in clips.items()} == {"train": 1, "val": 1, "test": 2}
    np.testing.assert_array_equal(*clips["test"])


def test_recorded_noise_is_mixed_in(avmnist_raw, tmp_path, monkeypatch):
    named = Rules(test_takes=(0,), val_takes=(1,))  # all of which the fixture has
    monkeypatch.setitem(VARIANTS, "calibrated", named)
    (tmp_path / "noise").mkdir()
    for i in range(4):
        (tmp_path / f"noise/{i}.wav").write_bytes(
            wav(tone(100 + 500 * i, 0.5, 44100).astype(np.float32), 44100)
        )
    facts = prepare(avmnist_raw, tmp_path / "out", "--noise", str(tmp_path / "noise"))
    assert facts["settings"]["noise"] == ["clips"]
    assert facts["variant"] == "calibrated"
    assert {row["noise"] for row in pairs(tmp_path / "out")} == {"clips"}
