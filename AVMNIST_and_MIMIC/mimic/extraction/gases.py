"""Blood gases in SQL: PaO2, and the FiO2 that belongs to it, of arterial samples.

Faults of the published extraction are kept by the mode `reference` and fixed by `clean`
(README.md lists them). Whether a sample is arterial is estimated as by MIT-LCP.
"""

from __future__ import annotations

from AVMNIST_and_MIMIC.mimic.extraction.schema import CHART_ITEMS, LAB_ITEMS, items
from AVMNIST_and_MIMIC.mimic.extraction.variables import NUMBER, insert

# Log-odds that a blood gas is arterial: intercept, PaO2, and per term (coefficient, mean, offset
# where missing).
INTERCEPT, PAO2_COEFFICIENT, ARTERIAL = -0.02544, 0.04598, 0.75
TERMS = {
    "spo2": (-0.15356, 97.49420, 0.13429),
    "charted_fio2": (0.00621, 51.49550, -0.24958),
    "haemoglobin": (0.10559, 10.32307, 0.05954),
    "so2": (0.13251, 93.66539, -0.23172),
    "pco2": (-0.01511, 42.08866, -0.01630),
    "gas_fio2": (0.01480, 63.97836, -0.31142),
    "aa_gradient": (-0.00200, 442.21186, -0.01328),
    "gas_bicarbonate": (-0.03220, 22.96894, -0.06535),
    "total_co2": (0.05384, 24.72632, -0.01405),
    "lactate": (0.08202, 3.06436, 0.06038),
    "ph": (0.10956, 7.36233, -0.00617),
    "o2_flow": (0.00848, 7.59362, -0.35803),
}
GAS_ITEMS = {
    "pao2": 50821,
    "gas_fio2": 50816,
    "so2": 50817,
    "o2_flow": 50815,
    "haemoglobin": 50811,
    "pco2": 50818,
    "aa_gradient": 50801,
    "gas_bicarbonate": 50803,
    "total_co2": 50804,
    "lactate": 50813,
    "ph": 50820,
}
GAS_LIMITS = {"pao2": 800, "gas_fio2": 100, "so2": 100, "o2_flow": 70}


def gas_statements(mode: str) -> list[str]:
    """Views and table of blood gases, then the insertion of PaO2 and FiO2 into `records`."""
    views = [_fio2(mode), _spo2(mode), _gases(mode), _gas_values(mode)]
    return views + [insert(_arterial(name), "mean_of(value)") for name in ("pao2", "fio2")]


def _arterial(name: str) -> str:
    return f"""SELECT hadm_id, {NUMBER[name]} AS variable, time, {name} AS value
        FROM gases WHERE arterial"""


def _percent(number: str, mode: str) -> str:
    """Charted FiO2 in percent, or NULL."""
    if mode == "clean":
        return f"""CASE WHEN {number} BETWEEN 0.2 AND 1 THEN 100 * {number}
            WHEN {number} BETWEEN 20 AND 100 THEN {number} END"""
    return f"""CASE itemid
        WHEN 223835 THEN
          CASE WHEN {number} > 0 AND {number} <= 1 THEN 100 * {number}
               WHEN {number} BETWEEN 21 AND 100 THEN {number} END
        WHEN 190 THEN CASE WHEN {number} > 0.2 AND {number} < 1 THEN 100 * {number} END
        ELSE {number} END"""


def _fio2(mode: str) -> str:
    """View of charted FiO2 per ICU stay and time.

    In reference mode an invalid entry hides the valid one before it.
    """
    dropped = "HAVING value IS NOT NULL" if mode == "clean" else ""
    return f"""CREATE OR REPLACE VIEW charted_fio2 AS
        SELECT icustay_id, charttime AS time, max({_percent("number", mode)}) AS value
        FROM chartevents WHERE itemid IN {items(CHART_ITEMS["fio2"])} AND NOT flagged
        GROUP BY ALL {dropped}"""


def _spo2(mode: str) -> str:
    """View of charted SpO2 per ICU stay and time."""
    clean = mode == "clean"
    valid = "CASE WHEN number > 0 AND number <= 100 THEN number END"
    return f"""CREATE OR REPLACE VIEW charted_spo2 AS
        SELECT icustay_id, charttime AS time, max({valid}) AS value
        FROM chartevents
        WHERE itemid IN {items(CHART_ITEMS["spo2"])} {"AND NOT flagged" if clean else ""}
        GROUP BY ALL {"HAVING value IS NOT NULL" if clean else ""}"""


def _gases(mode: str) -> str:
    """Table of blood gases with PaO2, one per admission, ICU stay and time.

    Beside them stands what was charted last before.
    """
    measured = ", ".join(_measured(name, item) for name, item in GAS_ITEMS.items())
    gas_fio2 = _percent("gas_fio2", mode) if mode == "clean" else "gas_fio2"
    terms = " + ".join(_term(name, *numbers) for name, numbers in TERMS.items())
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
            FROM gas
              ASOF LEFT JOIN charted_fio2 f
                ON gas.icustay_id = f.icustay_id AND gas.time >= f.time
              ASOF LEFT JOIN charted_spo2 s
                ON gas.icustay_id = s.icustay_id AND gas.time >= s.time)
        SELECT *, coalesce(gas_fio2, charted_fio2) AS fio2,
          1 / (1 + exp(-({INTERCEPT} + {PAO2_COEFFICIENT} * pao2 + {terms}))) AS probability,
          coalesce(specimen = 'ART', false) OR probability > {ARTERIAL} AS arterial
        FROM attached"""


def _measured(name: str, item: int) -> str:
    valid = f"itemid = {item} AND number > 0 AND number <= {GAS_LIMITS.get(name, 'number')}"
    return f"max(number) FILTER ({valid}) AS {name}"


def _term(name: str, coefficient: float, mean: float, offset: float) -> str:
    return f"coalesce({coefficient} * {name}, {coefficient} * {mean} + {offset})"


def _gas_values(mode: str) -> str:
    """View (variable, number, value) for the counts: PaO2 and FiO2 as measured and as charted."""
    pao2, fio2 = GAS_ITEMS["pao2"], GAS_ITEMS["gas_fio2"]
    valid_pao2 = f"CASE WHEN number > 0 AND number <= {GAS_LIMITS['pao2']} THEN number END"
    valid_fio2 = "CASE WHEN number > 0 AND number <= 100 THEN number END"
    if mode == "clean":
        valid_fio2 = _percent("number", mode)
    return f"""CREATE OR REPLACE VIEW gas_values AS
        SELECT CASE itemid WHEN {pao2} THEN {NUMBER["pao2"]} ELSE {NUMBER["fio2"]} END AS variable,
          number,
          CASE itemid WHEN {pao2} THEN {valid_pao2} ELSE {valid_fio2} END AS value
        FROM labevents SEMI JOIN icustays USING (subject_id, hadm_id)
        WHERE itemid IN ({pao2}, {fio2})
        UNION ALL
        SELECT {NUMBER["fio2"]}, number, {_percent("number", mode)}
        FROM chartevents SEMI JOIN icustays USING (icustay_id)
        WHERE itemid IN {items(CHART_ITEMS["fio2"])} AND NOT flagged"""
