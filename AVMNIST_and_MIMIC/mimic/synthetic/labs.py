"""LABEVENTS of the synthetic hospital: chemistry, blood counts and blood gases."""

from __future__ import annotations

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.events import Block, ragged
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import DAY, HOUR, chance

# Variable: item ids and their shares, share of draws that have it. Bilirubin is never drawn in some
# admissions, see `make_gases`.
PANEL = {
    "urea": ([51006], [1.0], 0.93), "white": ([51301, 51300], [0.97, 0.03], 0.85), "bicarbonate": ([50882], [1.0], 0.93),
    "sodium": ([50983], [1.0], 0.94), "potassium": ([50971], [1.0], 0.94), "bilirubin": ([50885], [1.0], 0.4),
}  # fmt: skip
# Values that no series uses: mean, spread, digits.
OTHERS = {50912: (1.3, 0.3, 1), 51221: (31.0, 4.0, 1), 51265: (220.0, 60.0, 0)}
SPECIMEN_SHARES = (0.93, 0.03, 0.035, 0.005)
# Items of a blood gas beside pO2 and specimen: mean, spread, digits, share of gases that have it.
GAS_ITEMS = {
    50801: (350, 120, 0, 0.15), 50803: (24, 3, 0, 0.05), 50804: (25, 4, 0, 0.95), 50811: (10, 1.3, 1, 0.3),
    50813: (2.4, 1.0, 1, 0.5), 50815: (6, 2, 0, 0.05), 50817: (95, 2, 0, 0.35), 50818: (41, 6, 0, 1.0),
    50820: (7.37, 0.05, 2, 1.0), 50822: (4.1, 0.4, 1, 0.4), 50824: (138, 4, 0, 0.15),
}  # fmt: skip
OUTSIDE = {
    50817: 101.0,
    50815: 80.0,
    50816: 101.0,
    50821: 850.0,
}  # just beyond the range of the extraction


def add_treatment(
    admissions: dict[str, np.ndarray], latents: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Who has blood gases, a tube (and for how many hours), and bilirubin measured: [A] each. Bad
    lungs make gases likelier."""
    size = len(admissions["patient"])
    admissions["gases"] = latents["lungs"] + rng.logistic(size=size) > 0
    admissions["intubated"] = admissions["gases"] & chance(0.5, size, rng)
    admissions["tube_hours"] = rng.exponential(20, size)
    admissions["liver_tested"] = chance(0.7, size, rng)


def lab_events(block: Block) -> pd.DataFrame:
    """LABEVENTS of a block, variable by variable."""
    found = pd.concat([_panels(block), _gases(block), _outpatient(block)], ignore_index=True)
    number, text = found["number"].to_numpy(), found["text"].to_numpy()
    item = found["item"].to_numpy()
    ids = np.array(sorted(tables.LAB_ITEMS))
    unit_names = sorted({unit for *_, unit in tables.LAB_ITEMS.values() if unit})
    unit_codes = np.array(
        [unit_names.index(unit) if (unit := tables.LAB_ITEMS[i][2]) else -1 for i in ids]
    )
    owner = found["admission"].to_numpy()
    hadm = np.where(found["outpatient"].to_numpy(), np.nan, block.admissions["hadm_id"][owner])
    abnormal = chance(0.35, len(found), block.rng) & (text < 0)
    return pd.DataFrame({
        "SUBJECT_ID": block.admissions["subject_id"][owner],
        "HADM_ID": hadm,
        "ITEMID": item,
        "CHARTTIME": found["stamp"].to_numpy().astype("datetime64[s]"),
        "VALUE": pd.Categorical.from_codes(text, tables.SPECIMENS),
        "VALUENUM": number,
        "VALUEUOM": pd.Categorical.from_codes(unit_codes[np.searchsorted(ids, item)], unit_names),
        "FLAG": pd.Categorical.from_codes(abnormal.astype(int) - 1, ["abnormal"]),
    })  # fmt: skip


def _rows(
    admission: np.ndarray,
    stamp: np.ndarray,
    item: np.ndarray | int,
    number: np.ndarray | float,
    **more,
) -> pd.DataFrame:
    columns = {
        "admission": admission,
        "stamp": stamp,
        "item": item,
        "number": number,
        "text": -1,
        "outpatient": False,
    }
    return pd.DataFrame(columns | more)


def _draws(block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blood draws -> admission [N], seconds [N], hours since the first INTIME [N]: before the ICU,
    every 8 h, then daily."""
    rng, admissions = block.rng, block.admissions
    size = len(admissions["intime"])
    length = (admissions["discharge"] - admissions["intime"]) / HOUR
    counts = np.where(length > 24, 4 + np.minimum((length - 24) / 24, 7), 1 + length / 8).astype(
        int
    )
    owner, step = ragged(counts)
    hours = np.where(step < 4, step * 8.0, step * 24.0 - 72) + rng.uniform(0.1, 1.5, len(owner))
    soon_dead = (
        admissions["class"] == 1
    )  # with a value just inside the six hours their records span a day
    before = np.where(soon_dead, rng.uniform(-5.9, -4.2, size), rng.uniform(-5.9, -0.2, size))
    early = np.flatnonzero(chance(0.85, size, rng) | soon_dead)
    too_early = np.flatnonzero(chance(0.25, size, rng))  # more than six hours before the ICU
    owner = np.concatenate([owner, early, too_early])
    hours = np.concatenate([hours, before[early], rng.uniform(-30, -6.2, len(too_early))])
    stamp = (admissions["intime"][owner] + (hours * HOUR).astype(np.int64)) // 60 * 60
    stamp = np.where(
        chance(0.3, len(owner), rng), stamp // 1800 * 1800, stamp
    )  # many are rounded by hand
    inside = stamp <= admissions["discharge"][owner]
    return owner[inside], stamp[inside], hours[inside]


def _panels(block: Block) -> pd.DataFrame:
    rng, found = block.rng, []
    owner, stamp, hours = _draws(block)
    for name, (ids, shares, drawn) in PANEL.items():
        keep = chance(drawn, len(owner), rng)
        if name == "bilirubin":
            keep &= block.admissions["liver_tested"][owner]
        value = block.readings(name, block.levels(name), owner[keep], hours[keep])
        value = np.where(
            chance(0.003, len(value), rng), rng.choice([0.0, 20_000.0], len(value)), value
        )
        found.append(_rows(owner[keep], stamp[keep], rng.choice(ids, len(value), p=shares), value))
    for item, (mean, spread, digits) in OTHERS.items():
        keep = chance(0.6, len(owner), rng)
        value = (mean + spread * rng.standard_normal(keep.sum())).round(digits)
        found.append(_rows(owner[keep], stamp[keep], item, np.abs(value)))
    return pd.concat(found, ignore_index=True)


def _gases(block: Block) -> pd.DataFrame:
    """Blood gases of the stays: pO2 = P/F x FiO2, lower where the blood is not arterial; a specimen
    text in most."""
    rng, stays = block.rng, block.stays
    length = (stays["outtime"] - stays["intime"]) / HOUR
    counts = (
        np.where(length > 25, 5 + (length - 25) / 24, length / 5).astype(int)
        * block.admissions["gases"][stays["admission"]]
    )
    stay, step = ragged(counts)
    owner = stays["admission"][stay]
    hours = np.where(step < 5, 0.6 + step * 5, step * 24.0 - 95) + rng.uniform(0, 1, len(stay))
    stamp = (stays["intime"][stay] + (hours * HOUR).astype(np.int64)) // 60 * 60
    fio2 = np.clip(block.readings("fio2", block.levels("fio2"), owner, hours), 21, 100)
    specimen = rng.choice(len(tables.SPECIMENS), len(stay), p=SPECIMEN_SHARES)
    arterial = block.readings("pf", block.levels("pf"), owner, hours) * fio2
    oxygen = np.where(
        specimen == 0, np.clip(arterial, 35, 600), rng.normal(38, 6, len(stay))
    ).round()
    items = {50821: (oxygen, 1.0), 50816: (fio2, 0.55)} | {
        item: ((mean + spread * rng.standard_normal(len(stay))).round(digits), share)
        for item, (mean, spread, digits, share) in GAS_ITEMS.items()
    }
    named = chance(0.93, len(stay), rng)
    found = [_rows(owner[named], stamp[named], 50800, np.nan, text=specimen[named])]
    for item, (value, share) in items.items():
        value = np.where(chance(0.004, len(stay), rng), OUTSIDE.get(item, 0.0), np.abs(value))
        keep = chance(share, len(stay), rng)
        found.append(_rows(owner[keep], stamp[keep], item, value[keep]))
    return pd.concat(found, ignore_index=True)


def _outpatient(block: Block) -> pd.DataFrame:
    """Values of days between a week and a year before the admission, which belong to none."""
    owner = np.flatnonzero(chance(0.3, len(block.admissions["admit"]), block.rng)).repeat(2)
    stamp = (
        block.admissions["admit"][owner]
        - block.rng.integers(7 * DAY, 365 * DAY, len(owner)) // 60 * 60
    )
    item = np.tile([51006, 50983], len(owner) // 2)
    return _rows(owner, stamp, item, np.where(item == 51006, 25.0, 140.0), outpatient=True)
