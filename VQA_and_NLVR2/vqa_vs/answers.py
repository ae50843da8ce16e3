"""Answers as labels: the normaliser, the vocabulary, and the soft scores of each question's ten
answers.

Only the majority answer that the vocabulary is counted from is normalised; people's ten answers are
matched as they stand. That is the rule of the published code, and of the vocabulary sizes that are
published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.records import Interned

MINIMUM = 9  # questions with the same majority answer, for it to be in the vocabulary
MARKS = ';/[]"{}()=+\\_-><@`,?!'
_TEN = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0", "zero": "0"} | {
    word: str(number) for number, word in enumerate(_TEN, start=1)
}
ARTICLES = {"a", "an", "the"}
_DIGITS_WITH_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
# Full stops are deleted: the published code passes a flag (re.UNICODE) where the count goes.
_AT_MOST = 32
_SINGLE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
    how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock
    oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's
    something'd something'll that's there'd there're there's they'd they'll they're they've 'twas
    wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
    who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_DOUBLE = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've
    someone'd've something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've
    y'all'd've y'all'll
"""


def _contractions() -> dict[str, str]:
    """Word with one apostrophe missing -> the full form; and the published table's oddities."""
    table = {"somebody'd": "somebodyd"}
    table |= dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at")
    for full in (_SINGLE + _DOUBLE).split():
        for place in (match.start() for match in re.finditer("'", full)):
            table[full[:place] + full[place + 1 :]] = full
    return table


CONTRACTIONS = _contractions()


@lru_cache(maxsize=1 << 17)
def normalise(answer: str) -> str:
    """An answer in the form that the vocabulary holds: 'The  Frisbee.' -> 'frisbee', 'two' -> '2',
    'dont' -> "don't".

    The rule of the public code that the vocabulary of 3,129 answers comes from, its oddities
    included.
    """
    comma_in_number = _DIGITS_WITH_COMMA.search(answer) is not None
    text = answer
    for mark in MARKS:
        # Looked for in the answer as given, not as it is after the marks before.
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside_space or comma_in_number else " ")
    text = _FULL_STOP.sub("", text, count=_AT_MOST)
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    words = (CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
    return " ".join(words).replace(",", "")


@dataclass(frozen=True)
class Vocabulary:
    """The answers that a classifier can give; an answer's place is its label."""

    answers: tuple[str, ...]

    @cached_property
    def index(self) -> dict[str, int]:
        """{answer: label}."""
        return {answer: label for label, answer in enumerate(self.answers)}

    def __len__(self) -> int:
        return len(self.answers)

    def labels(self, answers: Iterable[str]) -> np.ndarray:
        """int32 [n]: label of each answer, -1 where it is not in the vocabulary."""
        return np.array([self.index.get(answer, -1) for answer in answers], np.int32)


class Rule(NamedTuple):
    """Which annotations a vocabulary is counted from, and how many answers are published for it."""

    splits: tuple[str, ...]
    published: int


# fiber: train and val of VQA v2, as FIBER and ViLT do. VQA-VS is another split of these very
# questions, so this vocabulary has seen the answers of its test questions; `training` (the rule of
# VQA-VS's own baselines) has not.
RULES = {"fiber": Rule(("train", "val", "test"), 3_129), "training": Rule(("train",), 2_486)}


def vocabulary_line(vocabulary: Vocabulary, rule: str) -> str:
    """'vocabulary fiber: 3,129 answers, as published'."""
    published = RULES[rule].published
    same = "as published"
    if len(vocabulary) != published:
        same = f"published: {published:,}, so the files counted are others"
    return f"vocabulary {rule}: {len(vocabulary):,} answers, {same}"


def count_answers(multiple_choice_answers: Iterable[str]) -> dict[str, int]:
    """{normalised answer: questions}, in order of first appearance."""
    counts: dict[str, int] = {}
    for answer, number in Counter(multiple_choice_answers).items():  # a Counter keeps the order too
        answer = normalise(answer)
        counts[answer] = counts.get(answer, 0) + number
    return counts


def build_vocabulary(multiple_choice_answers: Iterable[str], minimum: int = MINIMUM) -> Vocabulary:
    """Majority answers of at least `minimum` questions, in order of first appearance. DataError if
    there is none."""
    counts = count_answers(multiple_choice_answers)
    answers = tuple(answer for answer, number in counts.items() if number >= minimum)
    if not answers:
        raise DataError(
            f"no answer of {sum(counts.values()):,} questions occurs {minimum} times: "
            "the vocabulary would be empty"
        )
    return Vocabulary(answers)


# Score of an answer that 0, 1, 2 ... 10 of the ten people gave.
TRAINING = np.array([0, 0.3, 0.6, 0.9, *[1] * 7], np.float32)
OFFICIAL = np.minimum(1.0, np.arange(11) / 3)


class SoftLabels(NamedTuple):
    """Sparse scores of n questions: those of question i lie at offsets[i] : offsets[i + 1]."""

    offsets: np.ndarray  # int64 [n + 1]
    labels: np.ndarray  # int32, in order of first appearance among the ten answers
    scores: np.ndarray  # float32 (TRAINING) or float64 (OFFICIAL)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def score_of(self, predicted: np.ndarray) -> np.ndarray:
        """[n] scores of one predicted label per question; 0 for a label that nobody gave, and for
        -1."""
        row = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        hit = self.labels == np.asarray(predicted)[row]
        score = np.zeros(len(self), self.scores.dtype)
        score[row[hit]] = self.scores[hit]
        return score

    def take(self, rows: np.ndarray) -> SoftLabels:
        """The same of some questions, in the given order (integer positions)."""
        size = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(size)])
        at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[:-1][rows], size)
        return SoftLabels(offsets, self.labels[at], self.scores[at])


def soft_labels(
    answers: Interned | Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    table: np.ndarray = TRAINING,
) -> SoftLabels:
    """Labels and scores of [n] questions from the ten raw answers of each; answers outside the
    vocabulary are left out.

    `table`: score by number of people. A question none of whose answers is in the vocabulary gets
    no label.
    """
    answers = answers if isinstance(answers, Interned) else Interned.of(answers)
    codes = answers.codes.reshape(len(answers), -1)
    label = answers.look_up(vocabulary.index).reshape(codes.shape)
    count, first = counts_of(answers)
    chosen = first & (label >= 0)
    offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1, dtype=np.int64))])
    return SoftLabels(offsets, label[chosen], table[count[chosen]])


def counts_of(answers: Interned) -> tuple[np.ndarray, np.ndarray]:
    """-> int8 [n, 10], how many of a question's answers equal this one (0 where there is none);
    bool, whether it is the first."""
    codes = answers.codes.reshape(len(answers), -1)
    count, first = np.zeros(codes.shape, np.int8), codes >= 0
    for place in range(codes.shape[1]):
        same = codes == codes[:, place : place + 1]
        count += same
        first[:, place + 1 :] &= ~same[:, place + 1 :]
    count[codes < 0] = 0
    return count, first
