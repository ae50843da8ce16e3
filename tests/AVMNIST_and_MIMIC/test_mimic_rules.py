"""The rules of the MIMIC-III extraction, one by one, on hand-made tables: clean and reference
beside values worked by hand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.arrays import SERIES
from AVMNIST_and_MIMIC.mimic.extraction.gases import TERMS
from AVMNIST_and_MIMIC.mimic.extraction.layout import ICD9
from AVMNIST_and_MIMIC.mimic.extraction.static import group_of
from tests.AVMNIST_and_MIMIC.tiny_mimic import HEART_RATE, URINE, Hospital, Prepared, at, prepare

GCS, SYSTOLIC, RATE, TEMPERATURE, RATIO, VOLUME = range(6)
SODIUM = SERIES.index("sodium")
PRESSURE, SODIUM_ITEM, PAO2, GAS_FIO2, SPECIMEN = 51, 50983, 50821, 50816, 50800
NAN = math.nan


def both(hospital: Hospital, folder) -> tuple[Prepared, Prepared]:
    """-> clean, reference."""
    return prepare(hospital, folder, "clean"), prepare(hospital, folder, "reference")


def near(*values: float):
    return pytest.approx(list(values), rel=1e-6, nan_ok=True)


# Bins and imputation
# -----------------------------------------------------------------------------------------------------


def test_a_stamp_on_an_edge_counts_twice_in_reference_and_once_in_clean(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1)
    for hours, rate in ((0.5, 60), (1, 100), (1.5, 80)):
        hospital.chart(one, HEART_RATE, hours, rate)
    clean, reference = both(hospital, tmp_path)
    assert clean.row("series", one)[:3, RATE] == near(60, 90, 90)
    assert reference.row("series", one)[:3, RATE] == near(80, 90, 90)
    assert (
        clean.row("series_mask", one)[:3, RATE].tolist()
        == reference.row("series_mask", one)[:3, RATE].tolist()
        == [1, 1, 0]
    )


def test_the_last_stamp_opens_no_bin_of_its_own_in_reference(tmp_path):
    hospital = Hospital()
    one = hospital.patient(
        1, length=30
    )  # 1 mL at 0 h (bin 0) and at 30 h (bin 29 only): the mean of all bins is 1, not 2
    hospital.output(one, 29.5, 5)  # bin 29: mean of 5 and 1
    _, reference = both(hospital, tmp_path)
    assert reference.row("series", one)[5, VOLUME] == pytest.approx((1 + 3) / 2)


def test_time_starts_at_the_first_record_in_reference_and_at_intime_in_clean(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1)
    hospital.lab(one, SODIUM_ITEM, -7, 120)  # more than 6 h before: not used
    hospital.lab(one, SODIUM_ITEM, -2.25, 130)
    hospital.lab(one, SODIUM_ITEM, 3.5, 140)
    hospital.chart(one, HEART_RATE, 0.5, 60)
    clean, reference = both(hospital, tmp_path)
    assert np.flatnonzero(clean.row("series_mask", one)[:, RATE]).tolist() == [0]
    assert np.flatnonzero(reference.row("series_mask", one)[:, RATE]).tolist() == [2]
    assert clean.row("series", one)[:5, SODIUM] == near(130, 130, 130, 140, 140), (
        "known before INTIME: carried in"
    )
    assert clean.row("series_mask", one)[:5, SODIUM].tolist() == [0, 0, 0, 1, 0], "but not observed"
    assert reference.row("series_mask", one)[:7, SODIUM].tolist() == [1, 0, 0, 0, 0, 1, 0]


def test_clean_fills_from_the_past_alone_and_reference_from_the_whole_stay(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1)
    hospital.chart(one, HEART_RATE, 5.5, 70)
    hospital.chart(one, HEART_RATE, 27, 90)
    hospital.chart(one, PRESSURE, 27, 120)  # never within the day
    clean, reference = both(hospital, tmp_path)
    assert clean.row("series", one)[[0, 4, 5, 23], RATE] == near(NAN, NAN, 70, 70)
    assert (reference.row("series", one)[:, RATE] == 70).all()
    assert (
        np.isnan(clean.row("series", one)[:, SYSTOLIC]).all()
        and (reference.row("series", one)[:, SYSTOLIC] == 120).all()
    )
    assert np.isnan(reference.row("series", one)[:, TEMPERATURE]).all(), (
        "never measured: stays missing"
    )


def test_urine_is_a_mean_in_reference_and_a_sum_in_clean_and_irrigant_is_taken_off(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1)
    for hours, amount, item in (
        (2.2, 50, URINE),
        (2.5, 30, URINE),
        (3.2, 20, 227488),
        (3.2, 50, 227489),
    ):
        hospital.output(one, hours, amount, item)
    hospital.output(one, 4.5, 28_000)
    hospital.output(one, 6.5, 40, error=1)
    clean, reference = both(hospital, tmp_path)
    assert clean.row("series", one)[:8, VOLUME] == near(1, NAN, 80, 30, NAN, NAN, NAN, NAN)
    whole_stay = (1 + 40 + 30 + 28_000 + 40 + 1) / 6
    assert reference.row("series", one)[:8, VOLUME] == near(
        1, whole_stay, 40, 30, 28_000, whole_stay, 40, whole_stay
    )
    assert clean.facts["events"]["urine"] == {"kept": 6, "dropped": 2}


def test_nothing_after_the_horizon_changes_the_clean_series(tmp_path):
    rng = np.random.default_rng(0)
    hospital = Hospital()
    items = {
        "chart": [HEART_RATE, PRESSURE, 678, 723, 454, 184, 190, 646],
        "lab": [SODIUM_ITEM, PAO2, GAS_FIO2, 51006, 50885],
    }
    scale = {678: 98, 723: 3, 454: 4, 184: 3, 190: 0.5}
    for hadm in range(1, 9):
        hospital.patient(hadm, length=90)
        for kind, numbers in items.items():
            for item, hours in zip(
                rng.choice(numbers, 150),
                rng.uniform(-5 if kind == "lab" else 0, 80, 150),
                strict=True,
            ):
                getattr(hospital, kind)(
                    hadm,
                    int(item),
                    round(hours * 60) / 60,
                    scale.get(item, 90) + round(rng.random(), 2),
                )
    before = prepare(hospital, tmp_path / "a", "clean")
    other = copy.deepcopy(hospital)
    for name in ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS"):
        column = "value" if name == "OUTPUTEVENTS" else "valuenum"
        late = [row for row in other.rows[name] if row["charttime"] >= at(24)]
        for row in late[::2]:
            row[column] = 150
        gone = [id(row) for row in late[1::4] if row["charttime"] != at(90)]
        other.rows[name] = [row for row in other.rows[name] if id(row) not in gone]
    for hadm in range(1, 9):
        other.chart(hadm, HEART_RATE, 24, 250)  # the first moment that is not seen
        other.lab(hadm, PAO2, 24.5, 300)
        other.output(hadm, 95, 7)
    after = prepare(other, tmp_path / "b", "clean")
    for name in ("series", "series_mask", "static", "hadm_id"):
        np.testing.assert_array_equal(before.arrays[name], after.arrays[name])
    early = {hadm: np.isfinite(before.row("series", hadm)[:, RATIO]).any() for hadm in range(1, 9)}
    assert any(early.values()), "the test must see P/F ratios"
    changed = [
        prepare(h, tmp_path / f, "reference").arrays["series"]
        for h, f in ((hospital, "a"), (other, "b"))
    ]
    assert not np.array_equal(*changed, equal_nan=True), "the published rules do look ahead"


def test_horizon_and_bins_are_free(tmp_path):
    hospital = Hospital()
    one, _ = hospital.patient(1, length=60), hospital.patient(2, length=48)
    hospital.chart(one, HEART_RATE, 47.75, 66)
    long = prepare(hospital, tmp_path, "clean", horizon_hours=48, bin_hours=0.5)
    assert long.arrays["series"].shape == (1, 96, 12) and long.arrays["hadm_id"].tolist() == [one]
    assert (
        long.row("series", one)[94:, RATE] == near(NAN, 66)
        and long.facts["variant"] == "clean-h48-b0.5"
    )


# Variables
# ---------------------------------------------------------------------------------------------------------------


def test_coma_scale_follows_its_four_rules(tmp_path):
    hospital = Hospital()
    one = hospital.patient(1, length=31)
    verbal, motor, eyes = 723, 454, 184
    for hours, item, number, value in (
        (1, verbal, 1, "1.0 ET/Trach"), (1, motor, 1, ""), (1, eyes, 1, ""),  # 1: intubated -> 15
        # 2: no verbal, intubated before -> 15
        (2, motor, 5, ""), (2, eyes, 3, "None"),
        # 4: eyes 3 from before, verbal not known before: 4 + 5 + 3
        (3, motor, 4, ""),
        (10, 223900, 1, "No Response-ETT"),               # 1 again, in MetaVision's words
        # 3: intubated before, so nothing is taken from there: 6 + 4 + 2
        (12, verbal, 4, ""), (12, eyes, 2, ""),
        # 4: the record before is 6 h old: 1 + 5 + 4
        (18, motor, 1, ""),
        # 4: the larger of two, motor from before: 1 + 3 + 4
        (20, verbal, 2, ""), (20, verbal, 3, ""),
        # MetaVision's words in a CareVue item; no motor before: 6 + 1 + 4
        (21, verbal, 1, "No Response-ETT"),
    ):  # fmt: skip
        hospital.chart(one, item, hours, number, value)
    hospital.chart(one, motor, 22, 6, error=1)
    clean, _ = both(hospital, tmp_path)
    found = clean.row("series", one)[:, GCS]
    assert found[[1, 2, 3, 10, 12, 18, 20, 21, 22]] == near(15, 15, 12, 15, 12, 10, 8, 11, 11)
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
    hospital.rows["CHARTEVENTS"].append(
        {**hospital.rows["CHARTEVENTS"][-1], "charttime": at(7), "icustay_id": 1}
    )  # of no stay
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
    hospital.add(
        "LABEVENTS", subject_id=1001, hadm_id="", itemid=50983, charttime=at(3), valuenum=100
    )  # an outpatient's
    clean, _ = both(hospital, tmp_path)
    assert clean.row("series", one)[[1, 2, 3], SODIUM] == near(139, 139, 139)
    assert clean.row("series", one)[2, SERIES.index("urea nitrogen")] == 300
    assert np.isnan(clean.row("series", one)[:, SERIES.index("white cells")]).all()


FIO2 = [  # item, charted value, percent in reference, percent in clean
    (223835, 0.5, 50, 50), (223835, 10, None, None), (223835, 60, 60, 60), (223835, 0.05, 5, None),
    (3420, 40, 40, 40), (3422, 0.5, 0.5, 50), (3420, 0, None, None),
    (190, 0.4, 40, 40), (190, 1.0, None, 100), (190, 50, None, 50), (GAS_FIO2, 80, 80, 80), (GAS_FIO2, 0.4, 0.4, 40),
]  # fmt: skip


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
    for hadm, (_, _, published, mended) in enumerate(FIO2, start=1):
        assert reference.row("series", hadm)[23, RATIO] == pytest.approx(
            100 / published if published else NAN, nan_ok=True
        )
        assert clean.row("series", hadm)[23, RATIO] == pytest.approx(
            100 / mended if mended else NAN, nan_ok=True
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
    assert (
        clean.row("series", 1)[:6, RATIO] == near(*[NAN] * 6)
        and reference.row("series", 1)[0, RATIO] == 2
    )


def test_a_gas_of_unknown_specimen_needs_an_arterial_probability_above_three_quarters(tmp_path):
    unknown = sum(
        coefficient * mean + offset
        for name, (coefficient, mean, offset) in TERMS.items()
        if name != "gas_fio2"
    )
    assert unknown == pytest.approx(-1.656447, abs=1e-6)  # worked from the published table
    threshold = (math.log(3) + 0.02544 - unknown - 0.01480 * 50) / 0.04598  # where p = 3/4
    hospital = Hospital()
    for hadm, (pressure, specimen, spo2) in enumerate(
        ((threshold - 0.1, "", None), (threshold + 0.1, "", None), (40, "ART", None), (threshold + 0.1, "VEN", None),
         (threshold + 0.1, "", 100)), start=1
    ):  # fmt: skip
        hospital.patient(hadm)
        hospital.lab(hadm, PAO2, 2, pressure)
        hospital.lab(hadm, GAS_FIO2, 2, 50)
        hospital.lab(hadm, SPECIMEN, 2, "", specimen)
        if spo2:  # -0.15356 * 100 is less than the term for a missing value, -14.84 against -15.36
            hospital.chart(hadm, 646, 1, spo2)
    clean, _ = both(hospital, tmp_path)
    kept = np.isfinite(clean.arrays["series"][:, 23, RATIO]).tolist()
    assert kept == [False, True, True, True, False]


# Cohort, static features, labels
# -----------------------------------------------------------------------------------------


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
    clean, reference = both(hospital, tmp_path)
    assert clean.arrays["hadm_id"].tolist() == reference.arrays["hadm_id"].tolist() == [5, 7, 8]
    assert clean.arrays["subject_id"].tolist() == [1, 1007, 1008]
    assert [(step["rows"], step["dropped"]) for step in clean.facts["funnel"]] == [
        (8, 0),
        (6, 2),
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
    assert reference.arrays["static"][:, 0] == near(
        300.00 * 365.242, 40.00 * 365.242
    )  # 109,572 and 14,610 days, to 0.01 years
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
    cases = {"042": "100", "0449": "100", "045": "000", "20238": "010", "20239": "000", "2386": "010", "23861": "000",
             "1960": "001", "1991": "001", "19910": "000", "20975": "001", "78951": "001", "": "000"}  # fmt: skip
    hospital = Hospital()
    for hadm, code in enumerate(cases, start=1):
        hospital.patient(hadm, codes=("4019", code))
    prepared = prepare(hospital, tmp_path, "clean")
    assert [
        "".join(str(int(flag)) for flag in row) for row in prepared.arrays["static"][:, 1:4]
    ] == list(cases.values())
    groups = [[ICD9[k] for k in np.flatnonzero(row)] for row in prepared.arrays["icd9"]]
    assert (
        groups[0] == ["001-139", "390-459"]
        and groups[-2] == ["390-459", "780-789"]
        and groups[-1] == ["390-459"]
    )


@pytest.mark.parametrize(
    "code, group",
    [("0389", 0), ("139", 0), ("1400", 1), ("4600", 7), ("5199", 7), ("7599", 13), ("7600", -1), ("7806", 14), ("9999", 17),
     ("V103", 18), ("E8801", 19), ("6789", -1), ("000", -1)],
)  # fmt: skip
def test_group_of_an_icd9_code(code, group):
    assert group_of(code) == group


def test_mortality_labels_count_days_as_published(tmp_path):
    left = 100.0
    cases = {  # death in hospital at hour, DOD at hour -> six labels
        (20, 20): "111111", (-3, None): "111100", (24, None): "111100", (24.01, None): "101100", (72, 72): "100111",
        (73, 73): "100011", (None, left + 30 * 24): "000011", (None, left + 30 * 24 + 1): "000001",
        (None, left + 365.2 * 24): "000001", (None, left + 366 * 24): "000000", (None, None): "000000",
    }  # fmt: skip
    hospital = Hospital()
    for hadm, (death, dod) in enumerate(cases, start=1):
        hospital.patient(
            hadm,
            left=left,
            dead_in_hospital="" if death is None else at(death),
            died="" if dod is None else at(dod),
        )
    found = [
        "".join(str(label) for label in row)
        for row in prepare(hospital, tmp_path, "clean").arrays["mortality_labels"]
    ]
    assert found == list(cases.values())
