"""The distributed im.pk: read as it is, in every dialect of pickle, and never run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.extraction.pickle import NAMES
from AVMNIST_and_MIMIC.prepare_mimic import main
from i2m2.errors import DataError, SettingsError
from tests.AVMNIST_and_MIMIC.tiny_mimic import Prepared


def _content(rows: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    series = rng.normal(size=(rows, 24, 12))
    series[0, :, 4], series[1, 2, 3] = np.nan, np.inf
    labels = {
        "adm_labels_all": rng.integers(0, 2, (rows, 6)),
        "y_icd9": np.asfortranarray(rng.integers(0, 2, (rows, 20))),
    }
    return {
        "ep_tdata": series,
        "adm_features_all": rng.normal(size=(rows, 5)),
        **labels,
        "y_los": np.arange(3.0),
    }


def _python_2(protocol: int) -> bytes:
    """As Python 2 would write it: text as bytes-like strings, module names of NumPy 1."""
    data = pickle.dumps(_content(), protocol)
    return data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.mark.parametrize("protocol", range(6))
def test_im_pk_is_read_as_it_is(tmp_path, protocol):
    data = pickle.dumps(_content(), protocol) if protocol >= 4 else _python_2(protocol)
    (tmp_path / "im.pk").write_bytes(data)
    main(["--im-pk", str(tmp_path / "im.pk"), "--out", str(tmp_path / "out")])
    prepared, content = Prepared(tmp_path / "out"), _content()
    for key, name in NAMES.items():
        np.testing.assert_array_equal(prepared.arrays[name], content[key])
    np.testing.assert_array_equal(prepared.arrays["series_mask"], np.isfinite(content["ep_tdata"]))
    assert prepared.arrays["hadm_id"].tolist() == list(range(7))
    assert "row numbers" in prepared.facts["notes"][0]
    assert prepared.facts["variant"] == "im_pk" and prepared.facts["ignored"] == ["y_los"]
    main(["--check", str(tmp_path / "out")])


def test_im_pk_with_the_byte_strings_of_python_2_is_read(tmp_path):
    """Protocol 2 written by hand.

    Text is SHORT_BINSTRING and BINSTRING, which Python 3 no longer writes.
    """

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    def array(values: np.ndarray) -> bytes:
        shape = b"(" + b"".join(b"J" + n.to_bytes(4, "little") for n in values.shape) + b"t"
        number = text(values.dtype.str[1:].encode())
        state = b"K\x03" + text(b"<") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00"
        dtype = b"cnumpy\ndtype\n(" + number + b"K\x00K\x01tR(" + state + b"tb"
        start = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
        )
        return start + b"(K\x01" + shape + dtype + b"\x89" + text(values.tobytes()) + b"tb"

    content = {key: np.ascontiguousarray(value) for key, value in _content().items()}
    items = b"".join(text(key.encode()) + array(value) for key, value in content.items())
    (tmp_path / "im.pk").write_bytes(b"\x80\x02}(" + items + b"u.")
    main(["--im-pk", str(tmp_path / "im.pk"), "--out", str(tmp_path / "out")])
    np.testing.assert_array_equal(Prepared(tmp_path / "out").arrays["series"], content["ep_tdata"])


class _Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _with(**changes: object) -> bytes:
    return pickle.dumps({**_content(), **changes})


_OBJECTS = np.array([[1, "x"]], object)
BAD_PICKLES = {
    "a call": (_with(y_los=_Runs(os.mkdir, "hacked")), "asks for posix.mkdir"),
    "eval": (_with(y_los=_Runs(eval, "1")), "asks for builtins.eval"),
    "a numpy function that reads files": (
        _with(y_los=_Runs(np.fromfile, "x")),
        "asks for numpy.*fromfile",
    ),
    "codecs beyond Latin-1": (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "_codecs.encode with 'rot13'"),
    "a structured array": (_with(y_los=np.zeros(2, [("a", "O")])), "a structured array"),
    "a wanted array of objects": (
        _with(adm_features_all=_OBJECTS),
        "adm_features_all is no array of numbers",
    ),
    "a list for an array": (_with(y_icd9=[1, 2]), "y_icd9 is no array of numbers"),
    "cut short": (_with()[:5000], "cut short"),
    "no pickle": (b"hello there", "not a pickle"),
    "another thing": (pickle.dumps([1, 2]), "holds a list"),
    "a missing key": (
        pickle.dumps({"ep_tdata": np.zeros((2, 24, 12))}),
        "no adm_features_all, adm_labels_all, y_icd9",
    ),
    "a wrong shape": (
        _with(ep_tdata=np.zeros((7, 30, 12))),
        r"ep_tdata is of shape \(7, 30, 12\); \(N, 24, 12\) is needed",
    ),
    "rows that differ": (_with(y_icd9=np.zeros((6, 20), int)), "rows differ"),
    "labels beyond 0 and 1": (_with(y_icd9=np.full((7, 20), 2)), "y_icd9, row 0, holds 2"),
    "bytes that do not fit": (_with().replace(b"K\x07K\x18K\x0c", b"K\x08K\x18K\x0c"), "cut short"),
}


@pytest.mark.parametrize("data, message", BAD_PICKLES.values(), ids=BAD_PICKLES)
def test_a_bad_im_pk_is_one_line_and_runs_nothing(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    Path("im.pk").write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        main(["--im-pk", "im.pk", "--out", "out"])
    assert "\n" not in str(error.value) and [path.name for path in tmp_path.iterdir()] == ["im.pk"]


def test_settings_of_the_extraction_are_not_silently_ignored(tmp_path):
    places = ["--im-pk", str(tmp_path / "im.pk"), "--out", str(tmp_path / "out")]
    message = "--mode, --horizon-hours and --bin-hours belong to --raw"
    with pytest.raises(SettingsError, match=message):
        main([*places, "--mode", "reference"])
