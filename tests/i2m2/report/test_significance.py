"""What a table says of how sure it is: intervals, the best of a column, and rows that have none."""

import json
import re

import numpy as np
import pytest

from i2m2.report.significance import best_of
from i2m2.results import main
from tests.i2m2.conftest import ENV, make_run, of_two_rows, row_of, save_predictions


def test_the_best_of_a_column_by_what_its_metric_says():
    values = {
        "a": {"nll_acl": [0.1], "auroc_acl": [0.9], "entropy_acl": [0.2]},
        "b": {"nll_acl": [0.4], "auroc_acl": [0.5], "entropy_acl": [0.1]},
    }
    best = best_of(values, ["nll_acl", "auroc_acl", "entropy_acl"])
    assert best == {"nll_acl": "a", "auroc_acl": "a"}


def test_best_row_is_bold_and_what_cannot_be_told_from_it_is_marked(out, capsys):
    """Of 200 examples 190 against 188 right, on the same but two, cannot be told apart; 100 can."""
    for name, right in {"unimodal_image": 100, "inter-concat": 188, "i2m2-concat": 190}.items():
        run = make_run(out, f"toy/{name}/seed0", {"accuracy": right / 200, "auroc": 0.5})
        save_predictions(run, np.arange(200) < right)
    main([str(out)])
    printed = capsys.readouterr().out
    labels = ("Image", "Inter_modality", "I2M2")
    image, inter, i2m2 = (row_of(printed, label).split(" | ")[1] for label in labels)
    assert re.fullmatch(r"\*\*95.0 \[9\d.\d, 9\d.\d\] \(1\)\*\*", i2m2), i2m2
    assert inter.endswith("(1) †") and image.endswith("(1)")
    assert "- Interval: " in printed and "2,000 resamples of 200 groups of examples" in printed
    stored = json.loads((out / "toy/statistics.json").read_text())["Table 9"]
    assert stored["best"]["accuracy"] == "i2m2-concat"
    assert stored["p"]["accuracy"]["unimodal_image"] < 0.01
    for run in out.glob("toy/*/seed0"):
        (run / "predictions_test.npz").unlink()
    main([str(out)])  # as in reported/, where there are no predictions
    assert capsys.readouterr().out == printed


def test_a_row_whose_predictions_are_not_those_of_its_result_has_no_interval(out, capsys):
    best, other = of_two_rows(out)
    (best / "result.json").write_text(json.dumps({"test": {"accuracy": 0.96}}))
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | **96.0 (1)** |")
    why = "no interval of accuracy, since its predictions do not give what its result.json has"
    assert f"- I2M2: {why}.\n" in printed
    assert "- Not compared with the best in accuracy: every row.\n" in printed
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "Image").startswith("| Image | 50.0 ± 0.0 (2) |")
    assert "- Image: no interval, for want of predictions of seed 1.\n" in printed


@pytest.mark.parametrize("spoil", ["damage", "other examples"])
def test_a_run_that_cannot_be_compared_leaves_the_others_their_intervals(out, capsys, spoil):
    of_two_rows(out)
    bad = make_run(out, "toy/inter-concat/seed0", {"accuracy": 0.5})
    if spoil == "damage":
        reason = "predictions_test.npz is damaged"
        (bad / "predictions_test.npz").write_bytes(b"PK")
    else:
        reason = "it predicted other examples than unimodal_image"
        save_predictions(bad, np.arange(199) < 100)
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | **95.0 [")
    assert " [" in row_of(printed, "Image")
    assert row_of(printed, "Inter_modality").startswith("| Inter_modality | 50.0 (1) |")
    assert re.search(rf"- Inter_modality: no interval: .*{reason}", printed)
    assert "- Not compared with the best in accuracy: Inter_modality.\n" in printed


def test_seeds_that_share_networks_have_no_interval(out, capsys):
    """Three products of two of three runs: their spread would say less than that of three runs."""
    for seed in range(3):
        members = {"product_of": [f"a/seed{seed}", f"a/seed{(seed + 1) % 3}"]}
        test, env = {"accuracy": (100 + seed) / 200}, ENV | members
        run = make_run(out, f"toy/unimodal_image/seed{seed}", test, env=env)
        save_predictions(run, np.arange(200) < 100 + seed)
        run = make_run(out, f"toy/i2m2-concat/seed{seed}", {"accuracy": (110 + seed) / 200})
        save_predictions(run, np.arange(200) < 110 + seed)
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "Image").startswith("| Image | 50.5 ± 0.5 (3) |")
    assert "no interval: its seeds share networks" in printed
    assert row_of(printed, "I2M2").startswith("| I2M2 | **55.5 ± 0.5 [")
    assert "- Not compared with the best in accuracy: Image.\n" in printed


def test_a_mark_beside_intervals_that_lie_apart_is_explained(out, capsys):
    """Two seeds of each row."""
    right_of_200 = {
        "i2m2-concat": (190, 188),
        "inter-concat": (189, 190),
        "unimodal_image": (100, 108),
    }
    for name, of_seeds in right_of_200.items():
        for seed, right in enumerate(of_seeds):
            run = make_run(out, f"toy/{name}/seed{seed}", {"accuracy": right / 200, "auroc": 0.5})
            save_predictions(run, np.arange(200) < right)
    main([str(out)])
    printed = capsys.readouterr().out
    apart = "† although the intervals lie apart"
    assert (apart in printed) == ("†" in row_of(printed, "Image"))
    assert "†" in row_of(printed, "I2M2")
    assert f"{apart} (accuracy of Image): with so few seeds" in printed
