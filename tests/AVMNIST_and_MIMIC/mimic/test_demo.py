"""The open demo of MIMIC-III against the numbers of the original extraction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.arrays import SERIES, class_of
from AVMNIST_and_MIMIC.mimic.extraction.records import build_records
from AVMNIST_and_MIMIC.mimic.extraction.schema import DEMO
from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch
from AVMNIST_and_MIMIC.mimic.extraction.tables import find_tables
from AVMNIST_and_MIMIC.mimic.extraction.variables import NUMBER
from AVMNIST_and_MIMIC.prepare_mimic import extract, main
from tests.AVMNIST_and_MIMIC.tiny_mimic import Prepared


@pytest.fixture(scope="module")
def demo(shared) -> Path:
    folder = shared / "data/mimic_demo"
    if not folder.is_dir():
        pytest.skip(f"no MIMIC-III demo at {folder}")
    return folder


@pytest.fixture(scope="module")
def reference(demo, tmp_path_factory) -> Prepared:
    return _prepared(demo, tmp_path_factory.mktemp("reference"), "reference")


@pytest.fixture(scope="module")
def clean(demo, tmp_path_factory) -> Prepared:
    return _prepared(demo, tmp_path_factory.mktemp("clean"), "clean")


def _prepared(raw: Path, out: Path, mode: str) -> Prepared:
    extract(raw, out, mode)
    prepared = Prepared(out)
    prepared.folder = out
    return prepared


# Mean, std, min, max, admissions without a value, share observed: computed once by the original
# code.
SERIES_OF_THE_DEMO = [
    (14.1046, 2.3370, 3, 15, 1, 0.3047),
    (121.2080, 23.5003, 62, 199, 1, 0.8177),
    (86.1545, 18.5926, 32.5, 149, 1, 0.8347),
    (36.6796, 0.8912, 33.8333, 39.6667, 1, 0.3051),
    (2.7430, 1.6991, 0.6000, 9.4400, 51, 0.0493),
    (120.7412, 128.0352, 0, 1300, 1, 0.6039),
    (29.0349, 22.7535, 3, 126, 0, 0.1026),
    (11.5918, 8.6608, 1.2, 78.2, 0, 0.0954),
    (24.4111, 4.4498, 10, 38, 0, 0.0990),
    (138.8619, 6.0120, 117, 166, 0, 0.1174),
    (4.1177, 0.6625, 2.6, 6.3, 0, 0.1286),
    (2.0020, 4.6428, 0.1, 30.3, 28, 0.0318),
]


@pytest.mark.parametrize("k, expected", list(enumerate(SERIES_OF_THE_DEMO)), ids=SERIES)
def test_reference_series_of_the_demo_equal_the_original_extraction(reference, k, expected):
    x, mask = reference.arrays["series"][..., k], reference.arrays["series_mask"][..., k]
    values = (
        np.nanmean(x),
        np.nanstd(x),
        np.nanmin(x),
        np.nanmax(x),
        np.isnan(x).all(axis=1).sum(),
        mask.mean(),
    )
    assert values == pytest.approx(expected, abs=5.1e-5)


def test_reference_rows_of_the_demo_equal_the_original_extraction(reference):
    nan = float("nan")
    rows = {
        (101361, 0): (6, 121, 115.6667, 37.6667, 3.26, 75, 64, 5.1, 22, 146, 3.1, 0.2),
        (101361, 2): (15, 90, 102, 38.6111, 3.26, 5, 64, 5.1, 22, 146, 3.1, 0.2),
        (101361, 23): (15, 130, 117, 37.3333, 2.22, 450, 50, 5.6, 18, 148, 4.7, 0.2),
        (100969, 0): (14.5, 178, 69, 36.8333, 1.68, 80.2162, 14, 7.8, 21, 144, 3.8, nan),
        (100969, 23): (12, 144, 81, 37.1111, 1.68, 80, 19, 15.9, 24, 142, 4.1, nan),
    }
    for (hadm, hour), expected in rows.items():
        assert reference.row("series", hadm)[hour] == pytest.approx(
            expected, abs=5.1e-5, nan_ok=True
        )
    assert 181.5625 in reference.row("series", 101361)[:, SERIES.index("urine output")]
    for hadm, age, labels in (
        (101361, 20_102.91968, [0, 0, 0, 0, 0, 1]),
        (100969, 29_569.99232, [1, 0, 0, 0, 1, 1]),
    ):
        assert reference.row("static", hadm) == pytest.approx([age, 0, 0, 0, 0], abs=5e-6)
        assert reference.row("mortality_labels", hadm).tolist() == labels


def test_cohort_static_and_labels_of_the_demo(reference, clean, demo, tmp_path):
    dropped = {111761, 157235, 160442, 165393, 167612, 174245, 180685}
    for prepared in (reference, clean):
        arrays = prepared.arrays
        ids = arrays["hadm_id"].tolist()
        assert ids[:5] == [100375, 100969, 101361, 102203, 103379]
        assert ids[-5:] == [
            197611,
            198480,
            198503,
            199207,
            199395,
        ]
        assert len(ids) == 93 and not dropped & set(ids)
        assert arrays["mortality_labels"].sum(axis=0).tolist() == [27, 3, 4, 12, 39, 66]
        classes = class_of("mortality", arrays)
        assert np.bincount(classes).tolist() == [27, 3, 1, 8, 27, 27]
        assert [ids[i] for i in np.flatnonzero(classes == 1)] == [154156, 168803, 177759]
        icd9 = [38, 29, 70, 53, 32, 29, 81, 58, 44, 54, 0, 9, 17, 2, 40, 11, 2, 40, 43, 28]
        assert arrays["icd9"].sum(axis=0).tolist() == icd9
        assert arrays["static"][:, 1:4].sum(axis=0).tolist() == [0, 6, 18]
        assert np.bincount(arrays["static"][:, 4].astype(int)).tolist() == [73, 6, 14]
        assert np.median(arrays["static"][:, 0]) == pytest.approx(28_083.46, abs=5e-3)
        assert [step["rows"] for step in prepared.facts["funnel"]] == [129, *[100] * 5, 93]
        assert ids[arrays["subject_id"].tolist().index(40310)] == 186361, (
            "the first admission, not 157609"
        )
        assert prepared.facts["release"] == "MIMIC-III demo v1.4"
        assert prepared.facts["tables"] == DEMO
    ages = reference.arrays["static"][:, 0]
    assert (ages.mean(), ages.max()) == pytest.approx((32_123.94, 109_572.6), abs=5e-2)
    assert clean.arrays["static"][:, 0].max() == pytest.approx(89 * 365.242)
    extract(demo, tmp_path / "h48", "clean", horizon_hours=48)
    assert Prepared(tmp_path / "h48").facts["rows"] == 82


def test_raw_lists_of_the_demo_before_any_selection(demo, tmp_path):
    means = {
        "gcs": 14.0972,
        "systolic": 117.5207,
        "heart_rate": 87.7779,
        "temperature": 36.8989,
        "pao2": 124.5371,
        "fio2": 55.1236,
        "urine": 114.2102,
        "urea_nitrogen": 33.5078,
        "white_cells": 10.3147,
        "bicarbonate": 25.2154,
        "sodium": 139.3615,
        "potassium": 4.0189,
        "bilirubin": 8.5224,
    }
    with Scratch(tmp_path, 1) as scratch:
        scratch.load(find_tables(demo))
        build_records(scratch)
        rows = scratch.arrays(
            """SELECT variable, count(*) AS n, count(DISTINCT hadm_id) AS admissions,
              avg(value) AS mean FROM records GROUP BY ALL"""
        )
        by_variable = {int(k): values for k, *values in zip(*rows.values(), strict=True)}
        gases = scratch.arrays(
            """SELECT coalesce(specimen, '') AS specimen, count(*) AS n
            FROM gases GROUP BY ALL ORDER BY n DESC"""
        )
        stamps = "SELECT hadm_id, time FROM urine GROUP BY ALL HAVING count(value) = 0"
        empty = scratch.value(f"SELECT count(*) FROM ({stamps})")
        stays = scratch.value(
            "SELECT count(DISTINCT hadm_id) FROM records WHERE variable IN (1, 2, 3)"
        )
        arterial = scratch.value("SELECT count(*) FROM gases WHERE arterial")
    fio2, *_ = by_variable[NUMBER["fio2"]]
    # Empty: stamps of urine without an amount.
    counts = {"gcs": [3_982, 125], "urine": [9_158 - empty, 123], "pao2": [1_104, 88]}
    found_means = {name: by_variable[k][2] for name, k in NUMBER.items()}
    assert found_means == pytest.approx(means, abs=5.1e-5)
    assert {name: by_variable[NUMBER[name]][:2] for name in counts} == counts
    assert empty == 17
    assert gases["n"].tolist() == [1_166, 42, 37, 10, 1]
    assert (arterial, fio2, stays) == (
        1_217,
        764,
        125,
    )
    assert list(tmp_path.iterdir()) == [], "the scratch database is gone"


def test_clean_and_reference_of_the_demo_describe_the_same_patients(clean, reference):
    np.testing.assert_array_equal(clean.arrays["hadm_id"], reference.arrays["hadm_id"])
    assert clean.arrays["series"].dtype == np.float32
    assert reference.arrays["series"].dtype == np.float64
    for k in (1, 2, 3, 6, 9):  # other bins, other filling, the same measurements
        both = [
            float(np.nanmean(prepared.arrays["series"][..., k])) for prepared in (clean, reference)
        ]
        assert both[0] == pytest.approx(both[1], rel=0.02)


def test_check_of_the_demo_passes_and_says_what_differs(reference, clean, capsys):
    for prepared, judged in ((reference, 28), (clean, 15)):
        main(["--check", str(prepared.folder)])
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("PASS") for line in lines) == judged
        assert lines[-1].startswith("checked, all well")
        assert not any(line.startswith("DIFFERS") for line in lines)
