"""The 13 raw variables in SQL: from filtered raw tables to `records` (hadm_id, variable, time,
value), one value per time stamp.

Faults of the published extraction are kept by `reference` and mended by `clean` (see
`prepare_mimic`, which lists them); both differ here in FiO2, SpO2 and urine only. Other rules: the
benchmark of Purushotham et al. (2018), after MIT-LCP's SAPS-II queries.
"""

from __future__ import annotations

from AVMNIST_and_MIMIC.mimic.extraction.schema import CHART_ITEMS, IRRIGANT_IN, LAB_ITEMS, items
from AVMNIST_and_MIMIC.mimic.extraction.tables import Scratch
from i2m2.errors import DataError

VARIABLES = (
    "gcs", "systolic", "heart_rate", "temperature", "pao2", "fio2", "urine", "urea_nitrogen", "white_cells", "bicarbonate",
    "sodium", "potassium", "bilirubin",
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
# ML per record, clean mode: no bladder gives more, and single entries of 28,000 and more occur
URINE_LIMIT = 5_000

# log-odds that a blood gas is arterial (MIT-LCP): intercept, PaO2, and per term (coefficient, mean,
# offset where missing).
INTERCEPT, PAO2_COEFFICIENT, ARTERIAL = -0.02544, 0.04598, 0.75
TERMS = {
    "spo2": (-0.15356, 97.49420, 0.13429), "charted_fio2": (0.00621, 51.49550, -0.24958),
    "haemoglobin": (0.10559, 10.32307, 0.05954), "so2": (0.13251, 93.66539, -0.23172),
    "pco2": (-0.01511, 42.08866, -0.01630), "gas_fio2": (0.01480, 63.97836, -0.31142),
    "aa_gradient": (-0.00200, 442.21186, -0.01328), "gas_bicarbonate": (-0.03220, 22.96894, -0.06535),
    "total_co2": (0.05384, 24.72632, -0.01405), "lactate": (0.08202, 3.06436, 0.06038),
    "ph": (0.10956, 7.36233, -0.00617), "o2_flow": (0.00848, 7.59362, -0.35803),
}  # fmt: skip
GAS_ITEMS = {
    "pao2": 50821, "gas_fio2": 50816, "so2": 50817, "o2_flow": 50815, "haemoglobin": 50811, "pco2": 50818, "aa_gradient": 50801,
    "gas_bicarbonate": 50803, "total_co2": 50804, "lactate": 50813, "ph": 50820,
}  # fmt: skip
GAS_LIMITS = {"pao2": 800, "gas_fio2": 100, "so2": 100, "o2_flow": 70}

# Sums of decimals are exact, so a mean has the same bits whatever the order and the number of
# threads.
MEAN = "CREATE MACRO mean_of(x) AS sum(CAST(x AS DECIMAL(38, 12))) / count(x)"


def build_records(scratch: Scratch) -> None:
    """Create `records` by the reference rules, and the views of raw values behind them. DataError
    if tables do not fit together."""
    scratch.run(
        "ICU stays",
        MEAN,
        "CREATE TABLE records (hadm_id INTEGER, variable TINYINT, time TIMESTAMP, value DOUBLE)",
    )
    _check_ids(scratch)
    scratch.run("vital signs", _vitals(), _insert("SELECT * FROM vitals", "mean_of(value)"))
    scratch.run("coma scale", _gcs(), _insert("SELECT * FROM gcs", "max(value)"))
    scratch.run("laboratory", _labs(), _insert("SELECT * FROM laboratory", "min(value)"))
    _build_by_mode(scratch, "reference")


def mend_records(scratch: Scratch) -> None:
    """Replace blood gases and urine in `records` by those of the clean rules."""
    mended = ", ".join(str(NUMBER[name]) for name in ("pao2", "fio2", "urine"))
    scratch.run("clean rules", f"DELETE FROM records WHERE variable IN ({mended})")
    _build_by_mode(scratch, "clean")


def count_events(scratch: Scratch) -> dict[str, dict[str, int]]:
    """{variable: {"kept", "dropped"}}: raw rows of ICU stays that hold a number.

    Dropped are those out of range and, in clean mode, urine marked as an error; marked chart rows
    are not counted.
    """
    rows = scratch.arrays(
        """SELECT variable, count(value) AS kept, count(number) - count(value) AS dropped FROM (
             SELECT variable, number, value FROM vitals UNION ALL SELECT variable, number, value FROM laboratory
             UNION ALL SELECT variable, number, value FROM urine UNION ALL SELECT variable, number, value FROM gas_values
             UNION ALL SELECT variable, number, value FROM coma_rows) GROUP BY variable ORDER BY variable"""
    )
    found = {
        int(k): (int(kept), int(dropped)) for k, kept, dropped in zip(*rows.values(), strict=True)
    }
    return {
        name: dict(zip(("kept", "dropped"), found.get(k, (0, 0)), strict=True))
        for k, name in enumerate(VARIABLES)
    }


def _check_ids(scratch: Scratch) -> None:
    joins = {
        "CHARTEVENTS": "hadm_id, icustay_id",
        "OUTPUTEVENTS": "hadm_id, icustay_id",
        "LABEVENTS": "subject_id, hadm_id",
    }
    for name, keys in joins.items():
        if not scratch.value(f"SELECT count(*) FROM {name} JOIN icustays USING ({keys})"):
            raise DataError(
                f"{name}: no row's {keys.upper()} is in ICUSTAYS; the tables are of different releases: take all from one"
            )


def _insert(source: str, value: str) -> str:
    return f"INSERT INTO records SELECT hadm_id, variable, time, {value} FROM ({source}) WHERE value IS NOT NULL GROUP BY ALL"


def _build_by_mode(scratch: Scratch, mode: str) -> None:
    scratch.run(
        "blood gases", _fio2(mode), _spo2(mode), _gases(mode), _gas_values(mode),
        _insert(f"SELECT hadm_id, {NUMBER['pao2']} AS variable, time, pao2 AS value FROM gases WHERE arterial", "mean_of(value)"),
        _insert(f"SELECT hadm_id, {NUMBER['fio2']} AS variable, time, fio2 AS value FROM gases WHERE arterial", "mean_of(value)"),
    )  # fmt: skip
    # Sums per ICU stay; should two stays share a stamp, their mean.
    per_stay = "SELECT hadm_id, icustay_id, variable, time, CAST(sum(CAST(value AS DECIMAL(38, 12))) AS DOUBLE) AS value FROM urine "
    scratch.run(
        "urine",
        _urine(mode),
        _insert(per_stay + "WHERE value IS NOT NULL GROUP BY ALL", "mean_of(value)"),
    )


def _vitals() -> str:
    """View (hadm_id, variable, time, number, value): value is NULL out of range, temperatures are
    in deg C."""
    chart = CHART_ITEMS
    return f"""CREATE VIEW vitals AS
        SELECT hadm_id, charttime AS time, number,
          CASE WHEN itemid IN {items(chart["systolic"])} THEN {NUMBER["systolic"]}
               WHEN itemid IN {items(chart["heart_rate"])} THEN {NUMBER["heart_rate"]} ELSE {NUMBER["temperature"]} END AS variable,
          CASE WHEN itemid IN {items(chart["systolic"])} AND number > 0 AND number < 400 THEN number
               WHEN itemid IN {items(chart["heart_rate"])} AND number > 0 AND number < 300 THEN number
               WHEN itemid IN {items(chart["fahrenheit"])} AND number > 70 AND number < 120 THEN (number - 32) / 1.8
               WHEN itemid IN {items(chart["celsius"])} AND number > 10 AND number < 50 THEN number END AS value
        FROM chartevents JOIN icustays USING (hadm_id, icustay_id)
        WHERE NOT flagged AND charttime >= intime
          AND itemid IN {items(*(chart[name] for name in ("systolic", "heart_rate", "fahrenheit", "celsius")))}"""


def _gcs() -> str:
    """View (hadm_id, variable, time, value). An intubated patient's verbal component is 0, and the
    total is then 15 (SAPS-II)."""
    rows = f"""SELECT icustays.hadm_id, icustay_id, charttime AS time, itemid, CASE WHEN tube THEN 0 ELSE number END AS number
        FROM chartevents JOIN icustays USING (icustay_id) WHERE NOT flagged AND charttime >= intime
          AND itemid IN {items(*(CHART_ITEMS[name] for name in ("verbal", "motor", "eyes")))}"""
    maxima = ", ".join(
        f"max(number) FILTER (itemid IN {items(CHART_ITEMS[name])}) AS {name}"
        for name in ("verbal", "motor", "eyes")
    )
    previous = ", ".join(
        f"CASE WHEN lag(time) OVER w > time - INTERVAL 6 HOUR THEN lag({name}) OVER w END AS last_{name}"
        for name in ("verbal", "motor", "eyes")
    )
    return f"""CREATE VIEW coma_rows AS SELECT {NUMBER["gcs"]} AS variable, number, number AS value FROM ({rows});
        CREATE VIEW gcs AS
        WITH record AS (SELECT hadm_id, icustay_id, time, {maxima} FROM ({rows}) GROUP BY ALL),
          pair AS (SELECT *, {previous} FROM record WINDOW w AS (PARTITION BY icustay_id ORDER BY time))
        SELECT hadm_id, {NUMBER["gcs"]} AS variable, time,
          CASE WHEN verbal = 0 THEN 15
               WHEN verbal IS NULL AND last_verbal = 0 THEN 15
               WHEN last_verbal = 0 THEN coalesce(motor, 6) + coalesce(verbal, 5) + coalesce(eyes, 4)
               ELSE coalesce(motor, last_motor, 6) + coalesce(verbal, last_verbal, 5) + coalesce(eyes, last_eyes, 4) END AS value
        FROM pair"""


def _labs() -> str:
    """View (hadm_id, variable, time, number, value): from 6 h before the admission's first ICU
    stay."""
    variable = " ".join(
        f"WHEN itemid IN {items(LAB_ITEMS[name])} THEN {NUMBER[name]}" for name in LAB_LIMITS
    )
    limit = " ".join(
        f"WHEN itemid IN {items(LAB_ITEMS[name])} THEN {high}" for name, high in LAB_LIMITS.items()
    )
    return f"""CREATE VIEW laboratory AS
        SELECT hadm_id, CASE {variable} END AS variable, charttime AS time, number,
          CASE WHEN number > 0 AND number <= CASE {limit} END THEN number END AS value
        FROM labevents
          JOIN (SELECT subject_id, hadm_id, min(intime) AS intime FROM icustays GROUP BY ALL) USING (subject_id, hadm_id)
        WHERE itemid IN {items(*(LAB_ITEMS[name] for name in LAB_LIMITS))} AND charttime >= intime - INTERVAL 6 HOUR"""


def _percent(number: str, mode: str) -> str:
    """Charted FiO2 in percent, or NULL."""
    if mode == "clean":
        return f"CASE WHEN {number} BETWEEN 0.2 AND 1 THEN 100 * {number} WHEN {number} BETWEEN 20 AND 100 THEN {number} END"
    return f"""CASE itemid
        WHEN 223835 THEN
          CASE WHEN {number} > 0 AND {number} <= 1 THEN 100 * {number} WHEN {number} BETWEEN 21 AND 100 THEN {number} END
        WHEN 190 THEN CASE WHEN {number} > 0.2 AND {number} < 1 THEN 100 * {number} END
        ELSE {number} END"""


def _fio2(mode: str) -> str:
    """Views: charted FiO2 per ICU stay and time. In reference mode an invalid entry hides the valid
    one before it."""
    dropped = "HAVING value IS NOT NULL" if mode == "clean" else ""
    return f"""CREATE OR REPLACE VIEW charted_fio2 AS
        SELECT icustay_id, charttime AS time, max({_percent("number", mode)}) AS value
        FROM chartevents WHERE itemid IN {items(CHART_ITEMS["fio2"])} AND NOT flagged GROUP BY ALL {dropped}"""


def _spo2(mode: str) -> str:
    clean = mode == "clean"
    return f"""CREATE OR REPLACE VIEW charted_spo2 AS
        SELECT icustay_id, charttime AS time, max(CASE WHEN number > 0 AND number <= 100 THEN number END) AS value
        FROM chartevents WHERE itemid IN {items(CHART_ITEMS["spo2"])} {"AND NOT flagged" if clean else ""}
        GROUP BY ALL {"HAVING value IS NOT NULL" if clean else ""}"""


def _gases(mode: str) -> str:
    """Table of blood gases with PaO2, one per admission, ICU stay and time, with what was charted
    last before."""
    measured = ", ".join(
        f"max(number) FILTER (itemid = {item} AND number > 0 AND number <= {GAS_LIMITS.get(name, 'number')}) AS {name}"
        for name, item in GAS_ITEMS.items()
    )
    gas_fio2 = _percent("gas_fio2", mode) if mode == "clean" else "gas_fio2"
    terms = " + ".join(
        f"coalesce({coefficient} * {name}, {coefficient} * {mean} + {offset})"
        for name, (coefficient, mean, offset) in TERMS.items()
    )
    return f"""CREATE OR REPLACE TABLE gases AS
        WITH gas AS (
            SELECT hadm_id, icustay_id, charttime AS time, max(specimen) AS specimen, {measured}
            FROM labevents JOIN icustays USING (subject_id, hadm_id)
            WHERE itemid IN {items(LAB_ITEMS["gas"])} AND charttime >= intime - INTERVAL 6 HOUR
            GROUP BY ALL HAVING pao2 IS NOT NULL),
          attached AS (
            SELECT gas.* REPLACE ({gas_fio2} AS gas_fio2),
              CASE WHEN f.time >= gas.time - INTERVAL 4 HOUR THEN f.value END AS charted_fio2,
              CASE WHEN s.time >= gas.time - INTERVAL 2 HOUR THEN s.value END AS spo2
            FROM gas ASOF LEFT JOIN charted_fio2 f ON gas.icustay_id = f.icustay_id AND gas.time >= f.time
              ASOF LEFT JOIN charted_spo2 s ON gas.icustay_id = s.icustay_id AND gas.time >= s.time)
        SELECT *, coalesce(gas_fio2, charted_fio2) AS fio2,
          1 / (1 + exp(-({INTERCEPT} + {PAO2_COEFFICIENT} * pao2 + {terms}))) AS probability,
          coalesce(specimen = 'ART', false) OR probability > {ARTERIAL} AS arterial
        FROM attached"""


def _gas_values(mode: str) -> str:
    """View (variable, number, value) for the counts: PaO2 and FiO2 as measured and as charted."""
    gas_fio2 = (
        _percent("number", mode)
        if mode == "clean"
        else "CASE WHEN number > 0 AND number <= 100 THEN number END"
    )
    return f"""CREATE OR REPLACE VIEW gas_values AS
        SELECT CASE itemid WHEN {GAS_ITEMS["pao2"]} THEN {NUMBER["pao2"]} ELSE {NUMBER["fio2"]} END AS variable, number,
          CASE itemid WHEN {GAS_ITEMS["pao2"]} THEN CASE WHEN number > 0 AND number <= {GAS_LIMITS["pao2"]} THEN number END
            ELSE {gas_fio2} END AS value
        FROM labevents SEMI JOIN icustays USING (subject_id, hadm_id) WHERE itemid IN ({GAS_ITEMS["pao2"]}, {GAS_ITEMS["gas_fio2"]})
        UNION ALL SELECT {NUMBER["fio2"]}, number, {_percent("number", mode)} FROM chartevents SEMI JOIN icustays USING (icustay_id)
        WHERE itemid IN {items(CHART_ITEMS["fio2"])} AND NOT flagged"""


def _urine(mode: str) -> str:
    """View (hadm_id, icustay_id, variable, time, number, value): mL; irrigant that went in is
    negative."""
    signed = f"CASE WHEN itemid = {IRRIGANT_IN} THEN -amount ELSE amount END"
    value = (
        f"CASE WHEN NOT flagged AND abs(amount) <= {URINE_LIMIT} THEN {signed} END"
        if mode == "clean"
        else signed
    )
    return f"""CREATE OR REPLACE VIEW urine AS
        SELECT hadm_id, icustay_id, {NUMBER["urine"]} AS variable, charttime AS time, amount AS number, {value} AS value
        FROM outputevents JOIN icustays USING (hadm_id, icustay_id) WHERE charttime >= intime"""
