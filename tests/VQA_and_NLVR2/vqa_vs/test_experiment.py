"""VQA-VS on features: losses against the published code's, and rows trained end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from benchmarks import vqa as bench
from i2m2.errors import DataError
from i2m2.model import product_of_experts
from i2m2.names import methods_of
from i2m2.training.data import to_device
from tests.VQA_and_NLVR2.tiny_vqa import arguments, extracted, settings
from VQA_and_NLVR2.train import main
from VQA_and_NLVR2.vqa_vs.experiment import (
    build_model,
    load,
    loss_of,
    soft_target,
)
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS

METHODS = methods_of(("image", "text"))
LOSSES = ("paper", "soft_cross_entropy", "bernoulli")


def sparse(target):
    """Dense soft targets -> as the data set gives them."""
    answer = np.full((len(target), 10), -1, np.int16)
    score = np.zeros((len(target), 10), np.float32)
    for row, values in enumerate(target):
        given = values.nonzero().flatten()
        answer[row, : len(given)], score[row, : len(given)] = given, values[given]
    return {"answer": torch.from_numpy(answer), "score": torch.from_numpy(score)}


def targets(n=6, classes=40):
    torch.manual_seed(0)
    target = torch.zeros(n, classes)
    scores = torch.tensor([0.3, 1.0, 0.6, 0.9])
    for row in range(n):
        given = row % 4 + 1
        target[row, torch.randperm(classes)[:given]] = scores[:given]
    return target


def loss(made, name, log_prob, target):
    of_batch = loss_of(settings(*made, "--loss", name), None, torch.device("cpu"))
    return of_batch(log_prob, sparse(target))


def test_sparse_targets_become_the_dense_ones():
    target = targets()
    assert torch.equal(soft_target(sparse(target), target.shape[1]), target)


def test_the_papers_loss_of_a_product_is_its_closed_form(made):
    """Soft-target cross-entropy plus sum of log(1 + p), which lies between ln 2 and 1."""
    target, log_prob = targets(), torch.randn(6, 40).log_softmax(dim=1)
    penalty = torch.log1p(log_prob.exp()).sum(dim=1)
    torch.testing.assert_close(
        loss(made, "paper", log_prob, target), -(target * log_prob).sum(dim=1) + penalty
    )
    assert (penalty > np.log(2) - 1e-6).all() and (penalty < 1).all()


def test_soft_cross_entropy_scales_the_target_and_bernoulli_sums_the_answers(made):
    target, logits = targets(), torch.randn(6, 40)
    log_prob = logits.log_softmax(dim=1)
    expected = F.cross_entropy(logits, target / target.sum(dim=1, keepdim=True), reduction="none")
    torch.testing.assert_close(loss(made, "soft_cross_entropy", log_prob, target), expected)
    p = logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).sum(dim=1)
    torch.testing.assert_close(
        loss(made, "bernoulli", logits, target), expected, rtol=1e-5, atol=1e-5
    )


def test_losses_and_scores_are_those_of_the_published_code(made, shared):
    """parity/fiber: a single expert's loss takes its logits, a product's its normalised
    log-probabilities."""
    stored = {
        name: torch.from_numpy(array)
        for name, array in np.load(shared / "parity/fiber/io.npz").items()
    }
    target = stored["input/vqa_targets"]
    logits = {name: stored[f"vqa/{name}_logits"] for name in ("image", "text", "inter")}
    products = {"intra": ("image", "text"), "i2m2": ("image", "text", "inter")}
    outputs = logits | {
        name: product_of_experts(logits[one].log_softmax(dim=1) for one in experts)
        for name, experts in products.items()
    }
    for name, output in outputs.items():
        assert loss(made, "paper", output, target).mean().item() == pytest.approx(
            stored[f"vqa/loss_bce_{name}"].item(), rel=1e-6
        )


@pytest.mark.parametrize(
    "name, method, form",
    [
        ("paper", "unimodal_image", "logits"),
        ("paper", "i2m2", "normalised"),
        ("soft_cross_entropy", "unimodal_image", "normalised"),
        ("soft_cross_entropy", "i2m2", "normalised"),
        ("bernoulli", "i2m2", "summed"),
    ],
)
def test_what_the_loss_gets(made, name, method, form):
    config = settings(*made, "--method", method, "--loss", name)
    split = load(config).splits["train"]
    model = build_model(config)
    batch = to_device(
        split.select(model.modalities)[np.arange(5)], torch.device("cpu"), split.prepare
    )
    output, _ = model(batch["inputs"])
    heads = {
        name: expert.head(batch["inputs"][expert.modalities[0]])
        for name, expert in model.experts.items()
    }
    expected = {
        "logits": sum(heads.values()),
        "summed": sum(heads.values()),
        "normalised": sum(heads.values()).log_softmax(dim=1),
    }
    torch.testing.assert_close(output, expected[form])


@pytest.mark.parametrize("preset", ["paper", "official_code"])
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_takes_one_step(preset, method, train_vqa):
    result = json.loads(
        (
            train_vqa("--method", method, "--preset", preset, "--init", "scratch") / "result.json"
        ).read_text()
    )
    assert set(OOD_SETS) < set(result["test"]) and "ood_mean" not in result["val"]
    assert 0 <= result["test"]["vqa_score"] <= 1


@pytest.mark.parametrize("name", LOSSES[1:])
@pytest.mark.parametrize("method", ["unimodal_text", "i2m2"])
def test_every_loss_takes_one_step(name, method, train_vqa):
    run = train_vqa("--method", method, "--loss", name, "--init", "scratch")
    (epoch,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([value for value in epoch.values() if isinstance(value, float)]).all()


def test_joint_rows_start_from_the_heads_that_were_trained_alone(train_vqa):
    parts = {
        name: train_vqa("--method", method)
        for name, method in zip(("image", "text", "inter"), METHODS[:2] + ("inter",), strict=True)
    }
    for method, experts in {"intra": ("image", "text"), "i2m2": ("image", "text", "inter")}.items():
        run = train_vqa("--method", method, "--optim.lr", "1e-12")
        env = json.loads((run / "env.json").read_text())
        assert env["warm_start"] == {name: str(parts[name]) for name in experts}
        joint = load_file(run / "best.safetensors")
        for name in experts:
            for key, value in load_file(parts[name] / "best.safetensors").items():
                torch.testing.assert_close(joint[key], value, rtol=0, atol=1e-6)
        assert (
            env["data"]["backbone"] == "FIBER, random weights"
            and "backbone: FIBER, random weights" in env["data"]["description"]
        )
        assert run.parent.parent.name == "vqa_vs-synthetic-fiber_random"


def test_parts_on_other_features_are_refused(train_vqa, made, tmp_path):
    for method in ("unimodal_image", "unimodal_text"):
        train_vqa("--method", method)
    extracted(made[0], tmp_path / "other", "--features.dtype", "float16")
    with pytest.raises(DataError, match="was made with other data"):
        main(
            arguments(
                made[0],
                tmp_path / "other",
                "--features.dtype",
                "float16",
                "--out",
                str(tmp_path),
                "--method",
                "intra",
            )
        )


def test_the_benchmark_compares_the_same_examples(made):
    config = settings(*made, "--method", "i2m2")
    data = load(config)
    positions = np.array([3, 50, 4, 4])
    cached = bench.cached_inputs(data)(positions)
    for in_memory in (True, False):
        own = bench.Uncached(config, data, in_memory).inputs(positions)
        for kind, value in cached.items():
            torch.testing.assert_close(own[kind], value, rtol=0, atol=1e-5)
