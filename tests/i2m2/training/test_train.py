"""The training loop: its divisions, schedules, choice of epoch, resuming, and what stops it."""

import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from i2m2.errors import DataError, SettingsError
from i2m2.machine.accelerator import make_accelerator
from i2m2.runs import read_predictions
from i2m2.settings import OptimConfig
from i2m2.training.data import seed_everything
from i2m2.training.evaluate import mixture_of_experts, predict
from i2m2.training.loop import best_epoch, compiled, per_example, validation_scores
from i2m2.training.optimizers import lr_factor
from i2m2.training.run import Run
from tests.conftest import AVMNIST_CONFIG, ROOT
from tests.i2m2.training.toy import Heads, toy_config, toy_model, toy_split, train_toy


def weights(run):
    return load_file(run.dir / "best.safetensors")


def assert_same_weights(one, other, atol=0.0):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=atol, rtol=0)


def files(folder):
    return {
        name: (Path(folder) / name).read_bytes()
        for name in ("best.safetensors", "predictions_val.npz")
    }


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_training_lowers_the_loss_and_reaches_the_labels(name, tmp_path):
    config = toy_config(tmp_path, name=name, lr=0.3 if name == "sgd" else 0.01, epochs=25)
    _, run = train_toy(config, data=(200, 100))
    history = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == list(range(1, 26))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert max(record["val"]["accuracy"] for record in history) > 0.8


def test_first_update_is_the_one_worked_out_by_hand(tmp_path):
    config = toy_config(tmp_path, epochs=1, batch_size=50, clip_norm=0.5, weight_decay=0.01)
    _, run = train_toy(config)
    seed_everything(0)
    expected, train = toy_model(), toy_split(43, 0)
    batch = train[np.arange(43)]
    loss = torch.nn.functional.nll_loss(expected(batch["inputs"])[0], batch["y"])
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in expected.parameters()]).norm()
    for p in expected.parameters():
        p.data -= 0.1 * (p.grad * min(1, 0.5 / norm) + 0.01 * p.data)
    assert_same_weights(weights(run), expected.state_dict(), atol=1e-6)
    record = json.loads((run.dir / "metrics.jsonl").read_text())
    assert record["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_micro_batches_change_nothing(tmp_path):
    _, whole = train_toy(toy_config(tmp_path / "1"))
    _, parts = train_toy(toy_config(tmp_path / "3", micro_batches=3))
    assert_same_weights(weights(whole), weights(parts), atol=1e-6)


def test_a_step_as_a_graph_is_the_step_itself(tmp_path, graphs_as_they_are):
    one, other = toy_config(tmp_path / "1"), replace(toy_config(tmp_path / "2"), compile="graph")
    (_, eager), (_, graph) = train_toy(one), train_toy(other)
    assert graphs_as_they_are == ["reduce-overhead"]
    assert_same_weights(weights(eager), weights(graph), atol=1e-6)


def test_a_compiled_step_does_not_warn_of_a_missing_gpu(tmp_path):
    log = logging.getLogger("torch.utils.cpp_extension")
    log.setLevel("NOTSET")
    compiled(nn.Identity(), replace(toy_config(tmp_path), compile=True))
    assert not log.isEnabledFor(logging.WARNING)


def test_a_graph_takes_an_update_in_one_step(tmp_path):
    config = replace(toy_config(tmp_path, micro_batches=2), compile="graph")
    with pytest.raises(SettingsError, match="compile=graph takes an update in one step of one"):
        make_accelerator(config)


def test_two_processes_train_to_the_weights_of_one_and_evaluate_to_its_predictions(tmp_path):
    _, one = train_toy(toy_config(tmp_path / "1"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *torchrun, "tests/i2m2/training/toy.py", str(tmp_path / "2")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "2/toy/i2m2-concat-two/seed0"
    assert_same_weights(weights(one), load_file(folder / "best.safetensors"), atol=1e-5)
    ours, theirs = np.load(one.dir / "predictions_val.npz"), np.load(folder / "predictions_val.npz")
    assert list(theirs["id"]) == list(range(1000, 1027))
    for name in ours.files:
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5)
    logs = [(f / "metrics.jsonl").read_text().splitlines() for f in (one.dir, folder)]
    one_loss, two_loss = (json.loads(lines[-1])["train_loss"] for lines in logs)
    assert two_loss == pytest.approx(one_loss, abs=1e-5)


def test_batch_norm_of_a_single_last_example_is_refused_in_one_line(tmp_path):
    model = toy_model(lambda d: nn.Sequential(nn.BatchNorm1d(d), nn.Linear(d, 3)))
    with pytest.raises(SettingsError, match="has one; choose another optim.batch_size") as error:
        train_toy(toy_config(tmp_path), (41, 27), model)
    assert "\n" not in str(error.value)
    train_toy(toy_config(tmp_path / "42"), (42, 27), model)


@pytest.mark.parametrize("shape", [(), (9, 9), (3,), (1, 9)])
def test_a_loss_without_a_value_per_example_is_refused(shape):
    told = re.escape(f"Experiment.loss gives {list(shape)} for 9 examples; let it give a value per")
    with pytest.raises(SettingsError, match=told):
        per_example(lambda *_: torch.ones(shape), torch.zeros(9, 4, 3), None)


@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 4), (9, 4, 3)])
def test_a_loss_may_give_a_value_per_label_or_answer(shape):
    assert per_example(lambda *_: torch.ones(shape), torch.zeros(9, 4, 3), None).shape == shape


def test_four_binary_labels_train_through_the_same_loop(tmp_path):
    torch.manual_seed(0)
    model = toy_model(lambda d: Heads(d, 2, 2))
    data = (toy_split(200, 0, labels=2), toy_split(90, 1000, labels=2))
    _, run = train_toy(toy_config(tmp_path, lr=0.3, epochs=20, select="auroc"), data, model)
    predictions = np.load(run.dir / "predictions_val.npz")
    assert predictions["log_prob"].shape == (90, 2, 2) and predictions["y"].shape == (90, 2)
    assert (predictions["log_prob"].argmax(-1) == predictions["y"]).mean() > 0.85


def test_schedules_by_hand():
    def rates(**settings):
        factor = lr_factor(OptimConfig(**settings), updates=10)
        return [factor(update) for update in range(10)]

    assert rates() == [1.0] * 10
    linear = [1 / 3, 2 / 3, *(1 - k / 8 for k in range(8))]
    assert rates(schedule="linear", warmup=0.2) == pytest.approx(linear)
    cosine = [(1 + math.cos(math.pi * k / 10)) / 2 for k in range(10)]
    assert rates(schedule="cosine") == pytest.approx(cosine)


def history(*values, metric="accuracy"):
    return [{"val": {metric: value}} for value in values]


def test_the_best_epoch_is_the_first_best_one_on_validation():
    assert best_epoch(history(0.1, 0.5, 0.5, 0.4), "accuracy") == 2
    assert best_epoch(history(0.1, 0.5, 0.05, 0.4, metric="nll"), "nll") == 3
    assert best_epoch(history(None, 0.2, None), "accuracy") == 2
    assert best_epoch(history(None, None), "accuracy") == 1


def test_training_stops_after_patience_epochs_without_improvement(tmp_path):
    _, run = train_toy(toy_config(tmp_path, epochs=50, lr=1e-12, patience=3))
    assert len((run.dir / "metrics.jsonl").read_text().splitlines()) == 4


class Phases(nn.Module):
    """Weights that are complex numbers."""

    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d, 3, dtype=torch.complex64))

    def forward(self, h):
        return (h.to(torch.complex64) @ self.weight).abs()


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_complex_weights_are_trained(name, tmp_path):
    config = toy_config(tmp_path, name=name, lr=0.01)
    model, _ = train_toy(config, model=toy_model(Phases))
    assert model.experts["inter"].head.weight.is_complex()


def test_a_loss_that_is_not_finite_stops_with_epoch_step_and_rate(tmp_path):
    where = r"the loss is (nan|inf) at epoch 1, step \d+ \(lr 1e\+30\).*another --tag$"
    with pytest.raises(FloatingPointError, match=f"i2m2-concat, seed 0: {where}"):
        train_toy(toy_config(tmp_path, lr=1e30, clip_norm=None))


def test_two_runs_of_one_seed_are_identical_and_another_seed_differs(tmp_path):
    configs = [
        replace(toy_config(tmp_path / str(i)), seed=seed) for i, seed in enumerate((0, 0, 1))
    ]
    runs = [train_toy(config)[1] for config in configs]
    assert files(runs[0].dir) == files(runs[1].dir) != files(runs[2].dir)


def history_of(run):
    """metrics.jsonl without the time that epochs took."""
    records = [json.loads(line) for line in (run.dir / "metrics.jsonl").open()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


class Killed(BaseException):
    """Stands in for a kill: nothing in the project catches it."""


@pytest.mark.parametrize("moment", ["save_best", "save_last", "write_history"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_run_broken_off_between_any_two_files_goes_on_to_the_same_end(
    moment, epoch, tmp_path, monkeypatch
):
    optim = {"epochs": 4, "name": "adamw", "lr": 0.01, "schedule": "cosine", "select": "nll"}
    _, whole = train_toy(toy_config(tmp_path / "whole", **optim))
    config = toy_config(tmp_path / "broken", **optim)
    calls, original = [], getattr(Run, moment)

    def broken(self, *arguments):
        calls.append(1)
        if len(calls) == epoch:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, moment, broken)
        train_toy(config)
    _, run = train_toy(config)
    assert files(run.dir) == files(whole.dir)
    assert history_of(run) == history_of(whole)


def test_a_run_killed_and_started_again_equals_an_uninterrupted_one(
    train, avmnist_files, tmp_path, capsys
):
    arguments = ("--method", "inter", "--optim.epochs", "8")
    whole = train(*arguments, out=tmp_path / "whole")
    folder = tmp_path / "killed/avmnist/inter-concat/seed0"
    command = [sys.executable, "-m", "AVMNIST_and_MIMIC.train", "--config", AVMNIST_CONFIG]
    command += [*arguments, "--threads", "1"]
    command += ["--data.dir", str(avmnist_files), "--out", str(tmp_path / "killed")]

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not (folder / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "DONE").exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "resuming after epoch" in done.stdout
    for name in ("best.safetensors", "predictions_val.npz", "predictions_test.npz", "result.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    train(*arguments, out=tmp_path / "killed")
    assert "already done" in capsys.readouterr().out


def test_a_full_disk_leaves_the_run_resumable(tmp_path, monkeypatch):
    _, whole = train_toy(toy_config(tmp_path / "whole"))
    config, original, writes = toy_config(tmp_path / "full"), Path.write_bytes, []

    def full(self, data):
        writes.append(self)
        if len(writes) == 3:
            original(self, bytes(data)[:100])
            raise OSError(28, "No space left on device")
        return original(self, data)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as error:
        patch.setattr(Path, "write_bytes", full)
        train_toy(config)
    folder = tmp_path / "full/toy/i2m2-concat/seed0"
    assert error.value.filename == str(folder / writes[2].name.split(".tmp.")[1])
    assert not list(folder.glob(".*.tmp.*"))
    _, run = train_toy(config)
    assert files(run.dir) == files(whole.dir)


def test_other_settings_and_other_data_are_refused_and_settings_without_influence_are_not(tmp_path):
    config = toy_config(tmp_path)
    _, run = train_toy(config)
    facts = {"fingerprint": "toy"}
    other = replace(config, optim=replace(config.optim, lr=0.2), seed=1)
    message = r"other settings: optim.lr \(0.1 there, 0.2 now\), seed.*--tag"
    with pytest.raises(SettingsError, match=message) as error:
        Run.open(run.dir, other, facts)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="made with other data .*, give this run a --tag, or"):
        Run.open(run.dir, config, {"fingerprint": "another"})
    with pytest.raises(DataError, match=r"made with other data .*(?!.*--tag).*by --data.dir"):
        run.refuse_other_data({"fingerprint": "another"})  # as of a command without --tag
    with pytest.raises(SettingsError, match="threads"):
        Run.open(run.dir, replace(config, threads=2), facts)
    elsewhere = replace(config, out=str(tmp_path / "elsewhere"), workers=3, tracker="tensorboard")
    assert Run.open(run.dir, elsewhere, facts).facts == facts


def test_a_finished_run_without_its_last_state_takes_no_other_settings_or_data(tmp_path):
    config, facts = toy_config(tmp_path), {"fingerprint": "toy"}
    run = Run.open(tmp_path / "run", config, facts)
    run.finish({"test": {"accuracy": 0.5}})
    written = {path: path.read_bytes() for path in run.dir.iterdir()}
    with pytest.raises(SettingsError, match=r"optim.lr \(0.1 there, 0.9 now\)"):
        Run.open(run.dir, replace(config, optim=replace(config.optim, lr=0.9)), facts)
    with pytest.raises(DataError, match="made with other data"):
        Run.open(run.dir, config, {"fingerprint": "another"})
    assert Run.open(run.dir, replace(config, workers=3), facts).done
    assert written == {path: path.read_bytes() for path in run.dir.iterdir()}


@pytest.mark.parametrize("name", ["last.pt", "DONE"])
def test_a_run_whose_settings_are_gone_is_not_resumed_with_any(name, tmp_path):
    run = Run.open(tmp_path / "run", toy_config(tmp_path), {"fingerprint": "toy"})
    (run.dir / name).touch()
    (run.dir / "config.yaml").unlink()
    with pytest.raises(DataError, match="config.yaml is missing; delete .*/run and run it again"):
        Run.open(run.dir, run.config, {"fingerprint": "toy"})


def test_threads_left_open_are_those_the_run_began_with(tmp_path):
    config = toy_config(tmp_path)
    folder = tmp_path / "run"
    facts = {"fingerprint": "toy"}
    Run.open(folder, replace(config, threads=2), facts).save_last({})
    torch.set_num_threads(1)
    left_open = replace(config, threads=None, workers=3)
    assert Run.open(folder, left_open, facts).config.threads == 2


def test_a_second_process_is_kept_out_of_a_run_at_work(tmp_path):
    run = Run.open(tmp_path / "run", toy_config(tmp_path), {"fingerprint": "toy"})
    script = f"""
from pathlib import Path
from i2m2.training.run import Run
from tests.i2m2.training.toy import toy_config
Run.open(Path({str(run.dir)!r}), toy_config({str(tmp_path)!r}), {{"fingerprint": "toy"}})
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "another process is at work on this run" in done.stderr


def test_settings_of_a_run_that_never_trained_can_be_corrected(tmp_path):
    config, facts = toy_config(tmp_path), {"fingerprint": "toy"}
    Run.open(tmp_path / "run", replace(config, optim=replace(config.optim, lr=7.0)), facts)
    (tmp_path / "run/.123.tmp.last.pt").write_bytes(b"half")
    assert Run.open(tmp_path / "run", config, facts).config.optim.lr == 0.1
    assert not list((tmp_path / "run").glob(".*.tmp.*"))


@pytest.mark.parametrize(
    "name", ["last.pt", "best.safetensors", "predictions_val.npz", "config.yaml", "env.json"]
)
def test_a_damaged_file_of_a_run_is_named(name, tmp_path):
    config = toy_config(tmp_path)
    _, run = train_toy(config)
    path = run.dir / name
    path.write_bytes(path.read_bytes()[:40].replace(b":", b"{"))
    with pytest.raises(DataError, match=name):
        again = Run.open(run.dir, config, {"fingerprint": "toy"})
        again.load_last(), again.load_best()
        dict(read_predictions(run.dir, "val"))


def validated(tmp_path, scores, select="accuracy", epoch=0):
    config = toy_config(tmp_path, select=select)
    return validation_scores({"id": np.arange(27)}, config, epoch, lambda _: scores)


def test_scores_of_ones_own_are_kept_as_pythons_floats(tmp_path):
    kinds = {"accuracy": np.float32(0.5), "mine": np.float64(0.5), "torch": torch.tensor(0.5)}
    scores = validated(tmp_path, kinds | {"count": np.int64(3), "none": None})
    assert [type(value) for value in scores.values()] == [float] * 5
    assert scores["accuracy"] == scores["torch"] == 0.5 and np.isnan(scores["none"])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"accuracy": "high"}, "Experiment.validate: accuracy is a str; let it be a number"),
        ({"accuracy": np.ones(2)}, "Experiment.validate: accuracy is a ndarray"),
        ({"mine": 0.5}, "validate gives mine, without the accuracy that optim.select names"),
        (0.5, "Experiment.validate gives a float; let it give {metric: number}"),
    ],
)
def test_scores_of_ones_own_that_are_none_are_named(scores, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        validated(tmp_path, scores)


def test_of_a_metric_that_is_undefined_on_the_validation_split_a_warning_tells(tmp_path):
    y, log_prob = np.zeros(2, int), np.log(np.full((2, 2), 0.5, np.float32))
    outputs = {"id": np.arange(2), "y": y, "log_prob": log_prob}
    message = (
        r"optim.select=auroc is undefined on the validation split of 2 examples, so the weights of "
        r"the first epoch are kept; choose one that is defined there \(accuracy, nll\), or give"
    )
    with pytest.warns(UserWarning, match=message):
        validation_scores(outputs, toy_config(tmp_path, select="auroc"), 0, None)
    later = validated(tmp_path, {"auroc": np.nan}, "auroc", epoch=1)  # it may be of one epoch only
    assert np.isnan(later["auroc"])
    infinite = validated(tmp_path, {"nll": np.inf}, "nll")
    assert infinite == {"nll": np.inf}


def test_predictions_that_are_nan_stop_the_run_before_they_are_kept(tmp_path):
    message = "validation predictions are NaN at epoch 1, its end .*another --tag"
    with pytest.raises(FloatingPointError, match=message):
        train_toy(toy_config(tmp_path, lr=1e30, batch_size=43, clip_norm=None))
    assert not (tmp_path / "toy/i2m2-concat/seed0/last.pt").exists()


def test_an_encoder_shared_by_two_experts_can_be_saved(tmp_path):
    model, encoder = toy_model(), torch.nn.Linear(3, 8)
    model.experts["left"].encoder = model.experts["inter"].encoders["left"] = encoder
    model, run = train_toy(toy_config(tmp_path), model=model)
    assert_same_weights(run.load_best(), model.state_dict())


def test_predict_ignores_batch_size_and_restores_the_mode(tmp_path):
    torch.manual_seed(0)
    model, data = toy_model(), toy_split(27, 1000)
    layers = (torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    model.experts["left"].head = torch.nn.Sequential(*layers)
    accelerator = make_accelerator(toy_config(tmp_path))
    one, all_at_once = (predict(model, data, accelerator, batch_size=size) for size in (1, 27))
    assert model.training
    for name in one:
        np.testing.assert_allclose(one[name], all_at_once[name], atol=1e-5)
    np.testing.assert_allclose(np.exp(one["log_prob"]).sum(-1), 1, atol=1e-5)
    experts = [np.exp(one[f"expert_{name}"]) for name in ("left", "right", "inter")]
    mixture = np.mean(experts, axis=0)
    np.testing.assert_allclose(np.exp(mixture_of_experts(one)), mixture, atol=1e-6)


def test_what_this_machine_lacks_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="wandb is not installed"):
        make_accelerator(replace(toy_config(tmp_path), tracker="wandb"))
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="device=cuda, but PyTorch finds none"):
            make_accelerator(replace(toy_config(tmp_path), device="cuda"))


def test_tensorboard_gets_a_line_per_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    _, run = train_toy(replace(toy_config(tmp_path), tracker="tensorboard"))
    assert list(run.dir.rglob("events.out.tfevents*"))


def test_bfloat16_training_is_close_to_the_plain_one(tmp_path):
    _, plain = train_toy(toy_config(tmp_path / "plain"))
    AcceleratorState._reset_state(reset_partial_state=True)  # one process has one precision
    _, mixed = train_toy(replace(toy_config(tmp_path / "mixed"), precision="bf16"))
    before, after = weights(plain), weights(mixed)
    assert 0 < max((before[name] - after[name]).abs().max() for name in before) < 0.05
