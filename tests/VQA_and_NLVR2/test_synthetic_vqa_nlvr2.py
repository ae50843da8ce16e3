"""Synthetic VQA-VS and NLVR2: the published formats, a signal that is where it should be, the tiny
tokenizer and pre-training."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from i2m2.errors import DataError, SettingsError
from i2m2.training.data import read_description
from VQA_and_NLVR2 import pretrain_tiny
from VQA_and_NLVR2.backbones.base import BackboneSettings, build_backbone
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, make_tiny_tokenizer, tokenize
from VQA_and_NLVR2.make_synthetic import main, make_synthetic
from VQA_and_NLVR2.nlvr2.files import balance, coverage, read_nlvr2
from VQA_and_NLVR2.nlvr2.files import image_path as nlvr2_image_path
from VQA_and_NLVR2.synthetic import nlvr2_files as synthetic_nlvr2
from VQA_and_NLVR2.synthetic.questions import (
    ANSWERS,
    FAMILY,
    OOD_SETS,
    all_texts,
    ask,
    question_text,
    statement_truths,
    statements,
    tails,
    true_answers,
)
from VQA_and_NLVR2.synthetic.scenes import (
    CELL,
    COLORS,
    GROUNDS,
    RGB,
    SHAPES,
    SIDE,
    TIMES,
    Scenes,
    counts,
    draw,
    draw_scenes,
)
from VQA_and_NLVR2.vqa_vs.files import find_images, read_vqa_vs

SCENES, SENTENCES = 300, 60
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


@pytest.fixture(scope="module")
def vqa(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("vqa") / "data"
    make_synthetic(out, "vqa_vs", SCENES)
    return out


@pytest.fixture(scope="module")
def nlvr2(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("nlvr2") / "data"
    make_synthetic(out, "nlvr2", SENTENCES)
    return out


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def one_scene(
    *things: tuple[str, str, bool, int], ground: str = "sand", time: str = "noon"
) -> Scenes:
    """A scene of (shape, colour, big, cell)."""
    shape, color, big, cell = (
        np.full((1, 5), -1),
        np.zeros((1, 5), int),
        np.zeros((1, 5), bool),
        np.arange(11, 16)[None].copy(),
    )
    for slot, (s, c, b, where) in enumerate(things):
        shape[0, slot], color[0, slot], big[0, slot], cell[0, slot] = (
            SHAPES.index(s),
            COLORS.index(c),
            b,
            where,
        )
    return Scenes(
        shape, color, big, cell, np.array([GROUNDS.index(ground)]), np.array([TIMES.index(time)])
    )


SCENE = one_scene(
    ("circle", "red", True, 0),
    ("square", "blue", False, 7),
    ("ring", "red", False, 13),
    ("ring", "pink", False, 2),
)


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
    truth = {
        question_text(i, 0): ANSWERS[answer]
        for i, answer in enumerate(true_answers(SCENE)[0])
        if answer >= 0
    }
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
        parts = find_images(vqa, split.image_id)
        assert set(parts.tolist()) == {0, 1}  # both of COCO's folders
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
    odd = [
        one
        for one in annotations
        if majority[one["multiple_choice_answer"]] < 9
        and one["multiple_choice_answer"] not in ANSWERS
    ]
    assert 0.005 < len(odd) / len(annotations) < 0.03
    split = [len({text.lower() for text in texts}) > 1 for texts in given]
    assert 0.3 < np.mean(split) < 0.9
    agree = [
        sum(text == one["multiple_choice_answer"] for text in texts)
        for one, texts in zip(annotations, given, strict=True)
    ]
    assert np.mean(np.array(agree) >= 4) > 0.9


def test_language_prior_holds_in_the_iid_test_and_breaks_in_every_ood_set(tmp_path):
    make_synthetic(tmp_path / "data", "vqa_vs", 1200)
    data = read_vqa_vs(tmp_path / "data")
    usual = defaultdict(Counter)
    for question, answer in zip(
        data.train.question.texts(), data.train.majority.texts(), strict=True
    ):
        usual[question][answer] += 1
    right = np.array(
        [
            bool(usual[question]) and usual[question].most_common(1)[0][0] == answer
            for question, answer in zip(
                data.test.question.texts(), data.test.majority.texts(), strict=True
            )
        ]
    )
    assert right.mean() > 0.45
    for index, name in enumerate(OOD_SETS):
        member = data.member[:, index]
        assert 0.03 < member.mean() < 0.35, name
        assert right[member].mean() < right.mean() - 0.2, name


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


def said(sentence: str, left: Counter, right: Counter) -> bool:
    """Truth of a sentence, read word by word; the counters hold (shape, colour) pairs."""
    words = re.findall(r"\w+", sentence.lower())
    shapes = [s for word in words for s in SHAPES if word in (s, s + "s", s + "es")]
    colors = [word for word in words if word in COLORS]

    def number(things: Counter) -> int:
        return sum(
            n
            for (s, c), n in things.items()
            if (not shapes or s == shapes[0]) and (not colors or c == colors[0])
        )

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


def test_truth_of_every_sentence_agrees_with_reading_it_word_by_word():
    scenes = draw_scenes(np.random.default_rng(0), 40, things=(2, 4))
    number = counts(scenes)
    text, _ = synthetic_nlvr2.sentences()
    truth = synthetic_nlvr2.truths(number[:20], number[20:])
    things = [
        Counter(
            {(SHAPES[s], COLORS[c]): int(one[s, c]) for s, c in zip(*np.nonzero(one), strict=True)}
        )
        for one in number
    ]
    assert len(set(text)) == len(text) == truth.shape[1]
    for pair in range(20):
        left, right = things[pair], things[20 + pair]
        wrong = [
            sentence
            for sentence, true in zip(text, truth[pair], strict=True)
            if said(sentence, left, right) != true
        ]
        assert not wrong


def test_truth_of_every_statement_agrees_with_reading_it_word_by_word():
    number = counts(SCENE)
    things = Counter(
        {(SHAPES[s], COLORS[c]): 1 for s, c in zip(*np.nonzero(number[0]), strict=True)}
    )
    for statement, true in zip(statements(), statement_truths(number)[0], strict=True):
        assert said(statement, things, things) == true


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


def test_tiny_tokenizer_is_laid_out_like_robertas_and_survives_its_folder(tmp_path):
    make_tiny_tokenizer(["Is there a ring?", "a red ring"]).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    # By hand: <s> <pad> </s> <unk>, then ? a is red ring there, then <mask>.
    assert tokenizer("is THERE a blue ring?")["input_ids"] == [0, 6, 9, 5, 3, 8, 4, 2]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, len(tokenizer)) == (1, 10, 11)


def test_tokenize_pads_masks_counts_what_it_cuts_and_keeps_the_end(tmp_path):
    tokenizer = make_tiny_tokenizer(["a red ring"])  # a 4, red 5, ring 6
    ids, mask, cut = tokenize(tokenizer, ["a ring", "a red ring", "a ring"], 4)
    assert ids.tolist() == [[0, 4, 6, 2], [0, 4, 5, 2], [0, 4, 6, 2]] and cut == 1
    ids, mask, cut = tokenize(tokenizer, ["a ring", "a red ring"], 6)
    assert ids.tolist() == [[0, 4, 6, 2, 1, 1], [0, 4, 5, 6, 2, 1]] and cut == 0
    assert ids.dtype == np.int32 and mask.dtype == bool and (mask == (ids != 1)).all()
    with pytest.raises(DataError, match="text 1 of 2 is empty"):
        tokenize(tokenizer, ["a ring", " "], 6)


def test_tokenizer_that_is_not_there_is_one_line(tmp_path):
    for name in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(
            SettingsError, match="tokenizer .*none there that can be loaded"
        ) as error:
            load_tokenizer(str(name))
        assert "\n" not in str(error.value)


def test_tokenizer_of_the_data_knows_every_word_and_fits_the_tiny_sizes(vqa, nlvr2):
    tokenizer = load_tokenizer(str(vqa / "tokenizer"))
    assert hashes(vqa / "tokenizer") == hashes(nlvr2 / "tokenizer")
    texts = [*all_texts(), *statements(), *synthetic_nlvr2.sentences()[0]]
    sizes = json.loads(pretrain_tiny.SIZES.read_text())
    ids, mask, cut = tokenize(tokenizer, texts, sizes["fiber"]["max_text_len"])
    assert cut == 0 and not (ids == tokenizer.unk_token_id).any()
    assert len(tokenizer) <= sizes["roberta"]["vocab_size"]


def test_pretraining_writes_a_file_of_the_published_layout_that_loads_whole(
    vqa, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretrain_tiny, "SCENES", 64)
    monkeypatch.setattr(pretrain_tiny, "TESTED", 16)
    arguments = ["--data", str(vqa), "--steps", "2", "--threads", "1", "--out"]
    for name in ("a.ckpt", "b.ckpt"):
        pretrain_tiny.main([*arguments, str(tmp_path / name)])
    a, b = (
        torch.load(tmp_path / name, weights_only=True)["state_dict"]
        for name in ("a.ckpt", "b.ckpt")
    )
    assert a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) for key in a
    )  # the same settings, the same weights
    settings = BackboneSettings(
        checkpoint=str(tmp_path / "a.ckpt"),
        sizes=str(pretrain_tiny.SIZES),
        tokenizer=str(vqa / "tokenizer"),
    )
    backbone = build_backbone(settings)
    assert set(backbone.state_dict()) == set(a) and "missing" not in backbone.name
    assert all(
        (value != 0).all() for key, value in a.items() if "alpha" in key
    )  # the fusion is open
    with pytest.raises(SettingsError, match="exists; remove it"):
        pretrain_tiny.main([*arguments, str(tmp_path / "a.ckpt")])
    with pytest.raises(DataError, match="tokenizer is missing"):
        pretrain_tiny.main(["--data", str(tmp_path), "--out", str(tmp_path / "c.ckpt")])


def test_pretraining_scenes_have_no_habits_and_half_of_the_statements_are_true(vqa):
    tokenizer = load_tokenizer(str(vqa / "tokenizer"))
    rng = np.random.default_rng(0)
    corpus = pretrain_tiny.Corpus(tokenizer, 24, rng, scenes=500)
    texts, owner, answer, true = corpus.batch(np.arange(400), rng)
    stated = answer < 0
    assert abs(true[stated].mean() - 0.5) < 0.05
    truths = torch.from_numpy(corpus.truth)[owner[stated], texts[stated] - 2 * len(FAMILY)]
    assert (truths == true[stated].bool()).all()
    assert (
        answer[~stated]
        == torch.from_numpy(true_answers(corpus.scenes))[
            owner[~stated], texts[~stated] % len(FAMILY)
        ]
    ).all()
