"""Predictions of all rows, and the rows that stand for several.

The modality that stands for the single ones is one for all folds, that with the smallest mean NLL
on held-out parts of the training examples: which knows most is a question about the data, and a
fold that took another by chance would make the product of all look better than it is.

Where one of several ways to train is taken (joint or separate, i2m2 or inter), every fold takes the
one with the smallest NLL on held-out parts of its own training examples, so that no example has a
say in which row predicts it. The row that this makes is called `best-<kind>`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from i2m2.errors import SettingsError

HALF = "half:"  # before the name of a row of models trained on half the examples
PRIOR, BEST = "prior", "best"
KINDS = ("unimodal", "intra", "inter", "i2m2")
FUSED = "fused"  # the better of i2m2 and inter
REFERENCES = ("lr-", "hgb-")


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """{row: outputs [S, n, L, K]} of examples that no model of them was trained on, y [n, L],
    group [n], the `fold` [S, n] of each example, and {row: validation NLL of each fold [S, F]}."""

    outputs: Mapping[str, np.ndarray]
    y: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    validation: Mapping[str, np.ndarray]
    classify: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The `row` that stands for a kind, and in how many folds of all seeds it is which: {row:
    folds}, the most frequent first."""

    row: str
    taken: Mapping[str, int]

    @property
    def usual(self) -> str:
        return next(iter(self.taken))


def choose(predicted: Predicted) -> tuple[Predicted, dict[str, Choice]]:
    """-> the predictions with a row more for each kind that has several, in the order in which
    rows are shown, and {kind, `fused`, `best`: its choice}. SettingsError for a kind without a
    row."""
    kinds = {kind: rows_of(kind, list(predicted.validation)) for kind in KINDS}
    if lacking := [kind for kind, rows in kinds.items() if not rows]:
        raise SettingsError(f"there is no row {' and no row '.join(lacking)}; the answer needs one")
    kinds[FUSED] = kinds["inter"] + kinds["i2m2"]
    kinds[BEST] = sum((kinds[kind] for kind in KINDS), [])
    outputs, choices = dict(predicted.outputs), {}
    for kind, rows in kinds.items():
        if kind == "unimodal":
            rows = [min(rows, key=lambda row: predicted.validation[row].mean())]
        if len(rows) == 1:
            taken = {rows[0]: predicted.validation[rows[0]].size}
            choices[kind] = Choice(row=rows[0], taken=taken)
            continue
        name = BEST if kind == BEST else f"{BEST}-{kind}"
        outputs[name], taken = _best_of(rows, predicted)
        choices[kind] = Choice(row=name, taken=taken)
    ordered = {name: outputs[name] for name in sorted(outputs, key=_place)}
    return replace(predicted, outputs=ordered), choices


def rows_of(kind: str, rows: Sequence[str]) -> list[str]:
    """Those of one kind: `i2m2` -> i2m2, i2m2-joint, i2m2-concat."""
    return [row for row in rows if row == kind or row.startswith((f"{kind}-", f"{kind}_"))]


def is_reference(row: str) -> bool:
    """Whether a row is a model of scikit-learn to compare with, not one of the method."""
    return row.startswith(REFERENCES)


def _best_of(rows: Sequence[str], predicted: Predicted) -> tuple[np.ndarray, dict[str, int]]:
    """-> outputs [S, n, L, K], of every fold those of the row with its smallest validation NLL, and
    {row: number of folds}."""
    best = np.stack([predicted.validation[row] for row in rows]).argmin(axis=0)
    of_example = np.take_along_axis(best, predicted.fold, axis=1)
    every = np.stack([predicted.outputs[row] for row in rows])
    outputs = np.take_along_axis(every, of_example[None, :, :, None, None], axis=0)[0]
    taken = Counter(rows[number] for number in best.ravel().tolist())
    return outputs, dict(taken.most_common())


def _place(row: str) -> int:
    """Prior, unimodal, intra, inter, i2m2, fused, best, references."""
    if is_reference(row) or row.startswith(HALF):
        return len(KINDS) + 3
    kind = row.removeprefix(f"{BEST}-").replace("_", "-").partition("-")[0]
    return (PRIOR, *KINDS, FUSED, BEST).index(kind)
