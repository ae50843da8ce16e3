"""AV-MNIST: encoders, models, loader, every config with every method, and bad input."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from torch import nn

from AVMNIST_and_MIMIC.avmnist.experiment import build_model, load_avmnist
from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTConfig, AVMNISTData
from AVMNIST_and_MIMIC.cpu_kernels import batch_norm_max_pool
from AVMNIST_and_MIMIC.encoders import LeNet
from AVMNIST_and_MIMIC.train import main
from i2m2.errors import DataError, SettingsError
from i2m2.names import methods_of
from i2m2.training.config import load_config
from tests.conftest import AVMNIST_CONFIG, ROOT, write_avmnist

CONFIGS = sorted((ROOT / "AVMNIST_and_MIMIC/configs").glob("avmnist*.yaml"))
PRESETS = []
for path in CONFIGS:
    named = yaml.safe_load(path.read_text()).get("presets", {})
    PRESETS += [(path, preset) for preset in ("paper", *named)]


@pytest.mark.parametrize("size", [(4, 28, 28), (4, 57, 56), (2, 7, 7), (40, 3, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_normalised_maxima_equal_pytorchs_in_value_gradient_and_statistics(size, training):
    torch.manual_seed(0)
    x = torch.randn(size[0], 6, *size[1:])
    ours = nn.BatchNorm2d(6).train(training)
    nn.init.normal_(ours.weight)  # negative ones too, of whose channels minima are pooled
    nn.init.normal_(ours.bias)
    theirs = copy.deepcopy(ours)
    found = []
    for norm, pooled in ((ours, batch_norm_max_pool), (theirs, lambda x, n: F.max_pool2d(n(x), 2))):
        given = x.clone().requires_grad_()
        y = pooled(given, norm)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        found.append([y, given.grad, *(p.grad for p in norm.parameters()), *norm.buffers()])
    for one, expected in zip(*found, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)


def test_of_equal_values_the_first_in_reading_order_is_the_maximum():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).eval()  # leaves values as they are
    x = torch.randint(0, 3, (4, 3, 57, 57)).float().requires_grad_()
    ours, theirs = batch_norm_max_pool(x, norm), F.max_pool2d(norm(x), 2)
    grad = torch.rand_like(theirs)
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.autograd.grad(one, x, grad)[0] for one in (ours, theirs))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("blocks, size", [(3, 28), (5, 112)])
def test_an_encoder_equals_its_modules_one_after_the_other(blocks, size):
    torch.manual_seed(0)
    encoder = LeNet(3, blocks)
    modules = nn.Sequential(*copy.deepcopy(encoder.blocks), nn.Flatten())
    x = torch.rand(4, 1, size, size)
    for ours, theirs in ((encoder.train(), modules.train()), (encoder.eval(), modules.eval())):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    encoder(x).sum().backward()
    modules(x).sum().backward()
    for ours, theirs in zip(encoder.parameters(), modules.parameters(), strict=True):
        away = (ours.grad - theirs.grad).abs().max()
        assert away <= 1e-3 * theirs.grad.abs().max() + 1e-6


@pytest.mark.parametrize(
    "width, blocks, size, parameters",
    [(3, 3, 28, 3567), (3, 5, 112, 55695), (6, 3, 28, 13938), (6, 5, 112, 221874)],
)
def test_lenet_has_the_published_size_and_keeps_a_batch_of_one(width, blocks, size, parameters):
    encoder = LeNet(width, blocks)
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert encoder(torch.rand(1, 1, size, size)).shape == (1, width * 2**blocks)
    with pytest.raises(ValueError, match="not 1x1"):
        encoder(torch.rand(1, 1, 2 * size, 2 * size))


@pytest.mark.parametrize(
    "arguments, parameters",
    [
        ("--method unimodal_image", 7_077),
        ("--method unimodal_audio", 66_405),
        ("--method intra", 73_482),
        ("--method inter --fusion lf", 260_922),
        ("--method inter --fusion lrtf", 1_410_682),
        ("--method i2m2 --fusion lf", 334_404),
        ("--method i2m2 --fusion lrtf", 1_484_164),
    ],
)
def test_models_have_the_published_numbers_of_parameters(arguments, parameters):
    words = ["--config", AVMNIST_CONFIG, *arguments.split()]
    model = build_model(load_config(AVMNISTConfig, words, "train"))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("config, preset", PRESETS, ids=lambda value: getattr(value, "stem", value))
@pytest.mark.parametrize("method", methods_of(("image", "audio")))
def test_every_config_takes_one_step(config, preset, method, train):
    run = train(
        *(
            "--method",
            method,
            "--preset",
            preset,
            "--init",
            "scratch",
            "--data.train_size",
            "40",
            "--data.source",
            "files",
        ),
        config=str(config),
    )
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["test"]["accuracy"] <= 1 and set(result) == {"val", "test"}


@pytest.mark.parametrize("fusion", ["concat", "low_rank_tensor", "tensor", "gated"])
def test_every_fusion_takes_one_step(fusion, train):
    assert (
        train("--method", "inter", "--fusion", fusion, "--data.train_size", "40").parent.name
        == f"inter-{fusion}"
    )


def test_splits_are_by_position_and_inputs_on_the_scale_of_one(avmnist_files):
    data = load_avmnist(AVMNISTData(dir=str(avmnist_files)))
    assert [list(data.splits[name].id[[0, -1]]) for name in ("train", "val", "test")] == [
        [0, 120],
        [121, 131],
        [132, 161],
    ]
    batch = data.splits["val"][np.array([0])]
    inputs = data.splits["val"].prepare(batch["inputs"])
    assert inputs["image"].shape == (1, 1, 28, 28) and inputs["audio"].shape == (1, 1, 112, 112)
    stored = np.load(avmnist_files / "audio/train_data.npy")[121]
    np.testing.assert_allclose(inputs["audio"][0, 0].numpy(), stored / 255, rtol=1e-6)
    assert (data.variant, data.facts["variant"], data.facts["synthetic"]) == ("", "official", False)


@pytest.mark.parametrize("rows", [2, 11])
def test_of_few_training_rows_without_dataset_json_the_last_validates(rows, tmp_path):
    write_avmnist(tmp_path, train=rows, test=10)
    assert load_avmnist(AVMNISTData(dir=str(tmp_path))).facts["sizes"]["val"] == 1


def test_more_training_examples_than_there_are_are_refused(avmnist_files):
    with pytest.raises(SettingsError, match="train_size=122 is above the 121 training examples"):
        load_avmnist(AVMNISTData(dir=str(avmnist_files), train_size=122))


def test_dataset_json_names_validation_rows_and_variant(avmnist_files, tmp_path):
    folder = shutil.copytree(avmnist_files, tmp_path / "data")
    (folder / "dataset.json").write_text(
        json.dumps(
            {"variant": "mfas", "synthetic": False, "description": "x", "validation_rows": [0, 20]}
        )
    )
    data = load_avmnist(AVMNISTData(dir=str(folder), train_size=50))
    assert data.variant == "mfas"
    assert (list(data.splits["val"].id), list(data.splits["train"].id)) == (
        list(range(20)),
        list(range(20, 70)),
    )


def damage_truncate(folder):
    path = folder / "audio/train_data.npy"
    path.write_bytes(path.read_bytes()[:5000])


def damage_nan(folder):
    image = np.load(folder / "image/train_data.npy")
    image[7, 3] = np.nan
    np.save(folder / "image/train_data.npy", image)


def described(**facts):
    facts = {"variant": "x", "synthetic": False, "description": "x"} | facts
    return lambda folder: (folder / "dataset.json").write_text(json.dumps(facts))


def save(name, change):
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda folder: (folder / "audio/test_data.npy").unlink(),
            "audio/test_data.npy missing in .*README.md",
        ),
        (damage_truncate, "audio/train_data.npy is damaged"),
        (
            lambda folder: (folder / "test_labels.npy").write_bytes(b""),
            "test_labels.npy is damaged",
        ),
        (
            save("audio/train_data.npy", lambda a: a[:, :100]),
            r"shape \(132, 100, 112\), dtype uint8; it should be",
        ),
        (save("audio/test_data.npy", lambda a: a.astype(str)), "dtype <U.*; it should be numbers"),
        (save("image/train_data.npy", lambda a: a[:-1]), r"shape \(131, 784\)"),
        (
            save("train_labels.npy", lambda y: y.astype(float)),
            "dtype float64; it should be a row of integers",
        ),
        (
            save("train_labels.npy", lambda y: np.where(y == 3, 10, y)),
            "train_labels.npy: row 3 has label 10; labels are 0..9",
        ),
        (damage_nan, "image/train_data.npy: row 7 holds NaN or infinity"),
        (
            save("image/train_data.npy", lambda a: a / 255),
            "values from -.* up to .*; the scale should be 0..255",
        ),
        (save("image/test_data.npy", lambda a: a.astype(">f4")), "another machine's order"),
        (
            lambda folder: (folder / "dataset.json").write_text("{"),
            "dataset.json is damaged",
        ),
        (described(variant="a/b"), "dataset.json is damaged .variant:"),
        (described(validation_rows=[-5, 10]), r"within 0..132"),
    ],
)
def test_bad_data_are_named_with_file_and_remedy(damage, message, avmnist_files, tmp_path):
    folder = shutil.copytree(avmnist_files, tmp_path / "data")
    damage(folder)
    places = ["--data.dir", str(folder), "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=message):
        main(["--config", AVMNIST_CONFIG, "--method", "unimodal_image", *places])


def test_warm_start_names_the_commands_that_make_what_is_missing(train):
    with pytest.raises(SettingsError) as error:
        train("--method", "i2m2", "--seed", "3")
    message = str(error.value)
    for part in (
        "--method unimodal_image",
        "--method unimodal_audio",
        "--method inter --fusion concat",
        "--seed 3",
        "--init scratch",
    ):
        assert part in message
    assert "--method i2m2" not in message


def test_warm_start_begins_with_the_weights_of_the_parts(train, tmp_path):
    parts = {
        "image": train("--method", "unimodal_image"),
        "audio": train("--method", "unimodal_audio"),
        "inter": train("--method", "inter"),
    }
    joint = train("--method", "i2m2", "--optim.lr", "1e-30", "--optim.weight_decay", "0")
    joint_weights = load_file(joint / "best.safetensors")
    for part in parts.values():
        for name, weight in load_file(part / "best.safetensors").items():
            # All but the running statistics of batch norm, which no learning rate holds still.
            moving = "running" in name or "tracked" in name
            assert moving or torch.equal(joint_weights[name], weight), name
    sources = json.loads((joint / "env.json").read_text())["warm_start"]
    assert sources == {name: str(path) for name, path in parts.items()}
    with pytest.raises(SettingsError, match="trained with other settings: data.train_size"):
        train("--method", "intra", "--data.train_size", "50", "--tag", "smaller")
