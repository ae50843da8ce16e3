"""What raw tables hold that can hardly be meant: counted, and kept unless it says otherwise."""

from __future__ import annotations

from AVMNIST_and_MIMIC.mimic.extraction.schema import WANTED
from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch

TIMES = {  # without which a row is of no use
    "PATIENTS": "dob",
    "ADMISSIONS": "admittime",
    "ICUSTAYS": "intime",
    "OUTPUTEVENTS": "charttime",
    "LABEVENTS": "charttime",
    "CHARTEVENTS": "charttime",
}
PAIRS = {  # (earlier, later), both of an admission or its patient
    "births after the admission": ("admittime", "dob"),
    "discharges before the admission": ("dischtime", "admittime"),
    "deaths before the admission (labelled as published: within a day)": ("deathtime", "admittime"),
}


def count_oddities(scratch: Scratch, mode: str) -> dict[str, int]:
    """{what: how often}, of all rows that were read, 0 among them."""
    known = "admissions JOIN patients USING (subject_id)"
    queries = {what: f"{known} WHERE {a} < {b}" for what, (a, b) in PAIRS.items()}
    unknown = "deathtime IS NOT NULL AND (dod IS NULL OR dischtime IS NULL)"
    queries["deaths in hospital without DOD or DISCHTIME"] = f"{known} WHERE {unknown}"
    done = "left out" if mode == "clean" else "kept, as published"
    again = f"rows of OUTPUTEVENTS that repeat another in all but ROW_ID ({done})"
    queries[again] = "(SELECT unnest(range(count(*) - count(DISTINCT row_hash))) FROM outputevents)"
    for table, time in TIMES.items():
        queries[f"rows of {table} without {time.upper()}"] = f"{table} WHERE {time} IS NULL"
    for table, wanted in WANTED.items():
        if wanted.columns:
            what = f"rows of {table} with an id written as a decimal"
            queries[what] = f"{table} WHERE decimal_ids"
    return {what: scratch.value(f"SELECT count(*) FROM {of}") for what, of in queries.items()}
