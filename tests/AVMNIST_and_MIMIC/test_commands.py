"""Settings say what they mean."""

from __future__ import annotations

import pytest

from AVMNIST_and_MIMIC.datasets import DATASETS
from i2m2.settings import settings_of, with_role


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
