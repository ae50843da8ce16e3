"""Splits by group, and standardised inputs."""

import numpy as np
import pandas as pd
import pytest

from i2m2.errors import DataError
from i2m2.training.preparation import group_split, standardise, stratified_folds


def test_a_split_keeps_a_group_together_and_survives_another_cohort():
    subjects = np.random.default_rng(0).integers(0, 400, 1000)
    split = group_split(subjects)
    parts = [set(subjects[rows]) for rows in split]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert sorted(np.concatenate(split)) == list(range(1000))
    assert len(parts[1]) == len(parts[2]) == len(set(subjects)) // 10
    fewer = subjects[subjects >= 20]  # 5 % of the patients are not in this cohort
    again = [set(fewer[rows]) for rows in group_split(fewer)]
    remaining = set(fewer)
    moved = sum(len(part & remaining - new) for part, new in zip(parts, again, strict=True))
    assert moved < 0.03 * 400


def test_groups_of_another_unit_of_time_stay_where_they_were():
    days = np.datetime64("2020-01-01") + np.arange(40)
    in_nanoseconds = days.astype("M8[ns]")
    assert group_split(in_nanoseconds).val.tolist() == [2, 6, 21, 34]
    as_numbers = group_split(in_nanoseconds.astype(np.int64))
    np.testing.assert_array_equal(group_split(in_nanoseconds).test, as_numbers.test)


def test_folds_keep_groups_together_and_the_shares_of_the_labels_alike():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 300, 2000).astype(str)
    y = (rng.random(2000) < 0.15).astype(int)
    fold = stratified_folds(y, group, 5, seed=1)
    assert all(len(set(fold[group == name])) == 1 for name in set(group))
    shares = [y[fold == k].mean() for k in range(5)]
    assert np.ptp(shares) < 0.01 and np.ptp(np.bincount(fold)) < 60
    assert np.array_equal(fold, stratified_folds(y, group, 5, seed=1))
    assert not np.array_equal(fold, stratified_folds(y, group, 5, seed=2))
    two = stratified_folds(np.stack([y, 1 - y], axis=1), group, 5, seed=1)
    assert np.ptp([y[two == k].mean() for k in range(5)]) < 0.01


def test_more_parts_than_groups_are_refused():
    group = np.array([1, 1, 2, 2])
    with pytest.raises(DataError, match="2 groups cannot be split into 10 parts"):
        group_split(group)
    with pytest.raises(DataError, match="2 groups cannot be split into 5 folds"):
        stratified_folds(np.array([0, 1, 0, 1]), group)
    with pytest.raises(DataError, match="3 folds: "):
        stratified_folds(np.array([0, 1, 0, 1]), np.arange(4), folds=3)


def test_groups_that_are_no_names_of_one_and_too_few_parts_are_refused():
    with pytest.raises(DataError, match="group: row 1 has none"):
        group_split(np.array(["a", None, "b"], object))
    with pytest.raises(DataError, match="group: row 0 has none"):
        group_split(np.array([np.nan, 1.0]))
    with pytest.raises(DataError, match=r"group: the shape is \[2, 2\]"):
        group_split(np.zeros((2, 2)))
    with pytest.raises(DataError, match="parts=2 leaves nothing to train on; give at least 3"):
        group_split(np.arange(20), parts=2)


@pytest.mark.parametrize("x", [np.arange(4.0), pd.Series([1.0, 2.0]), np.ones((3, 2)) * 1j])
def test_what_has_no_features_of_real_numbers_is_not_standardised(x):
    with pytest.raises(DataError, match="give real numbers, a column per feature"):
        standardise(x, slice(None))


def test_standardised_by_what_the_training_rows_observe():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [100.0, 7.0]])
    z, flat = standardise(x, np.array([0, 1, 2]))
    np.testing.assert_allclose(z, [[-1, 0], [1, 0], [0, 0], [98, 2]])
    assert flat == [1] and z.dtype == np.float32
    of_table, _ = standardise(pd.DataFrame(x), np.array([0, 1, 2]))
    np.testing.assert_array_equal(of_table, z)


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, lambda x: x.astype(np.int64)])
def test_seconds_since_1970_keep_their_spread(kind):
    seconds = np.arange(40.0)[:, None]
    constant = np.full((40, 1), 1.7e9)
    x = kind(np.concatenate([1.7e9 + seconds, constant], axis=1))
    z, flat = standardise(x, slice(None))
    np.testing.assert_allclose(z[:, :1], (seconds - 19.5) / seconds.std(), rtol=1e-6)
    assert flat == [1]


def test_a_constant_has_no_spread_by_rounding():
    x = np.full((1000, 2), 0.1 + 0.2)
    x[::3, 0] = 0.3
    assert standardise(x, slice(None))[1] == [0, 1]
    single = x.astype(np.float32)
    single[::3, 0] = np.nextafter(single[0, 1], np.float32(1))
    for given in (single, pd.DataFrame(single)):
        assert standardise(given, slice(None))[1] == [0, 1]
