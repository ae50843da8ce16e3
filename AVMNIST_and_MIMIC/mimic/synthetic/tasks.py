"""Why the labels of the synthetic hospital are what they are.

Every admission has static features and independent standard-normal latent factors that drive its
series. A task's log-odds are the sum of a score of the static features, a score of the latents, and
the product of a static feature and a latent. Both factors of a product are centred, so that on
average neither modality alone shows in which direction it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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
        feature, latent = self.both
        scores = (
            _score(self.static, features),
            _score(self.series, latents),
            features[feature] * latents[latent],
        )
        weighted = (weight * score for weight, score in zip(self.strength, scores, strict=True))
        return self.base + sum(weighted)


TASKS = {
    # Death up to a year after discharge (classes 1 to 5 of mortality).
    "death": Task(
        -2.90,
        (1.8, 2.8, 2.2),
        static={"age": 1, "metastatic": 0.7, "haematological": 0.4},
        series={"shock": 1, "course": 0.6},
        both=("surgical", "drive"),
    ),
    # Whether it comes early (classes 1 to 4, not 5).
    "early": Task(
        0.30,
        (1.8, 1.8, 1.2),
        static={"metastatic": -0.6, "elective": -0.6, "old": 1},
        series={"shock": 1, "course": 0.6, "liver": 0.6},
        both=("surgical", "marrow"),
    ),
    # A code of the flags decides many positives of 140-239; these log-odds decide the others.
    "icd9_1": Task(
        -4.30,
        (1.5, 1.3, 2.4),
        static={"age": 0.6, "elective": 1},
        series={"salts": -1},
        both=("surgical", "marrow"),
    ),
    "icd9_7": Task(
        -0.15,
        (0.9, 1.8, 1.6),
        static={"age": 0.6, "elective": -1},
        series={"lungs": 1, "shock": 0.5},
        both=("old", "drive"),
    ),
}


def probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def _score(weights: Mapping[str, float], values: Mapping[str, np.ndarray]) -> np.ndarray:
    norm = np.sqrt(sum(weight**2 for weight in weights.values()))
    return sum(weight * values[name] for name, weight in weights.items()) / norm
