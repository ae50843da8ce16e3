"""Raw volumes that are damaged, incomplete or of another kind."""

import errno
import os

import h5py
import numpy as np
import pytest

from fastMRI.preparation.cache import describe
from fastMRI.preparation.volumes import Rules, read_volume
from i2m2.errors import DataError
from tests.fastMRI.preparation.tiny_raw import knee, kspace_of, write_raw

IMAGE = knee(320)
KSPACE = kspace_of(IMAGE)
NO_SIGNAL = np.zeros((2, 640, 320), np.complex64)
EMPTY_SLICE = KSPACE * np.array([1, 0], np.complex64)[:, None, None]
PLAIN = np.ones((2, 320, 320), np.float32)


def nan_at(index, image=None):
    kspace = kspace_of(IMAGE if image is None else image)
    kspace[index] = np.nan
    return kspace


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"kspace": None}, "has no array kspace, only ismrmrd_header"),
        ({"reconstruction_esc": None}, "has no array reconstruction_esc"),
        ({"reconstruction_rss": None}, "has no array reconstruction_rss"),
        ({"ismrmrd_header": None}, "has no array ismrmrd_header"),
        ({"ismrmrd_header": "<xml"}, "ismrmrd_header is not fastMRI's XML"),
        ({"ismrmrd_header": "<ismrmrdHeader/>"}, "ismrmrd_header is not fastMRI's XML"),
        ({"mask": np.ones(320)}, "holds a mask, that is under-sampled k-space"),
        ({"kspace": nan_at((1, 3, 5))}, "k-space of slice 1 holds NaN or infinity"),
        ({"kspace": KSPACE.astype(np.complex128)}, "kspace is complex128, not complex64"),
        (
            {"kspace": KSPACE[0]},
            r"kspace has shape \[640, 320\], not \[slices, 640, columns\]",
        ),
        ({"kspace": KSPACE[:, None]}, "kspace has shape"),
        ({"kspace": kspace_of(knee(320, height=512))}, r"kspace has shape \[2, 512, 320\]"),
        ({"kspace": NO_SIGNAL[:0]}, r"kspace has shape \[0, 640, 320\]"),
        ({"kspace": NO_SIGNAL, "reconstruction_esc": 0 * PLAIN}, "k-space of slice 0 is empty"),
        ({"kspace": EMPTY_SLICE}, "k-space of slice 1 is empty: zero everywhere"),
        ({"reconstruction_esc": 0 * PLAIN}, "reconstruction_esc of slice 0 is empty"),
        ({"reconstruction_rss": 0 * PLAIN}, "reconstruction_rss of slice 0 is empty"),
        ({"reconstruction_rss": -PLAIN}, "reconstruction_rss of slice 0 is negative in places"),
        ({"kspace": KSPACE / 2}, "deviates from reconstruction_esc by 0.5 of its maximum"),
        (
            {"reconstruction_esc": PLAIN[:1]},
            r"reconstruction_esc is float32 \[1, 320, 320\], not float32 \[2, 320, 320\]",
        ),
        ({"reconstruction_esc": PLAIN}, "deviates from reconstruction_esc by 1 of its maximum"),
        ({"reconstruction_esc": PLAIN * np.nan}, "reconstruction_esc of slice 0 holds NaN"),
        ({"reconstruction_rss": PLAIN * np.inf}, "reconstruction_rss of slice 0 holds NaN"),
        ({"reconstruction_rss": PLAIN.astype(int)}, "reconstruction_rss is int64"),
    ],
)
def test_bad_volume_is_refused_in_one_line(tmp_path, changed, says):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320), **changed)
    with pytest.raises(DataError, match=says) as error:
        read_volume(path, Rules())
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value, says",
    [
        (None, "attribute max is None"),
        (0.0, "max is 0.0"),
        (np.nan, "max is nan"),
        ("very large", "max is very large, not a positive number; use --scale percentile"),
        (b"large", "max is large, not"),
        ([1.0, 2.0], r"max is \[1. 2.\], not"),
    ],
)
def test_bad_attributes_are_refused(tmp_path, value, says):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320, 1))
    with h5py.File(path, "r+") as file:
        del file.attrs["max"]
        if value is not None:
            file.attrs["max"] = value
    with pytest.raises(DataError, match=says):
        read_volume(path, Rules(scale="max"))
    with h5py.File(path, "r+") as file:
        file.attrs["patient_id"] = b"p\xff"
    assert read_volume(path, Rules()).facts.patient_id == "p\ufffd"
    with h5py.File(path, "r+") as file:
        del file.attrs["patient_id"]
    with pytest.raises(DataError, match="no attribute patient_id"):
        read_volume(path, Rules())


def test_volume_without_signal_is_refused(tmp_path):
    write_raw(tmp_path / "file1.h5", knee(320, 1), kspace=np.zeros((1, 640, 320), np.complex64))
    with pytest.raises(DataError, match="file1.h5: k-space of slice 0 is empty: zero everywhere"):
        read_volume(tmp_path / "file1.h5", Rules(geometry="official_code"))


def test_truncated_and_other_files_are_refused(tmp_path):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320, 1))
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(DataError, match="file1.h5: no HDF5 file, or a damaged one"):
        read_volume(path, Rules())
    with pytest.raises(DataError, match="file2.h5 is missing"):
        read_volume(tmp_path / "file2.h5", Rules())
    (tmp_path / "file3.h5").mkdir()
    with pytest.raises(DataError, match="file3.h5 is a folder, not a file") as error:
        read_volume(tmp_path / "file3.h5", Rules())
    assert "\n" not in str(error.value)
    os.mkfifo(tmp_path / "file4.h5")
    with pytest.raises(DataError, match="file4.h5 is a named pipe, not a file"):
        read_volume(tmp_path / "file4.h5", Rules())


def spoilt_chunk(path, number):
    """k-space compressed, as its header then says, with another filter."""
    with h5py.File(path, "a") as file:
        kspace = file["kspace"][()]
        del file["kspace"]
        file.create_dataset("kspace", data=kspace, compression="gzip", chunks=(1, 640, 320))
    content = bytearray(path.read_bytes())
    name = content.find(b"deflate\0")
    content[name - 8 : name - 6] = number.to_bytes(2, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("number, name", [(32004, "lz4"), (32015, "zstd"), (40000, "unknown")])
def test_a_filter_that_is_not_installed_is_no_damage(number, name, tmp_path):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320, 1))
    spoilt_chunk(path, number)
    message = rf"kspace is compressed with filter {number} \({name}\), .*hdf5plugin"
    with pytest.raises(DataError, match=message) as error:
        read_volume(path, Rules())
    assert "damaged" not in str(error.value) and "download" not in str(error.value)


LOCKED = "Unable to synchronously open file (unable to lock file, errno = {}, error message = '{}')"


@pytest.mark.parametrize(
    "number, says",
    [
        (errno.EAGAIN, "another program is writing it"),
        (errno.ENOLCK, "HDF5_USE_FILE_LOCKING=FALSE"),
        (errno.ENOSYS, "HDF5_USE_FILE_LOCKING=FALSE"),
    ],
)
def test_a_lock_that_cannot_be_had_is_no_damage(number, says, tmp_path, monkeypatch):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320, 1))

    def fail(*_):
        raise OSError(LOCKED.format(number, os.strerror(number)))

    monkeypatch.setattr(h5py, "File", fail)
    for read in (lambda: read_volume(path, Rules()), lambda: describe(path)):
        with pytest.raises(DataError, match=says) as error:
            read()
        assert "damaged" not in str(error.value)


def test_an_array_that_announces_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320, 1))
    with h5py.File(path, "a") as file:
        del file["kspace"]
        file.create_dataset("kspace", (10**8, 640, 320), np.complex64)
    with pytest.raises(DataError, match="kspace announces .* bytes, and 0 are there"):
        read_volume(path, Rules())


def test_bad_multicoil_volume_is_named(tmp_path):
    path, coils = tmp_path / "file1.h5", tmp_path / "multicoil_train/file1.h5"
    write_raw(path, knee(320))
    without_coils = kspace_of(knee(320))
    with_nan = nan_at((1, 0, 0, 0), knee(320)[:, None])
    of_one_slice = kspace_of(knee(320, 1)[:, None])
    for kspace, says in (
        (without_coils, r"multicoil_train/file1.h5: kspace has shape \[2, 640, 320\]"),
        (with_nan, "multicoil_train/file1.h5: k-space of slice 1 holds NaN"),
        (of_one_slice, "1 slices, but the single-coil volume has 2"),
        (EMPTY_SLICE[:, None], "multicoil_train/file1.h5: k-space of slice 1 is empty"),
        (
            KSPACE[:, None],
            "the root sum of squares .* from reconstruction_rss by 0.091",
        ),
    ):
        write_raw(coils, knee(320), kspace=kspace)
        with pytest.raises(DataError, match=says):
            read_volume(path, Rules(rss="coils"), coils)
