"""Every command of the folder prints its help at once, and settings say what they mean."""

from __future__ import annotations

import subprocess
import sys

import pytest

from AVMNIST_and_MIMIC.datasets import DATASETS
from i2m2.settings import settings_of, with_role
from tests.conftest import ROOT

COMMANDS = ("train", "evaluate", "prepare_avmnist", "prepare_mimic", "make_synthetic_mimic")
HEAVY = {"torch", "accelerate", "sklearn", "scipy", "pandas", "duckdb", "matplotlib", "h5py"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_heavy_library(command):
    script = f"""
import sys
from AVMNIST_and_MIMIC.{command} import main
try:
    main(["--help"])
except SystemExit as end:
    assert not end.code
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "usage" in done.stdout
    assert not HEAVY & set(done.stderr.split())


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


def test_a_wrong_setting_is_refused_before_torch_is_loaded():
    script = """
import sys
from AVMNIST_and_MIMIC.train import main
from i2m2.errors import SettingsError
try:
    main(["--dataset", "mimic", "--method", "intra", "--task", "icd9_20"])
except SettingsError as error:
    print(error)
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    message, loaded = done.stdout.splitlines()
    assert message.startswith("command line: task=icd9_20 is not possible")
    assert loaded == "False"
