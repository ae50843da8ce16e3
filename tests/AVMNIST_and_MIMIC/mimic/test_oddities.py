"""What raw tables hold that can hardly be meant is counted, or refused where it cannot be meant."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
from pathlib import Path

import duckdb
import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch
from AVMNIST_and_MIMIC.prepare_mimic import extract, main
from i2m2.errors import DataError
from tests.AVMNIST_and_MIMIC.tiny_mimic import HEART_RATE, VOLUME, Hospital


@pytest.fixture
def raw(tmp_path) -> Path:
    hospital = Hospital()
    for hadm in (1, 2, 3):
        hospital.patient(hadm)
        hospital.chart(hadm, HEART_RATE, 1, 60)
        hospital.chart(hadm, HEART_RATE, 30, 60)
        hospital.output(hadm, 2, 100)
        hospital.lab(hadm, 50983, hadm, 140)
    return hospital.write(tmp_path / "raw")


def change(raw: Path, table: str, edit) -> None:
    """Let `edit` change a table's rows, dictionaries by lower-case column, in place."""
    path = raw / f"{table}.csv.gz"
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    names = list(rows[0])
    edit(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def setting(column: str, value: str, of: int = 0):
    """-> what gives one row another value."""

    def edit(rows):
        rows[of][column] = value

    return edit


@pytest.mark.parametrize(
    "table, column, value, counted",
    [
        ("ADMISSIONS", "DEATHTIME", "1990-01-01 00:00:00", "deaths before the admission"),
        ("ADMISSIONS", "DISCHTIME", "1990-01-01 00:00:00", "discharges before the admission"),
        ("PATIENTS", "DOB", "2150-01-01 00:00:00", "births after the admission"),
        ("ADMISSIONS", "DEATHTIME", "2100-01-03 00:00:00", "deaths in hospital without DOD"),
        ("PATIENTS", "DOB", "", "rows of PATIENTS without DOB"),
        ("CHARTEVENTS", "CHARTTIME", "", "rows of CHARTEVENTS without CHARTTIME"),
        ("CHARTEVENTS", "CHARTTIME", "infinity", "rows of CHARTEVENTS without CHARTTIME"),
        ("ADMISSIONS", "HADM_ID", "1.0", "rows of ADMISSIONS with an id written as a decimal"),
        ("LABEVENTS", "ITEMID", "50983.0", "rows of LABEVENTS with an id written as a decimal"),
    ],
)
def test_what_can_hardly_be_meant_is_counted(table, column, value, counted, raw, tmp_path, capsys):
    plain = extract(raw, tmp_path / "plain")["oddities"]
    change(raw, table, setting(column, value))
    main(["--raw", str(raw), "--out", str(tmp_path / "odd")])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "odd/dataset.json").read_text())["oddities"]
    name = next(name for name in found if name.startswith(counted))
    assert (plain[name], found[name]) == (0, 1) and f"1 {counted}" in printed
    main(["--check", str(tmp_path / "odd")])
    assert counted in capsys.readouterr().out


def test_a_row_of_urine_that_repeats_another_counts_once_unless_as_published(raw, tmp_path):
    before = {mode: volume_of(raw, tmp_path / f"{mode}-before", mode) for mode in MODES}
    change(raw, "OUTPUTEVENTS", lambda rows: rows.extend({**r, "ROW_ID": "99"} for r in rows[:2]))
    after = {mode: volume_of(raw, tmp_path / f"{mode}-after", mode) for mode in MODES}
    assert after["clean"] == before["clean"] and after["reference"] > before["reference"]
    facts = json.loads((tmp_path / "clean-after/dataset.json").read_text())
    assert (
        facts["oddities"]["rows of OUTPUTEVENTS that repeat another in all but ROW_ID (left out)"]
        == 2
    )


MODES = ("clean", "reference")


def volume_of(raw: Path, out: Path, mode: str) -> float:
    extract(raw, out, mode)
    with np.load(out / "mimic.npz") as file:
        return float(np.nansum(file["series"][..., VOLUME]))


def test_a_column_may_be_named_with_quotation_marks(raw, tmp_path):
    before = volume_of(raw, tmp_path / "before", "clean")
    path = raw / "OUTPUTEVENTS.csv.gz"
    header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    wider = [f'{header},"the ""note"""', *(f"{row},x" for row in rows)]
    path.write_bytes(gzip.compress("\n".join(wider).encode()))
    assert volume_of(raw, tmp_path / "after", "clean") == before


def test_two_entries_of_one_time_and_amount_are_no_copies_of_each_other(raw, tmp_path):
    before = volume_of(raw, tmp_path / "before", "clean")
    change(raw, "OUTPUTEVENTS", lambda rows: rows.append({**rows[0], "ISERROR": "0"}))
    assert volume_of(raw, tmp_path / "after", "clean") == before + 1


@pytest.mark.parametrize(
    "table, column, value, message",
    [
        ("ADMISSIONS", "HADM_ID", "1.5", "HADM_ID holds 1.5, which is no whole number"),
        ("CHARTEVENTS", "ITEMID", "211.4", "ITEMID holds 211.4, which is no whole number"),
        ("CHARTEVENTS", "ITEMID", "211.6", "ITEMID holds 211.6, which is no whole number"),
        (
            "CHARTEVENTS",
            "CHARTTIME",
            "01/02/2101",
            "CHARTTIME holds '01/02/2101', which is no time",
        ),
        (
            "LABEVENTS",
            "CHARTTIME",
            "15-01-01 03:00:00",
            "CHARTTIME holds '15-01-01 03:00:00', which",
        ),
        ("ADMISSIONS", "ADMITTIME", "99-12-31", "ADMITTIME holds '99-12-31', which is no time as"),
        ("CHARTEVENTS", "CHARTTIME", "Epoch", "CHARTTIME holds 'Epoch', which is no time as Phys"),
        ("PATIENTS", "DOB", "-infinity", "DOB holds '-infinity', which is no time as PhysioNet"),
        ("PATIENTS", "SUBJECT_ID", "one", "SUBJECT_ID holds 'one', which is no integer"),
        ("LABEVENTS", "VALUENUM", "high", "VALUENUM holds 'high', which is no number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_column_and_value(
    table, column, value, message, raw, tmp_path
):
    change(raw, table, setting(column, value))
    with pytest.raises(DataError, match=f"{table}.csv.gz: .*{message}") as error:
        extract(raw, tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("code", ["42", "4019.0", "200.01", "I10", "X123", "250000", "  "])
def test_what_is_no_icd9_code_is_refused(code, raw, tmp_path):
    change(raw, "DIAGNOSES_ICD", setting("ICD9_CODE", code))
    message = f"DIAGNOSES_ICD.csv.gz: .*ICD9_CODE holds '{code}', which is no ICD-9 code.*0389"
    with pytest.raises(DataError, match=message) as error:
        extract(raw, tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "codes, message",
    [(["389"] * 500, "no ICD9_CODE begins with 0: .*lost"), ([""], "ICD9_CODE is empty in every")],
)
def test_codes_that_lost_their_zeros_or_all_are_refused(codes, message, raw, tmp_path):
    def edit(rows):
        rows[:] = [{**rows[0], "ICD9_CODE": code} for code in codes]

    change(raw, "DIAGNOSES_ICD", edit)
    with pytest.raises(DataError, match=f"DIAGNOSES_ICD.csv.gz: {message}"):
        extract(raw, tmp_path / "out")


def emptying(*columns: str):
    """-> what empties columns in every row."""

    def edit(rows):
        for row in rows:
            row |= dict.fromkeys(columns, "")

    return edit


@pytest.mark.parametrize(
    "table, column",
    [
        ("PATIENTS", "DOB"),
        ("ADMISSIONS", "ADMITTIME"),
        ("ADMISSIONS", "DISCHTIME"),
        ("ADMISSIONS", "ADMISSION_TYPE"),
        ("ICUSTAYS", "INTIME"),
        ("SERVICES", "CURR_SERVICE"),
        ("OUTPUTEVENTS", "VALUE"),
        ("LABEVENTS", "VALUENUM"),
        ("CHARTEVENTS", "VALUENUM"),
    ],
)
def test_a_column_that_is_empty_in_every_row_is_refused(table, column, raw, tmp_path):
    change(raw, table, emptying(column))
    with pytest.raises(DataError, match=f"{table}.csv.gz: {column} is empty in every row; copy"):
        extract(raw, tmp_path / "out")


@pytest.mark.parametrize(
    "table, column, message",
    [
        ("PATIENTS", "DOD", "names deaths in hospital, but in PATIENTS DOD is empty in every row"),
        ("ADMISSIONS", "DEATHTIME", "DEATHTIME is empty in every row, but by DOD in PATIENTS some"),
    ],
)
def test_deaths_of_which_one_of_two_tables_tells_nothing_are_refused(
    table, column, message, tmp_path
):
    hospital = Hospital()
    for hadm in range(1, 11):
        hospital.patient(hadm, died="2100-01-03 00:00:00", dead_in_hospital="2100-01-03 05:00:00")
    raw = hospital.write(tmp_path / "raw")
    extract(raw, tmp_path / "whole")
    change(raw, table, emptying(column))
    with pytest.raises(DataError, match=f"ADMISSIONS.csv.gz: {message}"):
        extract(raw, tmp_path / "out")


def test_blanks_and_small_letters_change_no_code_and_no_admission_type(raw, tmp_path):
    for table, column, value in (
        ("DIAGNOSES_ICD", "ICD9_CODE", "V103"),
        ("ADMISSIONS", "ADMISSION_TYPE", "ELECTIVE"),
        ("SERVICES", "CURR_SERVICE", "SURG"),
    ):
        change(raw, table, setting(column, value))
    extract(raw, tmp_path / "plain")
    change(raw, "DIAGNOSES_ICD", setting("ICD9_CODE", " v103 "))
    change(raw, "ADMISSIONS", setting("ADMISSION_TYPE", " Elective "))
    extract(raw, tmp_path / "blanks")
    plain, blanks = (tmp_path / name / "mimic.npz" for name in ("plain", "blanks"))
    assert plain.read_bytes() == blanks.read_bytes()
    with np.load(plain) as file:
        assert file["icd9"][0, 18] == 1 and file["static"][0, 4] == 1


@pytest.mark.parametrize("where", [-8, -4])
@pytest.mark.parametrize("table", ["CHARTEVENTS", "TRANSFERS"])
def test_a_gzip_of_another_checksum_or_length_is_damaged(table, where, raw, tmp_path):
    path = raw / f"{table}.csv.gz"
    if not path.exists():
        path.write_bytes(gzip.compress(b"ROW_ID,HADM_ID\n1,1\n"))
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{table}.csv.gz: .*damaged.*SHA256SUMS.txt"):
        extract(raw, tmp_path / "out")


def test_a_byte_that_nobody_reads_may_be_of_any_encoding(raw, tmp_path):
    for table in ("ADMISSIONS", "PATIENTS"):
        column = {"ADMISSIONS": "DIAGNOSIS", "PATIENTS": "GENDER"}[table]
        change(raw, table, setting(column, "DEGREE"))
        path = raw / f"{table}.csv.gz"
        content = gzip.decompress(path.read_bytes()).replace(b"DEGREE", b"\xb0F")
        path.write_bytes(gzip.compress(content))
    assert extract(raw, tmp_path / "out")["tables"]["ADMISSIONS"] == 3


def test_where_no_file_can_be_locked_the_database_is_in_memory(raw, tmp_path, monkeypatch):
    extract(raw, tmp_path / "plain")
    connect = duckdb.connect

    def without_locks(*files, **options):
        if files:
            raise duckdb.IOException("Could not set lock on file: No locks available")
        return connect(**options)

    monkeypatch.setattr(duckdb, "connect", without_locks)
    extract(raw, tmp_path / "memory")
    plain, memory = (tmp_path / name / "mimic.npz" for name in ("plain", "memory"))
    assert plain.read_bytes() == memory.read_bytes()


@pytest.mark.parametrize("kind", [duckdb.IOException, duckdb.TransactionException])
def test_a_full_disk_is_no_fault_of_the_table(kind, raw, tmp_path, monkeypatch):
    def fail(*_):
        raise kind("Failed to commit: Could not write all bytes: No space left on device")

    monkeypatch.setattr(Scratch, "_wait", fail)
    with pytest.raises(OSError, match="no space for the temporary database") as error:
        extract(raw, tmp_path / "out")
    assert error.value.errno == errno.ENOSPC


def test_columns_without_a_name_or_of_an_unneeded_name_twice_do_not_matter(raw, tmp_path):
    change(raw, "OUTPUTEVENTS", lambda rows: rows.append({**rows[0], "ROW_ID": "99"}))
    before = extract(raw, tmp_path / "before")
    for path in raw.iterdir():  # pandas' index first, NOTE twice, and a comma at the end
        first, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
        lines = [f",{first},NOTE,NOTE,", *(f"{k},{row},,{k}," for k, row in enumerate(rows))]
        path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    after = extract(raw, tmp_path / "after")
    of_tables = {"inputs": 0, "input_times": 0}
    assert after | of_tables == before | of_tables
    before, after = (tmp_path / name / "mimic.npz" for name in ("before", "after"))
    assert before.read_bytes() == after.read_bytes()


def test_a_needed_column_twice_is_refused(raw, tmp_path):
    path = raw / "PATIENTS.csv.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content.replace(b"GENDER", b"DOB")))
    with pytest.raises(DataError, match="PATIENTS.csv.gz: more than one column DOB; keep one"):
        extract(raw, tmp_path / "out")


def test_a_hole_of_nul_bytes_is_damage(raw, tmp_path):
    change(raw, "ADMISSIONS", setting("DIAGNOSIS", "a long text that nobody reads"))
    packed = raw / "ADMISSIONS.csv.gz"
    content = gzip.decompress(packed.read_bytes()).replace(b"nobody", bytes(6))
    (raw / "ADMISSIONS.csv").write_bytes(content)
    with pytest.raises(DataError, match="ADMISSIONS.csv: .*NUL bytes.*; copy that file again"):
        extract(raw, tmp_path / "out")
