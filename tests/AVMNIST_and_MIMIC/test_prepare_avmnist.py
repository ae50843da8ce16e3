"""Preparation of AV-MNIST: values against hand-worked ones, and one line for every mistake."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from threadpoolctl import threadpool_limits

from AVMNIST_and_MIMIC.avmnist.preparation import audio
from AVMNIST_and_MIMIC.avmnist.preparation.images import (
    count_components,
    fit_pca,
    keep_components,
    read_mnist,
)
from AVMNIST_and_MIMIC.avmnist.preparation.layout import FILES
from AVMNIST_and_MIMIC.avmnist.preparation.noise import Mixer, coloured, read_noise
from AVMNIST_and_MIMIC.avmnist.preparation.rules import KINDS, PARTS, Rules
from AVMNIST_and_MIMIC.avmnist.preparation.splits import assign, split_by_take
from AVMNIST_and_MIMIC.prepare_avmnist import main
from i2m2.errors import DataError, SettingsError

SHARED = Path(os.environ.get("I2M2_SHARED", "../shared"))
TRAIN, TEST = 240, 60


def idx(array: np.ndarray) -> bytes:
    """uint8 array -> content of an idx file."""
    return np.array([2048 + array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    """Samples [L] or [L, channels] of any WAV type -> content of a WAV file."""
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def tone(frequency: float, seconds: float = 0.3, rate: int = 8000) -> np.ndarray:
    """A tone at half of full scale: float64 [L]."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """MNIST-like idx files of smooth images, and recordings of two speakers with three takes of
    every digit."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw"
    (folder / "speech").mkdir(parents=True)
    for part, rows in (("train", TRAIN), ("t10k", TEST)):
        bases = rng.random((10, 784))
        images = (bases.T @ rng.dirichlet(np.ones(10), rows).T).T * 255
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            idx(images.astype(np.uint8).reshape(rows, 28, 28))
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            idx((np.arange(rows) % 10).astype(np.uint8))
        )
    for digit, speaker, take in itertools.product(range(10), ("ann", "bob"), range(3)):
        samples = tone(200 + 100 * digit, 0.15 + 0.02 * take) + 0.01 * rng.standard_normal(
            int((0.15 + 0.02 * take) * 8000)
        )
        (folder / "speech" / f"{digit}_{speaker}_{take}.wav").write_bytes(
            wav((samples * 32767).astype(np.int16))
        )
    return folder


def prepare(raw: Path, out: Path, *options: str) -> dict:
    """Run the command on the fixture -> dataset.json."""
    main(["--mnist", str(raw), "--speech", str(raw / "speech"), "--out", str(out), *options])
    return json.loads((out / "dataset.json").read_text())


def pairs(out: Path) -> list[dict[str, str]]:
    with open(out / "pairs.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


# What is written
# ---------------------------------------------------------------------------------------------------------


def test_folder_has_the_official_layout(raw, tmp_path):
    facts = prepare(raw, tmp_path / "out")
    shapes = {
        name: (tuple(f["shape"]), f["dtype"]) for name, f in facts["files"].items() if "shape" in f
    }
    assert shapes == {
        "image/train_data.npy": ((TRAIN, 784), "float32"), "image/test_data.npy": ((TEST, 784), "float32"),
        "audio/train_data.npy": ((TRAIN, 112, 112), "uint8"), "audio/test_data.npy": ((TEST, 112, 112), "uint8"),
        "train_labels.npy": ((TRAIN,), "uint8"), "test_labels.npy": ((TEST,), "uint8"),
    }  # fmt: skip
    assert (
        facts["variant"] == "calibrated"
        and facts["synthetic"] is False
        and facts["validation_rows"] == [TRAIN - 20, TRAIN]
    )
    assert facts["counts"] == {"train": TRAIN - 20, "val": 20, "test": TEST}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"], (
        "nothing temporary is left"
    )


def test_rows_are_in_label_order_and_recordings_in_one_part(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    rows = pairs(tmp_path / "out")
    for name in ("train", "test"):
        labels = np.load(tmp_path / f"out/{name}_labels.npy")
        own = [row for row in rows if row["file"] == name]
        assert [int(row["row"]) for row in own] == list(range(len(labels)))
        assert [int(row["recording"][0]) for row in own] == labels.tolist()
    heard = {part: {row["recording"] for row in rows if row["part"] == part} for part in PARTS}
    assert (
        not heard["train"] & heard["val"]
        and not heard["train"] & heard["test"]
        and not heard["val"] & heard["test"]
    )
    main(["--check", str(tmp_path / "out")])


def test_without_noise_a_row_is_the_spectrogram_of_its_recording(raw, tmp_path):
    prepare(raw, tmp_path / "out", "--noise", "none")
    recordings = {r.name: r for r in audio.read_speech(raw / "speech").recordings}
    stored = np.load(tmp_path / "out/audio/train_data.npy")
    for row in pairs(tmp_path / "out")[:TRAIN:37]:
        with threadpool_limits(1):  # as `build` does: the number of threads decides the last bits
            expected = audio.spectrograms(recordings[row["recording"]].samples[None])[0]
        np.testing.assert_array_equal(stored[int(row["row"])], expected)


def test_same_seed_same_bytes_other_seed_other_bytes(raw, tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        prepare(raw, tmp_path / name, "--seed", seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in FILES if a[name] != c[name]} == {
        "audio/train_data.npy",
        "audio/test_data.npy",
        "pairs.csv",
    }


def test_mfas_is_the_published_recipe(raw, tmp_path):
    facts = prepare(
        raw, tmp_path / "out", "--variant", "mfas", "--name", "mfas-two", "--components", "2"
    )
    assert (
        facts["variant"] == "mfas-two"
        and facts["settings"]["noise"] == []
        and facts["settings"]["val_takes"] == []
    )
    for name in ("train", "test"):
        images = np.load(tmp_path / f"out/image/{name}_data.npy")
        assert np.abs(images.mean(axis=0)).max() < 1e-3, "each file is centred by its own mean"
        assert np.linalg.matrix_rank(images[:50].astype(float), tol=1e-1) == 2
    heard = {
        part: {row["recording"] for row in pairs(tmp_path / "out") if row["part"] == part}
        for part in PARTS
    }
    assert heard["val"] & heard["train"] and not heard["test"] & (heard["train"] | heard["val"])


def test_a_changed_rule_is_recorded_as_custom(raw, tmp_path):
    assert prepare(raw, tmp_path / "a", "--components", "5")["variant"] == "custom"
    assert prepare(raw, tmp_path / "b", "--components", "5", "--name", "five")["variant"] == "five"
    assert prepare(raw, tmp_path / "b", "--components", "5", "--name", "five")["components"] == 5


def test_speaker_split_holds_out_whole_speakers(raw, tmp_path):
    for path in sorted((raw / "speech").glob("*_ann_*.wav")):
        path.with_name(path.name.replace("ann", "cat")).write_bytes(path.read_bytes())
    facts = prepare(raw, tmp_path / "out", "--split", "speaker", "--test-speakers", "ann")
    assert facts["speech"]["speakers"] == {"train": ["bob"], "val": ["cat"], "test": ["ann"]}


def test_the_same_command_again_does_nothing_and_other_rules_are_refused(raw, tmp_path, capsys):
    prepare(raw, tmp_path / "out")
    before = (tmp_path / "out/dataset.json").stat().st_mtime_ns
    prepare(raw, tmp_path / "out")
    assert (
        "nothing done" in capsys.readouterr().out
        and (tmp_path / "out/dataset.json").stat().st_mtime_ns == before
    )
    with pytest.raises(SettingsError, match="settings.snr_max.*another --out"):
        prepare(raw, tmp_path / "out", "--snr-max", "3.5")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(SettingsError, match="not empty"):
        prepare(raw, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").exists()


def test_a_failure_half_way_leaves_nothing(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "spectrograms", lambda clips: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(raw, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


# Images
# ------------------------------------------------------------------------------------------------------------------


def test_component_rules_on_a_worked_example():
    ratio = np.array([0.10, 0.10, 0.10, 0.70])
    assert (
        count_components(ratio, 0.25, "reach") == 3 and count_components(ratio, 0.25, "within") == 2
    )
    assert (
        count_components(ratio, 0.20, "reach") == 2 and count_components(ratio, 0.20, "within") == 2
    )
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
    assert (
        count_components(ratio, 0.25, "reach") == 4 and count_components(ratio, 0.25, "within") == 3
    )
    assert ratio[:3].sum() == pytest.approx(0.230, abs=5e-4)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_are_found_plain_or_gzipped_in_both_spellings(raw, compress, dotted):
    expected = read_mnist(raw)[0].images
    for path in list(raw.glob("*-ubyte")):
        name = path.name.replace("s-idx", "s.idx") if dotted else path.name
        data = path.read_bytes()
        path.unlink()
        (raw / "below").mkdir(exist_ok=True)
        (raw / "below" / (name + ".gz" * compress)).write_bytes(
            gzip.compress(data) if compress else data
        )
    np.testing.assert_array_equal(read_mnist(raw)[0].images, expected)


# Audio
# -------------------------------------------------------------------------------------------------------------------


def test_window_of_4000_samples_is_81_with_overlap_46():
    assert audio.window_of(4000) == (81, 46)


def test_window_is_the_smallest_that_gives_112_frames():
    for length in (800, 1120, 1999, 3360, 5000, 9111, 18240, audio.LONGEST):
        fits = (
            (w, o)
            for w in range(max(1, -(-length // 112) - 1), 400)
            for o in range(w)
            if (length - o) // (w - o) == 112
        )
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
    assert (
        abs((111 - row) - 1000 / (8000 / 223)) <= 1 and picture.min() == 0 and picture.max() == 255
    )


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
    np.testing.assert_allclose(
        samples[inner], tone(440)[: len(samples)][inner], atol=0.02
    )  # 8 bits: steps of 1/128


def test_24_bit_wav_is_read():
    frames = (tone(440) * (2**23 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 3, 8000, 0, "NONE", ""))
        writer.writeframes(frames)
    np.testing.assert_allclose(audio.decode_wav("x.wav", file.getvalue()), tone(440), atol=1e-4)


def test_speech_is_the_same_from_a_folder_and_from_a_nested_zip(raw):
    with zipfile.ZipFile(raw / "fsdd.zip", "w") as archive:
        for path in (raw / "speech").iterdir():
            archive.write(path, f"fsdd-master/recordings/{path.name}")
    folder, zipped = audio.read_speech(raw / "speech"), audio.read_speech(raw / "fsdd.zip")
    assert folder.sha256 == zipped.sha256 and len(folder.recordings) == 60
    assert all(np.mean(r.samples**2) == pytest.approx(1, rel=1e-3) for r in zipped.recordings)


def _recordings(takes: range) -> list[audio.Recording]:
    return [
        audio.Recording(f"{d}_{s}_{t}.wav", d, s, t, np.zeros(1))
        for d, s, t in itertools.product(range(10), "ab", takes)
    ]


def test_takes_are_held_out_by_number_where_they_exist_and_by_order_elsewhere():
    recordings = _recordings(range(50))
    held = split_by_take(recordings, range(40, 50), ())
    assert {recordings[i].take for i in held["test"]} == set(range(40, 50)) and held["val"] == held[
        "train"
    ]
    held = split_by_take(_recordings(range(7, 12)), range(5), range(5, 10))
    assert {part: len(i) for part, i in held.items()} == {"train": 80, "val": 10, "test": 10}


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
    assert (
        not peaks["train"] & peaks["test"]
        and not peaks["train"] & peaks["val"]
        and not peaks["val"] & peaks["test"]
    )


def test_recorded_noise_is_mixed_in(raw, tmp_path):
    (tmp_path / "noise").mkdir()
    for i in range(4):
        (tmp_path / f"noise/{i}.wav").write_bytes(
            wav(tone(100 + 500 * i, 0.5, 44100).astype(np.float32), 44100)
        )
    facts = prepare(raw, tmp_path / "out", "--noise", str(tmp_path / "noise"))
    assert (
        facts["settings"]["noise"] == ["clips"]
        and facts["variant"] == "calibrated"
        and {row["noise"] for row in pairs(tmp_path / "out")} == {"clips"}
    )


# Mistakes: one line each
# -------------------------------------------------------------------------------------------------


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _label_11(raw: Path) -> None:
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(TEST, 11, np.uint8)))


def _wrong_magic(raw: Path) -> None:
    (raw / "train-images-idx3-ubyte").write_bytes((raw / "train-labels-idx1-ubyte").read_bytes())


def _no_nines(raw: Path) -> None:
    for path in (raw / "speech").glob("9_*"):
        path.unlink()


def _one_nine(raw: Path) -> None:
    for path in list((raw / "speech").glob("9_*"))[1:]:
        path.unlink()


def _misnamed(raw: Path) -> None:
    for path in (raw / "speech").iterdir():
        path.rename(path.with_name("take" + path.name))


BAD_INPUT = {
    "a missing idx file": (
        lambda raw: (raw / "t10k-images-idx3-ubyte").unlink(),
        "t10k-images-idx3-ubyte",
    ),
    "a truncated idx file": (
        lambda raw: _cut(raw / "train-images-idx3-ubyte", 5000),
        "train-images-idx3-ubyte.*announces",
    ),
    "a truncated gzip file": (
        lambda raw: _cut_gzip(raw / "train-images-idx3-ubyte"),
        "damaged or cut short",
    ),
    "an empty idx file": (lambda raw: _cut(raw / "train-labels-idx1-ubyte", 0), "not an idx file"),
    "a wrong magic": (_wrong_magic, "magic 2049, expected 2051"),
    "a label outside 0..9": (_label_11, "row 0 has label 11"),
    "an empty speech folder": (
        lambda raw: [path.unlink() for path in (raw / "speech").iterdir()],
        "no recordings",
    ),
    "a WAV that is not audio": (
        lambda raw: (raw / "speech/3_bob_1.wav").write_bytes(b"RIFF it is not"),
        "3_bob_1.wav: not a WAV",
    ),
    "a WAV cut short": (
        lambda raw: _cut(raw / "speech/3_bob_1.wav", 900),
        "3_bob_1.wav: not a WAV file, or cut short",
    ),
    "a WAV of a few samples": (
        lambda raw: (raw / "speech/3_bob_1.wav").write_bytes(wav(np.zeros(9, np.int16))),
        "3_bob_1.wav: 0.001 s",
    ),
    "no recording of a digit": (_no_nines, "no recording of digit 9"),
    "too few recordings of a digit": (_one_nine, "digit 9 has 1 recording,"),
    "only misnamed WAVs": (_misnamed, "60 WAVs have other names"),
}


def _cut_gzip(path: Path) -> None:
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes())[:3000])
    path.unlink()


@pytest.mark.parametrize("spoil, message", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(raw, tmp_path, spoil, message):
    spoil(raw)
    with pytest.raises(DataError, match=message) as error:
        prepare(raw, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_misnamed_wavs_are_counted_and_reported(raw, tmp_path, capsys):
    (raw / "speech/cough.wav").write_bytes(wav(np.zeros(9, np.int16)))
    assert prepare(raw, tmp_path / "out")["speech"]["misnamed"] == 1
    assert "1 WAVs are not named" in capsys.readouterr().out


def test_an_unreadable_zip_is_one_line(raw, tmp_path):
    (tmp_path / "speech.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="not a readable zip"):
        main(
            [
                "--mnist",
                str(raw),
                "--speech",
                str(tmp_path / "speech.zip"),
                "--out",
                str(tmp_path / "out"),
            ]
        )


@pytest.mark.parametrize(
    "options, message",
    [
        (["--energy", "2"], "energy=2"),
        (["--components", "0"], "components=0"),
        (["--snr-min", "5", "--snr-max", "1"], "snr_min=5 exceeds"),
        (["--noise-kinds", "green"], "'green' is unknown"),
        (["--speakers", "zoe"], "no speaker 'zoe'"),
        (["--val-rows", "240"], "only 240 rows"),
        (["--test-takes", "0-5"], r"takes \[5\]"),
        (["--test-takes", "x"], "--test-takes"),
        (["--frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_setting_is_one_line(raw, tmp_path, options, message):
    with pytest.raises(SettingsError, match=message) as error:
        prepare(raw, tmp_path / "out", *options)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_command_exits_2_for_settings_and_3_for_data_without_a_traceback(raw, tmp_path):
    def run(*argv: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "AVMNIST_and_MIMIC.prepare_avmnist", *argv]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )

    for code, argv in (
        (2, ["--mnist", str(raw)]),
        (3, ["--mnist", str(tmp_path / "nowhere"), "--speech", str(raw)]),
    ):
        result = run(*argv, "--out", str(tmp_path / "out"))
        assert (
            result.returncode == code
            and result.stderr.count("\n") == 1
            and result.stderr.startswith("error: ")
        )


def test_download_without_internet_is_one_line(tmp_path, monkeypatch):
    import urllib.error

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DataError, match="download failed.*fsdd.zip") as error:
        main(["--download", str(tmp_path / "raw")])
    assert "\n" not in str(error.value)


# --check
# -----------------------------------------------------------------------------------------------------------------


def _rewrite(path: Path, change) -> None:
    array = np.load(path)
    np.save(path, change(array))


def _set(array: np.ndarray, row: int, value: float) -> np.ndarray:
    array[row] = value
    return array


SPOILT = {
    "a missing file": (
        lambda out: (out / "train_labels.npy").unlink(),
        "train_labels.npy missing in",
    ),
    "a truncated array": (
        lambda out: _cut(out / "audio/train_data.npy", 5000),
        "audio/train_data.npy cannot be read .* truncated or damaged",
    ),
    "NaN": (
        lambda out: _rewrite(out / "image/train_data.npy", lambda a: _set(a, 7, np.nan)),
        "row 7 holds NaN",
    ),
    "a wrong label": (
        lambda out: _rewrite(out / "test_labels.npy", lambda a: _set(a, 5, 12)),
        "row 5 has label 12",
    ),
    "rows missing": (
        lambda out: _rewrite(out / "audio/test_data.npy", lambda a: a[:-1]),
        r"shape \(59, 112, 112\).* a row per label",
    ),
    "a wrong shape": (
        lambda out: _rewrite(out / "audio/test_data.npy", lambda a: a[:, :100]),
        r"shape \(60, 100, 112\)",
    ),
    "images on another scale": (
        lambda out: _rewrite(out / "image/test_data.npy", lambda a: a / 255),
        "scale should be 0..255",
    ),
}
CHANGED = {
    "another value": (
        lambda out: _rewrite(out / "audio/test_data.npy", lambda a: _set(a, 3, 9)),
        "sha256 differs",
    ),
    "labels in another order": (
        lambda out: _rewrite(out / "train_labels.npy", lambda a: np.roll(a, 1)),
        "sha256 differs",
    ),
    "a damaged dataset.json": (
        lambda out: (out / "dataset.json").write_text("{"),
        "not a description",
    ),
}


@pytest.mark.parametrize("spoil, message", (SPOILT | CHANGED).values(), ids=SPOILT | CHANGED)
def test_check_names_what_is_wrong(raw, tmp_path, spoil, message):
    prepare(raw, tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(DataError, match=message) as error:
        main(["--check", "--out", str(tmp_path / "out")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT)
def test_check_audits_a_folder_without_dataset_json(raw, tmp_path, spoil, message, capsys):
    prepare(raw, tmp_path / "out")
    for name in ("dataset.json", "pairs.csv"):
        (tmp_path / "out" / name).unlink()
    main(["--check", str(tmp_path / "out")])
    assert "no dataset.json" in capsys.readouterr().out
    spoil(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        main(["--check", str(tmp_path / "out")])


def test_check_takes_the_tarballs_files_as_the_loader_does(raw, tmp_path):
    """Images of 28 x 28, floats for audio: other forms in circulation."""
    prepare(raw, tmp_path / "out")
    for name in ("dataset.json", "pairs.csv"):
        (tmp_path / "out" / name).unlink()
    for part in ("train", "test"):
        _rewrite(
            tmp_path / f"out/image/{part}_data.npy",
            lambda a: a.reshape(-1, 28, 28).astype(np.float64),
        )
        _rewrite(tmp_path / f"out/audio/{part}_data.npy", lambda a: a.astype(np.float64))
    main(["--check", str(tmp_path / "out")])


def test_check_finds_a_recording_that_does_not_speak_the_label(raw, tmp_path):
    facts = prepare(raw, tmp_path / "out")
    path = tmp_path / "out/pairs.csv"
    path.write_text(path.read_text().replace("train,4,4,train,4_", "train,4,4,train,5_"))
    from AVMNIST_and_MIMIC.avmnist.preparation.build import describe

    facts["files"]["pairs.csv"] = describe(path)
    (tmp_path / "out/dataset.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="train row 4: label 4, but its recording is 5_"):
        main(["--check", str(tmp_path / "out")])


def test_defaults_are_the_calibrated_variant():
    rules = Rules()
    assert (rules.energy, rules.energy_rule, rules.add_mean, rules.pca_fit, rules.noise) == (
        0.25,
        "reach",
        True,
        "train",
        KINDS,
    )
