"""States and weights that are cut, altered, gone or of another model: one error, and a way out."""

import os
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from i2m2.errors import DataError, SettingsError
from i2m2.machine.accelerator import make_accelerator
from i2m2.training.experiment import say_done
from i2m2.training.loop import batch_norm_over
from i2m2.training.run import Run
from tests.i2m2.training.toy import toy_config, toy_model, train_toy

FACTS = {"fingerprint": "toy"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(settings, folder of the run, {file: its content}) of a finished training."""
    torch.set_num_threads(1)
    config = toy_config(tmp_path_factory.mktemp("damage"), epochs=1)
    _, run = train_toy(config)
    names = ("last.pt", "best.safetensors")
    return config, run, {name: (run.dir / name).read_bytes() for name in names}


@pytest.fixture
def run(trained):
    """The run as it was, before and after a test has damaged it."""
    _, run, contents = trained
    for name, content in contents.items():
        (run.dir / name).write_bytes(content)
    return run


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_state_cut_short_anywhere_is_named_with_the_way_out(run, share):
    path = run.dir / "last.pt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"last.pt is damaged .*; delete its folder and run it"):
        run.load_last()


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors"])
def test_a_flipped_bit_of_a_weight_is_noticed(run, name):
    path = run.dir / name
    content = bytearray(path.read_bytes())
    weight = run.load_best()["experts.left.encoder.0.weight"].numpy().tobytes()
    content[content.index(weight) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        run.load_last(), run.load_best()


@pytest.mark.parametrize(
    "state, message",
    [
        ({}, "required field"),
        ([1, 2], "is damaged"),
        ({"history": 3, "model": {}, "optimizer": {}, "scheduler": {}}, "history"),
        ({"history": [{"epoch": "1"}], "model": {}, "optimizer": {}, "scheduler": {}}, "epoch"),
    ],
)
def test_what_is_no_state_is_refused(run, state, message):
    torch.save(state, run.dir / "last.pt")
    with pytest.raises(DataError, match=message):
        run.restore({})


def test_the_state_and_weights_of_another_model_are_refused(run):
    other = toy_model(head=lambda d: torch.nn.Linear(d, 5))
    told = (
        r"does not fit the model that the code builds now "
        r"\(experts.left.head.weight is \[3, 8\] there, \[5, 8\] now\); restore that code"
    )
    with pytest.raises(DataError, match=rf"last.pt {told}"):
        run.restore({"model": other})
    with pytest.raises(DataError, match=rf"best.safetensors {told}"):
        run.load_best_into(other)
    deeper = toy_model()
    deeper.experts["left"].head = torch.nn.Sequential(torch.nn.Linear(8, 3))
    with pytest.raises(DataError, match=r"head.0.weight is absent there, \[3, 8\] now"):
        run.load_best_into(deeper)
    optimizer = torch.optim.SGD([other.experts["left"].head.weight], 0.1)
    with pytest.raises(DataError, match="last.pt does not fit the optimizer .*; restore that code"):
        run.restore({"optimizer": optimizer})
    with pytest.raises(DataError, match="last.pt is damaged"):
        run.restore({"scaler": other})


def test_weights_without_a_checksum_are_read_as_before(run):
    weights = run.load_best()
    safetensors.torch.save_file(weights, run.dir / "best.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in run.load_best().items())


def test_a_folder_whose_name_is_no_text_keeps_weights_too(run, trained):
    copy = shutil.copytree(run.dir, run.dir.parent / os.fsdecode(b"seed\xff"), dirs_exist_ok=True)
    assert Run(copy, trained[0]).load_best().keys() == run.load_best().keys()


def test_weights_that_are_gone_are_made_again_and_not_trained_first(run, trained):
    (run.dir / "best.safetensors").unlink()
    with pytest.raises(DataError, match="best.safetensors is missing; delete .* and run it again"):
        run.load_best()
    fresh = Run.open(run.dir.parent / "seed7", trained[0], FACTS)
    with pytest.raises(SettingsError, match="has not finished an epoch yet; train it first"):
        fresh.load_best()


def test_a_finished_run_without_its_result_is_not_said_to_be_done(run):
    run.finish({"test": {"accuracy": 0.5}})
    (run.dir / "result.json").unlink()
    with pytest.raises(DataError, match="result.json is missing; .* delete .* and run it again"):
        say_done(run, make_accelerator(run.config))


def test_fp16_is_refused_on_the_cpu(tmp_path):
    with pytest.raises(SettingsError, match="precision=fp16 is not possible on the CPU"):
        make_accelerator(replace(toy_config(tmp_path), precision="fp16"))


def test_batch_norm_over_parts_of_an_update_is_said(tmp_path):
    config = toy_config(tmp_path, micro_batches=2)
    accelerator, model = make_accelerator(config), toy_model()
    assert batch_norm_over(model, config, accelerator) == ""
    model.experts["left"].head = torch.nn.Sequential(torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    of = "over each of the 2 parts of an update"
    assert batch_norm_over(model, config, accelerator) == of
    whole = toy_config(tmp_path, micro_batches=1)
    assert batch_norm_over(model, whole, accelerator) == ""


def test_the_numbers_of_processes_of_a_resumed_run_are_all_recorded(run):
    run.record_processes(1, "")
    run.record_processes(4, "over each of the 4 parts of an update")
    run.record_processes(4, "")
    env = (run.dir / "env.json").read_text()
    assert '"processes": [\n    1,\n    4\n  ]' in env and "4 parts" in env
