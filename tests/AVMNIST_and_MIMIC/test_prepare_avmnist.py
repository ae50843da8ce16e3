"""Preparation of AV-MNIST: what is written, and one line for every mistake."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from AVMNIST_and_MIMIC.avmnist.preparation import audio
from AVMNIST_and_MIMIC.avmnist.preparation.images import read_mnist
from AVMNIST_and_MIMIC.avmnist.preparation.layout import FILES
from AVMNIST_and_MIMIC.avmnist.preparation.rules import KINDS, PARTS, Rules
from AVMNIST_and_MIMIC.prepare_avmnist import VARIANTS, main
from i2m2.errors import DataError, SettingsError
from tests.AVMNIST_and_MIMIC.tiny_avmnist import TEST, TRAIN, contents, idx, pairs, prepare, wav

NAMED_TAKES = Rules(test_takes=(0,), val_takes=(1,))  # all of which the fixture has


def test_folder_has_the_official_layout(avmnist_raw, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "calibrated", NAMED_TAKES)
    facts = prepare(avmnist_raw, tmp_path / "out")
    shapes = {
        name: (tuple(f["shape"]), f["dtype"]) for name, f in facts["files"].items() if "shape" in f
    }
    assert shapes == {
        "image/train_data.npy": ((TRAIN, 784), "float32"),
        "image/test_data.npy": ((TEST, 784), "float32"),
        "audio/train_data.npy": ((TRAIN, 112, 112), "uint8"),
        "audio/test_data.npy": ((TEST, 112, 112), "uint8"),
        "train_labels.npy": ((TRAIN,), "uint8"),
        "test_labels.npy": ((TEST,), "uint8"),
    }
    assert facts["variant"] == "calibrated"
    assert facts["synthetic"] is False
    assert facts["validation_rows"] == [TRAIN - 20, TRAIN]
    assert facts["counts"] == {"train": TRAIN - 20, "val": 20, "test": TEST}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"], (
        "nothing temporary is left"
    )


def test_rows_are_in_label_order_and_recordings_in_one_part(avmnist_raw, tmp_path):
    prepare(avmnist_raw, tmp_path / "out")
    rows = pairs(tmp_path / "out")
    for name in ("train", "test"):
        labels = np.load(tmp_path / f"out/{name}_labels.npy")
        of_file = [row for row in rows if row["file"] == name]
        assert [int(row["row"]) for row in of_file] == list(range(len(labels)))
        assert [int(row["recording"][0]) for row in of_file] == labels.tolist()
    heard = {part: {row["recording"] for row in rows if row["part"] == part} for part in PARTS}
    assert not heard["train"] & heard["val"]
    assert not heard["train"] & heard["test"]
    assert not heard["val"] & heard["test"]
    main(["--check", str(tmp_path / "out")])


def test_without_noise_a_row_is_the_spectrogram_of_its_recording(avmnist_raw, tmp_path):
    prepare(avmnist_raw, tmp_path / "out", "--noise", "none")
    recordings = {r.name: r for r in audio.read_speech(avmnist_raw / "speech").recordings}
    stored = np.load(tmp_path / "out/audio/train_data.npy")
    for row in pairs(tmp_path / "out")[:TRAIN:37]:
        with threadpool_limits(1):  # as `build` does: the number of threads decides the last bits
            expected = audio.spectrograms(recordings[row["recording"]].samples[None])[0]
        np.testing.assert_array_equal(stored[int(row["row"])], expected)


def test_same_seed_same_bytes_other_seed_other_bytes(avmnist_raw, tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        prepare(avmnist_raw, tmp_path / name, "--seed", seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in FILES if a[name] != c[name]} == {
        "audio/train_data.npy",
        "audio/test_data.npy",
        "pairs.csv",
    }


def test_mfas_is_the_published_recipe(avmnist_raw, tmp_path):
    facts = prepare(
        avmnist_raw,
        tmp_path / "out",
        "--variant",
        "mfas",
        "--name",
        "mfas-two",
        "--components",
        "2",
    )
    assert facts["variant"] == "mfas-two"
    assert facts["settings"]["noise"] == []
    assert facts["settings"]["val_takes"] == []
    for name in ("train", "test"):
        images = np.load(tmp_path / f"out/image/{name}_data.npy")
        assert np.abs(images.mean(axis=0)).max() < 1e-3, "each file is centred by its own mean"
        assert np.linalg.matrix_rank(images[:50].astype(float), tol=1e-1) == 2
    heard = {
        part: {row["recording"] for row in pairs(tmp_path / "out") if row["part"] == part}
        for part in PARTS
    }
    assert heard["val"] & heard["train"] and not heard["test"] & (heard["train"] | heard["val"])


def test_a_changed_rule_is_recorded_as_custom(avmnist_raw, tmp_path):
    assert prepare(avmnist_raw, tmp_path / "a", "--components", "5")["variant"] == "custom"
    assert (
        prepare(avmnist_raw, tmp_path / "b", "--components", "5", "--name", "five")["variant"]
        == "five"
    )
    assert (
        prepare(avmnist_raw, tmp_path / "b", "--components", "5", "--name", "five")["components"]
        == 5
    )


def test_takes_held_out_by_order_are_said_recorded_and_no_named_variant(
    avmnist_raw, tmp_path, capsys
):
    why = "by the takes named digit 0 has no recording for"
    for variant in VARIANTS:
        facts = prepare(avmnist_raw, tmp_path / variant, "--variant", variant)
        assert facts["variant"] == "custom"
        assert facts["speech"]["takes_by_order"].startswith(why)
        assert f"{why} " in capsys.readouterr().out
    with pytest.raises(DataError, match=f"{why} train; name others, or leave out --test-takes"):
        prepare(avmnist_raw, tmp_path / "new", "--test-takes", "0-2", "--val-takes", "none")


def test_images_and_labels_are_of_one_folder_unless_each_file_is_there_once(avmnist_raw, tmp_path):
    at_top, deeper, other = avmnist_raw, avmnist_raw / "MNIST/raw", avmnist_raw / "FashionMNIST/raw"
    expected = read_mnist(at_top)
    deeper.mkdir(parents=True)
    for path in at_top.glob("t10k*"):
        path.rename(deeper / path.name)
    for part, found in zip(expected, read_mnist(at_top), strict=True):
        np.testing.assert_array_equal(found.images, part.images)
    for path in at_top.glob("train*"):
        path.rename(deeper / path.name)
    shutil.copytree(deeper, other)
    with pytest.raises(DataError, match=r"FashionMNIST/raw.* and .*/MNIST/raw.* both .* --mnist"):
        read_mnist(at_top)
    for path in other.glob("*labels*"):  # those of MNIST belong to MNIST's images
        path.write_bytes(b"none")
    for path in other.glob("*images*"):
        path.unlink()
    np.testing.assert_array_equal(read_mnist(at_top)[0].labels, expected[0].labels)
    for path in deeper.glob("*images*"):
        path.unlink()
    with pytest.raises(DataError, match=r"2 of MNIST's 4 files are missing: train-images"):
        read_mnist(at_top)


@pytest.mark.parametrize("task", ["--digits", "--check", "--download=raw"])
def test_an_option_that_a_task_does_not_look_at_is_refused(task, tmp_path):
    with pytest.raises(SettingsError, match="does nothing with --"):
        main([task, "--out", str(tmp_path / "out"), "--variant", "mfas"])


def test_speaker_split_holds_out_whole_speakers(avmnist_raw, tmp_path):
    for path in sorted((avmnist_raw / "speech").glob("*_ann_*.wav")):
        backwards = wav(audio.wavfile.read(path)[1][::-1])  # no recording is in two parts
        path.with_name(path.name.replace("ann", "cat")).write_bytes(backwards)
    facts = prepare(avmnist_raw, tmp_path / "out", "--split", "speaker", "--test-speakers", "ann")
    assert facts["speech"]["speakers"] == {"train": ["bob"], "val": ["cat"], "test": ["ann"]}


def test_the_same_command_again_does_nothing_and_other_rules_are_refused(
    avmnist_raw, tmp_path, capsys
):
    prepare(avmnist_raw, tmp_path / "out")
    before = (tmp_path / "out/dataset.json").stat().st_mtime_ns
    prepare(avmnist_raw, tmp_path / "out")
    assert "nothing done" in capsys.readouterr().out
    assert (tmp_path / "out/dataset.json").stat().st_mtime_ns == before
    with pytest.raises(SettingsError, match="settings.snr_max.*another --out"):
        prepare(avmnist_raw, tmp_path / "out", "--snr-max", "3.5")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(SettingsError, match="not empty"):
        prepare(avmnist_raw, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").exists()


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: _cut(path, 5000), lambda path: _flip(path)]
)
def test_the_same_command_over_a_damaged_folder_names_the_file_and_what_helps(
    spoil, avmnist_raw, tmp_path
):
    out = tmp_path / "out"
    prepare(avmnist_raw, out)
    spoil(out / "audio/test_data.npy")
    with pytest.raises(DataError, match=f"audio/test_data.npy: .*; remove {out}, then give this"):
        prepare(avmnist_raw, out)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_failure_half_way_leaves_nothing(avmnist_raw, tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "spectrograms", lambda clips: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(avmnist_raw, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_defaults_are_the_calibrated_variant():
    rules = Rules()
    assert (rules.energy, rules.energy_rule, rules.add_mean, rules.pca_fit, rules.noise) == (
        0.25,
        "reach",
        True,
        "train",
        KINDS,
    )


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _label_11(avmnist_raw: Path) -> None:
    (avmnist_raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(TEST, 11, np.uint8)))


def _wrong_magic(avmnist_raw: Path) -> None:
    (avmnist_raw / "train-images-idx3-ubyte").write_bytes(
        (avmnist_raw / "train-labels-idx1-ubyte").read_bytes()
    )


def _no_nines(avmnist_raw: Path) -> None:
    for path in (avmnist_raw / "speech").glob("9_*"):
        path.unlink()


def _one_nine(avmnist_raw: Path) -> None:
    for path in list((avmnist_raw / "speech").glob("9_*"))[1:]:
        path.unlink()


def _one_recording_twice(avmnist_raw: Path) -> None:
    speech = avmnist_raw / "speech"
    (speech / "3_bob_2.wav").write_bytes((speech / "3_ann_0.wav").read_bytes())


def _test_images_of_training(avmnist_raw: Path) -> None:
    images = (avmnist_raw / "train-images-idx3-ubyte").read_bytes()[16:]
    test = np.frombuffer(images, np.uint8)[: TEST * 784].reshape(TEST, 28, 28)
    (avmnist_raw / "t10k-images-idx3-ubyte").write_bytes(idx(test))


def _misnamed(avmnist_raw: Path) -> None:
    for path in (avmnist_raw / "speech").iterdir():
        path.rename(path.with_name("take" + path.name))


BAD_INPUT = {
    "a missing idx file": (
        lambda avmnist_raw: (avmnist_raw / "t10k-images-idx3-ubyte").unlink(),
        "t10k-images-idx3-ubyte",
    ),
    "a truncated idx file": (
        lambda avmnist_raw: _cut(avmnist_raw / "train-images-idx3-ubyte", 5000),
        "train-images-idx3-ubyte.*announces",
    ),
    "a truncated gzip file": (
        lambda avmnist_raw: _cut_gzip(avmnist_raw / "train-images-idx3-ubyte"),
        "damaged or cut short",
    ),
    "an empty idx file": (
        lambda avmnist_raw: _cut(avmnist_raw / "train-labels-idx1-ubyte", 0),
        "not an idx file",
    ),
    "a wrong magic": (_wrong_magic, "magic 2049, expected 2051"),
    "a label outside 0..9": (_label_11, "row 0 has label 11"),
    "an empty speech folder": (
        lambda avmnist_raw: [path.unlink() for path in (avmnist_raw / "speech").iterdir()],
        "no recordings",
    ),
    "a WAV that is not audio": (
        lambda avmnist_raw: (avmnist_raw / "speech/3_bob_1.wav").write_bytes(b"RIFF it is not"),
        "3_bob_1.wav: not a WAV",
    ),
    "a WAV cut short": (
        lambda avmnist_raw: _cut(avmnist_raw / "speech/3_bob_1.wav", 900),
        "3_bob_1.wav: not a WAV file, or cut short",
    ),
    "a WAV of a few samples": (
        lambda avmnist_raw: (avmnist_raw / "speech/3_bob_1.wav").write_bytes(
            wav(np.zeros(9, np.int16))
        ),
        "3_bob_1.wav: 0.001 s",
    ),
    "no recording of a digit": (_no_nines, "no recording of digit 9"),
    "too few recordings of a digit": (_one_nine, "digit 9 has 1 recording,"),
    "a recording in two parts": (
        _one_recording_twice,
        "1 recordings are in two parts, .*: 3_bob_2.wav of train is 3_ann_0.wav of test",
    ),
    "images in two parts": (
        _test_images_of_training,
        f"{TEST} images are in two parts, .*: row 0 of train is row 0 of test",
    ),
    "only misnamed WAVs": (_misnamed, "60 WAVs have other names"),
}


def _cut_gzip(path: Path) -> None:
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes())[:3000])
    path.unlink()


@pytest.mark.parametrize("spoil, message", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(avmnist_raw, tmp_path, spoil, message):
    spoil(avmnist_raw)
    with pytest.raises(DataError, match=message) as error:
        prepare(avmnist_raw, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_misnamed_wavs_are_counted_and_reported(avmnist_raw, tmp_path, capsys):
    (avmnist_raw / "speech/cough.wav").write_bytes(wav(np.zeros(9, np.int16)))
    assert prepare(avmnist_raw, tmp_path / "out")["speech"]["misnamed"] == 1
    assert "1 WAVs are not named" in capsys.readouterr().out


def test_an_unreadable_zip_is_one_line(avmnist_raw, tmp_path):
    (tmp_path / "speech.zip").write_bytes(b"PK\x03\x04 and no more")
    speech, out = str(tmp_path / "speech.zip"), str(tmp_path / "out")
    with pytest.raises(DataError, match="not a readable zip"):
        main(["--mnist", str(avmnist_raw), "--speech", speech, "--out", out])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--energy", "2"], "energy=2"),
        (["--components", "0"], "components=0"),
        (["--snr-min", "5", "--snr-max", "1"], "snr_min=5 exceeds"),
        (["--noise-kinds", "green"], "'green' is unknown"),
        (["--noise-kinds", "white,clips"], "give --noise the folder of the clips"),
        (["--speakers", "zoe"], "no speaker 'zoe'"),
        (["--val-rows", "240"], "only 240 rows"),
        (["--test-takes", "0-5"], r"takes \[5\]"),
        (["--test-takes", "x"], "--test-takes"),
        (["--test-takes", "4-0"], "--test-takes: 4-0 is no span; give the lower take first"),
        (["--test-takes", "none"], "test_takes is empty"),
        (["--noise", "none", "--noise-kinds", "white"], "white contradicts --noise none"),
        (["--split", "speaker", "--test-takes", "1"], "--test-takes does nothing with --split sp"),
        (["--val-speakers", "ann"], "--val-speakers does nothing with --split take"),
        (["--split", "speaker"], r"needs three speakers, .* not 2 \(ann, bob\); .* --split take"),
        (["--frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_setting_is_one_line(avmnist_raw, tmp_path, options, message):
    with pytest.raises(SettingsError, match=message) as error:
        prepare(avmnist_raw, tmp_path / "out", *options)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_command_exits_2_for_settings_and_3_for_data_without_a_traceback(avmnist_raw, tmp_path):
    def run(*argv: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "AVMNIST_and_MIMIC.prepare_avmnist", *argv]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )

    for code, argv in (
        (2, ["--mnist", str(avmnist_raw)]),
        (3, ["--mnist", str(tmp_path / "nowhere"), "--speech", str(avmnist_raw)]),
    ):
        result = run(*argv, "--out", str(tmp_path / "out"))
        assert result.returncode == code
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("error: ")


def test_download_without_internet_is_one_line(tmp_path, monkeypatch):
    import urllib.error

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DataError, match="download failed.*fsdd.zip") as error:
        main(["--download", str(tmp_path / "raw")])
    assert "\n" not in str(error.value)
