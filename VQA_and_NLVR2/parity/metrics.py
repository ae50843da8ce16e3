"""Answers, labels and scores against stored output of the public scorers: a folder such as
parity/vqa_nlvr_metrics.

Its JSON files are told apart by what they hold, and so are the annotations they were made from:
questions and answers of VQA-VS, sentences of NLVR2, under whatever names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.json_files import files_with, open_text
from VQA_and_NLVR2.inputs.records import Interned, positions
from VQA_and_NLVR2.nlvr2.files import LABELS, read_nlvr2
from VQA_and_NLVR2.nlvr2.scores import accuracy, consistency
from VQA_and_NLVR2.vqa_vs.annotations import ANSWER_TYPES, Annotations, read_annotations
from VQA_and_NLVR2.vqa_vs.answers import (
    SoftLabels,
    Vocabulary,
    build_vocabulary,
    count_answers,
    normalise,
    soft_labels,
)
from VQA_and_NLVR2.vqa_vs.scores import official_table, training_score, upper_bounds

# Name, deviation (for what must be exact: how many rows differ; None for what nothing of ours
# answers to), tolerance
Check = tuple[str, float | None, float]
REAL = 1e-6  # tolerance of a number that is no count
PROSE = ("about", "definition")


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
    answers = (
        _answers(_part(data, "vqa_vs")) if {"labels", "vqa_scores"} & set(kinds.values()) else None
    )
    sentences = _sentences(_part(data, "nlvr2")) if "nlvr2_scores" in kinds.values() else {}
    answer_list = next(
        (stored[name].get("label2ans") for name, kind in kinds.items() if kind == "labels"), None
    )
    checks: list[Check] = []
    for name, value in stored.items():
        try:
            checks += _checks_of(name, kinds[name], value, answers, sentences, answer_list)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f"no entry {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{directory / name}.json: cannot be compared ({what}); copy the folder again"
            ) from error
    return [check for check in checks if check[1] is not None], [
        name for name, deviation, _ in checks if deviation is None
    ]


def _part(data: Path, name: str) -> Path:
    return data / name if (data / name).is_dir() else data


def _checks_of(
    name: str, kind: str | None, value: Any, answers: Annotations | None, sentences: Mapping[str, int],
    answer_list: list[str] | None,
) -> list[Check]:  # fmt: skip
    match kind:
        case "normalisation":
            if not value:
                raise ValueError("nothing in it")
            return [
                (
                    name,
                    _differing(
                        map(normalise, (raw for raw, _ in value)), (wanted for _, wanted in value)
                    ),
                    0.0,
                )
            ]
        case "labels":
            return _compare(
                name,
                value,
                _labels(value, answers),
                given=("min_count",),
                needed=("label2ans", "rows"),
            )
        case "vqa_scores":
            ours = _vqa_scores(value, answers, answer_list)
            return _compare(name, value, ours, given=("predictions",), needed=("overall",))
        case "nlvr2_scores":
            checks = []
            for key, entry in value.items():
                if key not in PROSE:
                    found = _nlvr2_scores(entry, sentences)
                    checks += _compare(
                        f"{name}.{key}", entry, found, given=("predictions",), needed=("accuracy",)
                    )
            if checks:
                return checks
    return [_not_compared(name)]


def _load(path: Path) -> Any:
    with open_text(path) as file:
        return json.load(file)


NAMES = {
    "answer_normalisation": "normalisation",
    "vqa_labels": "labels",
    "vqa_vs_scores": "vqa_scores",
    "nlvr2_scores": "nlvr2_scores",
}


def _kind(name: str, value: Any) -> str | None:
    """What a stored file holds: normalisation, labels, vqa_scores, nlvr2_scores, by its name or
    else by its entries; None for anything else."""
    if name in NAMES:
        return NAMES[name]
    if (
        isinstance(value, list)
        and value
        and all(isinstance(row, list) and len(row) == 2 for row in value)
    ):
        return "normalisation"
    if not isinstance(value, dict):
        return None
    if {"label2ans", "rows"} <= set(value):
        return "labels"
    if "predictions" in value:
        return "vqa_scores"
    entries = [entry for key, entry in value.items() if key not in PROSE]
    return (
        "nlvr2_scores"
        if any(isinstance(entry, dict) and "predictions" in entry for entry in entries)
        else None
    )


def _compare(
    name: str,
    stored: Any,
    ours: Mapping[str, Any],
    given: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
) -> list[Check]:
    """Entry by entry; `given` are the inputs of the computation. ValueError if an entry is missing
    that is `needed`."""
    if lacking := [key for key in needed if key not in stored]:
        raise ValueError(f"{name} has no {', '.join(lacking)}")
    checks: list[Check] = []
    for key, wanted in stored.items():
        if key in (*PROSE, *given):
            continue
        if key in needed and isinstance(wanted, str):
            raise ValueError(f"{key} is {wanted!r}")
        if key not in ours or isinstance(wanted, str):
            checks.append(_not_compared(f"{name}.{key}"))
        elif isinstance(wanted, dict):
            checks += _compare(f"{name}.{key}", wanted, ours[key], given=("question_ids",))
        elif isinstance(wanted, list):
            checks.append((f"{name}.{key}", _differing(ours[key], wanted), 0.0))
        else:
            tolerance = 0.0 if isinstance(ours[key], int) else REAL
            checks.append((f"{name}.{key}", _deviation(ours[key], wanted), tolerance))
    return checks


def _deviation(ours: float, wanted: float | None) -> float:
    """Of a number; what is not defined (a mean over nothing) is NaN here, and NaN or null there."""
    if wanted is None or np.isnan(wanted):
        return 0.0 if np.isnan(ours) else float("inf")
    return float("inf") if np.isnan(ours) else float(abs(ours - wanted))


def _differing(ours: Iterable[Any], wanted: Iterable[Any]) -> float:
    """How many rows differ, a row too few or too many included."""
    ours, wanted = list(ours), list(wanted)
    return float(
        sum(a != b for a, b in zip(ours, wanted, strict=False)) + abs(len(ours) - len(wanted))
    )


def _not_compared(name: str) -> Check:
    return name, None, 0.0


def _answers(folder: Path) -> Annotations:
    """All annotated questions of the folder, one that is in several files once."""
    read = [read_annotations(path) for path in files_with(folder, "question_id", "answers")]
    if not read:
        raise DataError(
            f"{folder}: holds no file of annotated questions (VQA-VS's *-Ans.json.gz); give --data"
        )
    for one in read:
        if (one.majority.codes < 0).any():
            raise DataError(
                f"{one.source}: has questions without multiple_choice_answer; give the published *-Ans.json"
            )
    ids, rows = np.unique(np.concatenate([one.question_id for one in read]), return_index=True)
    answers = Interned.of([row for one in read for row in _ten(one.answers)])
    columns = [
        np.concatenate([getattr(one, name) for one in read])[rows]
        for name in ("image_id", "answer_type")
    ]
    majority = Interned.of([text for one in read for text in one.majority.texts()])
    return Annotations(str(folder), ids, *columns, answers[rows], majority[rows])


def _ten(answers: Interned) -> list[list[str]]:
    return [[answers.strings[code] for code in row] for row in answers.codes.tolist()]


def _rows(question_ids: Iterable[int], answers: Annotations) -> np.ndarray:
    wanted = np.array(list(question_ids), np.int64)
    at = positions(wanted, answers.question_id)
    if (at < 0).any():
        raise DataError(
            f"{answers.source}: no annotation of {(at < 0).sum():,} of {len(at):,} questions, first {wanted[at < 0][0]}"
        )
    return at


def _labels(stored: Mapping[str, Any], answers: Annotations) -> dict[str, Any]:
    """Vocabulary and soft labels of the questions in `rows`, in their order."""
    rows = _rows((row[0] for row in stored["rows"]), answers)
    minimum, majority = stored.get("min_count", 9), answers.majority[rows].texts()
    vocabulary = build_vocabulary(majority, minimum)
    labels = soft_labels(answers.answers[rows], vocabulary)
    size = np.diff(labels.offsets)
    return {
        "n_questions": len(rows),
        "n_distinct_normalised_majority": len(count_answers(majority)),
        "label2ans": list(vocabulary.answers),
        "rows": list(_as_rows(answers.question_id[rows], labels)),
        "n_questions_without_label": int((size == 0).sum()),
        "n_questions_with_label": int((size > 0).sum()),
    }


def _as_rows(question_id: np.ndarray, labels: SoftLabels) -> Iterable[list[Any]]:
    for number, start, end in zip(
        question_id.tolist(), labels.offsets[:-1], labels.offsets[1:], strict=True
    ):
        yield [
            number,
            labels.labels[start:end].tolist(),
            [round(score, 6) for score in labels.scores[start:end].tolist()],
        ]


def _vqa_scores(
    stored: Mapping[str, Any], answers: Annotations, answer_list: list[str] | None
) -> dict[str, Any]:
    """Scores in percent with two decimals; the mean over the subsets is that of the rounded scores."""
    ids = [number for number, _ in stored["predictions"]]
    rows = _rows(ids, answers)
    given, kind = answers.answers[rows], answers.answer_type[rows]
    vocabulary = (
        Vocabulary(tuple(answer_list))
        if answer_list
        else build_vocabulary(answers.majority[rows].texts())
    )
    predicted = vocabulary.labels(answer for _, answer in stored["predictions"])
    score, bound = official_table(given, vocabulary).score_of(predicted), upper_bounds(given)
    found: dict[str, Any] = {"n_questions": len(ids), **_by_type(score, kind)}
    found |= {"upper_bound": _percent(bound)} | {
        f"upper_bound_{name}": value for name, value in _by_type(bound, kind).items()
    }
    training, n = training_score(predicted, soft_labels(given, vocabulary), vocabulary)
    subsets = {
        name: _subset(entry["question_ids"], ids, score)
        for name, entry in stored.get("subsets", {}).items()
    }
    mean = (
        float(np.mean([entry["score"] for entry in subsets.values()])) if subsets else float("nan")
    )
    means = {key: mean for key in stored if key.startswith("mean_of_")}
    return found | means | {"subsets": subsets, "training_style_score": {"n": n, "value": training}}


def _subset(chosen: list[int], ids: list[int], score: np.ndarray) -> dict[str, Any]:
    inside = np.isin(ids, chosen)
    return {"n": int(inside.sum()), "score": _percent(score[inside])}


def _by_type(score: np.ndarray, kind: np.ndarray) -> dict[str, float]:
    types = {name.replace("/", "_"): score[kind == code] for code, name in enumerate(ANSWER_TYPES)}
    return {"overall": _percent(score)} | {name: _percent(values) for name, values in types.items()}


def _percent(scores: np.ndarray) -> float:
    """The mean in percent, two decimals; summed up in the order of the rows, as the benchmark does,
    on which a tie may depend."""
    values = scores.tolist()
    return round(100 * float(sum(values)) / len(values), 2) if values else float("nan")


def _sentences(folder: Path) -> dict[str, int]:
    """{identifier: label} of all files of the folder."""
    read = [read_nlvr2(path) for path in files_with(folder, "identifier", "sentence")]
    if not read:
        raise DataError(f"{folder}: holds no file of NLVR2 sentences; give --data")
    return {
        name: label
        for one in read
        for name, label in zip(one.identifier.tolist(), one.label.tolist(), strict=True)
    }


def _nlvr2_scores(stored: Mapping[str, Any], label_of: Mapping[str, int]) -> dict[str, Any]:
    names = [name for name, _ in stored["predictions"]]
    strangers = [name for name in names if name not in label_of]
    if strangers:
        raise DataError(
            f"nlvr2: no annotation of {len(strangers):,} of {len(names):,} examples, first {strangers[0]}"
        )
    right = np.array(
        [
            LABELS[str(answer).capitalize()] == label_of[name]
            for name, answer in stored["predictions"]
        ]
    )
    parts = [name.rsplit("-", 3) for name in names]
    group = np.unique(
        [f"{split}-{number}-{sentence}" for split, number, _, sentence in parts],
        return_inverse=True,
    )[1]
    return {
        "n": len(names),
        "accuracy": accuracy(right),
        "consistency": consistency(group, right),
        "subset_accuracy_percent": 100 * accuracy(right),
    }
