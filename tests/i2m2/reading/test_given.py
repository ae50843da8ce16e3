"""What users give as an array keeps its items as they are."""

import numpy as np
import pytest

from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.given.folds import as_names
from i2m2.estimator.given.targets import as_labels, encode_labels
from i2m2.estimator.given.values import InputError
from i2m2.reading.given import array_of


@pytest.mark.parametrize("given", [["yes", np.nan, 1], ("yes", np.nan, 1)])
def test_numbers_beside_texts_of_a_list_stay_numbers(given):
    found = array_of(given)
    assert found.dtype == object and found[0] == "yes" and np.isnan(found[1]) and found[2] == 1
    assert array_of([["a", 1.5], ["b", 2.5]]).tolist() == [["a", 1.5], ["b", 2.5]]


def test_nan_beside_texts_is_no_text():
    block = read_blocks({"x": ["a good day", np.nan, "a bad night"]})["x"]
    assert block.kind == "text" and block.present.tolist() == [True, False, True]
    categories = read_blocks({"x": ["u", np.nan, "v"]})["x"].values[0]
    assert categories.isna().tolist() == [False, True, False]
    with pytest.raises(InputError, match=r"y holds NaN or None \(row 1\)"):
        as_labels(["yes", np.nan, "no"])
    with pytest.raises(InputError, match=r"groups hold NaN or None \(row 1\)"):
        as_names("groups", ["u", np.nan, "v"], 3)


def test_labels_of_a_list_that_mix_texts_and_numbers_are_refused():
    with pytest.raises(InputError, match="y mixes texts and numbers"):
        encode_labels(as_labels(["yes", 1, "yes", 1]))
