"""Who lies in the synthetic hospital, and why the labels are what they are.

Every admission has static features and independent standard-normal latent factors that drive its
series. A task's log-odds are the sum of a score of the static features, a score of the latents, and
the product of a static feature and a latent. Both factors of a product are centred, so that on
average neither modality alone shows in which direction it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from AVMNIST_and_MIMIC.mimic.synthetic.tables import ICD9_GROUPS

HOUR, DAY = 3600, 86400  # seconds
YEAR = 365.25 * DAY

# What a latent factor moves: shock: pressure, coma, urine, urea; lungs: P/F, bicarbonate,
# ventilation; drive: heart rate, temperature; salts: sodium; marrow: white cells, potassium; liver:
# bilirubin; course: the trends over the first day.
LATENTS = ("shock", "lungs", "drive", "salts", "marrow", "liver", "course")


@dataclass(frozen=True)
class Task:
    """log-odds = base + sum of strength * score over the three parts, each score of unit variance.

    `static` and `series` weigh features; `both` is the product of a static feature and a latent.
    """

    base: float
    strength: tuple[float, float, float]  # of the static score, the series score, the interaction
    static: Mapping[str, float]
    series: Mapping[str, float]
    both: tuple[str, str]

    def log_odds(
        self, features: Mapping[str, np.ndarray], latents: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """{name: [N]} each -> [N]."""
        scores = (
            _score(self.static, features),
            _score(self.series, latents),
            features[self.both[0]] * latents[self.both[1]],
        )
        return self.base + sum(
            strength * score for strength, score in zip(self.strength, scores, strict=True)
        )


TASKS = {
    # Death up to a year after discharge (classes 1 to 5 of mortality), and whether it comes early
    # (1 to 4, not 5).
    "death": Task(-2.90, (1.8, 2.8, 2.2), {"age": 1, "metastatic": 0.7, "haematological": 0.4}, {"shock": 1, "course": 0.6},
                  ("surgical", "drive")),
    "early": Task(0.30, (1.8, 1.8, 1.2), {"metastatic": -0.6, "elective": -0.6, "old": 1},
                  {"shock": 1, "course": 0.6, "liver": 0.6}, ("surgical", "marrow")),
    # A code of the flags decides many positives of 140-239; these log-odds decide the others.
    "icd9_1": Task(-4.30, (1.5, 1.3, 2.4), {"age": 0.6, "elective": 1}, {"salts": -1}, ("surgical", "marrow")),
    "icd9_7": Task(-0.15, (0.9, 1.8, 1.6), {"age": 0.6, "elective": -1}, {"lungs": 1, "shock": 0.5}, ("old", "drive")),
}  # fmt: skip

SHARES = {  # of admissions or patients
    "metavision": 0.43, "surgical": 0.42, "elective": 0.35, "metastatic": 0.05, "haematological": 0.03, "aids": 0.012,
    "older than 89": 0.05, "child": 0.03, "second admission": 0.16, "third admission": 0.03, "without ICU": 0.05,
    "second ICU stay": 0.07, "short": 0.03, "dies later": 0.2,
}  # fmt: skip
# Among early deaths: log-odds of dying within three days, which rise with `shock`, and the days'
# shares.
WITHIN_3_DAYS, DAYS_1_TO_3 = -2.6, (0.15, 0.40, 0.45)


@dataclass(frozen=True)
class Hospital:
    """Arrays of patients [P], admissions [A] (by patient, then time) and ICU stays [S] (by
    admission, then time).

    Times are int64 seconds since 1970, -1 where there is none.
    """

    patients: dict[str, np.ndarray]
    admissions: dict[str, np.ndarray]
    latents: dict[str, np.ndarray]  # [A]
    stays: dict[str, np.ndarray]


def make_hospital(patients: int, rng: np.random.Generator) -> Hospital:
    """Draw everything that is known about `patients` patients except the events charted about them."""
    people, owner, order = _people(patients, rng)
    admissions = {"patient": owner, "order": order} | _static(people, owner, rng)
    latents = {name: rng.standard_normal(len(owner)) for name in LATENTS}
    features = _features(admissions, people["age"][owner])
    admissions |= {f"group_{k}": group for k, group in enumerate(_groups(features, latents, rng))}
    _mortality(people, admissions, features, latents, rng)
    stays = _dates(people, admissions, rng)
    ids = {"subject": (people, 10_000), "hadm": (admissions, 100_000), "icustay": (stays, 200_000)}
    for name, (rows, first) in ids.items():
        size = len(next(iter(rows.values())))
        rows[f"{name}_id"] = first + rng.choice(max(90_000, 2 * size), size, replace=False)
    return Hospital(people, admissions, latents, stays)


def chance(share: float | np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """bool [size], each true with probability `share`."""
    return rng.random(size) < share


def _score(weights: Mapping[str, float], values: Mapping[str, np.ndarray]) -> np.ndarray:
    norm = np.sqrt(sum(weight**2 for weight in weights.values()))
    return sum(weight * values[name] for name, weight in weights.items()) / norm


def _people(
    patients: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """-> patients, and of every admission its patient [A] and its number among the patient's
    admissions [A]."""
    age = np.clip(rng.normal(65, 15, patients), 18, 89)
    older, child = (chance(SHARES[name], patients, rng) for name in ("older than 89", "child"))
    newborn = child & chance(0.6, patients, rng)
    age = np.select(
        [newborn, child, older],
        [0.0, rng.uniform(1, 14.9, patients), rng.uniform(89.1, 98, patients)],
        age,
    )
    draw = rng.random(patients)
    count = 1 + (draw < SHARES["second admission"]) + (draw < SHARES["third admission"])
    owner = np.repeat(np.arange(patients), count)
    order = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return (
        {
            "age": age,
            "child": child,
            "newborn": newborn,
            "count": count,
            "female": chance(0.44, patients, rng),
        },
        owner,
        order,
    )


def _static(
    people: dict[str, np.ndarray], owner: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """What the static features are made of: bool [A] each."""
    static = {
        name: chance(SHARES[name], len(owner), rng)
        for name in ("surgical", "elective", "metastatic", "haematological", "aids")
    }
    for name in static:
        static[name] &= ~people["child"][owner]
    return static


def _features(admissions: dict[str, np.ndarray], age: np.ndarray) -> dict[str, np.ndarray]:
    """Static features of about zero mean and unit variance [A]."""
    binary = {name: (admissions[name] - SHARES[name]) / np.sqrt(SHARES[name] * (1 - SHARES[name]))
              for name in ("metastatic", "haematological", "surgical")}  # fmt: skip
    elective = SHARES["surgical"] * SHARES["elective"]
    return binary | {
        "age": np.clip((age - 66) / 16, -2, 2),
        "old": np.where(age > 66, 1.0, -1.0),
        "elective": ((admissions["surgical"] & admissions["elective"]) - elective)
        / np.sqrt(elective * (1 - elective)),
    }


def _groups(
    features: dict[str, np.ndarray], latents: dict[str, np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """Whether an admission has a code of each ICD-9 group beside those of the flags: 20 of bool
    [A]."""
    drawn = {1: TASKS["icd9_1"], 7: TASKS["icd9_7"]}
    shares = [
        share if share is not None else _probability(drawn[group].log_odds(features, latents))
        for group, (share, _) in enumerate(ICD9_GROUPS)
    ]
    return [chance(share, len(features["age"]), rng) for share in shares]


def _probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def _mortality(
    people: dict[str, np.ndarray],
    admissions: dict[str, np.ndarray],
    features: dict[str, np.ndarray],
    latents: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Class 0 to 5 of the first admission -> people["class"] [P]; who is to die during or soon
    after it has no other one, except that of class 5 a second."""
    first = admissions["order"] == 0
    shock = latents["shock"][first]
    dies, early = (
        _probability(TASKS[name].log_odds(features, latents)[first]) for name in ("death", "early")
    )
    size = len(dies)
    dies, early = chance(dies, size, rng) & ~people["child"], chance(early, size, rng)
    soon = chance(_probability(WITHIN_3_DAYS + 1.3 * shock), size, rng)
    day = rng.choice([1, 2, 3], size, p=DAYS_1_TO_3)
    people["class"] = np.select([~dies, ~early, soon], [0, 5, day], 4)
    limit = np.select([people["class"] == 0, people["class"] == 5], [3, 2], 1)
    keep = admissions["order"] < limit[admissions["patient"]]
    people["count"] = np.minimum(people["count"], limit)
    for columns in (admissions, latents):
        columns.update({name: values[keep] for name, values in columns.items()})


def _dates(
    people: dict[str, np.ndarray], admissions: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Add times to patients and admissions -> ICU stays."""
    size, order = len(admissions["patient"]), admissions["order"]
    kind = people["class"][admissions["patient"]] * (
        order == 0
    )  # later admissions end alive, but see below
    spans = _spans(kind, order, people["class"][admissions["patient"]], rng)
    start = _starts(people, admissions, spans, rng)
    admissions |= {"admit": start, "intime": start + spans["before"], "class": kind}
    admissions["discharge"] = start + spans["total"]
    in_hospital = ((kind >= 1) & (kind <= 3)) | ((kind == 4) & chance(0.65, size, rng))
    last = order == people["count"][admissions["patient"]] - 1
    since_first = admissions["discharge"] - np.repeat(
        admissions["discharge"][order == 0], people["count"]
    )
    late = (
        (kind == 0) & last & (order > 0) & (since_first > 368 * DAY) & chance(0.3, size, rng)
    )  # counts as class 0
    admissions["death"] = np.where(in_hospital | late, admissions["discharge"], -1)
    _deaths(people, admissions, last, rng)
    has_icu = ~chance(SHARES["without ICU"], size, rng) | (kind > 0)
    has_icu[-1] = (
        True  # chart rows, whose number may be asked for, need a stay in the smallest hospital, too
    )
    return _stays(admissions, spans, has_icu, rng)


def _spans(
    kind: np.ndarray, order: np.ndarray, patient_class: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Seconds before the ICU, in it, between two stays, in the second, after it, and in total:
    int64 [A] each."""
    size = len(kind)
    before = np.where(chance(0.7, size, rng), rng.uniform(0.02, 5, size), rng.uniform(5, 72, size))
    icu = np.clip(np.exp(rng.normal(3.7, 0.6, size)), 10, 240)
    after = 6 + rng.exponential(60, size)
    short = chance(SHARES["short"], size, rng) & (kind == 0)
    icu, after = (
        np.where(short, rng.uniform(3, 12, size), icu),
        np.where(short, rng.uniform(0.5, 4, size), after),
    )
    again = chance(SHARES["second ICU stay"], size, rng) & ~short & ((kind == 0) | (kind == 5))
    gap, second = again * rng.uniform(6, 40, size), again * rng.uniform(8, 40, size)
    # Class 1 dies late on its first day: with a laboratory value before the ICU its records still
    # span more than 24 hours.
    limits = np.array([[0, 20.7, 24.2, 48.2, 80, 0], [0, 23.9, 47.8, 71.8, 400, 0]])[:, kind]
    death = limits[0] + (limits[1] - limits[0]) * np.where(
        kind == 4, rng.beta(1, 3, size), rng.random(size)
    )
    early = (kind >= 1) & (kind <= 4)
    icu = np.where(early, np.minimum(np.where(kind <= 3, death, icu), death), icu)
    after = np.where(early, death - icu, after)
    brief = (patient_class == 5) & (
        order > 0
    )  # a readmission must end before a death 31 days after the first discharge
    before, icu, after = (
        np.where(brief, np.minimum(value, most), value)
        for value, most in ((before, 24), (icu, 72), (after, 72))
    )
    hours = {"before": before, "icu": icu, "gap": gap, "second": second, "after": after}
    spans = {name: (value * 60).astype(np.int64) * 60 for name, value in hours.items()}
    spans["icu"] += rng.integers(1, 60, size) * (spans["after"] > 0)  # ICU times have seconds
    return spans | {"total": sum(spans.values())}


def _starts(
    people: dict[str, np.ndarray],
    admissions: dict[str, np.ndarray],
    spans: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Times of admission int64 [A]: first ones in the shifted years 2105 to 2190, later ones after
    the discharge before."""
    order, size = admissions["order"], len(admissions["order"])
    years = (rng.uniform(2105, 2190, len(people["count"])) - 1970) * YEAR
    gap = (
        np.where(
            people["class"][admissions["patient"]] == 5,
            rng.uniform(2, 10, size),
            rng.uniform(5, 800, size),
        )
        * DAY
    )
    gap = np.where(order == 0, 0, gap).astype(np.int64) // 60 * 60
    elapsed = np.cumsum(gap + spans["total"]) - spans["total"]
    first = np.repeat(np.flatnonzero(order == 0), people["count"])
    return (years.astype(np.int64)[admissions["patient"]] + elapsed - elapsed[first]) // 60 * 60


def _deaths(
    people: dict[str, np.ndarray],
    admissions: dict[str, np.ndarray],
    last: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Dates of birth and death (midnight) [P], to which the labels' limits of 30 and 365.245 days
    after discharge apply."""
    size = len(people["class"])
    first, ends = admissions["order"] == 0, admissions["discharge"][last]
    died = admissions["death"][last]
    kind = people["class"]
    later = np.select(
        [kind == 4, kind == 5],
        [rng.integers(1, 29, size), rng.integers(32, 364, size)],
        rng.integers(370, 2500, size),
    )
    from_day = np.where(kind > 0, admissions["discharge"][first], ends)
    mentioned = (kind > 0) | chance(SHARES["dies later"], size, rng)
    dod = np.where(died >= 0, died, np.where(mentioned, from_day + later * DAY, -1))
    people["dod"] = np.where(dod >= 0, dod // DAY * DAY, -1)
    people["died_in_hospital"] = died >= 0
    # Ages above 89 are hidden by a date of birth 300 years before the first admission.
    age = np.where(people["age"] > 89, 300.0, people["age"])
    people["dob"] = (admissions["admit"][first] - (age * YEAR).astype(np.int64)) // DAY * DAY


def _stays(
    admissions: dict[str, np.ndarray],
    spans: dict[str, np.ndarray],
    has_icu: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    count = has_icu * (1 + (spans["second"] > 0))
    admissions["stays"] = count
    owner = np.repeat(np.arange(len(count)), count)
    again = np.zeros(len(owner), bool)
    again[1:] = owner[1:] == owner[:-1]
    start = admissions["intime"][owner] + np.where(again, (spans["icu"] + spans["gap"])[owner], 0)
    end = start + np.where(again, spans["second"][owner], spans["icu"][owner])
    metavision = chance(SHARES["metavision"], len(count), rng)[owner]
    return {
        "admission": owner,
        "again": again,
        "intime": start,
        "outtime": end,
        "metavision": metavision,
    }
