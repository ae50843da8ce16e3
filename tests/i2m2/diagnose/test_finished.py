"""The answer from a results folder of runs is that of their predictions."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from i2m2.diagnose.__main__ import main
from i2m2.diagnose.finished import diagnose_runs
from i2m2.errors import DataError, SettingsError
from i2m2.files import finite
from i2m2.metrics import label_entropy, nll, score
from tests.i2m2.conftest import two_class_runs

STRENGTH = {
    "unimodal_image": 0.3,
    "unimodal_audio": 0.5,
    "intra": 1.0,
    "inter-concat": 1.8,
    "inter-low_rank_tensor": 1.2,
    "i2m2-concat": 2.0,
}
SEEDS = (0, 1, 2, 3)


def write(folder, strength=STRENGTH, seeds=SEEDS, labels=None):
    for place, (row, size) in enumerate(strength.items()):
        runs = two_class_runs(seeds, size, labels, shift=1_000 * place)
        for seed, arrays in zip(seeds, runs, strict=True):
            run = folder / row / f"seed{seed}"
            run.mkdir(parents=True, exist_ok=True)
            np.savez(run / "predictions_test.npz", **arrays)
            scores = score(arrays["y"], arrays["log_prob"], labels=labels)
            result = {"val": {"nll": 1 / size}, "test": scores}
            (run / "result.json").write_text(json.dumps(result))
            (run / "DONE").touch()
    return folder


def test_information_is_that_of_the_saved_predictions(tmp_path):
    found = diagnose_runs(write(tmp_path), "nll", None)
    rows = {
        row: two_class_runs(SEEDS, size, shift=1_000 * place)
        for place, (row, size) in enumerate(STRENGTH.items())
    }
    mean = {
        row: np.mean([nll(run["y"], run["log_prob"]) for run in of]) for row, of in rows.items()
    }
    y = rows["intra"][0]["y"]
    single, intra, inter = found.information
    assert found.prior_nll == pytest.approx(label_entropy(y))
    assert single.nats == pytest.approx(label_entropy(y) - mean["unimodal_audio"])
    assert intra.nats == pytest.approx(label_entropy(y) - mean["intra"])
    assert inter.nats == pytest.approx(mean["intra"] - mean["i2m2-concat"])
    assert found.chosen["best-inter"] == {"inter-concat": 4}
    assert found.answer.startswith(("both", "inter-modality modelling")) and not found.cautions
    assert not any(row.reference for row in found.rows)


def test_the_command_prints_and_writes_it(tmp_path, capsys):
    folder = write(tmp_path / "toy", labels=["acl", "cyst"])
    main([str(folder), "--metric", "auroc", "--out", str(tmp_path / "answer")])
    shown = capsys.readouterr().out
    about = "toy, origin of the data not recorded, 4 seeds: 300 test examples in 100 groups"
    assert shown.splitlines()[0] == about
    assert "ANSWER" in shown
    assert (tmp_path / "answer" / "diagnosis.html").exists()
    for metric in ("auroc", "accuracy"):  # an answer beside the runs is not taken for their own
        main([str(folder), "--metric", metric, "--out", str(folder)])


def test_a_row_with_fewer_seeds_is_left_out_and_named(tmp_path):
    write(tmp_path)
    (tmp_path / "inter-low_rank_tensor" / "seed1" / "DONE").unlink()
    found = diagnose_runs(tmp_path, "accuracy", None)
    assert "left out for having fewer seeds: inter-low_rank_tensor" in found.about
    assert "inter-low_rank_tensor" not in [row.name for row in found.rows]


def test_a_copy_of_a_seed_is_counted_once_and_named(tmp_path):
    write(tmp_path, seeds=(0, 1))
    shutil.copytree(tmp_path / "intra" / "seed1", tmp_path / "intra" / "seed2")
    for seed, holds in {0: 0, 1: 1, 2: 1}.items():
        text = f"method: intra\nseed: {holds}\n"
        (tmp_path / f"intra/seed{seed}/config.yaml").write_text(text)
    about = diagnose_runs(tmp_path, "nll", None).about
    assert about.endswith("in 100 groups; not counted, as copies by their config.yaml: intra/seed2")
    (tmp_path / "intra/seed2/config.yaml").write_text("method: inter\nseed: 2\n")
    with pytest.raises(DataError, match="method is inter, which is no run of intra; move that"):
        diagnose_runs(tmp_path, "nll", None)


def rewrite(path, **changes):
    """A JSON file with some values exchanged."""
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(finite(held | changes)))


def test_made_up_data_and_those_of_other_files_are_said(tmp_path):
    for path in write(tmp_path / "toy", seeds=(0, 1)).glob("*/*/result.json"):
        rewrite(path.with_name("env.json"), data={"synthetic": True, "fingerprint": "a"})
    about = "toy, SYNTHETIC data, 2 seeds: 300 test examples in 100 groups"
    assert diagnose_runs(tmp_path / "toy", "nll", None).about == about
    other = tmp_path / "toy/intra/seed1/env.json"
    rewrite(other, data={"synthetic": True, "fingerprint": "b"})
    said = diagnose_runs(tmp_path / "toy", "nll", None).about
    assert said.startswith(f"{about}; the runs did NOT all read the same data files, as the finger")
    assert said.endswith("; b (intra seed 1)")


def test_runs_that_no_table_counts_give_no_answer(tmp_path):
    folder = write(tmp_path / "toy", seeds=(0, 1))
    result, config = (folder / "intra/seed1" / name for name in ("result.json", "config.yaml"))
    scores = json.loads(result.read_text())["test"]
    rewrite(result, test=scores | {"accuracy": 3.0})
    with pytest.raises(DataError, match="intra/seed1/result.json: test accuracy is 3.0"):
        diagnose_runs(folder, "nll", None)
    for metric in ("accuracy", "nll"):
        rewrite(result, test=scores | {metric: 0.123})
        with pytest.raises(DataError, match=f"intra: its predictions do not give the {metric}"):
            diagnose_runs(folder, "accuracy", None)
    rewrite(result, test=scores)
    config.write_text("{dataset: elsewhere, method: intra, seed: 1}")
    for path in folder.glob("i*/seed0"):
        (path / "config.yaml").write_text(f"{{dataset: toy, method: {path.parent.name}, seed: 0}}")
    with pytest.raises(DataError, match="intra/seed1/config.yaml: a run of elsewhere, which is no"):
        diagnose_runs(folder, "nll", None)


@pytest.mark.parametrize("metric", ["nll", "accuracy"])
def test_labels_of_one_class_are_said_to_tell_nothing(tmp_path, metric):
    for path in write(tmp_path, seeds=(0,)).glob("*/*/predictions_test.npz"):
        held = dict(np.load(path))
        np.savez(path, **held | {"y": held["y"] * 0})
        rewrite(path.with_name("result.json"), test=score(held["y"] * 0, held["log_prob"]))
    with pytest.raises(DataError, match="are all of one class, so that nothing can be told"):
        diagnose_runs(tmp_path, metric, None)


def test_a_diagnosis_without_its_answer_is_to_be_made_again(tmp_path):
    for path in write(tmp_path, seeds=(0,)).glob("*/*/DONE"):
        path.with_name("config.yaml").write_text("folds: 5\n")
    with pytest.raises(DataError, match="diagnosis.json is missing; give the diagnose command"):
        main([str(tmp_path)])


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(SettingsError, match="has no finished runs"):
        diagnose_runs(tmp_path, "nll", None)
    write(tmp_path, {"unimodal_image": 1.0, "intra": 1.0})
    with pytest.raises(SettingsError, match="no finished run of inter and none of i2m2"):
        diagnose_runs(tmp_path, "nll", None)
    with pytest.raises(SettingsError, match="is a folder; --target and --modality"):
        main([str(tmp_path), "--target", "died"])
