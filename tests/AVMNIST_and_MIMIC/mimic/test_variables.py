"""Variables of MIMIC-III on hand-made tables: clean and reference beside values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.arrays import SERIES
from AVMNIST_and_MIMIC.mimic.extraction.gases import TERMS
from tests.AVMNIST_and_MIMIC.tiny_mimic import (
    GAS_FIO2,
    GCS,
    HEART_RATE,
    NAN,
    PAO2,
    RATE,
    RATIO,
    SODIUM,
    SPECIMEN,
    SYSTOLIC,
    TEMPERATURE,
    Hospital,
    at,
    both,
    near,
)


def test_coma_scale_follows_its_four_rules(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1, length=31)
    verbal, motor, eyes = 723, 454, 184
    charted = (
        # 1: intubated -> 15
        (1, verbal, 1, "1.0 ET/Trach"),
        (1, motor, 1, ""),
        (1, eyes, 1, ""),
        # 2: no verbal, intubated before -> 15
        (2, motor, 5, ""),
        (2, eyes, 3, "None"),
        # 4: eyes 3 from before, verbal not known before: 4 + 5 + 3
        (3, motor, 4, ""),
        # 1 again, in MetaVision's words
        (10, 223900, 1, "No Response-ETT"),
        # 3: intubated before, so nothing is taken from there: 6 + 4 + 2
        (12, verbal, 4, ""),
        (12, eyes, 2, ""),
        # 4: the record before is 6 h old: 1 + 5 + 4
        (18, motor, 1, ""),
        # 4: the larger of two, motor from before: 1 + 3 + 4
        (20, verbal, 2, ""),
        (20, verbal, 3, ""),
        # MetaVision's words in a CareVue item; no motor before: 6 + 1 + 4
        (21, verbal, 1, "No Response-ETT"),
    )
    for hours, item, number, value in charted:
        hospital.chart(one, item, hours, number, value)
    hospital.chart(one, motor, 22, 6, error=1)
    clean, _ = both(hospital, tmp_path)
    scores = clean.row("series", one)[:, GCS]
    assert scores[[1, 2, 3, 10, 12, 18, 20, 21, 22]] == near(15, 15, 12, 15, 12, 10, 8, 11, 11)
    assert np.flatnonzero(clean.row("series_mask", one)[:, GCS]).tolist() == [
        1,
        2,
        3,
        10,
        12,
        18,
        20,
        21,
    ]


def test_vital_signs_are_in_range_averaged_per_stamp_and_in_celsius(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1)
    for hours, item, number in (
        (1, 678, 98.6),
        (1, 676, 39),
        (2, 678, 37),
        (3, 676, 98.6),
        (4, 51, 400),
        (5, 51, 100),
        (5, 455, 120),
    ):
        hospital.chart(one, item, hours, number)
    hospital.chart(one, HEART_RATE, 6, 99, error=1)
    hospital.chart(one, HEART_RATE, -0.5, 99)  # before its ICU stay
    of_no_stay = {**hospital.rows["CHARTEVENTS"][-1], "charttime": at(7), "icustay_id": 1}
    hospital.rows["CHARTEVENTS"].append(of_no_stay)
    clean, reference = both(hospital, tmp_path)
    assert clean.row("series", one)[[1, 2, 3], TEMPERATURE] == near(38, 38, 38)
    assert clean.row("series", one)[[4, 5], SYSTOLIC] == near(NAN, 110)
    assert np.isnan(reference.row("series", one)[:, RATE]).all()
    assert clean.facts["events"]["temperature"] == {"kept": 2, "dropped": 2}


def test_laboratory_conflicts_take_the_minimum_and_impossible_values_are_dropped(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1)
    for hours, item, number in (
        (1, 50983, 141),
        (1, 50824, 139),
        (2, 50983, 201),
        (2, 51006, 300),
        (2, 51300, 0),
    ):
        hospital.lab(one, item, hours, number)
    outpatient = {"subject_id": 1001, "hadm_id": ""}
    hospital.add("LABEVENTS", **outpatient, itemid=50983, charttime=at(3), valuenum=100)
    clean, _ = both(hospital, tmp_path)
    assert clean.row("series", one)[[1, 2, 3], SODIUM] == near(139, 139, 139)
    assert clean.row("series", one)[2, SERIES.index("urea nitrogen")] == 300
    assert np.isnan(clean.row("series", one)[:, SERIES.index("white cells")]).all()


# Item, charted value, percent in reference, percent in clean.
FIO2 = [
    (223835, 0.5, 50, 50),
    (223835, 10, None, None),
    (223835, 60, 60, 60),
    (223835, 0.05, 5, None),
    (3420, 40, 40, 40),
    (3422, 0.5, 0.5, 50),
    (3420, 0, None, None),
    (190, 0.4, 40, 40),
    (190, 1.0, None, 100),
    (190, 50, None, 50),
    (GAS_FIO2, 80, 80, 80),
    (GAS_FIO2, 0.4, 0.4, 40),
]


def test_fio2_is_converted_item_by_item(tmp_path):
    hospital = Hospital()
    for hadm, (item, number, _, _) in enumerate(FIO2, start=1):
        hospital.patient(hadm)
        if item == GAS_FIO2:
            hospital.lab(hadm, item, 2, number)
            hospital.chart(hadm, 3420, 1, 99)  # the gas's own goes first
        else:
            hospital.chart(hadm, item, 1, number)
        hospital.lab(hadm, PAO2, 2, 100)
        hospital.lab(hadm, SPECIMEN, 2, "", "ART")
    clean, reference = both(hospital, tmp_path)
    for hadm, (_, _, published, fixed) in enumerate(FIO2, start=1):
        assert reference.row("series", hadm)[23, RATIO] == pytest.approx(
            100 / published if published else NAN, nan_ok=True
        )
        assert clean.row("series", hadm)[23, RATIO] == pytest.approx(
            100 / fixed if fixed else NAN, nan_ok=True
        )


def test_a_blood_gas_takes_the_last_fio2_of_the_four_hours_before(tmp_path):
    hospital = Hospital()
    for hadm, charted in enumerate(
        [((2, 0.5),), ((1.99, 0.5),), ((6, 0.5),), ((6.01, 0.5),), ((3, 0.5), (4, 5.0))], start=1
    ):
        hospital.patient(hadm)
        hospital.lab(hadm, PAO2, 6, 100)
        hospital.lab(hadm, SPECIMEN, 6, "", "ART")
        for hours, number in charted:
            hospital.chart(hadm, 190, hours, number)
    clean, reference = both(hospital, tmp_path)
    ratio = [prepared.arrays["series"][:, 23, RATIO] for prepared in (clean, reference)]
    assert ratio[0] == near(2, NAN, 2, NAN, 2), (
        "4 h before, earlier, at the gas, after it, behind an impossible entry"
    )
    assert ratio[1] == near(2, NAN, 2, NAN, NAN), (
        "as published, an impossible entry hides the one before it"
    )
    assert clean.row("series", 1)[:6, RATIO] == near(*[NAN] * 6)
    assert reference.row("series", 1)[0, RATIO] == 2


def test_a_gas_of_unknown_specimen_needs_an_arterial_probability_above_three_quarters(tmp_path):
    unknown = sum(
        coefficient * mean + offset
        for name, (coefficient, mean, offset) in TERMS.items()
        if name != "gas_fio2"
    )
    assert unknown == pytest.approx(-1.656447, abs=1e-6)  # worked from the published table
    threshold = (math.log(3) + 0.02544 - unknown - 0.01480 * 50) / 0.04598  # where p = 3/4
    hospital = Hospital()
    below, above = threshold - 0.1, threshold + 0.1
    cases = (
        (below, "", None),
        (above, "", None),
        (40, "ART", None),
        (above, "VEN", None),
        (above, "", 100),
    )
    for hadm, (pressure, specimen, spo2) in enumerate(cases, start=1):
        hospital.patient(hadm)
        hospital.lab(hadm, PAO2, 2, pressure)
        hospital.lab(hadm, GAS_FIO2, 2, 50)
        hospital.lab(hadm, SPECIMEN, 2, "", specimen)
        if spo2:  # -0.15356 * 100 is less than the term for a missing value, -14.84 against -15.36
            hospital.chart(hadm, 646, 1, spo2)
    clean, _ = both(hospital, tmp_path)
    used = np.isfinite(clean.arrays["series"][:, 23, RATIO]).tolist()
    assert used == [False, True, True, True, False]
