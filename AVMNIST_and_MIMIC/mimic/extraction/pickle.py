"""Reading the distributed `im.pk` without running anything it says.

A pickle is a program. This reader admits plain containers, numbers and text, and the few names by
which NumPy describes arrays; those are bound to stand-ins that keep the description, and the arrays
are made from the raw bytes afterwards. So neither another name nor a hostile description (an array
of objects, say, made of chosen bytes) reaches NumPy's own unpickling.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from i2m2.errors import DataError

SHAPES = {"ep_tdata": (24, 12), "adm_features_all": (5,), "adm_labels_all": (6,), "y_icd9": (20,)}
NAMES = {
    "ep_tdata": "series",
    "adm_features_all": "static",
    "adm_labels_all": "mortality_labels",
    "y_icd9": "icd9",
}
HOW = "copy or download im.pk again, or extract from the raw tables with --raw"


class Refused(Exception):
    """The pickle asks for something that is not data."""


class Dtype:
    """Stand-in for numpy.dtype: a plain number type, or `kind` 'O' for what we do not read."""

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = _text(code), "="

    def __setstate__(self, state: tuple) -> None:
        if any(part is not None for part in state[2:5]):
            raise Refused("a structured array")
        self.order = _text(state[1])

    @property
    def numpy(self) -> np.dtype | None:
        """The type, None where it is no number."""
        if self.code[:1] not in tuple("biuf") or not self.code[1:].isdigit():
            return None
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)


class Array:
    """Stand-in for numpy.ndarray: shape, type and raw bytes."""

    value: np.ndarray | None = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: bytes | str, dtype: Dtype, shape: tuple[int, ...], order: str) -> None:
        """Make the array; objects and text stay unread."""
        if not isinstance(dtype, Dtype):
            raise Refused("an array without a type")
        if dtype.numpy is None:
            return
        data = data.encode("latin-1") if isinstance(data, str) else data
        values = np.frombuffer(data, dtype.numpy)
        if math.prod(shape) != len(values):
            raise ValueError("an array's bytes do not fit its shape")
        self.value = values.reshape(shape, order=order).astype(dtype.numpy.newbyteorder("="))


def _reconstruct(*_: object) -> Array:
    return Array()


def _from_buffer(
    data: bytes | str, dtype: Dtype, shape: tuple[int, ...], order: str = "C", *_: object
) -> Array:
    array = Array()
    array.fill(data, dtype, shape, order)
    return array


def _scalar(dtype: Dtype, data: bytes | str = b"") -> Array:
    array = Array()
    if isinstance(dtype, Dtype) and dtype.numpy is not None:
        array.fill(data, dtype, (), "C")
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"_codecs.encode with {encoding!r}")
    return text.encode("latin-1")


ADMITTED: dict[tuple[str, str], Callable] = {  # (module, name) -> stand-in
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class Reader(pickle.Unpickler):
    """Admits the names above and nothing else."""

    def find_class(self, module: str, name: str) -> Callable:
        """The stand-in of an admitted name."""
        if (module, name) not in ADMITTED:
            raise Refused(f"{module}.{name}")
        return ADMITTED[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        """Objects kept outside the file do not occur."""
        raise Refused("an object outside the file")


def read_im_pk(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """-> the arrays of mimic.npz (series and static float64), names of the keys that were not read.

    DataError if the file is damaged, asks to run something, or holds other arrays.
    """
    try:
        with open(path, "rb") as file:
            content = Reader(file, encoding="latin-1").load()  # as NumPy asks for Python 2's text
    except Refused as error:
        raise DataError(
            f"{path}: asks for {error}, which is no data and was not run; {HOW}"
        ) from None
    except (OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(
            f"{path}: not a pickle of arrays, or cut short ({type(error).__name__}); {HOW}"
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: holds a {type(content).__name__}; "
            f"a mapping with {', '.join(SHAPES)} is needed; {HOW}"
        )
    content = {_text(key): value for key, value in content.items()}
    if missing := [key for key in SHAPES if key not in content]:
        raise DataError(
            f"{path}: no {', '.join(missing)} (it has {', '.join(content) or 'nothing'}); {HOW}"
        )
    arrays = {NAMES[key]: _checked(path, key, content[key]) for key in SHAPES}
    rows = {key: len(arrays[NAMES[key]]) for key in SHAPES}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{key} {n}" for key, n in rows.items())
        raise DataError(f"{path}: rows differ ({counts}); {HOW}")
    ids = np.arange(rows["ep_tdata"], dtype=np.int64)
    mask = np.isfinite(arrays["series"]).astype(np.uint8)
    ignored = [key for key in content if key not in SHAPES]
    return arrays | {"series_mask": mask, "hadm_id": ids, "subject_id": ids}, ignored


def _checked(path: Path, key: str, value: object) -> np.ndarray:
    array = value.value if isinstance(value, Array) else None
    if array is None or array.shape[1:] != SHAPES[key] or not len(array):
        state = "no array of numbers" if array is None else f"of shape {array.shape}"
        needed = ", ".join(map(str, SHAPES[key]))
        raise DataError(f"{path}: {key} is {state}; (N, {needed}) is needed; {HOW}")
    if key in ("ep_tdata", "adm_features_all"):
        return array.astype(np.float64)
    wrong = np.argwhere(~np.isin(array, (0, 1)))
    if len(wrong):
        value = array[tuple(wrong[0])]
        raise DataError(
            f"{path}: {key}, row {wrong[0][0]}, holds {value}; labels are 0 or 1; {HOW}"
        )
    return array.astype(np.int64)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
