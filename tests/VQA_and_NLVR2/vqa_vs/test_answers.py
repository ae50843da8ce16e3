"""VQA answers: normaliser, vocabulary, soft labels, scores, and the stored output of the public
scorers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from i2m2.errors import DataError
from VQA_and_NLVR2.inputs.records import Interned
from VQA_and_NLVR2.parity.metrics import check_metrics
from VQA_and_NLVR2.vqa_vs.answers import (
    OFFICIAL,
    Vocabulary,
    build_vocabulary,
    count_answers,
    normalise,
    soft_labels,
    vocabulary_line,
)
from VQA_and_NLVR2.vqa_vs.scores import (
    SUB_MEANS,
    official_score,
    official_table,
    percent,
    score_sets,
    score_types,
    training_score,
    upper_bounds,
    write_predictions,
)

WORDS = Vocabulary(("yes", "no", "2", "red"))
# Ten people on each of four questions; the last one's answers are not in the vocabulary.
PEOPLE = [
    ["yes"] * 7 + ["no"] * 2 + ["maybe"],
    ["2"] * 3 + ["red", "no", "no"] + ["two"] * 4,
    ["green", "red"] + ["red"] * 8,
    ["blue"] * 9 + ["Yes"],
]


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("The  Frisbee.", "frisbee"),
        ("black-and-white", "black and white"),  # a mark without a space beside it becomes one
        ("black -white", "black white"),  # with a space beside it goes
        ("a-b -c", "ab c"),  # decided for the whole string, from the string as given
        ("1,000-2", "10002"),  # a comma between digits deletes every mark
        ("3.5 e.g. this", "3.5 eg this"),
        ("." * 40 + "x", "." * 8 + "x"),  # at most 32 full stops go
        ("None", "0"),
        ("ten an Eleven", "10 eleven"),
        ("dont", "don't"),
        ("shouldntve", "shouldntve"),  # exactly one apostrophe may be missing
        ("shouldn'tve", "shouldn't've"),
        ("somebody'd", "somebodyd"),
        ("ow's'at", "'ow's'at"),
        ("Im", "im"),
        ("", ""),
    ],
)
def test_normalise_follows_the_published_rules_in_their_order(raw, normalised):
    assert normalise(raw) == normalised


def test_vocabulary_holds_frequent_normalised_answers_in_order_of_first_appearance():
    answers = ["Two", "red", "yes", "2", "a red", "yes", "blue"]
    assert count_answers(answers) == {"2": 2, "red": 2, "yes": 2, "blue": 1}
    assert build_vocabulary(answers, minimum=2).answers == ("2", "red", "yes")
    with pytest.raises(DataError, match="no answer of 7 questions occurs 9 times"):
        build_vocabulary(answers)


def test_labels_are_of_answers_as_they_stand():
    assert WORDS.labels(["no", "No"]).tolist() == [1, -1]


def test_size_is_compared_with_the_published_one():
    assert "published: 3,129" in vocabulary_line(WORDS, "fiber")
    assert "as published" in vocabulary_line(Vocabulary(tuple(map(str, range(2486)))), "training")


def test_soft_labels_by_hand():
    labels = soft_labels(PEOPLE, WORDS)
    assert labels.offsets.tolist() == [0, 2, 5, 6, 6] and labels.offsets.dtype == np.int64
    assert (
        labels.labels.tolist() == [0, 1, 2, 3, 1, 3] and labels.labels.dtype == np.int32
    )  # first appearance; "two" is raw
    np.testing.assert_allclose(labels.scores, [1, 0.6, 0.9, 0.3, 0.6, 1])
    np.testing.assert_allclose(
        soft_labels(PEOPLE, WORDS, OFFICIAL).scores, [1, 2 / 3, 1, 1 / 3, 2 / 3, 1]
    )


def test_soft_labels_equal_a_loop_over_dictionaries():
    rng = np.random.default_rng(0)
    people = [[f"w{k}" for k in rng.integers(0, rng.integers(1, 12), 10)] for _ in range(300)]
    vocabulary = Vocabulary(tuple(f"w{k}" for k in range(0, 12, 2)))
    labels = soft_labels(people, vocabulary)
    for row, answers in enumerate(people):
        counts = {}
        for answer in answers:
            counts[answer] = counts.get(answer, 0) + 1
        known = {vocabulary.index[a]: n for a, n in counts.items() if a in vocabulary.index}
        expected = {label: [0, 0.3, 0.6, 0.9, 1][min(n, 4)] for label, n in known.items()}
        inside = slice(*labels.offsets[row : row + 2])
        assert labels.labels[inside].tolist() == list(expected)
        np.testing.assert_allclose(labels.scores[inside], list(expected.values()))
    rows = rng.permutation(300)[:50]
    taken = labels.take(rows)
    again = soft_labels([people[row] for row in rows], vocabulary)
    assert all(np.array_equal(a, b) for a, b in zip(taken, again, strict=True))


def test_official_score_counts_every_question_and_training_score_only_labelled_ones():
    predicted = [
        "no",
        "red",
        "green",
        "yes",
    ]  # two people; one; outside the vocabulary; "Yes" is another string
    assert official_score(predicted, PEOPLE, WORDS) == pytest.approx((2 / 3 + 1 / 3 + 0 + 0) / 4)
    assert official_score(np.array([1, 3, -1, 0]), PEOPLE, WORDS) == official_score(
        predicted, PEOPLE, WORDS
    )
    score, n = training_score(predicted, soft_labels(PEOPLE, WORDS), WORDS)
    assert (score, n) == (pytest.approx((0.6 + 0.3) / 2), 2)
    assert upper_bounds(Interned.of(PEOPLE)).tolist() == [1, 1, 1, 1]
    assert upper_bounds(Interned.of([["a", "a", "b"]])).tolist() == [2 / 3]
    with pytest.raises(DataError, match=r"label 4 is outside the vocabulary 0\.\.3"):
        official_score(np.array([4, 0, 0, 0]), PEOPLE, WORDS)


def test_one_pass_scores_every_set_like_scoring_each_alone():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 4, 200) / 3
    member = rng.random((200, 9)) < 0.3
    kind = rng.integers(0, 3, 200)
    scores = score_sets(score, member)
    for column, name in enumerate(SUB_MEANS["ood_mean"]):
        assert scores[name] == pytest.approx(score[member[:, column]].mean())
    assert scores["iid"] == pytest.approx(score.mean())
    assert scores["ood_mean"] == pytest.approx(
        np.mean([scores[name] for name in SUB_MEANS["ood_mean"]])
    )
    assert scores["visual_mean"] == pytest.approx((scores["KO"] + scores["KOP"]) / 2)
    sizes = [len(SUB_MEANS[name]) for name in ("language_mean", "visual_mean", "mixed_mean")]
    assert sizes == [4, 2, 3]
    assert score_types(score, kind)["number"] == pytest.approx(score[kind == 1].mean())
    assert np.isnan(score_types(score, np.zeros(200))["other"])
    assert np.isnan(score_sets(score, np.zeros((200, 9), bool))["ood_mean"])
    assert percent({"a": 2 / 3}) == {"a": 66.67}


def test_predictions_are_written_ascending_by_id_and_strange_labels_refused(tmp_path):
    path = tmp_path / "predictions.json"
    write_predictions(path, np.array([30, 10]), np.array([3, 0]), WORDS)
    assert json.loads(path.read_text()) == [
        {"question_id": 10, "answer": "yes"},
        {"question_id": 30, "answer": "red"},
    ]
    with pytest.raises(DataError, match="label 4 of question_id 10 is outside the vocabulary 0..3"):
        write_predictions(path, np.array([30, 10]), np.array([3, 4]), WORDS)
    with pytest.raises(DataError, match="occurs twice"):
        write_predictions(path, np.array([10, 10]), np.array([3, 3]), WORDS)


def test_table_scores_like_the_counts():
    table = official_table(PEOPLE, WORDS)
    for label, answer in enumerate(WORDS.answers):
        expected = [min(1, people.count(answer) / 3) for people in PEOPLE]
        np.testing.assert_allclose(table.score_of(np.full(4, label)), expected)


def test_public_scorers_are_reproduced(shared):
    checks, uncompared = check_metrics(shared / "parity/vqa_nlvr_metrics")
    assert len(checks) >= 37 and uncompared == []
    assert all(deviation <= tolerance <= 1e-6 for _, deviation, tolerance in checks), checks


def test_parity_finds_what_differs_and_names_what_it_cannot_compare(shared, tmp_path):
    folder = tmp_path / "here/there"
    shutil.copytree(shared / "parity/vqa_nlvr_metrics", folder)
    data = tmp_path / "annotations"
    for name, file in (("vqa_vs", "Val-slice-Ans.json.gz"), ("nlvr2", "dev_first300.json.gz")):
        (data / name).mkdir(parents=True)
        shutil.copy(shared / "data" / name / file, data / name / "renamed.json.gz")
    labels = json.loads((folder / "vqa_labels.json").read_text())
    labels["rows"][3][2] = [0.5]
    labels["strange"] = 3
    stored = json.loads((folder / "nlvr2_scores.json").read_text())
    (folder / "nlvr2_scores.json").write_text(
        json.dumps({"first": stored["dev_300"] | {"consistency": 0.5}})
    )
    (folder / "vqa_labels.json").write_text(json.dumps(labels))
    (folder / "other.json").write_text("[1, 2]")
    checks, _ = check_metrics(folder, data)
    found = {name: deviation for name, deviation, allowed in checks if not deviation <= allowed}
    assert found["nlvr2_scores.first.consistency"] == pytest.approx(0.5340909 - 0.5)
    assert found["vqa_labels.rows"] == 1 and len(found) == 2
    assert check_metrics(folder, data)[1] == ["other", "vqa_labels.strange"]
    (data / "vqa_vs/renamed.json.gz").unlink()
    with pytest.raises(DataError, match="no file of annotated questions"):
        check_metrics(folder, data)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("vqa_labels", lambda value: value.pop("label2ans"), "vqa_labels has no label2ans"),
        ("vqa_labels", lambda value: value.pop("rows"), "no entry 'rows'"),
        ("vqa_vs_scores", lambda value: value.pop("predictions"), "no entry 'predictions'"),
        ("vqa_vs_scores", lambda value: value.update(overall="x"), "overall is 'x'"),
        (
            "nlvr2_scores",
            lambda value: value["dev_300"].pop("predictions"),
            "no entry 'predictions'",
        ),
        ("answer_normalisation", lambda value: value.clear(), "nothing in it"),
    ],
)
def test_parity_refuses_a_file_that_lacks_what_is_to_be_compared(
    shared, tmp_path, name, change, message
):
    shutil.copytree(shared / "parity/vqa_nlvr_metrics", tmp_path / "stored")
    path = tmp_path / f"stored/{name}.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=f"{name}.json: cannot be compared .*({message})"):
        check_metrics(tmp_path / "stored", shared / "data")


def test_parity_finds_the_annotations_from_any_working_directory(shared, monkeypatch, tmp_path):
    (tmp_path / "a/parity").mkdir(parents=True)
    shutil.copytree(shared / "parity/vqa_nlvr_metrics", tmp_path / "a/parity/stored")
    shutil.copytree(shared / "data/nlvr2", tmp_path / "a/data/nlvr2")
    shutil.copytree(shared / "data/vqa_vs", tmp_path / "a/data/vqa_vs")
    monkeypatch.chdir(tmp_path / "a/parity/stored")
    assert len(check_metrics(Path("."))[0]) >= 37
