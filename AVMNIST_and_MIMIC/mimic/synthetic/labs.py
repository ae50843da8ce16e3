"""LABEVENTS of the synthetic hospital: chemistry, blood counts and blood gases."""

from __future__ import annotations

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.basics import DAY, HOUR, chance, ragged
from AVMNIST_and_MIMIC.mimic.synthetic.events import Block

# Variable: item ids and their shares, share of draws that have it. Bilirubin is never drawn in some
# admissions, see `add_treatment`.
PANEL = {
    "urea": ([51006], [1.0], 0.93),
    "white": ([51301, 51300], [0.97, 0.03], 0.85),
    "bicarbonate": ([50882], [1.0], 0.93),
    "sodium": ([50983], [1.0], 0.94),
    "potassium": ([50971], [1.0], 0.94),
    "bilirubin": ([50885], [1.0], 0.4),
}
# Values that no series uses: mean, spread, digits.
OTHERS = {50912: (1.3, 0.3, 1), 51221: (31.0, 4.0, 1), 51265: (220.0, 60.0, 0)}
SPECIMEN_SHARES = (0.93, 0.03, 0.035, 0.005)
SPECIMEN, OXYGEN, FIO2 = 50800, 50821, 50816
# Items of a blood gas beside pO2, FiO2 and specimen: mean, spread, digits, share of gases that have
# it.
GAS_ITEMS = {
    50801: (350, 120, 0, 0.15),
    50803: (24, 3, 0, 0.05),
    50804: (25, 4, 0, 0.95),
    50811: (10, 1.3, 1, 0.3),
    50813: (2.4, 1.0, 1, 0.5),
    50815: (6, 2, 0, 0.05),
    50817: (95, 2, 0, 0.35),
    50818: (41, 6, 0, 1.0),
    50820: (7.37, 0.05, 2, 1.0),
    50822: (4.1, 0.4, 1, 0.4),
    50824: (138, 4, 0, 0.15),
}
# Just beyond the range of the extraction.
OUTSIDE = {50817: 101.0, 50815: 80.0, FIO2: 101.0, OXYGEN: 850.0}


def add_treatment(
    admissions: dict[str, np.ndarray], latents: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Who has blood gases, a tube (and for how many hours), and bilirubin measured: [A] each.

    Bad lungs make gases likelier.
    """
    size = len(admissions["patient"])
    admissions["gases"] = latents["lungs"] + rng.logistic(size=size) > 0
    admissions["intubated"] = admissions["gases"] & chance(0.5, size, rng)
    admissions["tube_hours"] = rng.exponential(20, size)
    admissions["liver_tested"] = chance(0.7, size, rng)


def lab_events(block: Block) -> pd.DataFrame:
    """LABEVENTS of a block, variable by variable."""
    labs = pd.concat([_panels(block), _gases(block), _outpatient(block)], ignore_index=True)
    number, text = labs["number"].to_numpy(), labs["text"].to_numpy()
    item, owner = labs["item"].to_numpy(), labs["admission"].to_numpy()
    ids = np.array(sorted(tables.LAB_ITEMS))
    unit_of = {item: unit for item, (*_, unit) in tables.LAB_ITEMS.items()}
    unit_names = sorted({unit for unit in unit_of.values() if unit})
    codes = {item: unit_names.index(unit) if unit else -1 for item, unit in unit_of.items()}
    unit_codes = np.array([codes[id] for id in ids.tolist()])
    hadm = np.where(labs["outpatient"].to_numpy(), np.nan, block.admissions["hadm_id"][owner])
    abnormal = chance(0.35, len(labs), block.rng) & (text < 0)
    return pd.DataFrame(
        {
            "SUBJECT_ID": block.admissions["subject_id"][owner],
            "HADM_ID": hadm,
            "ITEMID": item,
            "CHARTTIME": labs["stamp"].to_numpy().astype("datetime64[s]"),
            "VALUE": pd.Categorical.from_codes(text, tables.SPECIMENS),
            "VALUENUM": number,
            "VALUEUOM": pd.Categorical.from_codes(
                unit_codes[np.searchsorted(ids, item)], unit_names
            ),
            "FLAG": pd.Categorical.from_codes(abnormal.astype(int) - 1, ["abnormal"]),
        }
    )


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
    """Blood draws -> admission [N], seconds [N], hours since the first INTIME [N].

    They are before the ICU, every 8 h, then daily.
    """
    rng, admissions = block.rng, block.admissions
    size = len(admissions["intime"])
    length = (admissions["discharge"] - admissions["intime"]) / HOUR
    daily = np.minimum((length - 24) / 24, 7)
    owner, step = ragged(np.where(length > 24, 4 + daily, 1 + length / 8).astype(int))
    hours = np.where(step < 4, step * 8.0, step * 24.0 - 72) + rng.uniform(0.1, 1.5, len(owner))
    # With a value just inside the six hours the records of who dies soon span a day.
    soon_dead = admissions["class"] == 1
    before = np.where(soon_dead, rng.uniform(-5.9, -4.2, size), rng.uniform(-5.9, -0.2, size))
    early = np.flatnonzero(chance(0.85, size, rng) | soon_dead)
    too_early = np.flatnonzero(chance(0.25, size, rng))  # more than six hours before the ICU
    owner = np.concatenate([owner, early, too_early])
    hours = np.concatenate([hours, before[early], rng.uniform(-30, -6.2, len(too_early))])
    stamp = (admissions["intime"][owner] + (hours * HOUR).astype(np.int64)) // 60 * 60
    by_hand = chance(0.3, len(owner), rng)  # rounded
    stamp = np.where(by_hand, stamp // 1800 * 1800, stamp)
    inside = stamp <= admissions["discharge"][owner]
    return owner[inside], stamp[inside], hours[inside]


def _panels(block: Block) -> pd.DataFrame:
    """Chemistry and blood counts of the draws."""
    rng, labs = block.rng, []
    owner, stamp, hours = _draws(block)
    for name, (ids, shares, drawn) in PANEL.items():
        tested = chance(drawn, len(owner), rng)
        if name == "bilirubin":
            tested &= block.admissions["liver_tested"][owner]
        value = block.readings(name, block.levels(name), owner[tested], hours[tested])
        impossible = chance(0.003, len(value), rng)
        value = np.where(impossible, rng.choice([0.0, 20_000.0], len(value)), value)
        item = rng.choice(ids, len(value), p=shares)
        labs.append(_rows(owner[tested], stamp[tested], item, value))
    for item, (mean, spread, digits) in OTHERS.items():
        tested = chance(0.6, len(owner), rng)
        value = (mean + spread * rng.standard_normal(tested.sum())).round(digits)
        labs.append(_rows(owner[tested], stamp[tested], item, np.abs(value)))
    return pd.concat(labs, ignore_index=True)


def _gases(block: Block) -> pd.DataFrame:
    """Blood gases of the stays; most have a specimen text.

    pO2 = P/F x FiO2, lower where the blood is not arterial.
    """
    rng, stays = block.rng, block.stays
    length = (stays["outtime"] - stays["intime"]) / HOUR
    counts = np.where(length > 25, 5 + (length - 25) / 24, length / 5).astype(int)
    stay, step = ragged(counts * block.admissions["gases"][stays["admission"]])
    owner, size = stays["admission"][stay], len(stay)
    hours = np.where(step < 5, 0.6 + step * 5, step * 24.0 - 95) + rng.uniform(0, 1, size)
    stamp = (stays["intime"][stay] + (hours * HOUR).astype(np.int64)) // 60 * 60
    fio2 = np.clip(block.readings("fio2", block.levels("fio2"), owner, hours), 21, 100)
    specimen = rng.choice(len(tables.SPECIMENS), size, p=SPECIMEN_SHARES)
    arterial = block.readings("pf", block.levels("pf"), owner, hours) * fio2
    venous = rng.normal(38, 6, size)
    oxygen = np.where(specimen == 0, np.clip(arterial, 35, 600), venous).round()
    measured = {OXYGEN: (oxygen, 1.0), FIO2: (fio2, 0.55)}  # item -> values, share that has it
    for item, (mean, spread, digits, share) in GAS_ITEMS.items():
        value = (mean + spread * rng.standard_normal(size)).round(digits)
        measured[item] = (value, share)
    named = chance(0.93, size, rng)
    gases = [_rows(owner[named], stamp[named], SPECIMEN, np.nan, text=specimen[named])]
    for item, (value, share) in measured.items():
        value = np.where(chance(0.004, size, rng), OUTSIDE.get(item, 0.0), np.abs(value))
        present = chance(share, size, rng)
        gases.append(_rows(owner[present], stamp[present], item, value[present]))
    return pd.concat(gases, ignore_index=True)


def _outpatient(block: Block) -> pd.DataFrame:
    """Values of days between a week and a year before the admission, which belong to none."""
    admit = block.admissions["admit"]
    owner = np.flatnonzero(chance(0.3, len(admit), block.rng)).repeat(2)
    before = block.rng.integers(7 * DAY, 365 * DAY, len(owner))
    stamp = admit[owner] - before // 60 * 60
    item = np.tile([51006, 50983], len(owner) // 2)
    return _rows(owner, stamp, item, np.where(item == 51006, 25.0, 140.0), outpatient=True)
