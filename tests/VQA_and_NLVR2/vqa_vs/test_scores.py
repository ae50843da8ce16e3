"""VQA-VS: what is saved of predictions, and all scores from that alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from i2m2.errors import SettingsError
from i2m2.machine.accelerator import make_accelerator
from i2m2.stats.resampling import group_index
from i2m2.training.evaluate import predict
from tests.VQA_and_NLVR2.tiny_vqa import settings
from VQA_and_NLVR2.evaluate import main as evaluate
from VQA_and_NLVR2.vqa_vs.analysis import CUSTOM_METRICS, study
from VQA_and_NLVR2.vqa_vs.answers import Vocabulary, soft_labels
from VQA_and_NLVR2.vqa_vs.experiment import (
    EXPERIMENT,
    build_model,
    load,
    open_vqa,
    report,
    soft_target,
)
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS, read_vqa_vs
from VQA_and_NLVR2.vqa_vs.outputs import select_all_answers, select_top_answers
from VQA_and_NLVR2.vqa_vs.predictions import metrics_of, official, scores
from VQA_and_NLVR2.vqa_vs.scores import official_score, official_table, score_sets, training_score

LOSSES = ("paper", "soft_cross_entropy", "bernoulli")


def predictions_of(made, outputs, *more):
    """Of a model with random heads on the test split."""
    config = settings(*made, "--init", "scratch", *more)
    data = load(config)
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for expert in model.experts.values():  # so that answers differ
            expert.head[3].weight.mul_(100)
    split = data.splits["test"].select(model.modalities)
    accelerator = make_accelerator(config)
    model = model.to(accelerator.device)
    return predict(model, split, accelerator, 50, select_outputs=outputs), split, model


@pytest.mark.parametrize("method", ["i2m2", "inter"])
@pytest.mark.parametrize("name", LOSSES)
def test_scores_of_what_is_saved_are_those_of_all_log_probabilities(
    made, method, name, monkeypatch
):
    monkeypatch.setattr("VQA_and_NLVR2.vqa_vs.outputs.TOP", 5)
    p, split, model = predictions_of(made, select_all_answers, "--method", method, "--loss", name)
    test = read_vqa_vs(made[0]).test
    vocabulary = Vocabulary(tuple(p["vocabulary"].tolist()))
    for row in ["product", *(model.experts if method == "i2m2" else [])]:
        whole = p[f"{row}_log_prob"]
        predicted = whole.argmax(axis=1)
        found = metrics_of(p, row)
        assert found["vqa_score"] == pytest.approx(
            official_score(predicted, test.answers, vocabulary), abs=1e-9
        )
        sets = score_sets(
            official_table(test.answers, vocabulary).score_of(predicted), member_of(made)
        )
        for key in (*OOD_SETS, "ood_mean", "visual_mean"):
            assert found[key] == pytest.approx(sets[key], abs=1e-9, nan_ok=True)
        labels = soft_labels(test.answers, vocabulary)
        assert found["training_score"] == pytest.approx(
            training_score(predicted, labels, vocabulary)[0], abs=1e-6
        )
        normalised = torch.from_numpy(whole).double().log_softmax(dim=1)
        target = soft_target(
            {key: torch.from_numpy(value) for key, value in split.y.items()}, len(vocabulary)
        ).double()
        known = target.sum(dim=1) > 0
        expected = -(target * normalised).sum(dim=1)[known] / target.sum(dim=1)[known]
        assert found["nll"] == pytest.approx(expected.mean().item(), rel=1e-5)
        assert found["entropy"] == pytest.approx(
            torch.distributions.Categorical(logits=normalised).entropy().mean().item(), rel=1e-5
        )
        np.testing.assert_array_equal(
            p[f"{row}_top"], np.argsort(-whole, axis=1, kind="stable")[:, :5]
        )


def member_of(made):
    return read_vqa_vs(made[0]).member


def test_only_the_best_answers_are_saved_unless_all_are_asked_for(train_vqa, made):
    some, everything = (
        np.load(train_vqa("--method", "intra", "--init", "scratch", *more) / "predictions_test.npz")
        for more in ([], ["--save_all", "true", "--tag", "all"])
    )
    assert {f"{name}_log_prob" for name in ("product", "image", "text")} == set(everything) - set(
        some
    )
    for name in ("id", "group", "product_top", "answer", "count", "member", "vocabulary"):
        np.testing.assert_array_equal(some[name], everything[name])
    config = settings(*made)
    assert EXPERIMENT.select_outputs(config) is select_top_answers
    assert EXPERIMENT.select_outputs(replace(config, save_all=True)) is select_all_answers


def test_a_resample_of_every_image_once_is_the_score_itself(made):
    p, _, _ = predictions_of(made, select_top_answers, "--method", "i2m2")
    index, groups = group_index(p["group"])
    found = metrics_of(p)
    for name, own in CUSTOM_METRICS.items():
        assert own(p, index, groups)(np.ones((1, groups)))[0] == pytest.approx(
            found[name], abs=1e-9, nan_ok=True
        )
    drawn = np.bincount(np.random.default_rng(0).integers(0, groups, groups), minlength=groups)[
        None
    ]
    assert CUSTOM_METRICS["vqa_score"](p, index, groups)(drawn)[0] == pytest.approx(
        np.average(official(p), weights=drawn[0][index])
    )


def test_its_study_of_what_is_saved_is_that_of_all_probabilities(made):
    p, split, model = predictions_of(
        made, select_all_answers, "--method", "i2m2", "--loss", "paper"
    )
    found = study(p)
    target = (
        soft_target(
            {key: torch.from_numpy(value) for key, value in split.y.items()}, len(p["vocabulary"])
        )
        .double()
        .numpy()
    )
    known = target.sum(axis=1) > 0
    target = target[known] / target[known].sum(axis=1, keepdims=True)
    for name in ("product", *model.experts):
        probability = torch.from_numpy(p[f"{name}_log_prob"]).double().softmax(dim=1).numpy()
        score, sure = official(p, name), probability.max(axis=1)
        bins = np.ceil(sure * 15).astype(int)
        gaps = [abs((score - sure)[bins == k].sum()) for k in range(1, 16)]
        expected = {
            "vqa_score": score.mean(),
            "ece": sum(gaps) / len(score),
            "brier": ((probability[known] - target) ** 2).sum(axis=1).mean(),
            "nll": -(target * np.log(probability[known])).sum(axis=1).mean(),
        }
        assert found["calibration"][name] == pytest.approx(
            expected, abs=2e-3 if name == "product" else 1e-3
        )  # float16 confidence
        assert found["entropy"][name] == pytest.approx(
            -(probability * np.log(probability)).sum(axis=1).mean(), rel=1e-5
        )
        assert sum(found["reliability"][name].count) == len(score)
    assert found["entropy"]["y"] == pytest.approx(
        -(target.mean(axis=0) * np.log(target.mean(axis=0) + 1e-300)).sum(), rel=1e-6
    )
    assert found["rescue"]["examples"] == len(score)


def test_the_report_has_product_and_experts_and_the_rescues(made):
    p, _, _ = predictions_of(made, select_top_answers, "--method", "i2m2")
    text = report(p)
    rows = [line.split() for line in text.splitlines()]
    for name in ("product", "image", "text", "inter"):
        assert [name, *(f"{metrics_of(p, name)[key]:.4f}" for key in OOD_SETS)] in rows
    wrong = np.all([official(p, name) <= 0.5 for name in ("image", "text", "inter")], axis=0)
    rescued = (wrong & (official(p) > 0.5)).sum()
    line = f"every expert alone wrong: {wrong.sum()} of {len(wrong)} questions"
    assert f"{line}, product right in {rescued} of them" in text


def test_evaluation_prints_from_saved_predictions_and_writes_the_scorers_file(
    train_vqa, made, tmp_path, capsys
):
    run = train_vqa("--method", "intra", "--init", "scratch")
    result = json.loads((run / "result.json").read_text())["test"]
    evaluate([str(run), "--predictions-json", str(tmp_path / "answers.json")])
    assert f"{result['vqa_score']:.4f}" in capsys.readouterr().out
    written = json.loads((tmp_path / "answers.json").read_text())
    test = read_vqa_vs(made[0]).test
    assert [one["question_id"] for one in written] == sorted(test.question_id.tolist())
    given = {one["question_id"]: one["answer"] for one in written}
    vocabulary = open_vqa(settings(*made))[1]
    scored = official_score(
        [given[number] for number in test.question_id.tolist()], test.answers, vocabulary
    )
    assert scored == pytest.approx(result["vqa_score"], abs=1e-9)
    (run / "predictions_test.npz").unlink()
    evaluate([str(run)])
    assert f"{result['vqa_score']:.4f}" in capsys.readouterr().out
    with pytest.raises(
        SettingsError, match="--combine mixture needs the log-probabilities of all answers"
    ):
        evaluate([str(run), "--combine", "mixture"])


def test_scores_of_val_have_no_ood_sets_and_all_are_in_range(made):
    p, _, _ = predictions_of(made, select_top_answers, "--method", "inter")
    without = {key: value for key, value in p.items() if key != "member"}
    found = scores({"val": without, "test": p})
    assert set(found["test"]) - set(found["val"]) == {
        *OOD_SETS,
        "ood_mean",
        "language_mean",
        "visual_mean",
        "mixed_mean",
    }
    assert found["val"]["vqa_score"] == found["test"]["vqa_score"]
