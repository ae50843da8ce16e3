"""NLVR2 end to end on tiny files: shared backbone, rows, loading, groups of parameters, scores, and
bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from i2m2.errors import DataError, SettingsError
from i2m2.model import methods_of
from i2m2.report.tables import read_entries
from i2m2.training import experiment
from i2m2.training.config import load_config
from i2m2.training.data import seed_everything, to_device
from tests.conftest import ROOT
from VQA_and_NLVR2 import extract_features
from VQA_and_NLVR2.backbones.base import build_backbone
from VQA_and_NLVR2.features.cache import read_facts
from VQA_and_NLVR2.make_synthetic import make_synthetic
from VQA_and_NLVR2.nlvr2 import data as nlvr2_data
from VQA_and_NLVR2.nlvr2.analysis import CUSTOM_METRICS, report, scores
from VQA_and_NLVR2.nlvr2.experiment import NLVR2, NLVR2Config, build_model, load
from VQA_and_NLVR2.nlvr2.models import (
    NO_DECAY,
    NLVR2Model,
    SharedBackbone,
    heads_on_features,
    parameter_groups,
)
from VQA_and_NLVR2.nlvr2.on_features import plan_for, plan_of

CONFIG = str(ROOT / "VQA_and_NLVR2/configs/nlvr2.yaml")
SYNTHETIC = str(ROOT / "VQA_and_NLVR2/configs/nlvr2_synthetic.yaml")
SIZES = str(ROOT / "VQA_and_NLVR2/configs/fiber_tiny.json")
METHODS = methods_of(("image", "text"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """About 40 training sentences, 12 of dev and 32 of test1."""
    out = tmp_path_factory.mktemp("nlvr2") / "data"
    make_synthetic(out, "nlvr2", 20)
    return out


@pytest.fixture
def own_files(files, tmp_path) -> Path:
    """A copy to damage."""
    shutil.copytree(files, tmp_path / "own", ignore=shutil.ignore_patterns("checked_images.json"))
    return tmp_path / "own"


def tiny(files, *arguments, config=CONFIG):
    """Arguments for the tiny FIBER with random weights on a few examples; later ones win."""
    backbone = [
        "--backbone.kind",
        "fiber_random",
        "--backbone.checkpoint",
        "null",
        "--backbone.sizes",
        SIZES,
    ]
    backbone += ["--backbone.tokenizer", str(files / "tokenizer"), "--model.hidden", "32"]
    small = [
        "--data.source",
        "files",
        "--data.dir",
        str(files),
        "--data.train_size",
        "12",
        "--workers",
        "0",
        "--threads",
        "1",
    ]
    small += ["--optim.epochs", "1", "--optim.batch_size", "8", "--optim.micro_batches", "1"]
    return ["--config", config, *backbone, *small, *arguments]


def settings(files, *arguments) -> NLVR2Config:
    return load_config(NLVR2Config, tiny(files, *arguments), "train")


def train(files, out, *arguments, **options) -> Path:
    """-> folder of the run."""
    experiment.train(
        NLVR2, tiny(files, "--out", str(out), *arguments, **options), "VQA_and_NLVR2.train"
    )
    return max(out.rglob("DONE"), key=lambda path: path.stat().st_mtime_ns).parent


def a_model(files, method="i2m2", *arguments):
    """The row's model with the gates of its fusion open, and a batch of four examples of test1."""
    torch.manual_seed(0)
    config = settings(files, "--method", method, *arguments)
    model = build_model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "alpha_" in name:
                parameter.fill_(0.5)
    split = load(config).splits["test"].select(model.modalities)
    return model, to_device(split[np.array([0, 3, 5, 9])], torch.device("cpu"), split.prepare)


@pytest.mark.parametrize(
    "config, preset, method",
    [(CONFIG, "paper", method) for method in METHODS]
    + [(CONFIG, preset, "i2m2") for preset in ("official_code", "fiber", "frozen")]
    + [(SYNTHETIC, "paper", method) for method in METHODS],
)
def test_every_config_takes_a_step(config, preset, method, files, tmp_path):
    run = train(
        files, tmp_path, "--method", method, "--preset", preset, "--init", "scratch", config=config
    )
    result = json.loads((run / "result.json").read_text())
    assert set(result) == {"val", "test"}
    assert {"accuracy", "consistency", "accuracy_balanced", "accuracy_unbalanced", "nll"} <= set(
        result["test"]
    )
    predictions = np.load(run / "predictions_test.npz")
    assert len(predictions["log_prob"]) == len((files / "test1.json").read_text().splitlines())


def test_heads_have_the_published_number_of_parameters():
    with torch.device("meta"):
        heads = heads_on_features(
            {"image": 768, "text": 768, "fused": 1536},
            ("image", "text", "inter"),
            NLVR2Model().hidden,
        )
    assert (
        sum(p.numel() for p in heads.parameters()) == 8_280_585 - 3
    )  # without three scalars that have no use


def test_sharing_what_the_experts_have_in_common_changes_no_logit(files):
    model, batch = a_model(files)
    backbone, image, text = model.backbone, batch["inputs"]["image"], batch["inputs"]["text"]
    with torch.no_grad():
        _, by_expert = model(batch["inputs"])
        sides = [backbone.encode_image(image[:, side])[0] for side in (0, 1)]
        fused = [
            backbone.fuse(backbone.encode_image(image[:, side])[1], backbone.encode_text(**text)[1])
            for side in (0, 1)
        ]
        vectors = {
            "image": torch.cat(sides, 1),
            "text": backbone.encode_text(**text)[0],
            "inter": torch.cat(fused, 1),
        }
        for name, vector in vectors.items():
            expected = model.experts[name].head(vector).log_softmax(-1)
            torch.testing.assert_close(by_expert[name], expected, rtol=0, atol=1e-6)


def test_the_order_of_the_images_tells_left_from_right(files):
    model, batch = a_model(files)
    with torch.no_grad():
        _, one = model(batch["inputs"])
        _, other = model({**batch["inputs"], "image": batch["inputs"]["image"].flip(1)})
    torch.testing.assert_close(one["text"], other["text"], rtol=0, atol=0)
    assert all((one[name] - other[name]).abs().max() > 1e-6 for name in ("image", "inter"))


def test_an_absent_modality_silences_its_experts(files):
    model, batch = a_model(files)
    with torch.no_grad():
        log_prob, by_expert = model({"text": batch["inputs"]["text"]})
        absent = {"image": torch.tensor([True, False, True, True])}
        masked, _ = model(batch["inputs"], absent)
        whole, _ = model(batch["inputs"])
    torch.testing.assert_close(log_prob, by_expert["text"])
    torch.testing.assert_close(masked[1], by_expert["text"][1], rtol=0, atol=1e-6)
    torch.testing.assert_close(masked[[0, 2, 3]], whole[[0, 2, 3]], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method, unused",
    [
        (
            "unimodal_text",
            [
                "vit_model.",
                "cross_modal_image",
                "t2i",
                "cross_modal_text_pooler.",
                "cross_modal_text_transform.",
            ],
        ),
        (
            "unimodal_image",
            [
                "text_transformer.",
                "cross_modal_text",
                "i2t",
                "cross_modal_image_pooler.",
                "cross_modal_image_transform.",
            ],
        ),
        (
            "inter",
            ["_itc", "vit_model.norm.", "layer.4.output.LayerNorm"],
        ),  # the last layer ends without its norm
        ("i2m2", []),
    ],
)
def test_a_row_computes_only_what_its_experts_need(method, unused, files):
    model, batch = a_model(files, method)
    assert set(batch["inputs"]) == set(model.modalities)
    log_prob, _ = model(batch["inputs"])
    log_prob[:, 0].sum().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == {
        name for name, _ in model.named_parameters() if any(part in name for part in unused)
    }


def test_the_text_row_decodes_no_image_and_the_image_row_gets_no_text(files, monkeypatch):
    splits = load(settings(files, "--data.check_images", "false")).splits
    monkeypatch.setattr(nlvr2_data, "load_rgb", None)
    assert set(splits["train"].select(("text",))[np.array([0, 1])]["inputs"]) == {"text"}
    monkeypatch.undo()
    assert set(splits["train"].select(("image",))[np.array([0, 1])]["inputs"]) == {"image"}


def test_batches_hold_the_left_image_first_and_no_more_text_than_the_longest(files):
    split = load(settings(files)).splits["test"]
    batch = split[np.array([2, 7])]
    assert (
        batch["inputs"]["image"].shape == (2, 2, 3, 64, 64)
        and batch["inputs"]["image"].dtype == torch.uint8
    )
    text = batch["inputs"]["text"]
    assert text["ids"].shape[1] == text["mask"].sum(1).max() < split.text[0].shape[1]
    line = json.loads((files / "test1.json").read_text().splitlines()[7])
    stem = line["identifier"].rpartition("-")[0]
    right = nlvr2_data.load_rgb(files / f"images/test1/{stem}-img1.png")
    assert (
        batch["inputs"]["image"][1, 1] == torch.from_numpy(np.array(right)).permute(2, 0, 1)
    ).all()
    assert split.id[7] == line["identifier"] and split.y[7] == (line["label"] == "True")
    assert split.group[7] == "-".join(line["identifier"].split("-")[:2])
    expected = (batch["inputs"]["image"][0, 1, 2] / 255 - 0.406) / 0.225
    torch.testing.assert_close(split.prepare(batch["inputs"])["image"][0, 1, 2], expected)


def test_augmentation_depends_on_seed_and_epoch_alone_and_only_training_has_it(files):
    def images(split, epoch, positions=(0, 1)):
        split.set_epoch(epoch)
        return split[np.array(positions)]["inputs"]["image"]

    splits, plain = (
        load(settings(files, "--data.augment", value)).splits for value in ("true", "false")
    )
    train, unchanged = splits["train"], plain["train"][np.array([0, 1])]["inputs"]["image"]
    assert torch.equal(
        train[np.array([0, 1])]["inputs"]["image"], unchanged
    )  # before training, as in evaluation
    first = images(train, 0)
    assert torch.equal(first[1], images(train, 0, (5, 1))[1]) and not torch.equal(
        first, images(train, 1)
    )
    assert not torch.equal(first, unchanged) and torch.equal(images(plain["train"], 0), unchanged)
    assert torch.equal(images(splits["test"], 0), images(splits["test"], 1))
    other = load(settings(files, "--seed", "1")).splits["train"]
    assert not torch.equal(first, images(other, 0))


def test_every_trained_parameter_is_in_one_group_with_the_published_rate_and_decay(files):
    model, _ = a_model(files)
    optim = settings(files, "--optim.lr", "1e-5").optim
    groups = parameter_groups(model, optim, NLVR2Model(head_rate=50, fusion_rate=5))
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad) and len(
        set(listed)
    ) == len(listed)
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    found = {
        name: (round(of[id(p)]["lr"] * 1e5), of[id(p)]["weight_decay"])
        for name, p in model.named_parameters()
    }
    vit, text = (
        "backbone.vit_model.layers.3.blocks.0.",
        "backbone.text_transformer.encoder.layer.4.",
    )
    expected = {
        f"{vit}attn.qkv.weight": (1, 0.01),
        f"{vit}attn.qkv.bias": (1, 0.0),
        f"{vit}attn.relative_position_bias_table": (1, 0.0),
        f"{vit}norm1.weight": (1, 0.0),
        f"{vit}attn.norm_i2t_i.weight": (5, 0.01),
        f"{vit}attn.norm_i2t_i.bias": (5, 0.0),
        f"{vit}attn.alpha_i2t": (5, 0.01),
        f"{text}alpha_t2i": (5, 0.01),
        f"{text}crossattention_t2i.self.key.weight": (5, 0.01),
        f"{text}output.LayerNorm.weight": (1, 0.0),
        "backbone.vit_model.patch_embed.norm.weight": (1, 0.0),
        "backbone.text_transformer.embeddings.word_embeddings.weight": (1, 0.01),
        "backbone.cross_modal_text_pooler_itc.dense.weight": (5, 0.01),
        "experts.image.head.0.weight": (50, 0.01),
        "experts.image.head.1.weight": (50, 0.01),
        "experts.inter.head.3.bias": (50, 0.0),
    }
    assert {name: found[name] for name in expected} == expected
    assert all(
        (decay == 0) == any(word in name for word in NO_DECAY) for name, (_, decay) in found.items()
    )
    assert all(group["betas"] == (0.9, 0.98) for group in groups)
    plain = parameter_groups(model, optim, NLVR2Model(decay_all=True))
    assert {(group["lr"], group["weight_decay"]) for group in plain} == {(1e-5, 0.01)}


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


def test_results_follow_from_the_saved_predictions_and_name_the_backbone(files, tmp_path, capsys):
    run = train(files, tmp_path, "--method", "inter")
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


def test_joint_rows_start_from_the_heads_and_what_each_part_made_of_the_backbone(files, tmp_path):
    runs = {
        name: train(files, tmp_path, "--method", f"unimodal_{name}") for name in ("image", "text")
    }
    runs["inter"] = train(files, tmp_path, "--method", "inter")
    parts = {name: load_file(run / "best.safetensors") for name, run in runs.items()}
    # A learning rate of almost nothing: where they end is where they began.
    i2m2 = load_file(
        train(files, tmp_path, "--method", "i2m2", "--optim.lr", "1e-30") / "best.safetensors"
    )
    intra = load_file(
        train(files, tmp_path, "--method", "intra", "--optim.lr", "1e-30") / "best.safetensors"
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


def test_a_joint_row_refuses_parts_of_another_backbone(files, tmp_path):
    for method in ("unimodal_image", "unimodal_text"):
        train(files, tmp_path, "--method", method)
    with pytest.raises(
        SettingsError, match=r"other settings: backbone.image_size \(None there, 96 now\)"
    ):
        train(files, tmp_path, "--method", "intra", "--backbone.image_size", "96")


def test_heads_on_cached_features_give_the_logits_of_the_whole_model(files, tmp_path, capsys):
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
    run = train(files, tmp_path, *arguments)
    heads = load_file(run / "best.safetensors")
    assert heads and all(name.startswith("experts.") for name in heads)
    config = settings(files, *arguments)
    seed_everything(0)
    model = SharedBackbone(
        build_backbone(config.backbone), config.experts, config.model.hidden
    ).eval()
    model.load_state_dict(heads, strict=False)
    test = load(settings(files, "--method", "i2m2")).splits["test"]
    saved = np.load(run / "predictions_test.npz")
    assert (saved["id"] == test.id).all()
    with torch.no_grad():
        log_prob, by_expert = model(test.prepare(test[np.arange(len(test))]["inputs"]))
    np.testing.assert_allclose(saved["log_prob"], log_prob, atol=1e-5)
    for name in ("image", "text", "inter"):
        np.testing.assert_allclose(saved[f"expert_{name}"], by_expert[name], atol=1e-5)
    train(files, tmp_path, *arguments, "--seed", "1")
    assert "features: already complete" in capsys.readouterr().out


def test_features_hold_each_image_sentence_and_pair_of_them_once(files):
    data = load(settings(files))
    plan, paths, rows = plan_for(
        {name: split.examples for name, split in data.splits.items()}, data.facts
    )
    assert plan_of(settings(files).data)[0].fingerprint == plan.fingerprint
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


def test_features_extracted_beforehand_are_those_that_training_makes(files, tmp_path, capsys):
    made = tmp_path / "features"
    arguments = ("--method", "inter", "--preset", "frozen", "--features.dir", str(made))
    extract_features.main(tiny(files, *arguments))
    key = read_facts(made)["key"]
    train(files, tmp_path, *arguments)
    assert f"{made}: already complete (key {key[:12]})" in capsys.readouterr().out
    load(settings(files, *arguments[:-1], str(tmp_path / "others")))
    for name in ("image", "text", "fused", "readable"):
        assert (made / f"{name}.npy").read_bytes() == (
            tmp_path / f"others/{name}.npy"
        ).read_bytes(), name
    with pytest.raises(
        SettingsError, match="model.train=all changes the backbone.*--preset frozen"
    ):
        extract_features.main(tiny(files, "--method", "inter", "--features.dir", str(made)))


def test_features_of_other_data_or_weights_are_refused(own_files, tmp_path):
    arguments = ("--method", "inter", "--preset", "frozen")
    load(settings(own_files, *arguments))
    next((own_files / "images/test1").glob("*.png")).unlink()
    with pytest.raises(DataError, match="holds features of something else: data"):
        load(settings(own_files, *arguments))
    with pytest.raises(
        SettingsError, match="data.augment and data.flip have no effect on features"
    ):
        load(settings(own_files, *arguments, "--data.augment", "true"))


def test_predictions_are_made_again_from_a_runs_weights(files, tmp_path):
    for preset in ("paper", "frozen"):
        run = train(files, tmp_path, "--method", "unimodal_text", "--preset", preset)
        first = dict(np.load(run / "predictions_test.npz"))
        (run / "predictions_test.npz").unlink()
        experiment.evaluate(lambda _: NLVR2, [str(run)], "VQA_and_NLVR2.evaluate", "results/x")
        again = dict(np.load(run / "predictions_test.npz"))
        assert first.keys() == again.keys()
        assert all((first[name] == again[name]).all() for name in first)


def weights_after(files, out, *arguments):
    return load_file(
        train(files, out, "--method", "i2m2", "--init", "scratch", *arguments) / "best.safetensors"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--optim.micro_batches", "3"),
        ("--backbone.activation_checkpointing", "true"),
        ("--workers", "2"),
    ],
)
def test_divisions_recomputation_and_workers_change_no_weight(arguments, files, tmp_path):
    sgd = (
        "--optim.name",
        "sgd",
        "--optim.lr",
        "0.01",
    )  # AdamW would make much of differences in the last bit
    one, other = (
        weights_after(files, tmp_path / "1", *sgd),
        weights_after(files, tmp_path / "2", *sgd, *arguments),
    )
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=0, atol=1e-5)


def test_two_processes_make_the_step_of_one(files, tmp_path):
    step = (
        "--data.train_size",
        "5",
        "--optim.name",
        "sgd",
        "--optim.lr",
        "0.01",
        "--optim.warmup",
        "0",
    )
    one = weights_after(files, tmp_path / "1", *step)
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; from i2m2 import experiment; from VQA_and_NLVR2.nlvr2.experiment import NLVR2\n"
        "experiment.train(NLVR2, sys.argv[1:], 'VQA_and_NLVR2.train')\n"
    )
    arguments = tiny(
        files, "--out", str(tmp_path / "2"), "--method", "i2m2", "--init", "scratch", *step
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(program),
        *arguments,
    ]
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


def test_mixed_precision_takes_a_step(files, tmp_path):
    run = train(files, tmp_path, "--method", "i2m2", "--init", "scratch", "--precision", "bf16")
    assert np.isfinite(np.load(run / "predictions_test.npz")["log_prob"]).all()


def test_whole_directories_are_held_out_for_validation(own_files):
    lines = [json.loads(line) for line in (own_files / "train.json").read_text().splitlines()]
    lines = [line | {"directory": int(line["identifier"].split("-")[1]) % 3} for line in lines]
    (own_files / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    all_of_it = ("--data.train_size", "null")
    whole = load(settings(own_files, *all_of_it))
    held = load(settings(own_files, *all_of_it, "--data.hold_out", "[0, 2]"))
    assert held.splits["val"].id.tolist() == [
        line["identifier"] for line in lines if line["directory"] != 1
    ]
    assert held.splits["train"].id.tolist() == [
        line["identifier"] for line in lines if line["directory"] == 1
    ]
    assert held.splits["test"].id.tolist() == whole.splits["test"].id.tolist()
    assert held.facts["fingerprint"] != whole.facts["fingerprint"]
    with pytest.raises(SettingsError, match="cannot be held out"):
        load(settings(own_files, "--data.hold_out", "[77]"))


def test_pairs_without_both_images_are_left_out_and_counted(own_files, capsys):
    pictures = sorted((own_files / "images/test1").glob("*-0-img0.png"))
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:300])
    data = load(settings(own_files))
    stems = {path.name.removesuffix("-img0.png") for path in pictures[:2]}
    lines = [json.loads(line) for line in (own_files / "test1.json").read_text().splitlines()]
    kept = [
        line["identifier"] for line in lines if line["identifier"].rpartition("-")[0] not in stems
    ]
    assert data.splits["test"].id.tolist() == kept and len(kept) < len(lines)
    assert data.facts["sizes"]["test"] == {
        "examples": len(kept),
        "left_out": len(lines) - len(kept),
        "cut": 0,
    }
    said = capsys.readouterr().out
    assert (
        f"test1: {len(kept)} of {len(lines)} examples" in said and "2 photographs missing" in said
    )
    assert (
        f"1 photographs cannot be read and count as missing, first {pictures[1]}: no readable image"
        in said
    )
    assert f"{len(lines) - len(kept)} examples LEFT OUT" in data.facts["description"]
    with pytest.raises(DataError, match="set data.incomplete to leave_out"):
        load(settings(own_files, "--data.incomplete", "refuse"))


def test_images_are_checked_once_and_broken_ones_again(own_files, monkeypatch):
    from VQA_and_NLVR2.inputs import checked_images

    picture = next((own_files / "images/dev").glob("*.png"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:300])
    assert load(settings(own_files)).facts["sizes"]["val"]["left_out"] > 0
    seen = []
    original = checked_images.load_rgb
    monkeypatch.setattr(
        checked_images, "load_rgb", lambda path: (seen.append(path), original(path))
    )
    picture.write_bytes(whole)
    assert load(settings(own_files)).facts["sizes"]["val"]["left_out"] == 0
    assert seen == [picture]


def test_sentences_that_are_cut_are_counted(files, capsys):
    facts = load(settings(files, "--backbone.max_text_length", "8")).facts
    assert facts["sizes"]["test"]["cut"] > 0
    assert (
        f"test: {facts['sizes']['test']['cut']} sentences are longer than 8 tokens and cut"
        in capsys.readouterr().out
    )


def test_published_lists_of_the_subsets_win_over_the_rule(own_files):
    lines = (own_files / "test1.json").read_text().splitlines(keepends=True)
    (own_files / "balanced").mkdir()
    (own_files / "balanced/balanced_test1.json").write_text("".join(lines[:3]))
    test = load(settings(own_files)).splits["test"]
    assert test.columns["balanced"].tolist() == [True] * 3 + [False] * (len(lines) - 3)
    assert test.columns["unbalanced"].any()


def damage_label(folder):
    path = folder / "dev.json"
    path.write_text(path.read_text().replace('"label": "True"', '"label": "yes"', 1))


def damage_folder(folder):
    shutil.rmtree(folder / "images")


def damage_file(folder):
    (folder / "test1.json").unlink()


def damage_sentence(folder):
    path = folder / "train.json"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"sentence": " "}), *rest]))


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_label, r"dev.json: line \d+ .*label 'yes' is neither 'True' nor 'False'"),
        (damage_folder, r"no photograph \*-img0.png"),
        (damage_file, "test1.json is missing; how to get it: .*--data.source synthetic"),
        (damage_sentence, r"train.json: line 1 \(identifier train-0-0-0\): its text is empty"),
    ],
)
def test_bad_files_are_one_line(damage, message, own_files):
    damage(own_files)
    with pytest.raises(DataError, match=message) as error:
        load(settings(own_files))
    assert "\n" not in str(error.value)


def test_an_image_that_breaks_after_the_check_stops_with_its_name(own_files, tmp_path):
    load(settings(own_files))
    picture = next((own_files / "images/train/0").glob("*.png"))
    for path in (own_files / "images/train").rglob("*.png"):
        path.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(DataError, match=r"-img\d.png: no readable image"):
        train(own_files, tmp_path, "--method", "unimodal_image")


def test_weights_of_other_sizes_are_refused(files, tmp_path):
    torch.save({"state_dict": {"vit_model.norm.weight": torch.zeros(7)}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match="another architecture or size"):
        load(
            settings(
                files,
                "--backbone.kind",
                "fiber",
                "--backbone.checkpoint",
                str(tmp_path / "other.ckpt"),
            )
        )


def test_the_table_of_the_paper_asks_for_what_runs_record(files, tmp_path):
    result = json.loads(
        (train(files, tmp_path, "--method", "unimodal_text") / "result.json").read_text()
    )["test"]
    for folder in ("nlvr2", "nlvr2-synthetic"):
        (entry,) = read_entries()[folder]
        assert set(entry.metrics) <= set(result) and entry.own == "VQA_and_NLVR2.nlvr2.analysis"
        assert sorted(row.run for row in entry.rows) == sorted(METHODS)
        assert (
            load_config(NLVR2Config, ["--config", str(ROOT / entry.config)], "train").backbone.kind
            == "fiber"
        )
    assert build_backbone(settings(files).backbone).name.startswith(
        entry.backbone.partition(",")[0]
    )
