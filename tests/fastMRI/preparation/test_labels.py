"""Annotations of the published lists, the rules behind labels, bad lists."""

import json

import pytest

from fastMRI.pictures import read_boxes
from fastMRI.preparation.labels import (
    LABELS,
    VOCABULARY,
    audit_labels,
    label_of,
    read_annotations,
    read_file_list,
)
from fastMRI.prepare import main
from i2m2.errors import DataError
from tests.fastMRI.preparation.tiny_raw import NO_ROWS


@pytest.fixture(scope="session")
def parts(published):
    """What the audit says of the parts."""
    listed, stray = read_file_list(published / "knee_file_list.csv")
    return audit_labels(listed, stray, read_annotations(published / "knee.csv")).parts


def test_published_annotations_have_the_known_counts(published, capsys):
    annotations, file_list = published / "knee.csv", published / "knee_file_list.csv"
    main(["--annotations", str(annotations), "--file-list", str(file_list), "--audit-labels"])
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
    assert audit["volumes"] == 1_172
    assert audit["volumes_without_rows"] == 198
    assert audit["volumes_without_findings"] == 203
    assert audit["study_level"] == {"rows": 13, "volumes": 13}
    assert audit["duplicates"] == 5
    assert audit["trailing_blanks"] == 1_311
    assert audit["stray_lines"] == ["Knee data"]
    assert audit["unknown_labels"] == {} and audit["annotated_volumes_not_listed"] == []


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
    counts = parts[part]
    assert (counts.volumes, counts.annotated_volumes, counts.annotated_slices) == sizes
    assert tuple(counts.labels[label].slices for label in LABELS) == slices
    assert tuple(counts.labels[label].volumes for label in LABELS) == volumes
    assert counts.sha256 == sha256


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
    counts = {name: (one.rows, one.slices, one.volumes) for name, one in audit.findings.items()}
    assert counts == known
    assert list(counts) == list(known)
    assert known.keys() | {"artifact"} == VOCABULARY  # whose 13 rows are all of the study level


def test_published_boxes_are_read_with_their_irregularities(published):
    boxes = sum(read_boxes(published / "knee.csv").values(), [])
    assert len(boxes) == 16_154
    # Six begin at y = -1, counted from below.
    assert sum(box.top + box.height == 321 for box in boxes) == 6
    assert sum(box.height == 0 for box in boxes) == 1


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
        "complex meniscus  tear": "meniscus",
        "artifact": "others",
    }
    assert {finding: label_of(finding) for finding in expected} == expected


@pytest.mark.parametrize("label", ["meniscus tear", " Meniscus  Tear ", "MENISCUS TEAR"])
def test_case_and_blanks_of_a_label_do_not_matter(tmp_path, label):
    path = tmp_path / "knee.csv"
    path.write_text(f"{NO_ROWS}file1000000,3,No,1,2,3,4,{label}\n")
    annotations = read_annotations(path)
    assert annotations.findings == {"file1000000": {3: {"meniscus"}}}
    assert list(annotations.places) == ["Meniscus Tear"] and not annotations.unknown


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
        (
            NO_ROWS + "file1000000,3,No,1,2,3,4,Meniscus T",
            "line 2: the label 'Meniscus T' is the beginning of 'Meniscus Tear'",
        ),
    ],
)
def test_bad_annotations_are_refused(tmp_path, text, says):
    path = tmp_path / "knee.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=says):
        read_annotations(path)


@pytest.mark.parametrize(
    "label, later",
    [
        ('"Meniscus Tear', "Meniscus Tear"),
        ('"Meniscus Tear', 'Meniscus Tear"'),
        ('"Meniscus" Tear', "Meniscus Tear"),
    ],
)
def test_a_quotation_mark_without_its_partner_takes_no_other_line_away(tmp_path, label, later):
    path = tmp_path / "knee.csv"
    rows = [f"file1000000,{index},No,1,2,3,4," for index in range(2)]
    path.write_text(f"{NO_ROWS}\n{rows[0]}{label}\n{rows[1]}{later}\n")
    with pytest.raises(DataError, match="knee.csv: line 3: its quotation marks"):
        read_annotations(path)


def test_fields_in_quotation_marks_are_read(tmp_path):
    path = tmp_path / "knee.csv"
    path.write_text(f'{NO_ROWS}"file1000000",3,"No",1,2,3,4,"Meniscus Tear"\r\n')
    assert read_annotations(path).findings == {"file1000000": {3: {"meniscus"}}}


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
