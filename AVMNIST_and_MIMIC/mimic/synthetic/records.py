"""The small tables of the synthetic hospital as data frames: all but those of events."""

from __future__ import annotations

import numpy as np
import pandas as pd

from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.basics import DAY, HOUR, chance, ragged
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import Hospital

SURGICAL = ("CSURG", "SURG", "NSURG", "TSURG", "VSURG", "PSURG")
MEDICAL = ("MED", "CMED", "NMED", "OMED", "ORTHO", "GYN", "TRAUM")
UNITS = ("MICU", "CCU", "SICU", "TSICU", "CSRU")
WARDS = np.array([52, 7, 57, 14, 12])  # of the units
WARD = 28  # of all who are in no unit
MEDICAL_SHARES = (0.55, 0.2, 0.07, 0.06, 0.06, 0.02, 0.04)
LEFT_TO = ("HOME", "SNF", "HOME HEALTH CARE")
COMPLAINTS = ("SEPSIS", "PNEUMONIA", "CHEST PAIN", "FEVER;URINARY TRACT INFECTION")
# 769 and 7742 belong to 760-779, which is not one of the 20 groups.
NEWBORN = ("V3000", "7742", "769")
EMPTY_CODES = 0.001  # share of diagnoses


def small_tables(hospital: Hospital, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """table -> frame. The rows of every table are shuffled: nothing may depend on their order."""
    lab_items = [
        {"ITEMID": item, "LABEL": label, "FLUID": "Blood", "CATEGORY": kind}
        for item, (label, kind, _) in tables.LAB_ITEMS.items()
    ]
    frames = {
        "PATIENTS": _patients(hospital, rng),
        "ADMISSIONS": _admissions(hospital, rng),
        "ICUSTAYS": _icustays(hospital, rng),
        "SERVICES": _services(hospital, rng),
        "DIAGNOSES_ICD": _diagnoses(hospital, rng),
        "TRANSFERS": _transfers(hospital, rng),
        "D_ITEMS": pd.DataFrame([_d_item(item) for item in tables.ITEMS]),
        "D_LABITEMS": pd.DataFrame(lab_items),
    }
    return {
        table: frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
        for table, frame in frames.items()
    }


def stamps(seconds: np.ndarray) -> np.ndarray:
    """int64 seconds since 1970 (negative before) -> datetime64[s].

    Exactly -1 stands for none and becomes NaT.
    """
    return np.where(seconds == -1, np.datetime64("NaT"), seconds.astype("datetime64[s]"))


def _ids(hospital: Hospital, owner: np.ndarray) -> dict[str, np.ndarray]:
    """SUBJECT_ID and HADM_ID of the admissions `owner` [N]."""
    admissions = hospital.admissions
    return {
        "SUBJECT_ID": hospital.patients["subject_id"][admissions["patient"][owner]],
        "HADM_ID": admissions["hadm_id"][owner],
    }


def _patients(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    people = hospital.patients
    size, dead = len(people["dod"]), people["dod"] != -1
    registered = dead & (~people["died_in_hospital"] | chance(0.6, size, rng))
    return pd.DataFrame(
        {
            "SUBJECT_ID": people["subject_id"],
            "GENDER": np.where(people["female"], "F", "M"),
            "DOB": stamps(people["dob"]),
            "DOD": stamps(people["dod"]),
            "DOD_HOSP": stamps(np.where(people["died_in_hospital"], people["dod"], -1)),
            "DOD_SSN": stamps(np.where(registered, people["dod"], -1)),
            "EXPIRE_FLAG": dead.astype(int),
        }
    )


def _admissions(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    people, admissions = hospital.patients, hospital.admissions
    size, died = len(admissions["admit"]), admissions["death"] != -1
    newborn = people["newborn"][admissions["patient"]] & (admissions["order"] == 0)
    usual = np.where(chance(0.95, size, rng), "EMERGENCY", "URGENT")
    # A few medical admissions are elective too: only surgical ones count as scheduled surgery.
    planned = np.where(admissions["surgical"], admissions["elective"], chance(0.05, size, rng))
    emergency = (usual == "EMERGENCY") & ~planned & ~newborn
    arrived = admissions["admit"] - rng.integers(60, 500, size) * 60
    came_by = np.where(emergency, "EMERGENCY ROOM ADMIT", "PHYS REFERRAL/NORMAL DELI")
    left_to = np.where(died, "DEAD/EXPIRED", rng.choice(LEFT_TO, size))
    # From here on what no extraction reads, in the order in which it is drawn.
    insurance = rng.choice(["Medicare", "Private", "Medicaid"], size, p=[0.5, 0.4, 0.1])
    language = np.where(chance(0.5, size, rng), "ENGL", None)
    religion = rng.choice(["CATHOLIC", "NOT SPECIFIED"], size)
    known = chance(0.9, size, rng)
    marital = np.where(known, rng.choice(["MARRIED", "SINGLE", "WIDOWED"], size), None)
    return pd.DataFrame(
        _ids(hospital, np.arange(size))
        | {
            "ADMITTIME": stamps(admissions["admit"]),
            "DISCHTIME": stamps(admissions["discharge"]),
            "DEATHTIME": stamps(admissions["death"]),
            "ADMISSION_TYPE": np.select([newborn, planned], ["NEWBORN", "ELECTIVE"], usual),
            "ADMISSION_LOCATION": came_by,
            "DISCHARGE_LOCATION": left_to,
            "INSURANCE": insurance,
            "LANGUAGE": language,
            "RELIGION": religion,
            "MARITAL_STATUS": marital,
            "ETHNICITY": rng.choice(["WHITE", "UNKNOWN/NOT SPECIFIED", "ASIAN"], size),
            "EDREGTIME": stamps(np.where(emergency, arrived, -1)),
            "EDOUTTIME": stamps(np.where(emergency, admissions["admit"] + 3600, -1)),
            "DIAGNOSIS": rng.choice(COMPLAINTS, size),
            "HOSPITAL_EXPIRE_FLAG": died.astype(int),
            "HAS_CHARTEVENTS_DATA": (admissions["stays"] > 0).astype(int),
        }
    )


def _icustays(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    stays = hospital.stays
    unit = _unit_of(hospital)
    return pd.DataFrame(
        _ids(hospital, stays["admission"])
        | {
            "ICUSTAY_ID": stays["icustay_id"],
            "DBSOURCE": np.where(stays["metavision"], "metavision", "carevue"),
            "FIRST_CAREUNIT": np.array(UNITS)[unit],
            "LAST_CAREUNIT": np.array(UNITS)[unit],
            "FIRST_WARDID": WARDS[unit],
            "LAST_WARDID": WARDS[unit],
            "INTIME": stamps(stays["intime"]),
            "OUTTIME": stamps(stays["outtime"]),
            "LOS": ((stays["outtime"] - stays["intime"]) / DAY).round(4),
        }
    )


def _unit_of(hospital: Hospital) -> np.ndarray:
    """Care unit of every ICU stay [S], counting in UNITS; the same in ICUSTAYS and TRANSFERS."""
    return hospital.stays["icustay_id"] % len(UNITS)


def _services(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    """The first service says whether the admission is surgical.

    Some change to the other kind later.
    """
    admissions = hospital.admissions
    size, surgical = len(admissions["admit"]), admissions["surgical"]
    surgery = rng.choice(SURGICAL, size)
    medicine = rng.choice(MEDICAL, size, p=MEDICAL_SHARES)
    medicine = np.where(hospital.patients["newborn"][admissions["patient"]], "NB", medicine)
    first, other = np.where(surgical, surgery, medicine), np.where(surgical, medicine, surgery)
    changed = np.flatnonzero(chance(0.15, size, rng))
    owner = np.concatenate([np.arange(size), changed])
    again = np.arange(len(owner)) >= size
    length = (admissions["discharge"] - admissions["admit"])[owner]
    later = (rng.uniform(0.2, 0.9, len(owner)) * length).astype(np.int64)
    moved = admissions["admit"][owner] + np.where(again, later, 45)
    return pd.DataFrame(
        _ids(hospital, owner)
        | {
            "TRANSFERTIME": stamps(moved),
            "PREV_SERVICE": np.where(again, first[owner], None),
            "CURR_SERVICE": np.where(again, other[owner], first[owner]),
        }
    )


def _diagnoses(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    """Codes of the drawn groups and flags, numbered in random order."""
    admissions = hospital.admissions
    newborn = hospital.patients["newborn"][admissions["patient"]]
    groups = [
        (admissions[f"group_{group}"] & ~newborn, codes.split())
        for group, (_, codes) in enumerate(tables.ICD9_GROUPS)
    ]
    # Often a second code of the group.
    second = [(chance(0.4, len(newborn), rng) & has, codes) for has, codes in groups]
    flags = [
        (admissions["aids"], [tables.AIDS]),
        (admissions["haematological"], tables.HAEMATOLOGICAL),
        (admissions["metastatic"], tables.METASTATIC),
        (newborn, NEWBORN),
    ]
    sources = groups + second + flags
    owner = np.concatenate([np.flatnonzero(has) for has, _ in sources])
    code = np.concatenate([rng.choice(codes, has.sum()).astype(object) for has, codes in sources])
    mixed = rng.permutation(len(owner))
    mixed = mixed[np.argsort(owner[mixed], kind="stable")]
    owner, code = owner[mixed], code[mixed]
    _, number = ragged(np.bincount(owner, minlength=len(newborn)))
    empty = chance(EMPTY_CODES, len(owner), rng)
    diagnoses = _ids(hospital, owner) | {
        "SEQ_NUM": np.where(empty, np.nan, number + 1),
        "ICD9_CODE": np.where(empty, None, code),
    }
    return pd.DataFrame(diagnoses).drop_duplicates(["HADM_ID", "ICD9_CODE"])


def _transfers(hospital: Hospital, rng: np.random.Generator) -> pd.DataFrame:
    """Of every admission: admitted to a ward, moved to each ICU and back to a ward, discharged."""
    admissions, stays = hospital.admissions, hospital.stays
    everyone, stay = np.arange(len(admissions["admit"])), np.arange(len(stays["admission"]))
    parts = [  # event, admission, ICU stay or -1, time
        ("admit", everyone, np.full(len(everyone), -1), admissions["admit"]),
        ("transfer", stays["admission"], stay, stays["intime"]),
        ("transfer", stays["admission"], np.full(len(stay), -1), stays["outtime"]),
        ("discharge", everyone, np.full(len(everyone), -1), admissions["discharge"]),
    ]
    names, owners, in_stay, times = zip(*parts, strict=True)
    event = np.repeat(np.array(names), [len(owner) for owner in owners])
    owner, stay, start = (np.concatenate(column) for column in (owners, in_stay, times))
    order = np.lexsort((event == "discharge", start, owner))
    event, owner, stay, start = event[order], owner[order], stay[order], start[order]
    first, last = event == "admit", event == "discharge"
    end = np.where(last, -1, np.r_[start[1:], -1])
    unit = np.where(stay >= 0, np.append(_unit_of(hospital), -1)[stay], -1)
    place = np.array([*UNITS, None], object)[unit]
    ward = np.where(last, np.nan, np.append(WARDS, WARD)[unit])
    system = np.where(chance(0.57, len(everyone), rng), "carevue", "metavision")
    return pd.DataFrame(
        _ids(hospital, owner)
        | {
            "ICUSTAY_ID": np.where(stay >= 0, np.append(stays["icustay_id"], -1)[stay], np.nan),
            "DBSOURCE": system[owner],
            "EVENTTYPE": event,
            "PREV_CAREUNIT": np.where(first, None, np.roll(place, 1)),
            "CURR_CAREUNIT": place,
            "PREV_WARDID": np.where(first, np.nan, np.roll(ward, 1)),
            "CURR_WARDID": ward,
            "INTIME": stamps(start),
            "OUTTIME": stamps(end),
            "LOS": np.where(last, np.nan, ((end - start) / HOUR).round(2)),
        }
    )


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
