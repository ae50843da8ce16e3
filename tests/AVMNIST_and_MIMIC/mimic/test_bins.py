"""Bins and imputation of MIMIC-III on hand-made tables: clean and reference by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.AVMNIST_and_MIMIC.tiny_mimic import (
    GAS_FIO2,
    HEART_RATE,
    NAN,
    PAO2,
    PRESSURE,
    RATE,
    RATIO,
    SODIUM,
    SODIUM_ITEM,
    SYSTOLIC,
    TEMPERATURE,
    URINE,
    VOLUME,
    Hospital,
    at,
    both,
    near,
    prepare,
)


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
    # 1 mL at 0 h (bin 0) and at 30 h (bin 29 only): the mean of all bins is 1, not 2.
    one = hospital.patient(1, length=30)
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
    assert np.isnan(clean.row("series", one)[:, SYSTOLIC]).all()
    assert (reference.row("series", one)[:, SYSTOLIC] == 120).all()
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
    assert long.row("series", one)[94:, RATE] == near(NAN, 66)
    assert long.facts["variant"] == "clean-h48-b0.5"
