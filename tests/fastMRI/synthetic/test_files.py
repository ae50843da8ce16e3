"""Generated files have fastMRI's format, and the lists fastMRI+'s quirks."""

import csv
import dataclasses
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from fastMRI.make_synthetic import make_volumes
from fastMRI.synthetic.files import FAULTS, annotations, write_faulty
from fastMRI.synthetic.images import crop, make_volume, to_image
from fastMRI.synthetic.plan import LABELS, WIDTHS, Strengths
from i2m2.errors import SettingsError
from tests.fastMRI.synthetic.tiny_plans import SLICES, files, plans

NAMESPACE = {"m": "http://www.ismrm.org/ISMRMRD"}


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "knee.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_files_have_fastmri_keys_types_shapes_and_attributes(made):
    for path in files(made):
        with h5py.File(path) as file:
            reconstructions = {"reconstruction_esc", "reconstruction_rss"}
            assert set(file) == {"ismrmrd_header", "kspace"} | reconstructions
            slices, height, width = file["kspace"].shape
            assert height == 640 and width in WIDTHS and SLICES[0] <= slices <= SLICES[1]
            assert file["kspace"].dtype == np.complex64
            assert isinstance(file["ismrmrd_header"][()], bytes)
            for key in reconstructions:
                assert file[key].shape == (slices, 320, 320) and file[key].dtype == np.float32
                assert np.isfinite(file[key]).all()
            esc, attributes = file["reconstruction_esc"][:].astype(float), dict(file.attrs)
        assert set(attributes) == {"acquisition", "max", "norm", "patient_id"}
        assert attributes["acquisition"] in ("CORPD_FBK", "CORPDFS_FBK")
        assert len(attributes["patient_id"]) == 64
        assert attributes["max"] == esc.max()
        assert attributes["norm"] == pytest.approx(np.linalg.norm(esc), rel=1e-9)
        assert 1e-5 < np.sqrt((esc**2).mean()) < 1.2e-4
    folders = [path.parent.name for path in files(made)]
    assert folders == ["singlecoil_train"] * 5 + ["singlecoil_val", "singlecoil_train"]


def test_header_gives_the_columns_that_are_not_zero(made):
    masked = 0
    for path in files(made):
        with h5py.File(path) as file:
            root, kspace = ElementTree.fromstring(file["ismrmrd_header"][()]), file["kspace"][:]

        def number(where: str, root=root) -> int:
            path = "/".join(f"m:{tag}" for tag in where.split("/"))
            return int(root.findtext(path, namespaces=NAMESPACE))

        encoded = [number(f"encoding/encodedSpace/matrixSize/{axis}") for axis in "xyz"]
        assert encoded == [640, kspace.shape[-1], 1]
        assert [number(f"encoding/reconSpace/matrixSize/{axis}") for axis in "xyz"] == [320, 320, 1]
        limits = "encoding/encodingLimits/kspace_encoding_step_1"
        left = encoded[1] // 2 - number(f"{limits}/center")
        right = left + number(f"{limits}/maximum") + 1
        measured = np.flatnonzero((kspace != 0).any((0, 1)))
        assert (measured[0], measured[-1] + 1) == (left, right) and len(measured) == right - left
        masked += left > 0
    assert masked == 2


def test_two_volumes_of_ten_share_a_patient(made):
    patients = Counter(h5py.File(path).attrs["patient_id"] for path in files(made))
    assert sorted(patients.values()) == [1] * 5 + [2]


def test_lists_have_the_quirks_of_the_real_ones(made):
    lines, names = rows(made), [path.stem for path in files(made)]
    assert (made / "knee_file_list.csv").read_text().split("\n") == [*names, "Knee data", ""]
    head = "file,slice,study_level,x,y,width,height,label\n"
    assert (made / "knee.csv").read_text().startswith(head)
    studies = [row for row in lines if row["study_level"] == "Yes"]
    assert studies
    for row in studies:
        assert (row["slice"], row["label"], row["x"]) == ("0", "artifact", "")
    boxes = [row for row in lines if row["study_level"] == "No"]
    with_boxes = {row["file"] for row in boxes}
    assert with_boxes < set(names) and {row["file"] for row in studies} - with_boxes
    assert any(row["label"] == "Joint Effusion " and row["y"] == "-1" for row in boxes)
    assert any(row["height"] == "0" for row in boxes)
    counts = Counter(tuple(row.values()) for row in lines)
    repeated = [key for key, count in counts.items() if count > 1]
    assert repeated and len({key[0] for key in repeated}) == 1
    assert {row["label"] for row in boxes} <= set().union(*LABELS.values())
    order = list(dict.fromkeys(row["file"] for row in lines))
    assert order != sorted(order)


def test_lists_stay_within_image_and_volume(made):
    slices = {path.stem: len(h5py.File(path)["kspace"]) for path in files(made)}
    boxes = [row for row in rows(made) if row["study_level"] == "No"]
    for row in boxes:
        x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + width <= 320
        assert y >= -1 and y + height <= 320
        assert 0 <= int(row["slice"]) < slices[row["file"]]


def test_a_slice_beyond_the_volume_is_annotated_on_request(tmp_path):
    made = make_volumes(tmp_path / "raw", 2, slices=(1, 1), workers=1, row_beyond=True)
    slices = {plan.name: plan.slices for plan in made}
    lines = rows(tmp_path / "raw")
    beyond = [row for row in lines if int(row["slice"]) >= slices[row["file"]]]
    assert beyond == lines[-1:]


def test_boxes_are_where_the_image_changes():
    """In arrays, rows run against y: row = 320 - y - height."""
    sites = [(plan, site) for plan in plans(40, Strengths(1, 0, 0)) for site in plan.sites]
    loud = [one for one in sites if one[1].task == "acl" and one[1].change > 0.5]
    plan, site = next(one for one in loud if one[1].first == 0)
    plan = dataclasses.replace(plan, sites=(site,), slices=1, acquired=plan.width)
    without = dataclasses.replace(plan, sites=())
    change = make_volume(plan, 0).esc[0] / make_volume(without, 0).esc[0] - 1
    box = annotations([plan])[0]
    rows, columns = np.nonzero(change > site.change / 3)
    assert abs(rows.min() - (320 - box.y - box.height)) <= 2
    assert abs(rows.max() + 1 - (320 - box.y)) <= 2
    assert abs(columns.min() - box.x) <= 2
    assert abs(columns.max() + 1 - box.x - box.width) <= 2


def test_faulty_files_have_their_fault(tmp_path):
    plan = dataclasses.replace(plans(1)[0], slices=1)
    with pytest.raises(SettingsError, match="fault='late' is unknown"):
        write_faulty(tmp_path / "file.h5", plan, 0, "late")
    for fault in FAULTS:
        path = tmp_path / f"{fault}.h5"
        write_faulty(path, plan, 0, fault)
        if fault == "truncated":
            with pytest.raises(OSError):
                h5py.File(path)
            continue
        with h5py.File(path) as file:
            kind, _, what = fault.partition(" ")
            if kind == "no":
                assert what not in file and what not in file.attrs
            elif kind == "nan":
                assert np.isnan(file[what.removeprefix("in ")][:]).sum() == 1
            elif kind == "height":
                assert file["kspace"].shape[1] == 512
            else:
                image = np.abs(crop(to_image(file["kspace"][:])))
                assert np.abs(image - file["reconstruction_esc"][:]).max() > 0.5
