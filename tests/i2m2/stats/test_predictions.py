"""What is read off saved predictions."""

import numpy as np

from i2m2.stats.predictions import mark_of_answers


def test_rows_answer_alike_by_the_label_that_a_metric_names_in_whole():
    first, second = (
        {"log_prob": np.zeros((3, 2, 2)), "labels": np.array(["tear", "acl_tear"])}
        for _ in range(2)
    )
    second["log_prob"][:, 1] = -1
    alike = {
        metric: mark_of_answers(first, metric) == mark_of_answers(second, metric)
        for metric in ("nll", "nll_tear", "nll_acl_tear")
    }
    assert alike == {"nll": False, "nll_tear": True, "nll_acl_tear": False}
