"""Answers, labels and scores against stored output of the public scorers: a folder such as
parity/vqa_nlvr_metrics.

Its JSON files are recognised by what they hold, and so are the annotations they were made from:
questions and answers of VQA-VS, sentences of NLVR2, under whatever names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.json_files import open_text
from VQA_and_NLVR2.parity import ours
from VQA_and_NLVR2.vqa_vs.annotations import Annotations
from VQA_and_NLVR2.vqa_vs.answers import normalise

# Name, deviation (for what must be exact: how many rows differ; None for what nothing of ours
# answers to), tolerance
Check = tuple[str, float | None, float]
REAL = 1e-6  # tolerance of a number that is no count
PROSE = ("about", "definition")
NAMES = {
    "answer_normalisation": "normalisation",
    "vqa_labels": "labels",
    "vqa_vs_scores": "vqa_scores",
    "nlvr2_scores": "nlvr2_scores",
}
NOT_COMPARABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Given(NamedTuple):
    """What the stored output was made from."""

    answers: Annotations | None
    label_of: Mapping[str, int]  # of NLVR2's examples
    vocabulary: list[str] | None


def check_metrics(directory: Path, data: Path | None = None) -> tuple[list[Check], list[str]]:
    """Compare every entry of the folder's JSON files with ours -> checks, and names of entries that
    nothing of ours answers to.

    `data`: the folder with vqa_vs/*.json.gz and nlvr2/*.json.gz, or with such files itself;
    default: data/ beside the folder's parent. DataError where the folder or the annotations lack
    what is needed, or hold something else.
    """
    data = data or directory.resolve().parent.parent / "data"
    paths = sorted([*directory.glob("*.json"), *directory.glob("*.json.gz")])
    stored = {path.name.partition(".json")[0]: _load(path) for path in paths}
    if not stored:
        raise DataError(
            f"{directory}: holds no .json files; give a folder such as parity/vqa_nlvr_metrics"
        )
    kinds = {name: _kind(name, value) for name, value in stored.items()}
    given = _read(data, kinds, stored)
    checks: list[Check] = []
    for name, value in stored.items():
        try:
            checks += _checks_of(name, kinds[name], value, given)
        except NOT_COMPARABLE as error:
            what = f"no entry {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{directory / name}.json: cannot be compared ({what}); copy the folder again"
            ) from error
    uncompared = [name for name, deviation, _ in checks if deviation is None]
    return [check for check in checks if check[1] is not None], uncompared


def _read(data: Path, kinds: Mapping[str, str | None], stored: Mapping[str, Any]) -> Given:
    """The annotations, as far as any of the stored files needs them."""
    present = set(kinds.values())
    questions = {"labels", "vqa_scores"} & present
    lists = [stored[name].get("label2ans") for name, kind in kinds.items() if kind == "labels"]
    return Given(
        answers=ours.read_answers(_part(data, "vqa_vs")) if questions else None,
        label_of=ours.read_sentences(_part(data, "nlvr2")) if "nlvr2_scores" in present else {},
        vocabulary=lists[0] if lists else None,
    )


def _part(data: Path, name: str) -> Path:
    return data / name if (data / name).is_dir() else data


def _checks_of(name: str, kind: str | None, value: Any, given: Given) -> list[Check]:
    match kind:
        case "normalisation":
            if not value:
                raise ValueError("nothing in it")
            made = [normalise(raw) for raw, _ in value]
            return [(name, _differing(made, [wanted for _, wanted in value]), 0.0)]
        case "labels":
            made = ours.labels(value, given.answers)
            needed = ("label2ans", "rows")
            return _compare(name, value, made, inputs=("min_count",), needed=needed)
        case "vqa_scores":
            made = ours.vqa_scores(value, given.answers, given.vocabulary)
            return _compare(name, value, made, inputs=("predictions",), needed=("overall",))
        case "nlvr2_scores":
            checks: list[Check] = []
            for key in [key for key in value if key not in PROSE]:
                entry, where = value[key], f"{name}.{key}"
                made = ours.nlvr2_scores(entry, given.label_of)
                checks += _compare(
                    where, entry, made, inputs=("predictions",), needed=("accuracy",)
                )
            if checks:
                return checks
    return [_not_compared(name)]


def _load(path: Path) -> Any:
    with open_text(path) as file:
        return json.load(file)


def _kind(name: str, value: Any) -> str | None:
    """What a stored file holds: normalisation, labels, vqa_scores, nlvr2_scores, by its name or
    else by its entries; None for anything else."""
    if name in NAMES:
        return NAMES[name]
    if isinstance(value, list):
        pairs = all(isinstance(row, list) and len(row) == 2 for row in value)
        return "normalisation" if value and pairs else None
    if not isinstance(value, dict):
        return None
    if {"label2ans", "rows"} <= set(value):
        return "labels"
    if "predictions" in value:
        return "vqa_scores"
    entries = [entry for key, entry in value.items() if key not in PROSE]
    predicted = [isinstance(entry, dict) and "predictions" in entry for entry in entries]
    return "nlvr2_scores" if any(predicted) else None


def _compare(
    name: str,
    stored: Any,
    made: Mapping[str, Any],
    inputs: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
) -> list[Check]:
    """Entry by entry; `inputs` are those of the computation. ValueError if an entry is missing that
    is `needed`."""
    if lacking := [key for key in needed if key not in stored]:
        raise ValueError(f"{name} has no {', '.join(lacking)}")
    checks: list[Check] = []
    for key, wanted in stored.items():
        if key in (*PROSE, *inputs):
            continue
        if key in needed and isinstance(wanted, str):
            raise ValueError(f"{key} is {wanted!r}")
        if key not in made or isinstance(wanted, str):
            checks.append(_not_compared(f"{name}.{key}"))
        elif isinstance(wanted, dict):
            checks += _compare(f"{name}.{key}", wanted, made[key], inputs=("question_ids",))
        elif isinstance(wanted, list):
            checks.append((f"{name}.{key}", _differing(made[key], wanted), 0.0))
        else:
            tolerance = 0.0 if isinstance(made[key], int) else REAL
            checks.append((f"{name}.{key}", _deviation(made[key], wanted), tolerance))
    return checks


def _deviation(made: float, wanted: float | None) -> float:
    """Of a number; what is not defined (a mean over nothing) is NaN here, and NaN or null there."""
    if wanted is None or np.isnan(wanted):
        return 0.0 if np.isnan(made) else float("inf")
    return float("inf") if np.isnan(made) else float(abs(made - wanted))


def _differing(made: Iterable[Any], wanted: Iterable[Any]) -> float:
    """How many rows differ, a row too few or too many included."""
    made, wanted = list(made), list(wanted)
    differ = sum(a != b for a, b in zip(made, wanted, strict=False))
    return float(differ + abs(len(made) - len(wanted)))


def _not_compared(name: str) -> Check:
    return name, None, 0.0
