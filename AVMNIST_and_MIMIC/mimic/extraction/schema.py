"""What is read of MIMIC-III's tables: items, columns, and the row counts by which a release is
known."""

from __future__ import annotations

from dataclasses import dataclass

from i2m2.errors import DataError

CHART_ITEMS = {
    "verbal": (723, 223900), "motor": (454, 223901), "eyes": (184, 220739),
    "systolic": (51, 442, 455, 6701, 220179, 220050), "heart_rate": (211, 220045),
    "fahrenheit": (223761, 678), "celsius": (223762, 676), "fio2": (223835, 3420, 3422, 190), "spo2": (646, 220277),
}  # fmt: skip
LAB_ITEMS = {
    "urea_nitrogen": (51006,), "white_cells": (51300, 51301), "bicarbonate": (50882,), "sodium": (50824, 50983),
    "potassium": (50822, 50971), "bilirubin": (50885,), "gas": (*range(50800, 50829), 51545),
}  # fmt: skip
IRRIGANT_IN = 227488
URINE_ITEMS = (
    40055, 43175, 40069, 40094, 40715, 40473, 40085, 40057, 40056, 40405, 40428, 40086, 40096, 40651, 226559, 226560, 226561,
    226584, 226563, 226564, 226565, 226567, 226557, 226558, IRRIGANT_IN, 227489,
)  # fmt: skip


def items(*groups: tuple[int, ...]) -> str:
    """Item ids as an SQL list: '(51, 442)'."""
    return f"({', '.join(str(item) for group in groups for item in group)})"


def _as(kind: str, *names: str) -> dict[str, str]:
    return {name: f"CAST({name} AS {kind})" for name in names}


def _number(name: str) -> str:
    return f"CASE WHEN isfinite(CAST({name} AS DOUBLE)) THEN CAST({name} AS DOUBLE) END"


@dataclass(frozen=True)
class Wanted:
    """What is kept of a table: SQL expressions over its columns, which are all read as text."""

    columns: dict[str, str]
    needs: tuple[str, ...]  # columns the file must have
    where: str = "true"


_IDS, _EVENT = ("subject_id", "hadm_id"), ("hadm_id", "icustay_id", "itemid", "charttime")
WANTED = {
    "PATIENTS": Wanted(_as("INTEGER", "subject_id") | _as("TIMESTAMP", "dob", "dod"), ("subject_id", "dob", "dod")),
    "ADMISSIONS": Wanted(
        _as("INTEGER", *_IDS) | _as("TIMESTAMP", "admittime", "dischtime", "deathtime") | {
            "admission_type": "upper(admission_type)"},
        (*_IDS, "admittime", "dischtime", "deathtime", "admission_type"),
    ),
    "ICUSTAYS": Wanted(_as("INTEGER", *_IDS, "icustay_id") | _as("TIMESTAMP", "intime"), (*_IDS, "icustay_id", "intime")),
    "SERVICES": Wanted(
        _as("INTEGER", "row_id", "hadm_id") | _as("TIMESTAMP", "transfertime") | {"service": "lower(curr_service)"},
        ("row_id", "hadm_id", "transfertime", "curr_service"),
    ),
    # Padded to five characters, since the code ranges of the static features compare text.
    "DIAGNOSES_ICD": Wanted(_as("INTEGER", "hadm_id") | {"code": "rpad(icd9_code, 5, ' ')"}, ("hadm_id", "icd9_code")),
    "TRANSFERS": Wanted({}, ()),  # only its rows are counted
    "OUTPUTEVENTS": Wanted(
        _as("INTEGER", *_EVENT[:3]) | _as("TIMESTAMP", "charttime") | {
            "amount": _number("value"), "flagged": "coalesce(CAST(iserror AS INTEGER) = 1, false)"},
        (*_EVENT, "value", "iserror"),
        f"CAST(itemid AS INTEGER) IN {items(URINE_ITEMS)} AND icustay_id IS NOT NULL",
    ),
    "LABEVENTS": Wanted(
        _as("INTEGER", *_IDS, "itemid") | _as("TIMESTAMP", "charttime") | {
            "number": _number("valuenum"), "specimen": "CASE WHEN CAST(itemid AS INTEGER) = 50800 THEN value END"},
        (*_IDS, "itemid", "charttime", "value", "valuenum"),
        f"CAST(itemid AS INTEGER) IN {items(*LAB_ITEMS.values())} AND hadm_id IS NOT NULL",
    ),
    "CHARTEVENTS": Wanted(
        _as("INTEGER", *_EVENT[:3]) | _as("TIMESTAMP", "charttime") | {
            "number": _number("valuenum"), "flagged": "coalesce(CAST(error AS INTEGER) = 1, false)",
            "tube": "coalesce((CAST(itemid AS INTEGER), value) IN ((723, '1.0 ET/Trach'), (223900, 'No Response-ETT')), false)"},
        (*_EVENT, "value", "valuenum", "error"),
        f"CAST(itemid AS INTEGER) IN {items(*CHART_ITEMS.values())} AND icustay_id IS NOT NULL",
    ),
}  # fmt: skip
OPTIONAL = ("TRANSFERS",)
UNIQUE = {"PATIENTS": "subject_id", "ADMISSIONS": "hadm_id", "ICUSTAYS": "icustay_id"}

V1_4 = {
    "PATIENTS": 46_520, "ADMISSIONS": 58_976, "ICUSTAYS": 61_532, "TRANSFERS": 261_897, "SERVICES": 73_343,
    "DIAGNOSES_ICD": 651_047, "CHARTEVENTS": 330_712_483, "LABEVENTS": 27_854_055, "OUTPUTEVENTS": 4_349_218,
}  # fmt: skip
DEMO = {
    "PATIENTS": 100, "ADMISSIONS": 129, "ICUSTAYS": 136, "TRANSFERS": 524, "SERVICES": 163,
    "DIAGNOSES_ICD": 1_761, "CHARTEVENTS": 758_355, "LABEVENTS": 76_074, "OUTPUTEVENTS": 11_320,
}  # fmt: skip
RELEASES = {"MIMIC-III v1.4": V1_4, "MIMIC-III demo v1.4": DEMO}
HOW_TO_GET = "give --raw the folder of MIMIC-III v1.4 as PhysioNet ships it (CSV or CSV.gz)"


def release_of(rows: dict[str, int]) -> str:
    """Which release has these row counts; 'unknown' if none. DataError if a table disagrees with
    its small fellows."""
    core = ("PATIENTS", "ADMISSIONS", "ICUSTAYS")
    for release, known in RELEASES.items():
        if all(rows.get(name) == known[name] for name in core):
            for name, count in rows.items():
                if count != known[name]:
                    raise DataError(
                        f"{name} has {count:,} rows, but {release}, whose {', '.join(core)} these are, has {known[name]:,}; "
                        f"it is cut short or of another release: download it again"
                    )
            return release
    return "unknown"
