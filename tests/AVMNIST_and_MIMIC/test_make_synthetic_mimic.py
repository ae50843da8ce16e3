"""Synthetic MIMIC-III tables: real columns, the same bytes every time, every trap of the real
tables, learnable labels."""

from __future__ import annotations

import csv
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from AVMNIST_and_MIMIC.make_synthetic_mimic import main, make_raw_tables
from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import make_hospital
from AVMNIST_and_MIMIC.mimic.synthetic.tasks import LATENTS, TASKS, Task
from benchmarks import mimic_extract
from i2m2.errors import SettingsError
from tests.conftest import ROOT

PATIENTS = 400
NEEDED = (
    723, 223900, 454, 223901, 184, 220739, 51, 442, 455, 6701, 220179, 220050, 211, 220045, 223761, 678, 223762, 676,
    223835, 3420, 3422, 190, 646, 220277,
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mimic") / "raw"
    make_raw_tables(folder, PATIENTS)
    return folder


@pytest.fixture(scope="module")
def read(raw):
    """table -> frame of texts; empty fields are missing, the text None is a text."""
    return {
        table: pd.read_csv(raw / f"{table}.csv.gz", dtype=str, keep_default_na=False, na_values="")
        for table in tables.TABLES
    }


@pytest.fixture(scope="module")
def charts(read) -> pd.DataFrame:
    frame = read["CHARTEVENTS"].copy()
    frame["ITEMID"], frame["VALUENUM"] = (
        frame["ITEMID"].astype(int),
        frame["VALUENUM"].astype(float),
    )
    return frame


@pytest.fixture(scope="module")
def labs(read) -> pd.DataFrame:
    frame = read["LABEVENTS"].copy()
    frame["ITEMID"], frame["VALUENUM"] = (
        frame["ITEMID"].astype(int),
        frame["VALUENUM"].astype(float),
    )
    return frame


@pytest.fixture(scope="module")
def first(read) -> pd.DataFrame:
    """First admissions with their patients and first ICU stays; times as datetime64[s]."""
    admissions = (
        read["ADMISSIONS"]
        .merge(read["PATIENTS"], on="SUBJECT_ID")
        .sort_values("ADMITTIME")
        .drop_duplicates("SUBJECT_ID")
    )
    stays = read["ICUSTAYS"].groupby("HADM_ID", as_index=False)["INTIME"].min()
    admissions = admissions.merge(stays, on="HADM_ID")
    for name in ("ADMITTIME", "DISCHTIME", "DEATHTIME", "DOB", "DOD", "INTIME"):
        admissions[name] = admissions[name].astype("datetime64[s]")
    return admissions


def header(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.readline()


def test_headers_are_those_of_the_release(raw):
    expected = {
        "CHARTEVENTS": '"ROW_ID","SUBJECT_ID","HADM_ID","ICUSTAY_ID","ITEMID","CHARTTIME","STORETIME","CGID","VALUE","VALUENUM",'
        '"VALUEUOM","WARNING","ERROR","RESULTSTATUS","STOPPED"\n',
        "LABEVENTS": '"ROW_ID","SUBJECT_ID","HADM_ID","ITEMID","CHARTTIME","VALUE","VALUENUM","VALUEUOM","FLAG"\n',
        "PATIENTS": '"ROW_ID","SUBJECT_ID","GENDER","DOB","DOD","DOD_HOSP","DOD_SSN","EXPIRE_FLAG"\n',
        "DIAGNOSES_ICD": '"ROW_ID","SUBJECT_ID","HADM_ID","SEQ_NUM","ICD9_CODE"\n',
    }
    assert {table: header(raw / f"{table}.csv.gz") for table in expected} == expected


@pytest.mark.parametrize("table", tables.TABLES)
def test_columns_quotes_and_times_equal_the_demo(table, raw, shared):
    demo = shared / "data/mimic_demo" / f"{table}.csv.gz"
    if not demo.exists():
        pytest.skip(f"no {demo}")
    assert header(raw / demo.name) == header(demo)
    ours, real = _shapes(raw / demo.name), _shapes(demo)
    for column in ours.keys() & real.keys():
        kinds = real[column] | (
            {"number"} if "text" not in real[column] and "time" not in real[column] else set()
        )
        assert ours[column] <= kinds, f"{table}.{column}"


def _shapes(path: Path, rows: int = 3000) -> dict[str, set[str]]:
    """column -> kinds of its fields that are not empty, of the first rows: text (quoted), time,
    number."""
    found: dict[str, set[str]] = {}
    field = re.compile(r'("[^"]*")|([^,]*)')
    with gzip.open(path, "rt", encoding="utf-8") as file:
        columns = next(csv.reader([file.readline()]))
        for line, _ in zip(file, range(rows), strict=False):
            cells, position = [], 0
            line = line.rstrip("\n")
            while position <= len(line):
                match = field.match(line, position)
                cells.append(match.group())
                position = match.end() + 1
            assert len(cells) == len(columns), line
            for column, cell in zip(columns, cells, strict=True):
                if cell:
                    time = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", cell)
                    found.setdefault(column, set()).add(
                        "text" if cell[0] == '"' else "time" if time else "number"
                    )
                    assert time or cell[0] == '"' or re.fullmatch(r"-?\d*\.?\d+", cell), cell
    return found


def test_same_arguments_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_raw_tables(tmp_path / name, 15, seed, chart_rows=3000)
    a, b, c = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"
    )
    assert a == b
    assert not [name for name in a if a[name] == c[name]]
    assert sorted(a) == sorted([*(f"{table}.csv.gz" for table in tables.TABLES), "SYNTHETIC.txt"])


def test_folder_says_that_no_patient_is_real(raw):
    text = (raw / "SYNTHETIC.txt").read_text()
    assert text.startswith("SYNTHETIC") and "no patient is real" in text and text.count("\n") == 1


def test_keys_are_unique_and_refer_to_each_other(read):
    admissions, stays = read["ADMISSIONS"], read["ICUSTAYS"]
    assert (
        read["PATIENTS"]["SUBJECT_ID"].is_unique
        and admissions["HADM_ID"].is_unique
        and stays["ICUSTAY_ID"].is_unique
    )
    pairs = set(zip(admissions["SUBJECT_ID"], admissions["HADM_ID"], strict=True))
    for table in (
        "ICUSTAYS",
        "SERVICES",
        "DIAGNOSES_ICD",
        "CHARTEVENTS",
        "LABEVENTS",
        "OUTPUTEVENTS",
        "TRANSFERS",
    ):
        frame = read[table].dropna(subset="HADM_ID")
        assert set(zip(frame["SUBJECT_ID"], frame["HADM_ID"], strict=True)) <= pairs, table
        assert list(read[table]["ROW_ID"].astype(int)) == list(range(1, len(read[table]) + 1))
    assert set(read["CHARTEVENTS"]["ICUSTAY_ID"].dropna()) <= set(stays["ICUSTAY_ID"])
    assert (stays["OUTTIME"] > stays["INTIME"]).all() and (
        admissions["DISCHTIME"] > admissions["ADMITTIME"]
    ).all()
    known = set(read["D_ITEMS"]["ITEMID"])
    assert set(read["CHARTEVENTS"]["ITEMID"]) | set(read["OUTPUTEVENTS"]["ITEMID"]) <= known
    assert set(read["LABEVENTS"]["ITEMID"]) <= set(read["D_LABITEMS"]["ITEMID"])


def test_patients_of_every_kind_occur(read, first):
    age = (first["ADMITTIME"] - first["DOB"]).dt.days / 365.25
    assert (
        (age < 15).any()
        and ((age > 299) & (age < 301)).any()
        and not ((age > 91) & (age < 299)).any()
    )
    admissions, stays = read["ADMISSIONS"], read["ICUSTAYS"]
    assert admissions["SUBJECT_ID"].duplicated().any() and stays["HADM_ID"].duplicated().any()
    assert set(admissions["HADM_ID"]) - set(stays["HADM_ID"])  # never in an ICU
    assert ((first["DISCHTIME"] - first["ADMITTIME"]) < pd.Timedelta("24h")).any()
    assert set(stays["DBSOURCE"]) == {"carevue", "metavision"}
    assert not admissions["HADM_ID"].astype(int).is_monotonic_increasing
    services = read["SERVICES"]
    assert (
        services["HADM_ID"].duplicated().any()
        and services["CURR_SERVICE"].isin(["ORTHO", "GYN", "NSURG"]).any()
    )
    medical = services.drop_duplicates("HADM_ID").query("CURR_SERVICE == 'MED'")["HADM_ID"]
    assert (admissions.set_index("HADM_ID").loc[medical, "ADMISSION_TYPE"] == "ELECTIVE").any()
    codes = read["DIAGNOSES_ICD"]["ICD9_CODE"]
    assert (
        codes.isna().any()
        and codes.str.startswith("V").any()
        and codes.str.startswith("E").any()
        and "0389" in set(codes)
    )
    assert (
        codes.isin(["1970", "1983", "1985", "19889"]).any() and codes.isin(["20500", "2386"]).any()
    )


def test_charts_hold_every_trap(charts):
    by_item = charts.groupby("ITEMID")["VALUENUM"]
    assert set(NEEDED) <= set(charts["ITEMID"])
    assert (
        charts["ICUSTAY_ID"].isna().any()
        and (charts["ERROR"] == "1").any()
        and charts["ERROR"].isna().any()
    )
    assert {"1.0 ET/Trach", "No Response-ETT", "None", "NA"} <= set(charts["VALUE"].dropna())
    assert ((charts["VALUE"] == "None") & (charts["ITEMID"] == 220739)).any()
    heart = charts[charts["ITEMID"].isin([211, 220045])]
    assert (
        (heart["VALUENUM"] >= 300).any()
        and (heart["VALUENUM"] <= 0).any()
        and heart["VALUENUM"].isna().any()
    )
    assert by_item.median()[678] > 90 and by_item.median()[676] < 40 < by_item.quantile(0.999)[676]
    fractions, percents = charts.query("ITEMID == 190"), charts.query("ITEMID == 3420")
    assert (
        (fractions["VALUENUM"] == 1.0).any()
        and fractions["VALUENUM"].median() < 1
        and percents["VALUENUM"].median() > 21
    )
    machine = charts.query("ITEMID == 223835")["VALUENUM"]
    assert machine.between(0.2, 1).any() and machine.between(21, 100).any()
    assert charts["CHARTTIME"].str.endswith(":00:00").mean() > 0.2
    assert (
        charts[charts["ITEMID"].isin(NEEDED)]
        .duplicated(["ICUSTAY_ID", "ITEMID", "CHARTTIME"])
        .any()
    )


def test_labs_and_outputs_hold_every_trap(read, labs):
    assert labs["HADM_ID"].isna().any()
    known = labs.dropna(subset="HADM_ID").merge(
        read["ICUSTAYS"].groupby("HADM_ID", as_index=False)["INTIME"].min()
    )
    before = known["INTIME"].astype("datetime64[s]") - known["CHARTTIME"].astype("datetime64[s]")
    assert ((before > pd.Timedelta(0)) & (before < pd.Timedelta("6h"))).any() and (
        before > pd.Timedelta("6h")
    ).any()
    gases = (
        labs[labs["ITEMID"].between(50800, 50828)]
        .groupby(["HADM_ID", "CHARTTIME"])["ITEMID"]
        .agg(set)
    )
    oxygen = gases[[50821 in items for items in gases]]
    named = np.array([50800 in items for items in oxygen])
    assert named.any() and (~named).any() and any(50816 not in items for items in oxygen)
    assert {"ART", "VEN", "MIX"} <= set(labs.query("ITEMID == 50800")["VALUE"])
    assert (labs.query("ITEMID == 50821")["VALUENUM"] > 800).any() and (
        labs.query("ITEMID == 51006")["VALUENUM"] > 300
    ).any()
    admissions = labs["HADM_ID"].nunique()
    for item, share in ((50885, 0.9), (50821, 0.8)):  # often absent
        assert labs[labs["ITEMID"] == item]["HADM_ID"].nunique() < share * admissions
    outputs = read["OUTPUTEVENTS"]
    assert {"40055", "226559", "227488", "227489", "226571"} <= set(outputs["ITEMID"])
    assert outputs.duplicated(["ICUSTAY_ID", "CHARTTIME", "ITEMID"]).any()


def test_label_shares_lie_in_their_bands():
    hospital = make_hospital(8000, np.random.default_rng(5))
    adult = ~hospital.patients["child"]
    share = np.bincount(hospital.patients["class"][adult], minlength=6) / adult.sum()
    assert 0.70 < share[0] < 0.76 and 0.10 < share[4] < 0.18 and 0.05 < share[5] < 0.10
    assert (share[1:4] > 0.002).all() and (share[1:4] < 0.03).all()
    grown = adult[hospital.admissions["patient"]]
    cancer = (
        hospital.admissions["group_1"]
        | hospital.admissions["metastatic"]
        | hospital.admissions["haematological"]
    )
    assert (
        0.16 < cancer[grown].mean() < 0.21
        and 0.45 < hospital.admissions["group_7"][grown].mean() < 0.50
    )


def test_dates_give_the_classes_that_were_drawn(first, read):
    """The notes' rules, applied to the written dates, against the drawn classes."""
    hours = (first["DEATHTIME"] - first["INTIME"]) / pd.Timedelta("1h")
    days = (first["DOD"] - first["DISCHTIME"]) / pd.Timedelta("1D")
    found = np.select(
        [hours <= 24, hours <= 48, hours <= 72, days <= 30, days <= 365.245], [1, 2, 3, 4, 5], 0
    )
    hospital = make_hospital(PATIENTS, np.random.default_rng((0, 0)))
    drawn = dict(
        zip(hospital.patients["subject_id"].astype(str), hospital.patients["class"], strict=True)
    )
    assert found.tolist() == [drawn[subject] for subject in first["SUBJECT_ID"]]


def test_log_odds_are_three_parts_and_the_interaction_is_in_neither_alone():
    task = Task(0.5, (2.0, 3.0, 4.0), {"age": 3, "old": 4}, {"shock": 1}, ("old", "drive"))
    features = {"age": np.array([1.0, 0.0]), "old": np.array([1.0, -1.0])}
    latents = {"shock": np.array([1.0, 2.0]), "drive": np.array([0.5, 0.5])}
    assert np.allclose(
        task.log_odds(features, latents), [0.5 + 2 * 1.4 + 3 + 2, 0.5 - 2 * 0.8 + 6 - 2]
    )
    assert all(
        task.both[1] not in task.series and task.both[1] in LATENTS for task in TASKS.values()
    )


@pytest.mark.parametrize("rows", [200, 9001])
def test_chart_rows_are_honoured_exactly(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "AVMNIST_and_MIMIC.mimic.synthetic.writing.BLOCK_ROWS", 2000
    )  # several blocks
    make_raw_tables(tmp_path / "raw", 7, chart_rows=rows)
    frame = pd.read_csv(tmp_path / "raw/CHARTEVENTS.csv.gz", dtype=str)
    assert len(frame) == rows and frame["ROW_ID"].astype(int).tolist() == list(range(1, rows + 1))


def test_one_chart_row_in_seven_is_needed_at_the_density_of_the_release(tmp_path):
    make_raw_tables(tmp_path / "raw", 10, chart_rows=71_000)
    items = pd.read_csv(tmp_path / "raw/CHARTEVENTS.csv.gz", usecols=["ITEMID"])["ITEMID"]
    assert 1 / 10 < items.isin(NEEDED).mean() < 1 / 5


@pytest.mark.parametrize("patients", [1, 2])
def test_a_hospital_may_be_tiny(patients, tmp_path):
    make_raw_tables(tmp_path / "raw", patients, seed=3)
    assert len(pd.read_csv(tmp_path / "raw/PATIENTS.csv.gz")) == patients


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--patients", "0"], "--patients 0 must be 1..46520"),
        (["--seed", "-1"], "--seed -1 must be at least 0"),
        (["--chart-rows", "0"], "--chart-rows 0 must be at least 1"),
        (["--patients", "many"], "invalid int value"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path):
    with pytest.raises(SettingsError, match=re.escape(message)):
        main(["--out", str(tmp_path / "raw"), *arguments])
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_refused_in_one_line(raw):
    command = [sys.executable, "-m", "AVMNIST_and_MIMIC.make_synthetic_mimic", "--out", str(raw)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "exists and is not an empty folder" in done.stderr


def test_nothing_is_left_of_a_failed_writing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("AVMNIST_and_MIMIC.mimic.synthetic.writing.write_table", fail)
    with pytest.raises(OSError):
        make_raw_tables(tmp_path / "raw", 3)
    assert not list(tmp_path.iterdir())


def test_benchmark_fits_a_line_through_seconds_and_says_what_is_projected():
    costs = [mimic_extract.Cost(2 + 0.5 * millions, 1 + millions, 1.0) for millions in (1, 5, 20)]
    text = "\n".join(mimic_extract.fit_lines([1, 5, 20], costs))
    assert (
        "clock: 2.00 s + 0.500 s per million rows, R² 1.0000; last step over first: 1.00 (target <= 1.2: met)"
        in text
    )
    assert (
        "PROJECTION" in text and f"{2 + 0.5 * 330.712483:.0f} s" in text and "peak 1.0 GB" in text
    )


def test_benchmark_measures_the_child_and_not_itself():
    cost = mimic_extract.measure(["this"])
    assert 0 < cost.cpu < 5 and cost.peak < 0.1
