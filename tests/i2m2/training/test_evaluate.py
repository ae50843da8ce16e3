"""Tables of scores."""

import numpy as np
import pytest

from i2m2.training.evaluate import score_predictions, scores_table


def predictions(absent):
    """Two classes, an expert that errs in every third example, and one more that abstains in
    some."""
    y, right = np.arange(30) % 2, np.arange(30) % 3 > 0
    own = np.log(np.where(np.eye(2)[np.where(right, y, 1 - y)] > 0, 0.8, 0.2))
    other = np.where(absent[:, None], np.log(0.5), own)
    places = {"id": np.arange(30), "group": np.arange(30), "y": y, "log_prob": own}
    return places | {"expert_own": own, "expert_other": other}


def rows_of(table):
    header, *rows = (line.split() for line in table.splitlines())
    return {" ".join(row[: -len(header)]): row[-len(header) :] for row in rows}


def test_an_expert_is_scored_by_the_examples_in_which_it_speaks():
    absent = np.arange(30) < 12
    found = predictions(absent)
    rows = rows_of(scores_table(found))
    assert list(rows) == ["product", "own", "other (of 18 examples)"]
    heard = {name: column[~absent] for name, column in found.items()}
    expected = [f"{value:.4f}" for value in score_predictions(heard).values()]
    assert rows["other (of 18 examples)"] == expected


@pytest.mark.filterwarnings("error")
def test_an_expert_that_never_speaks_has_no_score():
    rows = rows_of(scores_table(predictions(np.ones(30, bool))))
    assert set(rows["other (of 0 examples)"]) == {"nan"}
