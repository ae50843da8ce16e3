"""VQA-VS on features: answers as labels, the losses, every row, and scores from what little is
saved of predictions."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from benchmarks import vqa as bench
from i2m2.compare import main as compare
from i2m2.errors import DataError, SettingsError
from i2m2.model import methods_of, product_of_experts
from i2m2.results import main as results
from i2m2.stats.resampling import group_index
from i2m2.training.config import load_config
from i2m2.training.data import to_device
from i2m2.training.evaluate import predict
from i2m2.training.loop import make_accelerator
from tests.conftest import ROOT
from tests.VQA_and_NLVR2.tiny_vqa import SCENES, arguments, extracted, settings
from VQA_and_NLVR2.datasets import dataset_of
from VQA_and_NLVR2.evaluate import main as evaluate
from VQA_and_NLVR2.features.cache import open_features
from VQA_and_NLVR2.make_synthetic import make_synthetic
from VQA_and_NLVR2.train import main
from VQA_and_NLVR2.vqa_vs.analysis import CUSTOM_METRICS, study
from VQA_and_NLVR2.vqa_vs.answers import OFFICIAL, TRAINING, Vocabulary, soft_labels
from VQA_and_NLVR2.vqa_vs.data import answers_of
from VQA_and_NLVR2.vqa_vs.experiment import (
    VQAConfig,
    build_model,
    extract_command,
    load,
    loss_of,
    open_vqa,
    soft_target,
)
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS, read_annotations, read_vqa_vs
from VQA_and_NLVR2.vqa_vs.predictions import (
    keep,
    keep_everything,
    metrics_of,
    official,
    report,
    scores,
)
from VQA_and_NLVR2.vqa_vs.scores import official_score, official_table, score_sets, training_score

METHODS = methods_of(("image", "text"))
LOSSES = ("paper", "soft_cross_entropy", "bernoulli")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """-> folder of the data, folder of the features."""
    folder = tmp_path_factory.mktemp("vqa")
    make_synthetic(folder / "data", "vqa_vs", SCENES)
    extracted(folder / "data", folder / "features")
    return folder / "data", folder / "features"


@pytest.fixture
def train(made, tmp_path):
    """train("--method", "inter") -> folder of the run, after one epoch on the tiny files."""

    def call(*more):
        main(arguments(*made, "--out", str(tmp_path), *more))
        return max(tmp_path.rglob("DONE"), key=lambda path: path.stat().st_mtime_ns).parent

    return call


def predictions_of(made, keep, *more):
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
    return predict(model.to(accelerator.device), split, accelerator, 50, keep=keep), split, model


# Answers as labels


def test_labels_of_a_question_are_its_distinct_known_answers_and_how_many_gave_them():
    from VQA_and_NLVR2.inputs.records import Interned

    ten = ["red"] * 4 + ["blue", "odd"] + ["red"] + ["green"] * 3
    answers = Interned.of([ten, ["odd"] * 10])
    answer, count = answers_of(answers, Vocabulary(("green", "red", "blue")))
    assert answer.tolist() == [[1, 2, 0] + [-1] * 7, [-1] * 10] and count.tolist() == [
        [5, 1, 3] + [0] * 7,
        [0] * 10,
    ]


def test_labels_of_the_real_slice_are_those_of_the_sparse_ones(shared):
    annotations = read_annotations(shared / "data/vqa_vs/Val-slice-Ans.json.gz")
    vocabulary = Vocabulary(tuple(dict.fromkeys(annotations.majority.texts())))
    answer, count = answers_of(annotations.answers, vocabulary)
    for table in (TRAINING, OFFICIAL):
        sparse = soft_labels(annotations.answers, vocabulary, table)
        np.testing.assert_array_equal(answer[answer >= 0], sparse.labels)
        np.testing.assert_array_equal(table[count[answer >= 0]], sparse.scores)
        np.testing.assert_array_equal((answer >= 0).sum(axis=1), np.diff(sparse.offsets))


def test_a_question_without_a_known_answer_is_left_out_of_training_alone(made, capsys):
    config = settings(*made)
    data = load(config)
    published = read_vqa_vs(made[0])
    vocabulary = open_vqa(config)[1]
    none = {
        name: np.diff(soft_labels(split.answers, vocabulary).offsets) == 0
        for name, split in published.splits.items()
    }
    assert none["train"].any() and none["test"].any()
    np.testing.assert_array_equal(
        data.splits["train"].id, published.train.question_id[~none["train"]]
    )
    for name in ("val", "test"):
        np.testing.assert_array_equal(data.splits[name].id, published.splits[name].question_id)
        np.testing.assert_array_equal(
            (data.splits[name].columns["answer"] < 0).all(axis=1), none[name]
        )
    np.testing.assert_array_equal(data.splits["test"].columns["member"], published.member)
    line = (
        f"questions without any of them: train {none['train'].sum()} of {len(published.train)}, val"
    )
    assert (
        line in capsys.readouterr().out
        and data.facts["sizes"]["test"]["without_label"] == none["test"].sum()
    )


def test_vocabularies_follow_their_rule_and_one_that_cannot_be_counted_says_why(made, tmp_path):
    sizes = {
        rule: len(open_vqa(settings(*made, "--data.vocabulary", rule))[1])
        for rule in ("fiber", "training")
    }
    assert sizes["training"] < sizes["fiber"]
    folder = tmp_path / "few"
    make_synthetic(folder, "vqa_vs", 20)
    for part in ("Training", "Val", "IID-Test"):
        path = folder / part / f"{part}-Ans.json"
        records = json.loads(path.read_text())
        for number, record in enumerate(records):
            if part == "Training":
                record["multiple_choice_answer"] = f"only here {number}"
        path.write_text(json.dumps(records))
    extracted(folder, tmp_path / "f")
    with pytest.raises(DataError, match="no vocabulary training: no answer of .* occurs 9 times"):
        load(settings(folder, tmp_path / "f", "--data.vocabulary", "training"))


# Losses


def sparse(target):
    """Dense soft targets -> as the data set gives them."""
    answer, score = (
        np.full((len(target), 10), -1, np.int16),
        np.zeros((len(target), 10), np.float32),
    )
    for row, values in enumerate(target):
        given = values.nonzero().flatten()
        answer[row, : len(given)], score[row, : len(given)] = given, values[given]
    return {"answer": torch.from_numpy(answer), "score": torch.from_numpy(score)}


def targets(n=6, classes=40):
    torch.manual_seed(0)
    target = torch.zeros(n, classes)
    for row in range(n):
        target[row, torch.randperm(classes)[: row % 4 + 1]] = torch.tensor([0.3, 1.0, 0.6, 0.9])[
            : row % 4 + 1
        ]
    return target


def loss(made, name, log_prob, target):
    return loss_of(settings(*made, "--loss", name), None, torch.device("cpu"))(
        log_prob, sparse(target)
    )


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


# Rows


@pytest.mark.parametrize("preset", ["paper", "official_code"])
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_takes_one_step(preset, method, train):
    result = json.loads(
        (
            train("--method", method, "--preset", preset, "--init", "scratch") / "result.json"
        ).read_text()
    )
    assert set(OOD_SETS) < set(result["test"]) and "ood_mean" not in result["val"]
    assert 0 <= result["test"]["vqa_score"] <= 1


@pytest.mark.parametrize("name", LOSSES[1:])
@pytest.mark.parametrize("method", ["unimodal_text", "i2m2"])
def test_every_loss_takes_one_step(name, method, train):
    run = train("--method", method, "--loss", name, "--init", "scratch")
    (epoch,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([value for value in epoch.values() if isinstance(value, float)]).all()


def test_joint_rows_start_from_the_heads_that_were_trained_alone(train):
    parts = {
        name: train("--method", method)
        for name, method in zip(("image", "text", "inter"), METHODS[:2] + ("inter",), strict=True)
    }
    for method, experts in {"intra": ("image", "text"), "i2m2": ("image", "text", "inter")}.items():
        run = train("--method", method, "--optim.lr", "1e-12")
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


def test_parts_on_other_features_are_refused(train, made, tmp_path):
    for method in ("unimodal_image", "unimodal_text"):
        train("--method", method)
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


def test_train_size_takes_the_first_questions(made):
    assert len(load(settings(*made, "--data.train_size", "20")).splits["train"]) == 20


# Predictions and scores


@pytest.mark.parametrize("method", ["i2m2", "inter"])
@pytest.mark.parametrize("name", LOSSES)
def test_scores_of_what_is_saved_are_those_of_all_log_probabilities(
    made, method, name, monkeypatch
):
    monkeypatch.setattr("VQA_and_NLVR2.vqa_vs.predictions.TOP", 5)
    p, split, model = predictions_of(made, keep_everything, "--method", method, "--loss", name)
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


def test_only_the_best_answers_are_saved_unless_all_are_asked_for(train, made):
    some, everything = (
        np.load(train("--method", "intra", "--init", "scratch", *more) / "predictions_test.npz")
        for more in ([], ["--save_all", "true", "--tag", "all"])
    )
    assert {f"{name}_log_prob" for name in ("product", "image", "text")} == set(everything) - set(
        some
    )
    for name in ("id", "group", "product_top", "answer", "count", "member", "vocabulary"):
        np.testing.assert_array_equal(some[name], everything[name])
    assert dataset_of(["--dataset", "vqa_vs"]).keep is keep


def test_a_resample_of_every_image_once_is_the_score_itself(made):
    p, _, _ = predictions_of(made, keep, "--method", "i2m2")
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
    p, split, model = predictions_of(made, keep_everything, "--method", "i2m2", "--loss", "paper")
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
        assert sum(found["reliability"][name]["count"]) == len(score)
    assert found["entropy"]["y"] == pytest.approx(
        -(target.mean(axis=0) * np.log(target.mean(axis=0) + 1e-300)).sum(), rel=1e-6
    )
    assert found["rescue"]["examples"] == len(score)


def test_tables_studies_and_comparisons_of_finished_runs(train, made, tmp_path, capsys):
    runs = {
        method: train("--method", method)
        for method in ("unimodal_image", "unimodal_text", "inter", "intra", "i2m2")
    }
    results([str(tmp_path)])
    folder = runs["i2m2"].parents[1]
    assert re.search(r"\| I2M2 \| \**[\d.]+ \[[\d.]+, [\d.]+\] \(1\)", capsys.readouterr().out)
    text = (folder / "studies.md").read_text()
    found = study(dict(np.load(runs["i2m2"] / "predictions_test.npz")))
    entropies = " | ".join(
        f"{found['entropy'][name]:.3f}" for name in ("y", "product", "image", "text", "inter")
    )
    assert "## Table C.7: entropy" in text and f"| I2M2 | {entropies} | 1 |" in text
    assert (
        "## Section 4.6: cases" in text and "| model | of | vqa_score | ece | brier | nll |" in text
    )
    assert (folder / "reliability.png").stat().st_size > 5_000
    compare([str(runs["i2m2"].parent), str(runs["inter"].parent)])
    out = capsys.readouterr().out
    difference = [
        metrics_of(dict(np.load(runs[name] / "predictions_test.npz")))["vqa_score"]
        for name in ("i2m2", "inter")
    ]
    assert re.search(re.escape(f"{difference[0] - difference[1]:+.4f}"), out)
    assert "ood_mean" in out
    compare([str(runs["i2m2"]), str(runs["inter"]), "--split", "val"])
    out = capsys.readouterr().out
    assert "vqa_score" in out and "ood_mean" not in out


def test_the_report_has_product_and_experts_and_the_rescues(made):
    p, _, _ = predictions_of(made, keep, "--method", "i2m2")
    text = report(p)
    rows = [line.split() for line in text.splitlines()]
    for name in ("product", "image", "text", "inter"):
        assert [name, *(f"{metrics_of(p, name)[key]:.4f}" for key in OOD_SETS)] in rows
    wrong = np.all([official(p, name) <= 0.5 for name in ("image", "text", "inter")], axis=0)
    rescued = (wrong & (official(p) > 0.5)).sum()
    assert (
        f"every expert alone wrong: {wrong.sum()} of {len(wrong)} questions, product right in {rescued} of them"
        in text
    )


def test_the_baseline_is_the_most_frequent_answer(made):
    data = load(settings(*made))
    train, test = read_vqa_vs(made[0]).train, read_vqa_vs(made[0]).test
    vocabulary = open_vqa(settings(*made))[1]
    labels = soft_labels(train.answers, vocabulary)
    most = vocabulary.answers[int(np.bincount(labels.labels, labels.scores).argmax())]
    assert data.facts["baseline"]["vqa_score"] == pytest.approx(
        official_score([most] * len(test), test.answers, vocabulary)
    )


def test_evaluation_prints_from_saved_predictions_and_writes_the_scorers_file(
    train, made, tmp_path, capsys
):
    run = train("--method", "intra", "--init", "scratch")
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
    p, _, _ = predictions_of(made, keep, "--method", "inter")
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


def test_training_names_the_command_that_makes_features(made, tmp_path):
    with pytest.raises(
        DataError,
        match="make them with: python -m VQA_and_NLVR2.extract_features --config .*--features.dir",
    ):
        load(
            replace(
                settings(*made),
                features=replace(settings(*made).features, dir=str(tmp_path / "none")),
            )
        )
    config = settings(*made)
    assert open_features(made[1], config.backbone, config.features).widths == {
        "image": 64,
        "text": 64,
        "fused": 128,
    }


def test_the_command_that_makes_features_has_the_settings_at_hand(made, monkeypatch):
    config = settings(*made, "--features.views", "2")
    words = shlex.split(extract_command(config))
    assert words[:3] == ["python", "-m", "VQA_and_NLVR2.extract_features"]
    monkeypatch.chdir(ROOT)
    again = load_config(VQAConfig, words[3:], "extract_features")
    assert (again.backbone, again.features, again.data) == (
        config.backbone,
        config.features,
        config.data,
    )
    assert len(words) < 30 and "fiber" not in words  # what the file has already is not said again


def test_the_benchmark_compares_the_same_examples(made):
    config = settings(*made, "--method", "i2m2")
    data = load(config)
    positions = np.array([3, 50, 4, 4])
    cached = bench.cached_inputs(data)(positions)
    for in_memory in (True, False):
        own = bench.Uncached(config, data, in_memory).inputs(positions)
        for kind, value in cached.items():
            torch.testing.assert_close(own[kind], value, rtol=0, atol=1e-5)
