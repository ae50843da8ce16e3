"""Who lies in the synthetic hospital: patients, admissions and ICU stays, without their events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from AVMNIST_and_MIMIC.mimic.synthetic.basics import SHARES, Columns, chance
from AVMNIST_and_MIMIC.mimic.synthetic.dates import add_dates
from AVMNIST_and_MIMIC.mimic.synthetic.tables import ICD9_GROUPS
from AVMNIST_and_MIMIC.mimic.synthetic.tasks import LATENTS, TASKS, probability

# Among early deaths: log-odds of dying within three days, which rise with `shock`, and the days'
# shares.
WITHIN_3_DAYS, DAYS_1_TO_3 = -2.6, (0.15, 0.40, 0.45)
FLAGS = ("surgical", "elective", "metastatic", "haematological", "aids")


@dataclass(frozen=True)
class Hospital:
    """Arrays of patients [P], admissions [A] and ICU stays [S].

    Admissions are by patient, then time, stays by admission, then time. Times are int64 seconds
    since 1970, -1 where there is none.
    """

    patients: dict[str, np.ndarray]
    admissions: dict[str, np.ndarray]
    latents: dict[str, np.ndarray]  # [A]
    stays: dict[str, np.ndarray]


def make_hospital(patients: int, rng: np.random.Generator) -> Hospital:
    """Draw all that is known about that many patients except the events charted about them."""
    people, owner, order = _people(patients, rng)
    admissions = {"patient": owner, "order": order} | _static(people, owner, rng)
    latents = {name: rng.standard_normal(len(owner)) for name in LATENTS}
    features = _features(admissions, people["age"][owner])
    admissions |= {f"group_{k}": group for k, group in enumerate(_groups(features, latents, rng))}
    _mortality(people, admissions, features, latents, rng)
    stays = add_dates(people, admissions, rng)
    ids = {"subject": (people, 10_000), "hadm": (admissions, 100_000), "icustay": (stays, 200_000)}
    for name, (rows, first) in ids.items():
        size = len(next(iter(rows.values())))
        rows[f"{name}_id"] = first + rng.choice(max(90_000, 2 * size), size, replace=False)
    return Hospital(people, admissions, latents, stays)


def _people(patients: int, rng: np.random.Generator) -> tuple[Columns, np.ndarray, np.ndarray]:
    """-> patients; of every admission its patient [A] and its number among that patient's [A]."""
    usual = np.clip(rng.normal(65, 15, patients), 18, 89)
    older, child = (chance(SHARES[name], patients, rng) for name in ("older than 89", "child"))
    newborn = child & chance(0.6, patients, rng)
    young, old = rng.uniform(1, 14.9, patients), rng.uniform(89.1, 98, patients)
    age = np.select([newborn, child, older], [0.0, young, old], usual)
    draw = rng.random(patients)
    count = 1 + (draw < SHARES["second admission"]) + (draw < SHARES["third admission"])
    owner = np.repeat(np.arange(patients), count)
    order = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    female = chance(0.44, patients, rng)
    people = {"age": age, "child": child, "newborn": newborn, "count": count, "female": female}
    return people, owner, order


def _static(people: Columns, owner: np.ndarray, rng: np.random.Generator) -> Columns:
    """What the static features are made of: bool [A] each."""
    static = {name: chance(SHARES[name], len(owner), rng) for name in FLAGS}
    for name in static:
        static[name] &= ~people["child"][owner]
    return static


def _features(admissions: Columns, age: np.ndarray) -> Columns:
    """Static features of about zero mean and unit variance [A]."""
    binary = ("metastatic", "haematological", "surgical")
    features = {name: _standardised(admissions[name], SHARES[name]) for name in binary}
    elective = admissions["surgical"] & admissions["elective"]
    return features | {
        "age": np.clip((age - 66) / 16, -2, 2),
        "old": np.where(age > 66, 1.0, -1.0),
        "elective": _standardised(elective, SHARES["surgical"] * SHARES["elective"]),
    }


def _standardised(flag: np.ndarray, share: float) -> np.ndarray:
    return (flag - share) / np.sqrt(share * (1 - share))


def _groups(features: Columns, latents: Columns, rng: np.random.Generator) -> list[np.ndarray]:
    """Whether an admission has a code of each ICD-9 group: 20 of bool [A].

    The codes of the flags come beside these.
    """
    groups = []
    for group, (share, _) in enumerate(ICD9_GROUPS):
        if share is None:
            share = probability(TASKS[f"icd9_{group}"].log_odds(features, latents))
        groups.append(chance(share, len(features["age"]), rng))
    return groups


def _mortality(
    people: Columns,
    admissions: Columns,
    features: Columns,
    latents: Columns,
    rng: np.random.Generator,
) -> None:
    """Class 0 to 5 of the first admission -> people["class"] [P].

    Who is to die during or soon after it has no other one, except that of class 5 a second.
    """
    first = admissions["order"] == 0
    shock = latents["shock"][first]
    dies, early = (
        probability(TASKS[name].log_odds(features, latents)[first]) for name in ("death", "early")
    )
    size = len(dies)
    dies, early = chance(dies, size, rng) & ~people["child"], chance(early, size, rng)
    soon = chance(probability(WITHIN_3_DAYS + 1.3 * shock), size, rng)
    day = rng.choice([1, 2, 3], size, p=DAYS_1_TO_3)
    people["class"] = np.select([~dies, ~early, soon], [0, 5, day], 4)
    limit = np.select([people["class"] == 0, people["class"] == 5], [3, 2], 1)
    remain = admissions["order"] < limit[admissions["patient"]]
    people["count"] = np.minimum(people["count"], limit)
    for columns in (admissions, latents):
        columns.update({name: values[remain] for name, values in columns.items()})
