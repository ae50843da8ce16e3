"""What `train` and `evaluate` do before torch is needed."""

import pytest
import yaml

from AVMNIST_and_MIMIC.datasets import DATASETS as AVMNIST_AND_MIMIC
from i2m2.errors import CommandParser, SettingsError
from i2m2.settings import to_dict
from i2m2.training import commands
from i2m2.training.commands import DatasetSpec
from tests.i2m2.training import toy
from tests.i2m2.training.toy import ToyConfig, toy_config

DATASETS = {"toy": DatasetSpec(ToyConfig, "tests.i2m2.training.toy")}


def test_train_hands_on_the_settings_and_the_command_without_what_makes_a_joint_run(monkeypatch):
    """A warm start adds method and fusion of a part to it, and the user runs what it names."""
    seen = []
    monkeypatch.setattr(toy, "EXPERIMENT", "the toy", raising=False)
    monkeypatch.setattr("i2m2.training.experiment.train_run", lambda *given: seen.append(given))
    what = ["--method", "i2m2", "--fusion", "lf", "--init=warm"]
    commands.train(DATASETS, ["--dataset=toy", *what, "--seed", "3", "--tag", "x"], "toy.train")
    ((experiment, config, command),) = seen
    assert experiment == "the toy" and (config.run_name, config.seed) == ("i2m2-concat-x", 3)
    assert command == "python -m toy.train --dataset toy --seed 3 --tag x"


def test_train_hands_on_the_settings_of_several_seeds(monkeypatch):
    seen = []
    monkeypatch.setattr(toy, "EXPERIMENT", "the toy", raising=False)
    monkeypatch.setattr("i2m2.training.seeds.train_seeds", lambda *given: seen.append(given))
    words = ["--dataset=toy", "--method", "intra", "--seeds", "0", "2", "--tag", "x"]
    commands.train(DATASETS, words, "toy.train")
    ((_, configs, command),) = seen
    assert [(config.run_name, config.seed) for config in configs] == [
        ("intra-x", 0),
        ("intra-x", 2),
    ]
    assert command == "python -m toy.train --dataset toy --tag x --seeds 0 2"


def test_whether_seeds_at_once_are_faster_is_known_by_data_set_and_fusion():
    def at_once(*words):
        return commands.seeds_at_once(AVMNIST_AND_MIMIC, [*words, "--method", "inter"])

    assert at_once("--dataset", "mimic") and not at_once("--dataset", "avmnist")
    assert not at_once("--dataset", "mimic", "--fusion", "lrtf")


def test_a_data_set_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(SettingsError, match="dataset='tow' is unknown here; choose one of toy"):
        commands.train(DATASETS, ["--dataset", "tow"], "toy.train")


def test_a_folder_that_is_no_run_is_refused_with_an_example(tmp_path):
    message = "has no config.yaml; give a run's folder such as results/toy/intra/seed0"
    with pytest.raises(SettingsError, match=message):
        commands.evaluate(DATASETS, [str(tmp_path)], "toy.evaluate", "results/toy/intra/seed0")


def test_a_product_of_runs_is_refused_with_what_scores_it(tmp_path):
    (tmp_path / "config.yaml").write_text("dataset: toy\nmethod: product\n")
    (tmp_path / "env.json").write_text('{"product_of": ["r/a/seed0", "r/b c/seed0"]}')
    message = "score it by: python -m i2m2.combine r/a/seed0 'r/b c/seed0'$"
    with pytest.raises(SettingsError, match=message):
        commands.evaluate(DATASETS, [str(tmp_path)], "toy.evaluate", "results/toy/intra/seed0")


def test_an_evaluation_has_the_settings_of_the_run_but_for_device_and_tracker(tmp_path):
    stored = to_dict(toy_config(tmp_path, lr=0.7)) | {"tracker": "tensorboard", "device": "cuda"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    parser = CommandParser()
    commands.add_run_options(parser)
    args = parser.parse_args(["--device", "cpu"])
    spec, config = commands.config_of_run(DATASETS, tmp_path, args)
    assert spec is DATASETS["toy"]
    assert to_dict(config) == stored | {"tracker": None, "device": "cpu"}
