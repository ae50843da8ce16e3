"""Hourly bins, imputation and the P/F ratio: from `records` to series [N, T, 12] and their mask.

Steps of N admissions x T bins x 13 raw variables; missing is NaN.
"""

from __future__ import annotations

import numpy as np

from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch
from AVMNIST_and_MIMIC.mimic.extraction.variables import NUMBER, VARIABLES

PAO2, FIO2, URINE = NUMBER["pao2"], NUMBER["fio2"], NUMBER["urine"]


def build_series(
    scratch: Scratch, mode: str, rows: int, bins: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """-> series float64 [N, T, 12], mask uint8 [N, T, 12]: 1 where observed in the bin.

    `rows`: N; `bins`: T; `width`: seconds per bin.
    """
    scratch.run("bins", _bins(mode, bins, width))
    values = np.full((rows, bins, len(VARIABLES)), np.nan)
    cells = scratch.arrays(
        f"SELECT row, bin, variable, value FROM bins WHERE bin >= 0 AND bin < {bins}"
    )
    values[cells["row"], cells["bin"], cells["variable"]] = cells["value"]
    observed = np.isfinite(values)
    if mode == "clean":
        before = _one_per_row(scratch, rows, "SELECT row, variable, value FROM bins WHERE bin = -1")
        series = impute_clean(values, before)
    else:
        first = "SELECT row, variable, arg_min(value, bin) AS value FROM bins"
        later = _one_per_row(scratch, rows, f"{first} WHERE bin >= {bins} GROUP BY ALL")
        mean = "SELECT row, variable, mean_of(value) AS value FROM bins"
        urine = _one_per_row(scratch, rows, f"{mean} WHERE variable = {URINE} GROUP BY ALL")
        series = impute_reference(values, later, urine[:, URINE])
    observed[:, :, PAO2] &= observed[:, :, FIO2]
    return series, np.delete(observed, FIO2, axis=2).astype(np.uint8)


def _bins(mode: str, bins: int, width: int) -> str:
    """Table `bins` (row, bin, variable, value).

    clean: half-open bins within the horizon from INTIME; urine summed; bin -1 is the last value
    known before INTIME. reference: bins of the whole record from its first stamp, closed at both
    ends, so a stamp on an edge counts twice; means.
    """
    if mode == "clean":
        total = "CAST(sum(CAST(value AS DECIMAL(38, 12))) AS DOUBLE)"
        timed = """SELECT row, variable, time, value, date_diff('second', intime, time) AS s
            FROM records JOIN cohort USING (hadm_id)"""
        return f"""CREATE TABLE bins AS
            SELECT row, s // {width} AS bin, variable,
              CASE WHEN variable = {URINE} THEN {total} ELSE mean_of(value) END AS value
            FROM ({timed}) WHERE s >= 0 AND s < {bins * width} GROUP BY row, s // {width}, variable
            UNION ALL
            SELECT row, -1, variable, arg_max(value, time)
            FROM ({timed}) WHERE s < 0 GROUP BY ALL"""
    timed = """SELECT row, variable, value,
          date_diff('second', first, time) AS s, date_diff('second', first, last) AS length
        FROM records JOIN cohort USING (hadm_id)"""
    return f"""CREATE TABLE bins AS
        SELECT row, bin, variable, mean_of(value) AS value FROM (
          SELECT row, s // {width} AS bin, variable, value FROM ({timed})
          WHERE s < ceil(length / {width}) * {width}
          UNION ALL
          SELECT row, s // {width} - 1, variable, value FROM ({timed})
          WHERE s > 0 AND s % {width} = 0)
        GROUP BY ALL"""


def _one_per_row(scratch: Scratch, rows: int, query: str) -> np.ndarray:
    """Query of (row, variable, value) -> [N, 13], NaN where it has none."""
    cells, values = scratch.arrays(query), np.full((rows, len(VARIABLES)), np.nan)
    values[cells["row"], cells["variable"]] = cells["value"]
    return values


def impute_clean(values: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Binned values [N, T, 13] -> [N, T, 12], from the past alone.

    `before` [N, 13]: the last value known before the first bin.
    """
    filled = forward_fill(np.concatenate([before[:, None], values], axis=1))[:, 1:]
    filled[:, :, URINE] = values[:, :, URINE]  # a sum is no state: not recorded is not known
    return _with_ratio(filled, finite(filled[:, :, PAO2], filled[:, :, FIO2]))


def impute_reference(values: np.ndarray, later: np.ndarray, urine: np.ndarray) -> np.ndarray:
    """Binned values [N, T, 13] -> [N, T, 12], by the published rules.

    `later` [N, 13]: first value after bin T; `urine` [N]: its mean over the whole record. Forward,
    then backward fill over the whole record, so that a value of a later day may fill the first. The
    ratio is filled forward, then with its mean over the T bins.
    """
    filled = forward_fill(values)
    filled = forward_fill(filled[:, ::-1])[:, ::-1]
    filled = np.where(np.isnan(filled), later[:, None], filled)
    recorded = values[:, :, URINE]
    filled[:, :, URINE] = np.where(np.isnan(recorded), urine[:, None], recorded)
    ratio = forward_fill(finite(filled[:, :, PAO2], filled[:, :, FIO2])[:, :, None])[:, :, 0]
    counts = np.isfinite(ratio).sum(axis=1)
    undefined = np.full(len(ratio), np.nan)
    mean = np.divide(np.nansum(ratio, axis=1), counts, out=undefined, where=counts > 0)
    return _with_ratio(filled, np.where(np.isnan(ratio), mean[:, None], ratio))


def forward_fill(values: np.ndarray) -> np.ndarray:
    """[N, T, K], every NaN replaced by the last value before it, if there is one."""
    steps = np.arange(values.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, steps), axis=1)
    return np.take_along_axis(values, last, axis=1)


def finite(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, NaN where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = numerator / denominator
    return np.where(np.isfinite(quotient), quotient, np.nan)


def _with_ratio(filled: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """[N, T, 13] with PaO2 and FiO2 replaced by their ratio: [N, T, 12]."""
    filled = filled.copy()
    filled[:, :, PAO2] = ratio
    return np.delete(filled, FIO2, axis=2)
