"""What the generators of the synthetic hospital share: units of time, shares, chance."""

from __future__ import annotations

import numpy as np

Columns = dict[str, np.ndarray]  # of patients, admissions or stays, by name

HOUR, DAY = 3600, 86400  # seconds
YEAR = 365.25 * DAY

SHARES = {  # of admissions or patients
    "metavision": 0.43,
    "surgical": 0.42,
    "elective": 0.35,
    "metastatic": 0.05,
    "haematological": 0.03,
    "aids": 0.012,
    "older than 89": 0.05,
    "child": 0.03,
    "second admission": 0.16,
    "third admission": 0.03,
    "without ICU": 0.05,
    "second ICU stay": 0.07,
    "short": 0.03,
    "dies later": 0.2,
}


def chance(share: float | np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """bool [size], each true with probability `share`."""
    return rng.random(size) < share


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[2, 0, 3] -> owners [0, 0, 2, 2, 2] and steps [0, 1, 0, 1, 2]."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
