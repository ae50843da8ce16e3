"""Synthetic questions with ten people's answers each, written as VQA-VS publishes them, and their
pictures as COCO's.

Quirks of the real files that a reader has to stand: people disagree, write capitals, leave out
apostrophes and spell numbers; some questions have no answer that anybody else gives; a picture's
name says train2014 or val2014, whatever split its questions are in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from i2m2.files import write_json
from VQA_and_NLVR2.synthetic.questions import (
    ANSWERS,
    FAMILIES,
    FAMILY_INDEX,
    FIRST,
    KINDS,
    OOD_SETS,
    Questions,
    ask,
    concepts,
    tails,
)
from VQA_and_NLVR2.synthetic.scenes import draw, draw_scenes, save_pictures

Record = dict[str, Any]  # as JSON

QUESTIONS_PER_SCENE = 4
SPLITS = {"Training": 0.70, "Val": 0.05, "IID-Test": 0.25}  # shares of the questions, as published
HABIT, TONE = 0.45, 0.3  # see `draw_scenes`
PEOPLE = 10
HARD = 0.2  # share of hard questions
AGREE, AGREE_HARD = 0.96, 0.6  # probability that a person is right, ordinary and hard questions
CAPITAL, DONT_KNOW, SPELLED = 0.04, 0.01, 0.1  # shares of single answers
ODD = 0.015  # share of questions whose answers are nobody else's
LARGEST_ID = 581_929  # of COCO 2014
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five")
ODD_WORDS = (
    (
        "old", "tiny", "broken", "second", "hidden", "wet", "folded", "quiet", "crooked", "plastic",
        "paper", "empty", "rusty",
    ),
    (
        "hat", "kite", "door", "lamp", "boat", "spoon", "fence", "shoe", "ladder", "basket",
        "clock", "pillow", "bridge", "candle",
    ),
    ("on left", "on right", "behind", "in front", "upside down", "far away", "maybe"),
)  # fmt: skip


def people_answers(questions: Questions, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What ten people write to each question [n, 10], and the majority's answer, spelled plainly
    [n]: two arrays of strings."""
    n = len(questions.truth)
    code = _given(questions, rng)
    votes = np.zeros((n, len(ANSWERS)), np.int64)
    np.add.at(votes, (np.arange(n).repeat(PEOPLE), code.ravel()), 1)
    votes[np.arange(n), questions.truth] += 1  # breaks ties
    plain = np.array(ANSWERS, object)
    majority, text = plain[votes.argmax(axis=1)], plain[code]
    spelled = np.array([*ANSWERS[:2], *NUMBER_WORDS, *ANSWERS[8:]], object)
    assert ANSWERS[2:8] == KINDS["number"]
    capital = np.array([word.capitalize() for word in ANSWERS], object)
    kind = rng.random((n, PEOPLE))
    text = np.where(kind < SPELLED, spelled[code], text)
    text = np.where(kind > 1 - CAPITAL, capital[code], text)
    unknown = rng.random((n, PEOPLE)) < DONT_KNOW
    dont_know = np.array(["don't know", "dont know"], object)
    text = np.where(unknown, dont_know[rng.integers(0, 2, (n, PEOPLE))], text)
    odd = np.flatnonzero(rng.random(n) < ODD)
    words = [rng.choice(some, len(odd)) for some in ODD_WORDS]
    phrases = np.array([" ".join(three) for three in zip(*words, strict=True)], object)
    majority[odd], text[odd] = phrases, phrases[:, None]
    return text, majority


def _given(questions: Questions, rng: np.random.Generator) -> np.ndarray:
    """Which answer each of ten people has in mind: [n, 10] index into ANSWERS."""
    n, family = len(questions.truth), FAMILY_INDEX[questions.candidate]
    kinds = [one.kind for one in FAMILIES.values()]
    first = np.array([FIRST[kind] for kind in kinds])[family]
    size = np.array([len(KINDS[kind]) for kind in kinds])[family]
    drawn = rng.random((n, PEOPLE))
    agree = np.where(rng.random(n) < HARD, AGREE_HARD, AGREE)
    other = first[:, None] + rng.integers(0, size[:, None], (n, PEOPLE))
    return np.where(drawn < agree[:, None], questions.truth[:, None], other)


def write_vqa_vs(folder: Path, scenes: int, seed: int) -> dict[str, int]:
    """Write everything about `scenes` pictures into `folder`: {set: questions}."""
    rng = np.random.default_rng((seed, 0))
    drawn = draw_scenes(rng, scenes, habit=HABIT, tone=TONE)
    questions = ask(drawn, QUESTIONS_PER_SCENE, rng)
    image_id = np.sort(rng.choice(np.arange(1, LARGEST_ID), scenes, replace=False))
    _write_pictures(folder, image_id, draw(drawn, rng), rng)
    split = rng.choice(len(SPLITS), len(questions.scene), p=list(SPLITS.values()))
    split[: len(SPLITS)] = np.arange(len(SPLITS))  # none is empty
    text, majority = people_answers(questions, rng)
    owner = image_id[questions.scene]
    ids = owner * 1000 + np.arange(len(owner)) % QUESTIONS_PER_SCENE
    asked = _question_records(questions, owner, ids)
    answered = _answer_records(questions, owner, ids, text, majority, rng)
    sizes = {}
    for index, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == index).tolist()
        sizes[name] = len(rows)
        write_json(folder / name / f"{name}-Ques.json", [asked[row] for row in rows])
        write_json(folder / name / f"{name}-Ans.json", [answered[row] for row in rows])
    train, test = (split == list(SPLITS).index(name) for name in ("Training", "IID-Test"))
    for name, concept in concepts(drawn, questions).items():
        rows = np.flatnonzero(test & tails(concept, questions.truth, train)).tolist()
        sizes[name] = len(rows)
        write_json(
            folder / "OOD-Test" / name / f"OOD-Test-{name}-Ques.json", [asked[row] for row in rows]
        )
    assert set(OOD_SETS) < set(sizes)
    return sizes


def _write_pictures(
    folder: Path, image_id: np.ndarray, pictures: np.ndarray, rng: np.random.Generator
) -> None:
    parts = np.where(rng.random(len(image_id)) < 2 / 3, "train2014", "val2014")
    for part in ("train2014", "val2014"):
        (folder / part).mkdir(parents=True)
    named = zip(parts, image_id.tolist(), strict=True)
    paths = [folder / part / f"COCO_{part}_{number:012d}.jpg" for part, number in named]
    save_pictures(paths, pictures, np.ones(len(paths), bool))


def _question_records(questions: Questions, owner: np.ndarray, ids: np.ndarray) -> list[Record]:
    columns = zip(owner.tolist(), questions.texts(), ids.tolist(), strict=True)
    return [
        {"image_id": image, "question": text, "question_id": number}
        for image, text, number in columns
    ]


def _answer_records(
    questions: Questions,
    owner: np.ndarray,
    ids: np.ndarray,
    text: np.ndarray,
    majority: np.ndarray,
    rng: np.random.Generator,
) -> list[Record]:
    kinds = {"yes": "yes/no", "number": "number"}
    kind = [kinds.get(family.kind, "other") for family in FAMILIES.values()]
    sure = rng.choice(np.array(["yes", "maybe", "no"], object), text.shape, p=[0.85, 0.12, 0.03])
    types, family = questions.types(), FAMILY_INDEX[questions.candidate]
    made = []
    for row, number in enumerate(ids.tolist()):
        record = {"question_type": types[row], "multiple_choice_answer": majority[row]}
        record["answers"] = _people(text[row].tolist(), sure[row].tolist())
        record |= {"image_id": int(owner[row]), "answer_type": kind[family[row]]}
        made.append(record | {"question_id": number})
    return made


def _people(answers: list[str], confidences: list[str]) -> list[Record]:
    """The answers to a question, as published."""
    both = zip(answers, confidences, strict=True)
    return [
        {"answer": answer, "answer_confidence": confidence, "answer_id": person}
        for person, (answer, confidence) in enumerate(both, start=1)
    ]
