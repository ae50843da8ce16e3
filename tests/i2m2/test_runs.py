"""Run folders as they are read back, and their saved predictions: a column is read when it is asked
for."""

import json
import re

import numpy as np
import pytest

from i2m2 import compare
from i2m2.errors import DamagedError, DataError, SettingsError
from i2m2.runs import collect, read_predictions, require_predictions
from tests.i2m2.conftest import make_run, save_predictions


@pytest.fixture
def run(tmp_path):
    """Two columns, of which the bytes of the second have changed since."""
    path = tmp_path / "predictions_test.npz"
    np.savez(path, id=np.arange(5), log_prob=np.full((5, 3), -1.0986))
    before, after = np.float64(-1.0986).tobytes(), np.float64(-2.5).tobytes()
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    return tmp_path


def test_no_column_is_read_before_it_is_asked_for(run):
    found = read_predictions(run, "test")
    assert list(found) == ["id", "log_prob"] and len(found) == 2
    assert "log_prob" in found and "y" not in found and found.get("y") is None
    assert found["id"].tolist() == list(range(5)) and found["id"] is found["id"]
    message = r"predictions_test.npz is damaged .*; predict again by the evaluate command"
    with pytest.raises(DamagedError, match=message):
        found["log_prob"]


@pytest.mark.parametrize(
    "recorded, command",
    [
        (
            "python -m fastMRI.train --seed 0",
            "python -m fastMRI.evaluate {run} --split val --again",
        ),
        ("python -m fastMRI.controls out", "python -m fastMRI.controls out"),
        ("python mine.py", "the evaluate command of its data set with --again"),
    ],
)
def test_lost_and_damaged_predictions_are_answered_by_the_command_that_makes_them(
    recorded, command, tmp_path
):
    (tmp_path / "env.json").write_text(json.dumps({"command": recorded}))
    with pytest.raises(SettingsError, match="of the val split; give the folder of a finished run"):
        require_predictions(tmp_path, "val")
    (tmp_path / "DONE").touch()
    command = re.escape(command.format(run=tmp_path))
    says = f"no predictions of the val split; make them by {command}"
    with pytest.raises(SettingsError, match=says):
        require_predictions(tmp_path, "val")
    with pytest.raises(SettingsError, match=says):
        compare.main([str(tmp_path), str(tmp_path.parent), "--split", "val"])
    (tmp_path / "predictions_val.npz").write_bytes(b"damaged")
    with pytest.raises(DamagedError, match=f"predict again by {command}"):
        require_predictions(tmp_path, "val")


def test_all_columns_are_of_the_file_that_was_opened(run):
    found = read_predictions(run, "test")
    np.savez(run / "new.npz", id=np.zeros(2))
    (run / "new.npz").replace(run / "predictions_test.npz")
    assert len(found["id"]) == 5 and len(read_predictions(run, "test")["id"]) == 2


def test_no_file_is_none_and_no_archive_is_damaged(tmp_path):
    assert read_predictions(tmp_path, "test") is None
    (tmp_path / "predictions_test.npz").write_bytes(b"nothing")
    with pytest.raises(DamagedError, match="is damaged"):
        read_predictions(tmp_path, "test")


def test_collect_reads_only_seed_folders_in_order(tmp_path):
    for name in ("toy/b/seed10", "toy/b/seed9", "toy/a/seed0", "toy/a/seedling"):
        make_run(tmp_path, name, {"accuracy": 0.5})
    (tmp_path / "toy/table.md").touch()
    found = [(run.name, run.seed) for run in collect(tmp_path / "toy")]
    assert found == [("a", 0), ("b", 9), ("b", 10)]


FULL = {"method": "inter", "fusion": "concat", "preset": "paper", "init": "scratch", "tag": None}
WARM = FULL | {"method": "i2m2", "init": "warm"}


@pytest.mark.parametrize(
    "name, config, setting",
    [
        ("inter-concat", FULL, None),
        ("inter-low_rank_tensor", FULL, "fusion is concat"),
        ("inter-concat-small", FULL, "tag is null"),
        ("inter-concat", FULL | {"tag": "small"}, "tag is small"),
        ("inter-concat", FULL | {"preset": "official_code"}, "preset is official_code"),
        ("inter", FULL | {"fusion": None}, None),
        ("i2m2-concat", WARM, None),
        ("i2m2-concat-scratch", WARM, "init is warm"),
        ("i2m2-concat-scratch", WARM | {"tag": "scratch"}, None),
        ("i2m2-concat", WARM | {"init": "scratch"}, "init is scratch"),
        ("intra-official_code-scratch-x", WARM | {"method": "intra", "fusion": None}
         | {"preset": "official_code", "init": "scratch", "tag": "x"}, None),
        ("unimodal_image", FULL | {"method": "unimodal_image", "fusion": None}, None),
        ("i2m2-concat", FULL, "method is inter"),
        ("product-image-audio", {"method": "product"}, None),
        ("i2m2-anything", {"method": "i2m2", "tag": None}, None),
    ],
)  # fmt: skip
def test_a_run_counts_only_in_the_folder_that_its_settings_name(name, config, setting, tmp_path):
    make_run(tmp_path, f"toy/{name}/seed0", {"accuracy": 0.5}, config=config)
    (run,) = collect(tmp_path / "toy")
    told = f"seed0/config.yaml: {setting}, which is no run of {name}; move that folder back"
    assert told in run.fault if setting else not run.fault
    assert (run.test is None) == bool(setting)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"y": None}, "needs integers y"),
        ({"y": np.full(200, 2)}, "has labels 2 to 2, but log_prob is of 2 classes"),
        ({"group": None}, "has no group"),
        ({"id": np.arange(150)}, "has 150 ids and 200 groups"),
        ({"log_prob": np.full((200, 2), np.nan)}, "log_prob holds NaN"),
        ({"expert_image": np.zeros((200, 3))}, r"expert_image has the shape \(200, 3\)"),
        ({"expert_image": np.zeros((200, 2))}, "expert_image holds probabilities that do not add"),
        ({"log_prob": np.full((200, 2), -np.inf)}, "log_prob holds probabilities that do not add"),
    ],
)
def test_predictions_that_are_none_are_a_data_error(change, message, tmp_path):
    run = tmp_path / "seed0"
    run.mkdir()
    save_predictions(run, np.ones(200, bool))
    columns = dict(np.load(run / "predictions_test.npz")) | change
    columns = {name: value for name, value in columns.items() if value is not None}
    np.savez(run / "predictions_test.npz", **columns)
    with pytest.raises(DataError, match=f"seed0/predictions_test.npz: {message}"):
        require_predictions(run, "test")
