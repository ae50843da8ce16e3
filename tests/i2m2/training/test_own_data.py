"""A data set of one's own in one small file: trained, evaluated and tabulated like any other."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.parameter import is_lazy

import i2m2
from i2m2 import results
from i2m2.errors import DataError, SettingsError
from i2m2.machine.accelerator import make_accelerator
from i2m2.training import commands
from i2m2.training.config import load_config
from i2m2.training.data import ArrayDataset, seed_everything
from i2m2.training.experiment import _prior, first_model, load, read_splits, train_run
from i2m2.training.seeds import _random_numbers, train_seeds
from tests.i2m2.conftest import row_of
from tests.i2m2.training import own_data

PROGRAM = "tests.i2m2.training.own_data"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Runs of two methods, three epochs each."""
    out = tmp_path_factory.mktemp("own")
    for method in ("unimodal_worst", "i2m2"):
        words = f"--method {method} --init scratch --device cpu --threads 1 --seed 0"
        select = f"--optim.epochs 3 --optim.select auroc --out {out}"
        commands.train(own_data.DATASETS, f"{words} {select}".split(), PROGRAM)
    return out


@pytest.mark.parametrize(
    "y, told",
    [
        (lambda y: y[:, None], r"train: y \[457, 1\] holds 0 to 1, the model answers \[457, 2\]"),
        (lambda y: 2 * y, r"train: y \[457\] holds 0 to 2, the model answers \[457, 2\]; give y"),
    ],
)
def test_labels_that_are_none_of_the_answers_are_refused_before_training(y, told):
    config = own_data.CancerConfig(method="i2m2")
    data = own_data.load(config)
    data.splits["train"].y = y(data.splits["train"].y)
    with pytest.raises(DataError, match=told):
        first_model(own_data.EXPERIMENT, config, data)


@pytest.mark.parametrize("name", ["inter", "product", "type", "a.b", "a/b", ""])
def test_a_modality_whose_name_stands_for_something_else_is_refused(name):
    """`inter` would lose its own expert to the fused one, `type` is a method of torch's modules."""
    kind = type("Config", (own_data.CancerConfig,), {"modalities": ("mean", name)})
    config = kind(method="i2m2")
    with pytest.raises(SettingsError, match=f"a modality cannot be called '{name}'"):
        first_model(own_data.EXPERIMENT, config, own_data.load(config))


def test_a_model_of_other_experts_than_its_method_is_refused():
    def all_of_them(config, data):
        return own_data.build_model(replace(config, method="i2m2"), data)

    config = own_data.CancerConfig(method="unimodal_mean")
    experiment = replace(own_data.EXPERIMENT, build_model=all_of_them)
    told = "gives the experts mean, worst, inter, and method=unimodal_mean has mean; make those"
    with pytest.raises(SettingsError, match=told):
        first_model(experiment, config, own_data.load(config))


def test_a_layer_may_keep_something_of_its_first_batch_and_drop_axes_of_one():
    config = own_data.CancerConfig(method="unimodal_mean")
    data = own_data.load(config)
    model = first_model(replace(own_data.EXPERIMENT, build_model=with_memory), config, data)
    batch = data.splits["train"].select(["mean"])[np.arange(8)]
    log_prob, _ = model(batch["inputs"])
    log_prob.sum().backward()
    assert log_prob.shape == (8, 2)


def test_the_prior_is_known_where_the_test_split_alone_lacks_modalities():
    config = own_data.CancerConfig(method="i2m2")
    data = own_data.load(config)
    for name in ("train", "val"):
        data.splits[name].present = {}
    assert first_model(own_data.EXPERIMENT, config, data).log_prior is not None
    data.splits["test"].present = {}
    assert first_model(own_data.EXPERIMENT, config, data).log_prior is None


@pytest.mark.parametrize(
    "y, answers, normalise, prior",
    [
        ([0, 0, 1], [3], True, [3 / 6, 2 / 6, 1 / 6]),
        ([[0, 1], [0, 1]], [2, 2], True, [[3 / 4, 1 / 4], [1 / 4, 3 / 4]]),
        ([[0, 1], [0, 1]], [2], False, [1 / 4, 3 / 4]),
        ([[0, 1], [0, 1]], [2], True, None),
        ([[0, 1, 0], [0, 1, 0]], [2], False, None),
        ([[0, 2], [0, 1]], [2], False, None),
        ([0, 3], [3], True, None),
        ([[0.5, 1.0]], [2], False, None),
    ],
)
def test_the_prior_is_that_of_the_answers_of_one_or_more_labels_or_of_each(
    y, answers, normalise, prior
):
    found = _prior(np.array(y), answers, normalise)
    assert (found is None) == (prior is None)
    if prior:
        np.testing.assert_allclose(found, prior)


def test_multi_hot_labels_with_missing_modalities_have_log_odds_of_their_own_as_prior():
    config = own_data.CancerConfig(method="unimodal_worst")
    data = own_data.load(config)
    data.splits["train"].y = np.stack([data.splits["train"].y] * 3, axis=1)
    data.splits["train"].y[:, 2] = 0

    def build(config, data):
        expert = i2m2.UnimodalExpert("worst", torch.nn.Identity(), torch.nn.Linear(10, 3))
        return i2m2.ProductOfExperts({"worst": expert}, normalise=False)

    def outputs(config):
        return lambda log_prob, by_expert, y: {"log_odds": log_prob}

    experiment = replace(own_data.EXPERIMENT, build_model=build, select_outputs=outputs)
    model = first_model(experiment, config, data)
    shares = model.log_prior.sigmoid().tolist()
    assert shares[0] == shares[1] > 0.5 and shares[2] == pytest.approx(1 / 459)


@pytest.mark.parametrize("kind", ["int64", "float16"])
def test_numbers_of_a_type_that_an_encoder_does_not_take_are_named(kind):
    config = own_data.CancerConfig(method="i2m2")
    data = own_data.load(config)
    data.splits["train"].inputs["worst"] = data.splits["train"].inputs["worst"].astype(kind)
    told = rf"the model takes no worst of {kind} \(mat1 and mat2 must .*\); give it as float32"
    with pytest.raises(DataError, match=told):
        first_model(own_data.EXPERIMENT, config, data)


def test_a_state_that_no_file_of_weights_holds_is_refused_before_training():
    class Extra(torch.nn.Identity):
        def get_extra_state(self):
            return {"calls": 1}

    def build(config, data):
        model = own_data.build_model(config, data)
        model.experts["mean"].head.append(Extra())
        return model

    config = own_data.CancerConfig(method="unimodal_mean")
    told = "the model's state has experts.mean.head.3._extra_state, a dict, and a run keeps tensors"
    with pytest.raises(SettingsError, match=told):
        first_model(replace(own_data.EXPERIMENT, build_model=build), config, own_data.load(config))


def test_a_number_of_the_test_split_that_is_none_is_found_before_training():
    config = own_data.CancerConfig(method="unimodal_mean")
    data = own_data.load(config)
    test = data.splits["test"]
    test.inputs["mean"][test.rows[7]] = np.nan
    model = own_data.build_model(config, data)
    message = f"test: mean: row {test.rows[7]} holds NaN or infinity"
    with pytest.raises(DataError, match=message):
        read_splits(data, model, make_accelerator(config))


def test_a_split_without_examples_is_named():
    def load_without(config):
        data = own_data.load(config)
        empty = ArrayDataset({"mean": np.zeros((0, 10)), "worst": np.zeros((0, 10))}, np.zeros(0))
        return data._replace(splits=data.splits | {"val": empty})

    with pytest.raises(DataError, match="^val: no examples; every split needs at least one"):
        load(replace(own_data.EXPERIMENT, load=load_without), None)


@pytest.mark.parametrize("test", [{"mine": 0.5}, {"accuracy": np.ones(2)}, None])
def test_scores_of_ones_own_are_checked_before_the_run_is_done(test, tmp_path):
    def scores(predictions):
        return {"test": test} if test else {}

    words = f"--method unimodal_mean --device cpu --optim.epochs 1 --out {tmp_path}".split()
    config = load_config(own_data.CancerConfig, words)
    with pytest.raises(SettingsError, match="Experiment.scores, test.* accuracy"):
        train_run(replace(own_data.EXPERIMENT, scores=scores), config, "")
    assert not list(tmp_path.rglob("DONE"))
    train_run(own_data.EXPERIMENT, config, "")  # once mended: it goes on where it was
    assert list(tmp_path.rglob("DONE"))


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of both of these layers
@pytest.mark.parametrize(
    "layer", [lambda: torch.nn.utils.weight_norm(torch.nn.Linear(2, 2)), torch.nn.LazyBatchNorm1d]
)
def test_to_try_a_model_that_python_cannot_copy_draws_no_random_number(layer):
    def build(config, data):
        model = own_data.build_model(config, data)
        model.experts["mean"].head.append(layer())
        model.experts["mean"].head[0].bias.data.fill_(random.random() + np.random.rand())
        return model

    config = own_data.CancerConfig(method="unimodal_mean")
    data = own_data.load(config)
    seed_everything(0)
    expected, following = build(config, data), _random_numbers()
    model = first_model(replace(own_data.EXPERIMENT, build_model=build), config, data)
    assert _random_numbers() == following
    for one, other in zip(expected.parameters(), model.parameters(), strict=True):
        assert is_lazy(one) and is_lazy(other) or torch.equal(one, other)


@pytest.mark.parametrize(
    "given, missing",
    [
        ({}, "Experiment.validate and Experiment.scores"),
        ({"validate": dict}, "Experiment.scores"),
        ({"scores": dict}, "Experiment.validate"),
    ],
)
def test_a_metric_of_ones_own_that_nothing_computes_is_refused_before_training(
    given, missing, tmp_path
):
    kind = type("Config", (own_data.CancerConfig,), {"metrics": ("f1", "accuracy")})
    words = f"--method unimodal_mean --device cpu --optim.select f1 --out {tmp_path}".split()
    config = load_config(kind, words)
    experiment = replace(own_data.EXPERIMENT, **given)
    told = f"optim.select=f1 is a metric of your own, which {missing} must give; general ones are"
    with pytest.raises(SettingsError, match=told):
        train_run(experiment, config, "")
    with pytest.raises(SettingsError, match=told):
        train_seeds(experiment, [config, replace(config, seed=1)], "")
    assert not list(tmp_path.iterdir())


def with_memory(config, data):
    class Remembers(torch.nn.Linear):
        scale = None

        def forward(self, x):
            y = super().forward(x).squeeze()
            if self.scale is None:
                self.scale = torch.linspace(0.5, 1.5, y.shape[-1])
            return y * self.scale

    model = own_data.EXPERIMENT.build_model(config, data)
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            first = name, layer
            break
    name, layer = first
    model.set_submodule(name, Remembers(layer.in_features, layer.out_features))
    return model


def test_the_example_is_small():
    assert len(Path(own_data.__file__).read_text().splitlines()) <= 60


def test_its_table_begins_with_the_metric_that_chose_the_epoch(out, capsys):
    results.main([str(out), "--dataset", "cancer"])
    printed = capsys.readouterr().out
    assert "| model | auroc | accuracy |" in printed
    assert row_of(printed, "i2m2-concat-scratch").split(" | ")[1].startswith("**9")
    assert " [" in row_of(printed, "unimodal_worst").split(" | ")[2]


def test_who_lacks_what_every_expert_reads_is_answered_by_the_class_frequencies(out, capsys):
    run = out / "cancer/unimodal_worst/seed0"
    found = dict(np.load(run / "predictions_test.npz", allow_pickle=False))
    assert found["id"].dtype.kind == "U"
    splits = own_data.load(None).splits
    absent = ~splits["test"].present["worst"]
    counts = np.bincount(splits["train"].y) + 1
    np.testing.assert_allclose(
        np.exp(found["log_prob"][absent]), [counts / counts.sum()] * sum(absent), 1e-6
    )
    assert (found["log_prob"][~absent].std(axis=0) > 0).all()
    _, again, _ = commands.evaluate(own_data.DATASETS, [str(run), "--again"], PROGRAM, "a run")
    np.testing.assert_allclose(again["log_prob"], found["log_prob"], atol=1e-6)
    line = f"{sum(absent)} of {len(absent)} examples lack the modalities of every expert"
    assert line in capsys.readouterr().out


def test_an_absent_modality_drops_only_the_experts_that_read_it(out):
    found = dict(np.load(out / "cancer/i2m2-concat-scratch/seed0/predictions_test.npz"))
    absent = ~own_data.load(None).splits["test"].present["worst"]
    np.testing.assert_allclose(found["expert_inter"][absent], np.log(0.5), atol=1e-6)
    np.testing.assert_allclose(found["log_prob"][absent], found["expert_mean"][absent], atol=1e-6)
