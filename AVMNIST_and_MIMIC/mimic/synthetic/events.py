"""Events of the synthetic hospital, drawn from its latents: what all share, and outputs.

Everything is drawn for a block of patients at once; a block's events depend on the seed and the
block only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.basics import HOUR, chance, ragged

DENSE = 26.0  # hours of a stay that are charted closely; later values come a quarter as often
ON_THE_HOUR = 0.4  # share of stamps


@dataclass(frozen=True)
class Level:
    """A variable's mean, its shift per unit of a latent, its spread between patients and readings.

    All are in its unit; `log`: these four are those of the natural logarithm. `trend` is the shift
    over 24 hours per unit of `course`.
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
    """A run of patients: their admissions [A] and ICU stays [S].

    `admission` of a stay counts inside the block.
    """

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


def schedule(
    block: Block, every: float, which: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stamps every `every` hours of the stays `which`.

    -> stay [N], seconds [N], hours since the stay's INTIME [N].
    """
    start = block.stays["intime"]
    length = (block.stays["outtime"] - start) / HOUR
    dense = int(DENSE / every)
    late = np.maximum(0, (length - DENSE) / (4 * every)).astype(int)
    counts = np.where(length > DENSE, dense + late, length / every).astype(int) + 1
    stay, step = ragged(counts * which)
    hours = np.where(step < dense, step * every, dense * every + (step - dense) * 4 * every)
    hours = hours + block.rng.uniform(0, 0.3 * every, len(stay))
    stamp = start[stay] + (hours * HOUR).astype(np.int64)
    on_the_hour = chance(ON_THE_HOUR, len(stay), block.rng)
    stamp = np.where(on_the_hour, stamp // HOUR * HOUR, stamp // 60 * 60)
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


_IDS = np.array(sorted(item.id for item in tables.ITEMS))
_UNITS = sorted({item.unit for item in tables.ITEMS if item.unit})
_UNIT_OF = {item.id: _UNITS.index(item.unit) if item.unit else -1 for item in tables.ITEMS}
_UNIT_CODES = np.array([_UNIT_OF[id] for id in _IDS.tolist()])


def units(item: np.ndarray) -> pd.Categorical:
    """VALUEUOM of item ids [N]."""
    return pd.Categorical.from_codes(_UNIT_CODES[np.searchsorted(_IDS, item)], _UNITS)


def output_events(block: Block) -> pd.DataFrame:
    """OUTPUTEVENTS: urine, and other outputs.

    Bladders under irrigation have volumes in and out at the same stamps.
    """
    rng, stays = block.rng, block.stays
    stay, stamp, hours = schedule(block, 1.5)
    value = block.readings("urine", block.levels("urine"), stays["admission"][stay], hours)
    metavision = stays["metavision"][stay].astype(int)
    item = np.array(tables.URINE)[metavision, chance(0.15, len(stay), rng).astype(int)]
    urine = rows(stay, stamp, item, value)
    again = urine[chance(0.03, len(urine), rng)]  # a second record at the same stamp
    drained = urine[chance(0.08, len(urine), rng)].assign(number=50.0)
    drained["item"] = np.array(tables.DRAINED)[stays["metavision"][drained["stay"]].astype(int)]
    bladders = chance(0.04, len(stays["intime"]), rng) & stays["metavision"]
    irrigated = bladders[stay] & chance(0.5, len(stay), rng)
    into = urine[irrigated].assign(item=tables.IRRIGANT_IN, number=200.0)
    out = urine[irrigated].assign(item=tables.IRRIGANT_OUT, number=190.0)
    outputs = pd.concat([urine, again, drained, into, out], ignore_index=True)
    stay, owner = outputs["stay"].to_numpy(), stays["admission"][outputs["stay"]]
    stamp, item = outputs["stamp"].to_numpy(), outputs["item"].to_numpy()
    return pd.DataFrame(
        {
            "SUBJECT_ID": block.admissions["subject_id"][owner],
            "HADM_ID": block.admissions["hadm_id"][owner],
            "ICUSTAY_ID": stays["icustay_id"][stay],
            "CHARTTIME": stamp.astype("datetime64[s]"),
            "ITEMID": item,
            "VALUE": outputs["number"].to_numpy(),
            "VALUEUOM": units(item),
            "STORETIME": (stamp + 600).astype("datetime64[s]"),
            "CGID": 14_000 + rng.integers(0, 500, len(outputs)),
        }
    )
