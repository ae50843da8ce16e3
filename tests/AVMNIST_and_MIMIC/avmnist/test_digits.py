"""The embedded AV-MNIST: real digits, synthesised speech, the same files."""

from __future__ import annotations

import csv
import itertools
import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from AVMNIST_and_MIMIC.avmnist import speech
from AVMNIST_and_MIMIC.avmnist.digits import TAKES, enlarge, make_digits
from AVMNIST_and_MIMIC.avmnist.preparation import audio
from AVMNIST_and_MIMIC.avmnist.preparation.layout import FILES
from AVMNIST_and_MIMIC.avmnist.preparation.rules import PARTS
from AVMNIST_and_MIMIC.avmnist.speech import VOICES, speak
from AVMNIST_and_MIMIC.prepare_avmnist import main
from i2m2.errors import SettingsError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The embedded data set, made once."""
    out = tmp_path_factory.mktemp("digits") / "avmnist-digits"
    assert make_digits(out)
    return out


def test_says_what_it_is(made):
    facts = json.loads((made / "dataset.json").read_text())
    assert facts["variant"] == "digits"
    assert facts["synthetic"] is True
    assert facts["validation_rows"] == [1200, 1400]
    assert facts["description"] == "real handwritten digits (scikit-learn), synthesised speech"
    assert facts["counts"] == {"train": 1200, "val": 200, "test": 397}
    assert facts["speech"]["recordings"] == {"train": 480, "val": 180, "test": 240}


def test_labels_are_scikit_learns_in_its_order(made):
    labels = np.concatenate([np.load(made / f"{part}_labels.npy") for part in ("train", "test")])
    np.testing.assert_array_equal(labels, load_digits().target)


def test_passes_its_own_audit(made, capsys):
    main(["--check", str(made)])
    assert "checked, all well" in capsys.readouterr().out


def test_voices_are_in_every_part_and_takes_in_one(made):
    with open(made / "pairs.csv", newline="") as file:
        heard = {
            (row["part"], int(row["recording"].split("_")[2][:-4])) for row in csv.DictReader(file)
        }
    takes = {part: {take for name, take in heard if name == part} for part in PARTS}
    assert takes == {"test": {0, 1, 2, 3}, "val": {4, 5, 6}, "train": set(range(7, TAKES))}


def test_made_again_it_has_the_same_bytes_and_is_not_written_twice(made, tmp_path):
    make_digits(tmp_path / "again")
    assert all(
        (made / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        for name in (*FILES, "dataset.json")
    )
    assert not make_digits(tmp_path / "again")


@pytest.mark.parametrize("name", ["audio/train_data.npy", "pairs.csv"])
def test_damaged_they_are_made_again_through_a_link_too(name, made, tmp_path):
    shutil.copytree(made, tmp_path / "digits")
    (tmp_path / "link").symlink_to("digits")
    (tmp_path / "digits" / name).write_bytes(b"half of it")
    assert make_digits(tmp_path / "link")
    assert (tmp_path / "digits" / name).read_bytes() == (made / name).read_bytes()


def test_damaged_they_are_not_replaced_with_a_users_files_beside_them(made, tmp_path):
    shutil.copytree(made, tmp_path / "digits")
    (tmp_path / "digits/notes.txt").write_text("mine")
    (tmp_path / "digits/test_labels.npy").unlink()
    with pytest.raises(SettingsError, match="digits holds other files"):
        make_digits(tmp_path / "digits")
    assert (tmp_path / "digits/notes.txt").read_text() == "mine"


def test_in_training_other_data_are_left_alone_and_the_right_option_is_named(made, tmp_path):
    shutil.copytree(made, tmp_path / "real")
    path = tmp_path / "real/dataset.json"
    path.write_text(path.read_text().replace('"variant": "digits"', '"variant": "calibrated"'))
    for content in (path.read_text(), "{"):
        path.write_text(content)
        with pytest.raises(SettingsError, match=r"real holds other files .* --data.dir"):
            make_digits(tmp_path / "real")
        assert path.read_text() == content


def test_two_processes_at_once_leave_one_whole_folder(tmp_path):
    out = tmp_path / "digits"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make_digits, args=(out,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    main(["--check", str(out)])


def test_enlarging_keeps_the_mean_and_the_corners():
    images = load_digits().images[:50]
    large = enlarge(images).reshape(-1, 28, 28)
    np.testing.assert_allclose(
        large.mean(axis=(1, 2)) / 255, images.mean(axis=(1, 2)) / 16, atol=0.02
    )
    np.testing.assert_allclose(large[:, 0, 0] / 255, images[:, 0, 0] / 16, atol=0.01)


def test_every_take_is_a_different_waveform_of_a_plausible_length():
    takes = [
        speak(digit, voice, take)
        for digit, voice, take in itertools.product((0, 6), VOICES[:2], range(3))
    ]
    assert all(0.15 < len(take) / audio.RATE < 1 for take in takes)
    assert len({take.tobytes() for take in takes}) == len(takes)


def test_vowels_have_their_formants(monkeypatch):
    """The last third of `three` has the formants of its vowel.

    It is strongest near the first, 270 Hz, and strong near the second, 2290 Hz.
    """
    voice = speech.Voice("monotone", 100, 1.0, 1.0, 0.0)
    monkeypatch.setattr(speech, "VOICES", (voice,))
    wave = speak(3, voice, 0)
    vowel = wave[len(wave) * 6 // 10 : len(wave) * 9 // 10]
    power = np.abs(np.fft.rfft(vowel * np.hanning(len(vowel)), 8000)) ** 2  # bins of 1 Hz
    assert 200 <= power[:1000].argmax() <= 360
    assert power[1900:2900].mean() > 3 * power[1000:1700].mean()


def test_words_can_be_told_apart_across_takes_without_noise():
    spoken = {
        (d, take): audio.normalise(speak(d, v, take))
        for d, v, take in itertools.product(range(10), VOICES[:1], range(10))
    }
    pictures = {
        key: audio.spectrograms(wave.astype(np.float32)[None])[0].reshape(14, 8, 14, 8).mean((1, 3))
        for key, wave in spoken.items()
    }
    x = np.array([picture.ravel() for picture in pictures.values()])
    y, take = np.array(list(pictures)).T
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    model.fit(x[take < 6], y[take < 6])
    assert model.score(x[take >= 6], y[take >= 6]) > 0.95
