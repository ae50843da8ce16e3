"""Arrays read by their schema: what is missing, of another type or shape, or damaged."""

import errno
import io
import os
import resource
import zipfile

import numpy as np
import pytest

from i2m2.errors import DamagedError, DataError
from i2m2.reading.arrays import Array, ArrayFile, open_array, read_arrays

SCHEMA = {"x": Array("f", ("n", 3)), "y": Array("ui", ("n",)), "name": Array("U", (None,))}
GOOD = {"x": np.zeros((4, 3)), "y": np.arange(4), "name": np.array(["a", "b"])}


def saved(folder, **arrays):
    path = folder / "some.npz"
    np.savez(path, **arrays)
    return path


def test_arrays_of_the_right_form_are_read_as_they_are(tmp_path):
    found = read_arrays(saved(tmp_path, **GOOD, more=np.ones(2)), SCHEMA, "make it again")
    assert list(found) == list(SCHEMA)
    assert all(np.array_equal(found[name], GOOD[name]) for name in SCHEMA)


def test_numbers_of_another_machine_have_the_order_of_bytes_of_this_one(tmp_path):
    found = read_arrays(saved(tmp_path, **GOOD | {"y": np.arange(4, dtype=">i8")}), SCHEMA, "again")
    assert found["y"].dtype.isnative and found["y"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": None}, "it has no array x"),
        (
            {"x": np.zeros((4, 2))},
            r"x: expected floating-point numbers of shape \[any, 3\]|\[4, 3\]",
        ),
        ({"y": np.arange(5)}, r"y: expected integers of shape \[4\], int64 of shape \[5\]"),
        ({"y": np.zeros(4)}, "y: expected integers"),
        ({"y": np.array([None] * 4, object)}, "y: Object arrays cannot be loaded"),
        ({"name": np.zeros((2, 2), "U1")}, "name: expected texts"),
    ],
)
def test_other_arrays_are_named_with_what_was_expected(change, message, tmp_path):
    arrays = {name: array for name, array in (GOOD | change).items() if array is not None}
    with pytest.raises(DamagedError, match=message) as error:
        read_arrays(saved(tmp_path, **arrays), SCHEMA, "make it again")
    assert "some.npz is damaged" in str(error.value) and "make it again" in str(error.value)


def test_sizes_that_are_known_are_held_to(tmp_path):
    path = saved(tmp_path, **GOOD)
    with pytest.raises(DamagedError, match=r"x: expected .* of shape \[7, 3\]"):
        read_arrays(path, SCHEMA, "", n=7)


@pytest.mark.parametrize("left", [0, 1, 100, 400, -1])
def test_a_file_cut_short_anywhere_is_damaged(left, tmp_path):
    path = saved(tmp_path, **GOOD)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DamagedError):
        read_arrays(path, SCHEMA, "make it again")


def header_of(shape):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 3), (2**40,), (10**6, 10**6, 10**6)])
def test_a_header_that_announces_more_than_there_is_allocates_nothing(shape, tmp_path):
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as archive:
        archive.writestr("x.npy", header_of(shape))
    with pytest.raises(DamagedError, match="announces"):
        read_arrays(tmp_path / "some.npz", {"x": Array("f", (None,) * len(shape))}, "")
    (tmp_path / "x.npy").write_bytes(header_of(shape))
    with pytest.raises(DamagedError):
        open_array(tmp_path / "x.npy", "")


def test_what_is_no_file_is_said_to_be_none(tmp_path):
    with pytest.raises(DataError, match="is a folder, not a file"):
        open_array(tmp_path, "")
    np.save(tmp_path / "x.npy", np.arange(3, dtype=">f4"))
    with pytest.raises(DataError, match="x.npy is damaged .*order of bytes"):
        open_array(tmp_path / "x.npy", "")
    with pytest.raises(DataError, match="is missing; make it"):
        read_arrays(tmp_path / "some.npz", SCHEMA, "make it")


@pytest.fixture
def few_files():
    """A limit of the files that this process may open: eight more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as next_one:
        limit = next_one.fileno() + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_files_may_be_held_than_may_be_open(tmp_path, few_files):
    path = saved(tmp_path, **GOOD)
    held = []
    for _ in range(20):
        held.append(ArrayFile(path, "make it again"))
        assert all(np.array_equal(held[-1][name], GOOD[name]) for name in GOOD)
    assert all(file["y"].tolist() == [0, 1, 2, 3] for file in held)


def test_too_many_open_files_are_no_damage(tmp_path, few_files):
    path = saved(tmp_path, **GOOD)
    with pytest.raises(OSError, match="Too many open files") as error:
        [ArrayFile(path, "make it again") for _ in range(20)]
    assert error.value.errno == errno.EMFILE
