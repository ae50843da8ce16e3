"""What this code makes of the annotations that the public scorers were given: labels and scores, in
the form in which theirs are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.json_files import files_with
from VQA_and_NLVR2.inputs.records import Interned, positions
from VQA_and_NLVR2.nlvr2.files import LABELS, read_nlvr2
from VQA_and_NLVR2.nlvr2.scores import accuracy, consistency
from VQA_and_NLVR2.vqa_vs.annotations import ANSWER_TYPES, Annotations, read_annotations
from VQA_and_NLVR2.vqa_vs.answers import (
    SoftLabels,
    Vocabulary,
    build_vocabulary,
    count_answers,
    soft_labels,
)
from VQA_and_NLVR2.vqa_vs.scores import official_table, training_score, upper_bounds

Entries = dict[str, Any]  # as in a stored JSON file


def read_answers(folder: Path) -> Annotations:
    """All annotated questions of the folder, one that is in several files once."""
    read = [read_annotations(path) for path in files_with(folder, "question_id", "answers")]
    if not read:
        raise DataError(
            f"{folder}: holds no file of annotated questions (VQA-VS's *-Ans.json.gz); give --data"
        )
    for one in read:
        if (one.majority.codes < 0).any():
            raise DataError(
                f"{one.source}: has questions without multiple_choice_answer; "
                "give the published *-Ans.json"
            )
    ids, rows = np.unique(np.concatenate([one.question_id for one in read]), return_index=True)
    given = Interned.of([ten for one in read for ten in _ten(one.answers)])
    majority = Interned.of([text for one in read for text in one.majority.texts()])
    return Annotations(
        source=str(folder),
        question_id=ids,
        image_id=np.concatenate([one.image_id for one in read])[rows],
        answer_type=np.concatenate([one.answer_type for one in read])[rows],
        answers=given[rows],
        majority=majority[rows],
    )


def _ten(answers: Interned) -> list[list[str]]:
    return [[answers.strings[code] for code in row] for row in answers.codes.tolist()]


def _rows(question_ids: Iterable[int], answers: Annotations) -> np.ndarray:
    wanted = np.array(list(question_ids), np.int64)
    at = positions(wanted, answers.question_id)
    if (at < 0).any():
        raise DataError(
            f"{answers.source}: no annotation of {(at < 0).sum():,} of {len(at):,} questions, "
            f"first {wanted[at < 0][0]}"
        )
    return at


def labels(stored: Mapping[str, Any], answers: Annotations) -> Entries:
    """Vocabulary and soft labels of the questions in `rows`, in their order."""
    rows = _rows((row[0] for row in stored["rows"]), answers)
    minimum, majority = stored.get("min_count", 9), answers.majority[rows].texts()
    vocabulary = build_vocabulary(majority, minimum)
    soft = soft_labels(answers.answers[rows], vocabulary)
    size = np.diff(soft.offsets)
    return {
        "n_questions": len(rows),
        "n_distinct_normalised_majority": len(count_answers(majority)),
        "label2ans": list(vocabulary.answers),
        "rows": list(_as_rows(answers.question_id[rows], soft)),
        "n_questions_without_label": int((size == 0).sum()),
        "n_questions_with_label": int((size > 0).sum()),
    }


def _as_rows(question_id: np.ndarray, soft: SoftLabels) -> Iterator[list[Any]]:
    for row, number in enumerate(question_id.tolist()):
        part = slice(soft.offsets[row], soft.offsets[row + 1])
        scores = [round(score, 6) for score in soft.scores[part].tolist()]
        yield [number, soft.labels[part].tolist(), scores]


def vqa_scores(
    stored: Mapping[str, Any], answers: Annotations, answer_list: list[str] | None
) -> Entries:
    """Scores in percent with two decimals; the mean over the subsets is that of the rounded
    scores."""
    ids = [number for number, _ in stored["predictions"]]
    rows = _rows(ids, answers)
    given, kind = answers.answers[rows], answers.answer_type[rows]
    if answer_list:
        vocabulary = Vocabulary(tuple(answer_list))
    else:
        vocabulary = build_vocabulary(answers.majority[rows].texts())
    predicted = vocabulary.labels(answer for _, answer in stored["predictions"])
    score, bound = official_table(given, vocabulary).score_of(predicted), upper_bounds(given)
    bounds = {f"upper_bound_{name}": value for name, value in _by_type(bound, kind).items()}
    training, n = training_score(predicted, soft_labels(given, vocabulary), vocabulary)
    subsets = {}
    for name, entry in stored.get("subsets", {}).items():
        inside = np.isin(ids, entry["question_ids"])
        subsets[name] = {"n": int(inside.sum()), "score": _percent(score[inside])}
    means = [entry["score"] for entry in subsets.values()]
    mean = float(np.mean(means)) if means else float("nan")
    return {
        "n_questions": len(ids),
        **_by_type(score, kind),
        "upper_bound": _percent(bound),
        **bounds,
        **{key: mean for key in stored if key.startswith("mean_of_")},
        "subsets": subsets,
        "training_style_score": {"n": n, "value": training},
    }


def _by_type(score: np.ndarray, kind: np.ndarray) -> dict[str, float]:
    types = {name.replace("/", "_"): score[kind == code] for code, name in enumerate(ANSWER_TYPES)}
    return {"overall": _percent(score)} | {name: _percent(values) for name, values in types.items()}


def _percent(scores: np.ndarray) -> float:
    """The mean in percent, two decimals; summed up in the order of the rows, as the benchmark does,
    on which a tie may depend."""
    values = scores.tolist()
    return round(100 * float(sum(values)) / len(values), 2) if values else float("nan")


def read_sentences(folder: Path) -> dict[str, int]:
    """{identifier: label} of all files of the folder."""
    read = [read_nlvr2(path) for path in files_with(folder, "identifier", "sentence")]
    if not read:
        raise DataError(f"{folder}: holds no file of NLVR2 sentences; give --data")
    label_of: dict[str, int] = {}
    for one in read:
        label_of |= dict(zip(one.identifier.tolist(), one.label.tolist(), strict=True))
    return label_of


def nlvr2_scores(stored: Mapping[str, Any], label_of: Mapping[str, int]) -> Entries:
    """Accuracy and consistency of the stored predictions."""
    names = [name for name, _ in stored["predictions"]]
    strangers = [name for name in names if name not in label_of]
    if strangers:
        raise DataError(
            f"nlvr2: no annotation of {len(strangers):,} of {len(names):,} examples, "
            f"first {strangers[0]}"
        )
    predicted = [LABELS[str(answer).capitalize()] for _, answer in stored["predictions"]]
    right = np.array(predicted) == np.array([label_of[name] for name in names])
    parts = [name.rsplit("-", 3) for name in names]
    sentence = [f"{split}-{number}-{sentence}" for split, number, _, sentence in parts]
    return {
        "n": len(names),
        "accuracy": accuracy(right),
        "consistency": consistency(np.array(sentence), right),
        "subset_accuracy_percent": 100 * accuracy(right),
    }
