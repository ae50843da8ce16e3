"""Several seeds at once: every run is what it is alone, through stops, kills and errors."""

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from AVMNIST_and_MIMIC.mimic.experiment import EXPERIMENT, load_mimic
from AVMNIST_and_MIMIC.mimic.settings import MIMICConfig
from i2m2.errors import SettingsError
from i2m2.training.commands import split_seeds
from i2m2.training.config import load_config
from i2m2.training.data import ArrayDataset, Data
from i2m2.training.experiment import Experiment, train_run
from i2m2.training.run import Run
from i2m2.training.seeds import train_seeds
from tests.conftest import MIMIC_CONFIG
from tests.i2m2.training.toy import ToyConfig, toy_config, toy_model, toy_split

ROWS = (
    "unimodal_static", "unimodal_series", "inter --fusion concat",
    "inter --fusion low_rank_tensor", "intra", "i2m2 --fusion concat",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_git(monkeypatch):
    """Asking for the commit takes longer than these runs."""
    monkeypatch.setattr("i2m2.machine.environment._git_commit", lambda: None)


def load(config):
    splits = {"train": toy_split(45, 0), "val": toy_split(27, 1000), "test": toy_split(30, 2000)}
    facts = {"variant": "", "synthetic": True, "description": "toy", "fingerprint": "toy"}
    return Data(splits, "", facts)


TOY = Experiment(load=load, build_model=lambda config, data: toy_model())


def of_seeds(config, seeds=range(2)):
    return [replace(config, init="scratch", seed=seed) for seed in seeds]


def folders(out):
    """{folder below `out`: its run}."""
    return {path.parent.relative_to(out): path.parent for path in Path(out).rglob("config.yaml")}


def history_of(folder):
    """metrics.jsonl without the time that epochs took."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def flat(value, prefix=""):
    """Nested containers of numbers, tensors and texts as {path: value}."""
    if isinstance(value, dict):
        return {k: v for name in value for k, v in flat(value[name], f"{prefix}/{name}").items()}
    if isinstance(value, list):
        return flat(dict(enumerate(value)), prefix)
    return {prefix: value.double().numpy() if isinstance(value, torch.Tensor) else value}


def assert_close(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, (float, np.ndarray)):
            np.testing.assert_allclose(other[name], value, atol=1e-5, rtol=1e-5, err_msg=name)
        else:
            assert other[name] == value, name


def assert_same_runs(alone, together):
    """Every file of every folder, numbers within 1e-5."""
    runs = folders(alone)
    assert runs and folders(together).keys() == runs.keys()
    for name, one in runs.items():
        other = Path(together) / name
        assert sorted(p.name for p in other.iterdir()) == sorted(p.name for p in one.iterdir())
        assert (other / "config.yaml").read_text() == (one / "config.yaml").read_text().replace(
            str(alone), str(together)
        )
        assert_close(history_of(one), history_of(other))
        states = [torch.load(run / "last.pt", weights_only=True) for run in (one, other)]
        assert_close(*({k: v for k, v in state.items() if k != "history"} for state in states))
        assert_close(*(load_file(run / "best.safetensors") for run in (one, other)))
        for split in ("val", "test"):
            assert_close(*(dict(np.load(run / f"predictions_{split}.npz")) for run in (one, other)))
        assert_close(*(json.loads((run / "result.json").read_text()) for run in (one, other)))


def bytes_of(out):
    names = ("best.safetensors", "predictions_val.npz", "predictions_test.npz", "result.json")
    return {
        run / name: (folder / name).read_bytes()
        for run, folder in folders(out).items()
        for name in names
    }


class AtOnce(MIMICConfig):
    seeds_at_once = True  # low-rank tensor fusion too


def test_every_row_of_mimic_is_what_its_seeds_give_one_by_one(mimic_files, tmp_path):
    words = ["--config", MIMIC_CONFIG, "--data.dir", str(mimic_files), "--threads", "1"]
    words += ["--optim.epochs", "2", "--model.rank", "4"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    content = load_mimic(load_config(MIMICConfig, [*words, "--method", "intra"]))
    mimic = replace(EXPERIMENT, load=lambda config: content)
    for row in ROWS:
        config = load_config(AtOnce, [*words, "--method", *row.split()])
        for seed in (0, 1):
            train_run(mimic, replace(config, seed=seed, out=str(alone)), "")
        both = [replace(config, seed=seed, out=str(together)) for seed in (0, 1)]
        train_seeds(mimic, both, "")
    assert_same_runs(alone, together)
    assert len(folders(together)) == 2 * len(ROWS)
    environment = json.loads((together / "mimic-mortality/intra/seed1/env.json").read_text())
    parts = environment["warm_start"].values()
    assert [Path(part).name for part in parts] == ["seed1", "seed1"]


class Scaled(nn.Module):
    """A layer that no table knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(()))
        self.norm = nn.BatchNorm1d(8)

    def forward(self, h):
        return self.norm(h) * self.scale


def odd_model(config, data):
    """Layers of all kinds: dropout, batch norm, a scalar weight, an encoder of two experts."""
    model = toy_model(lambda d: nn.Sequential(nn.Dropout(0.3), nn.Linear(d, 3, bias=False)))
    left = nn.Sequential(nn.Linear(3, 8, bias=False), Scaled(), nn.GELU(), nn.Dropout(0.2))
    model.experts["left"].encoder = model.experts["inter"].encoders["left"] = left
    model.experts["right"].head[1].weight.requires_grad_(False)
    return model


def own_loss(log_prob, y):
    """One whose examples depend on each other."""
    loss = nn.functional.nll_loss(log_prob, y, reduction="none")
    return loss / loss.detach().mean()


@pytest.mark.parametrize("optimiser, loss", [("sgd", None), ("rmsprop", own_loss), ("adamw", None)])
def test_layers_optimisers_and_losses_of_all_kinds_do_what_they_do_alone(optimiser, loss, tmp_path):
    optim = {
        "name": optimiser,
        "lr": 0.01,
        "epochs": 2,
        "schedule": "cosine",
        "warmup": 0.2,
        "clip_norm": 0.5,
    }
    optim |= {"micro_batches": 2 if loss is None else 1, "weight_decay": 0.01}
    optim |= {"momentum": 0.0 if optimiser == "adamw" else 0.5}
    experiment = replace(TOY, build_model=odd_model)
    if loss:
        experiment = replace(experiment, loss=lambda *_: loss)
    for config in of_seeds(toy_config(tmp_path / "alone", **optim)):
        train_run(experiment, config, "")
    train_seeds(experiment, of_seeds(toy_config(tmp_path / "together", **optim)), "")
    assert_same_runs(tmp_path / "alone", tmp_path / "together")


def test_seeds_at_once_as_graphs_are_what_they_are(tmp_path, graphs_as_they_are):
    eager, graph = toy_config(tmp_path / "1"), toy_config(tmp_path / "2")
    train_seeds(TOY, of_seeds(eager), "")
    train_seeds(TOY, of_seeds(replace(graph, compile="graph")), "")
    assert set(graphs_as_they_are) == {"reduce-overhead"}
    one, other = folders(eager.out), folders(graph.out)
    assert one.keys() == other.keys() and len(one) == 2
    for name in one:
        pair = [load_file(folder[name] / "best.safetensors") for folder in (one, other)]
        assert_close(*pair)


def test_examples_without_a_modality_are_what_they_are_alone(tmp_path):
    def with_gaps(config):
        data = load(config)
        for split in data.splits.values():
            split.present = {
                "left": np.arange(len(split)) % 3 > 0,
                "right": np.arange(len(split)) % 6 > 0,
            }
        return data

    experiment = replace(TOY, load=with_gaps)
    for config in of_seeds(toy_config(tmp_path / "alone")):
        train_run(experiment, config, "")
    train_seeds(experiment, of_seeds(toy_config(tmp_path / "together")), "")
    assert_same_runs(tmp_path / "alone", tmp_path / "together")


STOPS = {"epochs": 9, "lr": 0.5, "patience": 1}


def test_every_seed_stops_at_its_own_epoch_and_changes_no_other(tmp_path):
    for config in of_seeds(toy_config(tmp_path / "alone", **STOPS), range(4)):
        train_run(TOY, config, "")
    train_seeds(TOY, of_seeds(toy_config(tmp_path / "together", **STOPS), range(4)), "")
    assert_same_runs(tmp_path / "alone", tmp_path / "together")
    epochs = {len(history_of(folder)) for folder in folders(tmp_path / "together").values()}
    assert len(epochs) > 2


class Killed(BaseException):
    """Stands in for a kill: nothing in the project catches it."""


@pytest.mark.parametrize("moment, call", [("save_best", 2), ("save_last", 5), ("finish", 2)])
def test_seeds_broken_off_anywhere_go_on_to_the_same_bits(moment, call, tmp_path, monkeypatch):
    train_seeds(TOY, of_seeds(toy_config(tmp_path / "whole", **STOPS), range(4)), "")
    configs = of_seeds(toy_config(tmp_path / "broken", **STOPS), range(4))
    calls, original = [], getattr(Run, moment)

    def broken(self, *arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, moment, broken)
        train_seeds(TOY, configs, "")
    train_seeds(TOY, configs, "")
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "whole")


def test_seeds_that_are_done_or_further_on_are_taken_as_they_are(tmp_path, monkeypatch, capsys):
    """Seed 0 is done, seed 1 was broken off alone in its third epoch."""
    for config in of_seeds(toy_config(tmp_path / "alone"), range(3)):
        train_run(TOY, config, "")
    configs = of_seeds(toy_config(tmp_path / "together"), range(3))
    train_run(TOY, configs[0], "")
    calls, original = [], Run.save_last

    def broken(self, state):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        original(self, state)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "save_last", broken)
        train_run(TOY, configs[1], "")
    done = (tmp_path / "together/toy/i2m2-concat-scratch/seed0/last.pt").stat().st_mtime_ns
    train_seeds(TOY, configs, "")
    assert (tmp_path / "together/toy/i2m2-concat-scratch/seed0/last.pt").stat().st_mtime_ns == done
    assert "seed0: already done" in capsys.readouterr().out
    assert_same_runs(tmp_path / "alone", tmp_path / "together")


def with_threads(configs, kind=ToyConfig, threads=None):
    return [kind(**vars(config) | {"threads": threads}) for config in configs]


@pytest.mark.parametrize("threads", [1, 2])
def test_new_seeds_have_the_threads_of_one_that_is_resumed(threads, tmp_path, monkeypatch):
    configs = of_seeds(toy_config(tmp_path), range(3))
    begin_alone(replace(configs[1], threads=threads), monkeypatch)
    torch.set_num_threads(3 - threads)
    train_seeds(TOY, with_threads(configs), "")
    stored = [(run / "config.yaml").read_text() for run in folders(tmp_path).values()]
    assert len(stored) == 3 and all(f"\nthreads: {threads}\n" in text for text in stored)


def begin_alone(config, monkeypatch):
    """Break a run off after its first epoch."""

    def broken_off(*arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "write_history", broken_off)
        train_run(TOY, config, "")


def diverging(config, data):
    """Seed 1 has weights too large for a finite loss."""
    model = toy_model()
    if config.seed == 1:
        for parameter in model.parameters():
            parameter.data *= 1e38
    return model


def test_a_seed_that_diverges_is_named_once_the_others_are_done(tmp_path):
    experiment = replace(TOY, build_model=diverging)
    config = toy_config(tmp_path / "together")
    with pytest.raises(
        FloatingPointError, match=r"seed 1: the loss is (nan|inf) at epoch 1, step 1"
    ):
        train_seeds(experiment, of_seeds(config, range(3)), "")
    for config in of_seeds(toy_config(tmp_path / "alone"), (0, 2)):
        train_run(TOY, config, "")
    (tmp_path / "together/toy/i2m2-concat-scratch/seed1").rename(tmp_path / "seed1")
    assert_same_runs(tmp_path / "alone", tmp_path / "together")
    assert not (tmp_path / "seed1/last.pt").exists()


class OneByOne(ToyConfig):
    seeds_at_once = False


def test_where_it_does_not_pay_seeds_are_made_one_after_the_other_bit_for_bit(tmp_path):
    for config in of_seeds(toy_config(tmp_path / "alone")):
        train_run(TOY, config, "")
    configs = [OneByOne(**vars(c)) for c in of_seeds(toy_config(tmp_path / "together"))]
    train_seeds(TOY, configs, "")
    alone, together = bytes_of(tmp_path / "alone"), bytes_of(tmp_path / "together")
    assert alone == together


def test_one_after_the_other_a_seed_that_is_resumed_leaves_the_next_its_threads(
    tmp_path, monkeypatch
):
    first, second = with_threads(of_seeds(toy_config(tmp_path)), OneByOne)
    begin_alone(replace(first, threads=1), monkeypatch)
    torch.set_num_threads(2)
    train_seeds(TOY, [first, second], "")
    stored = {path.name: (path / "config.yaml").read_text() for path in folders(tmp_path).values()}
    assert "\nthreads: 1\n" in stored["seed0"] and "\nthreads: 2\n" in stored["seed1"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_seeds_are_finished_and_join_those_read_from_a_file(tmp_path, monkeypatch):
    configs = of_seeds(replace(toy_config(tmp_path), device="cuda"), range(3))
    begin_alone(configs[1], monkeypatch)
    train_seeds(TOY, configs, "")
    assert len(bytes_of(tmp_path)) == 12


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn(x.shape[0], 1)


class Rounds(nn.Linear):
    def forward(self, x):
        return super().forward(x) * x.sum().round().item()


class Padded(nn.Embedding):
    def __init__(self, d):
        super().__init__(9, 3, padding_idx=0)

    def forward(self, x):
        return super().forward(x.abs().long()).mean(dim=-2)


class Moving(nn.Module):
    """It assigns its buffer anew."""

    def __init__(self, d):
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.linear = nn.Linear(d, 3)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=0)
        return self.linear(x - self.mean)


class Skipped(nn.Linear):
    def forward(self, x):
        return super().forward(x * 0 if self.training and random.random() < 0.5 else x)


class Transposed(nn.Module):
    """A decoder whose weight is a view of the encoder's."""

    def __init__(self, d):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(d, 3), nn.Linear(3, d)
        self.decoder.weight = nn.Parameter(self.encoder.weight.data.t())

    def forward(self, x):
        return self.encoder(self.decoder(self.encoder(x)))


def noisy_loss(log_prob, y):
    return nn.functional.nll_loss(log_prob, y, reduction="none") * torch.rand(len(y))


class Augmented(ArrayDataset):
    def __getitem__(self, positions):
        batch = super().__getitem__(positions)
        batch["inputs"]["left"] += torch.randn(len(positions), 1)
        return batch


def augmented(config):
    data = load(config)
    data.splits["train"].__class__ = Augmented
    return data


def other_epochs(config):
    data = load(config)
    data.splits["train"].set_epoch = print
    return data


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of weight_norm
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"build_model": lambda *_: toy_model(lambda d: Noisy(d, 3))}, "random"),
        ({"build_model": lambda *_: toy_model(lambda d: Rounds(d, 3))}, r"item\(\)"),
        ({"build_model": lambda *_: toy_model(Padded)}, "padding_idx would count for one"),
        ({"build_model": lambda *_: toy_model(Moving)}, r"left.head.mean would stay as it is"),
        (
            {"build_model": lambda *_: toy_model(lambda d: Skipped(d, 3))},
            "draw random numbers of their own",
        ),
        (
            {"build_model": lambda *_: toy_model(Transposed)},
            "the weights experts.left.head.encoder.weight and experts.left.head.decoder.weight",
        ),
        (
            {"build_model": lambda *_: toy_model(lambda d: nn.LazyLinear(3))},
            "experts.left.head.weight is made by the first batch",
        ),
        (
            {"build_model": lambda *_: toy_model(lambda d: nn.utils.weight_norm(nn.Linear(d, 3)))},
            "this model fails .Only Tensors created explicitly by the user",
        ),
        ({"loss": lambda *_: noisy_loss}, "Experiment.loss draws random numbers"),
        ({"load": augmented}, "these data, or this model, draw random numbers"),
        ({"load": other_epochs}, "these data differ from epoch to epoch"),
        (
            {"parameters": lambda config, model: [{"params": model.parameters()}]},
            "one rate for all weights",
        ),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused_with_the_reason(changes, message, tmp_path):
    with pytest.raises(SettingsError, match=f"{message}.*train one seed after the other: --seed"):
        train_seeds(replace(TOY, **changes), of_seeds(toy_config(tmp_path)), "")
    assert not folders(tmp_path)


def test_a_loss_that_is_a_mean_already_is_refused(tmp_path):
    experiment = replace(TOY, loss=lambda *_: nn.functional.nll_loss)
    configs = of_seeds(toy_config(tmp_path))
    told = r"Experiment.loss gives \[\] for {} examples"
    with pytest.raises(SettingsError, match=told.format(4)):
        train_seeds(experiment, configs, "")
    assert not folders(tmp_path)
    with pytest.raises(SettingsError, match=told.format(10)):
        train_run(experiment, configs[0], "")


def test_seeds_of_which_one_is_refused_leave_no_folder_of_another(tmp_path, monkeypatch):
    first, second = of_seeds(toy_config(tmp_path))
    begin_alone(first, monkeypatch)
    others = [replace(c, optim=replace(c.optim, lr=0.2)) for c in (second, first)]
    with pytest.raises(SettingsError, match="seed0 holds a run of other settings"):
        train_seeds(TOY, others, "")
    with pytest.raises(SettingsError, match="began with 1 and 2 threads"):
        train_seeds(TOY, [replace(second, threads=2), first], "")
    assert [path.name for path in folders(tmp_path)] == ["seed0"]


class Bag(nn.EmbeddingBag):
    def forward(self, x):
        return super().forward(x.abs().long())


def test_layers_that_vmap_computes_one_by_one_are_computed_without_a_word(tmp_path, recwarn):
    bags = replace(TOY, build_model=lambda *_: toy_model(lambda d: Bag(9, 3)))
    train_seeds(bags, of_seeds(toy_config(tmp_path, epochs=1)), "")
    assert not [w for w in recwarn if "performance drop" in str(w.message)]


def test_settings_that_need_a_model_of_its_own_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("i2m2.machine.accelerator.find_spec", lambda name: name)
    for change in ({"compile": True}, {"tracker": "tensorboard"}):
        with pytest.raises(SettingsError, match="do not go with (compile=true|tracker=)"):
            train_seeds(TOY, of_seeds(replace(toy_config(tmp_path), **change)), "")


@pytest.mark.parametrize("kind", [ToyConfig, OneByOne])
def test_several_processes_are_refused(kind, tmp_path, monkeypatch):
    two = SimpleNamespace(num_processes=2)
    monkeypatch.setattr("i2m2.training.seeds.make_accelerator", lambda config: two)
    with pytest.raises(SettingsError, match="several seeds do not go with several processes"):
        train_seeds(TOY, with_threads(of_seeds(toy_config(tmp_path)), kind, threads=1), "")


@pytest.mark.parametrize(
    "words, seeds",
    [
        (["--seeds", "0..4"], [0, 1, 2, 3, 4]),
        (["--seeds", "0", "1", "7"], [0, 1, 7]),
        (["--seeds=0,2"], [0, 2]),
        (["--seeds", "3..3 1"], [3, 1]),
        (["--seed", "1"], None),
    ],
)
def test_seeds_are_given_as_a_range_or_one_by_one(words, seeds):
    rest = ["--method", "intra", "--tag", "x"]
    assert split_seeds([*rest[:2], *words, *rest[2:]]) == (
        (rest, seeds) if seeds else ([*rest[:2], *words, *rest[2:]], None)
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["--seeds"], "names no seed"),
        (["--seeds", "0..x"], "'0..x' is no seed; give 0..4, or 0 1 2"),
        (["--seeds", "-1"], "'-1' is no seed"),
        (["--seeds", "4..0", "1"], "'4..0' is no seed"),
        (["--seeds", "0..99999999"], "at most 1,000"),
        (["--seeds", "0", "--seed", "1"], "stands beside --seed"),
    ],
)
def test_what_are_no_seeds_is_refused(words, message):
    with pytest.raises(SettingsError, match=message):
        split_seeds(words)
