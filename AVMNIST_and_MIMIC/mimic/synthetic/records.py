"""The small tables of the synthetic hospital as data frames: PATIENTS, ADMISSIONS, ICUSTAYS,
SERVICES, TRANSFERS, diagnoses."""

from __future__ import annotations

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.events import ragged
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import DAY, HOUR, Hospital, chance

SURGICAL = ("CSURG", "SURG", "NSURG", "TSURG", "VSURG", "PSURG")
MEDICAL = ("MED", "CMED", "NMED", "OMED", "ORTHO", "GYN", "TRAUM")
UNITS = ("MICU", "CCU", "SICU", "TSICU", "CSRU")
WARDS = np.array([52, 7, 57, 14, 12])  # of the units
NEWBORN = (
    "V3000",
    "7742",
    "769",
)  # 769 and 7742 belong to 760-779, which is not one of the 20 groups
EMPTY_CODES = 0.001  # share of diagnoses


def small_tables(hospital: Hospital, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """table -> frame. The rows of every table are shuffled: nothing may depend on their order."""
    made = {
        "PATIENTS": _patients(hospital, rng),
        "ADMISSIONS": _admissions(hospital, rng),
        "ICUSTAYS": _icustays(hospital, rng),
        "SERVICES": _services(hospital, rng),
        "DIAGNOSES_ICD": _diagnoses(hospital, rng),
        "TRANSFERS": _transfers(hospital, rng),
        "D_ITEMS": pd.DataFrame([_d_item(item) for item in tables.ITEMS]),
        "D_LABITEMS": pd.DataFrame(
            [
                {"ITEMID": item, "LABEL": label, "FLUID": "Blood", "CATEGORY": kind}
                for item, (label, kind, _) in tables.LAB_ITEMS.items()
            ]
        ),
    }
    return {
        table: frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
        for table, frame in made.items()
    }


def stamps(seconds: np.ndarray) -> np.ndarray:
    """int64 seconds since 1970 (negative before) -> datetime64[s]; exactly -1 stands for none and
    becomes NaT."""
    return np.where(seconds == -1, np.datetime64("NaT"), seconds.astype("datetime64[s]"))


def _of_admissions(hospital: Hospital) -> dict[str, np.ndarray]:
    admissions = hospital.admissions
    return {
        "SUBJECT_ID": hospital.patients["subject_id"][admissions["patient"]],
        "HADM_ID": admissions["hadm_id"],
    }


def _patients(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    people = hospital.patients
    size, dead = len(people["dod"]), people["dod"] != -1
    registered = dead & (~people["died_in_hospital"] | chance(0.6, size, rng))
    return pd.DataFrame({
        "SUBJECT_ID": people["subject_id"],
        "GENDER": np.where(people["female"], "F", "M"),
        "DOB": stamps(people["dob"]),
        "DOD": stamps(people["dod"]),
        "DOD_HOSP": stamps(np.where(people["died_in_hospital"], people["dod"], -1)),
        "DOD_SSN": stamps(np.where(registered, people["dod"], -1)),
        "EXPIRE_FLAG": dead.astype(int),
    })  # fmt: skip


def _admissions(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    people, admissions = hospital.patients, hospital.admissions
    size, died = len(admissions["admit"]), admissions["death"] != -1
    newborn = people["newborn"][admissions["patient"]] & (admissions["order"] == 0)
    usual = np.where(chance(0.95, size, rng), "EMERGENCY", "URGENT")
    # A few medical admissions are elective too: only surgical ones count as scheduled surgery.
    planned = np.where(admissions["surgical"], admissions["elective"], chance(0.05, size, rng))
    emergency = (usual == "EMERGENCY") & ~planned & ~newborn
    arrived = admissions["admit"] - rng.integers(60, 500, size) * 60
    return pd.DataFrame(_of_admissions(hospital) | {
        "ADMITTIME": stamps(admissions["admit"]),
        "DISCHTIME": stamps(admissions["discharge"]),
        "DEATHTIME": stamps(admissions["death"]),
        "ADMISSION_TYPE": np.select([newborn, planned], ["NEWBORN", "ELECTIVE"], usual),
        "ADMISSION_LOCATION": np.where(emergency, "EMERGENCY ROOM ADMIT", "PHYS REFERRAL/NORMAL DELI"),
        "DISCHARGE_LOCATION": np.where(died, "DEAD/EXPIRED", rng.choice(["HOME", "SNF", "HOME HEALTH CARE"], size)),
        "INSURANCE": rng.choice(["Medicare", "Private", "Medicaid"], size, p=[0.5, 0.4, 0.1]),
        "LANGUAGE": np.where(chance(0.5, size, rng), "ENGL", None),
        "RELIGION": rng.choice(["CATHOLIC", "NOT SPECIFIED"], size),
        "MARITAL_STATUS": np.where(chance(0.9, size, rng), rng.choice(["MARRIED", "SINGLE", "WIDOWED"], size), None),
        "ETHNICITY": rng.choice(["WHITE", "UNKNOWN/NOT SPECIFIED", "ASIAN"], size),
        "EDREGTIME": stamps(np.where(emergency, arrived, -1)),
        "EDOUTTIME": stamps(np.where(emergency, admissions["admit"] + 3600, -1)),
        "DIAGNOSIS": rng.choice(["SEPSIS", "PNEUMONIA", "CHEST PAIN", "FEVER;URINARY TRACT INFECTION"], size),
        "HOSPITAL_EXPIRE_FLAG": died.astype(int),
        "HAS_CHARTEVENTS_DATA": (admissions["stays"] > 0).astype(int),
    })  # fmt: skip


def _icustays(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    stays = hospital.stays
    unit = _unit_of(hospital)
    of_admissions = {
        name: values[stays["admission"]] for name, values in _of_admissions(hospital).items()
    }
    return pd.DataFrame(of_admissions | {
        "ICUSTAY_ID": stays["icustay_id"],
        "DBSOURCE": np.where(stays["metavision"], "metavision", "carevue"),
        "FIRST_CAREUNIT": np.array(UNITS)[unit],
        "LAST_CAREUNIT": np.array(UNITS)[unit],
        "FIRST_WARDID": WARDS[unit],
        "LAST_WARDID": WARDS[unit],
        "INTIME": stamps(stays["intime"]),
        "OUTTIME": stamps(stays["outtime"]),
        "LOS": ((stays["outtime"] - stays["intime"]) / DAY).round(4),
    })  # fmt: skip


def _unit_of(hospital: Hospital) -> np.ndarray:
    """Care unit of every ICU stay [S], counting in UNITS; the same in ICUSTAYS and TRANSFERS."""
    return hospital.stays["icustay_id"] % len(UNITS)


def _services(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    """The first service says whether the admission is surgical; some change to the other kind
    later."""
    admissions = hospital.admissions
    size, surgical = len(admissions["admit"]), admissions["surgical"]
    surgery, medicine = (
        rng.choice(SURGICAL, size),
        rng.choice(MEDICAL, size, p=[0.55, 0.2, 0.07, 0.06, 0.06, 0.02, 0.04]),
    )
    medicine = np.where(hospital.patients["newborn"][admissions["patient"]], "NB", medicine)
    first, other = np.where(surgical, surgery, medicine), np.where(surgical, medicine, surgery)
    changed = np.flatnonzero(chance(0.15, size, rng))
    owner = np.concatenate([np.arange(size), changed])
    again = np.arange(len(owner)) >= size
    length = (admissions["discharge"] - admissions["admit"])[owner]
    moved = admissions["admit"][owner] + np.where(
        again, (rng.uniform(0.2, 0.9, len(owner)) * length).astype(np.int64), 45
    )
    of_admissions = {name: values[owner] for name, values in _of_admissions(hospital).items()}
    return pd.DataFrame(of_admissions | {
        "TRANSFERTIME": stamps(moved),
        "PREV_SERVICE": np.where(again, first[owner], None),
        "CURR_SERVICE": np.where(again, other[owner], first[owner]),
    })  # fmt: skip


def _diagnoses(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    """Codes of the drawn groups and flags, numbered in random order."""
    admissions = hospital.admissions
    newborn = hospital.patients["newborn"][admissions["patient"]]
    sources = [
        (admissions[f"group_{group}"] & ~newborn, codes.split())
        for group, (_, codes) in enumerate(tables.ICD9_GROUPS)
    ]
    sources += [
        (chance(0.4, len(newborn), rng) & has, codes) for has, codes in sources
    ]  # often a second code of the group
    sources += [
        (admissions["aids"], [tables.AIDS]),
        (admissions["haematological"], tables.HAEMATOLOGICAL),
    ]
    sources += [(admissions["metastatic"], tables.METASTATIC), (newborn, NEWBORN)]
    owner = np.concatenate([np.flatnonzero(has) for has, _ in sources])
    code = np.concatenate([rng.choice(codes, has.sum()).astype(object) for has, codes in sources])
    mixed = rng.permutation(len(owner))
    mixed = mixed[np.argsort(owner[mixed], kind="stable")]
    owner, code = owner[mixed], code[mixed]
    _, number = ragged(np.bincount(owner, minlength=len(newborn)))
    empty = chance(EMPTY_CODES, len(owner), rng)
    of_admissions = {name: values[owner] for name, values in _of_admissions(hospital).items()}
    return pd.DataFrame(
        of_admissions
        | {"SEQ_NUM": np.where(empty, np.nan, number + 1), "ICD9_CODE": np.where(empty, None, code)}
    ).drop_duplicates(["HADM_ID", "ICD9_CODE"])


def _transfers(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    """Of every admission: admitted to a ward, moved to each ICU and back to a ward, discharged."""
    admissions, stays = hospital.admissions, hospital.stays
    everyone = np.arange(len(admissions["admit"]))
    nowhere = np.full(len(everyone), -1)
    stay = np.arange(len(stays["admission"]))
    parts = [  # event, admission, ICU stay or -1, time
        ("admit", everyone, nowhere, admissions["admit"]),
        ("transfer", stays["admission"], stay, stays["intime"]),
        ("transfer", stays["admission"], np.full(len(stay), -1), stays["outtime"]),
        ("discharge", everyone, nowhere, admissions["discharge"]),
    ]
    event = np.repeat(
        np.array([name for name, *_ in parts]), [len(owner) for _, owner, *_ in parts]
    )
    owner, stay, start = (np.concatenate([part[k] for part in parts]) for k in (1, 2, 3))
    order = np.lexsort((event == "discharge", start, owner))
    event, owner, stay, start = event[order], owner[order], stay[order], start[order]
    last = event == "discharge"
    end = np.where(last, -1, np.r_[start[1:], -1])
    unit = np.where(stay >= 0, np.append(_unit_of(hospital), -1)[stay], -1)
    place = np.array([*UNITS, None], object)[unit]
    ward = np.where(last, np.nan, np.append(WARDS, 28)[unit])
    first = event == "admit"
    of_admissions = {name: values[owner] for name, values in _of_admissions(hospital).items()}
    return pd.DataFrame(of_admissions | {
        "ICUSTAY_ID": np.where(stay >= 0, np.append(stays["icustay_id"], -1)[stay], np.nan),
        "DBSOURCE": np.where(chance(0.57, len(everyone), rng), "carevue", "metavision")[owner],
        "EVENTTYPE": event,
        "PREV_CAREUNIT": np.where(first, None, np.roll(place, 1)),
        "CURR_CAREUNIT": place,
        "PREV_WARDID": np.where(first, np.nan, np.roll(ward, 1)),
        "CURR_WARDID": ward,
        "INTIME": stamps(start),
        "OUTTIME": stamps(end),
        "LOS": np.where(last, np.nan, ((end - start) / HOUR).round(2)),
    })  # fmt: skip


def _d_item(item: tables.Item) -> dict[str, str | int | None]:
    metavision = item.id > 220_000
    return {
        "ITEMID": item.id,
        "LABEL": item.label,
        "ABBREVIATION": item.label if metavision else None,
        "DBSOURCE": "metavision" if metavision else "carevue",
        "LINKSTO": item.table,
        "UNITNAME": item.unit if metavision else None,
        "PARAM_TYPE": item.kind if metavision else None,
    }
