"""VQA-VS on features: answers as labels, vocabularies, and the features it asks for."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from i2m2.errors import DataError, SettingsError
from i2m2.training.config import load_config
from tests.conftest import ROOT
from tests.VQA_and_NLVR2.tiny_vqa import extracted, settings
from VQA_and_NLVR2.features.cache import open_features
from VQA_and_NLVR2.make_synthetic import make_synthetic
from VQA_and_NLVR2.vqa_vs.annotations import read_annotations
from VQA_and_NLVR2.vqa_vs.answers import OFFICIAL, TRAINING, Vocabulary, soft_labels
from VQA_and_NLVR2.vqa_vs.data import answers_of
from VQA_and_NLVR2.vqa_vs.experiment import (
    extract_command,
    load,
    open_vqa,
)
from VQA_and_NLVR2.vqa_vs.files import read_vqa_vs
from VQA_and_NLVR2.vqa_vs.scores import official_score
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig


def test_labels_of_a_question_are_its_distinct_known_answers_and_how_many_gave_them():
    from VQA_and_NLVR2.inputs.records import Interned

    ten = ["red"] * 4 + ["blue", "odd"] + ["red"] + ["green"] * 3
    answers = Interned.of([ten, ["odd"] * 10])
    answer, count = answers_of(answers, Vocabulary(("green", "red", "blue")))
    assert answer.tolist() == [[1, 2, 0] + [-1] * 7, [-1] * 10] and count.tolist() == [
        [5, 1, 3] + [0] * 7,
        [0] * 10,
    ]


def test_labels_of_the_real_slice_are_those_of_the_sparse_ones(shared):
    annotations = read_annotations(shared / "data/vqa_vs/Val-slice-Ans.json.gz")
    vocabulary = Vocabulary(tuple(dict.fromkeys(annotations.majority.texts())))
    answer, count = answers_of(annotations.answers, vocabulary)
    for table in (TRAINING, OFFICIAL):
        sparse = soft_labels(annotations.answers, vocabulary, table)
        np.testing.assert_array_equal(answer[answer >= 0], sparse.labels)
        np.testing.assert_array_equal(table[count[answer >= 0]], sparse.scores)
        np.testing.assert_array_equal((answer >= 0).sum(axis=1), np.diff(sparse.offsets))


def test_a_question_without_a_known_answer_is_left_out_of_training_alone(made, capsys):
    config = settings(*made)
    data = load(config)
    published = read_vqa_vs(made[0])
    vocabulary = open_vqa(config)[1]
    none = {
        name: np.diff(soft_labels(split.answers, vocabulary).offsets) == 0
        for name, split in published.splits.items()
    }
    assert none["train"].any() and none["test"].any()
    np.testing.assert_array_equal(
        data.splits["train"].id, published.train.question_id[~none["train"]]
    )
    for name in ("val", "test"):
        np.testing.assert_array_equal(data.splits[name].id, published.splits[name].question_id)
        np.testing.assert_array_equal(
            (data.splits[name].columns["answer"] < 0).all(axis=1), none[name]
        )
    np.testing.assert_array_equal(data.splits["test"].columns["member"], published.member)
    line = (
        f"questions without any of them: train {none['train'].sum()} of {len(published.train)}, val"
    )
    assert (
        line in capsys.readouterr().out
        and data.facts["sizes"]["test"]["without_label"] == none["test"].sum()
    )


def test_vocabularies_follow_their_rule_and_one_that_cannot_be_counted_says_why(made, tmp_path):
    sizes = {
        rule: len(open_vqa(settings(*made, "--data.vocabulary", rule))[1])
        for rule in ("fiber", "training")
    }
    assert sizes["training"] < sizes["fiber"]
    folder = tmp_path / "few"
    make_synthetic(folder, "vqa_vs", 20)
    for part in ("Training", "Val", "IID-Test"):
        path = folder / part / f"{part}-Ans.json"
        records = json.loads(path.read_text())
        for number, record in enumerate(records):
            if part == "Training":
                record["multiple_choice_answer"] = f"only here {number}"
        path.write_text(json.dumps(records))
    extracted(folder, tmp_path / "f")
    with pytest.raises(DataError, match="no vocabulary training: no answer of .* occurs 9 times"):
        load(settings(folder, tmp_path / "f", "--data.vocabulary", "training"))


def test_train_size_takes_the_first_questions(made):
    assert len(load(settings(*made, "--data.train_size", "20")).splits["train"]) == 20
    with pytest.raises(SettingsError, match="train_size=1000000 is above the"):
        load(settings(*made, "--data.train_size", "1000000"))


def test_the_baseline_is_the_most_frequent_answer(made):
    data = load(settings(*made))
    train, test = read_vqa_vs(made[0]).train, read_vqa_vs(made[0]).test
    vocabulary = open_vqa(settings(*made))[1]
    labels = soft_labels(train.answers, vocabulary)
    most = vocabulary.answers[int(np.bincount(labels.labels, labels.scores).argmax())]
    assert data.facts["baseline"]["vqa_score"] == pytest.approx(
        official_score([most] * len(test), test.answers, vocabulary)
    )


def test_training_names_the_command_that_makes_features(made, tmp_path):
    with pytest.raises(
        DataError,
        match="make them with: python -m VQA_and_NLVR2.extract_features --config .*--features.dir",
    ):
        load(
            replace(
                settings(*made),
                features=replace(settings(*made).features, dir=str(tmp_path / "none")),
            )
        )
    config = settings(*made)
    assert open_features(made[1], config.backbone, config.features).widths == {
        "image": 64,
        "text": 64,
        "fused": 128,
    }


def test_the_command_that_makes_features_has_the_settings_at_hand(made, monkeypatch):
    config = settings(*made, "--features.views", "2")
    words = shlex.split(extract_command(config))
    assert words[:3] == ["python", "-m", "VQA_and_NLVR2.extract_features"]
    monkeypatch.chdir(ROOT)
    again = load_config(VQAConfig, words[3:], "extract_features")
    assert (again.backbone, again.features, again.data) == (
        config.backbone,
        config.features,
        config.data,
    )
    assert len(words) < 30 and "fiber" not in words  # what the file has already is not said again
