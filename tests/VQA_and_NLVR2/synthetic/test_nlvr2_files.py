"""Synthetic NLVR2: the published files, and nothing to learn from one modality."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from tests.VQA_and_NLVR2.tiny_scenes import SCENE
from VQA_and_NLVR2.nlvr2.files import balance, coverage, read_nlvr2
from VQA_and_NLVR2.nlvr2.files import image_path as nlvr2_image_path
from VQA_and_NLVR2.synthetic import nlvr2_files as synthetic_nlvr2
from VQA_and_NLVR2.synthetic.scenes import (
    COLORS,
    SHAPES,
    counts,
    draw_scenes,
)
from VQA_and_NLVR2.synthetic.statements import statement_truths, statements

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


def test_nlvr2_files_are_read_as_the_published_ones_and_every_image_is_there(nlvr2):
    for split in synthetic_nlvr2.SPLITS:
        sentences = read_nlvr2(nlvr2 / f"{split}.json")
        left, right = nlvr2_image_path(nlvr2 / "images", sentences)
        assert None not in left and None not in right and len(coverage(sentences, left, right)) == 1
        if split == "train":
            assert len(np.unique(sentences.directory)) > 1
            assert all(
                path.parent.name == str(d)
                for path, d in zip(left, sentences.directory.tolist(), strict=True)
            )
        balanced, unbalanced = balance(sentences)
        assert balanced.any() and unbalanced.any() and (balanced ^ unbalanced).all()


def test_some_nlvr2_pictures_are_jpeg_though_their_names_say_png(nlvr2):
    kinds = Counter(Image.open(path).format for path in nlvr2.glob("images/*/**/*.png"))
    assert set(kinds) == {"PNG", "JPEG"} and kinds["JPEG"] < 0.1 * kinds["PNG"]


@pytest.mark.parametrize("split", ["train", "dev", "test1"])
def test_every_sentence_and_every_pair_of_pictures_is_true_as_often_as_false(nlvr2, split):
    lines = [json.loads(line) for line in (nlvr2 / f"{split}.json").read_text().splitlines()]
    by_sentence, by_pair = defaultdict(list), defaultdict(list)
    for line in lines:
        true = line["label"] == "True"
        stem = line["identifier"].rpartition("-")[0]
        folder = nlvr2 / "images" / (f"train/{line['directory']}" if split == "train" else split)
        pixels = tuple((folder / f"{stem}-img{side}.png").read_bytes() for side in (0, 1))
        by_sentence[line["sentence"]].append(true)
        by_pair[pixels].append(true)
    for labels in (*by_sentence.values(), *by_pair.values()):
        assert sum(labels) * 2 == len(labels)
    balanced_urls = defaultdict(set)
    for line in lines:
        balanced_urls[line["left_url"], line["right_url"]].add(line["label"])
    assert {len(labels) for labels in balanced_urls.values()} == {1, 2}


def test_no_sum_of_a_score_of_the_sentence_and_one_of_the_pair_fits_the_labels(nlvr2):
    lines = [json.loads(line) for line in (nlvr2 / "train.json").read_text().splitlines()]
    # Twin sets show the same pictures at other addresses: the address of the twin is that of its
    # original.
    rows = [[line["sentence"], line["left_url"].rpartition("/")[2]] for line in lines]
    y = [line["label"] == "True" for line in lines]
    x = OneHotEncoder().fit_transform(rows)
    model = LogisticRegression(C=1e3, fit_intercept=False).fit(x, y)
    assert np.abs(model.coef_).max() < 1e-6  # the best of them says 1/2


def is_true(sentence: str, left: Counter, right: Counter) -> bool:
    """Truth of a sentence, read word by word; the counters hold (shape, colour) pairs."""
    words = re.findall(r"\w+", sentence.lower())
    shapes = [s for s in SHAPES if {s, s + "s", s + "es"} & set(words)]
    colors = [word for word in words if word in COLORS]

    def number(things: Counter) -> int:
        spoken_of = [
            (s, c) for s, c in things if s in (shapes or [s])[:1] and c in (colors or [c])[:1]
        ]
        return sum(things[thing] for thing in spoken_of)

    here, there = number(left), number(right)
    if "total" in words:
        return here + there == next(NUMBERS[word] for word in words if word in NUMBERS)
    if "both" in words:
        return here > 0 and there > 0
    if next(word for word in words if word in ("left", "right")) == "right":
        here, there = there, here
    if "more" in words:
        return here > there
    return (here == 0) == ("no" in words or "nothing" in words)


def things_of(number: np.ndarray) -> Counter:
    """[shapes, colours] -> how many of each (shape, colour) there are."""
    present = zip(*np.nonzero(number), strict=True)
    return Counter({(SHAPES[s], COLORS[c]): int(number[s, c]) for s, c in present})


def test_truth_of_every_sentence_agrees_with_reading_it_word_by_word():
    scenes = draw_scenes(np.random.default_rng(0), 40, things=(2, 4))
    number = counts(scenes)
    text, _ = synthetic_nlvr2.sentences()
    truth = synthetic_nlvr2.truths(number[:20], number[20:])
    things = [things_of(one) for one in number]
    assert len(set(text)) == len(text) == truth.shape[1]
    for pair in range(20):
        left, right = things[pair], things[20 + pair]
        for sentence, true in zip(text, truth[pair], strict=True):
            assert is_true(sentence, left, right) == true, sentence


def test_truth_of_every_statement_agrees_with_reading_it_word_by_word():
    number = counts(SCENE)
    things = things_of(number[0])
    for statement, true in zip(statements(), statement_truths(number)[0], strict=True):
        assert is_true(statement, things, things) == true
