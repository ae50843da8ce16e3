"""A saved model is the same model; a folder that is not as it was written is refused, and nothing
in it is run."""

import functools
import hashlib
import json
import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from i2m2 import I2M2Classifier, I2M2Regressor
from i2m2.estimator.given.values import InputError
from i2m2.estimator.models.trees import Trees
from tests.i2m2.estimator.conftest import QUICK, ROWS, two_blocks

X, Y = two_blocks()
FILES = ("model.json", "networks.safetensors", "rest.skops")


@pytest.fixture(scope="module")
def model():
    return I2M2Classifier(**QUICK).fit(X, Y)


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


def again(model, path, **options):
    model.save(path)
    return type(model).load(path, **options)


@pytest.mark.parametrize("name, text", [("model.json", '{"xgb": 1}'), ("notes.txt", "mine")])
def test_what_is_no_saved_model_is_left_alone(model, folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(InputError, match="give another name"):
        model.save(folder)
    assert (folder / name).read_text() == text


def test_a_function_without_a_name_is_refused_before_anything_is_written(tmp_path):
    expert = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression())
    model = I2M2Classifier(experts={"static": expert}, **QUICK).fit(X, Y)
    with pytest.raises(InputError, match="lambda.*has no name of its own"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_every_kind_of_block_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"word{k}" for k in range(400)]
    blocks = X | {
        "ward": pd.DataFrame({"ward": np.array(["u", "v", None], object)[np.arange(ROWS) % 3]}),
        "picture": rng.integers(0, 255, (ROWS, 8, 8, 3)).astype(np.uint8),
        "note": [" ".join(rng.choice(words, 30)) for _ in range(ROWS)],
        "embedding": rng.normal(size=(ROWS, 300)),
    }
    labels = pd.Series(["no", "yes"]).to_numpy()[Y]
    model = I2M2Classifier(**QUICK).fit(blocks, labels)
    loaded = again(model, tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(blocks), model.predict_proba(blocks))
    np.testing.assert_array_equal(loaded.predict(blocks), model.predict(blocks))
    without_note = {name: block for name, block in blocks.items() if name != "note"}
    found, want = (one.contributions(without_note) for one in (loaded, model))
    assert all(np.array_equal(found[name], want[name]) for name in want)


def test_a_table_with_declared_modalities_and_a_regression_come_back(tmp_path):
    dealt = {"first": slice(0, 2), "second": np.array([2])}
    model = I2M2Classifier(dealt, **QUICK).fit(X["static"], Y)
    loaded = again(model, tmp_path / "classifier")
    found, want = (one.predict_proba(X["static"]) for one in (loaded, model))
    np.testing.assert_array_equal(found, want)
    model = I2M2Regressor(**QUICK).fit(X, X["static"].sum(axis=1))
    loaded = again(model, tmp_path / "regressor")
    np.testing.assert_array_equal(loaded.predict_interval(X), model.predict_interval(X))


def test_columns_named_in_any_way_are_saved_as_lists(tmp_path):
    frame = pd.DataFrame(X["static"], columns=["a", "b", "c"])
    given = {"x": frame.columns[:1], "y": pd.Series(["b"]), "z": (frame.columns[2:], [1])}
    linear = dict.fromkeys([*given, "inter"], LogisticRegression())
    model = I2M2Classifier(given, experts=linear, folds=2).fit(frame, Y)
    loaded = again(model, tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    assert loaded.get_params()["modalities"] == {"x": ["a"], "y": ["b"], "z": (["c"], [1])}
    assert model.get_params()["modalities"] is given


def test_a_part_that_cannot_be_saved_is_one_line(tmp_path):
    model = I2M2Classifier(experts={"x": LogisticRegression()}, folds=2)
    model.fit({"x": X["static"]}, Y)
    model.kinds = pd.Index(["x"])
    with pytest.raises(InputError, match="model: a part of the model cannot be saved") as caught:
        model.save(tmp_path / "model")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_models_of_scikit_learn_come_back_and_are_still_parameters(tmp_path):
    experts = {
        "static": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        "series": RandomForestClassifier(2),
        "inter": HistGradientBoostingClassifier(max_iter=2),
    }
    model = I2M2Classifier(experts=experts, folds=2).fit(X, Y)
    loaded = again(model, tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    refitted = clone(loaded).fit(X, Y)
    np.testing.assert_array_equal(refitted.predict_proba(X), model.predict_proba(X))


def linear(shape, classes):
    return nn.Linear(shape[0], classes)


def test_a_module_comes_back_with_its_code_given_again(tmp_path):
    model = I2M2Classifier(experts={"static": linear}, **QUICK).fit(X, Y)
    loaded = again(model, tmp_path / "model", experts={"static": linear})
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.get_params()["experts"] == {"static": linear}
    with pytest.raises(InputError, match="the expert static was a module of yours"):
        I2M2Classifier.load(tmp_path / "model")
    other = {"static": lambda shape, classes: nn.Linear(shape[0], classes, bias=False)}
    with pytest.raises(InputError, match="the weights of static do not fit"):
        I2M2Classifier.load(tmp_path / "model", experts=other)


class Own(LogisticRegression):
    """A type that nobody knows."""


def test_unknown_types_need_to_be_trusted(tmp_path):
    model = I2M2Classifier(experts={"static": Own()}, **QUICK).fit(X, Y)
    name = f"{Own.__module__}.Own"
    with pytest.raises(InputError, match=f"holds objects of {name}; if you trust their origin"):
        again(model, tmp_path / "model")
    loaded = I2M2Classifier.load(tmp_path / "model", trusted=[name])
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("way", ["partial", "reduce"])
def test_nothing_in_a_folder_is_run(folder, tmp_path, way):
    target = str(tmp_path / "made")
    harm = {"partial": functools.partial(os.mkdir, target), "reduce": Command(target)}[way]
    skops.io.dump({"harm": harm}, folder / "rest.skops")
    overview = json.loads((folder / "model.json").read_text())
    content = (folder / "rest.skops").read_bytes()
    overview["sha256"]["rest.skops"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(overview))
    with pytest.raises(InputError, match="holds objects of"):
        I2M2Classifier.load(folder)
    assert not os.path.exists(target)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped", "other"])
def test_a_damaged_folder_is_one_line(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    path.unlink()
    middle = len(content) // 2
    content[middle] ^= 255
    changed = {"empty": b"", "cut": content[:middle], "flipped": content, "other": b"[1, 2]"}
    if damage != "gone":
        path.write_bytes(changed[damage])
    with pytest.raises(InputError) as caught:
        I2M2Classifier.load(folder)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert ("is missing" if damage == "gone" else "is damaged") in message


def test_classes_are_read_where_an_earlier_version_had_them(model, folder):
    with zipfile.ZipFile(folder / "rest.skops") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    now, then = b"i2m2.estimator.models.trees", b"i2m2.estimator.models.members"
    assert now in parts["schema.json"]
    parts["schema.json"] = parts["schema.json"].replace(now, then)
    with zipfile.ZipFile(folder / "rest.skops", "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    overview = json.loads((folder / "model.json").read_text())
    checksum = hashlib.sha256((folder / "rest.skops").read_bytes()).hexdigest()
    overview["sha256"]["rest.skops"] = checksum
    (folder / "model.json").write_text(json.dumps(overview))
    loaded = I2M2Classifier.load(folder)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_trees_are_few_arrays_however_many_they_are(folder, model):
    boosted = [one for each in model.experts_.members.values() for one in each]
    boosted = [one for one in boosted if isinstance(one, Trees)]
    trees = sum(len(fold[0]._predictors) for one in boosted for fold in one.models)
    with zipfile.ZipFile(folder / "rest.skops") as file:
        assert len(file.namelist()) < 2 * trees  # of which each has three arrays


def test_a_folder_of_another_class_or_none_is_refused(folder, tmp_path):
    with pytest.raises(
        InputError, match="holds I2M2Classifier, not I2M2Regressor; call I2M2Classifier.load"
    ):
        I2M2Regressor.load(folder)
    with pytest.raises(InputError, match="model.json is missing"):
        I2M2Classifier.load(tmp_path)


def test_a_folder_of_another_version_is_refused(folder, tmp_path):
    copied = tmp_path / "other"
    shutil.copytree(folder, copied)
    overview = json.loads((copied / "model.json").read_text())
    (copied / "model.json").write_text(json.dumps(overview | {"format": 1}))
    with pytest.raises(InputError, match=r"saved by another version \(format 1, and not \d+\)"):
        I2M2Classifier.load(copied)


def test_saving_replaces_a_model_and_nothing_else(model, folder, tmp_path):
    model.save(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(InputError, match="is there and is no saved model; give another name"):
        model.save(tmp_path)
