"""Questions about synthetic scenes, with people's answers, in the layout of VQA-VS.

What each part of I2M2 can learn here, and why the parts differ:

* The text alone: things have habits (circles are mostly red), people ask for what is there rather
  than for what is not, and some grounds and times of day are common. So the answer depends strongly
  on the question's type and key words, in every split.
* The image alone: every scene has a tone (a colour that many of its things share whatever their
  shape), one ground and one time of day. A classifier that knows no question can only guess which
  of these was asked for.
* The two without their interaction (intra): questions about the whole scene. The question tells
  what kind of answer is wanted, the image which one; no thing has to be found.
* The fusion (inter): which thing is meant, and what it is like. It could answer every question, but
  the backbone is frozen, and the pre-training of its fused vector read captions, which speak of
  things and their ground, not of the time of day (`UNSAID`). The image-only vector has it. That is
  why I2M2 is better than the fusion alone: its image and text experts say what the fused vector was
  not made for.

The nine OOD sets are the tail of the IID test: questions whose answer is rare in training given a
concept (`tails`). The habits fail there, but tone, ground and time still hold: what the image says
does not depend on the wording of the question. So the advantage of I2M2 over the fusion persists,
or grows.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from VQA_and_NLVR2.synthetic.scenes import (
    CELL,
    COLORS,
    GROUNDS,
    SHAPES,
    SIDE,
    TIMES,
    Scenes,
    article,
    counts,
    plural,
)

CORNERS = ("top left", "top right", "bottom left", "bottom right")
KINDS = {
    "yes": ("yes", "no"),
    "number": ("0", "1", "2", "3", "4", "5"),
    "color": COLORS,
    "shape": SHAPES,
    "ground": GROUNDS,
    "corner": CORNERS,
    "time": TIMES,
}
ANSWERS = tuple(itertools.chain.from_iterable(KINDS.values()))
FIRST = {kind: ANSWERS.index(words[0]) for kind, words in KINDS.items()}


class Family(NamedTuple):
    """A kind of question. In its templates {s}, {p}, {c}, {a} are a shape, its plural, a colour and
    the colour's article."""

    share: float  # of the questions drawn; a scene is asked each of them once
    kind: str  # of answers
    key: str  # the second key word where the template has one variable only
    phrasings: tuple[tuple[str, str], tuple[str, str]]  # (question type, question)


FAMILIES = {
    "color": Family(
        share=0.26,
        kind="color",
        key="color",
        phrasings=(
            ("what color is the", "What color is the {s}?"),
            ("what is the color of the", "What is the color of the {s}?"),
        ),
    ),
    "shape": Family(
        share=0.12,
        kind="shape",
        key="shape",
        phrasings=(
            ("what shape is", "What shape is the {c} thing?"),
            ("what is the", "What is the {c} thing?"),
        ),
    ),
    "exist": Family(
        share=0.10,
        kind="yes",
        key="",
        phrasings=(
            ("is there a", "Is there {a} {c} {s}?"),
            ("do you see a", "Do you see {a} {c} {s}?"),
        ),
    ),
    "count_color": Family(
        share=0.08,
        kind="number",
        key="many",
        phrasings=(
            ("how many", "How many {c} things are there?"),
            ("what number of", "What number of things are {c}?"),
        ),
    ),
    "count_shape": Family(
        share=0.07,
        kind="number",
        key="many",
        phrasings=(
            ("how many", "How many {p} are there?"),
            ("what number of", "What number of {p} do you see?"),
        ),
    ),
    "big": Family(
        share=0.04,
        kind="yes",
        key="big",
        phrasings=(("is the", "Is the {s} big?"), ("is this a", "Is this a big {s}?")),
    ),
    "where": Family(
        share=0.05,
        kind="corner",
        key="where",
        phrasings=(
            ("where is the", "Where is the {s}?"),
            ("none of the above", "In what corner is the {s}?"),
        ),
    ),
    "ground": Family(
        share=0.20,
        kind="ground",
        key="ground",
        phrasings=(
            ("what is the", "What is the ground made of?"),
            ("what is on the", "What is on the ground?"),
        ),
    ),
    "time": Family(
        share=0.08,
        kind="time",
        key="time",
        phrasings=(
            ("what time", "What time of day is it?"),
            ("when was", "When was this picture taken?"),
        ),
    ),
}
SECOND_PHRASING = 0.35  # probability
ASKED_FOR = 0.6  # share of `exist` questions whose answer is yes: people ask for what they see

# Families that captions do not speak of: left out of the pre-training of the fused vector.
UNSAID = ("time",)
OOD_SETS = ("QT", "KW", "KWP", "QT+KW", "KO", "KOP", "QT+KO", "KW+KO", "QT+KW+KO")
# An answer is in a concept's tail below this share of the mean count of its answers in training.
TAIL = 0.6


def _candidates() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Every question that can be asked of a scene: family [C], shape [C] and colour [C], -1 where
    it names none."""
    shapes, colors = range(len(SHAPES)), range(len(COLORS))
    rows = [("color", s, -1) for s in shapes] + [("shape", -1, c) for c in colors]
    rows += [("exist", s, c) for s in shapes for c in colors]
    rows += [("count_color", -1, c) for c in colors] + [("count_shape", s, -1) for s in shapes]
    rows += [("big", s, -1) for s in shapes] + [("where", s, -1) for s in shapes]
    rows += [("ground", -1, -1), ("time", -1, -1)]
    family, shape, color = zip(*rows, strict=True)
    return list(family), np.array(shape), np.array(color)


FAMILY, SHAPE, COLOR = _candidates()
FAMILY_INDEX = np.array([list(FAMILIES).index(name) for name in FAMILY])


def question_text(candidate: int, phrasing: int) -> str:
    """The words of a question."""
    template = FAMILIES[FAMILY[candidate]].phrasings[phrasing][1]
    s, c = SHAPES[SHAPE[candidate]], COLORS[COLOR[candidate]]
    return template.format(s=s, p=plural(s), c=c, a=article(c))


def all_texts() -> list[str]:
    """Every question there is, for the tokenizer's vocabulary."""
    candidates = range(len(FAMILY))
    return [question_text(candidate, phrasing) for phrasing in (0, 1) for candidate in candidates]


def true_answers(scenes: Scenes) -> np.ndarray:
    """The true answer to every candidate question: [n, C] index into ANSWERS, -1 where it cannot be
    asked."""
    number = counts(scenes)  # [n, S, K]
    of_shape, of_color = number.sum(axis=2), number.sum(axis=1)
    only_shape, only_color = of_shape == 1, of_color == 1
    n = len(number)
    is_shape = scenes.shape[:, None] == np.arange(len(SHAPES))[:, None]  # [n, S, SLOTS]
    slot = is_shape.argmax(axis=2)  # where the first of a shape is
    row = np.arange(n)[:, None]
    cell, big = scenes.cell[row, slot], scenes.big[row, slot]
    half, wide = SIDE // CELL // 2, SIDE // CELL
    corner = 2 * (cell // wide >= half) + (cell % wide >= half)
    yes, no = ANSWERS.index("yes"), ANSWERS.index("no")
    parts = {
        "color": np.where(only_shape, FIRST["color"] + number.argmax(axis=2), -1),
        "shape": np.where(only_color, FIRST["shape"] + number.argmax(axis=1), -1),
        "exist": np.where(number > 0, yes, no).reshape(n, -1),
        "count_color": FIRST["number"] + of_color,
        "count_shape": FIRST["number"] + of_shape,
        "big": np.where(only_shape, np.where(big, yes, no), -1),
        "where": np.where(only_shape, FIRST["corner"] + corner, -1),
        "ground": (FIRST["ground"] + scenes.ground)[:, None],
        "time": (FIRST["time"] + scenes.time)[:, None],
    }
    return np.concatenate(list(parts.values()), axis=1)


class Questions(NamedTuple):
    """n questions, the ones of a scene side by side."""

    scene: np.ndarray  # [n] row of the scenes
    candidate: np.ndarray  # [n] which question
    phrasing: np.ndarray  # [n] which words
    truth: np.ndarray  # [n] index into ANSWERS

    def take(self, rows: np.ndarray) -> Questions:
        """The questions of these rows."""
        return Questions(*(values[rows] for values in self))

    def texts(self) -> list[str]:
        """Their words."""
        return [question_text(c, p) for c, p in zip(self.candidate, self.phrasing, strict=True)]

    def types(self) -> list[str]:
        """Their question types: the first words."""
        asked = zip(self.candidate, self.phrasing, strict=True)
        return [FAMILIES[FAMILY[c]].phrasings[p][0] for c, p in asked]


def ask(
    scenes: Scenes, per_scene: int, rng: np.random.Generator, without: Collection[str] = ()
) -> Questions:
    """`per_scene` different questions about every scene, drawn by the families' shares, some
    families left out."""
    truth = true_answers(scenes)
    # [n, C]: a family, its questions with answer yes apart.
    group = 2 * FAMILY_INDEX + (truth == ANSWERS.index("yes"))
    eligible = truth >= 0
    size = np.zeros((len(truth), 2 * len(FAMILIES)))
    np.add.at(size, (np.nonzero(eligible)[0], group[eligible]), 1)
    shares = [0 if name in without else family.share for name, family in FAMILIES.items()]
    share = np.repeat(shares, 2)
    exist = 2 * list(FAMILIES).index("exist")
    share[exist], share[exist + 1] = share[exist] * (1 - ASKED_FOR), share[exist + 1] * ASKED_FOR
    alike = np.maximum(np.take_along_axis(size, group, axis=1), 1)
    weight = np.where(eligible, share[group] / alike, 0)
    # Gumbel's trick: the largest of log weight + noise is a draw without replacement.
    with np.errstate(divide="ignore"):
        key = np.log(weight) + rng.gumbel(size=weight.shape)
    candidate = np.sort(np.argpartition(-key, per_scene, axis=1)[:, :per_scene], axis=1).ravel()
    scene = np.arange(len(truth)).repeat(per_scene)
    phrasing = (rng.random(len(candidate)) < SECOND_PHRASING).astype(np.int64)
    return Questions(scene, candidate, phrasing, truth[scene, candidate])


def concepts(scenes: Scenes, questions: Questions) -> dict[str, np.ndarray]:
    """What each question may take a short cut by: {set: [n] number of the concept}.

    QT question type; KW key word; KWP both key words; KO key object: the shape of the scene's key
    thing; KOP: that of the two first things; their combinations.
    """
    type_names, qt = np.unique(questions.types(), return_inverse=True)
    s, c = SHAPE[questions.candidate], COLOR[questions.candidate]
    whole = -1 - (FAMILY_INDEX[questions.candidate] == list(FAMILIES).index("time"))
    word = np.where(s >= 0, s, whole)
    word = np.where(c >= 0, len(SHAPES) + c, word)  # the colour where there is one
    keys = [family.key for family in FAMILIES.values()]
    _, second = np.unique(keys, return_inverse=True)
    pair = np.where((c >= 0) & (s >= 0), 100 + s, second[FAMILY_INDEX[questions.candidate]])
    ko, other = scenes.shape[questions.scene, 0], scenes.shape[questions.scene, 1]
    single = {"QT": qt, "KW": word + 2, "KO": ko}
    made = {}
    for number in (1, 2, 3):
        for names in itertools.combinations(single, number):
            made["+".join(names)] = sum(single[name] * 1000**i for i, name in enumerate(names))
    made |= {"KWP": (word + 2) * 1000 + pair, "KOP": ko * 10 + other}
    return {name: made[name] for name in OOD_SETS}


def tails(concept: np.ndarray, answer: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Which questions have an answer that is rare given their concept: [n] bool.

    Rare: of the training questions with this concept fewer than TAIL times the mean count over
    their answers have it.
    """
    _, concept = np.unique(concept, return_inverse=True)
    count = np.zeros((concept.max() + 1, len(ANSWERS)))
    np.add.at(count, (concept[train], answer[train]), 1)
    mean = count.sum(axis=1) / np.maximum((count > 0).sum(axis=1), 1)
    return count[concept, answer] < TAIL * mean[concept]
