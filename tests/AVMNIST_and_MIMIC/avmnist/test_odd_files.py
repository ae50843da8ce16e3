"""Files that are links, pipes, other archives, or announce what they do not hold."""

from __future__ import annotations

import gzip
import os
import zipfile

import numpy as np
import pytest

from AVMNIST_and_MIMIC.avmnist.files import open_part
from AVMNIST_and_MIMIC.avmnist.preparation.audio import decode_wav, read_speech
from AVMNIST_and_MIMIC.avmnist.preparation.images import IMAGES_MAGIC, read_idx, read_mnist
from AVMNIST_and_MIMIC.avmnist.preparation.noise import read_noise
from AVMNIST_and_MIMIC.prepare_avmnist import main
from i2m2.errors import DataError
from tests.AVMNIST_and_MIMIC.tiny_avmnist import idx, prepare, tone, wav
from tests.conftest import write_avmnist

SPOKEN = wav((tone(440) * 32767).astype(np.int16))
SILENT = wav(np.zeros(2400, np.int16))


def test_linked_folders_are_searched_and_loops_end(avmnist_raw, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    os.symlink(avmnist_raw, links / "mnist")
    os.symlink(links, avmnist_raw / "speech" / "round")
    linked, _ = read_mnist(links)
    plain, _ = read_mnist(avmnist_raw)
    assert np.array_equal(linked.images, plain.images)
    assert len(read_speech(links).recordings) == 60


@pytest.mark.parametrize("read", [read_speech, read_noise])
def test_a_pipe_instead_of_a_zip_does_not_hang(read, tmp_path):
    os.mkfifo(tmp_path / "speech.zip")
    with pytest.raises(DataError, match="speech.zip is a named pipe, not a file"):
        read(tmp_path / "speech.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_of_any_compression_is_one_line(method, tmp_path):
    path = tmp_path / "speech.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("7_ann_0.wav", SPOKEN)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(DataError, match="speech.zip: not a readable zip"):
        read_speech(path)


@pytest.mark.parametrize("shape", [(10**9, 28, 28), (2**31, 2**15, 2**15)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_file_that_announces_more_than_it_holds_allocates_nothing(pack, shape, tmp_path):
    header = np.array([IMAGES_MAGIC, *shape], ">u4").tobytes()
    (tmp_path / "images").write_bytes(pack(header + bytes(100)))
    with pytest.raises(DataError, match="100 bytes of data, but its header announces"):
        read_idx(tmp_path / "images", IMAGES_MAGIC)


@pytest.mark.parametrize("where", [-8, -4])
def test_an_idx_file_whose_gzip_has_another_checksum_or_length_is_damaged(where, tmp_path):
    content = bytearray(gzip.compress(idx(np.zeros((2, 28, 28), np.uint8))))
    content[where] ^= 1
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(DataError, match="the gzip file is damaged"):
        read_idx(tmp_path / "images.gz", IMAGES_MAGIC)
    more = gzip.compress(idx(np.zeros((2, 28, 28), np.uint8)) + b"and more")
    (tmp_path / "images.gz").write_bytes(more)
    with pytest.raises(DataError, match="more than 1568 bytes of data"):
        read_idx(tmp_path / "images.gz", IMAGES_MAGIC)


@pytest.mark.parametrize("rate", [0, 1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused(rate):
    content = bytearray(SPOKEN)
    content[24:32] = rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little")
    with pytest.raises(DataError, match=f"x.wav: a rate of {rate:,} Hz"):
        decode_wav("x.wav", bytes(content))


IMPOSSIBLE = {
    "length": (40, b"\xff\xff\xff\x7f"),
    "channels": (22, b"\xff\xff"),
    "bits": (34, b"\xff\xff"),
}


@pytest.mark.parametrize("place, bad", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_wav_of_an_impossible_length_or_form_is_refused(place, bad):
    content = bytearray(SPOKEN)
    content[place : place + len(bad)] = bad
    with pytest.raises(DataError, match="x.wav: not a WAV file, or cut short"):
        decode_wav("x.wav", bytes(content))


@pytest.mark.parametrize("code, name", {2: "ADPCM", 6: "ALAW", 7: "MULAW"}.items())
def test_a_wav_that_is_not_pcm_is_called_so(code, name):
    content = bytearray(SPOKEN)
    content[20:22] = code.to_bytes(2, "little")
    with pytest.raises(DataError, match=f"x.wav: coded as {name}, not PCM .ffmpeg"):
        decode_wav("x.wav", bytes(content))


def test_what_follows_a_wav_is_no_part_of_it():
    assert np.array_equal(decode_wav("x.wav", SPOKEN + b"TAG" + b"x" * 125), decode_wav("", SPOKEN))


def test_silent_recordings_are_counted(avmnist_raw, tmp_path, capsys):
    for name in ("0_ann_0", "1_bob_2"):
        (avmnist_raw / f"speech/{name}.wav").write_bytes(SILENT)
    assert prepare(avmnist_raw, tmp_path / "out")["speech"]["silent"] == 2
    assert "2 recordings are silent, and are kept" in capsys.readouterr().out
    noise = tmp_path / "noise"
    noise.mkdir()
    for k in range(4):
        hum = wav((tone(200 + 100 * k) * 32767).astype(np.int16))
        (noise / f"{k}.wav").write_bytes(hum if k else SILENT)
    assert read_noise(noise).silent == 1


def test_names_that_are_no_utf8_are_prepared_and_checked(avmnist_raw, tmp_path, capsys):
    speech = os.fsencode(avmnist_raw / "speech")
    for name in os.listdir(speech):
        os.rename(speech + b"/" + name, speech + b"/" + name.replace(b"bob", b"b\xffb"))
    prepare(avmnist_raw, tmp_path / "out")
    main(["--check", str(tmp_path / "out")])
    assert "all well" in capsys.readouterr().out


def test_audio_below_zero_is_on_another_scale_and_a_wrong_label_is_named(tmp_path):
    write_avmnist(tmp_path, train=24, test=10)
    path = tmp_path / "audio/train_data.npy"
    np.save(path, np.load(path).astype(np.int8))
    with pytest.raises(DataError, match="audio/train_data.npy: values from -.*scale should be 0"):
        open_part(tmp_path, "train")
    np.save(tmp_path / "test_labels.npy", np.full(10, 10))
    with pytest.raises(DataError, match="test_labels.npy: row 0 has label 10; .* again"):
        open_part(tmp_path, "test")


@pytest.mark.parametrize("shape", [(1, -1), (-1, 1)])
def test_labels_that_are_no_row_are_refused(shape, tmp_path):
    write_avmnist(tmp_path, train=24, test=10)
    path = tmp_path / "train_labels.npy"
    np.save(path, np.load(path).reshape(shape))
    with pytest.raises(DataError, match="it should be a row of integers"):
        open_part(tmp_path, "train")
