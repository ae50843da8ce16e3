"""VQA-VS: tables, studies and comparisons of finished runs."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from i2m2.compare import main as compare
from i2m2.results import main as results
from VQA_and_NLVR2.evaluate import main as evaluate
from VQA_and_NLVR2.vqa_vs.analysis import study
from VQA_and_NLVR2.vqa_vs.predictions import metrics_of


@pytest.mark.rendered
def test_tables_studies_and_comparisons_of_finished_runs(train_vqa, made, tmp_path, capsys):
    methods = ("unimodal_image", "unimodal_text", "inter", "intra", "i2m2")
    runs = {method: train_vqa("--method", method) for method in methods}
    results([str(tmp_path)])
    folder = runs["i2m2"].parents[1]
    assert re.search(r"\| I2M2 \| \**[\d.]+ \[[\d.]+, [\d.]+\] \(1\)", capsys.readouterr().out)
    text = (folder / "studies.md").read_text()
    found = study(dict(np.load(runs["i2m2"] / "predictions_test.npz")))
    names = ("y", "product", "image", "text", "inter")
    entropies = " | ".join(f"{found['entropy'][name]:.3f}" for name in names)
    assert "## Table C.7: entropy" in text and f"| I2M2 | {entropies} | 1 |" in text
    assert (
        "## Section 4.6: cases" in text and "| model | of | vqa_score | ece | brier | nll |" in text
    )
    assert (folder / "reliability.png").stat().st_size > 5_000
    compare([str(runs["i2m2"].parent), str(runs["inter"].parent)])
    out = capsys.readouterr().out
    first, second = (
        metrics_of(dict(np.load(runs[name] / "predictions_test.npz")))["vqa_score"]
        for name in ("i2m2", "inter")
    )
    assert f"{first - second:+.4f}" in out
    assert "ood_mean" in out
    compare([str(runs["i2m2"]), str(runs["inter"]), "--split", "val"])
    out = capsys.readouterr().out
    assert "vqa_score" in out and "ood_mean" not in out


def test_runs_are_combined_once_their_answers_are_all_saved(train_vqa, tmp_path):
    for method in ("unimodal_image", "unimodal_text", "inter", "i2m2"):
        train_vqa("--method", method)
    results([str(tmp_path)])
    (folder,) = (path for path in (tmp_path).iterdir() if path.is_dir())
    text = (folder / "studies.md").read_text()
    assert "I2M2: not made: the experts' predictions keep the 50 most probable answers" in text
    before = dict(np.load(folder / "inter/seed0/predictions_test.npz"))
    for method in ("unimodal_image", "unimodal_text", "inter"):
        for split in ("val", "test"):
            evaluate([str(folder / method / "seed0"), "--save-all", "--split", split])
    after = np.load(folder / "inter/seed0/predictions_test.npz")
    assert set(after) - set(before) == {"product_log_prob"}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    results([str(tmp_path)])
    text = (folder / "studies.md").read_text()
    assert "not made" not in text
    ways = "product as it is|one temperature|prior divided out|expert weights.*?|trained jointly.*?"
    rows = re.findall(rf"^\| ({ways}) \|", text, re.M)
    assert len(rows) == 5 and "| parts of I2M2 | vqa_score | ece | brier | nll |" in text
    stored = json.loads((folder / "i2m2/seed0/statistics.json").read_text())["combination"]
    assert set(stored["fitted"]["weights"]) == {"image", "text", "inter"}
    shutil.rmtree(folder / "inter")  # a part that is gone
    for _ in range(2):  # computed, and read back
        results([str(tmp_path)])
        text = (folder / "studies.md").read_text()
        assert (
            re.search("I2M2: not made: no predictions of val and test in .*inter/seed0;", text)
            and "trained jointly" not in text
        )
