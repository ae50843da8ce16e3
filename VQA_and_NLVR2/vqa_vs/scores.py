"""The VQA score: of the IID test and the nine OOD sets in one pass, by answer type, and the file
that the benchmark's scorer reads.

Two scores must not be mixed. The official one counts min(1, people / 3) over all questions; the one
of training takes 0, 0.3, 0.6, 0.9 or 1 and leaves out the questions that have no answer in the
vocabulary. Fractions everywhere; `percent` prints them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from i2m2.errors import DataError
from i2m2.files import write_text
from VQA_and_NLVR2.inputs.records import Interned
from VQA_and_NLVR2.vqa_vs.annotations import ANSWER_TYPES
from VQA_and_NLVR2.vqa_vs.answers import OFFICIAL, SoftLabels, Vocabulary, counts_of, soft_labels
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS

SUB_MEANS = {
    "ood_mean": OOD_SETS,
    "language_mean": ("QT", "KW", "KWP", "QT+KW"),
    "visual_mean": ("KO", "KOP"),
    "mixed_mean": ("QT+KO", "KW+KO", "QT+KW+KO"),
}
MEANS = ("vqa_score", *SUB_MEANS)
OTHERS = ("training_score", "yes_no", "number", "other", "nll", "entropy")


def official_table(
    answers: Interned | Sequence[Sequence[str]], vocabulary: Vocabulary
) -> SoftLabels:
    """Official score of every vocabulary answer of [n] questions, sparse; every other answer scores
    0. Build it once."""
    return soft_labels(answers, vocabulary, OFFICIAL)


def official_score(
    predicted: Sequence[str] | np.ndarray,
    answers: Interned | Sequence[Sequence[str]],
    vocabulary: Vocabulary,
) -> float:
    """Mean over all questions of min(1, people / 3), people being those of the ten who gave the
    predicted answer as it stands.

    `predicted` [n]: strings, or labels. What is not in the vocabulary scores 0, as in the
    benchmark's scorer.
    """
    table = official_table(answers, vocabulary)
    return float(table.score_of(_labels(predicted, vocabulary)).mean())


def training_score(
    predicted: Sequence[str] | np.ndarray, labels: SoftLabels, vocabulary: Vocabulary
) -> tuple[float, int]:
    """-> mean of the soft score at the predicted answer, and over how many questions: those that
    have a label, and whose predicted answer is in the vocabulary (always so for a classifier). NaN
    over none."""
    predicted = _labels(predicted, vocabulary)
    counted = (np.diff(labels.offsets) > 0) & (predicted >= 0)
    score = labels.score_of(predicted).astype(np.float64)[counted]
    return (float(score.mean()) if len(score) else float("nan")), int(counted.sum())


def upper_bounds(answers: Interned) -> np.ndarray:
    """[n] best official score that any answer could get, in the vocabulary or not."""
    return OFFICIAL[counts_of(answers)[0].max(axis=1)]


def score_sets(
    score: np.ndarray, member: np.ndarray, sets: Sequence[str] = OOD_SETS
) -> dict[str, float]:
    """{"iid", each OOD set, "ood_mean", and the means of the language, visual and mixed sets} from
    [n] scores of the IID test's questions and [n, 9] memberships: plain means, each set counting
    once. NaN for a set without questions."""
    size = member.sum(axis=0)
    sums = score.astype(np.float64) @ member
    by_set = {}
    for name, total, n in zip(sets, sums, size, strict=True):
        by_set[name] = float(total / n) if n else float("nan")
    means = {}
    for name, averaged in SUB_MEANS.items():
        if set(averaged) <= set(sets):
            means[name] = float(np.mean([by_set[one] for one in averaged]))
    return {"iid": float(score.mean(dtype=np.float64)), **by_set, **means}


def score_types(score: np.ndarray, answer_type: np.ndarray) -> dict[str, float]:
    """{"yes_no", "number", "other"}: mean of [n] scores by answer type; NaN for a type that does
    not occur."""
    means = {}
    for code, name in enumerate(ANSWER_TYPES):
        chosen = score[answer_type == code]
        mean = float(chosen.mean(dtype=np.float64)) if len(chosen) else float("nan")
        means[name.replace("/", "_")] = mean
    return means


def percent(scores: Mapping[str, float]) -> dict[str, float]:
    """Fractions as the benchmark prints them: percent with two decimals."""
    return {name: round(100 * score, 2) for name, score in scores.items()}


def write_predictions(
    path: Path, question_id: np.ndarray, predicted: np.ndarray, vocabulary: Vocabulary
) -> None:
    """Write [{"question_id", "answer"}] ascending by id, which the benchmark's scorer pairs with
    the annotations by position.

    `predicted`: labels [n]. DataError if an id occurs twice or a label is not in the vocabulary.
    """
    predicted = np.asarray(predicted)
    if len(np.unique(question_id)) < len(question_id):
        raise DataError(
            f"{path}: a question_id occurs twice among the {len(question_id):,} predictions; "
            "give one for each question"
        )
    wrong = (predicted < 0) | (predicted >= len(vocabulary))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"{path}: label {predicted[at]} of question_id {question_id[at]} is outside the "
            f"vocabulary 0..{len(vocabulary) - 1} ({wrong.sum():,} such labels); "
            "give the vocabulary that the model was trained with"
        )
    order = np.argsort(question_id)
    rows = zip(question_id[order].tolist(), predicted[order].tolist(), strict=True)
    answers = vocabulary.answers
    records = [{"question_id": number, "answer": answers[label]} for number, label in rows]
    write_text(path, json.dumps(records) + "\n")


def _labels(predicted: Sequence[str] | np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """int [n] of strings or of labels. DataError for a label that the vocabulary does not have (-1
    stands for none)."""
    if len(predicted) and isinstance(predicted[0], str):
        return vocabulary.labels(predicted)
    predicted = np.asarray(predicted)
    if len(predicted) and predicted.max() >= len(vocabulary):
        raise DataError(
            f"label {predicted.max()} is outside the vocabulary 0..{len(vocabulary) - 1}; "
            "give the vocabulary of the model"
        )
    return predicted
