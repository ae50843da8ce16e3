"""Which parts a warm start takes."""

from dataclasses import dataclass, replace

import pytest
import torch

from i2m2.errors import DataError, SettingsError
from i2m2.files import write_json, write_text
from i2m2.reading.yaml12 import dump_yaml
from i2m2.settings import setting, to_dict
from i2m2.training.run import Run
from i2m2.training.seeds import train_seeds
from i2m2.training.warm_start import refuse_start, warm_start
from tests.i2m2.training.test_seeds import TOY
from tests.i2m2.training.toy import ToyConfig, toy_config, toy_model

PARTS = ("unimodal_left", "unimodal_right", "inter-concat")


def make_part(folder, config, method, seed=0):
    """A finished run without weights."""
    method, _, fusion = method.partition("-")
    settings = replace(config, method=method, fusion=fusion or None, seed=seed, init="scratch")
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", dump_yaml(to_dict(settings)))
    write_json(folder / "env.json", {"data": {"fingerprint": "toy"}})
    write_text(folder / "DONE", "")


@pytest.mark.parametrize(
    ("method", "seed", "message"),
    [
        ("unimodal_left", 1, "unimodal_left/seed0 holds seed1, as its config.yaml says"),
        ("unimodal_right", 0, "seed0/config.yaml: method is unimodal_right, which is no run of"),
    ],
)
def test_a_part_copied_from_another_run_is_refused(method, seed, message, tmp_path):
    config = toy_config(tmp_path)
    run = Run.open(tmp_path / "toy/i2m2-concat/seed0", config, {"fingerprint": "toy"})
    for name in PARTS:
        make_part(tmp_path / "toy" / name / "seed0", config, name)
    (tmp_path / "toy/unimodal_left").rename(tmp_path / "toy/before")
    make_part(tmp_path / "toy/unimodal_left/seed0", config, method, seed)
    with pytest.raises(DataError, match=message):
        warm_start(toy_model(), run, "train")


def test_a_part_of_another_shape_is_named_with_the_weight_and_both_shapes(tmp_path):
    config = toy_config(tmp_path)
    run = Run.open(tmp_path / "toy/i2m2-concat/seed0", config, {"fingerprint": "toy"})
    for name in PARTS:
        make_part(tmp_path / "toy" / name / "seed0", config, name)
        Run(tmp_path / "toy" / name / "seed0", config).save_best(toy_model().state_dict())
    wider = toy_model(lambda features: torch.nn.Linear(features, 5))
    message = (
        r"unimodal_left/seed0/best.safetensors does not fit the expert left that the code builds "
        r"now \(head.weight is \[3, 8\] there, \[5, 8\] now\)"
    )
    with pytest.raises(DataError, match=message):
        warm_start(wider, run, "train")
    wider = toy_model()
    wider.backbone = torch.nn.Linear(2, 2)
    part = Run(tmp_path / "toy/inter-concat/seed0", config)
    part.save_best(wider.state_dict())
    wider.backbone = torch.nn.Linear(2, 3)
    with pytest.raises(DataError, match=r"inter-concat/.* \(backbone.weight is \[2, 2\] there"):
        warm_start(wider, run, "train")


def test_a_part_of_other_data_is_refused_with_a_tag_that_both_runs_need(tmp_path):
    config = toy_config(tmp_path)
    for name in PARTS:
        make_part(tmp_path / "toy" / name / "seed0", config, name)
    folder, facts = tmp_path / "toy/i2m2-concat/seed0", {"fingerprint": "another"}
    message = "unimodal_left/seed0 was made with other data .* it and this run .* same new --tag"
    with pytest.raises(DataError, match=message):
        refuse_start(folder, config, facts, "train")


@dataclass(frozen=True, kw_only=True)
class OwnConfig(ToyConfig):
    hidden: int = 16  # in no group
    save_all: bool = setting(False, "identity")


def test_a_part_with_another_value_of_a_setting_in_no_group_is_refused(tmp_path):
    config = OwnConfig(**vars(toy_config(tmp_path)))
    for name in PARTS:
        make_part(tmp_path / "toy" / name / "seed0", config, name)
    folder, facts = tmp_path / "toy/i2m2-concat/seed0", {"fingerprint": "toy"}
    refuse_start(folder, replace(config, precision="bf16", save_all=True), facts, "train")
    message = r"seed0 was trained with other settings: hidden \(16 there, 8 now\)"
    with pytest.raises(SettingsError, match=message):
        refuse_start(folder, replace(config, hidden=8), facts, "train")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_refused_warm_start_leaves_no_folder(seeds, tmp_path):
    config = toy_config(tmp_path)
    for name in PARTS:  # of the first seed alone
        make_part(tmp_path / "toy" / name / "seed0", config, name)
    (tmp_path / "toy/inter-concat/seed0/DONE").unlink()
    with pytest.raises(SettingsError, match="--init warm needs the finished runs"):
        train_seeds(TOY, [replace(config, seed=seed) for seed in seeds], "train")
    assert not (tmp_path / "toy/i2m2-concat").exists()
