"""Settings say what they mean."""

from __future__ import annotations

import pytest
import torch

from AVMNIST_and_MIMIC.datasets import DATASETS
from i2m2.settings import settings_of, with_role
from i2m2.training.config import load_config
from i2m2.training.run import Run


@pytest.mark.parametrize("name", DATASETS)
def test_settings_say_where_data_lie_and_how_long_a_run_trains(name):
    config = DATASETS[name].config
    assert "data.dir" in with_role(config, "location")
    assert with_role(config, "budget") == {"optim.epochs", "data.train_size"}
    repeated = {
        key for key, (_, field) in settings_of(config).items() if field.metadata.get("repeat")
    }
    extra = {"task"} if name == "mimic" else set()
    assert repeated == {"data.source", "data.dir", "data.train_size", "optim.epochs"} | extra


@pytest.mark.parametrize(
    "name, words, threads",
    [
        ("avmnist", "--method unimodal_image", 1),
        ("avmnist", "--method unimodal_audio", 2),
        ("mimic", "--method i2m2", 1),
        ("mimic", "--method inter --fusion low_rank_tensor", 2),
        ("mimic", "--method intra --threads 2", 2),
    ],
)
def test_a_row_too_small_for_a_second_thread_has_one_where_none_is_set(
    name, words, threads, tmp_path
):
    torch.set_num_threads(2)
    config = load_config(DATASETS[name].config, words.split())
    assert Run.open(tmp_path / "run", config, {"variant": ""}).config.threads == threads
