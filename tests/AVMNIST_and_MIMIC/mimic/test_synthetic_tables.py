"""Tables of the synthetic hospital: real columns, every trap of the real tables, dates that fit."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from AVMNIST_and_MIMIC.make_synthetic_mimic import make_raw_tables
from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import make_hospital
from tests.AVMNIST_and_MIMIC.tiny_mimic import NEEDED

PATIENTS = 400


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
    return read["CHARTEVENTS"].astype({"ITEMID": int, "VALUENUM": float})


@pytest.fixture(scope="module")
def labs(read) -> pd.DataFrame:
    return read["LABEVENTS"].astype({"ITEMID": int, "VALUENUM": float})


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
        "CHARTEVENTS": '"ROW_ID","SUBJECT_ID","HADM_ID","ICUSTAY_ID","ITEMID","CHARTTIME",'
        '"STORETIME","CGID","VALUE","VALUENUM","VALUEUOM","WARNING","ERROR","RESULTSTATUS",'
        '"STOPPED"\n',
        "LABEVENTS": '"ROW_ID","SUBJECT_ID","HADM_ID","ITEMID","CHARTTIME","VALUE","VALUENUM",'
        '"VALUEUOM","FLAG"\n',
        "PATIENTS": '"ROW_ID","SUBJECT_ID","GENDER","DOB","DOD","DOD_HOSP","DOD_SSN",'
        '"EXPIRE_FLAG"\n',
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
    """column -> kinds of its fields that are not empty, of the first rows.

    Kinds are text (quoted), time and number.
    """
    shapes: dict[str, set[str]] = {}
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
                    kind = "text" if cell[0] == '"' else "time" if time else "number"
                    shapes.setdefault(column, set()).add(kind)
                    assert time or cell[0] == '"' or re.fullmatch(r"-?\d*\.?\d+", cell), cell
    return shapes


def test_folder_says_that_no_patient_is_real(raw):
    text = (raw / "SYNTHETIC.txt").read_text()
    assert text.startswith("SYNTHETIC") and "no patient is real" in text and text.count("\n") == 1


def test_keys_are_unique_and_refer_to_each_other(read):
    admissions, stays = read["ADMISSIONS"], read["ICUSTAYS"]
    assert read["PATIENTS"]["SUBJECT_ID"].is_unique
    assert admissions["HADM_ID"].is_unique
    assert stays["ICUSTAY_ID"].is_unique
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
    assert (stays["OUTTIME"] > stays["INTIME"]).all()
    assert (admissions["DISCHTIME"] > admissions["ADMITTIME"]).all()
    described = set(read["D_ITEMS"]["ITEMID"])
    assert set(read["CHARTEVENTS"]["ITEMID"]) | set(read["OUTPUTEVENTS"]["ITEMID"]) <= described
    assert set(read["LABEVENTS"]["ITEMID"]) <= set(read["D_LABITEMS"]["ITEMID"])


def test_patients_of_every_kind_occur(read, first):
    age = (first["ADMITTIME"] - first["DOB"]).dt.days / 365.25
    assert (age < 15).any()
    assert ((age > 299) & (age < 301)).any()
    assert not ((age > 91) & (age < 299)).any()
    admissions, stays = read["ADMISSIONS"], read["ICUSTAYS"]
    assert admissions["SUBJECT_ID"].duplicated().any() and stays["HADM_ID"].duplicated().any()
    assert set(admissions["HADM_ID"]) - set(stays["HADM_ID"])  # never in an ICU
    assert ((first["DISCHTIME"] - first["ADMITTIME"]) < pd.Timedelta("24h")).any()
    assert set(stays["DBSOURCE"]) == {"carevue", "metavision"}
    assert not admissions["HADM_ID"].astype(int).is_monotonic_increasing
    services = read["SERVICES"]
    assert services["HADM_ID"].duplicated().any()
    assert services["CURR_SERVICE"].isin(["ORTHO", "GYN", "NSURG"]).any()
    medical = services.drop_duplicates("HADM_ID").query("CURR_SERVICE == 'MED'")["HADM_ID"]
    assert (admissions.set_index("HADM_ID").loc[medical, "ADMISSION_TYPE"] == "ELECTIVE").any()
    codes = read["DIAGNOSES_ICD"]["ICD9_CODE"]
    assert codes.isna().any()
    assert codes.str.startswith("V").any()
    assert codes.str.startswith("E").any()
    assert "0389" in set(codes)
    assert codes.isin(["1970", "1983", "1985", "19889"]).any()
    assert codes.isin(["20500", "2386"]).any()


def test_charts_hold_every_trap(charts):
    by_item = charts.groupby("ITEMID")["VALUENUM"]
    assert set(NEEDED) <= set(charts["ITEMID"])
    assert charts["ICUSTAY_ID"].isna().any()
    assert (charts["ERROR"] == "1").any()
    assert charts["ERROR"].isna().any()
    assert {"1.0 ET/Trach", "No Response-ETT", "None", "NA"} <= set(charts["VALUE"].dropna())
    assert ((charts["VALUE"] == "None") & (charts["ITEMID"] == 220739)).any()
    heart = charts[charts["ITEMID"].isin([211, 220045])]
    assert (heart["VALUENUM"] >= 300).any()
    assert (heart["VALUENUM"] <= 0).any()
    assert heart["VALUENUM"].isna().any()
    assert by_item.median()[678] > 90 and by_item.median()[676] < 40 < by_item.quantile(0.999)[676]
    fractions, percents = charts.query("ITEMID == 190"), charts.query("ITEMID == 3420")
    assert (fractions["VALUENUM"] == 1.0).any()
    assert fractions["VALUENUM"].median() < 1
    assert percents["VALUENUM"].median() > 21
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
    intime = read["ICUSTAYS"].groupby("HADM_ID", as_index=False)["INTIME"].min()
    inpatient = labs.dropna(subset="HADM_ID").merge(intime)
    times = inpatient[["INTIME", "CHARTTIME"]].astype("datetime64[s]")
    before = times["INTIME"] - times["CHARTTIME"]
    assert ((before > pd.Timedelta(0)) & (before < pd.Timedelta("6h"))).any()
    assert (before > pd.Timedelta("6h")).any()
    gases = (
        labs[labs["ITEMID"].between(50800, 50828)]
        .groupby(["HADM_ID", "CHARTTIME"])["ITEMID"]
        .agg(set)
    )
    oxygen = gases[[50821 in items for items in gases]]
    named = np.array([50800 in items for items in oxygen])
    assert named.any() and (~named).any() and any(50816 not in items for items in oxygen)
    assert {"ART", "VEN", "MIX"} <= set(labs.query("ITEMID == 50800")["VALUE"])
    assert (labs.query("ITEMID == 50821")["VALUENUM"] > 800).any()
    assert (labs.query("ITEMID == 51006")["VALUENUM"] > 300).any()
    admissions = labs["HADM_ID"].nunique()
    for item, share in ((50885, 0.9), (50821, 0.8)):  # often absent
        assert labs[labs["ITEMID"] == item]["HADM_ID"].nunique() < share * admissions
    outputs = read["OUTPUTEVENTS"]
    assert {"40055", "226559", "227488", "227489", "226571"} <= set(outputs["ITEMID"])
    assert outputs.duplicated(["ICUSTAY_ID", "CHARTTIME", "ITEMID"]).any()


def test_dates_give_the_classes_that_were_drawn(first, read):
    """The notes' rules, applied to the written dates, against the drawn classes."""
    hours = (first["DEATHTIME"] - first["INTIME"]) / pd.Timedelta("1h")
    days = (first["DOD"] - first["DISCHTIME"]) / pd.Timedelta("1D")
    limits = [hours <= 24, hours <= 48, hours <= 72, days <= 30, days <= 365.245]
    classes = np.select(limits, [1, 2, 3, 4, 5], 0)
    hospital = make_hospital(PATIENTS, np.random.default_rng((0, 0)))
    drawn = dict(
        zip(hospital.patients["subject_id"].astype(str), hospital.patients["class"], strict=True)
    )
    assert classes.tolist() == [drawn[subject] for subject in first["SUBJECT_ID"]]
