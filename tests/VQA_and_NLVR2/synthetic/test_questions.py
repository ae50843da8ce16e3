"""Synthetic scenes and VQA-VS: the published files, and what can be learned from text and image."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from i2m2.errors import SettingsError
from i2m2.training.data import read_description
from tests.VQA_and_NLVR2.conftest import MANY_SCENES as SCENES
from tests.VQA_and_NLVR2.tiny_scenes import SCENE, hashes, one_scene
from VQA_and_NLVR2.make_synthetic import main, make_synthetic
from VQA_and_NLVR2.synthetic.questions import (
    ANSWERS,
    OOD_SETS,
    ask,
    question_text,
    tails,
    true_answers,
)
from VQA_and_NLVR2.synthetic.scenes import (
    CELL,
    COLORS,
    RGB,
    SHAPES,
    SIDE,
    counts,
    draw,
    draw_scenes,
)
from VQA_and_NLVR2.vqa_vs.files import read_vqa_vs
from VQA_and_NLVR2.vqa_vs.images import PARTS, image_path

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


@pytest.mark.parametrize("dataset", ["vqa_vs", "nlvr2"])
def test_same_settings_give_the_same_bytes_and_another_seed_others(dataset, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_synthetic(tmp_path / name, dataset, 20, seed)
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    assert a == b
    assert not {value for key, value in a.items() if key.endswith((".jpg", ".png"))} & set(
        c.values()
    )


def test_every_thing_is_drawn_in_its_cell_in_its_colour_and_nowhere_else():
    picture = draw(SCENE, np.random.default_rng(0))[0].astype(int)
    assert picture.shape == (SIDE, SIDE, 3)
    empty = draw(one_scene(), np.random.default_rng(0))[0].astype(int)
    middle = CELL // 2
    for cell, color in ((0, "red"), (7, "blue")):
        y, x = cell // 4 * CELL + middle, cell % 4 * CELL + middle
        assert np.abs(picture[y - 1 : y + 1, x - 1 : x + 1] - RGB[COLORS.index(color)]).max() < 40
    changed = (
        (np.abs(picture - empty).max(axis=2) > 30)
        .reshape(4, CELL, 4, CELL)
        .sum(axis=(1, 3))
        .ravel()
    )
    assert {cell for cell in range(16) if changed[cell] > 20} == {0, 7, 13, 2}


def test_true_answers_of_a_scene_worked_by_hand():
    (answers,) = true_answers(SCENE)
    asked = np.flatnonzero(answers >= 0).tolist()
    truth = {question_text(i, 0): ANSWERS[answers[i]] for i in asked}
    expected = {
        "What color is the circle?": "red",
        "What color is the square?": "blue",
        "What shape is the blue thing?": "square",
        "What shape is the pink thing?": "ring",
        "Is there a red ring?": "yes",
        "Is there a blue ring?": "no",
        "How many red things are there?": "2",
        "How many rings are there?": "2",
        "How many crosses are there?": "0",
        "Is the circle big?": "yes",
        "Is the square big?": "no",
        "Where is the circle?": "top left",
        "Where is the square?": "top right",
        "What is the ground made of?": "sand",
        "What time of day is it?": "noon",
    }
    assert {text: truth[text] for text in expected} == expected
    ambiguous = (
        "What color is the ring?",
        "What shape is the red thing?",
        "Where is the cross?",
        "Is the ring big?",
    )
    assert not set(ambiguous) & set(truth)


def test_things_have_habits_only_where_asked_for():
    for habit, low, high in ((0.0, 0.0, 0.2), (0.45, 0.45, 0.6)):
        number = counts(draw_scenes(np.random.default_rng(0), 4000, habit=habit))
        assert (
            low
            < number[:, SHAPES.index("circle"), COLORS.index("red")].sum() / number[:, 0].sum()
            < high
        )


def test_no_question_is_asked_twice_of_a_scene_and_none_without_an_answer():
    scenes = draw_scenes(np.random.default_rng(0), 500)
    asked = ask(scenes, 6, np.random.default_rng(1))
    assert len(set(zip(asked.scene.tolist(), asked.candidate.tolist(), strict=True))) == 3000
    assert (
        asked.truth == true_answers(scenes)[asked.scene, asked.candidate]
    ).all() and asked.truth.min() >= 0


def test_tail_of_a_concept_worked_by_hand():
    concept = np.array([7] * 12 + [9] * 3)
    answer = np.array([0] * 7 + [1] * 2 + [2] + [1, 2] + [5] * 3)
    train = np.array([True] * 10 + [False] * 5)
    # Concept 7: 7, 2 and 1 of its 10 training questions, on average 3.3 for an answer; rare is less
    # than 0.6 times that: below 2.
    assert np.flatnonzero(tails(concept, answer, train)).tolist() == [9, 11]


def test_vqa_files_are_read_as_the_published_ones_and_every_image_is_there(vqa):
    data = read_vqa_vs(vqa)
    sizes = json.loads((vqa / "dataset.json").read_text())["examples"]
    assert [len(data.train), len(data.val), len(data.test)] == [
        sizes[name] for name in ("Training", "Val", "IID-Test")
    ]
    assert sum(map(len, data.splits.values())) == 4 * SCENES
    assert dict(zip(OOD_SETS, data.member.sum(axis=0).tolist(), strict=True)) == {
        name: sizes[name] for name in OOD_SETS
    }
    for split in data.splits.values():
        folders = {path.parent.name for path in image_path(vqa, split.image_id)}
        assert folders == set(PARTS)
        assert (split.question_id // 1000 == split.image_id).all()


def test_records_have_exactly_the_published_fields(vqa):
    question = json.loads((vqa / "IID-Test/IID-Test-Ques.json").read_text())[0]
    answer = json.loads((vqa / "IID-Test/IID-Test-Ans.json").read_text())[0]
    assert set(question) == {"image_id", "question", "question_id"}
    assert set(answer) == {
        "question_id",
        "image_id",
        "question_type",
        "answer_type",
        "multiple_choice_answer",
        "answers",
    }
    assert [set(given) for given in answer["answers"]] == [
        {"answer", "answer_confidence", "answer_id"}
    ] * 10
    assert [given["answer_id"] for given in answer["answers"]] == list(range(1, 11))


def test_annotations_and_questions_of_the_shared_slices_have_the_same_fields(vqa, nlvr2, shared):
    import gzip

    for name in ("Ques", "Ans"):
        with gzip.open(shared / f"data/vqa_vs/Val-slice-{name}.json.gz") as file:
            real = json.load(file)[0]
        ours = json.loads((vqa / f"Val/Val-{name}.json").read_text())[0]
        assert {key: type(value) for key, value in ours.items()} == {
            key: type(value) for key, value in real.items()
        }
    for split in ("dev", "test1"):
        with gzip.open(shared / f"data/nlvr2/{split}_first300.json.gz", "rt") as file:
            real = json.loads(file.readline())
        ours = json.loads((nlvr2 / f"{split}.json").read_text().splitlines()[0])
        assert {key: type(value) for key, value in ours.items()} == {
            key: type(value) for key, value in real.items()
        }


def test_people_disagree_write_capitals_and_some_questions_have_no_common_answer(vqa):
    annotations = json.loads((vqa / "Training/Training-Ans.json").read_text())
    given = [[answer["answer"] for answer in one["answers"]] for one in annotations]
    raw = {text for texts in given for text in texts}
    assert {"Yes", "don't know", "dont know", "two", "2"} <= raw
    majority = Counter(one["multiple_choice_answer"] for one in annotations)
    odd = sum(n for answer, n in majority.items() if n < 9 and answer not in ANSWERS)
    assert 0.005 < odd / len(annotations) < 0.03
    split = [len({text.lower() for text in texts}) > 1 for texts in given]
    assert 0.3 < np.mean(split) < 0.9
    both = zip(annotations, given, strict=True)
    agree = [texts.count(one["multiple_choice_answer"]) for one, texts in both]
    assert np.mean(np.array(agree) >= 4) > 0.9


def test_language_prior_holds_in_the_iid_test_and_breaks_in_every_ood_set(tmp_path):
    make_synthetic(tmp_path / "data", "vqa_vs", 1200)
    data = read_vqa_vs(tmp_path / "data")
    usual = defaultdict(Counter)
    train, test = (
        list(zip(split.question.texts(), split.majority.texts(), strict=True))
        for split in (data.train, data.test)
    )
    for question, answer in train:
        usual[question][answer] += 1
    guess = {question: counter.most_common(1)[0][0] for question, counter in usual.items()}
    right = np.array([guess.get(question) == answer for question, answer in test])
    assert right.mean() > 0.45
    for index, name in enumerate(OOD_SETS):
        member = data.member[:, index]
        assert 0.03 < member.mean() < 0.35, name
        assert right[member].mean() < right.mean() - 0.2, name


def test_described_as_synthetic(vqa, nlvr2):
    for folder in (vqa, nlvr2):
        facts = read_description(folder)
        assert (
            facts["synthetic"]
            and facts["variant"] == "synthetic"
            and facts["description"].startswith("SYNTHETIC")
        )


def test_mistakes_are_one_line_and_leave_nothing_behind(tmp_path, vqa):
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("")
    for arguments, said_of in (
        (["--dataset", "vqa_vs", "--out", str(full)], "not an empty folder"),
        (
            ["--dataset", "vqa_vs", "--out", str(tmp_path / "x"), "--sentences", "50"],
            "--sentences belongs to --dataset nlvr2",
        ),
        (
            ["--dataset", "nlvr2", "--out", str(tmp_path / "x"), "--sentences", "3"],
            "--sentences 3 must be 20..",
        ),
        (
            ["--dataset", "nlvr2", "--out", str(tmp_path / "x"), "--seed", "-1"],
            "--seed -1 must be 0..19999",
        ),
    ):
        with pytest.raises(SettingsError, match=re.escape(said_of)):
            main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
