"""What a fitted estimator says, against exact values, identities and scikit-learn's tools."""

import copy
import re
from decimal import Decimal

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.datasets import load_linnerud
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from i2m2 import I2M2Classifier, I2M2Regressor
from i2m2.dial import Dial, render
from i2m2.estimator.given.folds import as_groups
from i2m2.estimator.given.values import InputError
from tests.i2m2.estimator.conftest import QUICK, ROWS, two_blocks, without

X, Y = two_blocks()
FRAME = pd.DataFrame(X["static"], columns=["a", "b", "c"]).assign(series=list(X["series"]))
DEALT = {"static": ["a", "b", "c"], "series": "series"}
ROW = np.arange(ROWS)
GAPS = {"static": without(X["static"], ROW % 3 == 0), "series": without(X["series"], ROW % 2 == 0)}
NEITHER = ROW % 6 == 0


@pytest.fixture(scope="module")
def model():
    return I2M2Classifier(**QUICK).fit(X, Y)


@pytest.fixture(scope="module")
def with_gaps():
    return I2M2Classifier(**QUICK).fit(GAPS, Y)


def test_the_product_comes_near_bayes_rule_where_only_both_modalities_know():
    dial = Dial(2, (0.5, 0.5), 3.0)
    training, new = dial.sample(2_000, seed=1), dial.sample(2_000, seed=2)
    blocks, others = (render(data.symbols, "onehot", 2) for data in (training, new))
    network = {"epochs": 40}
    model = I2M2Classifier(folds=2, network=network, combine="separate").fit(blocks, training.y)
    log_prob = model.predict_log_proba(others)[np.arange(2_000), new.y]
    exact = dial.log_prob(new.symbols)[np.arange(2_000), new.y]
    intra = dial.intra_log_prob(new.symbols)[np.arange(2_000), new.y]
    assert exact.mean() - log_prob.mean() < 0.02 < exact.mean() - intra.mean()


def test_with_every_modality_absent_the_answer_is_the_class_prior(with_gaps):
    counts = np.bincount(Y) + 1
    found = with_gaps.predict_proba(GAPS)[NEITHER]
    np.testing.assert_allclose(found, np.tile(counts / counts.sum(), (len(found), 1)), rtol=1e-12)


def test_contributions_sum_to_the_logits_and_are_the_pool_by_hand(with_gaps):
    parts = with_gaps.contributions(GAPS)
    logits = sum(parts.values())
    np.testing.assert_allclose(log_softmax(logits, axis=1), with_gaps.predict_log_proba(GAPS))
    both = ~np.isnan(GAPS["static"][:, 0]) & ~np.isnan(GAPS["series"][:, 0, 0])
    pool = with_gaps.pools_.of(with_gaps.expert_names_)
    experts = with_gaps.experts_proba(GAPS)
    for place, name in enumerate(with_gaps.expert_names_):
        by_hand = pool.weights[place] * np.log(experts[name][both])
        np.testing.assert_allclose(parts[name][both], by_hand, rtol=1e-6)


def test_an_expert_abstains_where_a_modality_of_it_is_absent(with_gaps):
    experts = with_gaps.experts_proba(GAPS)
    silent = {"static": ROW % 3 == 0, "series": ROW % 2 == 0}
    silent["inter"] = silent["static"] | silent["series"]
    for name, rows in silent.items():
        np.testing.assert_array_equal(np.isnan(experts[name]).all(axis=1), rows)
        np.testing.assert_allclose(experts[name][~rows].sum(axis=1), 1)


def test_a_block_may_be_left_out_be_none_or_be_nan_at_predict(model):
    static = X["static"]
    left_out = model.predict_proba({"static": static})
    nothing = np.full_like(X["series"], np.nan)
    for series in (None, nothing, [None] * ROWS):
        found = model.predict_proba({"static": static, "series": series})
        np.testing.assert_array_equal(found, left_out)


def test_every_subset_of_three_modalities_can_be_missing():
    rng = np.random.default_rng(0)
    present = np.array([[k >> bit & 1 for bit in range(3)] for k in range(8)]).repeat(10, axis=0)
    y = rng.integers(0, 2, 80)
    blocks = {
        name: without(rng.normal(size=(80, 2)) + y[:, None], present[:, bit] == 0)
        for bit, name in enumerate("abc")
    }
    model = I2M2Classifier(interactions="subsets", **QUICK).fit(blocks, y)
    assert model.expert_names_ == ["a", "b", "c", "a+b", "a+c", "b+c", "inter"]
    np.testing.assert_allclose(model.predict_proba(blocks).sum(axis=1), 1)
    speaking = ~np.isnan(model.experts_proba(blocks)["a+c"][:, 0])
    np.testing.assert_array_equal(speaking, present[:, 0] * present[:, 2] == 1)


def test_a_fused_expert_that_nobody_can_train_is_left_out_with_a_warning():
    apart = {name: without(block, k == ROW % 2) for k, (name, block) in enumerate(X.items())}
    with pytest.warns(UserWarning, match="static and series occur together in 0 rows"):
        model = I2M2Classifier(**QUICK).fit(apart, Y)
    assert model.expert_names_ == ["static", "series"]
    assert np.isfinite(model.predict_proba(X)).all()


def test_interactions_name_the_fused_experts():
    blocks = {name: X["static"][:, [k]] for k, name in enumerate("abc")}
    linear = dict.fromkeys(["a", "b", "c", "a+b", "a+c", "b+c"], LogisticRegression())
    found = I2M2Classifier(interactions="pairs", experts=linear, folds=2).fit(blocks, Y)
    assert found.expert_names_ == list(linear)


def test_best_takes_the_way_with_the_smaller_validation_nll():
    settings = QUICK | {"network": QUICK["network"] | {"epochs": 20, "lr": 0.01}}
    fitted = {
        way: I2M2Classifier(combine=way, random_state=4, **settings).fit(X, Y)
        for way in ("joint", "separate", "best")
    }
    nll = fitted["best"].validation_nll_
    assert nll["joint"] != nll["separate"]
    assert fitted["best"].combine_ == min(nll, key=nll.get)
    np.testing.assert_array_equal(
        *(fitted[way].predict_proba(X) for way in ("best", fitted["best"].combine_))
    )
    assert fitted["joint"].combine_ == "joint" and fitted["separate"].combine_ == "separate"


def test_the_same_random_state_gives_the_same_numbers_and_global_seeds_are_left_alone(model):
    np.random.seed(5)
    torch.manual_seed(5)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    again = I2M2Classifier(**QUICK).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)
    other = I2M2Classifier(random_state=1, **QUICK).fit(X, Y)
    assert np.abs(other.predict_proba(X) - model.predict_proba(X)).max() > 0


def test_a_row_is_predicted_the_same_alone_and_beside_others(model):
    together = model.predict_log_proba(X)
    for row in (0, 31, 59):
        alone = {name: block[row : row + 1] for name, block in X.items()}
        np.testing.assert_allclose(model.predict_log_proba(alone)[0], together[row], atol=1e-6)


def test_a_masked_value_is_a_missing_one():
    table = X["static"]
    hidden = ROW[:, None] % 7 == np.arange(3)
    linear = {"X": LogisticRegression()}
    models = [
        I2M2Classifier(experts=linear, folds=2).fit(given, Y)
        for given in (np.ma.array(table, mask=hidden), np.where(hidden, np.nan, table))
    ]
    found, want = (model.predict_proba(table) for model in models)
    np.testing.assert_array_equal(found, want)


def test_what_is_given_is_not_changed():
    given = FRAME.copy(deep=True)
    given.loc[3, "a"] = np.nan
    settings = copy.deepcopy(QUICK)
    before = copy.deepcopy(given)
    model = I2M2Classifier(DEALT, **settings)
    model.fit(given, Y).predict(given)
    pd.testing.assert_frame_equal(given, before)
    assert settings == QUICK and model.get_params()["modalities"] is DEALT


def test_labels_come_back_as_they_were_given():
    for labels in (np.array(["no", "yes"]), np.array([False, True]), np.array([1.0, 5.0])):
        model = I2M2Classifier(**QUICK).fit(X, pd.Series(labels[Y]))
        found = model.predict(X)
        assert found.dtype.kind == labels.dtype.kind and set(found) <= set(labels)
        assert model.score(X, labels[Y]) == (found == labels[Y]).mean()


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.datetime64("2020") + Y, "y holds dates; give classes"),
        (pd.to_timedelta(Y, "D"), "y holds dates; give classes"),
        ([b"u", b"v"] * (ROWS // 2), "y holds bytes objects (row 0); give texts"),
        ((Y * 1j).astype(object), "y holds complex objects (row 0)"),
        ([Decimal(int(one)) for one in Y], "y holds Decimal objects (row 0)"),
        (pd.Series([(one, 1) for one in Y]), "y holds tuple objects (row 0)"),
        ([[1] * (1 + one) for one in Y], "y holds ndarray objects (row 0)"),
        ([10**400 + int(one) for one in Y], "y: column 0 holds what is no number (int too large"),
        ([2**70 + 2**20 * int(one) for one in Y], "y holds whole numbers of more than 64 bits"),
        (X["static"].sum(axis=1).astype(object), "Unknown label type: continuous numbers"),
        (np.ma.array(Y, mask=ROW == 3), "y holds NaN or None (row 3)"),
        ({"died": Y}, "y needs one row per example, not {'died': array("),
    ],
)
def test_what_is_no_label_is_refused_by_name(labels, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        I2M2Classifier(**QUICK).fit(X, labels)
    assert "\n" not in str(caught.value)


def test_groups_may_be_tuples_and_are_never_missing():
    pairs = pd.Series([(f"ward {k % 4}", k % 3) for k in ROW])
    as_numbers = as_groups(pairs, ROWS)
    assert (np.unique(as_numbers[:12]) == np.arange(12)).all()
    np.testing.assert_array_equal(as_numbers, np.resize(as_numbers[:12], ROWS))
    for groups, message in (
        (np.ma.array(ROW, mask=ROW == 3), r"groups hold NaN or None \(row 3\)"),
        (pd.Series([[k] for k in ROW]), "groups hold list objects"),
        (ROW[:3], r"groups have the shape \(3,\)"),
    ):
        with pytest.raises(InputError, match=message):
            I2M2Classifier(**QUICK).fit(X, Y, groups)


def test_several_labels_keep_their_types_and_numbers_of_classes():
    labels = pd.DataFrame({"died": Y, "ward": np.array(["u", "v", "w"])[ROW % 3]})
    model = I2M2Classifier(combine="joint", **QUICK).fit(X, labels)
    found = model.predict(X)
    assert {type(item) for item in found[:, 0]} == {int}
    assert [p.shape for p in model.predict_proba(X)] == [(ROWS, 2), (ROWS, 3)]
    for p, parts in zip(
        model.predict_log_proba(X), zip(*model.contributions(X).values(), strict=True), strict=True
    ):
        np.testing.assert_allclose(np.exp(p).sum(axis=1), 1)
        np.testing.assert_allclose(log_softmax(sum(parts), axis=1), p, atol=1e-9)
    right = (found == labels.to_numpy()).mean(axis=1)
    assert model.score(X, labels) == pytest.approx(right.mean())
    assert model.score(X, labels, sample_weight=ROW) == pytest.approx(ROW @ right / ROW.sum())


def test_held_out_predictions_are_of_models_that_saw_neither_the_row_nor_its_group():
    """The nearest neighbour of a copy is the original: it is right unless groups keep them
    apart."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 2)
    x = rng.normal(size=(100, 3))[groups]
    y = rng.integers(0, 2, 100)[groups]
    right = {}
    for name, given in {"alone": None, "grouped": groups}.items():
        nearest = {"x": KNeighborsClassifier(1)}
        model = I2M2Classifier(experts=nearest, folds=5).fit({"x": x}, y, given)
        right[name] = (model.experts_.of_members["x"][0][:, 0].argmax(axis=1) == y).mean()
    assert right["alone"] > 0.8 and 0.35 < right["grouped"] < 0.65


def test_tools_of_scikit_learn_work_on_a_table_with_declared_modalities():
    model = I2M2Classifier(DEALT, **QUICK)
    groups = ROW // 5
    assert clone(model).get_params() == model.get_params()
    options = {"cv": GroupKFold(2), "groups": groups, "error_score": "raise"}
    scores = cross_val_score(model, FRAME, Y, params={"groups": groups}, **options)
    assert scores.shape == (2,)
    found = cross_val_predict(model, FRAME, Y, cv=2, method="predict_proba")
    assert found.shape == (ROWS, 2)
    search = GridSearchCV(model, {"combine": ["separate"], "folds": [2]}, cv=2).fit(FRAME, Y)
    assert search.best_params_ == {"combine": "separate", "folds": 2}
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(model).set_fit_request(groups=True)
        again = cross_val_score(routed, FRAME, Y, cv=GroupKFold(2), params={"groups": groups})
    np.testing.assert_array_equal(again, scores)


def test_it_ends_a_pipeline_and_survives_joblib(tmp_path):
    dealt = {"first": ["a", "b"], "second": ["c"]}
    scaler = StandardScaler().set_output(transform="pandas")
    model = make_pipeline(scaler, I2M2Classifier(dealt, **QUICK))
    table = FRAME[["a", "b", "c"]]
    model.fit(table, Y, i2m2classifier__groups=ROW // 2)
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))


def test_only_the_declared_columns_are_needed_after_training():
    model = I2M2Classifier(DEALT, **QUICK).fit(FRAME.assign(died=Y), Y)
    found = model.predict_proba(FRAME[["series", "c", "b", "a"]])
    np.testing.assert_array_equal(found, model.predict_proba(FRAME))
    with pytest.raises(InputError, match="static: there is no column 'b'"):
        model.predict(FRAME.drop(columns="b"))


def test_a_second_fit_forgets_the_first():
    model = I2M2Classifier(**QUICK).fit(X, Y)
    again = model.fit(X["static"], Y).predict_proba(X["static"])
    fresh = I2M2Classifier(**QUICK).fit(X["static"], Y).predict_proba(X["static"])
    np.testing.assert_array_equal(again, fresh)


@pytest.mark.parametrize("rows", [2, 4, 20])
def test_few_rows_and_rare_classes_can_be_fitted(rows):
    y = ROW[:rows] % 2
    if rows == 20:
        y[0] = 2
    model = I2M2Classifier(folds=5, network=QUICK["network"])
    model.fit({name: block[:rows] for name, block in X.items()}, y)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_the_target_among_the_columns_is_refused():
    table = FRAME[["a", "b"]].assign(died=Y)
    with pytest.raises(InputError, match="X: its column 'died' is the target"):
        I2M2Classifier(**QUICK).fit(table, table["died"])
    with pytest.raises(InputError, match="static: its column 'died' is the target"):
        I2M2Classifier({"static": ["a", "died"]}, **QUICK).fit(table, table[["died", "a"]] > 0)
    with pytest.raises(InputError, match="X: its column 'died' is the target"):
        I2M2Classifier(**QUICK).fit(table, Y.tolist())  # which has no name
    for words in (["no", "yes"], [None, "x"], [2, 1]):
        table["died"] = np.array(words, dtype=object)[Y]
        with pytest.raises(InputError, match="X: its column 'died' is the target"):
            I2M2Classifier(**QUICK).fit(table, pd.Series(Y, name="died"))


@pytest.mark.parametrize("what", ["y", "groups"])
def test_labels_indexed_like_x_in_another_order_are_refused(what):
    labels = pd.Series(Y, index=FRAME.index)
    given = {"y": labels, "groups": labels} | {what: labels[::-1]}
    with pytest.raises(InputError, match=f"X and {what} have the same labels of rows in another"):
        I2M2Classifier(DEALT).fit(FRAME, **given)


def test_scores_of_other_rows_than_those_predicted_are_refused():
    linear = {"experts": {"X": LogisticRegression()}, "folds": 2}
    table, labels = FRAME[["a", "b"]], pd.Series(Y, index=FRAME.index)
    model = I2M2Classifier(**linear).fit(table, np.stack([Y, 1 - Y], axis=1))
    with pytest.raises(InputError, match="X and y have the same labels of rows in another order"):
        model.score(table, labels[::-1])
    with pytest.raises(InputError, match=r"y has the shape \(1, 2\), and what is predicted"):
        model.score(table, [[0, 1]])
    linear = {"experts": {"X": LinearRegression()}, "folds": 2}
    target = FRAME["a"] ** 2 + Y
    model = I2M2Regressor(**linear).fit(table, target)
    for score in (model.score, model.scores):
        with pytest.raises(InputError, match="X and y have the same labels of rows in another"):
            score(table, target[::-1])
    with pytest.raises(InputError, match="level=2 must be between 0 and 1"):
        model.scores(table, target, level=2)


def test_modalities_beside_a_mapping_of_blocks_are_refused():
    with pytest.raises(InputError, match="modalities deals out the columns of a table, and X is a"):
        I2M2Classifier({"static": [0]}, **QUICK).fit(X, Y)


def test_a_column_that_only_shares_the_targets_name_or_says_as_much_is_read():
    table = FRAME[["a", "b"]].assign(died=1 - Y)
    linear = {"experts": {"X": LogisticRegression()}, "folds": 2}
    assert I2M2Classifier(**linear).fit(table, pd.Series(Y, name="dead")).score(table, Y) == 1
    tomorrow = pd.Series(np.roll(table["a"], 1), name="a")  # all values differ, and so map 1:1
    I2M2Regressor(experts={"X": LinearRegression()}, folds=2).fit(table, tomorrow)


WRONG = [
    ({"interactions": "every"}, "interactions='every' is unknown; choose one of all, pairs"),
    ({"combine": "both"}, "combine='both' is unknown; choose one of best, joint, separate"),
    ({"folds": 1}, "folds=1: give a whole number from 2"),
    ({"folds": 2.5}, "folds=2.5: give a whole number from 2"),
    ({"network": {"epoch": 3}}, "network: 'epoch' is unknown; choose from width"),
    ({"network": {"epochs": 0}}, "network: epochs=0; give a whole number from 1"),
    ({"network": {"width": 1}}, "network: width=1; give a whole number from 2"),
    ({"network": {"lr": "fast"}}, "network: lr='fast'; give a number"),
    ({"network": {"dropout": 1.0}}, "network: dropout=1.0; give a number in [0, 1)"),
    ({"network": 5}, "network=5: give a mapping"),
    ({"experts": ["static"]}, "experts=['static']: give a mapping"),
    ({"experts": dict}, "experts=<class 'dict'>: give a mapping"),
    ({"random_state": "x"}, "random_state='x': give a whole number or None"),
    ({"combine": ["best"]}, "combine=['best'] is unknown; choose"),
    ({"experts": {"zz": None}}, "there is no expert 'zz'; there are static, series, inter"),
]


@pytest.mark.parametrize("settings, message", WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_setting_is_one_line_that_says_what_would_be_right(settings, message):
    with pytest.raises(InputError) as caught:
        I2M2Classifier(**(QUICK | settings)).fit(X, Y)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["inter", "prior", "a+b", 7])
def test_a_modality_has_a_name_of_its_own(name):
    with pytest.raises(InputError, match="a modality cannot be called"):
        I2M2Classifier(**QUICK).fit({name: X["static"], "series": X["series"]}, Y)


def test_data_unlike_those_of_training_are_refused(model):
    for wrong, message in (
        (X["static"], r"X was a mapping of blocks in training \(static, series\)"),
        (X | {"other": Y}, "there was no modality 'other' in training"),
        ({"static": X["static"][:, :2]}, "static: X has 2 features"),
        ({"static": X["static"], "series": X["series"][:3]}, "unequal numbers of rows"),
    ):
        with pytest.raises(InputError, match=message):
            model.predict(wrong)
    table = I2M2Classifier(DEALT, **QUICK).fit(FRAME, Y)
    with pytest.raises(InputError, match="Reshape your data"):
        table.predict(FRAME.iloc[0])
    with pytest.raises(InputError, match="X has 60 rows and y has 10"):
        model.fit(X, Y[:10])


# Regression


def linear_target(rows, seed):
    """y = 10 a - 5 b + 100 + noise of standard deviation 2."""
    rng = np.random.default_rng(seed)
    blocks = {"a": rng.normal(size=(rows, 1)), "b": rng.normal(size=(rows, 1))}
    mean = 10 * blocks["a"][:, 0] - 5 * blocks["b"][:, 0] + 100
    return blocks, mean + rng.normal(scale=2, size=rows)


@pytest.fixture(scope="module")
def regression():
    blocks, y = linear_target(400, 0)
    return I2M2Regressor(**QUICK).fit(blocks, y), y


def test_a_linear_target_is_found_with_its_noise(regression):
    model, _ = regression
    blocks, y = linear_target(2_000, 1)
    mean, std = model.predict(blocks, return_std=True)
    assert np.sqrt(((mean - y) ** 2).mean()) < 2.2
    assert np.median(std) == pytest.approx(2, rel=0.15)
    low, high = model.predict_interval(blocks, 0.9)
    assert ((low <= y) & (y <= high)).mean() == pytest.approx(0.9, abs=0.04)
    assert model.score(blocks, y) == pytest.approx(model.scores(blocks, y)["r2"])
    with pytest.raises(InputError, match=r"the shape \(2000, 2\), and what is pre"):
        model.scores(blocks, np.column_stack([y, y]))


def test_the_product_is_the_precision_weighted_gaussian(regression):
    model, y = regression
    blocks, _ = linear_target(50, 2)
    mean, std = model.predict(blocks, return_std=True)
    pool = model.pools_.of(model.expert_names_)
    gaussians = [*model.experts_predict(blocks).values(), (y.mean(), y.std())]
    weights = [*pool.weights[:, 0], pool.gamma[0]]
    precisions = [w / s**2 for w, (_, s) in zip(weights, gaussians, strict=True)]
    total = sum(p * m for p, (m, _) in zip(precisions, gaussians, strict=True))
    np.testing.assert_allclose(mean, total / sum(precisions), rtol=1e-9)
    np.testing.assert_allclose(std, sum(precisions) ** -0.5, rtol=1e-9)
    np.testing.assert_allclose(sum(model.contributions(blocks).values()), mean, rtol=1e-9)


def test_a_regression_without_any_modality_is_the_mean_and_spread_of_training(regression):
    model, y = regression
    mean, std = model.predict({"a": np.full((3, 1), np.nan)}, return_std=True)
    np.testing.assert_allclose(mean, y.mean())
    np.testing.assert_allclose(std, y.std())


def test_several_targets_are_predicted_side_by_side():
    x, y = load_linnerud(return_X_y=True)
    blocks = {"bars": x[:, :1], "rest": x[:, 1:]}
    model = I2M2Regressor(**QUICK).fit(blocks, y)
    assert model.predict(blocks).shape == y.shape
    assert model.predict_interval(blocks).shape == (2, *y.shape)
    np.testing.assert_allclose(sum(model.contributions(blocks).values()), model.predict(blocks))
    linear = {name: LinearRegression() for name in (*blocks, "inter")}
    alone = I2M2Regressor(experts=linear, folds=2).fit(blocks, y[:, 0])
    both = I2M2Regressor(experts=linear, folds=2).fit(blocks, y)
    np.testing.assert_allclose(both.predict(blocks)[:, 0], alone.predict(blocks))


@pytest.mark.parametrize(
    "y, message",
    [
        (np.where(Y, "u", "v"), "y holds what is no number"),
        (np.full(ROWS, 0.1), "y is 0.1 in every row; there is nothing to learn"),
        (np.stack([Y, np.full(ROWS, 7)], axis=1), "target 1 of y is 7 in every row"),
        (np.where(Y, 1e300, 0), "y: column 0 holds infinity (row "),
        (np.datetime64("2020") + Y, "y holds dates"),
    ],
)
def test_a_target_from_which_no_number_can_be_learnt_is_refused(y, message):
    with pytest.raises(InputError, match=re.escape(message)):
        I2M2Regressor(**QUICK).fit(X, y)


def test_an_expert_of_a_regression_is_a_regressor():
    with pytest.raises(InputError, match="LogisticRegression is a classifier"):
        given = {"static": LogisticRegression()}
        I2M2Regressor(experts=given, **QUICK).fit(X, X["static"].sum(axis=1))
