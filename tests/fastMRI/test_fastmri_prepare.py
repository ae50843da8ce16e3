"""fastMRI's preparation: annotations and split of the published lists, transforms, every width,
restarts, and bad input."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest

from fastMRI.pictures import read_boxes
from fastMRI.preparation import cache
from fastMRI.preparation.fourier import block_mean, centred_ifft, fit, image_of
from fastMRI.preparation.labels import (
    LABELS,
    VOCABULARY,
    audit_labels,
    label_of,
    read_annotations,
    read_file_list,
)
from fastMRI.preparation.split import digest, split, split_volumes
from fastMRI.preparation.volumes import Rules, find_volumes, read_volume
from fastMRI.prepare import main
from i2m2.errors import DataError, SettingsError

WIDTHS = (320, 368, 369, 372, 386, 400, 404, 300, 301)
HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>640</x><y>{width}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>320</x><y>320</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{center}</center>
</kspace_encoding_step_1></encodingLimits></encoding></ismrmrdHeader>"""
NO_ROWS = "file,slice,study_level,x,y,width,height,label\n"


def kspace_of(image: np.ndarray) -> np.ndarray:
    """Forward transform in double precision: complex [..., H, W] -> complex64."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes), norm="ortho"), axes).astype(
        np.complex64
    )


def knee(width: int, slices: int = 2, seed: int = 0, height: int = 640) -> np.ndarray:
    """Complex image [S, height, width] of the real data's magnitude, with a bright centre and a
    phase that differs everywhere."""
    rng = np.random.default_rng([seed, width])
    y, x = np.meshgrid(
        np.arange(height) - height // 2, np.arange(width) - width // 2, indexing="ij"
    )
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
    """A single-coil file in the public layout; `changed` replaces an array, or leaves it out where
    it is None."""
    esc = (
        np.abs(centre(image)).astype(np.float32)
        if image.shape[-2] == 640
        else np.zeros((len(image), 320, 320), np.float32)
    )
    width = image.shape[-1]
    header = HEADER.format(width=width, last=width - 1, center=width // 2)
    arrays = {
        "kspace": kspace_of(image),
        "reconstruction_esc": esc,
        "reconstruction_rss": 1.1 * esc,
        "ismrmrd_header": header,
    }
    attributes = {"acquisition": "CORPD_FBK", "max": esc.max(), "norm": 1.0, "patient_id": patient}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in {**arrays, **changed}.items():
            if array is not None:
                file[key] = np.bytes_(array) if isinstance(array, str) and kind is bytes else array
        for key, value in attributes.items():
            file.attrs[key] = (
                np.bytes_(value) if isinstance(value, str) and kind is bytes else value
            )


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


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """One volume of every width; two volumes of one patient, two annotated volumes, and the lists'
    irregularities."""
    folder = tmp_path_factory.mktemp("knees")
    names = [f"file10000{index:02}" for index in range(len(WIDTHS))]
    for index, (name, width) in enumerate(zip(names, WIDTHS, strict=True)):
        part = "val" if index > 6 else "train"
        patient = f"p{min(index, 7)}"  # the last two are one patient's
        write_raw(
            folder / f"singlecoil_{part}" / f"{name}.h5",
            knee(width),
            patient,
            bytes if index % 2 else str,
        )
    write_lists(
        folder,
        [*names, "file1000099"],
        "file1000000,0,Yes,,,,,artifact\n"
        "file1000001,1,No,90,173,35,10,Joint Effusion \n"
        "file1000001,1,No,90,173,35,10,Joint Effusion \n"
        "file1000001,1,No,90,-1,35,0,Ligament - ACL Low Grade sprain\n"
        "file1000003,0,No,1,2,3,4,Baker's thing\n"
        "file1000003,0,No,1,2,3,4,Meniscus Tear\n",
    )
    (folder / "singlecoil_test").mkdir()
    write_raw(folder / "singlecoil_test/file1000077.h5", knee(368, 1), mask=np.ones(368))
    return folder


def arguments(raw, out, *more):
    lists = ["--annotations", str(raw / "knee.csv"), "--file-list", str(raw / "knee_file_list.csv")]
    return ["--raw", str(raw), *lists, "--out", str(out), "--workers", "1", *more]


@pytest.fixture(scope="session")
def prepared(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "fastmri"
    main(arguments(raw, out))
    return out


@pytest.fixture
def few(tmp_path):
    """Five small volumes of their own: a folder that a test may spoil."""
    return write_few(tmp_path / "raw")


@pytest.fixture(scope="session")
def few_prepared(tmp_path_factory):
    """-> raw folder, prepared folder of five volumes of one slice; not to be changed."""
    folder = tmp_path_factory.mktemp("few")
    main(arguments(write_few(folder / "raw"), folder / "out", "--average", "4"))
    return folder / "raw", folder / "out"


def stored(out, name, key="image"):
    with h5py.File(out / "volumes" / f"{name}.h5") as file:
        return file[key][()], dict(file.attrs)


def rows_of(out):
    with open(out / "slices.csv", newline="") as file:
        return list(csv.DictReader(file))


# ----------------------------------------------------------------------------------------------------
# the published lists


@pytest.fixture(scope="session")
def published(shared):
    """Folder of fastMRI+'s lists."""
    folder = shared / "data/fastmri_plus"
    if not folder.is_dir():
        pytest.skip(f"no fastMRI+ annotations at {folder}")
    return folder


@pytest.fixture(scope="session")
def parts(published):
    """What the audit says of the parts."""
    listed, stray = read_file_list(published / "knee_file_list.csv")
    return audit_labels(listed, stray, read_annotations(published / "knee.csv"))["parts"]


def test_published_annotations_have_the_known_counts(published, capsys):
    main(
        [
            "--annotations",
            str(published / "knee.csv"),
            "--file-list",
            str(published / "knee_file_list.csv"),
            "--audit-labels",
        ]
    )
    audit = json.loads(capsys.readouterr().out)
    counts = {label: tuple(entry.values()) for label, entry in audit["labels"].items()}
    assert counts == {
        "others": (5_453, 4_484, 577),
        "meniscus": (5_658, 4_858, 663),
        "acl": (1_443, 1_439, 254),
        "cartilage": (3_600, 2_986, 594),
        "any": (16_154, 9_581, 969),
    }
    assert list(audit["slices_with_both"].values()) == [1_173, 449, 812, 674, 1_744, 432]
    assert audit["slices_by_number_of_labels"] == {"1": 6_379, "2": 2_332, "3": 756, "4": 114}
    assert audit["volumes_by_number_of_labels"] == {"1": 287, "2": 320, "3": 287, "4": 75}
    assert (audit["volumes"], audit["volumes_without_rows"], audit["volumes_without_findings"]) == (
        1_172,
        198,
        203,
    )
    assert (audit["study_level"], audit["duplicates"], audit["trailing_blanks"]) == (
        {"rows": 13, "volumes": 13},
        5,
        1_311,
    )
    assert (
        audit["stray_lines"],
        audit["unknown_labels"],
        audit["annotated_volumes_not_listed"],
    ) == (["Knee data"], {}, [])


@pytest.mark.parametrize(
    "part, sizes, slices, volumes, sha256",
    [
        (
            "train",
            (820, 676, 6_715),
            (3_033, 3_502, 1_066, 2_050),
            (399, 474, 190, 407),
            "7d2ffe50ab1bc3c0",
        ),
        ("val", (176, 144, 1_406), (759, 593, 186, 437), (94, 91, 32, 84), "9613ade53ebebc13"),
        ("test", (176, 149, 1_460), (692, 763, 187, 499), (84, 98, 32, 103), "9df998dc12544f57"),
    ],
)
def test_published_list_is_split_as_known(parts, part, sizes, slices, volumes, sha256):
    found = parts[part]
    assert (found["volumes"], found["annotated_volumes"], found["annotated_slices"]) == sizes
    assert tuple(found["labels"][label]["slices"] for label in LABELS) == slices
    assert tuple(found["labels"][label]["volumes"] for label in LABELS) == volumes
    assert found["sha256"] == sha256


def test_published_strings_have_the_known_counts(published):
    known = {
        "Meniscus Tear": (5_658, 4_858, 663),
        "Cartilage - Partial Thickness loss/defect": (2_985, 2_659, 588),
        "Joint Effusion": (1_311, 1_003, 142),
        "Bone-Fracture/Contusion/dislocation": (1_060, 914, 119),
        "Bone- Subchondral edema": (986, 883, 196),
        "Periarticular cysts": (864, 849, 161),
        "Ligament - ACL Low Grade sprain": (765, 765, 153),
        "Ligament - ACL High Grade Sprain": (678, 674, 101),
        "Cartilage - Full Thickness loss/defect": (615, 559, 122),
        "Ligament - MCL Low-Mod Grade Sprain": (285, 285, 121),
        "Displaced Meniscal Tissue": (232, 225, 56),
        "Bone - Lesion": (183, 173, 29),
        "Ligament - PCL Low-Mod grade sprain": (142, 140, 40),
        "LCL Complex - Low-Mod Grade Sprain": (130, 129, 48),
        "Soft Tissue Lesion": (90, 90, 10),
        "Muscle Strain": (65, 60, 11),
        "Joint Bodies": (38, 38, 11),
        "Patellar Retinaculum - High grade sprain": (24, 24, 4),
        "Ligament - PCL High Grade": (18, 17, 3),
        "LCL Complex- High Grade Sprain": (14, 13, 3),
        "Ligament - MCL High Grade sprain": (11, 11, 4),
    }
    listed, stray = read_file_list(published / "knee_file_list.csv")
    audit = audit_labels(listed, stray, read_annotations(published / "knee.csv"))
    assert {
        finding: tuple(counts.values()) for finding, counts in audit["findings"].items()
    } == known
    assert list(audit["findings"]) == list(known)
    assert known.keys() | {"artifact"} == VOCABULARY  # whose 13 rows are all of the study level


def test_published_boxes_are_read_with_their_irregularities(published):
    boxes = [box for found in read_boxes(published / "knee.csv").values() for box in found]
    assert len(boxes) == 16_154
    assert (
        sum(box.top + box.height == 321 for box in boxes) == 6
    )  # begins at y = -1, counted from below
    assert sum(box.height == 0 for box in boxes) == 1


def test_parts_begin_with_the_known_names(published):
    part_of = split(read_file_list(published / "knee_file_list.csv")[0])
    first = {
        part: [name[-4:] for name in sorted(part_of) if part_of[name] == part][:3]
        for part in ("train", "val", "test")
    }
    assert first == {
        "train": ["0000", "0003", "0005"],
        "val": ["0001", "0007", "0021"],
        "test": ["0002", "0015", "0039"],
    }


def test_first_rule_that_fits_decides():
    expected = {
        "Ligament - ACL High Grade Sprain": "acl",
        "Ligament - PCL High Grade": "others",
        "Ligament - MCL Low-Mod Grade Sprain": "others",
        "LCL Complex- High Grade Sprain": "others",
        "Meniscus Tear": "meniscus",
        "Displaced Meniscal Tissue": "others",
        "Cartilage - Full Thickness loss/defect": "cartilage",
        "loss of CARTILAGE": "cartilage",
        "artifact": "others",
    }
    assert {finding: label_of(finding) for finding in expected} == expected


@pytest.mark.parametrize(
    "text, says",
    [
        ("file,slice,label\nfile1,0,x\n", "no column study_level"),
        (
            NO_ROWS + "file1000000,-1,No,1,2,3,4,Meniscus Tear\n",
            "line 2: file 'file1000000', slice '-1'",
        ),
        (NO_ROWS + "file1000000,3,maybe,1,2,3,4,Meniscus Tear\n", "study_level 'maybe'"),
        (NO_ROWS + "file1000000,3,No,1,2,3,4, \n", "label ' '"),
        (NO_ROWS + "file1000000,3,No\n", "line 2 has not 8 fields"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_annotations_are_refused(tmp_path, text, says):
    path = tmp_path / "knee.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=says):
        read_annotations(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Knee data\n",
        "file1\nKnee data\nfile2\n",
        "file1\nfile1\n",
        "file1\na\nb\n",
        NO_ROWS + "file1000000,0\n",
    ],
)
def test_bad_file_list_is_refused(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match="list.csv: .*knee_file_list.csv"):
        read_file_list(tmp_path / "list.csv")


def test_patients_stay_together_and_crossings_are_counted():
    names = [f"file{index}" for index in range(40)]
    parts = split(names)
    crossing = [next(name for name in names if parts[name] == part) for part in ("train", "test")]
    alone = {name: name for name in names}
    assert split_volumes(names, alone, "auto") == split_volumes(names, alone, "volume")
    twice = alone | dict.fromkeys(crossing, "p")
    part_of, facts = split_volumes(names, twice, "auto")
    assert (
        facts["by"],
        facts["patients_with_several_volumes"],
        facts["patients_crossing_parts_by_volume"],
    ) == ("patient", 1, 1)
    assert len({part_of[name] for name in crossing}) == 1
    assert part_of == {name: split(twice.values())[patient] for name, patient in twice.items()}
    part_of, facts = split_volumes(names, twice, "volume")
    assert (part_of, facts["by"], facts["patients_crossing_parts_by_volume"]) == (
        parts,
        "volume",
        1,
    )
    some = dict(
        list(alone.items())[:7]
    )  # a volume's part does not depend on which others are there
    part_of, facts = split_volumes(names, some, "volume")
    assert part_of == {name: parts[name] for name in some}
    assert facts["listed_by_volume_sha256"]["val"] == digest(
        name for name in names if parts[name] == "val"
    )


def test_a_few_volumes_are_prepared_for_looking_at_them_and_are_all_train(few, tmp_path, capsys):
    for index in (3, 4):
        (few / f"singlecoil_train/file100000{index}.h5").unlink()
    write_lists(few, [f"file100000{index}" for index in range(3)])
    main(arguments(few, tmp_path / "out"))
    assert "no volume in val and test: too few to train with" in capsys.readouterr().out
    assert {row["part"] for row in rows_of(tmp_path / "out")} == {"train"}
    main(["--check", str(tmp_path / "out"), "--workers", "1"])


# ---------------------------------------------------------------------------------------------------------------
# transforms


@pytest.mark.parametrize("n", [1, 2, 8, 9, 15])
def test_inverse_fft_equals_the_sum_it_stands_for(n):
    rng = np.random.default_rng(n)
    kspace = rng.normal(size=(n, 3)) + 1j * rng.normal(size=(n, 3))
    index = np.arange(n) - n // 2
    direct = np.exp(2j * np.pi * np.outer(index, index) / n) @ kspace / np.sqrt(n)
    assert np.allclose(centred_ifft(kspace, 0), direct)
    assert np.allclose(centred_ifft(kspace.T, 1), direct.T)


@pytest.mark.parametrize("old", range(1, 12))
@pytest.mark.parametrize("new", [1, 4, 7])
def test_fit_keeps_the_centre(old, new):
    marked = np.zeros((2, old))
    marked[:, old // 2] = 1
    fitted = fit(marked, new, -1)
    assert fitted.shape == (2, new) and (fitted[:, new // 2] == 1).all() and fitted.sum() == 2


@pytest.mark.parametrize("width", WIDTHS)
def test_native_image_is_the_centre_of_the_transformed_one(width):
    image = knee(width, 1)[0]
    found = image_of(kspace_of(image))
    assert found.dtype == np.complex64
    assert np.abs(found - centre(image)).max() < 1e-6 * np.abs(image).max()


@pytest.mark.parametrize("width", [320, 368, 369, 372, 400])
def test_official_geometry_stretches_the_image_about_its_centre(width):
    """A blob 60 columns off the centre appears 60 * 400/W columns off it, dimmer, and with its
    phase."""
    y, x = np.meshgrid(np.arange(640) - 320, np.arange(width) - width // 2, indexing="ij")
    blob = np.exp(-(((x - 60) / 4) ** 2) - ((y - 10) / 4) ** 2) * np.exp(0.5j)
    found = image_of(kspace_of(blob), "official_code")
    weight = np.abs(found) ** 2
    assert (weight.sum(axis=0) @ np.arange(320)) / weight.sum() == pytest.approx(
        160 + 60 * 400 / width, abs=0.01
    )
    assert (weight.sum(axis=1) @ np.arange(320)) / weight.sum() == pytest.approx(170, abs=0.01)
    row, column = np.unravel_index(weight.argmax(), weight.shape)
    assert np.abs(found[row, column]) == pytest.approx(np.sqrt(width / 400), rel=0.02)
    # No ramp: where k-space lies one column off, the phase turns by 2 pi over 400 columns.
    inside = np.abs(found) > 0.1
    assert np.abs(np.angle(found[inside]) - 0.5).max() < 1e-3


def test_averaging_is_the_mean_of_complex_pixels():
    image = np.arange(32, dtype=np.complex64).reshape(2, 4, 4) * (1 + 2j)
    found = block_mean(image, 2)
    assert found.dtype == np.complex64 and found.shape == (2, 2, 2)
    assert found[0, 0, 0] == image[0, :2, :2].mean() and found[1, 1, 0] == image[1, 2:, :2].mean()
    assert block_mean(image, 1) is image


# ---------------------------------------------------------------------------------------------------------
# prepared volumes


@pytest.mark.parametrize("index, width", list(enumerate(WIDTHS)))
def test_prepared_volume_is_the_scaled_image(prepared, index, width):
    image, facts = stored(prepared, f"file10000{index:02}")
    rss, _ = stored(prepared, f"file10000{index:02}", "rss")
    expected = centre(knee(width))
    scale = np.percentile(np.abs(expected), 99.5)
    assert (image.dtype, image.shape, rss.dtype, rss.shape) == (
        np.complex64,
        (2, 320, 320),
        np.float32,
        (2, 320, 320),
    )
    assert (
        facts["scale"] == pytest.approx(scale, rel=1e-5)
        and facts["width"] == facts["header_width"] == width
    )
    assert np.abs(image - expected / scale).max() < 1e-5
    assert np.abs(rss - 1.1 * np.abs(expected) / scale).max() < 1e-5
    assert facts["esc_deviation"] < 2e-6
    assert (facts["acquisition"], facts["patient_id"]) == ("CORPD_FBK", f"p{min(index, 7)}")
    assert list(facts["acquired"]) == [0, width]
    with h5py.File(prepared / f"volumes/file10000{index:02}.h5") as file:
        assert file["image"].chunks == (1, 320, 320) and file["image"].compression is None


def test_table_lists_every_slice_with_its_labels(prepared):
    rows = rows_of(prepared)
    assert list(rows[0]) == ["volume", "slice", "part", "patient", *LABELS]
    assert [(row["volume"], row["slice"]) for row in rows] == [
        (f"file10000{i:02}", str(s)) for i in range(9) for s in range(2)
    ]
    found = {
        (row["volume"][-2:], row["slice"]): [int(row[label]) for label in LABELS] for row in rows
    }
    assert found.pop(("01", "1")) == [1, 0, 1, 0]
    assert found.pop(("03", "0")) == [1, 1, 0, 0]
    assert not any(
        map(any, found.values())
    )  # nor slice 0 of file1000000, whose row is about the study


def test_description_holds_counts_and_audit(prepared, capsys):
    facts = json.loads((prepared / "dataset.json").read_text())
    assert (facts["dataset"], facts["variant"], facts["synthetic"], facts["labels"]) == (
        "fastmri",
        "native",
        False,
        list(LABELS),
    )
    assert sum(part["slices"] for part in facts["counts"].values()) == 18
    assert sum(part["others"]["slices"] for part in facts["counts"].values()) == 2
    assert facts["class_counts"]["train"]["acl"][1] == facts["counts"]["train"]["acl"]["slices"]
    audit = facts["audit"]
    assert (
        audit["raw_volumes"],
        audit["prepared_volumes"],
        audit["listed_volumes_without_raw_file"],
    ) == (9, 9, 1)
    assert audit["widths"] == {str(width): 1 for width in sorted(WIDTHS)}
    assert audit["annotations"]["unknown_labels"] == {"Baker's thing": 1}
    assert (audit["annotations"]["duplicates"], audit["annotations"]["trailing_blanks"]) == (1, 2)
    assert (
        facts["split"]["by"] == "patient" and facts["split"]["patients_with_several_volumes"] == 1
    )
    assert len({row["part"] for row in rows_of(prepared) if row["patient"] == "p7"}) == 1
    main(["--check", str(prepared), "--workers", "1"])
    printed = capsys.readouterr().out
    assert (
        "checked, all well" in printed
        and "5,658 / 663" in printed
        and "widths: 300 (1), 301 (1), 320 (1)" in printed
    )


def test_same_command_again_changes_nothing(raw, prepared, capsys):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*.*")}
    main(arguments(raw, prepared))
    assert "prepared already: 9 of 9" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*.*")} == before


def test_processes_do_not_matter(few, tmp_path):
    main(arguments(few, tmp_path / "one"))
    main(arguments(few, tmp_path / "two", "--workers", "2"))
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )


def test_options_change_what_they_say(few, tmp_path):
    main(arguments(few, tmp_path / "plain"))
    main(arguments(few, tmp_path / "four", "--average", "4", "--scale", "max"))
    plain, facts = stored(tmp_path / "plain", "file1000003")
    small, of_max = stored(tmp_path / "four", "file1000003")
    assert of_max["scale"] == pytest.approx(np.abs(plain).max() * facts["scale"], rel=1e-5)
    means = (plain * facts["scale"]).reshape(1, 80, 4, 80, 4).mean(axis=(2, 4))
    assert small.shape == (1, 80, 80) and np.allclose(small * of_max["scale"], means, atol=1e-9)
    assert json.loads((tmp_path / "four/dataset.json").read_text())["variant"] == "native-avg4-max"
    main(["--check", str(tmp_path / "four"), "--workers", "1"])


def test_official_code_is_stored_and_refuses_wide_volumes(raw, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"file1000006.h5: 404 columns .* 400 at most"):
        main(arguments(raw, out, "--geometry", "official_code"))
    main(arguments(raw, out, "--geometry", "official_code", "--skip-bad"))
    image, facts = stored(out, "file1000002")
    assert "esc_deviation" not in facts
    assert np.allclose(
        image * facts["scale"], image_of(kspace_of(knee(369)), "official_code"), atol=1e-9
    )
    described = json.loads((out / "dataset.json").read_text())
    assert described["variant"] == "official_code" and list(described["audit"]["dropped"]) == [
        "file1000006"
    ]


def test_rss_is_computed_from_the_coils(few, tmp_path):
    coils = np.stack(
        [knee(320, 1, seed) * factor for seed, factor in ((7, 1), (8, 0.5j), (9, 2))], axis=1
    )  # [S, coils, H, W]
    for index in range(5):
        write_raw(
            few / "multicoil_train" / f"file10000{index:02}.h5",
            knee(320, 1),
            kspace=kspace_of(coils),
        )
    main(arguments(few, tmp_path / "out", "--multicoil", str(few)))
    rss, facts = stored(tmp_path / "out", "file1000000", "rss")
    expected = np.sqrt((np.abs(centre(coils)) ** 2).sum(axis=1))
    assert np.allclose(rss * facts["scale"], expected, atol=1e-9)
    assert facts["rss_deviation"] == pytest.approx(
        1, abs=0.5
    )  # what is stored has nothing to do with these coils
    (few / "multicoil_train/file1000002.h5").unlink()
    with pytest.raises(DataError, match="file1000002.h5: the multi-coil folders have no volume"):
        main(arguments(few, tmp_path / "again", "--multicoil", str(few)))


def test_note_makes_it_synthetic(few, tmp_path, capsys):
    (few / "SYNTHETIC.txt").write_text("made\nup\n")
    main(
        ["--raw", str(few / "singlecoil_train"), *arguments(few, tmp_path / "out")[2:]]
    )  # the folder itself
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (facts["variant"], facts["synthetic"], facts["description"]) == (
        "synthetic-native",
        True,
        "made up",
    )
    assert "paper" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------------
# restarts


def test_broken_off_preparation_goes_on(few, tmp_path, monkeypatch, capsys):
    whole, out = tmp_path / "whole", tmp_path / "out"
    main(arguments(few, whole))
    write, written = cache.write_volume, []

    def killed_at_the_third(path, *rest):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(cache, "write_volume", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(few, out))
    monkeypatch.undo()
    assert not (out / "dataset.json").exists()
    (out / "volumes/.99.tmp.file1000002.h5").write_bytes(b"half of a file")
    (out / "volumes/file1000003.h5").write_bytes(b"damaged")
    with pytest.raises(DataError, match="has not finished"):
        main(["--check", str(out)])
    capsys.readouterr()
    main(arguments(few, out))
    assert "prepared already: 2 of 5" in capsys.readouterr().out
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")} == {
        path.relative_to(whole): path.read_bytes() for path in whole.rglob("*.*")
    }


def test_new_and_replaced_raw_files_are_prepared(few, tmp_path, capsys):
    moved = few / "singlecoil_train/file1000004.h5"
    later = moved.rename(tmp_path / "later.h5")
    main(arguments(few, tmp_path / "out", "--split", "volume"))
    later.rename(moved)
    write_raw(few / "singlecoil_train/file1000000.h5", knee(368, 1), "p0")
    capsys.readouterr()
    main(arguments(few, tmp_path / "out", "--split", "volume"))
    assert "prepared already: 3 of 5" in capsys.readouterr().out
    assert stored(tmp_path / "out", "file1000000")[1]["width"] == 368
    assert len(rows_of(tmp_path / "out")) == 5
    main(["--check", str(tmp_path / "out"), "--workers", "1"])
    moved.unlink()
    with pytest.raises(
        SettingsError, match="1 volumes that are not among the raw ones, such as file1000004"
    ):
        main(arguments(few, tmp_path / "out", "--split", "volume"))


@pytest.mark.parametrize(
    "more, says",
    [
        (["--scale", "max"], "scale percentile, now max;"),
        (
            ["--average", "2", "--geometry", "official_code"],
            "average 1, now 2, geometry native, now official_code;",
        ),
        (["--split", "volume"], "split auto, now volume;"),
    ],
)
def test_folder_of_other_settings_is_refused(raw, prepared, more, says):
    with pytest.raises(SettingsError, match=says):
        main(arguments(raw, prepared, *more))


def test_folder_of_other_annotations_is_refused_and_can_be_labelled_anew(few, tmp_path):
    out = tmp_path / "out"
    main(arguments(few, out))
    (few / "knee.csv").write_text(NO_ROWS + "file1000001,0,No,1,2,3,4,Meniscus Tear\n")
    with pytest.raises(
        SettingsError, match="annotations knee.csv .*, now knee.csv .*delete dataset.json"
    ):
        main(arguments(few, out))
    (out / "dataset.json").unlink()
    main(arguments(few, out))
    assert [row["meniscus"] for row in rows_of(out)] == ["0", "1", "0", "0", "0"]


# -----------------------------------------------------------------------------------------------------------------
# bad input


def test_bad_volumes_stop_or_are_listed(few, tmp_path, capsys):
    write_raw(
        few / "singlecoil_train/file1000001.h5",
        knee(320, 1),
        "p1",
        reconstruction_esc=np.ones((1, 320, 320), np.float32),
    )
    write_raw(few / "singlecoil_train/file1000050.h5", knee(320, 1), "p1")
    write_raw(few / "singlecoil_train/file1000051.h5", knee(320, 1), "p5")
    write_lists(
        few,
        [*(f"file10000{i:02}" for i in range(5)), "file1000051"],
        "file1000051,1,No,1,2,3,4,Meniscus Tear\n",
    )
    with pytest.raises(DataError, match="file1000050.h5: not in .*knee_file_list.csv"):
        main(arguments(few, tmp_path / "out"))
    (few / "singlecoil_train/file1000050.h5").rename(tmp_path / "file1000050.h5")
    with pytest.raises(
        DataError,
        match="file1000001.h5: the inverse FFT .* deviates from reconstruction_esc .*--skip-bad",
    ):
        main(arguments(few, tmp_path / "out"))
    (tmp_path / "file1000050.h5").rename(few / "singlecoil_train/file1000050.h5")
    main(arguments(few, tmp_path / "out", "--skip-bad"))
    dropped = json.loads((tmp_path / "out/dataset.json").read_text())["audit"]["dropped"]
    assert list(dropped) == ["file1000050", "file1000001", "file1000051"]
    assert dropped["file1000050"] == "not in the file list" and "deviates" in dropped["file1000001"]
    assert (
        "file1000051.h5: slice 1 is annotated, but there are only 0 to 0" in dropped["file1000051"]
    )
    assert "dropped file1000051: " in capsys.readouterr().out
    assert sorted(path.stem for path in (tmp_path / "out/volumes").iterdir()) == [
        f"file10000{i:02}" for i in (0, 2, 3, 4)
    ]
    main(["--check", str(tmp_path / "out"), "--workers", "1"])


def nan_at(index, image=None):
    kspace = kspace_of(knee(320) if image is None else image)
    kspace[index] = np.nan
    return kspace


PLAIN = np.ones((2, 320, 320), np.float32)


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
        ({"kspace": kspace_of(knee(320)).astype(np.complex128)}, "kspace is complex128, not complex64"),
        ({"kspace": kspace_of(knee(320))[0]}, r"kspace has shape \[640, 320\], not \[slices, 640, columns\]"),
        ({"kspace": kspace_of(knee(320))[:, None]}, "kspace has shape"),
        ({"kspace": kspace_of(knee(320, height=512))}, r"kspace has shape \[2, 512, 320\]"),
        ({"kspace": np.zeros((0, 640, 320), np.complex64)}, r"kspace has shape \[0, 640, 320\]"),
        ({"kspace": np.zeros((2, 640, 320), np.complex64), "reconstruction_esc": 0 * PLAIN}, "reconstruction_esc by inf"),
        ({"kspace": np.zeros((2, 640, 320), np.complex64)}, "deviates from reconstruction_esc by 1 of its maximum"),
        ({"reconstruction_esc": PLAIN[:1]}, r"reconstruction_esc is float32 \[1, 320, 320\], not float32 \[2, 320, 320\]"),
        ({"reconstruction_esc": PLAIN}, "deviates from reconstruction_esc by 1 of its maximum"),
        ({"reconstruction_esc": PLAIN * np.nan}, "reconstruction_esc of slice 0 holds NaN"),
        ({"reconstruction_rss": PLAIN * np.inf}, "reconstruction_rss of slice 0 holds NaN"),
        ({"reconstruction_rss": PLAIN.astype(int)}, "reconstruction_rss is int64"),
    ],
)  # fmt: skip
def test_bad_volume_is_refused_in_one_line(tmp_path, changed, says):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320), **changed)
    with pytest.raises(DataError, match=says) as error:
        read_volume(path, Rules())
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value, says", [(None, "attribute max is None"), (0.0, "max is 0.0"), (np.nan, "max is nan")]
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
        del file.attrs["patient_id"]
    with pytest.raises(DataError, match="no attribute patient_id"):
        read_volume(path, Rules())


def test_volume_without_signal_is_refused(tmp_path):
    write_raw(tmp_path / "file1.h5", knee(320, 1), kspace=np.zeros((1, 640, 320), np.complex64))
    with pytest.raises(DataError, match="file1.h5: cannot be divided by its scale 0"):
        read_volume(tmp_path / "file1.h5", Rules(geometry="official_code"))


def test_truncated_and_other_files_are_refused(tmp_path):
    path = tmp_path / "file1.h5"
    write_raw(path, knee(320, 1))
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(DataError, match="file1.h5: no HDF5 file, or a damaged one"):
        read_volume(path, Rules())
    with pytest.raises(DataError, match="file2.h5: no HDF5 file"):
        read_volume(tmp_path / "file2.h5", Rules())
    (tmp_path / "file3.h5").mkdir()
    with pytest.raises(
        DataError, match="file3.h5: no HDF5 file"
    ) as error:  # of which the library complains in two lines
        read_volume(tmp_path / "file3.h5", Rules())
    assert "\n" not in str(error.value)


def test_bad_multicoil_volume_is_named(tmp_path):
    path, coils = tmp_path / "file1.h5", tmp_path / "multicoil_train/file1.h5"
    write_raw(path, knee(320))
    for changed, says in [
        (
            {"kspace": kspace_of(knee(320))},
            r"multicoil_train/file1.h5: kspace has shape \[2, 640, 320\]",
        ),
        (
            {"kspace": nan_at((1, 0, 0, 0), knee(320)[:, None])},
            "multicoil_train/file1.h5: k-space of slice 1 holds NaN",
        ),
        (
            {"kspace": kspace_of(knee(320, 1)[:, None])},
            "1 slices, but the single-coil volume has 2",
        ),
    ]:
        write_raw(coils, knee(320), **changed)
        with pytest.raises(DataError, match=says):
            read_volume(path, Rules(rss="coils"), coils)


def test_folders_without_volumes_and_with_repeated_ones_are_refused(few, tmp_path):
    for folder, says in ((tmp_path / "none", "no such folder"), (few.parent, "no .h5 files there")):
        with pytest.raises(
            DataError,
            match=f"{says}; give the folder that holds singlecoil_train and singlecoil_val",
        ):
            find_volumes([folder])
    shutil.copytree(few / "singlecoil_train", few / "singlecoil_val")
    with pytest.raises(DataError, match="has the same name"):
        find_volumes([few])


def test_test_data_are_refused_with_a_reason(raw, tmp_path):
    with pytest.raises(DataError, match=r"file1000077.h5: not in|mask"):
        main(["--raw", str(raw / "singlecoil_test"), *arguments(raw, tmp_path / "out")[2:]])
    with pytest.raises(DataError, match="mask"):
        read_volume(raw / "singlecoil_test/file1000077.h5", Rules())


@pytest.mark.parametrize(
    "more, says",
    [
        (["--average", "3"], "--average 3 does not divide 320"),
        (["--average", "0"], "--average 0 does not divide 320"),
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--geometry", "other"], "invalid choice: 'other'"),
    ],
)
def test_bad_settings_are_refused(raw, tmp_path, more, says):
    with pytest.raises(SettingsError, match=says):
        main(arguments(raw, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given",
    [[], ["--raw", "x"], ["--annotations", "x"], ["--annotations", "x", "--file-list", "y"]],
)
def test_missing_options_are_named(given):
    with pytest.raises(SettingsError, match="--(annotations|raw)"):
        main(given)


# -------------------------------------------------------------------------------------------------------------------
# --check


def change(key, index, value):
    def spoil(out):
        with h5py.File(out / "volumes/file1000002.h5", "r+") as file:
            file[key][index] = value

    return spoil


def replace(name, old, new):
    def spoil(out):
        path = out / name
        path.write_text(path.read_text().replace(old, new, 1))

    return spoil


def truncate(out):
    path = out / "volumes/file1000002.h5"
    path.write_bytes(path.read_bytes()[:-5_000])


@pytest.mark.parametrize(
    "spoil, says",
    [
        (change("image", (0, 5, 5), np.nan), "file1000002.h5: image of slice 0 holds NaN"),
        (change("rss", (0, 5, 5), 7), "file1000002.h5: differs from what was written"),
        (truncate, "file1000002.h5: is damaged"),
        (lambda out: (out / "volumes/file1000002.h5").unlink(), "1 volumes are missing, such as file1000002.h5"),
        (lambda out: shutil.copy(out / "volumes/file1000002.h5", out / "volumes/file9.h5"), "not in slices.csv, such as file9.h5"),
        (replace("slices.csv", "train", "val"), "slices.csv: its sha256 is not the one in dataset.json"),
        (lambda out: (out / "slices.csv").unlink(), "slices.csv beside it is missing"),
        (replace("dataset.json", '"slices": 3,', '"slices": 4,'), "dataset.json: its counts"),
        (replace("dataset.json", '"settings_hash": "', '"settings_hash": "x'), "was made with other settings"),
        (replace("dataset.json", "{", "["), "dataset.json: not what the preparation writes"),
        (replace("dataset.json", '"checks"', '"cheques"'), "no checks"),
        (lambda out: (out / "dataset.json").unlink(), "dataset.json is missing, so the preparation has not finished"),
        (shutil.rmtree, "dataset.json is missing, as is the folder"),
    ],
)  # fmt: skip
def test_check_names_what_is_damaged(few_prepared, tmp_path, spoil, says):
    out = shutil.copytree(few_prepared[1], tmp_path / "copy")
    spoil(out)
    with pytest.raises(DataError, match=says):
        main(["--check", str(out), "--workers", "1"])


def test_check_compares_the_labels_with_the_annotations(few_prepared, tmp_path, capsys):
    few, out = few_prepared
    lists = [
        "--annotations",
        str(tmp_path / "knee.csv"),
        "--file-list",
        str(few / "knee_file_list.csv"),
    ]
    shutil.copy(few / "knee.csv", tmp_path)
    main(["--check", str(out), "--workers", "1", *lists])
    assert "labels: as in" in capsys.readouterr().out
    (tmp_path / "knee.csv").write_text(NO_ROWS + "file1000002,0,No,1,2,3,4,Meniscus Tear\n")
    with pytest.raises(DataError, match="the labels of volume file1000002 are not those of"):
        main(["--check", str(out), "--workers", "1", *lists])
