"""Saved predictions: a column is read when it is asked for."""

import numpy as np
import pytest

from i2m2.errors import DamagedError
from i2m2.runs import read_predictions


@pytest.fixture
def run(tmp_path):
    """Two columns, of which the bytes of the second have changed since."""
    path = tmp_path / "predictions_test.npz"
    np.savez(path, id=np.arange(5), log_prob=np.full((5, 3), -1.0986))
    path.write_bytes(
        path.read_bytes().replace(np.float64(-1.0986).tobytes(), np.float64(-2.5).tobytes(), 1)
    )
    return tmp_path


def test_no_column_is_read_before_it_is_asked_for(run):
    found = read_predictions(run, "test")
    assert (
        list(found) == ["id", "log_prob"]
        and "log_prob" in found
        and "y" not in found
        and found.get("y") is None
    )
    assert found["id"].tolist() == list(range(5)) and found["id"] is found["id"]
    with pytest.raises(
        DamagedError, match=r"predictions_test.npz is damaged .*; delete it and predict again"
    ):
        found["log_prob"]


def test_all_columns_are_of_the_file_that_was_opened(run):
    found = read_predictions(run, "test")
    np.savez(run / "new.npz", id=np.zeros(2))
    (run / "new.npz").replace(run / "predictions_test.npz")
    assert len(found["id"]) == 5 and len(read_predictions(run, "test")["id"]) == 2


def test_no_file_is_none_and_no_archive_is_damaged(tmp_path):
    assert read_predictions(tmp_path, "test") is None
    (tmp_path / "predictions_test.npz").write_bytes(b"nothing")
    with pytest.raises(DamagedError, match="is damaged"):
        read_predictions(tmp_path, "test")
