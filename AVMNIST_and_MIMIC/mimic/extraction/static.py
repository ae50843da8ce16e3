"""Cohort, static features, mortality labels and ICD-9 groups of MIMIC-III admissions."""

from __future__ import annotations

import numpy as np

from AVMNIST_and_MIMIC.mimic.extraction.layout import ICD9
from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch
from i2m2.errors import DataError

DAYS_PER_YEAR = 365.242
OLDEST = 89  # years: MIMIC shifts the birth of older patients back to an age of about 300
ADULT = 15  # years of 365.25 days, at admission

HAEMATOLOGICAL = (
    ("20000", "20238"),
    ("20240", "20248"),
    ("20250", "20302"),
    ("20310", "20312"),
    ("20302", "20382"),
    ("20400", "20522"),
    ("20580", "20702"),
    ("20720", "20892"),
    ("2386", "2386"),
    ("2733", "2733"),
)
STATIC_CODES = {
    "aids": (("042", "0449"),),
    "haematological": HAEMATOLOGICAL,
    "metastatic": (("1960", "1991"), ("20970", "20975"), ("20979", "20979"), ("78951", "78951")),
}


def select_cohort(scratch: Scratch, horizon: int) -> list[dict[str, object]]:
    """Create `cohort` (row, hadm_id, subject_id, intime, first, last) from `records` -> the funnel.

    One row per patient, in ascending HADM_ID. Age uses ADMITTIME; the length is that of the record,
    not of the ICU stay, and must exceed `horizon` seconds. DataError if nobody is left.
    """
    scratch.run("cohort", _candidates(horizon))
    rules = {
        "first admission of its subject": "is_first",
        "subject in PATIENTS": "is_known",
        f"{ADULT} years or older": "is_adult",
        "at least one ICU stay": "has_stay",
        "at least one usable event": "has_events",
        f"records longer than {horizon / 3600:g} h": "is_long",
    }
    where, rows = "true", scratch.value("SELECT count(*) FROM candidates")
    funnel = [{"rule": "admissions", "rows": rows, "dropped": 0}]
    for rule, condition in rules.items():
        where += f" AND {condition}"
        before, rows = rows, scratch.value(f"SELECT count(*) FROM candidates WHERE {where}")
        funnel.append({"rule": rule, "rows": rows, "dropped": before - rows})
    if not rows:
        steps = "; ".join(f"{step['rule']}: {step['rows']}" for step in funnel)
        raise DataError(
            f"no admission passes the cohort rules ({steps}); "
            "give the complete tables, or a shorter --horizon-hours"
        )
    scratch.run(
        "cohort",
        f"""CREATE TABLE cohort AS
        SELECT row_number() OVER (ORDER BY hadm_id) - 1 AS row,
          hadm_id, subject_id, intime, first, last
        FROM candidates WHERE {where}""",
    )
    return funnel


def _candidates(horizon: int) -> str:
    """Table of all admissions, with a column per rule of the cohort."""
    return f"""CREATE TABLE candidates AS
        SELECT *,
          row_number() OVER (PARTITION BY subject_id ORDER BY admittime, hadm_id) = 1 AS is_first,
          patients.subject_id IS NOT NULL AS is_known,
          date_diff('second', dob, admittime) >= {ADULT * 365.25 * 86_400} AS is_adult,
          intime IS NOT NULL AS has_stay,
          first IS NOT NULL AS has_events,
          date_diff('second', first, last) > {horizon} AS is_long
        FROM admissions LEFT JOIN patients USING (subject_id)
          LEFT JOIN (SELECT hadm_id, min(intime) AS intime FROM icustays GROUP BY ALL)
            USING (hadm_id)
          LEFT JOIN (SELECT hadm_id, min(time) AS first, max(time) AS last
                     FROM records GROUP BY ALL)
            USING (hadm_id)"""


def static_and_labels(scratch: Scratch, mode: str) -> dict[str, np.ndarray]:
    """The arrays of mimic.npz that have no time.

    hadm_id [N], subject_id [N], static float64 [N, 5], mortality_labels int64 [N, 6], icd9 int64
    [N, 20].
    """
    rows = scratch.arrays(_facts_of_cohort())
    # As published; a hundredth of a year is finer than any use of it.
    years = np.round(rows["age"] / DAYS_PER_YEAR, 2)
    if mode == "clean":
        years = np.minimum(years, OLDEST)
    flags = [rows[name] for name in ("aids", "haematological", "metastatic", "admission")]
    return {
        "hadm_id": rows["hadm_id"].astype(np.int64),
        "subject_id": rows["subject_id"].astype(np.int64),
        "static": np.stack([years * DAYS_PER_YEAR, *flags], axis=1).astype(np.float64),
        "mortality_labels": _mortality(rows),
        "icd9": _icd9(scratch, len(years)),
    }


def _facts_of_cohort() -> str:
    """Query of a row per admission of the cohort: age in days, codes, admission type, death."""
    codes = ", ".join(f"{_any_of(ranges)} AS {name}" for name, ranges in STATIC_CODES.items())
    present = ", ".join(f"coalesce({name}, false) AS {name}" for name in STATIC_CODES)
    return f"""SELECT c.hadm_id, c.subject_id,
          date_diff('day', CAST(dob AS DATE), CAST(c.intime AS DATE)) AS age,
          {present},
          CASE WHEN coalesce(contains(service, 'surg'), false)
            THEN if(admission_type = 'ELECTIVE', 1, 2) ELSE 0 END AS admission,
          deathtime IS NOT NULL AS died,
          CAST(date_diff('second', c.intime, deathtime) AS DOUBLE) AS stay_to_death,
          CAST(date_diff('second', dischtime, dod) AS DOUBLE) AS discharge_to_death
        FROM cohort c JOIN admissions USING (hadm_id)
          JOIN patients ON patients.subject_id = c.subject_id
          LEFT JOIN (SELECT hadm_id, first(service ORDER BY transfertime, row_id) AS service
                     FROM services GROUP BY ALL) USING (hadm_id)
          LEFT JOIN (SELECT hadm_id, {codes} FROM diagnoses_icd GROUP BY ALL) USING (hadm_id)
        ORDER BY row"""


def _any_of(ranges: tuple[tuple[str, str], ...]) -> str:
    inside = " OR ".join(_between(low, high) for low, high in ranges)
    return f"coalesce(bool_or({inside}), false)"


def _between(low: str, high: str) -> str:
    return f"code BETWEEN '{low:<5}' AND '{high:<5}'"


def _mortality(rows: dict[str, np.ndarray]) -> np.ndarray:
    """int64 [N, 6], columns as in `layout.MORTALITY_COLUMNS`.

    Times before admission or discharge (negative) count as within; NaN as never.
    """
    died = rows["died"].astype(bool)
    in_hospital = [died & (rows["stay_to_death"] <= days * 86_400) for days in (1, 2, 3)]
    after = [rows["discharge_to_death"] <= days * 86_400 for days in (30, 365.245)]
    return np.stack([died, *in_hospital, *after], axis=1).astype(np.int64)


def _icd9(scratch: Scratch, rows: int) -> np.ndarray:
    """int64 [N, 20]: 1 if a diagnosis of the admission is in the group.

    Codes of no group (760-779, say) count nowhere.
    """
    diagnoses = scratch.arrays(
        """SELECT DISTINCT row, left(code, 3) AS code
        FROM diagnoses_icd JOIN cohort USING (hadm_id) WHERE code IS NOT NULL"""
    )
    codes, inverse = np.unique(diagnoses["code"].astype(str), return_inverse=True)
    groups = np.array([group_of(code) for code in codes], np.int64)[inverse]
    labels = np.zeros((rows, len(ICD9)), np.int64)
    inside = groups >= 0
    labels[diagnoses["row"][inside], groups[inside]] = 1
    return labels


def group_of(code: str) -> int:
    """Column of an ICD-9 code, -1 if it is in no group.

    The code is text without the dot; its first three characters decide.
    """
    if code[:1] in ("V", "E"):
        return ICD9.index(code[0])
    if not code[:3].isdigit():
        return -1
    for column, span in enumerate(ICD9[:-2]):
        low, high = span.split("-")
        if int(low) <= int(code[:3]) <= int(high):
            return column
    return -1
