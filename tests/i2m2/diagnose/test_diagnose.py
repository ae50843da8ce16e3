"""Whole diagnoses of small data: what is written, resumed, refused, and that nothing leaks."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from i2m2 import diagnose
from i2m2.compare import comparison_of
from i2m2.diagnose.__main__ import main as command
from i2m2.diagnose.api import gather
from i2m2.diagnose.folds import PARTS
from i2m2.diagnose.rows import FoldRows, Question, predict_rows, predict_rows_by_half
from i2m2.errors import DataError, SettingsError
from i2m2.estimator.families import Categorical
from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.given.values import InputError
from i2m2.results import main as results
from i2m2.runs import require_predictions

N = 60
LINEAR = {name: LogisticRegression() for name in ("a", "b", "inter")}
QUICK = {"folds": 2, "seeds": 1, "jobs": 1, "network": {"epochs": 1, "hidden": 4, "width": 4}}
FAST = QUICK | {"experts": LINEAR}


def data(n=N, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return {"a": rng.normal(size=(n, 2)) + y[:, None], "b": rng.normal(size=(n, 2))}, y


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A diagnosis with the usual experts, two to a group, by AUROC."""
    out = tmp_path_factory.mktemp("results") / "stays"
    X, y = data()
    found = diagnose(X, y, groups=np.arange(N) // 2, metric="auroc", further=True, out=out, **QUICK)
    return out, found


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A diagnosis with linear experts."""
    out = tmp_path_factory.mktemp("results") / "linear"
    return out, diagnose(*data(), out=out, **FAST)


def arrays_in(folder):
    found = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as file:
            found |= {f"{path.relative_to(folder)} {name}": file[name] for name in file.files}
    return found


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.array_equal(array, second[name], equal_nan=array.dtype.kind == "f"), name


def test_every_row_is_there_and_every_example_predicted_once_a_seed(finished):
    _, found = finished
    rows = [name for name in found.predictions if not name.startswith("half:")]
    assert rows == [
        *("prior", "unimodal_a", "unimodal_b"),
        *("intra-separate", "intra-additive", "intra-joint", "best-intra", "inter"),
        *("i2m2-separate", "i2m2-joint", "best-i2m2", "best-fused", "best"),
        *("lr-a", "hgb-a", "lr-b", "hgb-b", "lr-all", "hgb-all"),
    ]
    for row in rows:
        assert found.predictions[row].shape == (1, N, 1, 2)
        assert np.exp(found.predictions[row]).sum(axis=-1) == pytest.approx(1)


def test_the_files_say_the_same_and_hold_no_nan(finished):
    out, found = finished
    text = (out / "diagnosis.txt").read_text()
    assert text == f"{found}\n" and f"ANSWER   {found.answer.answer}" in text
    written = json.loads((out / "diagnosis.json").read_text(), parse_constant=pytest.fail)
    assert written["answer"] == found.answer.answer
    assert written["rows"][0]["nll"] == found.answer.rows[0].nll
    page = (out / "diagnosis.html").read_text()
    assert found.answer.answer[1:] in page and "data:image/png" in page
    assert len(found.answer.further) == 2 * 2 + 1


def test_results_and_compare_read_the_folder_and_agree(finished, capsys):
    out, found = finished
    results([str(out.parent), "--dataset", "stays"])
    shown = capsys.readouterr().out
    assert f"## {found.answer.about}, auroc: {found.answer.answer}\n" in shown
    for row in found.answer.rows:
        assert f"| {row.name} | {100 * row.value:.1f} " in shown.replace("**", "")
    interaction = found.answer.decisions[1]
    pair = (interaction.contrast.first, interaction.contrast.second)
    compared = comparison_of(*([out / row / "seed0"] for row in pair), ["auroc"])
    difference = compared.metrics["auroc"].difference
    assert difference.mean == pytest.approx(interaction.difference, abs=1e-6)
    assert difference.p == pytest.approx(interaction.p, abs=1e-3)
    assert compared.groups == N // 2


def test_the_command_prints_the_answer_that_a_folder_of_its_own_holds(finished, tmp_path, capsys):
    out, found = finished
    for options in ([], ["--metric", "auroc", "--margin", str(found.answer.margin)]):
        command([str(out), *options, "--out", str(tmp_path)])
        assert capsys.readouterr().out.startswith(f"{found}\n")
        assert (tmp_path / "diagnosis.json").read_text() == (out / "diagnosis.json").read_text()
    for options in (["--metric", "nll"], ["--margin", "0.5"]):
        with pytest.raises(
            SettingsError, match="by auroc with the margin 0.*give the diagnose com"
        ):
            command([str(out), *options])


def test_lost_and_damaged_folds_are_computed_again_bit_for_bit(linear, tmp_path):
    whole, _ = linear
    shutil.copytree(whole / PARTS, tmp_path / PARTS)
    files = sorted((tmp_path / PARTS).glob("*.npz"))
    assert [file.stem for file in files] == [
        *("seed0_fold0", "seed0_fold0_half", "seed0_fold1", "seed0_fold1_half")
    ]
    for lost, cut in (files[:2], files[2:]):
        lost.unlink()
        cut.write_bytes(cut.read_bytes()[:200])
    (lost.parent / ".1.tmp.seed0_fold0.npz").write_text("half of a file")
    diagnose(*data(), out=tmp_path, **FAST)
    assert_same(arrays_in(whole), arrays_in(tmp_path))
    answers = [(out / "diagnosis.json").read_text() for out in (whole, tmp_path)]
    assert answers[0] == answers[1]


def test_finished_folds_are_not_computed_again(linear, tmp_path, monkeypatch):
    X, y = data()
    whole, first = linear
    shutil.copytree(whole / PARTS, tmp_path / PARTS)
    for name in ("predict_rows", "predict_rows_by_half"):
        monkeypatch.setattr(f"i2m2.diagnose.folds.{name}", lambda *_, **__: pytest.fail())
    again = diagnose(X, y, out=tmp_path, **FAST)
    assert str(again) == str(first)
    by_accuracy = diagnose(X, y, out=tmp_path, metric="accuracy", **FAST)
    assert by_accuracy.answer.metric == "accuracy"


def test_another_question_for_the_same_folder_is_refused_with_what_differs(linear, tmp_path):
    X, y = data()
    shutil.copytree(linear[0] / PARTS, tmp_path / PARTS)
    others = {
        "target": (X, 1 - y, FAST),
        "modality b": (X | {"b": X["b"] + 1}, y, FAST),
        "folds": (X, y, FAST | {"folds": 3}),
        "seeds": (X, y, FAST | {"seeds": 2}),
        "groups": (X, y, FAST | {"groups": np.arange(N) // 2}),
    }
    for name, (blocks, labels, options) in others.items():
        with pytest.raises(SettingsError, match=f"with other {name};"):
            diagnose(blocks, labels, out=tmp_path, **options)
    (tmp_path / ".folds/of.json").write_text("{")
    with pytest.raises(DataError, match=f"of.json is damaged .* delete {tmp_path}"):
        diagnose(X, y, out=tmp_path, **FAST)


def test_runs_that_are_not_of_a_diagnosis_are_left_alone(tmp_path):
    (tmp_path / "inter" / "seed0").mkdir(parents=True)
    X, y = data()
    with pytest.raises(SettingsError, match="holds runs that are not of a diagnosis"):
        diagnose(X, y, out=tmp_path, **FAST)


def test_the_number_of_jobs_changes_nothing(linear):
    two = diagnose(*data(), **FAST | {"jobs": 2})
    assert_same(linear[1].predictions, two.predictions)


def test_labels_of_the_test_fold_change_no_prediction():
    X, y = data()
    test = np.arange(N) % 3 == 0
    found = []
    for labels in (y, np.where(test, 1 - y, y)):
        options = {"folds": 2, "network": QUICK["network"]}
        question = Question(read_blocks(X), labels[:, None], None, Categorical([2]), **options)
        found.append(predict_rows(question, test, seed=0))
        found.append(predict_rows_by_half(question, test, seed=0))
    for before, after in zip(found[:2], found[2:], strict=True):
        assert_same(before.outputs, after.outputs)
        assert before.validation == after.validation


def test_a_group_is_never_on_both_sides(finished):
    X, y = data()
    groups = np.random.default_rng(0).integers(0, 12, N)
    question = Question(read_blocks(X), y[:, None], groups, Categorical([2]), folds=4)
    for seed in range(3):
        folds = question.outer_folds(seed)
        assert all(len(np.unique(folds[groups == group])) == 1 for group in groups)


def test_as_many_folds_are_told_as_the_groups_allow(linear, monkeypatch):
    X, y = data()
    known = {row: one[0] for row, one in linear[1].predictions.items() if "best" not in row}

    def as_known(question, test, seed):
        outputs = {row: one[test] for row, one in known.items()}
        return FoldRows(outputs, dict.fromkeys(known, 0.0), {}, {})

    for name in ("predict_rows", "predict_rows_by_half"):
        monkeypatch.setattr(f"i2m2.diagnose.folds.{name}", as_known)
    found = diagnose(X, y, groups=np.arange(N) % 8, **FAST | {"folds": 9})
    assert "8 folds x 1 seed" in found.answer.about


def test_rows_that_some_folds_cannot_make_are_left_out_with_a_warning():
    X, y = data()
    question = Question(read_blocks(X), y[:, None], None, Categorical([2]), folds=2)
    found = []
    for k in range(2):
        test = np.arange(N) % 2 == k
        rows = ["inter"] + ["i2m2-joint"] * (k == 0)
        outputs = {row: np.zeros((test.sum(), 1, 2)) for row in rows}
        found.append((test, FoldRows(outputs, dict.fromkeys(rows, 0.0), {}, {})))
    with pytest.warns(UserWarning, match="i2m2-joint left out: in some folds too few training"):
        predicted, _ = gather(question, found, seeds=1)
    assert list(predicted.outputs) == list(predicted.validation) == ["inter"]


def test_texts_as_labels_are_the_same_question(linear):
    X, y = data()
    texts = diagnose(X, np.where(y == 1, "sick", "healthy"), **FAST)
    assert_same(linear[1].predictions, texts.predictions)
    assert list(texts.classes[0]) == ["healthy", "sick"]


def test_absent_modalities_and_several_labels(tmp_path):
    X, y = data()
    X["b"][::3] = np.nan
    X["a"][0] = X["b"][0] = np.nan
    both = np.stack([y, (X["a"][:, 0] > 0).astype(int)], axis=1)
    found = diagnose(X, both, metric="auroc", out=tmp_path, **FAST)
    assert "b (table, absent 33.3%)" in found.answer.about
    assert all(np.isfinite(one).all() for one in found.predictions.values())
    prior = found.predictions["prior"][0, 0]
    assert found.predictions["i2m2-separate"][0, 0] == pytest.approx(prior)
    saved = require_predictions(tmp_path / "i2m2-separate" / "seed0", "test")
    assert saved["y"].shape == (N, 2) and saved["log_prob"].shape == (N, 2, 2)


@pytest.mark.parametrize("classes", [False, True])
def test_effects_that_add_up_are_no_interaction(classes):
    """To an expert trained alone what the other modality explains is noise, to one of all it is
    not: beside the product of unimodal experts alone the fused one would seem to interact."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 150, 2))
    total = a[:, 0] + b[:, 1]
    y = rng.logistic(size=150) < 8 * total if classes else total + 0.5 * rng.normal(size=150)
    found = diagnose({"a": a, "b": b}, y, **QUICK)
    decisions = {one.contrast.name: one.answer for one in found.answer.decisions}
    assert decisions["more than one modality?"] == "yes" and decisions["interaction?"] != "yes"


def test_a_regression_is_answered_too(tmp_path):
    X, _ = data()
    y = 1e-20 * (X["a"][:, 0] + 0.1 * X["b"][:, 0])  # whatever the unit
    found = diagnose(X, y, metric="r2", out=tmp_path, **QUICK)
    assert "regression" in found.answer.about
    assert (tmp_path / "diagnosis.html").exists() and not (tmp_path / "inter").exists()
    linear = next(row for row in found.answer.rows if row.name == "lr-all")
    means = found.predictions["lr-all"][0, :, 0, 0]
    assert linear.value == pytest.approx(1 - ((y - means) ** 2).mean() / y.var())
    best = next(row for row in found.answer.rows if row.name == "best")
    assert linear.value > 0.5 and best.value > 0.5 and best.low < best.value < best.high


def test_the_variance_of_a_reference_is_that_of_groups_it_has_not_seen():
    """Trees that know a group by its inputs tell its other examples far too surely."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.arange(600) // 20)
    of_group, own = rng.normal(size=(30, 4))[groups], rng.normal(size=(600, 4))
    blocks = {"a": 3 * of_group[:, :2] + 0.3 * own[:, :2], "b": 3 * of_group[:, 2:] + own[:, 2:]}
    y = 2 * rng.normal(size=30)[groups] + rng.normal(size=600)
    experts = dict.fromkeys(LINEAR, LinearRegression())
    found = diagnose(blocks, y, groups=groups, **QUICK | {"experts": experts})
    for row in ("lr-all", "hgb-all"):
        mean, log_variance = found.predictions[row][0, :, 0].T
        assert log_variance.mean() == pytest.approx(np.log(((y - mean) ** 2).mean()), abs=0.4)


@pytest.mark.parametrize("name", ["all", "a/../../b"])
def test_a_modality_is_called_as_no_other_row_and_no_path(name):
    X, y = data()
    with pytest.raises(SettingsError, match="a modality cannot be called"):
        diagnose({name: X["a"], "b": X["b"]}, y, **FAST)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"folds": "3"}, "folds='3': give a whole number from 2"),
        ({"folds": 2.5}, "folds=2.5: give a whole number from 2"),
        ({"seeds": 1.5}, "seeds=1.5: give a whole number from 1"),
        ({"jobs": "2"}, "jobs='2': give a whole number from 1"),
        ({"margin": "x"}, "margin='x': give a number above 0"),
        ({"experts": [1]}, "experts=[1]: give a mapping"),
        (
            {"experts": {"a": 5}},
            "an expert is a scikit-learn estimator, an nn.Module or a function",
        ),
        ({"experts": {"a": LogisticRegression}}, "an expert is a scikit-learn estimator"),
        ({"network": 5}, "network=5: give a mapping"),
        ({"network": {"epochs": "3"}}, "network: epochs='3'; give a whole number"),
        ({"interactions": ["all"]}, "interactions=['all'] is unknown; choose one of"),
        ({"task": ["classify"]}, "task=['classify']: give a text"),
        ({"metric": ["nll"]}, "metric=['nll']: give a text"),
        ({"out": 5}, "out=5: give a text"),
    ],
)
def test_a_setting_of_a_wrong_type_is_one_line(options, message):
    X, y = data()
    with pytest.raises(SettingsError) as caught:
        diagnose(X, y, **FAST | options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"ids": np.ma.array(np.arange(N), mask=np.arange(N) == 3)},
            "ids hold NaN or None (row 3)",
        ),
        ({"ids": [None, *range(1, N)]}, "ids hold NaN or None (row 0)"),
        ({"groups": [np.nan, *range(1, N)]}, "groups hold NaN or None (row 0)"),
        ({"y": np.full(N, 0.5), "task": "regress"}, "y is 0.5 in every row"),
        ({"y": [0] * N}, "y has one class"),
        ({"y": np.arange(N) < 3}, "3 examples of the second most frequent class: too few"),
        ({"y": data()[0]["b"][:, 1]}, "b: its column 1 is the target"),
        ({"y": np.datetime64("2020") + np.arange(N)}, "y holds dates"),
    ],
)
def test_data_that_give_no_answer_are_refused(options, message):
    X, y = data()
    with pytest.raises(InputError) as caught:
        diagnose(X, **{"y": y} | FAST | options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


ALL = slice(None)


@pytest.mark.parametrize(
    "of_a, of_b, what", [(slice(2), ALL, "a"), (slice(30), slice(30, 60), "a and b")]
)
def test_a_modality_of_too_few_examples_is_refused_before_anything_is_fitted(of_a, of_b, what):
    X, y = data()
    for name, rows in {"a": of_a, "b": of_b}.items():
        lacks = np.ones(N, bool)
        lacks[rows] = False
        X[name][lacks] = np.nan
    with pytest.raises(InputError, match=f"of 60 examples have {what}, too few for folds within"):
        diagnose(X, y, **FAST)


def test_an_array_of_another_shape_is_another_question(tmp_path):
    X, y = data()
    options = FAST | {"kinds": {"b": "series"}, "out": tmp_path}
    series = np.repeat(X["b"][:, :, None], 3, axis=2)
    diagnose(X | {"b": series}, y, **options)
    with pytest.raises(SettingsError, match="with other modality b;"):
        diagnose(X | {"b": series.reshape(N, 3, 2)}, y, **options)


@pytest.mark.parametrize("what", ["y", "groups", "ids"])
def test_columns_whose_index_has_the_rows_in_another_order_are_refused(what):
    X, y = data(20)
    frame = pd.DataFrame(X["a"], index=[f"row{k}" for k in range(20)])
    turned = {what: pd.Series(y, index=frame.index[::-1])}
    in_another_order = f"a and {what} have the same labels of rows in another order"
    with pytest.raises(InputError, match=in_another_order):
        diagnose(X | {"a": frame}, **{"y": y} | turned, **QUICK)


def test_objects_that_are_numbers_are_a_regression():
    X, _ = data()
    y = X["a"].sum(axis=1)
    options = FAST | {"experts": {name: LinearRegression() for name in LINEAR}}
    assert "; regression; " in diagnose(X, y.astype(object), **options).answer.about
