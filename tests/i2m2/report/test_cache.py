"""Statistics that are kept: of predictions that have gone, have changed, or were damaged."""

import json
import re

import numpy as np
import pytest

from i2m2.errors import DataError
from i2m2.results import main
from tests.i2m2.conftest import make_run, of_two_rows, row_of, save_predictions


def test_stored_statistics_of_other_values_are_not_shown(out, capsys):
    best, other = of_two_rows(out)
    main([str(out)])
    assert row_of(capsys.readouterr().out, "I2M2").startswith("| I2M2 | **95.0 [")
    for run in (best, other):
        (run / "predictions_test.npz").unlink()
    (other / "result.json").write_text(json.dumps({"test": {"accuracy": 0.99}}))
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "Image").startswith("| Image | **99.0 (1)** |")
    assert "no interval of accuracy, which statistics.json was not computed from" in printed
    (other / "DONE").unlink()
    main([str(out)])
    assert row_of(capsys.readouterr().out, "Image").startswith("| Image | missing |")


def test_an_interval_of_another_result_is_not_kept(out, capsys):
    best, _ = of_two_rows(out)
    main([str(out)])
    (best / "result.json").write_text(json.dumps({"test": {"accuracy": 0.8}}))
    capsys.readouterr()
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | **80.0 (1)** |")
    why = "no interval of accuracy, since its predictions do not give what its result.json has"
    assert f"I2M2: {why}." in printed


def test_a_new_run_beside_those_whose_predictions_are_gone_leaves_them_their_intervals(out, capsys):
    best, other = of_two_rows(out)
    main([str(out)])
    before = row_of(capsys.readouterr().out, "I2M2")
    for run in (best, other):
        (run / "predictions_test.npz").unlink()
    new = make_run(out, "toy/inter-concat/seed0", {"accuracy": 0.9, "auroc": 0.5})
    save_predictions(new, np.arange(200) < 180)
    for _ in range(2):  # computed, and read back
        main([str(out)])
        printed = capsys.readouterr().out
        assert row_of(printed, "I2M2") == before
        of_new = row_of(printed, "Inter_modality")
        assert re.search(r"90.0 \[8\d.\d, 9\d.\d\] \(1\) \|", of_new)
        assert (
            "I2M2: its interval is from before its predictions went; "
            "without them it is not compared with the best."
        ) in printed


def test_intervals_that_are_left_stand_although_no_row_has_all_its_predictions(out, capsys):
    best, other = of_two_rows(out)
    main([str(out)])
    before = row_of(capsys.readouterr().out, "I2M2")
    (best / "predictions_test.npz").unlink()
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2") == before
    assert row_of(printed, "Image").startswith("| Image | 50.0 ± 0.0 (2) |")
    assert "2,000 resamples of 200 groups" in printed


def test_damaged_statistics_are_computed_again_where_there_are_predictions(out, capsys):
    runs = of_two_rows(out)
    main([str(out)])
    printed = capsys.readouterr().out
    path = out / "toy/statistics.json"
    path.write_text("{")
    main([str(out)])
    assert capsys.readouterr().out == printed and "Table 9" in json.loads(path.read_text())
    for run in runs:
        (run / "predictions_test.npz").unlink()
    path.write_text("{")
    with pytest.raises(DataError, match="toy/statistics.json is damaged"):
        main([str(out)])
    page = (out / "report.html").read_text()
    assert "No tables" in page and "toy/statistics.json is damaged" in page


def test_a_damaged_table_costs_only_its_own_statistics(out, capsys):
    of_two_rows(out)
    main([str(out)])
    path = out / "toy/statistics.json"
    stored = json.loads(path.read_text())
    (name,) = stored
    path.write_text(json.dumps({name: {"rows": []}, "another table": stored[name]}))
    main([str(out)])  # computed again from the predictions
    assert json.loads(path.read_text()) == stored | {"another table": stored[name]}


def test_a_damaged_table_without_predictions_has_no_intervals_and_says_why(out, capsys):
    runs = of_two_rows(out)
    main([str(out)])
    for run in runs:
        (run / "predictions_test.npz").unlink()
    path = out / "toy/statistics.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(dict.fromkeys(stored, 3)))
    capsys.readouterr()
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | **95.0 (1)** |")
    assert "I2M2: no interval, since its entry in statistics.json is damaged" in printed


def test_marks_of_version_1_are_of_a_column_and_not_shown_beside_others(out, capsys):
    """Until version 2, p-values were corrected within their column alone."""
    runs = of_two_rows(out)
    main([str(out)])
    for run in runs:
        (run / "predictions_test.npz").unlink()
    path = out / "toy/statistics.json"
    stored = json.loads(path.read_text())
    (table,) = stored.values()
    del table["version"]
    table["p"]["accuracy"] = dict.fromkeys(table["p"]["accuracy"], 0.9)
    for marked in (True, False):  # one column alone is marked, two are not
        path.write_text(json.dumps(stored))
        capsys.readouterr()
        main([str(out)])
        assert ("(1) †" in row_of(capsys.readouterr().out, "Image")) == marked
        table["p"]["auroc"] = table["p"]["accuracy"]
        table["best"]["auroc"] = table["best"]["accuracy"]
