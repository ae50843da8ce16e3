"""Scores on altered test data, and MultiBench's two robustness scores (Liang et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVELS = tuple(step / 10 for step in range(11))  # of MultiBench; 0 is the clean test split
MISSING = "missing_"  # prefix of a modality's name where it is the one that is missing

CorruptArray = Callable[[np.ndarray, float], np.ndarray]  # (a modality's array, level) -> altered
# name -> {modality: what is done to it}
ArrayCorruptions = Mapping[str, Mapping[str, CorruptArray]]


class Answer(NamedTuple):
    """Scores of a model on a split, and how many examples no expert answered (`uniform`: so is then
    the answer, where the model knows no class prior)."""

    scores: Mapping[str, float]
    uniform: int


class Point(NamedTuple):
    """One run on one altered test split; `level` is None where a modality is missing."""

    run: str
    seed: int
    corruption: str
    level: float | None
    scores: Mapping[str, float]
    uniform: int


def relative_robustness(curve: Sequence[float], levels: Sequence[float] = LEVELS) -> float:
    """Area under the curve by trapezoids, not rescaled: 1 for a model that is always right."""
    return float(np.trapezoid(curve, levels))


def effective_robustness(curve: Sequence[float], baseline: Sequence[float]) -> float:
    """sum_i f_i - (b_i + f_0 - b_0): what is kept beyond a baseline of the same clean score."""
    f, b = np.asarray(curve, dtype=float), np.asarray(baseline, dtype=float)
    return float(np.sum((f - f[0]) - (b - b[0])))


# {run: {(corruption, measure): a value per seed}}
Measures = dict[str, dict[tuple[str, str], list[float]]]


def measures_of(points: Iterable[Point], baseline: str) -> Measures:
    """Measures of every run: `clean`, `relative`, `effective`, `accuracy` of `missing_<modality>`.

    `baseline` names the run whose curve of the same seed and corruption `effective` is relative to;
    without it there is none.
    """
    curves: dict[tuple[str, int, str], dict[float | None, float]] = {}
    for point in points:
        curve = curves.setdefault((point.run, point.seed, point.corruption), {})
        curve[point.level] = point.scores["accuracy"]
    measures: Measures = {}
    for (run, seed, corruption), curve in curves.items():
        if None in curve:
            found = {"accuracy": curve[None]}
        else:
            levels = sorted(curve)
            values = [curve[level] for level in levels]
            found = {"clean": values[0], "relative": relative_robustness(values, levels)}
            if base := curves.get((baseline, seed, corruption)):
                shifted = [base[level] for level in levels]
                found["effective"] = effective_robustness(values, shifted)
        for name, value in found.items():
            measures.setdefault(run, {}).setdefault((corruption, name), []).append(value)
    return measures
