"""One raw volume of fastMRI's knee data, as its owners publish it: checked, transformed, cropped,
scaled.

Single-coil file: `kspace` complex64 [S, 640, W], `reconstruction_esc` and `reconstruction_rss`
float32 [S, 320, 320], attributes `acquisition`, `max`, `patient_id`, and an XML header. Multi-coil
file: `kspace` complex64 [S, coils, 640, W].
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np

from fastMRI.preparation.facts import VolumeFacts
from fastMRI.preparation.fourier import PADDED_WIDTH, SIZE, block_mean, image_of
from fastMRI.preparation.hdf5 import array_in, check_slice, open_hdf5
from i2m2.errors import DataError, SettingsError

HEIGHT = 640  # readout samples, twice oversampled
PERCENTILE = 99.5  # of a volume's magnitudes, its scale
TOLERANCE = 1e-4  # of a stored reconstruction's maximum, by which ours may deviate
COMPUTED = {  # what a stored reconstruction is compared with
    "reconstruction_esc": "the inverse FFT",
    "reconstruction_rss": "the root sum of squares",
}
NAMESPACE = {"i": "http://www.ismrm.org/ISMRMRD"}
AS_PUBLISHED = "use the files as fastMRI publishes them"  # what to do
# A download takes days: only where a copy is damaged.
COPY_AGAIN = "copy this file again, or unpack it again from the archive that fastMRI publishes"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a raw volume becomes a prepared one.

    Args:
        geometry: native (as in reconstruction_esc) or official_code (k-space zero-filled to 400
            columns)
        scale: what image and RSS are divided by: the 99.5th percentile of the volume's magnitudes,
            or its `max` attribute
        average: stored pixels are means of so many by so many complex ones
        rss: as stored in the single-coil file, or computed from the coils of the multi-coil file
    """

    geometry: Literal["native", "official_code"] = "native"
    scale: Literal["percentile", "max"] = "percentile"
    average: int = 1
    rss: Literal["file", "coils"] = "file"

    def __post_init__(self) -> None:
        if self.average < 1 or SIZE % self.average:
            raise SettingsError(
                f"--average {self.average} does not divide {SIZE}; "
                "give one of 1, 2, 4, 5, 8, 10, 16, 20"
            )


class Volume(NamedTuple):
    """A prepared volume."""

    image: np.ndarray  # complex64 [S, 320/N, 320/N], in units of facts.scale
    rss: np.ndarray  # float32, likewise
    facts: VolumeFacts


def read_volume(
    path: Path, rules: Rules, multicoil: Path | None = None, last_annotated: int = -1
) -> Volume:
    """Read and transform a raw volume. DataError, in one line, for whatever is wrong with the file.

    `multicoil`: its file with the coils, where rules.rss asks for it; `last_annotated`: the highest
    slice with an annotation.
    """
    esc_deviation = rss_deviation = None
    with open_hdf5(path, COPY_AGAIN) as file:
        kspace = _kspace(path, file, ("slices", HEIGHT, "columns"), "singlecoil")
        slices, _, width = kspace.shape
        _check_fit(path, rules, slices, width, last_annotated)
        acquisition = _attribute(path, file, "acquisition")
        patient = _attribute(path, file, "patient_id")
        scale = _largest(path, file) if rules.scale == "max" else None
        header_width, acquired = _header(path, file)
        image = _images(path, kspace, rules.geometry)
        magnitude = np.abs(image)
        # The other geometry shows the knee stretched, so there is nothing stored that it could be
        # compared with.
        if rules.geometry == "native":
            esc = _target(path, file, "reconstruction_esc", slices)
            esc_deviation = _compare(path, magnitude, "reconstruction_esc", esc)
        rss = _stored_rss(path, file, rules, slices)
    if rules.rss == "coils":
        stored, rss = rss, _rss_of_coils(path, multicoil, slices)
        if stored is not None:
            rss_deviation = _compare(multicoil, rss, "reconstruction_rss", stored)
    if scale is None:
        scale = float(np.percentile(magnitude, PERCENTILE, overwrite_input=True))
    facts = VolumeFacts(
        width=width,
        acquisition=acquisition,
        patient_id=patient,
        header_width=header_width,
        acquired=acquired,
        esc_deviation=esc_deviation,
        rss_deviation=rss_deviation,
        scale=scale,
        source=path.name,
        source_bytes=path.stat().st_size,
    )
    image, rss = (_scaled(path, array, rules.average, scale) for array in (image, rss))
    return Volume(image, rss, facts)


def _check_fit(path: Path, rules: Rules, slices: int, width: int, last_annotated: int) -> None:
    """Whether the geometry takes so many columns, and every annotated slice is there."""
    if rules.geometry == "official_code" and width > PADDED_WIDTH:
        raise DataError(
            f"{path}: {width} columns of k-space, but --geometry official_code takes "
            f"{PADDED_WIDTH} at most; use native"
        )
    if last_annotated >= slices:
        raise DataError(
            f"{path}: slice {last_annotated} is annotated, but there are only 0 to {slices - 1}; "
            "check the annotations"
        )


def _scaled(path: Path, array: np.ndarray, average: int, scale: float) -> np.ndarray:
    """Means of `average` x `average` pixels, in units of `scale`."""
    scale = np.float32(scale)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = block_mean(array, average) / scale
    if not np.isfinite(scaled).all():
        raise DataError(
            f"{path}: cannot be divided by its scale {scale:g} (usual: 1e-5 to 1e-3); {COPY_AGAIN}"
        )
    return scaled


def _kspace(path: Path, file: h5py.File, axes: Sequence[str | int], coils: str) -> h5py.Dataset:
    """The k-space, fully sampled, of the right type and shape."""
    if "mask" in file:
        raise DataError(
            f"{path}: holds a mask, that is under-sampled k-space (test or challenge data); "
            f"use {coils}_train and _val"
        )
    kspace = array_in(path, file, "kspace", AS_PUBLISHED)
    if kspace.ndim != len(axes) or kspace.shape[-2] != HEIGHT or 0 in kspace.shape:
        expected = f"[{', '.join(map(str, axes))}]"
        raise DataError(
            f"{path}: kspace has shape {list(kspace.shape)}, not {expected}; "
            f"use fastMRI's {coils} knee volumes"
        )
    if kspace.dtype != np.complex64:
        raise DataError(f"{path}: kspace is {kspace.dtype}, not complex64; {AS_PUBLISHED}")
    return kspace


def _images(path: Path, kspace: h5py.Dataset, geometry: str) -> np.ndarray:
    """Complex images [S, 320, 320]; k-space is read slice by slice."""
    images = np.empty((len(kspace), SIZE, SIZE), np.complex64)
    for index in range(len(kspace)):
        images[index] = image_of(kspace[index], geometry)
        # One NaN of k-space spreads over the whole image.
        check_slice(path, "k-space", index, images[index], COPY_AGAIN)
    return images


def _target(path: Path, file: h5py.File, key: str, slices: int) -> np.ndarray:
    """A stored reconstruction, float32 [S, 320, 320], every slice a magnitude."""
    stored, shape = array_in(path, file, key, AS_PUBLISHED), (slices, SIZE, SIZE)
    if stored.shape != shape or stored.dtype.kind != "f":
        raise DataError(
            f"{path}: {key} is {stored.dtype} {list(stored.shape)}, not float32 {list(shape)}"
        )
    array = stored[()].astype(np.float32)
    for index, image in enumerate(array):
        check_slice(path, key, index, image, COPY_AGAIN)
    return array


def _stored_rss(path: Path, file: h5py.File, rules: Rules, slices: int) -> np.ndarray | None:
    """reconstruction_rss, which may be missing where RSS is computed from the coils."""
    if rules.rss == "coils" and "reconstruction_rss" not in file:
        return None
    return _target(path, file, "reconstruction_rss", slices)


def _attribute(path: Path, file: h5py.File, key: str) -> str:
    if not (text := _text(file.attrs.get(key, b""))):
        raise DataError(f"{path}: has no attribute {key}; {AS_PUBLISHED}")
    return text


def _largest(path: Path, file: h5py.File) -> float:
    """The attribute `max`, a positive number."""
    largest = file.attrs.get("max")
    try:
        number = float(np.asarray(largest).item())
    except (TypeError, ValueError):  # none, several, or text
        number = math.nan
    if not 0 < number < math.inf:
        shown = " ".join(_text(largest).split())
        raise DataError(
            f"{path}: attribute max is {shown}, not a positive number; use --scale percentile"
        )
    return number


def _text(value: object) -> str:
    """Text that was written as str, as bytes, or as an array of one of them."""
    if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1:
        value = value.item()
    # h5py leaves bytes that are no UTF-8 in a str, which could not be written again.
    content = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return content.decode("utf-8", "replace").strip()


def _header(path: Path, file: h5py.File) -> tuple[int, tuple[int, int]]:
    """-> the width that the header announces, and the columns [left, right) that were measured."""
    text = _text(array_in(path, file, "ismrmrd_header", AS_PUBLISHED)[()])
    try:
        encoding = ElementTree.fromstring(text).find("i:encoding", NAMESPACE)
        width = int(encoding.find("i:encodedSpace/i:matrixSize/i:y", NAMESPACE).text)
        limits = encoding.find("i:encodingLimits/i:kspace_encoding_step_1", NAMESPACE)
        left = width // 2 - int(limits.find("i:center", NAMESPACE).text)
        return width, (left, left + int(limits.find("i:maximum", NAMESPACE).text) + 1)
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: ismrmrd_header is not fastMRI's XML ({error}); {COPY_AGAIN}"
        ) from error


def _compare(path: Path, image: np.ndarray, key: str, stored: np.ndarray) -> float:
    """Largest difference from a stored reconstruction, which our crop must show, as a share of its
    maximum."""
    deviation = float(np.abs(image - stored).max()) / float(stored.max())
    if not deviation <= TOLERANCE:
        raise DataError(
            f"{path}: {COMPUTED[key]} of kspace deviates from {key} by {deviation:.2g} of its "
            f"maximum, more than {TOLERANCE:g}; kspace and reconstruction do not belong together"
        )
    return deviation


def _rss_of_coils(path: Path, multicoil: Path | None, slices: int) -> np.ndarray:
    """Root sum of squares over the coils, float32 [S, 320, 320]; always in the native geometry,
    like reconstruction_rss."""
    if multicoil is None:
        raise DataError(
            f"{path}: the multi-coil folders have no volume of this name; RSS cannot be computed"
        )
    rss = np.zeros((slices, SIZE, SIZE), np.float32)
    with open_hdf5(multicoil, COPY_AGAIN) as file:
        kspace = _kspace(multicoil, file, ("slices", "coils", HEIGHT, "columns"), "multicoil")
        if len(kspace) != slices:
            raise DataError(
                f"{multicoil}: {len(kspace)} slices, but the single-coil volume has {slices}"
            )
        for index in range(slices):
            for coil in kspace[index]:
                image = image_of(coil)
                rss[index] += image.real**2 + image.imag**2
            check_slice(multicoil, "k-space", index, rss[index], COPY_AGAIN)
    return np.sqrt(rss)
