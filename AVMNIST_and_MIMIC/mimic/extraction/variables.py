"""The 13 raw variables, and views in SQL of those that are no blood gas.

Rules: the benchmark of Purushotham et al. (2018), after MIT-LCP's SAPS-II queries. Of these views
only that of urine differs by mode.
"""

from __future__ import annotations

from AVMNIST_and_MIMIC.mimic.extraction.schema import CHART_ITEMS, IRRIGANT_IN, LAB_ITEMS, items

VARIABLES = (
    "gcs", "systolic", "heart_rate", "temperature", "pao2", "fio2", "urine", "urea_nitrogen",
    "white_cells", "bicarbonate", "sodium", "potassium", "bilirubin",
)  # fmt: skip
NUMBER = {name: k for k, name in enumerate(VARIABLES)}
LAB_LIMITS = {
    "urea_nitrogen": 300,
    "white_cells": 1000,
    "bicarbonate": 10_000,
    "sodium": 200,
    "potassium": 30,
    "bilirubin": 150,
}
COMA = ("verbal", "motor", "eyes")  # components of the Glasgow coma scale
VITALS = ("systolic", "heart_rate", "fahrenheit", "celsius")
# ML per record, clean mode: no bladder gives more, and single entries of 28,000 and more occur.
URINE_LIMIT = 5_000


def insert(source: str, value: str) -> str:
    """Into `records`, one value per admission, variable and time: `value` summarises several."""
    return f"""INSERT INTO records SELECT hadm_id, variable, time, {value}
        FROM ({source}) WHERE value IS NOT NULL GROUP BY ALL"""


def vitals() -> str:
    """View (hadm_id, variable, time, number, value) of vital signs.

    `value` is NULL out of range; temperatures are in deg C.
    """
    systolic, heart_rate, fahrenheit, celsius = (items(CHART_ITEMS[name]) for name in VITALS)
    return f"""CREATE VIEW vitals AS
        SELECT hadm_id, charttime AS time, number,
          CASE WHEN itemid IN {systolic} THEN {NUMBER["systolic"]}
               WHEN itemid IN {heart_rate} THEN {NUMBER["heart_rate"]}
               ELSE {NUMBER["temperature"]} END AS variable,
          CASE WHEN itemid IN {systolic} AND number > 0 AND number < 400 THEN number
               WHEN itemid IN {heart_rate} AND number > 0 AND number < 300 THEN number
               WHEN itemid IN {fahrenheit} AND number > 70 AND number < 120
                 THEN (number - 32) / 1.8
               WHEN itemid IN {celsius} AND number > 10 AND number < 50 THEN number END AS value
        FROM chartevents JOIN icustays USING (hadm_id, icustay_id)
        WHERE NOT flagged AND charttime >= intime
          AND itemid IN {items(*(CHART_ITEMS[name] for name in VITALS))}"""


def coma_scale() -> str:
    """View (hadm_id, variable, time, value) of the Glasgow coma scale.

    An intubated patient's verbal component is 0, and the total is then 15 (SAPS-II).
    """
    rows = f"""SELECT icustays.hadm_id, icustay_id, charttime AS time, itemid,
          CASE WHEN tube THEN 0 ELSE number END AS number
        FROM chartevents JOIN icustays USING (icustay_id) WHERE NOT flagged AND charttime >= intime
          AND itemid IN {items(*(CHART_ITEMS[name] for name in COMA))}"""
    maxima = ", ".join(
        f"max(number) FILTER (itemid IN {items(CHART_ITEMS[name])}) AS {name}" for name in COMA
    )
    recent = "lag(time) OVER w > time - INTERVAL 6 HOUR"
    previous = ", ".join(
        f"CASE WHEN {recent} THEN lag({name}) OVER w END AS last_{name}" for name in COMA
    )
    return f"""CREATE VIEW coma_rows AS
          SELECT {NUMBER["gcs"]} AS variable, number, number AS value FROM ({rows});
        CREATE VIEW gcs AS
        WITH record AS (SELECT hadm_id, icustay_id, time, {maxima} FROM ({rows}) GROUP BY ALL),
          pair AS (SELECT *, {previous} FROM record
                   WINDOW w AS (PARTITION BY icustay_id ORDER BY time))
        SELECT hadm_id, {NUMBER["gcs"]} AS variable, time,
          CASE WHEN verbal = 0 THEN 15
               WHEN verbal IS NULL AND last_verbal = 0 THEN 15
               WHEN last_verbal = 0
                 THEN coalesce(motor, 6) + coalesce(verbal, 5) + coalesce(eyes, 4)
               ELSE coalesce(motor, last_motor, 6) + coalesce(verbal, last_verbal, 5)
                 + coalesce(eyes, last_eyes, 4) END AS value
        FROM pair"""


def laboratory() -> str:
    """View (hadm_id, variable, time, number, value) of laboratory values.

    They begin 6 h before the admission's first ICU stay.
    """
    item = {name: f"WHEN itemid IN {items(LAB_ITEMS[name])} THEN" for name in LAB_LIMITS}
    variable = " ".join(f"{when} {NUMBER[name]}" for name, when in item.items())
    limit = " ".join(f"{when} {LAB_LIMITS[name]}" for name, when in item.items())
    return f"""CREATE VIEW laboratory AS
        SELECT hadm_id, CASE {variable} END AS variable, charttime AS time, number,
          CASE WHEN number > 0 AND number <= CASE {limit} END THEN number END AS value
        FROM labevents
          JOIN (SELECT subject_id, hadm_id, min(intime) AS intime FROM icustays GROUP BY ALL)
            USING (subject_id, hadm_id)
        WHERE itemid IN {items(*(LAB_ITEMS[name] for name in LAB_LIMITS))}
          AND charttime >= intime - INTERVAL 6 HOUR"""


def urine(mode: str) -> str:
    """View (hadm_id, icustay_id, variable, time, number, value) of urine in mL.

    Irrigant that went in is negative. In clean mode a row that repeats another counts once.
    """
    rows = (
        "(SELECT DISTINCT ON (row_hash) * FROM outputevents)" if mode == "clean" else "outputevents"
    )
    value = f"CASE WHEN itemid = {IRRIGANT_IN} THEN -amount ELSE amount END"
    if mode == "clean":
        rows = "(SELECT DISTINCT ON (row_hash) * FROM outputevents)"
        value = f"CASE WHEN NOT flagged AND abs(amount) <= {URINE_LIMIT} THEN {value} END"
    return f"""CREATE OR REPLACE VIEW urine AS
        SELECT hadm_id, icustay_id, {NUMBER["urine"]} AS variable, charttime AS time,
          amount AS number, {value} AS value
        FROM {rows} JOIN icustays USING (hadm_id, icustay_id) WHERE charttime >= intime"""
