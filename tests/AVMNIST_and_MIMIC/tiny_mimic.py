"""Hand-made tables in MIMIC-III's layout: every value of a test is in the test."""

from __future__ import annotations

import csv
import gzip
import json
import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.arrays import SERIES
from AVMNIST_and_MIMIC.prepare_mimic import extract

HEADERS = {
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
    "ADMISSIONS": "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE "
    "DIAGNOSIS",
    "ICUSTAYS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE INTIME OUTTIME",
    "SERVICES": "ROW_ID SUBJECT_ID HADM_ID TRANSFERTIME PREV_SERVICE CURR_SERVICE",
    "DIAGNOSES_ICD": "ROW_ID SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE",
    "OUTPUTEVENTS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID CHARTTIME ITEMID VALUE ISERROR",
    "LABEVENTS": "ROW_ID SUBJECT_ID HADM_ID ITEMID CHARTTIME VALUE VALUENUM",
    "CHARTEVENTS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID ITEMID CHARTTIME VALUE VALUENUM ERROR",
}
HEART_RATE, URINE = 211, 40055
# Columns of the series, and items.
GCS, SYSTOLIC, RATE, TEMPERATURE, RATIO, VOLUME = range(6)
SODIUM = SERIES.index("sodium")
PRESSURE, SODIUM_ITEM, PAO2, GAS_FIO2, SPECIMEN = 51, 50983, 50821, 50816, 50800
NAN = math.nan
# Chart items that the extraction needs.
NEEDED = (
    723, 223900, 454, 223901, 184, 220739, 51, 442, 455, 6701, 220179, 220050, 211, 220045,
    223761, 678, 223762, 676, 223835, 3420, 3422, 190, 646, 220277,
)  # fmt: skip


def at(hours: float) -> str:
    """Time stamp, in hours from the INTIME that all patients share."""
    return str(datetime(2100, 1, 1) + timedelta(hours=hours))


class Hospital:
    """Patients and their events; subject = HADM_ID + 1000, ICU stay = HADM_ID + 2000."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, object]]] = {name: [] for name in HEADERS}

    def add(self, table: str, **row: object) -> None:
        """A row; columns that are not named are empty."""
        self.rows[table].append({"row_id": len(self.rows[table]) + 1, **row})

    def patient(
        self,
        hadm: int,
        *,
        subject: int = 0,
        born: str = "2060-01-01 00:00:00",
        died: str = "",
        dead_in_hospital: str = "",
        admitted: float = -1,
        left: float = 100,
        length: float = 30,
        kind: str = "EMERGENCY",
        services: tuple[str, ...] = ("MED",),
        codes: tuple[str, ...] = ("4019",),
        stay: bool = True,
    ) -> int:
        """An admission with an ICU stay from hour 0 -> its HADM_ID.

        Its record is urine of 1 mL at hours 0 and `length`.
        """
        subject = subject or hadm + 1000
        ids = {"subject_id": subject, "hadm_id": hadm}
        if all(row["subject_id"] != subject for row in self.rows["PATIENTS"]):
            self.add("PATIENTS", subject_id=subject, dob=born, dod=died)
        self.add(
            "ADMISSIONS",
            **ids,
            admittime=at(admitted),
            dischtime=at(left),
            deathtime=dead_in_hospital,
            admission_type=kind,
        )
        if stay:
            self.add("ICUSTAYS", **ids, icustay_id=hadm + 2000, intime=at(0))
        for k, service in enumerate(services):
            self.add("SERVICES", **ids, transfertime=at(k), curr_service=service)
        for code in codes:
            self.add("DIAGNOSES_ICD", **ids, icd9_code=code)
        self.output(hadm, 0, 1)
        self.output(hadm, length, 1)
        return hadm

    def chart(
        self,
        hadm: int,
        item: int,
        hours: float,
        number: object,
        value: str = "",
        error: object = "",
    ) -> None:
        ids = {"hadm_id": hadm, "icustay_id": hadm + 2000, "itemid": item}
        self.add(
            "CHARTEVENTS",
            **ids,
            charttime=at(hours),
            value=value or number,
            valuenum=number,
            error=error,
        )

    def lab(self, hadm: int, item: int, hours: float, number: object, value: str = "") -> None:
        ids = {"subject_id": hadm + 1000, "hadm_id": hadm, "itemid": item}
        self.add("LABEVENTS", **ids, charttime=at(hours), value=value, valuenum=number)

    def output(
        self, hadm: int, hours: float, amount: object, item: int = URINE, error: object = ""
    ) -> None:
        ids = {"hadm_id": hadm, "icustay_id": hadm + 2000, "itemid": item}
        self.add("OUTPUTEVENTS", **ids, charttime=at(hours), value=amount, iserror=error)

    def write(self, folder: Path, upper: bool = True, compress: bool = True) -> Path:
        """Every table as CSV, text quoted.

        A row of each event table of no interest keeps none of them empty.
        """
        folder.mkdir(parents=True, exist_ok=True)
        first = self.rows["ADMISSIONS"][-1]["hadm_id"]
        if not self.rows["CHARTEVENTS"]:
            self.chart(first, HEART_RATE, 1, 80)
        if not self.rows["LABEVENTS"]:
            self.lab(first, 50885, 1, 1)
        for name, header in HEADERS.items():
            columns = header.split() if upper else header.lower().split()
            name = f"{name if upper else name.lower()}.csv" + ".gz" * compress
            with (gzip.open if compress else open)(folder / name, "wt", newline="") as file:
                writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
                writer.writerow(columns)
                for row in self.rows[name.split(".")[0].upper()]:
                    writer.writerow([row.get(column.lower(), "") for column in columns])
        return folder


class Prepared:
    """A prepared folder, opened."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "mimic.npz", allow_pickle=False) as file:
            self.arrays = dict(file)
        self.facts = json.loads((folder / "dataset.json").read_text())

    def row(self, name: str, hadm: int) -> np.ndarray:
        """One admission's part of an array."""
        return self.arrays[name][list(self.arrays["hadm_id"]).index(hadm)]


def prepare(hospital: Hospital, folder: Path, mode: str, **options: float) -> Prepared:
    """Write the tables below `folder`, extract them, open the result."""
    raw = folder / "raw"
    if not raw.exists():
        hospital.write(raw)
    extract(raw, folder / mode, mode, **options)
    return Prepared(folder / mode)


def both(hospital: Hospital, folder: Path) -> tuple[Prepared, Prepared]:
    """-> clean, reference."""
    return prepare(hospital, folder, "clean"), prepare(hospital, folder, "reference")


def near(*values: float):
    return pytest.approx(list(values), rel=1e-6, nan_ok=True)
