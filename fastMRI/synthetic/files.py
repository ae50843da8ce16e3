"""Synthetic volumes as files: fastMRI's HDF5 layout and header, fastMRI+'s two lists with their
quirks, damaged files for tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from fastMRI.synthetic.images import COILS, CROP, HEIGHT, PIXEL_MM, Volume, make_volume
from fastMRI.synthetic.plan import LABELS, Plan
from i2m2.errors import SettingsError
from i2m2.files import write_atomic, write_text

HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <studyInformation><studyTime>00:00:00</studyTime></studyInformation>
  <measurementInformation><protocolName>SYNTHETIC</protocolName></measurementInformation>
  <acquisitionSystemInformation>
    <systemVendor>SYNTHETIC</systemVendor><receiverChannels>{coils}</receiverChannels>
  </acquisitionSystemInformation>
  <experimentalConditions>\
<H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz>\
</experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{height}</x><y>{width}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{height_mm:g}</x><y>{width_mm:g}</y><z>4.5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{crop}</x><y>{crop}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{crop_mm:g}</x><y>{crop_mm:g}</y><z>3</z></fieldOfView_mm>
    </reconSpace>
    <trajectory>cartesian</trajectory>
    <encodingLimits>
      <kspace_encoding_step_1>\
<minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center>\
</kspace_encoding_step_1>
      <kspace_encoding_step_2>\
<minimum>0</minimum><maximum>0</maximum><center>0</center>\
</kspace_encoding_step_2>
      <slice><minimum>0</minimum><maximum>{last}</maximum><center>0</center></slice>
    </encodingLimits>
  </encoding>
</ismrmrdHeader>
"""


class Row(NamedTuple):
    """A line of knee.csv; the box is empty in study-level rows."""

    file: str
    slice: int
    study_level: str
    x: int | str
    y: int | str
    width: int | str
    height: int | str
    label: str


def write_singlecoil(path: Path, plan: Plan, volume: Volume) -> None:
    """One file of singlecoil_train or singlecoil_val."""
    arrays = {
        "kspace": volume.kspace,
        "reconstruction_esc": volume.esc,
        "reconstruction_rss": volume.rss,
    }
    _write(path, plan, arrays, volume.esc)


def write_multicoil(path: Path, plan: Plan, volume: Volume) -> None:
    """One file of multicoil_train or multicoil_val, of a volume made with its coils."""
    _write(path, plan, {"kspace": volume.coils, "reconstruction_rss": volume.rss}, volume.rss)


def _write(path: Path, plan: Plan, arrays: dict[str, np.ndarray], target: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file["ismrmrd_header"] = header(plan, arrays["kspace"].shape[-2])
            for key, array in arrays.items():
                file[key] = array
            file.attrs["acquisition"] = "CORPDFS_FBK" if plan.fat_suppressed else "CORPD_FBK"
            file.attrs["max"] = float(target.max())
            file.attrs["norm"] = float(np.linalg.norm(target.astype(np.float64)))
            file.attrs["patient_id"] = plan.patient

    write_atomic(path, write)


def header(plan: Plan, height: int = HEIGHT) -> bytes:
    """The ISMRMRD header; `encodingLimits` say which columns were measured."""
    text = HEADER.format(
        coils=COILS,
        height=height,
        width=plan.width,
        crop=CROP,
        height_mm=height * PIXEL_MM,
        width_mm=plan.width * PIXEL_MM,
        crop_mm=CROP * PIXEL_MM,
        maximum=plan.acquired - 1,
        center=plan.acquired // 2,
        last=plan.slices - 1,
    )
    return text.encode()


def write_lists(out: Path, plans: list[Plan], row_beyond: bool = False) -> None:
    """Write knee.csv and knee_file_list.csv; `row_beyond` adds an annotated slice that its volume
    does not have."""
    rows = annotations(plans)
    if row_beyond:
        last = next(row for row in reversed(rows) if row.study_level == "No")
        slices = {plan.name: plan.slices for plan in plans}
        rows.append(last._replace(slice=slices[last.file]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    write_text(out / "knee.csv", text.getvalue())
    names = [plan.name for plan in plans]
    write_text(out / "knee_file_list.csv", "\n".join([*names, "Knee data"]) + "\n")


def annotations(plans: list[Plan]) -> list[Row]:
    """Every finding's box in every slice, and the irregularities of the real file.

    Slices ascend within a volume; volumes ascend twice, since there, too, a late batch of them
    comes at the end.
    """
    rows = {plan.name: _boxes(plan) for plan in plans}
    _add_duplicates(rows)
    _add_empty_box(rows)
    _add_tall_boxes(rows)
    healthy = [plan.name for plan in plans if not rows[plan.name]]
    about_study = [*healthy[:1], *(plan.name for plan in plans[3::80])]
    for name in dict.fromkeys(about_study):  # not labels of slice 0, despite the zero
        rows[name].insert(0, Row(name, 0, "Yes", "", "", "", "", "artifact"))
    late = [plan.name for plan in plans if plan.index % 6 == 2]
    order = [plan.name for plan in plans if plan.name not in late] + late
    return [row for name in order for row in rows[name]]


def _boxes(plan: Plan) -> list[Row]:
    rows = []
    for site in plan.sites:
        if not site.finding:
            continue
        width, height = round(site.width), round(site.height)
        for index in range(site.first, site.last + 1):
            x, y = site.centre(index)
            left, low = round(x - width / 2), round(y - height / 2)
            rows.append(Row(plan.name, index, "No", left, low, width, height, site.label))
    return sorted(rows, key=lambda row: row.slice)


def _add_duplicates(rows: dict[str, list[Row]]) -> None:
    """Up to five exact duplicates, all in one volume."""
    for boxes in rows.values():
        torn = [index for index, row in enumerate(boxes) if row.label == "Meniscus Tear"]
        if torn:
            for index in reversed(torn[:5]):
                boxes.insert(index, boxes[index])
            return


def _add_empty_box(rows: dict[str, list[Row]]) -> None:
    """One box of height 0, in the last volume that has a suitable one."""
    for boxes in reversed(rows.values()):
        for index, row in enumerate(boxes):
            if row.label.startswith("Cartilage"):
                boxes[index] = row._replace(height=0)
                return


def _add_tall_boxes(rows: dict[str, list[Row]]) -> None:
    """Effusions whose box begins above the image, at y = -1: one in each of the first volumes that
    can have one, at most six."""
    left = max(1, min(6, len(rows) // 12))
    for boxes in rows.values():
        places = [index for index, row in enumerate(boxes) if row.label in LABELS["others"]]
        if places and left:
            row = boxes[places[0]]
            tall = row._replace(y=-1, height=row.y + row.height + 1, label="Joint Effusion ")
            boxes[places[0]] = tall
            left -= 1


def _drop(key: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(key)


def _spoil(key: str, value: complex | float) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        file[key][0, 160, 160] = value

    return spoil


FAULTS: dict[str, Callable[[h5py.File], None]] = {
    "no kspace": _drop("kspace"),
    "no reconstruction_esc": _drop("reconstruction_esc"),
    "no reconstruction_rss": _drop("reconstruction_rss"),
    "no ismrmrd_header": _drop("ismrmrd_header"),
    "no patient_id": lambda file: file.attrs.__delitem__("patient_id"),
    "nan in kspace": _spoil("kspace", np.nan),
    "nan in reconstruction_rss": _spoil("reconstruction_rss", np.nan),
    "esc of another image": _spoil("reconstruction_esc", 1.0),
    "height 512": lambda file: None,
    "truncated": lambda file: None,
}


def write_faulty(path: Path, plan: Plan, seed: int, fault: str) -> None:
    """A single-coil file with one of the FAULTS, for the error paths of what reads the files."""
    if fault not in FAULTS:
        raise SettingsError(f"fault={fault!r} is unknown; choose one of {', '.join(FAULTS)}")
    height = 512 if fault == "height 512" else HEIGHT
    write_singlecoil(path, plan, make_volume(plan, seed, height=height))
    with h5py.File(path, "r+") as file:
        FAULTS[fault](file)
    if fault == "truncated":
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
