"""NLVR2 on features of a backbone that is not trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from i2m2.errors import DataError, SettingsError
from i2m2.training.data import seed_everything
from tests.VQA_and_NLVR2.tiny_nlvr2 import settings, tiny, train
from VQA_and_NLVR2 import extract_features
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.features.plan import read_facts
from VQA_and_NLVR2.nlvr2.experiment import load
from VQA_and_NLVR2.nlvr2.models import SharedBackbone
from VQA_and_NLVR2.nlvr2.on_features import plan_for, plan_of


def test_heads_on_cached_features_give_the_logits_of_the_whole_model(nlvr2_files, tmp_path, capsys):
    arguments = (
        "--method",
        "i2m2",
        "--preset",
        "frozen",
        "--init",
        "scratch",
        "--features.dtype",
        "float32",
    )
    arguments = (*arguments, "--features.dir", str(tmp_path / "features"))
    run = train(nlvr2_files, tmp_path, *arguments)
    heads = load_file(run / "best.safetensors")
    assert heads and all(name.startswith("experts.") for name in heads)
    config = settings(nlvr2_files, *arguments)
    seed_everything(0)
    model = SharedBackbone(
        build_backbone(config.backbone), config.experts, config.model.hidden
    ).eval()
    model.load_state_dict(heads, strict=False)
    test = load(settings(nlvr2_files, "--method", "i2m2")).splits["test"]
    saved = np.load(run / "predictions_test.npz")
    assert (saved["id"] == test.id).all()
    with torch.no_grad():
        log_prob, by_expert = model(test.prepare(test[np.arange(len(test))]["inputs"]))
    np.testing.assert_allclose(saved["log_prob"], log_prob, atol=1e-5)
    for name in ("image", "text", "inter"):
        np.testing.assert_allclose(saved[f"expert_{name}"], by_expert[name], atol=1e-5)
    train(nlvr2_files, tmp_path, *arguments, "--seed", "1")
    assert "features: already complete" in capsys.readouterr().out


def test_features_hold_each_image_sentence_and_pair_of_them_once(nlvr2_files):
    data = load(settings(nlvr2_files))
    plan, paths, rows = plan_for(
        {name: split.examples for name, split in data.splits.items()}, data.facts
    )
    assert plan_of(settings(nlvr2_files).data)[0].fingerprint == plan.fingerprint
    assert len(set(plan.images)) == len(plan.images) == len(paths) and len(set(plan.texts)) == len(
        plan.texts
    )
    assert len({tuple(pair) for pair in plan.pairs.tolist()}) == len(plan.pairs)
    assert [path.name.removesuffix(".png") for path in paths] == list(plan.images)
    for name, split in data.splits.items():
        for k, (stem, text) in enumerate(
            zip(split.id.tolist(), split.examples.sentences.sentence.texts(), strict=True)
        ):
            assert [str(paths[row]) for row in rows[name]["image"][k]] == split.examples.paths[
                k
            ].tolist()
            assert plan.texts[rows[name]["text"][k, 0]] == text
            pairs = plan.pairs[rows[name]["fused"][k]]
            assert pairs.tolist() == [
                [image, rows[name]["text"][k, 0]] for image in rows[name]["image"][k]
            ], stem
    assert (
        plan.varied_images
        == len(np.unique(rows["train"]["image"]))
        == rows["train"]["image"].max() + 1
    )
    assert (
        plan.varied_pairs
        == len(np.unique(rows["train"]["fused"]))
        == rows["train"]["fused"].max() + 1
    )


def test_features_extracted_beforehand_are_those_that_training_makes(nlvr2_files, tmp_path, capsys):
    made = tmp_path / "features"
    arguments = ("--method", "inter", "--preset", "frozen", "--features.dir", str(made))
    extract_features.main(tiny(nlvr2_files, *arguments))
    key = read_facts(made)["key"]
    train(nlvr2_files, tmp_path, *arguments)
    assert f"{made}: already complete (key {key[:12]})" in capsys.readouterr().out
    load(settings(nlvr2_files, *arguments[:-1], str(tmp_path / "others")))
    for name in ("image", "text", "fused", "readable"):
        assert (made / f"{name}.npy").read_bytes() == (
            tmp_path / f"others/{name}.npy"
        ).read_bytes(), name
    with pytest.raises(
        SettingsError, match="model.train=all changes the backbone.*--preset frozen"
    ):
        extract_features.main(tiny(nlvr2_files, "--method", "inter", "--features.dir", str(made)))


def test_features_of_other_data_or_weights_are_refused(own_files, tmp_path):
    arguments = ("--method", "inter", "--preset", "frozen")
    before = load(settings(own_files, *arguments)).facts["fingerprint"]
    first, second, *_ = sorted((own_files / "images/test1").glob("*.png"))
    first.write_bytes(second.read_bytes() + b"of another size")
    assert load(settings(own_files, *arguments)).facts["fingerprint"] != before
    next((own_files / "images/test1").glob("*.png")).unlink()
    with pytest.raises(DataError, match="holds features of something else: data"):
        load(settings(own_files, *arguments))
    with pytest.raises(
        SettingsError, match="data.augment and data.flip have no effect on features"
    ):
        load(settings(own_files, *arguments, "--data.augment", "true"))
