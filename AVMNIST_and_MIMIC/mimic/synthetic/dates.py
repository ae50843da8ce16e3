"""When patients of the synthetic hospital come, lie in an ICU, leave and die.

Times are int64 seconds since 1970, -1 where there is none.
"""

from __future__ import annotations

import numpy as np

from AVMNIST_and_MIMIC.mimic.synthetic.basics import DAY, SHARES, YEAR, Columns, chance

# Hours from the ICU admission to death, least and most, by class of mortality. Class 1 dies late on
# its first day: with a laboratory value before the ICU its records still span more than 24 hours.
DEATH_FROM = np.array([0, 20.7, 24.2, 48.2, 80, 0])
DEATH_TO = np.array([0, 23.9, 47.8, 71.8, 400, 0])
# Most hours before, in and after the ICU of a readmission that must end before a death 31 days
# after the first discharge.
BRIEF = {"before": 24, "icu": 72, "after": 72}


def add_dates(people: Columns, admissions: Columns, rng: np.random.Generator) -> Columns:
    """Add times to patients and admissions -> ICU stays."""
    size, order = len(admissions["patient"]), admissions["order"]
    patient_class = people["class"][admissions["patient"]]
    kind = patient_class * (order == 0)  # later admissions end alive, but see below
    spans = _spans(kind, order, patient_class, rng)
    start = _starts(people, admissions, spans, rng)
    admissions |= {"admit": start, "intime": start + spans["before"], "class": kind}
    admissions["discharge"] = start + spans["total"]
    in_hospital = ((kind >= 1) & (kind <= 3)) | ((kind == 4) & chance(0.65, size, rng))
    last = order == people["count"][admissions["patient"]] - 1
    first_discharge = np.repeat(admissions["discharge"][order == 0], people["count"])
    # A year after the first discharge a death counts as class 0.
    a_year_later = admissions["discharge"] - first_discharge > 368 * DAY
    late = (kind == 0) & last & (order > 0) & a_year_later & chance(0.3, size, rng)
    admissions["death"] = np.where(in_hospital | late, admissions["discharge"], -1)
    _deaths(people, admissions, last, rng)
    has_icu = ~chance(SHARES["without ICU"], size, rng) | (kind > 0)
    # Chart rows, whose number may be asked for, need a stay in the smallest hospital, too.
    has_icu[-1] = True
    return _stays(admissions, spans, has_icu, rng)


def _spans(
    kind: np.ndarray, order: np.ndarray, patient_class: np.ndarray, rng: np.random.Generator
) -> Columns:
    """Seconds before the ICU, in it, between two stays, in the second, after it, and in total:
    int64 [A] each."""
    size = len(kind)
    before = np.where(chance(0.7, size, rng), rng.uniform(0.02, 5, size), rng.uniform(5, 72, size))
    icu = np.clip(np.exp(rng.normal(3.7, 0.6, size)), 10, 240)
    after = 6 + rng.exponential(60, size)
    short = chance(SHARES["short"], size, rng) & (kind == 0)
    icu = np.where(short, rng.uniform(3, 12, size), icu)
    after = np.where(short, rng.uniform(0.5, 4, size), after)
    again = chance(SHARES["second ICU stay"], size, rng) & ~short & ((kind == 0) | (kind == 5))
    gap, second = again * rng.uniform(6, 40, size), again * rng.uniform(8, 40, size)
    share = np.where(kind == 4, rng.beta(1, 3, size), rng.random(size))
    death = DEATH_FROM[kind] + (DEATH_TO[kind] - DEATH_FROM[kind]) * share
    early = (kind >= 1) & (kind <= 4)
    in_icu = np.where(kind <= 3, death, icu)
    icu = np.where(early, np.minimum(in_icu, death), icu)
    after = np.where(early, death - icu, after)
    hours = {"before": before, "icu": icu, "gap": gap, "second": second, "after": after}
    brief = (patient_class == 5) & (order > 0)
    for name, most in BRIEF.items():
        hours[name] = np.where(brief, np.minimum(hours[name], most), hours[name])
    spans = {name: (value * 60).astype(np.int64) * 60 for name, value in hours.items()}
    spans["icu"] += rng.integers(1, 60, size) * (spans["after"] > 0)  # ICU times have seconds
    return spans | {"total": sum(spans.values())}


def _starts(
    people: Columns, admissions: Columns, spans: Columns, rng: np.random.Generator
) -> np.ndarray:
    """Times of admission int64 [A].

    First ones in the shifted years 2105 to 2190, later ones after the discharge before.
    """
    order, size = admissions["order"], len(admissions["order"])
    years = (rng.uniform(2105, 2190, len(people["count"])) - 1970) * YEAR
    dies = people["class"][admissions["patient"]] == 5
    days = np.where(dies, rng.uniform(2, 10, size), rng.uniform(5, 800, size))
    gap = np.where(order == 0, 0, days * DAY).astype(np.int64) // 60 * 60
    elapsed = np.cumsum(gap + spans["total"]) - spans["total"]
    first = np.repeat(np.flatnonzero(order == 0), people["count"])
    return (years.astype(np.int64)[admissions["patient"]] + elapsed - elapsed[first]) // 60 * 60


def _deaths(
    people: Columns, admissions: Columns, last: np.ndarray, rng: np.random.Generator
) -> None:
    """Dates of birth and death (midnight) [P].

    The labels' limits of 30 and 365.245 days after discharge apply to them.
    """
    size, kind = len(people["class"]), people["class"]
    first, ends = admissions["order"] == 0, admissions["discharge"][last]
    died = admissions["death"][last]
    within_30, within_year = rng.integers(1, 29, size), rng.integers(32, 364, size)
    later = np.select(
        [kind == 4, kind == 5], [within_30, within_year], rng.integers(370, 2500, size)
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
    admissions: Columns, spans: Columns, has_icu: np.ndarray, rng: np.random.Generator
) -> Columns:
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
