"""VQA-VS's files of questions and of answers, one by one, as columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.json_files import Source, read_list
from VQA_and_NLVR2.inputs.records import (
    BAD_RECORD,
    Interned,
    Interner,
    bad_record,
    check_ids,
    column,
    positions,
)

ANSWER_TYPES = ("yes/no", "number", "other")
PEOPLE = 10  # who answer a question


@dataclass(frozen=True)
class Questions:
    """A file of questions, in its order."""

    source: str
    question_id: np.ndarray  # int64 [n]
    image_id: np.ndarray  # int64 [n]
    question: Interned  # [n]


@dataclass(frozen=True)
class Annotations:
    """A file of answers, in its order."""

    source: str
    question_id: np.ndarray  # int64 [n]
    image_id: np.ndarray  # int64 [n], -1 where the file does not say
    answer_type: np.ndarray  # int8 [n] into ANSWER_TYPES
    answers: Interned  # [n, 10] as people wrote them
    majority: Interned  # [n], -1 where the file does not say


@dataclass(frozen=True)
class VqaSplit:
    """Questions with their annotations, in the order of the question file."""

    question_id: np.ndarray
    image_id: np.ndarray
    question: Interned
    answer_type: np.ndarray
    answers: Interned
    majority: Interned

    def __len__(self) -> int:
        return len(self.question_id)

    def take(self, rows: np.ndarray) -> VqaSplit:
        """Some of the questions, by positions or mask."""
        return VqaSplit(*(getattr(self, field.name)[rows] for field in fields(self)))


def read_questions(source: Source | Path) -> Questions:
    """Read a question file: a bare list, or VQA v2's object with `questions`. DataError names file
    and record."""
    question_id, image_id, text = array("q"), array("q"), Interner()
    for number, record in enumerate(read_list(source, "questions")):
        try:
            question_id.append(record["question_id"])
            image_id.append(record["image_id"])
            text.add_text(record["question"])
        except BAD_RECORD as error:
            wanted = "{question_id: integer, image_id: integer, question: string}"
            raise bad_record(
                f"{source}: record {number}", record, "question_id", wanted, error
            ) from error
    ids = column(question_id, np.int64)
    check_ids(source, ids)
    return Questions(str(source), ids, column(image_id, np.int64), text.finish(len(ids)))


def read_annotations(source: Source | Path, rest: dict[str, Any] | None = None) -> Annotations:
    """Read an answer file: a bare list, VQA v2's object with `annotations`, or
    test_annotations.json, which counts the answers.

    DataError names file and record. The other entries of an object go to `rest`.
    """
    question_id, image_id, kind = array("q"), array("q"), array("b")
    answers, majority = Interner(), Interner()
    majority.number = answers.number  # one table of strings for both
    for number, record in enumerate(read_list(source, "annotations", rest)):
        try:
            question_id.append(record["question_id"])
            image_id.append(record.get("image_id", -1))
            kind.append(_type(record["answer_type"]))
            given = _answers(record)
            answers.add(given)
            answers.codes.extend([-1] * (PEOPLE - len(given)))
            if "multiple_choice_answer" in record:
                majority.add([record["multiple_choice_answer"]])
            else:
                majority.codes.append(-1)
        except BAD_RECORD as error:
            wanted = (
                "{question_id, image_id, answer_type, multiple_choice_answer, "
                "answers: ten of {answer}}"
            )
            where = f"{source}: record {number}"
            raise bad_record(where, record, "question_id", wanted, error) from error
    ids = column(question_id, np.int64)
    check_ids(source, ids)
    return Annotations(
        source=str(source),
        question_id=ids,
        image_id=column(image_id, np.int64),
        answer_type=column(kind, np.int8),
        answers=answers.finish(len(ids), PEOPLE),
        majority=majority.finish(len(ids)),
    )


def _type(name: str) -> int:
    if name not in ANSWER_TYPES:
        raise ValueError(f"answer_type {name!r} is none of {', '.join(ANSWER_TYPES)}")
    return ANSWER_TYPES.index(name)


def _answers(record: dict[str, Any]) -> list[str]:
    """The ten answers; of counts, each as often as it was counted."""
    if "answers" in record:
        given = [answer["answer"] for answer in record["answers"]]
        if len(given) != PEOPLE:
            raise ValueError(f"{len(given)} answers, not {PEOPLE}")
    else:
        counts = record["answer_count"]
        if wrong := [f"{answer!r}: {n!r}" for answer, n in counts.items() if not _is_count(n)]:
            raise ValueError(f"answer_count {wrong[0]} is no count")
        given = [answer for answer, n in counts.items() for _ in range(n)]
        if len(given) > PEOPLE:
            raise ValueError(f"counts {len(given)} answers, more than {PEOPLE}")
    return given


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def join(questions: Questions, annotations: Annotations) -> VqaSplit:
    """Every question with its annotation, by id. DataError names file and id where one has no
    partner, or another image."""
    _refuse_without_partner(questions, annotations)
    _refuse_without_partner(annotations, questions)
    at = positions(questions.question_id, annotations.question_id)
    image = annotations.image_id[at]
    differs = (image != questions.image_id) & (image >= 0)
    if differs.any():
        which = questions.question_id[differs][0]
        raise DataError(
            f"{annotations.source}: another image_id than {questions.source} "
            f"for question_id {which} ({differs.sum():,} in all)"
        )
    return VqaSplit(
        question_id=questions.question_id,
        image_id=questions.image_id,
        question=questions.question,
        answer_type=annotations.answer_type[at],
        answers=annotations.answers[at],
        majority=annotations.majority[at],
    )


def _refuse_without_partner(
    first: Questions | Annotations, second: Questions | Annotations
) -> None:
    """DataError unless `second` has all that `first` has."""
    ids = first.question_id
    missing = ids[positions(ids, second.question_id) < 0]
    if len(missing):
        raise DataError(
            f"{second.source}: has nothing for {len(missing):,} of {len(ids):,} question_ids "
            f"of {first.source}, first {missing[0]}; give files that belong together"
        )
