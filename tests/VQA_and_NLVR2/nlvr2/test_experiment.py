"""NLVR2 end to end on tiny files: training, scores, warm starts, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from i2m2.errors import DataError, SettingsError
from tests.conftest import ROOT
from tests.VQA_and_NLVR2.tiny_nlvr2 import CONFIG, METHODS, SYNTHETIC, settings, tiny, train
from VQA_and_NLVR2.evaluate import main as evaluate
from VQA_and_NLVR2.nlvr2.analysis import CUSTOM_METRICS, scores
from VQA_and_NLVR2.nlvr2.experiment import load, report


@pytest.mark.parametrize(
    "config, preset, method",
    [(CONFIG, "paper", method) for method in METHODS]
    + [(CONFIG, preset, "i2m2") for preset in ("official_code", "fiber", "frozen")]
    + [(SYNTHETIC, "paper", method) for method in METHODS],
)
def test_every_config_takes_a_step(config, preset, method, nlvr2_files, tmp_path):
    run = train(
        nlvr2_files,
        tmp_path,
        "--method",
        method,
        "--preset",
        preset,
        "--init",
        "scratch",
        config=config,
    )
    result = json.loads((run / "result.json").read_text())
    assert set(result) == {"val", "test"}
    assert {"accuracy", "consistency", "accuracy_balanced", "accuracy_unbalanced", "nll"} <= set(
        result["test"]
    )
    predictions = np.load(run / "predictions_test.npz")
    assert len(predictions["log_prob"]) == len(
        (nlvr2_files / "test1.json").read_text().splitlines()
    )


def test_scores_worked_by_hand():
    y, predicted = np.array([1, 0, 1, 1, 0]), np.array([1, 0, 0, 1, 1])
    log_prob = np.log(np.where(np.arange(2) == predicted[:, None], 0.9, 0.1))
    predictions = {
        "y": y,
        "log_prob": log_prob,
        "sentence": np.array(["dev-1-0", "dev-1-0", "dev-1-1", "dev-2-0", "dev-1-1"]),
        "balanced": np.array([True, False, True, False, False]),
        "unbalanced": np.array([False, True, False, False, False]),
    }
    found = scores({"val": predictions})["val"]
    assert found["accuracy"] == pytest.approx(3 / 5) and found["consistency"] == pytest.approx(
        2 / 3
    )
    assert (found["accuracy_balanced"], found["accuracy_unbalanced"]) == (0.5, 1.0)
    assert found["nll"] == pytest.approx(-(3 * np.log(0.9) + 2 * np.log(0.1)) / 5)
    _, product, text = report(predictions | {"expert_text": log_prob[:, ::-1]}).splitlines()
    assert product.split()[:5] == [
        "product",
        "0.6000",
        "0.6667",
        "0.5000",
        "1.0000",
    ] and text.split()[:2] == ["text", "0.4000"]
    # Sets dev-1 (right: 1 of its 2 sentences, 2 of 4 examples) and dev-2 (1 of 1): drawn once each;
    # twice and never.
    drawn, index = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]), np.array([0, 0, 0, 1, 0])
    subsets = {"accuracy_balanced": [0.5, 0.5, np.nan], "accuracy_unbalanced": [1.0, 1.0, np.nan]}
    for name, values in ({"consistency": [2 / 3, 1 / 2, 1.0]} | subsets).items():
        np.testing.assert_allclose(CUSTOM_METRICS[name](predictions, index, 2)(drawn), values)


def test_results_follow_from_the_saved_predictions_and_name_the_backbone(
    nlvr2_files, tmp_path, capsys
):
    run = train(nlvr2_files, tmp_path, "--method", "inter")
    assert run.parts[-3:] == ("nlvr2-synthetic-fiber_random", "inter", "seed0")
    saved = np.load(run / "predictions_test.npz")
    right = saved["log_prob"].argmax(1) == saved["y"]
    test = json.loads((run / "result.json").read_text())["test"]
    groups = {name: right[saved["sentence"] == name].all() for name in set(saved["sentence"])}
    assert test["consistency"] == pytest.approx(np.mean(list(groups.values())))
    assert test["accuracy_balanced"] == pytest.approx(right[saved["balanced"]].mean())
    assert set(saved["group"]) == {name.rpartition("-")[0] for name in groups}
    facts = json.loads((run / "env.json").read_text())["data"]
    assert facts["backbone"] == "FIBER, random weights" and facts["description"].endswith(
        "; backbone: FIBER, random weights"
    )
    assert facts["synthetic"] and facts["sizes"]["train"] == {
        "examples": 12,
        "left_out": 0,
        "cut": 0,
    }
    assert "backbone: FIBER, random weights" in capsys.readouterr().out


def test_joint_rows_start_from_the_heads_and_what_each_part_made_of_the_backbone(
    nlvr2_files, tmp_path
):
    runs = {
        name: train(nlvr2_files, tmp_path, "--method", f"unimodal_{name}")
        for name in ("image", "text")
    }
    runs["inter"] = train(nlvr2_files, tmp_path, "--method", "inter")
    parts = {name: load_file(run / "best.safetensors") for name, run in runs.items()}
    # A learning rate of almost nothing: where they end is where they began.
    i2m2 = load_file(
        train(nlvr2_files, tmp_path, "--method", "i2m2", "--optim.lr", "1e-30") / "best.safetensors"
    )
    intra = load_file(
        train(nlvr2_files, tmp_path, "--method", "intra", "--optim.lr", "1e-30")
        / "best.safetensors"
    )
    for name in parts:
        assert torch.equal(
            i2m2[f"experts.{name}.head.0.weight"], parts[name][f"experts.{name}.head.0.weight"]
        )
    from_part = {
        "backbone.vit_model.layers.0.blocks.0.attn.qkv.weight": ("inter", "image"),
        "backbone.text_transformer.encoder.layer.0.attention.self.key.weight": ("inter", "text"),
        "backbone.cross_modal_image_pooler_itc.dense.weight": ("image", "image"),
        "backbone.cross_modal_text_pooler_itc.dense.weight": ("text", "text"),
        "backbone.vit_model.norm.weight": ("image", "image"),
    }
    for key, (of_i2m2, of_intra) in from_part.items():
        assert torch.equal(i2m2[key], parts[of_i2m2][key]) and torch.equal(
            intra[key], parts[of_intra][key]
        ), key
        assert (
            not torch.equal(
                parts["inter"][key], parts[{"image": "text"}.get(of_intra, "image")][key]
            )
            or of_i2m2 != "inter"
        )


def test_a_joint_row_refuses_parts_of_another_backbone(nlvr2_files, tmp_path):
    for method in ("unimodal_image", "unimodal_text"):
        train(nlvr2_files, tmp_path, "--method", method)
    with pytest.raises(
        SettingsError, match=r"other settings: backbone.image_size \(null there, 96 now\)"
    ):
        train(nlvr2_files, tmp_path, "--method", "intra", "--backbone.image_size", "96")


def test_predictions_are_made_again_from_a_runs_weights(nlvr2_files, tmp_path):
    for preset in ("paper", "frozen"):
        run = train(nlvr2_files, tmp_path, "--method", "unimodal_text", "--preset", preset)
        first = dict(np.load(run / "predictions_test.npz"))
        (run / "predictions_test.npz").unlink()
        evaluate([str(run)])
        again = dict(np.load(run / "predictions_test.npz"))
        assert first.keys() == again.keys()
        assert all((first[name] == again[name]).all() for name in first)


def weights_after(files, out, *arguments):
    run = train(files, out, "--method", "i2m2", "--init", "scratch", *arguments)
    return load_file(run / "best.safetensors")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--optim.micro_batches", "3"),
        ("--backbone.activation_checkpointing", "true"),
        ("--workers", "2"),
    ],
)
def test_divisions_recomputation_and_workers_change_no_weight(arguments, nlvr2_files, tmp_path):
    # AdamW would make much of differences in the last bit.
    sgd = ("--optim.name", "sgd", "--optim.lr", "0.01")
    one = weights_after(nlvr2_files, tmp_path / "1", *sgd)
    other = weights_after(nlvr2_files, tmp_path / "2", *sgd, *arguments)
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=0, atol=1e-5)


def test_two_processes_make_the_step_of_one(nlvr2_files, tmp_path):
    step = [
        "--data.train_size",
        "5",
        "--optim.name",
        "sgd",
        "--optim.lr",
        "0.01",
        "--optim.warmup",
        "0",
    ]
    one = weights_after(nlvr2_files, tmp_path / "1", *step)
    settings_ = ("--out", str(tmp_path / "2"), "--method", "i2m2", "--init", "scratch", *step)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    command = [*launch, "-m", "VQA_and_NLVR2.train", *tiny(nlvr2_files, *settings_)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--device", "cpu"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (two,) = (tmp_path / "2").rglob("best.safetensors")
    two = load_file(two)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5)
    assert done.stdout.count("image pairs are complete") == 3  # said once, not by every process


def test_mixed_precision_takes_a_step(nlvr2_files, tmp_path):
    run = train(
        nlvr2_files, tmp_path, "--method", "i2m2", "--init", "scratch", "--precision", "bf16"
    )
    assert np.isfinite(np.load(run / "predictions_test.npz")["log_prob"]).all()


def test_weights_of_other_sizes_are_refused(nlvr2_files, tmp_path):
    torch.save({"state_dict": {"vit_model.norm.weight": torch.zeros(7)}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match="another architecture or size"):
        load(
            settings(
                nlvr2_files,
                "--backbone.kind",
                "fiber",
                "--backbone.checkpoint",
                str(tmp_path / "other.ckpt"),
            )
        )
