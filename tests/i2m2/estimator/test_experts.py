"""Experts of one's own: scikit-learn models against the same models fitted by hand, and modules."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from i2m2 import I2M2Classifier, I2M2Regressor
from i2m2.estimator.experts import Additive, members_for
from i2m2.estimator.families import Categorical, Gaussian
from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.given.folds import make_folds, strata_of
from i2m2.estimator.given.values import InputError
from i2m2.estimator.models.examples import Examples
from i2m2.estimator.models.members import Network, SumOfNetworks
from i2m2.estimator.models.networks import outputs_of
from i2m2.estimator.models.training import TrainingSettings
from i2m2.estimator.prepared.preparation import Preparation
from i2m2.stats.calibration import log_softmax
from tests.i2m2.estimator.conftest import QUICK, ROWS, two_blocks, without

X, Y = two_blocks()
TABLE = X["static"]


def fit(experts, blocks=X, y=Y, **settings):
    return I2M2Classifier(**(QUICK | {"experts": experts} | settings)).fit(blocks, y)


class Says(ClassifierMixin, BaseEstimator):
    """Predicts what it is given, for every row."""

    def __init__(self, row=None):
        self.row = row

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.tile(self.row, (len(X), 1))


class Pair(nn.Module):
    """A module that gives more than a tensor."""

    def forward(self, x):
        return x, x


class Recorder(ClassifierMixin, BaseEstimator):
    """Answers class frequencies, and keeps what every clone was fitted on in `seen`."""

    seen: list = []

    def __init__(self, allow_nan=True):
        self.allow_nan = allow_nan

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.allow_nan
        return tags

    def fit(self, X, y):
        Recorder.seen.append(X)
        self.classes_, counts = np.unique(y, return_counts=True)
        self.frequencies = counts / counts.sum()
        return self

    def predict_proba(self, X):
        return np.tile(self.frequencies, (len(X), 1))


@pytest.fixture
def seen():
    Recorder.seen = []
    return Recorder.seen


def test_an_expert_is_the_mean_of_models_that_each_lack_one_fold():
    """The same trees fitted by hand; an answer is held at what n + 1 rows could say."""
    trees = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5, random_state=0)
    model = fit({"x": trees}, {"x": TABLE}, folds=3)
    folds = make_folds(strata_of(Y[:, None]), None, ROWS, 3, 0)
    new = np.random.default_rng(1).normal(size=(20, 3))
    logs = []
    for fold in range(3):
        p = trees.fit(TABLE[folds != fold], Y[folds != fold]).predict_proba(new)
        logs.append(np.log((p * ROWS + 0.5) / (ROWS + 1)))
    mean = np.mean(logs, axis=0)
    want = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.experts_proba({"x": new})["x"], want, rtol=1e-9)


@pytest.mark.parametrize("wrap", [lambda model: model, CalibratedClassifierCV])
def test_a_pipeline_that_selects_columns_by_name_reads_the_table(wrap):
    names = ["p", "q", "r"]
    table = pd.DataFrame(TABLE, columns=names)
    select = make_column_transformer((StandardScaler(), ["p"]), ("passthrough", ["r"]))
    one = fit({"x": wrap(make_pipeline(select, LogisticRegression()))}, {"x": table})
    without_q = fit(
        {"x": wrap(make_pipeline(select, LogisticRegression()))}, {"x": table.assign(q=0)}
    )
    found, want = (model.predict_proba({"x": table}) for model in (one, without_q))
    np.testing.assert_array_equal(found, want)
    fused = make_pipeline(make_column_transformer((StandardScaler(), ["x__p"])), Recorder())
    fit({"inter": fused, "series": Recorder()}, {"x": table, "series": X["series"]})


def test_what_a_model_of_ones_own_raises_names_it_in_one_line():
    for model, message in (
        (MultinomialNB(), "MultinomialNB, the expert that reads x: Negative values in data"),
        (make_pipeline(make_column_transformer(("drop", ["zz"]))), "Pipeline, the expert that"),
        (nn.Linear, "Linear, the expert that reads x: empty"),
        (lambda shape: nn.Linear(3, 2), "the expert that reads x: .*takes 1 positional argument"),
        (lambda shape, classes: nn.Linear, "an expert's function gave <class"),
        (KNeighborsClassifier(1_000), "KNeighborsClassifier, the expert that reads x: Expected n"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            fit({"x": model}, {"x": TABLE})
        assert "\n" not in str(caught.value)


def test_a_model_that_takes_nan_reads_columns_by_name_and_others_what_is_filled(seen):
    table = pd.DataFrame({"age": TABLE[:, 0], "ward": np.array(["u", "v"])[Y]})
    table.loc[::4, "age"] = np.nan
    fit({"x": Recorder()}, {"x": table})
    raw = seen[-1]
    assert list(raw.columns) == ["age", "ward"] and raw["ward"].dtype == "category"
    assert raw["age"].isna().any()
    fit({"x": Recorder(allow_nan=False)}, {"x": table})
    assert np.isfinite(seen[-1]).all()


def test_a_fused_model_reads_the_columns_of_all_its_modalities(seen):
    table = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    fit({"inter": Recorder()}, {"u": table[["a", "b"]], "v": table[["c"]]})
    assert list(seen[-1].columns) == ["u__a", "u__b", "v__c"]


def test_an_expert_is_trained_on_the_rows_that_have_its_modalities(seen):
    blocks = X | {"static": without(TABLE, np.arange(ROWS) < 20)}
    fit({"static": Recorder()}, blocks)
    assert sum(map(len, seen)) == ROWS - 20  # two folds: each row trains one model


def test_a_column_may_be_empty_in_a_part_of_the_training_rows():
    """Trees of scikit-learn cannot be fitted on a column of NaN alone."""
    table = TABLE.copy()
    table[1:, 2] = np.nan
    for experts in ({}, {"x": HistGradientBoostingClassifier(max_iter=2)}):
        found = fit(experts, {"x": table}).predict_proba({"x": table})
        assert np.isfinite(found).all()


def test_a_class_that_a_fold_lacks_has_a_small_probability():
    y = Y.copy()
    y[7] = 2
    found = fit({"x": LogisticRegression()}, {"x": TABLE}, y).predict_proba({"x": TABLE})
    assert found.shape == (ROWS, 3) and (found[:, 2] > 0).all()
    assert found[:, 2].mean() < 0.2


def test_mixtures_of_models_pipelines_modules_and_defaults():
    experts = {
        "static": make_pipeline(SimpleImputer(), RandomForestClassifier(3)),
        "series": lambda shape, classes: nn.Sequential(
            nn.Flatten(), nn.Linear(shape[0] * shape[1], classes)
        ),
    }
    model = fit(experts, X | {"static": without(TABLE, np.arange(ROWS) % 9 == 0)})
    kinds = [type(model.experts_.members[name][0]).__name__ for name in model.expert_names_]
    assert kinds == ["ScikitLearn", "Network", "Linear"]
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_forests_are_seeded_and_repeat():
    first, second = (fit({"static": RandomForestClassifier(3)}) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


# Modules


class Recurrent(nn.Module):
    """As users write them: with a state that it makes itself."""

    def __init__(self, shape, classes):
        super().__init__()
        self.gru = nn.GRU(shape[-1], 4, batch_first=True)
        self.head = nn.Linear(4, classes)

    def forward(self, series):
        state = torch.zeros(1, len(series), 4)
        return self.head(self.gru(series, state)[1][0])


class Fused(nn.Module):
    def __init__(self, shapes, classes):
        super().__init__()
        inputs = sum(int(np.prod(shape)) for shape in shapes.values())
        self.head = nn.Linear(inputs, classes)

    def forward(self, inputs):
        return self.head(torch.cat([one.flatten(1) for one in inputs.values()], dim=1))


def test_factories_get_the_shape_of_an_example_and_the_number_of_classes():
    shapes = {}

    def linear(shape, classes):
        shapes[shape] = classes
        return nn.Linear(shape[0], classes)

    model = fit({"static": linear, "series": Recurrent, "inter": Fused}, combine="joint")
    assert shapes == {(3,): 2}
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_a_module_is_copied_for_every_fold_and_stays_as_it_was():
    module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    hardly_trained = {"epochs": 1, "lr": 1e-9}
    model = fit({"static": module}, combine="separate", network=hardly_trained)
    first, second = model.experts_.members["static"][0].network.copies
    torch.testing.assert_close(first[0].weight, module[0].weight)
    assert not torch.equal(first[1].running_mean, second[1].running_mean)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_linear_module_learns_what_logistic_regression_does():
    blocks, y = two_blocks(400, seed=3)
    network = {"epochs": 200, "lr": 0.03, "weight_decay": 0.0, "patience": 30}
    settings = {"combine": "separate", "network": network}
    only = {"x": blocks["static"]}
    found = fit({"x": nn.Linear(3, 2)}, only, y, **settings).experts_proba(only)["x"]
    want = LogisticRegression(C=1e6).fit(only["x"], y).predict_proba(only["x"])
    assert np.abs(found - want).mean() < 0.03


def test_a_module_of_a_regression_gives_mean_and_log_variance():
    y = 3 * TABLE[:, 0] + 1
    network = {"epochs": 100, "lr": 0.1}
    experts = {"x": nn.Linear(1, 2)}
    model = I2M2Regressor(experts=experts, folds=2, network=network)
    model.fit({"x": TABLE[:, :1]}, y)
    assert model.score({"x": TABLE[:, :1]}, y) > 0.98


WRONG = [
    (LinearSVC(), "LinearSVC has no predict_proba; give a classifier that has"),
    (Ridge(), "Ridge has no predict_proba"),
    (LogisticRegression, "an expert is a scikit-learn estimator, an nn.Module or a function"),
    ("forest", "an expert is a scikit-learn estimator"),
    (nn.Linear(5, 2), "the module for static fails with examples of the shape (3,)"),
    (Pair(), "the module for static gives a tuple; a tensor of logits is needed"),
    (Says([np.nan, 1.0]), "Says, the expert that reads static: predict_proba gives NaN"),
    (Says([-1.0, 2.0]), "predict_proba gives numbers below 0"),
    (Says([1.0]), "predict_proba gives an array of the shape"),
    (nn.Linear(3, 1), "the module for static gives (1,) numbers an example; 2 are needed"),
    (lambda shape, classes: 5, "an expert's function gave 5; it makes an nn.Module"),
]


@pytest.mark.parametrize("expert, message", WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_an_expert_is_said_in_one_line(expert, message):
    with pytest.raises(InputError) as caught:
        fit({"static": expert})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_module_of_several_labels_is_told_how_many_numbers_it_gives():
    labels = np.stack([Y, Y], axis=1)
    with pytest.raises(
        InputError, match=r"gives \(2,\) numbers.* 4 are needed, 2 for each of 2 la"
    ):
        fit({"static": nn.Linear(3, 2)}, y=labels)


def test_a_module_that_reads_no_dict_is_no_fused_expert():
    with pytest.raises(InputError, match=r"for static\+series fails with a dict of examples"):
        fit({"inter": nn.Linear(5, 2)})


def test_what_is_frozen_of_a_module_stays_as_it_is():
    part = nn.Linear(3, 2).requires_grad_(False)
    for module in (nn.Sequential(part, nn.Linear(2, 2)), nn.Sequential(part)):
        model = fit({"static": module})
        for one in model.experts_.members["static"][0].network.copies:
            assert torch.equal(one[0].weight, part.weight)


def test_additive_models_are_sums_of_functions_of_one_modality_each():
    """Exchanging b changes their means as much for one a as for another."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 80, 2))
    given = read_blocks({"a": a, "b": b}, None, None)
    preparation = Preparation().fit(given, 0)
    y = (a[:, 0] * b[:, 0])[:, None]  # which they cannot learn
    blocks, folds = preparation.transform(given), np.arange(80) % 3
    examples = Examples(blocks, ("a", "b"), y, folds, Gaussian(1), 0)
    other_a, other_b = blocks["a"].take(np.arange(80)[::-1]), blocks["b"].take(np.arange(80)[::-1])
    for member in members_for(Additive({}, []), TrainingSettings(epochs=3)):
        member.fit(examples)
        corners = [
            member.outputs({"a": one, "b": other})[:, 0, 0]
            for one in (blocks["a"], other_a)
            for other in (blocks["b"], other_b)
        ]
        signs = np.array([1, -1, -1, 1])
        np.testing.assert_allclose(signs @ np.stack(corners), 0, atol=1e-6)
        assert np.ptp(corners[0]) > 0


def test_the_sum_of_networks_goes_on_from_those_of_the_unimodal_experts():
    """Its loss on held-out rows is no larger than that of the sum as it begins, and networks of
    other folds are not taken."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 90, 2))
    preparation, family = Preparation(), Categorical([2])
    blocks = preparation.fit(given := read_blocks({"a": a, "b": b}, None, None), 0).transform(given)
    y = (a[:, 0] + b[:, 0] > 0).astype(int)[:, None]
    examples = Examples(blocks, ("a", "b"), y, np.arange(90) % 3, family, 0)
    settings, trained, begun = TrainingSettings(epochs=3), {}, 0
    every = torch.arange(90).expand(3, -1)
    for name in ("a", "b"):
        trained[name] = Network(settings)
        trained[name].fit(replace(examples, modalities=(name,)))
        begun = begun + outputs_of(trained[name].network, blocks, every)
    begun = log_softmax(begun[np.arange(90) % 3, np.arange(90)])
    found = SumOfNetworks(settings, trained).fit(examples)
    assert family.nll(found, y).mean() <= family.nll(begun, y).mean() + 1e-6
    again = SumOfNetworks(settings, {}).fit(replace(examples, folds=np.arange(90) % 2))
    other_folds = SumOfNetworks(settings, trained)
    np.testing.assert_array_equal(
        other_folds.fit(replace(examples, folds=np.arange(90) % 2)), again
    )


@pytest.mark.parametrize("experts", [{}, {"static": HistGradientBoostingClassifier(max_iter=2)}])
def test_networks_that_lack_a_fold_are_not_trained_jointly(experts):
    """Two groups have the one modality, the two others the other: no network knows all folds."""
    group = np.arange(ROWS) % 4
    blocks = {"static": without(X["static"], group < 2), "series": without(X["series"], group >= 2)}
    settings = QUICK | {"experts": experts, "folds": 4}
    with pytest.warns(UserWarning, match="occur together in 0 rows"):
        model = I2M2Classifier(**settings).fit(blocks, Y, groups=group)
    assert model.combine_ == "separate"
    with (
        pytest.warns(UserWarning, match="occur together in 0 rows"),
        pytest.raises(InputError, match="rows of every network's modalities in every fold"),
    ):
        I2M2Classifier(**settings | {"combine": "joint"}).fit(blocks, Y, groups=group)


def test_a_modality_that_hardly_anyone_has_is_named():
    blocks = X | {"series": without(X["series"], np.arange(ROWS) > 0)}
    with (
        pytest.warns(UserWarning, match="occur together in 1 rows"),
        pytest.raises(InputError, match="series: only 1 rows have this, all in one fold"),
    ):
        fit({}, blocks)


@pytest.mark.parametrize("categories", [63, 64, 100])
def test_trees_tell_all_categories_of_a_column_apart(categories):
    x = np.arange(400) % categories
    y = (x % 2).astype(int)
    frame = pd.DataFrame({"ward": [f"w{value}" for value in x], "age": np.zeros(400)})
    model = I2M2Classifier({"static": ["ward"], "other": ["age"]}, **QUICK).fit(frame, y)
    assert (model.predict(frame) == y).mean() > 0.9
