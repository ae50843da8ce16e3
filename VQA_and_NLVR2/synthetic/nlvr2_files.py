"""True and false sentences about pairs of synthetic scenes, in the layout of NLVR2, with nothing to
learn from one modality.

A set is four pairs of pictures. Each of its sentences is true of two pairs and false of two, and
each pair goes with as many true as false sentences. So whoever reads only the sentence, or only the
pair, is right in exactly half of the cases of every split. The sum of what the two say (intra) is
no better: with labels balanced over every sentence and over every pair, the gradient of the
likelihood at zero vanishes for any function of the sentence plus any function of the pair, and the
likelihood is concave, so that nothing beats the constant 1/2. All there is to learn lies in the
interaction.

Three in five groups of pictures make one set, whose two sentences have opposite labels: its pairs
are in the balanced subset. The others make two sets of the same pictures: two sentences that agree
on every pair (the unbalanced subset), then two with the opposite labels, the pictures found at
other addresses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from i2m2.files import write_text
from VQA_and_NLVR2.synthetic.scenes import (
    COLORS,
    SHAPES,
    Scenes,
    article,
    counts,
    draw,
    draw_scenes,
    plural,
    save_pictures,
)

SPLITS = {"train": 1.0, "dev": 0.15, "test1": 0.4}  # sentences, as multiples of train's
PAIRS = 4  # of a set
BALANCED = 0.6  # share of the groups of pictures that make one set: see `draw_groups`
DIRECTORIES = 100  # of train, at most
MISNAMED = 0.03  # share of pictures that are JPEG though their names say PNG
THINGS = (2, 4)  # fewest and most of a picture
PALETTE = 3  # shapes, and colours, of a set: NLVR2's sets have one topic each, too
NUMBERS = ("one", "two", "three", "four")
# Shares of the sentences.
FAMILIES = {
    "contains": 0.35,
    "contains_both": 0.15,
    "no": 0.15,
    "all": 0.15,
    "more": 0.1,
    "total": 0.1,
}


def sentences() -> tuple[list[str], np.ndarray]:
    """Every sentence there is, in the order of `truths`, and its family [T]."""
    named = [*_about_one_side("left"), *_about_one_side("right"), *_about_both()]
    family = [list(FAMILIES).index(name) for name, _ in named]
    return [text for _, text in named], np.array(family)


def _about_one_side(side: str) -> list[tuple[str, str]]:
    """(family, sentence)"""
    other = "right" if side == "left" else "left"
    made = [("contains", f"The {side} image contains a {s}.") for s in SHAPES]
    made += [("contains", f"There is something {c} in the {side} image.") for c in COLORS]
    for s in SHAPES:
        for c in COLORS:
            text = f"The {side} image contains {article(c)} {c} {s}."
            made.append(("contains_both", text))
    made += [("no", f"There is no {s} in the {side} image.") for s in SHAPES]
    made += [("no", f"Nothing in the {side} image is {c}.") for c in COLORS]
    more = f"things in the {side} image than in the {other} image."
    made += [("more", f"There are more {c} {more}") for c in COLORS]
    return made


def _about_both() -> list[tuple[str, str]]:
    """(family, sentence)"""
    made = [("all", f"Both images contain a {s}.") for s in SHAPES]
    made += [("all", f"There is something {c} in both images.") for c in COLORS]
    for number, word in enumerate(NUMBERS, start=1):
        things = [plural(s) if number > 1 else s for s in SHAPES]
        made += [("total", f"There are exactly {word} {name} in total.") for name in things]
    return made


def truths(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Truth of every sentence for n pairs, given their counts [n, shapes, colours]: [n, T] bool."""
    parts = []
    for this, other in ((left, right), (right, left)):
        shape, color = this.sum(axis=2), this.sum(axis=1)
        parts += [shape > 0, color > 0, (this > 0).reshape(len(this), -1), shape == 0, color == 0]
        parts.append(color > other.sum(axis=1))
    parts += [(left.sum(axis) > 0) & (right.sum(axis) > 0) for axis in (2, 1)]
    total = (left + right).sum(axis=2)
    parts += [total == number for number in range(1, len(NUMBERS) + 1)]
    return np.concatenate(parts, axis=1)


Line = dict[str, Any]  # an example, as JSON


class Groups(NamedTuple):
    """m groups of four pairs and the sentences about them; [:, 0] has one label for each pair, [:,
    1] the opposite ones."""

    scenes: Scenes  # of 8 m pictures: pair by pair, left and right
    # [m, 2, 2] index into sentences(); of two for one pattern the second is -1 where there is one.
    sentence: np.ndarray
    label: np.ndarray  # [m, 2, PAIRS] bool


def draw_groups(rng: np.random.Generator, m: int) -> Groups:
    """m groups, the second and fourth of every five with four sentences. Where none fit, the
    pictures are drawn again."""
    _, family = sentences()
    drawn: list[Groups] = []
    places: list[np.ndarray] = []
    missing = np.arange(m)
    while len(missing):
        scenes = _scenes_with_palette(rng, len(missing))
        number = counts(scenes).reshape(len(missing) * PAIRS, 2, len(SHAPES), len(COLORS))
        truth = truths(number[:, 0], number[:, 1]).reshape(len(missing), PAIRS, len(family))
        sentence, label, fits = _choose(rng, truth, family, twice=missing % 5 % 2 == 1)
        pictures = np.flatnonzero(fits.repeat(PAIRS * 2))
        drawn.append(Groups(scenes.take(pictures), sentence[fits], label[fits]))
        places.append(missing[fits])
        missing = missing[~fits]
    order = np.argsort(np.concatenate(places))
    columns = zip(*(groups.scenes for groups in drawn), strict=True)
    scenes = Scenes(*(np.concatenate(column) for column in columns))
    pictures = (order[:, None] * PAIRS * 2 + np.arange(PAIRS * 2)).ravel()
    sentence = np.concatenate([groups.sentence for groups in drawn])[order]
    label = np.concatenate([groups.label for groups in drawn])[order]
    return Groups(scenes.take(pictures), sentence, label)


def _scenes_with_palette(rng: np.random.Generator, m: int) -> Scenes:
    """2 PAIRS m pictures, those of a group with PALETTE shapes and colours only."""
    scenes = draw_scenes(rng, m * PAIRS * 2, things=THINGS, tone=0.0)
    group = np.arange(m).repeat(PAIRS * 2)[:, None]
    shapes = rng.permuted(np.tile(np.arange(len(SHAPES)), (m, 1)), axis=1)
    colors = rng.permuted(np.tile(np.arange(len(COLORS)), (m, 1)), axis=1)
    shape = np.where(scenes.shape < 0, -1, shapes[group, scenes.shape % PALETTE])
    color = colors[group, rng.integers(PALETTE, size=shape.shape)]
    return scenes._replace(shape=shape, color=color)


def _choose(
    rng: np.random.Generator, truth: np.ndarray, family: np.ndarray, twice: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sentences for each group, given their truth [m, PAIRS, T]; two for a pattern where `twice`
    [m].

    -> sentences [m, 2, 2] and labels [m, 2, PAIRS] as in `Groups`, and which groups have what they
    need [m].
    """
    m = len(truth)
    pattern = (truth << np.arange(PAIRS)[:, None]).sum(axis=1)  # [m, T]
    opposite = 2**PAIRS - 1 - pattern
    available = np.zeros((m, 2**PAIRS), np.int64)
    np.add.at(available, (np.arange(m).repeat(pattern.shape[1]), pattern.ravel()), 1)
    these, others = (np.take_along_axis(available, p, 1) for p in (pattern, opposite))
    enough = np.minimum(these, others)
    usable = (truth.sum(axis=1) == PAIRS // 2) & (enough >= 1 + twice[:, None])
    row = np.arange(m)

    def pick(allowed: np.ndarray) -> np.ndarray:
        """One of the allowed sentences [m, T], families by their shares as far as they are
        there."""
        families = range(len(FAMILIES))
        size = np.stack([(allowed & (family == f)).sum(axis=1) for f in families], axis=1)
        share = np.array(list(FAMILIES.values()))[family] / np.maximum(size[:, family], 1)
        weight = np.where(allowed, share, 0)
        with np.errstate(divide="ignore"):
            return (np.log(weight) + rng.gumbel(size=weight.shape)).argmax(axis=1)

    first = pick(usable)
    chosen = []
    for wanted in (pattern[row, first], opposite[row, first]):
        same = pattern == wanted[:, None]
        one = pick(same)
        same[row, one] = False
        chosen.append(np.stack([one, np.where(twice, pick(same), -1)], axis=1))
    label = truth[row, :, chosen[0][:, 0]]
    return np.stack(chosen, axis=1), np.stack([label, ~label], axis=1), usable.any(axis=1)


class Written(NamedTuple):
    """A split's files."""

    lines: list[Line]  # of its JSON file
    names: list[str]  # of the pictures below images/
    pictures: np.ndarray  # which of the groups' pictures each is


def records(groups: Groups, split: str, rng: np.random.Generator) -> Written:
    """The examples and pictures of a split."""
    text, _ = sentences()
    size = len(groups.label)
    directories = max(1, min(DIRECTORIES, size // 4))
    lines: list[Line] = []
    names: list[str] = []
    pictures: list[int] = []
    number = 0
    of_groups = zip(groups.sentence.tolist(), groups.label.tolist(), strict=True)
    for group, (sentence, label) in enumerate(of_groups):
        directory = group * directories // size  # a group's pictures never lie in two of them
        in_directory = {"directory": directory} if split == "train" else {}
        folder = f"train/{directory}" if split == "train" else split
        for copy, stated in enumerate(_sets_of(sentence, label)):
            site = f"https://{('pictures', 'mirror')[copy]}.example.org/{split}"
            for pair in range(PAIRS):
                first = (group * PAIRS + pair) * 2
                stem = f"{split}-{number}-{pair}"
                names += [f"{folder}/{stem}-img{side}.png" for side in (0, 1)]
                pictures += [first, first + 1]
                urls = {
                    "left_url": f"{site}/{first}.jpg",
                    "right_url": f"{site}/{first + 1}.jpg",
                }
                for which, (index, labels) in enumerate(stated):
                    line = {"identifier": f"{stem}-{which}", "sentence": text[index]}
                    lines.append(line | {"label": str(labels[pair])} | urls | in_directory)
            number += 1
    _add_people(lines, split, rng)
    return Written(lines, names, np.array(pictures))


def _sets_of(
    sentence: list[list[int]], label: list[list[bool]]
) -> list[list[tuple[int, list[bool]]]]:
    """A group's sets of (sentence, its labels): one set of opposite labels, or one for each
    pattern."""
    (one, second), (opposite, _) = sentence
    if second < 0:
        return [[(one, label[0]), (opposite, label[1])]]
    pairs = zip(sentence, label, strict=True)
    return [[(index, labels) for index in both] for both, labels in pairs]


def _add_people(lines: list[Line], split: str, rng: np.random.Generator) -> None:
    """Who wrote and who checked: writer, synset, query, validation and, but for train, four more
    judgements, some of them wrong."""
    worker = rng.integers(200, size=(len(lines), 6)).tolist()
    agrees = (rng.random((len(lines), 4)) < 0.93).tolist()
    for line, (writer, checker, *others), right in zip(lines, worker, agrees, strict=True):
        label, number = line["label"], line["identifier"].split("-")[1]
        line |= {"writer": str(writer), "validation": {str(checker): label}}
        line |= {"synset": "coloured shape", "query": f"group of coloured shapes{number}"}
        if split != "train":
            wrong = str(label == "False")
            judged = zip(others, right, strict=True)
            line["extra_validations"] = {str(w): label if r else wrong for w, r in judged}


def write_nlvr2(folder: Path, number: int, seed: int) -> dict[str, int]:
    """Write about `number` training sentences and what belongs to them into `folder`: {split:
    examples}."""
    sizes = {}
    for index, (split, share) in enumerate(SPLITS.items()):
        rng = np.random.default_rng((seed, index))
        groups = draw_groups(rng, max(2, round(number * share / (4 - 2 * BALANCED))))
        lines, names, pictures = records(groups, split, rng)
        paths = [folder / "images" / name for name in names]
        for parent in {path.parent for path in paths}:
            parent.mkdir(parents=True, exist_ok=True)
        jpeg = rng.random(len(groups.scenes.ground)) < MISNAMED
        save_pictures(paths, draw(groups.scenes, rng)[pictures], jpeg[pictures])
        write_text(folder / f"{split}.json", "".join(json.dumps(line) + "\n" for line in lines))
        sizes[split] = len(lines)
    return sizes
