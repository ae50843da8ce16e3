"""CHARTEVENTS of the synthetic hospital: vital signs, coma scale, and what no series uses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.basics import chance
from AVMNIST_and_MIMIC.mimic.synthetic.events import LEVELS, Block, rows, schedule, units

# Shares of chart rows.
ERRORS, IMPOSSIBLE, DISCONTINUED, NO_STAY = 0.006, 0.004, 0.003, 0.004
WRONG = (0.0, 999.0, -5.0)  # out of range for every variable
EVERY = {"heart_rate": 1.0, "systolic": 1.0, "temperature": 4.0, "spo2": 1.0, "fio2": 4.0}  # hours
# A scale of the coma scale with its best score, and how fast it falls with the coma's depth.
SCALES = ((tables.EYES, 4, 0.9), (tables.MOTOR, 6, 1.1), (tables.VERBAL, 5, 1.3))


def _texts() -> Iterator[str]:
    """All that VALUE may hold beside a number."""
    for scale, *_ in SCALES:
        for _, texts in scale:
            yield from texts
    for *_, texts in tables.OTHER_TEXTS:
        yield from texts
    yield from tables.INTUBATED


TEXTS = sorted(set(_texts()))


def codes(texts: tuple[str, ...]) -> np.ndarray:
    return np.array([TEXTS.index(text) for text in texts])


def chart_events(block: Block, density: float, total: int | None) -> pd.DataFrame:
    """CHARTEVENTS of a block, by stay and time.

    `total` rows, or a quarter more than the items that the series use.
    """
    charted = [*vital_signs(block, density), *coma_scale(block, density)]
    needed = pd.concat(charted, ignore_index=True)
    if total is not None and total < len(needed):
        needed = needed.iloc[np.sort(block.rng.choice(len(needed), total, replace=False))]
    others = other_charts(block, len(needed) // 4 if total is None else total - len(needed))
    chart = pd.concat([needed, others], ignore_index=True)
    chart = chart.iloc[np.lexsort((chart["stamp"], chart["stay"]))].reset_index(drop=True)
    return _as_charted(chart, block)


def vital_signs(block: Block, density: float) -> list[pd.DataFrame]:
    """Heart rate, pressure, temperature, SpO2 and charted FiO2 with their item ids and units."""
    ventilated = block.admissions["gases"][block.stays["admission"]]
    charts = []
    for name, hours in EVERY.items():
        levels = block.levels(name)
        stay, stamp, hour = schedule(block, hours / density, ventilated if name == "fio2" else True)
        value = block.readings(name, levels, block.stays["admission"][stay], hour)
        item = _items(name, block.stays["metavision"][stay], block.rng)
        charts.append(rows(stay, stamp, item, _in_unit(name, item, value, block.rng)))
    return charts


def _items(name: str, metavision: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An item id of the variable for every row, of the row's system."""
    carevue, other = (
        rng.choice(ids, len(metavision), p=shares) for ids, shares in tables.CHARTED[name]
    )
    return np.where(metavision, other, carevue)


def _in_unit(
    name: str, item: np.ndarray, value: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Values as they are charted under their items."""
    if name == "temperature":
        mistaken = chance(0.01, len(item), rng)  # some under the other unit's item
        in_fahrenheit = np.isin(item, tables.FAHRENHEIT) | mistaken
        return np.where(in_fahrenheit, value * 1.8 + 32, value).round(1)
    if name == "spo2":
        return np.minimum(value, 100)
    if name == "fio2":
        # Ventilators are set in steps of 5 %, from 21 % on.
        value = np.clip(value / 5, 4.2, 20).round() * 5
        value = np.where(chance(0.08, len(value), rng), 100.0, np.maximum(value, 21))
        fraction = np.isin(item, tables.FRACTION) | (item == 223835) & chance(0.05, len(value), rng)
        return np.where(fraction, value / 100, value)
    return value


def coma_scale(block: Block, density: float) -> list[pd.DataFrame]:
    """Eyes, motor, verbal; single components are missing now and then.

    Intubated patients have a text and 1 for verbal.
    """
    rng, levels = block.rng, block.levels("coma")
    stay, stamp, hours = schedule(block, 4 / density)
    owner = block.stays["admission"][stay]
    depth = np.maximum(0, levels[owner] + LEVELS["coma"].readings * rng.standard_normal(len(stay)))
    metavision = block.stays["metavision"][stay].astype(int)
    tube = block.admissions["intubated"][owner] & (hours < block.admissions["tube_hours"][owner])
    charts = []
    for scale, best, slope in SCALES:
        score = np.clip(np.rint(best - slope * depth), 1, best).astype(int)
        text = np.array([codes(texts) for _, texts in scale])[metavision, score - 1]
        if scale is tables.VERBAL:
            text = np.where(tube, codes(tables.INTUBATED)[metavision], text)
            score = np.where(tube, 1, score)
        item = np.array([item for item, _ in scale])[metavision]
        present = ~chance(0.05, len(stay), rng)
        charts.append(rows(stay, stamp, item, score.astype(float), text)[present])
    return charts


def other_charts(block: Block, size: int) -> pd.DataFrame:
    """`size` rows of items that no series uses, spread evenly over the stays' hours."""
    rng, stays = block.rng, block.stays
    length = (stays["outtime"] - stays["intime"]).astype(float)
    stay = np.zeros(0, int)
    if len(length):
        stay = rng.choice(len(length), size, p=length / length.sum())
    since = (rng.random(len(stay)) * length[stay]).astype(np.int64)
    stamp = (stays["intime"][stay] + since) // 60 * 60
    numbers, texts = tables.OTHER_NUMBERS, tables.OTHER_TEXTS
    kind = rng.integers(0, len(numbers) + len(texts), len(stay))
    ids = np.array([row[:2] for row in (*numbers, *texts)])
    spreads = np.array([row[2:] for row in numbers] + [(np.nan, 0)] * len(texts))[kind]
    no_texts = np.full((len(numbers), 3), -1)
    text_codes = np.vstack([no_texts, *[codes(row[2]) for row in texts]])
    number = (spreads[:, 0] + spreads[:, 1] * rng.standard_normal(len(stay))).round()
    item = ids[kind, stays["metavision"][stay].astype(int)]
    return rows(stay, stamp, item, number, text_codes[kind, rng.integers(0, 3, len(stay))])


def _as_charted(chart: pd.DataFrame, block: Block) -> pd.DataFrame:
    """Add who and where, and the mistakes of charting.

    ERROR and WARNING are MetaVision's, STOPPED is CareVue's.
    """
    rng, size, stays = block.rng, len(chart), block.stays
    stay, metavision = chart["stay"].to_numpy(), stays["metavision"][chart["stay"]]
    number, text = chart["number"].to_numpy().copy(), chart["text"].to_numpy().copy()
    stamp, item = chart["stamp"].to_numpy(), chart["item"].to_numpy()
    error = chance(ERRORS, size, rng) & metavision
    impossible = chance(IMPOSSIBLE, size, rng) & (text < 0)
    wrong = rng.choice(WRONG, size)
    number = np.where(error & (text < 0), number * 1.9, number)
    number = np.where(impossible, wrong, number)
    stopped = chance(DISCONTINUED, size, rng) & ~metavision
    number, text = np.where(stopped, np.nan, number), np.where(stopped, -1, text)
    status = np.select([metavision, stopped], [-1, 1], 0)
    owner = stays["admission"][stay]
    return pd.DataFrame(
        {
            "SUBJECT_ID": block.admissions["subject_id"][owner],
            "HADM_ID": block.admissions["hadm_id"][owner],
            "ICUSTAY_ID": np.where(chance(NO_STAY, size, rng), np.nan, stays["icustay_id"][stay]),
            "ITEMID": item,
            "CHARTTIME": stamp.astype("datetime64[s]"),
            "STORETIME": (stamp + 60 * rng.integers(0, 90, size)).astype("datetime64[s]"),
            "CGID": 14_000 + rng.integers(0, 500, size),
            "VALUE": pd.Categorical.from_codes(text, TEXTS),
            "VALUENUM": number,
            "VALUEUOM": units(item),
            "WARNING": np.where(metavision, 0, np.nan),
            "ERROR": np.where(metavision, error, np.nan),
            "STOPPED": pd.Categorical.from_codes(status, ["NotStopd", "D/C'd"]),
        }
    )
