"""Cohort, static features and labels of MIMIC-III on hand-made tables."""

from __future__ import annotations

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.extraction.layout import ICD9
from AVMNIST_and_MIMIC.mimic.extraction.static import group_of
from tests.AVMNIST_and_MIMIC.tiny_mimic import Hospital, at, both, near, prepare


def test_cohort_is_the_first_adult_admission_with_an_icu_stay_and_a_long_record(tmp_path):
    hospital = Hospital()
    hospital.patient(9, subject=1)
    hospital.patient(5, subject=1, admitted=-50)  # earlier, though its id is not what decides
    hospital.patient(6, subject=1, admitted=500)
    hospital.patient(2, born="2085-01-02 00:00:00")  # 14.99 years
    hospital.patient(3, stay=False)
    hospital.patient(4, length=24)  # not longer than 24 h
    hospital.patient(8, length=24.5)
    hospital.patient(7, born="2084-12-01 00:00:00")
    hospital.patient(10)  # of no subject that PATIENTS knows
    del hospital.rows["PATIENTS"][-1]
    clean, reference = both(hospital, tmp_path)
    assert clean.arrays["hadm_id"].tolist() == reference.arrays["hadm_id"].tolist() == [5, 7, 8]
    assert clean.arrays["subject_id"].tolist() == [1, 1007, 1008]
    assert [(step["rows"], step["dropped"]) for step in clean.facts["funnel"]] == [
        (9, 0),
        (7, 2),
        (6, 1),
        (5, 1),
        (4, 1),
        (4, 0),
        (3, 1),
    ]


def test_ages_above_89_are_clipped_in_clean_alone(tmp_path):
    hospital = Hospital()
    hospital.patient(1, born="1800-01-01 00:00:00")
    hospital.patient(2, born="2060-01-01 00:00:00")
    clean, reference = both(hospital, tmp_path)
    # 109,572 and 14,610 days, to 0.01 years.
    assert reference.arrays["static"][:, 0] == near(300.00 * 365.242, 40.00 * 365.242)
    assert clean.arrays["static"][:, 0] == near(89 * 365.242, 40 * 365.242)


def test_admission_type_needs_a_surgical_first_service(tmp_path):
    hospital = Hospital()
    cases = (
        ("ELECTIVE", ("CSURG",)),
        ("ELECTIVE", ("MED", "SURG")),
        ("EMERGENCY", ("NSURG", "MED")),
        ("URGENT", ("ORTHO",)),
        ("ELECTIVE", ()),
    )
    for hadm, (kind, services) in enumerate(cases, start=1):
        hospital.patient(hadm, kind=kind, services=services)
    assert prepare(hospital, tmp_path, "clean").arrays["static"][:, 4].tolist() == [1, 0, 2, 0, 0]


def test_diagnosis_flags_compare_codes_as_text(tmp_path):
    cases = {
        "042": "100",
        "0449": "100",
        "045": "000",
        "20238": "010",
        "20239": "000",
        "2386": "010",
        "23861": "000",
        "1960": "001",
        "1991": "001",
        "19910": "000",
        "20975": "001",
        "78951": "001",
        "": "000",
    }
    hospital = Hospital()
    for hadm, code in enumerate(cases, start=1):
        hospital.patient(hadm, codes=("4019", code))
    prepared = prepare(hospital, tmp_path, "clean")
    assert [
        "".join(str(int(flag)) for flag in row) for row in prepared.arrays["static"][:, 1:4]
    ] == list(cases.values())
    groups = [[ICD9[k] for k in np.flatnonzero(row)] for row in prepared.arrays["icd9"]]
    assert groups[0] == ["001-139", "390-459"]
    assert groups[-2] == ["390-459", "780-789"]
    assert groups[-1] == ["390-459"]


@pytest.mark.parametrize(
    "code, group",
    [
        ("0389", 0),
        ("139", 0),
        ("1400", 1),
        ("4600", 7),
        ("5199", 7),
        ("7599", 13),
        ("7600", -1),
        ("7806", 14),
        ("9999", 17),
        ("V103", 18),
        ("E8801", 19),
        ("6789", -1),
        ("000", -1),
    ],
)
def test_group_of_an_icd9_code(code, group):
    assert group_of(code) == group


def test_mortality_labels_count_days_as_published(tmp_path):
    discharged = 100.0
    # Death in hospital at hour, DOD at hour -> six labels.
    cases = {
        (20, 20): "111111",
        (-3, None): "111100",
        (24, None): "111100",
        (24.01, None): "101100",
        (72, 72): "100111",
        (73, 73): "100011",
        (None, discharged + 30 * 24): "000011",
        (None, discharged + 30 * 24 + 1): "000001",
        (None, discharged + 365.2 * 24): "000001",
        (None, discharged + 366 * 24): "000000",
        (None, None): "000000",
    }
    hospital = Hospital()
    for hadm, (death, dod) in enumerate(cases, start=1):
        hospital.patient(
            hadm,
            left=discharged,
            dead_in_hospital="" if death is None else at(death),
            died="" if dod is None else at(dod),
        )
    rows = prepare(hospital, tmp_path, "clean").arrays["mortality_labels"]
    assert ["".join(map(str, row)) for row in rows] == list(cases.values())
