"""From filtered raw tables to `records` (hadm_id, variable, time, value): one per time stamp.

Faults of the published extraction are kept by `reference` and fixed by `clean` (README.md lists
them); both differ here in FiO2, SpO2 and urine only.
"""

from __future__ import annotations

from AVMNIST_and_MIMIC.mimic.extraction.gases import gas_statements
from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch
from AVMNIST_and_MIMIC.mimic.extraction.variables import (
    NUMBER,
    VARIABLES,
    coma_scale,
    insert,
    laboratory,
    urine,
    vitals,
)
from i2m2.errors import DataError

# Sums of decimals are exact, so a mean has the same bits whatever the order and the number of
# threads.
MEAN = "CREATE MACRO mean_of(x) AS sum(CAST(x AS DECIMAL(38, 12))) / count(x)"
RECORDS = "CREATE TABLE records (hadm_id INTEGER, variable TINYINT, time TIMESTAMP, value DOUBLE)"
# Table of events -> what says that its rows are of ICUSTAYS' admissions.
JOINS = {
    "CHARTEVENTS": "hadm_id, icustay_id",
    "OUTPUTEVENTS": "hadm_id, icustay_id",
    "LABEVENTS": "subject_id, hadm_id",
}
COUNTED = ("vitals", "laboratory", "urine", "gas_values", "coma_rows")  # views of raw values


def build_records(scratch: Scratch) -> None:
    """Create `records` by the reference rules, and the views of raw values behind them.

    DataError if tables do not fit together.
    """
    scratch.run("ICU stays", MEAN, RECORDS)
    _check_ids(scratch)
    scratch.run("vital signs", vitals(), insert("SELECT * FROM vitals", "mean_of(value)"))
    scratch.run("coma scale", coma_scale(), insert("SELECT * FROM gcs", "max(value)"))
    scratch.run("laboratory", laboratory(), insert("SELECT * FROM laboratory", "min(value)"))
    _build_by_mode(scratch, "reference")


def fix_records(scratch: Scratch) -> None:
    """Replace blood gases and urine in `records` by those of the clean rules."""
    fixed = ", ".join(str(NUMBER[name]) for name in ("pao2", "fio2", "urine"))
    scratch.run("clean rules", f"DELETE FROM records WHERE variable IN ({fixed})")
    _build_by_mode(scratch, "clean")


def _build_by_mode(scratch: Scratch, mode: str) -> None:
    scratch.run("blood gases", *gas_statements(mode))
    # Sums per ICU stay; should two stays share a stamp, their mean.
    total = "CAST(sum(CAST(value AS DECIMAL(38, 12))) AS DOUBLE)"
    per_stay = f"""SELECT hadm_id, icustay_id, variable, time, {total} AS value
        FROM urine WHERE value IS NOT NULL GROUP BY ALL"""
    scratch.run("urine", urine(mode), insert(per_stay, "mean_of(value)"))


def count_events(scratch: Scratch) -> dict[str, dict[str, int]]:
    """{variable: {"kept", "dropped"}}: raw rows of ICU stays that hold a number.

    Dropped are those out of range and, in clean mode, urine marked as an error; marked chart rows
    are not counted.
    """
    values = " UNION ALL ".join(f"SELECT variable, number, value FROM {view}" for view in COUNTED)
    rows = scratch.arrays(
        f"""SELECT variable, count(value) AS kept, count(number) - count(value) AS dropped
        FROM ({values}) GROUP BY variable ORDER BY variable"""
    )
    counts = {name: {"kept": 0, "dropped": 0} for name in VARIABLES}
    for variable, valid, dropped in zip(*rows.values(), strict=True):
        counts[VARIABLES[variable]] = {"kept": int(valid), "dropped": int(dropped)}
    return counts


def _check_ids(scratch: Scratch) -> None:
    for name, keys in JOINS.items():
        if not scratch.value(f"SELECT count(*) FROM {name} JOIN icustays USING ({keys})"):
            raise DataError(
                f"{name}: no row's {keys.upper()} is in ICUSTAYS; "
                "the tables are of different releases: take all from one"
            )
