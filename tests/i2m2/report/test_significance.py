"""What a table says of how sure it is where runs are few, damaged, changed or unlike each other;
and what makes missing ones."""

import json
import re

import numpy as np
import pytest
import yaml
from scipy import stats

from i2m2.compare import main as compare
from i2m2.errors import DataError, SettingsError
from i2m2.report.missing import command
from i2m2.report.tables import read_entries
from i2m2.results import main
from i2m2.runs import collect
from i2m2.stats.intervals import interval
from tests.i2m2.report.test_results import (
    CONFIG,
    ENV,
    make_run,
    of_two_rows,
    row_of,
    save_predictions,
)  # noqa: F401 (out is a fixture)


def test_a_difference_that_no_resample_reverses_has_the_p_of_its_t():
    """By hand: 30 groups, the resampled differences normal with mean 0.5 and standard deviation
    0.05."""
    normal = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    found = interval(np.array([0.5]), (0.5 + 0.05 * normal)[:, None], groups=30)
    wider = np.sqrt(30 / 29) * np.std(0.05 * normal, ddof=1)
    assert found.p == pytest.approx(2 * stats.t.sf(0.5 / wider, 29), rel=1e-6) and found.p < 1e-8
    assert found.p * 100 < 0.05  # enough for the largest of our tables
    # Where resamples are on both sides their share decides, as before.
    near = interval(np.array([0.1]), (0.1 + 0.05 * normal)[:, None], groups=30)
    assert near.p == pytest.approx(
        2 * stats.t.cdf(stats.norm.ppf(47 / 2001) / np.sqrt(30 / 29), 29), rel=1e-6
    )


def test_an_interval_of_another_result_is_not_kept(out, capsys):  # noqa: F811
    best, _ = of_two_rows(out)
    main([str(out)])
    (best / "result.json").write_text(json.dumps({"test": {"accuracy": 0.8}}))
    capsys.readouterr()
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | **80.0 (1)** |")
    assert (
        "I2M2: no interval of accuracy, since its predictions do not give what its result.json has."
        in printed
    )


@pytest.mark.parametrize("spoil", ["damage", "other examples"])
def test_a_run_that_cannot_be_compared_leaves_the_others_their_intervals(out, capsys, spoil):  # noqa: F811
    of_two_rows(out)
    bad = make_run(out, "toy/inter-concat/seed0", {"accuracy": 0.5})
    if spoil == "damage":
        (bad / "predictions_test.npz").write_bytes(b"PK")
    else:
        save_predictions(bad, np.arange(199) < 100)
    main([str(out)])
    printed = capsys.readouterr().out
    assert re.match(r"\| I2M2 \| \*\*95.0 \[", row_of(printed, "I2M2")) and " [" in row_of(
        printed, "Image"
    )
    assert row_of(printed, "Inter_modality").startswith("| Inter_modality | 50.0 (1) |")
    reason = (
        "predictions_test.npz is damaged"
        if spoil == "damage"
        else "it predicted other examples than unimodal_image"
    )
    assert re.search(rf"- Inter_modality: no interval: .*{reason}", printed)
    assert "- Not compared with the best in accuracy: Inter_modality.\n" in printed


def test_damaged_statistics_are_computed_again_where_there_are_predictions(out, capsys):  # noqa: F811
    runs = of_two_rows(out)
    main([str(out)])
    printed = capsys.readouterr().out
    (out / "toy/statistics.json").write_text("{")
    main([str(out)])
    assert capsys.readouterr().out == printed and "Table 9" in json.loads(
        (out / "toy/statistics.json").read_text()
    )
    for run in runs:
        (run / "predictions_test.npz").unlink()
    (out / "toy/statistics.json").write_text("{")
    with pytest.raises(DataError, match="toy/statistics.json is damaged"):
        main([str(out)])
    page = (out / "report.html").read_text()
    assert "No tables" in page and "toy/statistics.json is damaged" in page


def test_a_mark_beside_intervals_that_lie_apart_is_explained(out, capsys):  # noqa: F811
    """Two seeds of each row."""
    for name, rights in {
        "i2m2-concat": (190, 188),
        "inter-concat": (189, 190),
        "unimodal_image": (100, 108),
    }.items():
        for seed, right in enumerate(rights):
            run = make_run(out, f"toy/{name}/seed{seed}", {"accuracy": right / 200, "auroc": 0.5})
            save_predictions(run, np.arange(200) < right)
    main([str(out)])
    printed = capsys.readouterr().out
    apart = "† although the intervals lie apart"
    assert (apart in printed) == ("†" in row_of(printed, "Image")) and "†" in row_of(
        printed, "I2M2"
    )
    assert f"{apart} (accuracy of Image): with so few seeds" in printed


def test_seeds_of_different_data_are_not_judged(out, capsys):  # noqa: F811
    for seed in range(5):
        env = ENV | {"data": ENV["data"] | {"fingerprint": "g" if seed == 3 else "f"}}
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": 0.702, "auroc": 0.5}, env=env)
    main([str(out)])
    assert "not judged: its seeds read different data" in row_of(capsys.readouterr().out, "Image")


def test_a_missing_run_repeats_what_all_beside_it_were_given(out):  # noqa: F811
    file = CONFIG | {
        "model": {"rank": 40, "wide": False},
        "per_method": {"inter": {"optim": {"lr": 0.5}}},
    }
    (out.parent / "lab/toy.yaml").write_text(yaml.safe_dump(file))
    given = CONFIG | {"model": {"rank": 7, "wide": True}, "optim": {"epochs": 3, "lr": 0.1}}
    make_run(
        out,
        "toy/unimodal_image/seed0",
        {"accuracy": 0.7},
        config=given | {"method": "unimodal_image"},
    )
    own = given | {"method": "i2m2", "model": {"rank": 7, "wide": False}}
    make_run(out, "toy/i2m2-concat/seed0", {"accuracy": 0.7}, config=own)
    entry, runs = read_entries()["toy"][0], collect(out / "toy")
    image, inter, i2m2 = (command(entry, row, 1, out / "toy", runs) for row in entry.rows)
    assert inter.endswith("--out results --model.rank 7 --optim.lr 0.1"), inter
    assert "--model.rank 7" in image and "--model.wide true" in image and "--model.wide" not in i2m2


def test_no_figure_is_left_of_runs_that_are_gone(out, capsys):  # noqa: F811
    path = out.parent / "lab/paper.yaml"
    path.write_text(
        path.read_text()
        + """\
  - name: Fig. 8
    title: wider
    metrics: [accuracy]
    train: python -m toy.train
    config: lab/toy.yaml
    rows: [{label: Wide, run: inter-wide, args: --method inter --tag wide}]
"""
    )
    of_two_rows(out)
    wide = make_run(out, "toy/inter-wide/seed0", {"accuracy": 0.5})
    main([str(out)])
    assert {path.suffix for path in (out / "toy").glob("fig_8*")} == {
        ".md",
        ".tex",
        ".csv",
        ".png",
        ".pdf",
    }
    (wide / "DONE").unlink()
    main([str(out)])
    assert (
        not list((out / "toy").glob("fig_8*"))
        and "Fig. 8: wider" in (out / "report.html").read_text()
    )


def test_a_run_is_not_compared_with_itself(out):  # noqa: F811
    best, _ = of_two_rows(out)
    with pytest.raises(SettingsError, match="have a run in common"):
        compare([str(best), str(best.parent)])


def test_runs_without_an_environment_are_compared_wherever_one_stands(out, capsys, monkeypatch):  # noqa: F811
    best, other = of_two_rows(out)
    (best / "env.json").unlink()
    monkeypatch.chdir(best)
    compare([".", f"../../unimodal_image/{other.name}", "--metric", "accuracy"])
    printed = capsys.readouterr().out
    assert "\nseed0; test split, 200 examples, data: not described; Made by hand.\n" in printed
