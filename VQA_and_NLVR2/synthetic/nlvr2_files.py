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
SIDES = ("left", "right")
NUMBERS = ("one", "two", "three", "four")
FAMILIES = {
    "contains": 0.35,
    "contains_both": 0.15,
    "no": 0.15,
    "all": 0.15,
    "more": 0.1,
    "total": 0.1,
}  # shares of the sentences


def sentences() -> tuple[list[str], np.ndarray]:
    """Every sentence there is, in the order of `truths`, and its family [T]."""
    text, family = [], []

    def add(name: str, template: str, **words: Any) -> None:
        text.append(template.format(**words))
        family.append(list(FAMILIES).index(name))

    for side in SIDES:
        for s in SHAPES:
            add("contains", "The {side} image contains a {s}.", side=side, s=s)
        for c in COLORS:
            add("contains", "There is something {c} in the {side} image.", side=side, c=c)
        for s in SHAPES:
            for c in COLORS:
                add(
                    "contains_both",
                    "The {side} image contains {a} {c} {s}.",
                    side=side,
                    a=article(c),
                    c=c,
                    s=s,
                )
        for s in SHAPES:
            add("no", "There is no {s} in the {side} image.", side=side, s=s)
        for c in COLORS:
            add("no", "Nothing in the {side} image is {c}.", side=side, c=c)
        for c in COLORS:
            other = SIDES[side == "left"]
            add(
                "more",
                "There are more {c} things in the {side} image than in the {other} image.",
                c=c,
                side=side,
                other=other,
            )
    for s in SHAPES:
        add("all", "Both images contain a {s}.", s=s)
    for c in COLORS:
        add("all", "There is something {c} in both images.", c=c)
    for number in range(1, len(NUMBERS) + 1):
        for s in SHAPES:
            add(
                "total",
                "There are exactly {n} {p} in total.",
                n=NUMBERS[number - 1],
                p=plural(s) if number > 1 else s,
            )
    return text, np.array(family)


def truths(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Truth of every sentence for n pairs, given their counts [n, shapes, colours]: [n, T] bool."""
    parts = []
    for here, there in ((left, right), (right, left)):
        of_shape, of_color = here.sum(axis=2), here.sum(axis=1)
        parts += [
            of_shape > 0,
            of_color > 0,
            (here > 0).reshape(len(here), -1),
            of_shape == 0,
            of_color == 0,
        ]
        parts.append(of_color > there.sum(axis=1))
    parts += [(left.sum(axis) > 0) & (right.sum(axis) > 0) for axis in (2, 1)]
    total = (left + right).sum(axis=2)
    parts += [total == number for number in range(1, len(NUMBERS) + 1)]
    return np.concatenate(parts, axis=1)


class Groups(NamedTuple):
    """m groups of four pairs and the sentences about them; [:, 0] has one label for each pair, [:,
    1] the opposite ones."""

    scenes: Scenes  # of 8 m pictures: pair by pair, left and right
    # [m, 2, 2] index into sentences(); the last axis counts two for one pattern, -1 where there is
    # one only
    sentence: np.ndarray
    label: np.ndarray  # [m, 2, PAIRS] bool


def draw_groups(rng: np.random.Generator, m: int) -> Groups:
    """m groups, the second and fourth of every five with four sentences. Where none fit, the
    pictures are drawn again."""
    _, family = sentences()
    kept: list[Groups] = []
    places: list[np.ndarray] = []
    missing = np.arange(m)
    while len(missing):
        scenes = _scenes_with_palette(rng, len(missing))
        number = counts(scenes).reshape(len(missing) * PAIRS, 2, len(SHAPES), len(COLORS))
        truth = truths(number[:, 0], number[:, 1]).reshape(len(missing), PAIRS, len(family))
        sentence, label, fits = _choose(rng, truth, family, twice=missing % 5 % 2 == 1)
        kept.append(
            Groups(scenes.take(np.flatnonzero(fits.repeat(PAIRS * 2))), sentence[fits], label[fits])
        )
        places.append(missing[fits])
        missing = missing[~fits]
    order = np.argsort(np.concatenate(places))
    scenes = Scenes(
        *(np.concatenate(parts) for parts in zip(*(groups.scenes for groups in kept), strict=True))
    )
    pictures = (order[:, None] * PAIRS * 2 + np.arange(PAIRS * 2)).ravel()
    sentence, label = (
        np.concatenate([getattr(groups, name) for groups in kept])[order]
        for name in ("sentence", "label")
    )
    return Groups(scenes.take(pictures), sentence, label)


def _scenes_with_palette(rng: np.random.Generator, m: int) -> Scenes:
    """2 PAIRS m pictures, those of a group with PALETTE shapes and colours only."""
    scenes = draw_scenes(rng, m * PAIRS * 2, things=THINGS, tone=0.0)
    group = np.arange(m).repeat(PAIRS * 2)[:, None]
    shapes = rng.permuted(np.tile(np.arange(len(SHAPES)), (m, 1)), axis=1)
    colors = rng.permuted(np.tile(np.arange(len(COLORS)), (m, 1)), axis=1)
    shape = np.where(scenes.shape < 0, -1, shapes[group, scenes.shape % PALETTE])
    return scenes._replace(
        shape=shape, color=colors[group, rng.integers(PALETTE, size=shape.shape)]
    )


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
    enough = np.minimum(
        np.take_along_axis(available, pattern, 1), np.take_along_axis(available, opposite, 1)
    )
    usable = (truth.sum(axis=1) == PAIRS // 2) & (enough >= 1 + twice[:, None])
    row = np.arange(m)

    def pick(allowed: np.ndarray) -> np.ndarray:
        """One of the allowed sentences [m, T], families by their shares as far as they are there."""
        size = np.stack(
            [(allowed & (family == f)).sum(axis=1) for f in range(len(FAMILIES))], axis=1
        )
        weight = np.where(
            allowed, np.array(list(FAMILIES.values()))[family] / np.maximum(size[:, family], 1), 0
        )
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


def records(
    groups: Groups, split: str, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[str], np.ndarray]:
    """The lines of a split's JSON file; the names of the pictures below images/; and which of the
    groups' pictures each is."""
    text, _ = sentences()
    directories = max(1, min(DIRECTORIES, len(groups.label) // 4))
    lines, names, pictures = [], [], []
    number = 0
    for group, (sentence, label) in enumerate(
        zip(groups.sentence.tolist(), groups.label.tolist(), strict=True)
    ):
        directory = (
            group * directories // len(groups.label)
        )  # a group's pictures never lie in two of them
        folder = f"train/{directory}" if split == "train" else split
        if sentence[0][1] < 0:
            sets = [[(sentence[0][0], label[0]), (sentence[1][0], label[1])]]
        else:
            sets = [
                [(one, labels) for one in pair]
                for pair, labels in zip(sentence, label, strict=True)
            ]
        for copy, pairs in enumerate(sets):
            site = f"https://{('pictures', 'mirror')[copy]}.example.org/{split}"
            for pair in range(PAIRS):
                first = (group * PAIRS + pair) * 2
                names += [f"{folder}/{split}-{number}-{pair}-img{side}.png" for side in (0, 1)]
                pictures += [first, first + 1]
                for which, (index, labels) in enumerate(pairs):
                    line = {
                        "identifier": f"{split}-{number}-{pair}-{which}",
                        "sentence": text[index],
                        "label": str(labels[pair]),
                    }
                    line |= {
                        "left_url": f"{site}/{first}.jpg",
                        "right_url": f"{site}/{first + 1}.jpg",
                    }
                    lines.append(line | ({"directory": directory} if split == "train" else {}))
            number += 1
    _add_people(lines, split, rng)
    return lines, names, np.array(pictures)


def _add_people(lines: list[dict[str, Any]], split: str, rng: np.random.Generator) -> None:
    """Who wrote and who checked: writer, synset, query, validation and, but for train, four more
    judgements, some of them wrong."""
    worker = rng.integers(200, size=(len(lines), 6))
    agrees = rng.random((len(lines), 4)) < 0.93
    for line, (writer, checker, *others), right in zip(
        lines, worker.tolist(), agrees.tolist(), strict=True
    ):
        label = line["label"]
        line |= {"writer": str(writer), "validation": {str(checker): label}}
        line |= {
            "synset": "coloured shape",
            "query": f"group of coloured shapes{line['identifier'].split('-')[1]}",
        }
        if split != "train":
            wrong = str(label == "False")
            line["extra_validations"] = {
                str(w): label if r else wrong for w, r in zip(others, right, strict=True)
            }


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
