"""Blocks become what experts read by what training rows say alone; each row by itself."""

import re

import numpy as np
import pandas as pd
import pytest

from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.given.values import InputError
from i2m2.estimator.prepared.forms import CLIP
from i2m2.estimator.prepared.preparation import Preparation
from i2m2.estimator.prepared.series import STEPS
from i2m2.estimator.prepared.wide import WORDS

RNG = np.random.default_rng(0)


def fit(**blocks):
    return Preparation().fit(read_blocks(blocks))


def prepare(preparation, **blocks):
    """{modality: prepared block}, read as the kinds of training."""
    kinds = {name: preparation.kinds[name] for name in blocks}
    return preparation.transform(read_blocks(blocks, kinds=kinds))


def test_numbers_are_standardised_by_training_rows():
    training, new = RNG.normal(3, 2, (50, 2)), RNG.normal(0, 9, (20, 2))
    found = prepare(fit(x=training), x=new)["x"]
    want = (new - training.mean(axis=0)) / training.std(axis=0)
    np.testing.assert_allclose(found.dense, np.clip(want, -CLIP, CLIP), atol=1e-6)
    np.testing.assert_array_equal(found.features, new)


def test_the_unit_of_the_numbers_does_not_matter():
    shapes = {"table": (30, 3), "series": (30, 5, 2), "picture": (30, 4, 4, 3)}
    blocks = {name: RNG.normal(2, 1, shape) for name, shape in shapes.items()}
    blocks["series"][..., 0] = 3.3  # constant, in any unit
    in_tesla = {name: 2.0**-43 * block for name, block in blocks.items()}  # 1e-13
    found, expected = (prepare(fit(**given), **given) for given in (in_tesla, blocks))
    for name in shapes:
        np.testing.assert_allclose(found[name].dense, expected[name].dense, atol=1e-5)
    for name in ("series", "picture"):
        np.testing.assert_allclose(found[name].grid, expected[name].grid, atol=1e-5)
    assert np.abs(found["series"].dense[:, ::2]).max() < 1e-12  # but for rounding


@pytest.mark.parametrize("kind", ["series", "embedding"])
def test_a_large_offset_does_not_matter(kind):
    values = np.random.default_rng(0).integers(0, 99, (40, 12, 2)).astype(np.float32)
    values = values if kind == "series" else values[..., 0]
    forms = []
    for offset in (0.0, 1.7e9):  # seconds since 1970
        given = read_blocks({"x": offset + values.astype(np.float64)}, kinds={"x": kind})
        forms.append(Preparation().fit(given).transform(given)["x"])
    plain = read_blocks({"x": values}, kinds={"x": kind})
    forms.append(Preparation().fit(plain).transform(plain)["x"])
    for name in ("dense", "grid", "shapes"):
        near, far, narrow = (getattr(one, name) for one in forms)
        if near is not None:
            np.testing.assert_allclose(far, near, atol=1e-4)
            np.testing.assert_allclose(narrow, near, atol=1e-6)


def test_a_missing_number_is_the_mean_and_has_an_indicator():
    training = RNG.normal(size=(40, 2))
    training[:10, 1] = np.nan
    dense = prepare(fit(x=training), x=training)["x"].dense
    assert dense.shape[1] == 3
    np.testing.assert_array_equal(dense[:10, 1], 0)
    assert len(np.unique(dense[:10, 2])) == len(np.unique(dense[10:, 2])) == 1
    assert dense[0, 2] > 0 > dense[10, 2]


def test_constant_columns_are_zero_and_empty_ones_are_not_read():
    table = pd.DataFrame({"one": 1e6, "none": np.nan, "x": RNG.normal(size=30)})
    preparation = fit(t=table)
    found = prepare(preparation, t=table)["t"]
    assert found.names == ["one", "x"]
    np.testing.assert_array_equal(found.dense[:, 0], 0)
    filled = prepare(preparation, t=table.assign(none="a text"))["t"]
    np.testing.assert_array_equal(filled.dense, found.dense)


def test_categories_of_training_have_columns_and_others_have_none():
    preparation = fit(t=pd.DataFrame({"c": ["u", "v", "u", None]}))
    found = prepare(preparation, t=pd.DataFrame({"c": ["v", "u", "new"]}))["t"]
    codes = found.features[:, 0]
    one_hot = found.dense[:, -2:]
    np.testing.assert_array_equal(one_hot.sum(axis=1), [1, 1, 0])
    assert set(codes[:2]) == {0.0, 1.0} and np.isnan(codes[2])
    np.testing.assert_array_equal(one_hot[:2].argmax(axis=1), codes[:2])


def test_a_category_of_numbers_may_come_as_numbers():
    postcodes = [90210123, 10115, 90210123, 75001]
    preparation = fit(t=pd.DataFrame({"c": pd.Categorical(postcodes)}))
    as_trained = prepare(preparation, t=pd.DataFrame({"c": pd.Categorical(postcodes)}))["t"]
    as_numbers = prepare(preparation, t=pd.DataFrame({"c": np.array(postcodes, float)}))["t"]
    np.testing.assert_array_equal(as_numbers.features, as_trained.features)


@pytest.mark.parametrize(
    "trained, new, same",
    [
        (["True", "False", "unknown"], [True, False, True], ["True", "False", "True"]),
        (["yes", "TRUE", "FALSE"], [True, False, True], ["TRUE", "FALSE", "TRUE"]),
        ([True, False, "no"], [True, None, False], ["True", None, "False"]),
        (["1.0", "2.0", "unknown"], [1.0, 2.0, np.nan], ["1.0", "2.0", None]),
        (["007", "012", "unknown"], [7, 12, 5], ["007", "012", "never seen"]),
        (["1.0", "1.00", "unknown"], [1.0, 1.0, np.nan], ["never seen", "never seen", None]),
        (["1", "1.0", "True"], [1.0, 1.0, np.nan], ["1", "1", None]),
    ],
)
def test_a_category_of_texts_may_come_as_the_numbers_or_truths_they_stand_for(trained, new, same):
    preparation = fit(t=pd.DataFrame({"c": trained, "x": range(3)}))
    found, want = (
        prepare(preparation, t=pd.DataFrame({"c": given, "x": range(3)}))["t"]
        for given in (new, same)
    )
    np.testing.assert_array_equal(found.features, want.features)


def all_kinds(rows):
    """Every kind of block; series of unequal length, the longest first."""
    rng = np.random.default_rng(rows)
    texts = [" ".join(rng.choice(["sun", "rain", "wind", "snow"], 4)) for _ in range(rows)]
    steps = [10, *rng.integers(1, 10, rows - 1)]
    return {
        "table": rng.normal(size=(rows, 3)),
        "series": [rng.normal(size=(length, 2)) for length in steps],
        "picture": rng.integers(0, 255, (rows, 40, 36, 3)).astype(np.uint8),
        "text": texts,
        "embedding": rng.normal(size=(rows, 300)),
    }


def test_a_row_is_prepared_the_same_alone_and_beside_others():
    blocks = all_kinds(40)
    preparation = fit(**blocks)
    together = prepare(preparation, **blocks)
    for row in (0, 7, 39):
        alone = prepare(preparation, **{name: b[row : row + 1] for name, b in blocks.items()})
        for name, want in together.items():
            found = alone[name]
            np.testing.assert_allclose(found.dense[0], want.dense[row], atol=1e-5, err_msg=name)
            np.testing.assert_allclose(found.features[0], want.features[row], 1e-5, 1e-5)
            if want.grid is not None:
                np.testing.assert_allclose(found.grid[0], want.grid[row], atol=1e-5, err_msg=name)


def test_a_series_is_prepared_the_same_beside_one_longer_than_any_of_training():
    series = all_kinds(40)["series"]
    preparation = fit(series=series)
    alone = prepare(preparation, series=series)["series"]
    beside = prepare(preparation, series=[*series, RNG.normal(size=(70, 2))])["series"]
    for form in ("dense", "features", "grid", "shapes"):
        one, other = getattr(alone, form), getattr(beside, form)[:40]
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=form)


def test_what_experts_read_is_finite_and_of_training_widths():
    blocks = all_kinds(40)
    preparation = fit(**blocks)
    widths = {name: one.dense.shape[1] for name, one in prepare(preparation, **blocks).items()}
    hard = {
        "table": np.array([[np.nan, 1e30, 0.0]]),
        "series": [np.full((200, 2), 1e30)],
        "picture": np.zeros((1, 40, 36, 3), np.uint8),
        "text": ["words never seen"],
        "embedding": np.full((1, 300), 1e30),
    }
    for name, one in prepare(preparation, **hard).items():
        assert np.isfinite(one.dense).all(), name
        assert one.grid is None or np.isfinite(one.grid).all(), name
        assert one.dense.shape[1] == widths[name]


def test_a_grid_of_time_holds_means_of_equal_bins():
    series = RNG.normal(size=(30, 2 * STEPS, 1)).astype(np.float32)
    grid = prepare(fit(s=series), s=series)["s"].grid
    scaled = (series[:, :, 0] - series.mean()) / series.std()
    np.testing.assert_allclose(grid[:, 0], scaled.reshape(30, STEPS, 2).mean(axis=2), atol=1e-5)


def test_summaries_of_a_series_equal_those_of_numpy():
    series = RNG.normal(size=(30, 9, 2)).astype(np.float32)
    series[0, 3:, 0] = np.nan
    features = prepare(fit(s=series), s=series)["s"].features
    known = series[0, :3, 0]
    means = series[1].mean(axis=0)
    np.testing.assert_allclose(features[1, :2], means, rtol=1e-5)
    first_channel = [known.mean(), known.min(), known.max(), known[-1]]
    np.testing.assert_allclose(features[0, 0::2], first_channel, rtol=1e-5)


def test_a_sentence_without_spaces_is_told_apart_by_its_characters():
    for well, ill in (("患者无不适", "患者恶心"), ("ผู้ป่วยปกติดี", "ผู้ป่วยคลื่นไส้")):
        texts = [f"{(well, ill)[k % 2]} {k}" for k in range(40)]
        dense = fit(x=texts).transform(read_blocks({"x": texts}))["x"].dense
        first, second, third = dense[:3]
        assert np.abs(first - third).sum() < np.abs(first - second).sum()


def test_words_between_spaces_are_words():
    text = "Don't: a good_day, naïve 12 días; Größe x2 Привет"
    assert re.findall(WORDS, text) == re.findall(r"\b\w+\b", text)
    assert re.findall(WORDS, "CT检查12天") == ["CT", "检", "查", "12", "天"]


def test_a_modality_that_is_missing_is_zeros_that_nobody_reads():
    preparation = fit(a=RNG.normal(size=(30, 2)), s=RNG.normal(size=(30, 5, 1)))
    found = prepare(preparation, a=RNG.normal(size=(4, 2)))["s"]
    assert not found.present.any() and not found.dense.any() and not found.grid.any()
    assert np.isnan(found.features).all() and len(found) == 4


@pytest.mark.parametrize(
    "new, message",
    [
        ({"z": np.zeros((2, 3))}, "there was no modality 'z' in training; there were a, s"),
        ({"a": np.zeros((2, 3))}, "a: X has 3 features, but the model is expecting 2"),
        ({"a": np.array([["u", "v"]])}, "a: column 0 held numbers in training, and now 'u'"),
        ({"s": np.zeros((2, 5, 3))}, "s: a series of 3 channels; in training it had 1"),
    ],
)
def test_other_blocks_than_those_of_training_are_refused(new, message):
    preparation = fit(a=RNG.normal(size=(30, 2)), s=RNG.normal(size=(30, 5, 1)))
    with pytest.raises(InputError) as caught:
        preparation.transform(read_blocks(new))
    assert message in str(caught.value)


def test_columns_that_changed_places_are_refused_and_a_lacking_one_is_named():
    preparation = fit(t=pd.DataFrame({"u": [1.0, 2.0], "v": [3.0, 4.0]}))
    for columns, message in ((["v", "u"], "in another order"), (["u", "w"], "it lacks 'v'")):
        with pytest.raises(InputError, match=message):
            prepare(preparation, t=pd.DataFrame([[1.0, 2.0]], columns=columns))


def test_a_block_of_nothing_cannot_be_learnt_from():
    with pytest.raises(InputError, match="x: every value is missing in all 5 rows"):
        fit(x=np.full((5, 2), np.nan))
    with pytest.raises(InputError, match="x: every value is missing in all 3 rows"):
        fit(x=[np.zeros((0, 2))] * 3)


@pytest.mark.parametrize("kind", ["embedding", "picture"])
def test_a_rows_features_do_not_depend_on_the_rows_beside_it(kind):
    """To the last bit: trees split at values of training rows."""
    numbers = np.random.default_rng(0).normal(size=(120, 400)).astype(np.float32)
    shape = (120, 20, 20) if kind == "picture" else (120, 400)
    given = read_blocks({"a": numbers.reshape(shape)}, None, {"a": kind})
    preparation = Preparation().fit(given, 0)
    whole = preparation.transform(given)["a"].features
    alone = [
        preparation.transform({"a": given["a"].take(np.array([row]))})["a"].features
        for row in range(120)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(alone))
