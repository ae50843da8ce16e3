"""VQA-VS as its authors publish it: JSON files of questions and annotations, images in COCO's
folders.

    Training/Training-{Ques,Ans}.json   Val/Val-{Ques,Ans}.json   IID-Test/IID-Test-{Ques,Ans}.json
    OOD-Test/<SET>/OOD-Test-<SET>-Ques.json: nine sets, each a part of the IID test
    test_annotations.json: the IID test's answers and the sets' ids, in place of IID-Test-Ans.json and of OOD-Test

Each may also be .gz or .zip, or lie in Val.zip, IID-Test.zip, OOD-Test.zip, all of them in the
folder itself or in its `data/`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.inputs import records
from VQA_and_NLVR2.inputs.records import (
    BAD_RECORD,
    Interned,
    Interner,
    Source,
    bad_record,
    check_ids,
    find_source,
    positions,
)
from VQA_and_NLVR2.vqa_vs.answers import MINIMUM, RULES, Vocabulary, build_vocabulary

ANSWER_TYPES = ("yes/no", "number", "other")
OOD_SETS = ("QT", "KW", "KWP", "QT+KW", "KO", "KOP", "QT+KO", "KW+KO", "QT+KW+KO")
PUBLISHED = {"train": 461_124, "val": 32_723, "test": 164_264} | dict(
    zip(
        OOD_SETS,
        (23_816, 27_730, 14_358, 17_630, 38_423, 42_806, 27_484, 17_447, 9_249),
        strict=True,
    )
)
FOLDERS = {"train": "Training", "val": "Val", "test": "IID-Test"}
PEOPLE = 10  # who answer a question
PARTS = ("train2014", "val2014")  # of COCO
HOW_TO_GET = "how to get it: VQA_and_NLVR2/README.md, section Data"


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


@dataclass(frozen=True)
class VqaVs:
    """The three splits, and which questions of the IID test each OOD set has: bool [test, 9], in
    the order of OOD_SETS."""

    train: VqaSplit
    val: VqaSplit
    test: VqaSplit
    member: np.ndarray

    @property
    def splits(self) -> dict[str, VqaSplit]:
        """train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def read_questions(source: Source | Path) -> Questions:
    """Read a question file: a bare list, or VQA v2's object with `questions`. DataError names file
    and record."""
    question_id, image_id, text = array("q"), array("q"), Interner()
    for number, record in enumerate(records.read_list(source, "questions")):
        try:
            question_id.append(record["question_id"])
            image_id.append(record["image_id"])
            text.add_text(record["question"])
        except BAD_RECORD as error:
            wanted = "{question_id: integer, image_id: integer, question: string}"
            raise bad_record(
                f"{source}: record {number}", record, "question_id", wanted, error
            ) from error
    ids = records.column(question_id, np.int64)
    check_ids(source, ids)
    return Questions(str(source), ids, records.column(image_id, np.int64), text.finish(len(ids)))


def read_annotations(source: Source | Path, rest: dict[str, Any] | None = None) -> Annotations:
    """Read an answer file: a bare list, VQA v2's object with `annotations`, or
    test_annotations.json, which counts the answers.

    DataError names file and record. The other entries of an object go to `rest`.
    """
    question_id, image_id, kind, answers, majority = (
        array("q"),
        array("q"),
        array("b"),
        Interner(),
        Interner(),
    )
    majority.number = answers.number  # one table of strings for both
    for number, record in enumerate(records.read_list(source, "annotations", rest)):
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
            wanted = "{question_id, image_id, answer_type, multiple_choice_answer, answers: ten of {answer}}"
            raise bad_record(
                f"{source}: record {number}", record, "question_id", wanted, error
            ) from error
    ids = records.column(question_id, np.int64)
    check_ids(source, ids)
    columns = (
        records.column(image_id, np.int64),
        records.column(kind, np.int8),
        answers.finish(len(ids), PEOPLE),
        majority.finish(len(ids)),
    )
    return Annotations(str(source), ids, *columns)


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
        given = [answer for answer, count in record["answer_count"].items() for _ in range(count)]
        if len(given) > PEOPLE:
            raise ValueError(f"counts {len(given)} answers, more than {PEOPLE}")
    return given


def join(questions: Questions, annotations: Annotations) -> VqaSplit:
    """Every question with its annotation, by id. DataError names file and id where one has no
    partner, or another image."""
    at = positions(questions.question_id, annotations.question_id)
    for ids, missing, have, lack in (
        (questions.question_id, at < 0, questions.source, annotations.source),
        (
            annotations.question_id,
            positions(annotations.question_id, questions.question_id) < 0,
            annotations.source,
            questions.source,
        ),
    ):
        if missing.any():
            raise DataError(
                f"{lack}: has nothing for {missing.sum():,} of {len(ids):,} question_ids of {have}, first {ids[missing][0]}; "
                "give files that belong together"
            )
    image = annotations.image_id[at]
    differs = (image != questions.image_id) & (image >= 0)
    if differs.any():
        which = questions.question_id[differs][0]
        raise DataError(
            f"{annotations.source}: another image_id than {questions.source} for question_id {which} ({differs.sum():,} in all)"
        )
    columns = annotations.answer_type[at], annotations.answers[at], annotations.majority[at]
    return VqaSplit(questions.question_id, questions.image_id, questions.question, *columns)


def read_vqa_vs(root: Path) -> VqaVs:
    """Read the whole data set. DataError: a file is missing, a question is in two splits, or in an
    OOD set but not in the test."""
    bases = _bases(root)
    names = {split: f"{folder}/{folder}" for split, folder in FOLDERS.items()}
    sources = {
        name: find_source(bases, name)
        for stem in names.values()
        for name in (f"{stem}-Ques.json", f"{stem}-Ans.json")
    }
    extra = find_source(bases, "test_annotations.json")
    missing = [
        name
        for name, source in sources.items()
        if source is None and not (name.startswith("IID-Test/IID-Test-A") and extra)
    ]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of 6 files are missing: {', '.join(missing)}; {HOW_TO_GET}"
        )
    rest: dict[str, Any] = {}
    splits = {}
    for split, stem in names.items():
        answers = sources[f"{stem}-Ans.json"]
        annotations = read_annotations(answers) if answers else read_annotations(extra, rest)
        splits[split] = join(read_questions(sources[f"{stem}-Ques.json"]), annotations)
    _check_disjoint(root, splits)
    return VqaVs(**splits, member=_members(bases, splits["test"].question_id, extra, rest))


def files_of(root: Path) -> dict[str, Path]:
    """{name: file} of all that `read_vqa_vs` and `count_vocabulary` read, as far as it is there."""
    names = [
        f"{folder}/{folder}-{what}.json" for folder in FOLDERS.values() for what in ("Ques", "Ans")
    ]
    names += [f"OOD-Test/{name}/OOD-Test-{name}-Ques.json" for name in OOD_SETS]
    names += [
        "test_annotations.json",
        *(f"v2_mscoco_{part}2014_annotations.json" for part in ("train", "val")),
    ]
    found = {name: find_source((root, root / "data"), name) for name in names}
    return {name: source.path for name, source in found.items() if source is not None}


def has_folders(root: Path) -> bool:
    """Whether the training questions of the whole data set are there."""
    return find_source(_bases(root), "Training/Training-Ques.json") is not None


def _bases(root: Path) -> tuple[Path, ...]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {HOW_TO_GET}")
    return root, root / "data"


def _check_disjoint(root: Path, splits: dict[str, VqaSplit]) -> None:
    names = list(splits)
    for i, name in enumerate(names):
        for other in names[:i]:
            shared = np.intersect1d(splits[name].question_id, splits[other].question_id)
            if len(shared):
                raise DataError(
                    f"{root}: {other} and {name} share {len(shared):,} question_ids, first {shared[0]}; get the files again"
                )


def _members(
    bases: Sequence[Path], test_ids: np.ndarray, extra: Source | None, rest: dict[str, Any]
) -> np.ndarray:
    """bool [test, 9], from the sets' own files, else from the id lists of test_annotations.json."""
    member = np.zeros((len(test_ids), len(OOD_SETS)), bool)
    for place, name in enumerate(OOD_SETS):
        file = f"OOD-Test/{name}/OOD-Test-{name}-Ques.json"
        source = find_source(bases, file)
        if source is None and extra is not None and not rest:
            read_annotations(extra, rest)
        key = f"{name.replace('+', '')}_qid"
        if source is not None:
            ids = read_questions(source).question_id
        elif key in rest:
            source, ids = (
                Source(extra.path, f"{extra.member}[{key}]"),
                np.array(rest[key], np.int64),
            )
            check_ids(source, ids)
        else:
            raise DataError(
                f"{bases[0]}: no {file}, nor test_annotations.json with {key}; {HOW_TO_GET}"
            )
        at = positions(ids, test_ids)
        if (at < 0).any():
            raise DataError(
                f"{source}: {(at < 0).sum():,} of {len(ids):,} questions of OOD set {name} are not in the IID test, "
                f"first question_id {ids[at < 0][0]}; get the files again"
            )
        member[at, place] = True
    return member


def count_vocabulary(
    data: VqaVs, rule: str, root: Path | None = None, minimum: int = MINIMUM
) -> Vocabulary:
    """The vocabulary of a rule in RULES. `fiber` counts VQA v2's own files where `root` has them
    (v2_mscoco_{train,val}2014_annotations.json), else all of VQA-VS: the same questions, so the
    same answers under other labels.

    DataError where answers of test_annotations.json would be needed, which has no majority answers.
    """
    if rule not in RULES:
        raise SettingsError(f"vocabulary={rule!r} is unknown; choose one of {', '.join(RULES)}")
    if rule == "fiber" and root is not None:
        files = [
            find_source(_bases(root), f"v2_mscoco_{part}2014_annotations.json")
            for part in ("train", "val")
        ]
        if all(files):
            return build_vocabulary(
                (text for file in files for text in read_annotations(file).majority.texts()),
                minimum,
            )
    for split in RULES[rule].splits:
        lacking = (data.splits[split].majority.codes < 0).sum()
        if lacking:
            raise DataError(
                f"{split}: {lacking:,} questions have no majority answer, which vocabulary {rule} counts; add IID-Test-Ans.json or "
                "VQA v2's v2_mscoco_{train,val}2014_annotations.json, or choose the vocabulary `training`"
            )
    return build_vocabulary(
        (text for split in RULES[rule].splits for text in data.splits[split].majority.texts()),
        minimum,
    )


def find_images(root: Path, image_id: np.ndarray) -> np.ndarray:
    """int8 [n]: which of PARTS has each image, -1 where neither has; no field of VQA-VS says it.
    Each folder is listed once.

    DataError if neither folder exists.
    """
    image_id = np.asarray(image_id, np.int64)
    folders = [root / part for part in PARTS]
    if not any(folder.is_dir() for folder in folders):
        raise DataError(
            f"{root}: neither {PARTS[0]} nor {PARTS[1]} is there; unpack COCO 2014's images, or see {HOW_TO_GET}"
        )
    found = np.full(len(image_id), -1, np.int8)
    for part in reversed(range(len(PARTS))):
        start, end = f"COCO_{PARTS[part]}_", ".jpg"
        names = os.listdir(folders[part]) if folders[part].is_dir() else []
        digits = [
            name[len(start) : -len(end)]
            for name in names
            if name.startswith(start) and name.endswith(end)
        ]
        there = np.array(
            [int(number) for number in digits if len(number) == 12 and number.isdecimal()], np.int64
        )
        found[np.isin(image_id, there)] = part
    return found


def image_path(root: Path, image_id: np.ndarray) -> list[Path | None]:
    """The file of each image, None where there is none. Say `missing_images` of it: nothing takes
    the place of a missing image."""
    image_id = np.asarray(image_id, np.int64)
    parts = find_images(root, image_id)
    return [
        root / PARTS[part] / f"COCO_{PARTS[part]}_{number:012d}.jpg" if part >= 0 else None
        for part, number in zip(parts.tolist(), image_id.tolist(), strict=True)
    ]


def missing_images(image_id: np.ndarray, found: np.ndarray, first: int = 3) -> str:
    """'images: 2 of 940 missing: 57, 99' for ids [n] and whether each was found [n]; each image
    counts once."""
    missing, everything = np.unique(np.asarray(image_id)[~found]), np.unique(image_id)
    if not len(missing):
        return f"images: all {len(everything):,} found"
    named = ", ".join(map(str, missing[:first])) + ", ..." * (len(missing) > first)
    return f"images: {len(missing):,} of {len(everything):,} missing: {named}"
