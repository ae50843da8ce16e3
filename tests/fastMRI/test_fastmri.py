"""fastMRI: networks, views of a complex image, loader, every preset with every method, scores, and
bad input."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn

from fastMRI.data import LABELS, FastMRIData, class_weights, load_fastmri, magnitude_of, phase_of
from fastMRI.models import FastMRIConfig, build_model
from fastMRI.networks import make_norm, preact_resnet18, wide_resnet20_3
from fastMRI.scores import (
    CUSTOM_METRICS,
    at_threshold,
    bootstrap,
    by_volume,
    log_odds_of,
    operating_point,
    scores,
)
from fastMRI.train import main
from i2m2.errors import DataError, SettingsError
from i2m2.losses import negative_log_likelihood
from i2m2.model import methods_of
from i2m2.stats.resampling import group_index
from i2m2.training.config import load_config
from tests.conftest import FASTMRI_CONFIG

METHODS = methods_of(("magnitude", "phase"), ("rss",))
SMALL = ("--model.width", "8", "--model.pool", "5")


def config(*arguments: str) -> FastMRIConfig:
    return load_config(FastMRIConfig, ["--config", FASTMRI_CONFIG, *arguments], "train")


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture
def train(fastmri_files, tmp_path):
    """train("--method", "inter") -> folder of the run, after one epoch on the tiny files."""

    def call(*arguments: str):
        common = [
            "--data.dir",
            str(fastmri_files),
            "--out",
            str(tmp_path),
            "--threads",
            "1",
            "--optim.epochs",
            "1",
            *SMALL,
        ]
        main(["--config", FASTMRI_CONFIG, *common, *arguments])
        return max(tmp_path.rglob("DONE"), key=lambda path: path.stat().st_mtime_ns).parent

    return call


@pytest.mark.parametrize(
    "method, count",
    [
        ("unimodal_rss", 11_574_472),
        ("unimodal_magnitude", 11_574_472),
        ("unimodal_phase", 11_574_472),
        ("inter", 11_575_048),
        ("intra", 23_148_944),
        ("i2m2", 34_723_992),
    ],
)
def test_models_have_the_published_numbers_of_parameters(method, count):
    with torch.device("meta"):
        assert parameters(build_model(config("--method", method))) == count


def test_a_fusion_that_would_change_nothing_is_refused():
    with pytest.raises(SettingsError, match="fusion=low_rank_tensor is not possible"):
        config("--method", "inter", "--fusion", "lrtf")


def test_stages_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        network = preact_resnet18(1)
    assert parameters(network.stem) == 576
    assert [parameters(stage) for stage in network.stages] == [
        147_968,
        525_184,
        2_098_944,
        8_392_192,
    ]


def test_the_full_size_takes_a_step_on_the_cpu():
    network = preact_resnet18(1, width=64, checkpointed=1)
    network(torch.rand(1, 1, 320, 320)).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_wide_resnet_has_twenty_layers_of_three_times_the_width():
    network = wide_resnet20_3(1)
    convolutions = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert len(convolutions) + 1 == 20  # and the classifier
    assert [stage[-1].conv2.out_channels for stage in network.stages] == [48, 96, 192]
    assert network(torch.rand(1, 1, 40, 40)).shape == (1, 192 * 100)


def test_a_block_is_pre_activated_and_its_plain_shortcut_is_the_input_itself():
    block = preact_resnet18(1, width=8).stages[0][0]
    x = torch.randn(2, 8, 6, 6)
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("options", [{"checkpointed": 2}, {"channels_last": True}])
def test_memory_settings_change_no_value_and_no_gradient(options):
    results = []
    for given in ({}, options):
        torch.manual_seed(0)
        network = preact_resnet18(2, width=8, **given).double()
        x = torch.randn(
            2, 2, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        y = network(x)
        y.square().mean().backward()
        results.append((y, [p.grad for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_group_norm_keeps_the_type_of_its_input_under_mixed_precision(dtype):
    norm = make_norm("group", 64)
    nn.init.normal_(norm.weight)
    x = 100 + torch.randn(2, 64, 9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x.to(dtype))
    assert found.dtype == dtype
    expected = F.group_norm(x.to(dtype).double(), 32, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(
        found.double(), expected, rtol=2**-7 if dtype == torch.bfloat16 else 1e-3, atol=1e-3
    )


def test_views_are_magnitude_and_angle():
    image = torch.polar(torch.tensor([[[2.0, 1e-3]]]), torch.tensor([[[3.0, -2.0]]]))
    scale = torch.tensor([5e-5])
    torch.testing.assert_close(
        magnitude_of(image, scale, FastMRIData()), torch.tensor([[[[2.0, 1e-3]]]])
    )
    torch.testing.assert_close(
        magnitude_of(image, scale, FastMRIData(magnitude="raw")), torch.tensor([[[[1e-4, 5e-8]]]])
    )
    rss = torch.tensor([[[2.0, 1.0]]])
    torch.testing.assert_close(magnitude_of(rss, scale, FastMRIData()), rss.unsqueeze(1))
    torch.testing.assert_close(
        magnitude_of(rss, scale, FastMRIData(magnitude="raw")), torch.tensor([[[[1e-4, 5e-5]]]])
    )
    torch.testing.assert_close(phase_of(image, FastMRIData()), torch.tensor([[[[3.0, -2.0]]]]))
    two = phase_of(image, FastMRIData(phase="cos_sin"))
    torch.testing.assert_close(
        two[0, :, 0],
        torch.tensor([[3.0, -2.0]])
        .cos()
        .repeat(2, 1)
        .where(torch.tensor([[True], [False]]), torch.tensor([[3.0, -2.0]]).sin()),
    )
    torch.testing.assert_close(
        phase_of(image, FastMRIData(phase_background=0.1)), torch.tensor([[[[3.0, 0.0]]]])
    )


@pytest.mark.parametrize("mean", ["weighted", "unweighted"])
def test_subtracting_the_mean_phase_leaves_nothing_of_a_global_one(mean):
    image = torch.randn(3, 8, 8, dtype=torch.complex64)
    turned = image * torch.polar(torch.ones(3), torch.tensor([0.5, 2.0, -3.0])).view(3, 1, 1)
    settings = FastMRIData(phase_mean=mean, phase="cos_sin")
    torch.testing.assert_close(
        phase_of(image, settings), phase_of(turned, settings), rtol=1e-4, atol=1e-4
    )
    assert image.sum((1, 2)).angle().abs().min() > 0 and not torch.allclose(
        phase_of(image, FastMRIData()), phase_of(image, settings)[:, :1]
    )


@pytest.mark.parametrize("preset", ["paper", "official_code"])
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_takes_one_step(preset, method, train):
    result = json.loads(
        (
            train("--method", method, "--preset", preset, "--init", "scratch") / "result.json"
        ).read_text()
    )["test"]
    for label in LABELS:
        assert 0 <= result[f"auroc_{label}"] <= 1 and {
            f"sensitivity_{label}",
            f"auroc_volume_{label}",
        } <= set(result)


def test_the_auroc_by_volume_is_resampled_by_volume():
    """Every volume once is the score itself; a volume drawn twice is as good as one that is there
    twice."""
    rng = np.random.default_rng(0)
    group, y = (
        np.repeat(np.arange(12), 3),
        rng.integers(0, 2, (36, 4)) * (np.arange(36) // 3 % 2)[:, None],
    )
    log_prob = np.log(rng.dirichlet((1, 1), (36, 4)))
    p = {"y": y, "log_prob": log_prob, "group": group, "labels": np.array(LABELS)}
    index, groups = group_index(group)
    metric = CUSTOM_METRICS["auroc_volume"](p, index, groups)
    assert metric(np.ones((1, groups)))[0] == pytest.approx(
        scores({"val": p, "test": p})["test"]["auroc_volume"], abs=1e-12
    )
    drawn = np.bincount([0, 0, 1, 3, 5, 5, 6, 7, 8, 9, 10, 11], minlength=groups)
    rows = np.concatenate([np.flatnonzero(group == g) for g in np.repeat(np.arange(groups), drawn)])
    again = {name: value[rows] for name, value in p.items() if name != "labels"}
    again |= {"group": np.repeat(np.arange(12), 3), "labels": p["labels"]}
    expected = scores({"val": again, "test": again})["test"]["auroc_volume"]
    assert metric(drawn[None].astype(float))[0] == pytest.approx(expected, abs=1e-12)


def test_i2m2_starts_from_its_parts(train):
    for method in ("unimodal_magnitude", "unimodal_phase", "inter"):
        train("--method", method)
    run = train("--method", "i2m2")
    assert run.parts[-2] == "i2m2" and set(
        json.loads((run / "env.json").read_text())["warm_start"]
    ) == {
        "magnitude",
        "phase",
        "inter",
    }
    predictions = np.load(run / "predictions_test.npz")
    assert predictions["labels"].tolist() == list(LABELS) and predictions["expert_inter"].shape == (
        12,
        4,
        2,
    )
    assert set(predictions["group"]) == {f"file9{number:06d}" for number in (9, 10, 11)}


def test_workers_read_the_same_batches(fastmri_files):
    from i2m2.training.data import loader

    split = load_fastmri(FastMRIData(dir=str(fastmri_files))).splits["train"]
    split[[0]]  # opens a file before the workers are forked
    positions = [np.array([3, 17]), np.array([20, 1])]
    for mine, theirs in zip(
        loader(split, positions), loader(split, positions, workers=2), strict=True
    ):
        assert torch.equal(mine["inputs"]["image"], theirs["inputs"]["image"]) and torch.equal(
            mine["y"], theirs["y"]
        )


def test_only_what_is_needed_is_read(fastmri_files):
    split = load_fastmri(FastMRIData(dir=str(fastmri_files))).splits["val"]
    assert set(split.select(["rss"])[[0]]["inputs"]) == {"rss", "scale"}
    one = split.select(["phase"])
    assert set(one.prepare(one[[0]]["inputs"])) == {"phase"}


def test_class_weights_are_inverse_frequencies_and_give_both_classes_the_same_weight_in_all():
    y = np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    torch.testing.assert_close(class_weights(y), torch.tensor([[4 / 3, 4.0], [1.0, 1.0]]))
    log_prob = torch.full((4, 1, 2), 0.5).log()
    loss = negative_log_likelihood(log_prob, torch.from_numpy(y[:, :1]), class_weights(y)[:1] / 2)
    assert loss[0].item() == pytest.approx(loss[1:].sum().item())
    assert loss.mean().item() == pytest.approx(
        np.log(2)
    )  # the mean weight over the training examples is 1


def test_operating_point_is_the_highest_threshold_that_finds_more_than_nine_tenths():
    log_odds = np.arange(20.0, 0.0, -1.0)
    y = np.array(
        [1] * 10 + [0] * 8 + [1, 1]
    )  # 9/10 are not enough: of 12 positives it takes 11, the second last of all
    assert operating_point(y, log_odds) == 2.0
    assert at_threshold(y, log_odds, 2.0) == {
        "sensitivity": 11 / 12,
        "specificity": 0.0,
        "balanced": 11 / 24,
    }
    assert np.isnan(operating_point(np.zeros(20, int), log_odds))


def test_scores_take_the_threshold_from_validation_and_the_log_odds_of_both_classes():
    rng = np.random.default_rng(0)

    def predictions(n):
        y = rng.integers(0, 2, (n, 1))
        log_prob = np.log(rng.dirichlet([1, 1], (n, 1))).astype(np.float32) + y[..., None] * [
            0,
            1.0,
        ]
        return {
            "y": y,
            "log_prob": log_prob,
            "labels": np.array(["acl"]),
            "group": np.arange(n) // 4,
        }

    val, test = predictions(300), predictions(200)
    result = scores({"val": val, "test": test})
    odds = log_odds_of(test["log_prob"][:, 0])
    threshold = operating_point(val["y"][:, 0], log_odds_of(val["log_prob"][:, 0]))
    assert result["test"]["auroc_acl"] == roc_auc_score(test["y"][:, 0], odds)
    assert result["test"]["sensitivity_acl"] == (odds >= threshold)[test["y"][:, 0] == 1].mean()
    assert result["test"]["specificity"] == (odds < threshold)[test["y"][:, 0] == 0].mean()


def test_a_volume_is_as_suspicious_as_its_worst_slice():
    y, odds = by_volume(
        np.array([0, 1, 0, 0]), np.array([0.1, -2.0, 3.0, -1.0]), np.array(["b", "b", "a", "a"])
    )
    assert y.tolist() == [0, 1] and odds.tolist() == [3.0, 0.1]


def test_bootstrap_counts_resamples_without_both_classes_and_holds_the_estimate():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(40), 5)
    y = np.stack([rng.integers(0, 2, 200), (group == 0).astype(int)], axis=1)
    log_prob = np.zeros((200, 2, 2), np.float32)
    log_prob[..., 1] = y + rng.normal(size=(200, 2))
    p = {"y": y, "log_prob": log_prob, "group": group, "labels": np.array(["often", "one volume"])}
    intervals = bootstrap(p, resamples=100)
    low, high, left_out = intervals["often"]
    drawn = [
        np.concatenate([np.flatnonzero(group == v) for v in rng.integers(0, 40, 40)])
        for _ in range(1000)
    ]
    by_hand = np.percentile(
        [roc_auc_score(y[rows, 0], log_prob[rows, 0, 1]) for rows in drawn], [2.5, 97.5]
    )
    assert (low, high) == pytest.approx(by_hand, abs=0.02) and left_out == 0
    assert 0.2 < intervals["one volume"][2] / 100 < 0.5  # (1 - 1/40)^40 = 0.36
    assert intervals == bootstrap(p, resamples=100)
    p |= {
        "y": np.stack([y[:, 0], np.zeros(200, int)], axis=1),
        "labels": np.array(["often", "never"]),
    }
    intervals = bootstrap(p, resamples=100)
    assert intervals["mean"] == intervals["often"] and intervals["never"][2] == 100


def damage_volume(change):
    def damage(folder):
        with h5py.File(folder / "volumes/file9000002.h5", "a") as file:
            change(file)

    return damage


def with_nan(file):
    file["image"][2, 5, 5] = np.nan


def truncate(folder):
    path = folder / "volumes/file9000002.h5"
    path.write_bytes(path.read_bytes()[:3000])


def replace(name, old, new):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda folder: (folder / "dataset.json").unlink(),
            "dataset.json is missing; how to make it: fastMRI/README.md",
        ),
        (lambda folder: (folder / "slices.csv").unlink(), "slices.csv is missing or damaged"),
        (
            lambda folder: (folder / "volumes/file9000002.h5").unlink(),
            "1 volumes that are not there, such as file9000002.h5",
        ),
        (truncate, "file9000002.h5 cannot be read"),
        (damage_volume(with_nan), "file9000002.h5: slice 2 of image holds NaN"),
        (damage_volume(lambda file: file.pop("image")), "file9000002.h5 cannot be read .*image"),
        (replace("slices.csv", ",3,train,", ",9,train,"), "slice 9 of image cannot be read"),
        (replace("slices.csv", ",train,", ",training,"), "names parts .'training'."),
        (
            replace("slices.csv", "patient11", "patient0"),
            "test and train share 1 patients, such as patient0",
        ),
        (replace("slices.csv", "meniscus", "tear"), "slices.csv is missing or damaged"),
    ],
)
def test_bad_data_are_named_with_file_and_remedy(damage, message, fastmri_files, tmp_path):
    folder = shutil.copytree(fastmri_files, tmp_path / "data")
    damage(folder)
    arguments = [
        "--method",
        "unimodal_magnitude",
        "--data.dir",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        *SMALL,
    ]
    with pytest.raises(DataError, match=message) as error:
        main(["--config", FASTMRI_CONFIG, *arguments])
    assert "\n" not in str(error.value)
