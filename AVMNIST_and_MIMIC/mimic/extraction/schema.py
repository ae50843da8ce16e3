"""What is read of MIMIC-III's tables, and the row counts by which a release is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

from i2m2.errors import DataError

CHART_ITEMS = {
    "verbal": (723, 223900),
    "motor": (454, 223901),
    "eyes": (184, 220739),
    "systolic": (51, 442, 455, 6701, 220179, 220050),
    "heart_rate": (211, 220045),
    "fahrenheit": (223761, 678),
    "celsius": (223762, 676),
    "fio2": (223835, 3420, 3422, 190),
    "spo2": (646, 220277),
}
LAB_ITEMS = {
    "urea_nitrogen": (51006,),
    "white_cells": (51300, 51301),
    "bicarbonate": (50882,),
    "sodium": (50824, 50983),
    "potassium": (50822, 50971),
    "bilirubin": (50885,),
    "gas": (*range(50800, 50829), 51545),
}
IRRIGANT_IN = 227488
URINE_ITEMS = (
    40055, 43175, 40069, 40094, 40715, 40473, 40085, 40057, 40056, 40405, 40428, 40086, 40096,
    40651, 226559, 226560, 226561, 226584, 226563, 226564, 226565, 226567, 226557, 226558,
    IRRIGANT_IN, 227489,
)  # fmt: skip


def items(*groups: tuple[int, ...]) -> str:
    """Item ids as an SQL list: '(51, 442)'."""
    return f"({', '.join(map(str, chain.from_iterable(groups)))})"


def _ids(*names: str) -> dict[str, str]:
    """Ids as integers, and whether any is written as a decimal (5.0), as by a program that took the
    column for numbers; a fraction is refused."""
    written = f"contains(concat({', '.join(names)}), '.')"
    return {name: _id(name) for name in names} | {"decimal_ids": written}


def _id(name: str) -> str:
    refusal = f"error('{name.upper()} holds ' || {name} || ', which is no whole number')"
    return f"""CASE WHEN contains({name}, '.') AND CAST({name} AS DOUBLE) % 1 <> 0 THEN {refusal}
        ELSE CAST({name} AS INTEGER) END"""


def _times(*names: str) -> dict[str, str]:
    return {name: _time(name) for name in names}


def _time(name: str) -> str:
    """A year before 1800, of which MIMIC-III has none, is one of two digits; DuckDB knows words,
    too."""
    time = f"CAST({name} AS TIMESTAMP)"
    refusal = f"""error('{name.upper()} holds ''' || {name} || ''', which is no time as PhysioNet '
        || 'writes them (2130-02-04 12:00:00)')"""
    return f"""CASE WHEN {time} < TIMESTAMP '1800-01-01' OR lower(trim({name})) = 'epoch'
        THEN {refusal} ELSE nullif({time}, 'infinity') END"""


def _number(name: str) -> str:
    return f"CASE WHEN isfinite(CAST({name} AS DOUBLE)) THEN CAST({name} AS DOUBLE) END"


def _flag(name: str) -> str:
    return f"coalesce(CAST({name} AS INTEGER) = 1, false)"


def _icd9_code(name: str) -> str:
    """In capitals and padded to five characters, since the code ranges of the static features
    compare text; what is no ICD-9 code is refused, since it would be of another group or of none.
    """
    code = f"upper(trim({name}))"
    refusal = f"""error('{name.upper()} holds ''' || {name} || ''', which is no ICD-9 code as '
        || 'PhysioNet writes them: 3 to 5 digits, V and 2 to 4 or E and 3 to 4, no dot (0389)')"""
    return f"""CASE WHEN {name} IS NULL THEN NULL
        WHEN regexp_full_match({code}, '{ICD9_CODE}') THEN rpad({code}, 5, ' ')
        ELSE {refusal} END"""


ICD9_CODE = r"\d{3,5}|V\d{2,4}|E\d{3,4}"
MANY_CODES = 500  # of the demo's codes 4 % begin with 0: so many without one are no chance
SEVERAL = 10  # deaths of which one table tells: that the other has none at all is no chance


def _filled(*names: str, **ours: str) -> dict[str, str]:
    """Faults: columns that are empty in every row, from which other values would be made and no
    error. `ours`: what a column is called here."""
    columns = dict(zip(names, names, strict=True)) | ours
    return {
        f"count({here}) = 0": f"{name.upper()} is empty in every row"
        for name, here in columns.items()
    }


@dataclass(frozen=True)
class Wanted:
    """What is kept of a table: SQL expressions over its columns, which are all read as text."""

    columns: dict[str, str]
    needs: tuple[str, ...]  # columns the file must have
    where: str = "true"
    hashed: bool = (
        False  # also a hash of all columns but ROW_ID, to know a row that repeats another
    )
    # SQL over all rows kept, and over tables before this one -> what is wrong
    faults: dict[str, str] = field(default_factory=dict)


_IDS, _EVENT = ("subject_id", "hadm_id"), ("hadm_id", "icustay_id", "itemid", "charttime")
_ITEM = _id("itemid")  # in the filter, too: a cast alone rounds 220179.6 to another item
_DATES_OF_DEATH = "SELECT count(dod) FROM patients"
_DIED_INSIDE = """SELECT count(*) FROM admissions JOIN patients USING (subject_id)
    WHERE dod::DATE BETWEEN admittime::DATE AND dischtime::DATE"""
_DEATHS = {
    f"count(deathtime) >= {SEVERAL} AND ({_DATES_OF_DEATH}) = 0": "names deaths in hospital, but "
    "in PATIENTS DOD is empty in every row",
    f"count(deathtime) = 0 AND ({_DIED_INSIDE}) >= {SEVERAL}": "DEATHTIME is empty in every row, "
    "but by DOD in PATIENTS some died in hospital",
}
_TUBE = f"({_ITEM}, value) IN ((723, '1.0 ET/Trach'), (223900, 'No Response-ETT'))"
WANTED = {
    "PATIENTS": Wanted(
        _ids("subject_id") | _times("dob", "dod"),
        needs=("subject_id", "dob", "dod"),
        faults=_filled("dob"),
    ),
    "ADMISSIONS": Wanted(
        _ids(*_IDS)
        | _times("admittime", "dischtime", "deathtime")
        | {"admission_type": "upper(trim(admission_type))"},
        needs=(*_IDS, "admittime", "dischtime", "deathtime", "admission_type"),
        faults=_filled("admittime", "dischtime", "admission_type") | _DEATHS,
    ),
    "ICUSTAYS": Wanted(
        _ids(*_IDS, "icustay_id") | _times("intime"),
        needs=(*_IDS, "icustay_id", "intime"),
        faults=_filled("intime"),
    ),
    "SERVICES": Wanted(
        _ids("row_id", "hadm_id") | _times("transfertime") | {"service": "lower(curr_service)"},
        needs=("row_id", "hadm_id", "transfertime", "curr_service"),
        faults=_filled(curr_service="service"),
    ),
    "DIAGNOSES_ICD": Wanted(
        _ids("hadm_id") | {"code": _icd9_code("icd9_code")},
        needs=("hadm_id", "icd9_code"),
        faults=_filled(icd9_code="code")
        | {
            f"count(code) >= {MANY_CODES} AND count(*) FILTER (code LIKE '0%') = 0": "no ICD9_CODE "
            "begins with 0: a program that took the column for numbers lost the zeros (389 for "
            "0389)",
        },
    ),
    "TRANSFERS": Wanted({}, needs=()),  # only its rows are counted
    "OUTPUTEVENTS": Wanted(
        _ids(*_EVENT[:3])
        | _times("charttime")
        | {"amount": _number("value"), "flagged": _flag("iserror")},
        needs=(*_EVENT, "value", "iserror"),
        where=f"{_ITEM} IN {items(URINE_ITEMS)} AND icustay_id IS NOT NULL",
        hashed=True,
        faults=_filled(value="amount"),
    ),
    "LABEVENTS": Wanted(
        _ids(*_IDS, "itemid")
        | _times("charttime")
        | {
            "number": _number("valuenum"),
            "specimen": f"CASE WHEN {_ITEM} = 50800 THEN value END",
        },
        needs=(*_IDS, "itemid", "charttime", "value", "valuenum"),
        where=f"{_ITEM} IN {items(*LAB_ITEMS.values())} AND hadm_id IS NOT NULL",
        faults=_filled(valuenum="number"),
    ),
    "CHARTEVENTS": Wanted(
        _ids(*_EVENT[:3])
        | _times("charttime")
        | {
            "number": _number("valuenum"),
            "flagged": _flag("error"),
            "tube": f"coalesce({_TUBE}, false)",
        },
        needs=(*_EVENT, "value", "valuenum", "error"),
        where=f"{_ITEM} IN {items(*CHART_ITEMS.values())} AND icustay_id IS NOT NULL",
        faults=_filled(valuenum="number"),
    ),
}
OPTIONAL = ("TRANSFERS",)
UNIQUE = {"PATIENTS": "subject_id", "ADMISSIONS": "hadm_id", "ICUSTAYS": "icustay_id"}

V1_4 = {
    "PATIENTS": 46_520,
    "ADMISSIONS": 58_976,
    "ICUSTAYS": 61_532,
    "TRANSFERS": 261_897,
    "SERVICES": 73_343,
    "DIAGNOSES_ICD": 651_047,
    "CHARTEVENTS": 330_712_483,
    "LABEVENTS": 27_854_055,
    "OUTPUTEVENTS": 4_349_218,
}
DEMO = {
    "PATIENTS": 100,
    "ADMISSIONS": 129,
    "ICUSTAYS": 136,
    "TRANSFERS": 524,
    "SERVICES": 163,
    "DIAGNOSES_ICD": 1_761,
    "CHARTEVENTS": 758_355,
    "LABEVENTS": 76_074,
    "OUTPUTEVENTS": 11_320,
}
RELEASES = {"MIMIC-III v1.4": V1_4, "MIMIC-III demo v1.4": DEMO}
# A download takes days: only where a copy is damaged, and that file alone.
COPY_AGAIN = (
    "copy that file again, and download it again only if it is not what PhysioNet's "
    "SHA256SUMS.txt says"
)
HOW_TO_GET = "give --raw the folder of MIMIC-III v1.4 as PhysioNet ships it (CSV or CSV.gz)"


def release_of(rows: dict[str, int], paths: Mapping[str, str] = MappingProxyType({})) -> str:
    """Which release has these row counts; 'unknown' if none.

    DataError if a table disagrees with its small fellows; `paths` are the files to name.
    """
    core = ("PATIENTS", "ADMISSIONS", "ICUSTAYS")
    for release, published in RELEASES.items():
        if all(rows.get(name) == published[name] for name in core):
            for name, count in rows.items():
                if count != published[name]:
                    raise DataError(
                        f"{paths.get(name, name)} has {count:,} rows, but {release}, whose "
                        f"{', '.join(core)} these are, has {published[name]:,}; it is cut short or "
                        f"of another release: {COPY_AGAIN}"
                    )
            return release
    return "unknown"
