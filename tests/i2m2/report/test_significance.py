"""What a table says of how sure it is: intervals, the best of a column, and rows that have none."""

import json
import re

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import norm

from i2m2.metrics import accuracy, auroc
from i2m2.report.significance import best_of
from i2m2.results import main
from i2m2.stats.paired_tests import delong
from tests.i2m2.conftest import CONFIG, ENV, make_run, of_two_rows, row_of, save_predictions


def test_the_best_of_a_column_by_what_its_metric_says():
    values = {
        "a": {"nll_acl": [0.1], "auroc_acl": [0.9], "entropy_acl": [0.2]},
        "b": {"nll_acl": [0.4], "auroc_acl": [0.5], "entropy_acl": [0.1]},
    }
    best = best_of(values, ["nll_acl", "auroc_acl", "entropy_acl"])
    assert best == {"nll_acl": "a", "auroc_acl": "a"}


def test_the_first_metric_of_a_folder_no_paper_knows_is_the_one_that_chose_the_epoch(out, capsys):
    """And each of its metrics has an interval."""
    config = CONFIG | {"optim": {"select": "nll"}}
    for name, right in {"inter": 150, "intra": 100}.items():
        nll = -np.log([0.75, 0.25]) @ [right / 200, 1 - right / 200]
        test = {"accuracy": right / 200, "brier": 0.4, "nll": nll}
        save_predictions(make_run(out, f"own/{name}/seed0", test, config), np.arange(200) < right)
    main([str(out)])
    printed = capsys.readouterr().out
    assert "| model | nll | accuracy | brier |" in printed
    nll, accuracy, brier = row_of(printed, "inter").split(" | ")[1:]
    assert re.fullmatch(r"\*\*0.562 \[0.5\d\d, 0.6\d\d\] \(1\)\*\*", nll), nll
    assert re.fullmatch(r"\*\*75.0 \[6\d.\d, 8\d.\d\] \(1\)\*\*", accuracy), accuracy
    assert "95 % interval of nll, accuracy (number of seeds)" in printed


def patients(n, aurocs, seeds, shift=0.01):
    """{row: a run's predictions per seed} on the same `n` patients, one in seven positive.

    Rows rank with these areas, their seeds differ by about `shift` in it, and half of a patient's
    difficulty is the same for all.
    """
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 1 / 7).astype(int)
    difficulty, rows = rng.normal(size=n), {}
    for row, area in aurocs.items():
        own = difficulty + rng.normal(size=n)
        rows[row] = []
        for _ in range(seeds):
            # A normal score separated by d has the area Phi(d / sqrt(2) / its deviation).
            d = 2 * norm.ppf(area + shift * rng.normal())
            log_odds = d * y + own - 2.5
            log_prob = log_softmax(np.stack([np.zeros(n), log_odds], axis=1), axis=1)
            rows[row].append(
                {"id": np.arange(n), "group": np.arange(n), "y": y, "log_prob": log_prob}
            )
    return rows


STAYS = {"static": 0.68, "series": 0.76, "intra": 0.77, "inter": 0.768, "i2m2": 0.767}
STAYS |= {"intra-1": 0.765, "inter-1": 0.765, "i2m2-1": 0.764, "series-1": 0.755}


@pytest.mark.parametrize("n, seeds", [(4000, 2), (800, 1)])
def test_a_mark_does_not_contradict_a_paired_test_of_the_same_two_rows(out, capsys, n, seeds):
    """Nine rows and two metrics: sixteen comparisons. More patients, or more seeds, must not hide a
    difference of nine points."""
    rows = patients(n, STAYS, seeds)
    for name, runs in rows.items():
        for seed, p in enumerate(runs):
            test = {
                "auroc": auroc(p["y"], p["log_prob"]),
                "accuracy": accuracy(p["y"], p["log_prob"]),
            }
            run = make_run(
                out, f"stays/{name}/seed{seed}", test, CONFIG | {"optim": {"select": "auroc"}}
            )
            np.savez(run / "predictions_test.npz", **p)
    main([str(out)])
    printed = capsys.readouterr().out
    stored = json.loads((out / "stays/statistics.json").read_text())["stays"]
    best = stored["best"]["auroc"]
    assert sum(map(len, stored["p"].values())) == 16
    for one, other in zip(rows["static"], rows[best], strict=True):
        scores = [p["log_prob"][:, 1] - p["log_prob"][:, 0] for p in (one, other)]
        assert delong(one["y"] == 1, *scores).p < (1e-8 if n > 1000 else 0.003)
    assert "†" not in row_of(printed, "static").split(" | ")[1]
    assert "†" in row_of(printed, "series").split(" | ")[1]
    assert ("the usual one of the column's rows" in printed) == (seeds > 1)


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
    """By hand: 115 and 85 of 200 right, on opposite examples: each 0.575 ± 0.069 and 0.425 ± 0.069,
    the difference 0.15 with a standard error of 0.07: p 0.03, times two comparisons 0.07."""
    right = {"i2m2-concat": (0, 115), "inter-concat": (1, 115), "unimodal_image": (115, 200)}
    for name, (first, last) in right.items():
        for seed in (0, 1):
            scores = {"accuracy": (last - first) / 200, "auroc": 0.5}
            run = make_run(out, f"toy/{name}/seed{seed}", scores)
            save_predictions(run, (np.arange(200) >= first) & (np.arange(200) < last))
    main([str(out)])
    printed = capsys.readouterr().out
    assert "†" in row_of(printed, "Image") and "†" in row_of(printed, "Inter_modality")
    apart = "† although the intervals lie apart"
    assert f"{apart} (accuracy of Image): with so few seeds" in printed
