"""Events of the synthetic hospital: charted values, laboratory values and outputs, drawn from the
latent factors.

Everything is drawn for a block of patients at once; a block's events depend on the seed and the
block only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import HOUR, chance

DENSE = 26.0  # hours of a stay that are charted closely; later values come a quarter as often
ON_THE_HOUR = 0.4  # share of stamps
ERRORS, IMPOSSIBLE, DISCONTINUED, NO_STAY = 0.006, 0.004, 0.003, 0.004  # shares of chart rows
WRONG = (0.0, 999.0, -5.0)  # out of range for every variable


@dataclass(frozen=True)
class Level:
    """A variable's mean, the shift per unit of a latent, the spread between patients and between
    readings, all in its unit.

    `log`: these four are those of the natural logarithm. `trend` is the shift over 24 hours per
    unit of `course`.
    """

    mean: float
    latents: dict[str, float] = field(default_factory=dict)
    patients: float = 0.0
    readings: float = 0.0
    trend: float = 0.0
    log: bool = False
    digits: int = 0


LEVELS = {
    "heart_rate": Level(87, {"drive": 13}, 4, 5, 5),
    "systolic": Level(121, {"shock": -12}, 7, 9, -9),
    "temperature": Level(36.9, {"drive": 0.4}, 0.15, 0.25, digits=1),  # degrees Celsius
    "spo2": Level(97, {"lungs": -1.0}, 0.5, 1),
    "fio2": Level(48, {"lungs": 13}, 4, 3),  # percent
    "coma": Level(-1.0, {"shock": 1.4}, 0.6, 0.5),  # depth; 0 and less is awake
    "pf": Level(0.90, {"lungs": -0.38}, 0.12, 0.10, log=True, digits=2),  # mmHg per percent
    "urine": Level(4.50, {"shock": -0.40}, 0.25, 0.45, -0.30, log=True),  # mL per record
    "urea": Level(3.10, {"shock": 0.32}, 0.25, 0.06, log=True),
    "white": Level(2.35, {"marrow": 0.42}, 0.15, 0.08, log=True, digits=1),
    "bicarbonate": Level(24.3, {"lungs": 2.8, "shock": -1.5}, 1.2, 1.0),
    "sodium": Level(138.5, {"salts": 4.0}, 1.2, 1.2),
    "potassium": Level(4.15, {"marrow": 0.22}, 0.25, 0.25, digits=1),
    "bilirubin": Level(-0.10, {"liver": 0.9}, 0.3, 0.08, log=True, digits=1),
}


@dataclass(frozen=True)
class Block:
    """A run of patients: their admissions [A] and ICU stays [S], with `admission` counting inside
    the block."""

    admissions: dict[str, np.ndarray]
    latents: dict[str, np.ndarray]
    stays: dict[str, np.ndarray]
    rng: np.random.Generator

    def levels(self, name: str) -> np.ndarray:
        """A variable's level in each admission [A], on its logarithmic scale where it has one."""
        level, size = LEVELS[name], len(self.admissions["hadm_id"])
        shift = sum(weight * self.latents[latent] for latent, weight in level.latents.items())
        return level.mean + shift + level.patients * self.rng.standard_normal(size)

    def readings(
        self, name: str, levels: np.ndarray, owner: np.ndarray, hours: np.ndarray
    ) -> np.ndarray:
        """Values [N] of the admissions `owner` [N], `hours` [N] after the ICU admission."""
        level = LEVELS[name]
        trend = level.trend * self.latents["course"][owner] * (np.clip(hours, 0, 36) / 24 - 0.5)
        values = levels[owner] + trend + level.readings * self.rng.standard_normal(len(owner))
        return (np.exp(values) if level.log else values).round(level.digits)


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[2, 0, 3] -> owners [0, 0, 2, 2, 2] and steps [0, 1, 0, 1, 2]."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def schedule(
    block: Block, every: float, keep: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stamps every `every` hours of the stays in `keep` -> stay [N], seconds [N], hours since the
    stay's INTIME [N]."""
    start = block.stays["intime"]
    length = (block.stays["outtime"] - start) / HOUR
    dense = int(DENSE / every)
    late = np.maximum(0, (length - DENSE) / (4 * every)).astype(int)
    counts = np.where(length > DENSE, dense + late, length / every).astype(int) + 1
    stay, step = ragged(counts * keep)
    hours = np.where(step < dense, step * every, dense * every + (step - dense) * 4 * every)
    hours = hours + block.rng.uniform(0, 0.3 * every, len(stay))
    stamp = start[stay] + (hours * HOUR).astype(np.int64)
    stamp = np.where(
        chance(ON_THE_HOUR, len(stay), block.rng), stamp // HOUR * HOUR, stamp // 60 * 60
    )
    inside = stamp <= block.stays["outtime"][stay]
    return stay[inside], stamp[inside], hours[inside]


def rows(
    stay: np.ndarray,
    stamp: np.ndarray,
    item: np.ndarray,
    number: np.ndarray,
    text: np.ndarray | int = -1,
) -> pd.DataFrame:
    """Chart rows; `text` counts in TEXTS, -1 where the value is the number alone."""
    return pd.DataFrame(
        {"stay": stay, "stamp": stamp, "item": item, "number": number, "text": text}
    )


TEXTS = sorted(
    {
        text
        for scale in (tables.EYES, tables.MOTOR, tables.VERBAL)
        for _, texts in scale
        for text in texts
    }
    | {text for *_, texts in tables.OTHER_TEXTS for text in texts}
    | set(tables.INTUBATED)
)


def codes(texts: tuple[str, ...]) -> np.ndarray:
    return np.array([TEXTS.index(text) for text in texts])


def vital_signs(block: Block, density: float) -> list[pd.DataFrame]:
    """Heart rate, pressure, temperature, SpO2 and charted FiO2 with their item ids and units."""
    ventilated = block.admissions["gases"][block.stays["admission"]]
    every = {"heart_rate": 1.0, "systolic": 1.0, "temperature": 4.0, "spo2": 1.0, "fio2": 4.0}
    found = []
    for name, hours in every.items():
        levels = block.levels(name)
        stay, stamp, hour = schedule(block, hours / density, ventilated if name == "fio2" else True)
        value = block.readings(name, levels, block.stays["admission"][stay], hour)
        item = _items(name, block.stays["metavision"][stay], block.rng)
        found.append(rows(stay, stamp, item, _in_unit(name, item, value, block.rng)))
    return found


def _items(name: str, metavision: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An item id of the variable for every row, of the row's system."""
    carevue, other = (
        rng.choice(ids, len(metavision), p=shares) for ids, shares in tables.CHARTED[name]
    )
    return np.where(metavision, other, carevue)


def _in_unit(
    name: str, item: np.ndarray, value: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    if name == "temperature":
        in_fahrenheit = np.isin(item, tables.FAHRENHEIT) | chance(
            0.01, len(item), rng
        )  # some under the other unit's item
        return np.where(in_fahrenheit, value * 1.8 + 32, value).round(1)
    if name == "spo2":
        return np.minimum(value, 100)
    if name == "fio2":
        value = (
            np.clip(value / 5, 4.2, 20).round() * 5
        )  # ventilators are set in steps of 5 %, from 21 % on
        value = np.where(chance(0.08, len(value), rng), 100.0, np.maximum(value, 21))
        fraction = np.isin(item, tables.FRACTION) | (item == 223835) & chance(0.05, len(value), rng)
        return np.where(fraction, value / 100, value)
    return value


def coma_scale(block: Block, density: float) -> list[pd.DataFrame]:
    """Eyes, motor, verbal; intubated patients have a text and 1 for verbal. Single components are
    missing now and then."""
    rng, levels = block.rng, block.levels("coma")
    stay, stamp, hours = schedule(block, 4 / density)
    owner = block.stays["admission"][stay]
    depth = np.maximum(0, levels[owner] + LEVELS["coma"].readings * rng.standard_normal(len(stay)))
    metavision = block.stays["metavision"][stay].astype(int)
    tube = block.admissions["intubated"][owner] & (hours < block.admissions["tube_hours"][owner])
    found = []
    for scale, best, slope in (
        (tables.EYES, 4, 0.9),
        (tables.MOTOR, 6, 1.1),
        (tables.VERBAL, 5, 1.3),
    ):
        score = np.clip(np.rint(best - slope * depth), 1, best).astype(int)
        text = np.array([codes(texts) for _, texts in scale])[metavision, score - 1]
        if scale is tables.VERBAL:
            score, text = (
                np.where(tube, 1, score),
                np.where(tube, codes(tables.INTUBATED)[metavision], text),
            )
        item = np.array([item for item, _ in scale])[metavision]
        keep = ~chance(0.05, len(stay), rng)
        found.append(rows(stay, stamp, item, score.astype(float), text)[keep])
    return found


def other_charts(block: Block, size: int) -> pd.DataFrame:
    """`size` rows of items that no series uses, spread evenly over the stays' hours."""
    rng, stays = block.rng, block.stays
    length = (stays["outtime"] - stays["intime"]).astype(float)
    stay = (
        rng.choice(len(length), size, p=length / length.sum()) if len(length) else np.zeros(0, int)
    )
    stamp = (
        (stays["intime"][stay] + (rng.random(len(stay)) * length[stay]).astype(np.int64)) // 60 * 60
    )
    kind = rng.integers(0, len(tables.OTHER_NUMBERS) + len(tables.OTHER_TEXTS), len(stay))
    numbers = np.array(
        [row[2:] for row in tables.OTHER_NUMBERS] + [(np.nan, 0)] * len(tables.OTHER_TEXTS)
    )[kind]
    texts = np.vstack(
        [
            np.full((len(tables.OTHER_NUMBERS), 3), -1),
            *[codes(row[2]) for row in tables.OTHER_TEXTS],
        ]
    )
    ids = np.array([row[:2] for row in (*tables.OTHER_NUMBERS, *tables.OTHER_TEXTS)])
    number = (numbers[:, 0] + numbers[:, 1] * rng.standard_normal(len(stay))).round()
    item = ids[kind, stays["metavision"][stay].astype(int)]
    return rows(stay, stamp, item, number, texts[kind, rng.integers(0, 3, len(stay))])


def chart_events(block: Block, density: float, total: int | None) -> pd.DataFrame:
    """CHARTEVENTS of a block, by stay and time: `total` rows, or a quarter more than the items that
    the series use."""
    needed = pd.concat(
        [*vital_signs(block, density), *coma_scale(block, density)], ignore_index=True
    )
    if total is not None and total < len(needed):
        needed = needed.iloc[np.sort(block.rng.choice(len(needed), total, replace=False))]
    others = other_charts(block, len(needed) // 4 if total is None else total - len(needed))
    found = pd.concat([needed, others], ignore_index=True)
    found = found.iloc[np.lexsort((found["stamp"], found["stay"]))].reset_index(drop=True)
    return _as_charted(found, block)


def _as_charted(found: pd.DataFrame, block: Block) -> pd.DataFrame:
    """Add who and where, and the mistakes of charting; ERROR, WARNING are MetaVision's, STOPPED is
    CareVue's."""
    rng, size = block.rng, len(found)
    stay, metavision = found["stay"].to_numpy(), block.stays["metavision"][found["stay"]]
    number, text = found["number"].to_numpy().copy(), found["text"].to_numpy().copy()
    error = chance(ERRORS, size, rng) & metavision
    impossible = chance(IMPOSSIBLE, size, rng) & (text < 0)
    number = np.where(
        impossible, rng.choice(WRONG, size), np.where(error & (text < 0), number * 1.9, number)
    )
    stopped = chance(DISCONTINUED, size, rng) & ~metavision
    number, text = np.where(stopped, np.nan, number), np.where(stopped, -1, text)
    owner, item = block.stays["admission"][stay], found["item"].to_numpy()
    return pd.DataFrame({
        "SUBJECT_ID": block.admissions["subject_id"][owner],
        "HADM_ID": block.admissions["hadm_id"][owner],
        "ICUSTAY_ID": np.where(chance(NO_STAY, size, rng), np.nan, block.stays["icustay_id"][stay]),
        "ITEMID": item,
        "CHARTTIME": found["stamp"].to_numpy().astype("datetime64[s]"),
        "STORETIME": (found["stamp"].to_numpy() + 60 * rng.integers(0, 90, size)).astype("datetime64[s]"),
        "CGID": 14_000 + rng.integers(0, 500, size),
        "VALUE": pd.Categorical.from_codes(text, TEXTS),
        "VALUENUM": number,
        "VALUEUOM": units(item),
        "WARNING": np.where(metavision, 0, np.nan),
        "ERROR": np.where(metavision, error, np.nan),
        "STOPPED": pd.Categorical.from_codes(np.select([metavision, stopped], [-1, 1], 0), ["NotStopd", "D/C'd"]),
    })  # fmt: skip


_IDS = np.array(sorted(item.id for item in tables.ITEMS))
_UNITS = sorted({item.unit for item in tables.ITEMS if item.unit})
_UNIT_CODES = np.array(
    [
        _UNITS.index(unit) if unit else -1
        for unit in (item.unit for item in sorted(tables.ITEMS, key=lambda item: item.id))
    ]
)


def units(item: np.ndarray) -> pd.Categorical:
    """VALUEUOM of item ids [N]."""
    return pd.Categorical.from_codes(_UNIT_CODES[np.searchsorted(_IDS, item)], _UNITS)


def output_events(block: Block) -> pd.DataFrame:
    """OUTPUTEVENTS: urine, and other outputs; bladders under irrigation have volumes in and out at
    the same stamps."""
    rng, stays = block.rng, block.stays
    stay, stamp, hours = schedule(block, 1.5)
    value = block.readings("urine", block.levels("urine"), stays["admission"][stay], hours)
    metavision = stays["metavision"][stay].astype(int)
    item = np.array(tables.URINE)[metavision, chance(0.15, len(stay), rng).astype(int)]
    urine = rows(stay, stamp, item, value)
    again = urine[chance(0.03, len(urine), rng)]  # a second record at the same stamp
    drained = urine[chance(0.08, len(urine), rng)].assign(number=50.0)
    drained["item"] = np.array(tables.DRAINED)[stays["metavision"][drained["stay"]].astype(int)]
    irrigated = (chance(0.04, len(stays["intime"]), rng) & stays["metavision"])[stay] & chance(
        0.5, len(stay), rng
    )
    into = urine[irrigated].assign(item=tables.IRRIGANT_IN, number=200.0)
    out = urine[irrigated].assign(item=tables.IRRIGANT_OUT, number=190.0)
    found = pd.concat([urine, again, drained, into, out], ignore_index=True)
    stay, owner = found["stay"].to_numpy(), stays["admission"][found["stay"]]
    return pd.DataFrame({
        "SUBJECT_ID": block.admissions["subject_id"][owner],
        "HADM_ID": block.admissions["hadm_id"][owner],
        "ICUSTAY_ID": stays["icustay_id"][stay],
        "CHARTTIME": found["stamp"].to_numpy().astype("datetime64[s]"),
        "ITEMID": found["item"].to_numpy(),
        "VALUE": found["number"].to_numpy(),
        "VALUEUOM": units(found["item"].to_numpy()),
        "STORETIME": (found["stamp"].to_numpy() + 600).astype("datetime64[s]"),
        "CGID": 14_000 + rng.integers(0, 500, len(found)),
    })  # fmt: skip
