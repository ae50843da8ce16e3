"""Raw volumes and lists in the public layout, small enough for tests."""

from __future__ import annotations

import csv

import h5py
import numpy as np

WIDTHS = (320, 368, 369, 372, 386, 400, 404, 300, 301)
HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>640</x><y>{width}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>320</x><y>320</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1>
<minimum>0</minimum><maximum>{last}</maximum><center>{center}</center>
</kspace_encoding_step_1></encodingLimits></encoding></ismrmrdHeader>"""
NO_ROWS = "file,slice,study_level,x,y,width,height,label\n"


def kspace_of(image: np.ndarray) -> np.ndarray:
    """Forward transform in double precision: complex [..., H, W] -> complex64."""
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes), norm="ortho"), axes)
    return kspace.astype(np.complex64)


def knee(width: int, slices: int = 2, seed: int = 0, height: int = 640) -> np.ndarray:
    """Complex image [S, height, width] of the real data's magnitude, with a bright centre and a
    phase that differs everywhere."""
    rng = np.random.default_rng([seed, width])
    y = (np.arange(height) - height // 2)[:, None]
    x = np.arange(width) - width // 2
    body = 3e-4 * np.exp(-((y / 90.0) ** 2) - (x / 80.0) ** 2)
    noise = rng.normal(scale=1e-5, size=(slices, height, width, 2))
    return body * np.exp(1j * (x / 40 + y / 70)) + noise[..., 0] + 1j * noise[..., 1]


def centre(image: np.ndarray) -> np.ndarray:
    """The 320 x 320 pixels around index n // 2 of a native image, padded where it is narrower."""
    width = image.shape[-1]
    cut = image[..., 160:480, max(width // 2 - 160, 0) : width // 2 + 160]
    left = max(160 - width // 2, 0)
    return np.pad(cut, [(0, 0)] * (image.ndim - 1) + [(left, 320 - left - cut.shape[-1])])


def write_raw(path, image, patient="p0", kind=str, **changed):
    """A single-coil file in the public layout, its texts stored as `kind`.

    `changed` replaces an array, or leaves it out where it is None.
    """
    height, width = image.shape[-2:]
    esc = np.zeros((len(image), 320, 320), np.float32)
    if height == 640:
        esc = np.abs(centre(image)).astype(np.float32)
    header = HEADER.format(width=width, last=width - 1, center=width // 2)
    arrays = {
        "kspace": kspace_of(image),
        "reconstruction_esc": esc,
        "reconstruction_rss": 1.1 * esc,
        "ismrmrd_header": header,
    }
    attributes = {"acquisition": "CORPD_FBK", "max": esc.max(), "norm": 1.0, "patient_id": patient}

    def stored(value):
        return np.bytes_(value) if isinstance(value, str) and kind is bytes else value

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in {**arrays, **changed}.items():
            if array is not None:
                file[key] = stored(array)
        for key, value in attributes.items():
            file.attrs[key] = stored(value)


def write_lists(folder, names, rows=""):
    (folder / "knee.csv").write_text(NO_ROWS + rows)
    (folder / "knee_file_list.csv").write_text("\n".join([*names, "Knee data"]) + "\n")


def write_few(folder):
    """Five volumes of one slice; the last one is annotated."""
    names = [f"file10000{index:02}" for index in range(5)]
    for index, name in enumerate(names):
        write_raw(folder / "singlecoil_train" / f"{name}.h5", knee(320, 1, index), f"p{index}")
    write_lists(folder, names, "file1000004,0,No,1,2,3,4,Meniscus Tear\n")
    return folder


def arguments(raw, out, *more):
    lists = ["--annotations", str(raw / "knee.csv"), "--file-list", str(raw / "knee_file_list.csv")]
    return ["--raw", str(raw), *lists, "--out", str(out), "--workers", "1", *more]


def stored(out, name, key="image"):
    with h5py.File(out / "volumes" / f"{name}.h5") as file:
        return file[key][()], dict(file.attrs)


def rows_of(out):
    with open(out / "slices.csv", newline="") as file:
        return list(csv.DictReader(file))
