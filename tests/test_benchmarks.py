"""The benchmarks compare like with like: equal weights, equal examples, equal results. No time is
asserted."""

import json
import signal

import h5py
import numpy as np
import pytest
import torch

from AVMNIST_and_MIMIC.avmnist.experiment import AVMNISTData, load_avmnist
from AVMNIST_and_MIMIC.avmnist.files import SHAPES
from AVMNIST_and_MIMIC.encoders import LeNet
from AVMNIST_and_MIMIC.mimic.experiment import load_mimic
from benchmarks import avmnist, gpu, mimic, neighbours, seeds, vqa_combination
from benchmarks.compared import avmnist_loops as bench
from benchmarks.compared import mimic_loops
from benchmarks.compared.avmnist_encoder import encoder_row
from benchmarks.compared.mimic_gru import split_of_step
from benchmarks.compared.training import Ours, update_row, usual_pass
from benchmarks.dial.draw import exact_scores
from benchmarks.fastmri.layout import write_reference
from benchmarks.fastmri.step import flop_per_slice
from benchmarks.measuring.timing import alternate, beside, table
from fastMRI.make_synthetic import make_volumes
from i2m2.dial import Dial
from i2m2.losses import negative_log_likelihood


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prepared files with 96 training rows (88 without validation) and 8 test rows of noise."""
    folder, rng = tmp_path_factory.mktemp("avmnist"), np.random.default_rng(0)
    for part, rows in (("train", 96), ("test", 8)):
        for name, shape in SHAPES.items():
            (folder / name).mkdir(exist_ok=True)
            np.save(
                folder / name / f"{part}_data.npy",
                rng.integers(0, 256, (rows, *shape), dtype=np.uint8),
            )
        np.save(folder / f"{part}_labels.npy", rng.integers(0, 10, rows))
    (folder / "dataset.json").write_text(
        json.dumps({"variant": "noise", "synthetic": True, "description": "noise"})
    )
    return folder


@pytest.fixture
def data(folder):
    return load_avmnist(AVMNISTData(dir=str(folder)))


@pytest.mark.parametrize("row", ["image", "i2m2 low_rank_tensor"])
def test_usual_loop_and_ours_make_the_same_update_from_the_same_weights(row, data):
    config = bench.config_of(row)
    train = bench.subset(
        data.splits["train"], config.optim.batch_size
    )  # one update, so that the order cannot matter
    usual, model = bench.new_model(config), bench.new_model(config)
    before = [p.detach().clone() for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, usual.parameters(), strict=True))
    usual_loss, _, _ = bench.usual_pass(config, usual, bench.usual_samples(train), 0)()
    assert bench.Ours(config, model, train).one_pass() == pytest.approx(usual_loss, rel=1e-5)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for a, b in zip(model.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_one_seed_and_several_at_once_train_on_the_same_examples():
    one, several = seeds.one_and_several(*seeds.own_table(), 2)
    assert several.one_epoch()[0] == pytest.approx(one.one_epoch(), rel=1e-5)


def test_the_table_of_seeds_has_a_line_per_row(capsys):
    few = ["--stays", "60", "--rounds", "1", "--threads", "1"]
    seeds.main(["--parts", "rows", "--rows", "static,series", *few])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[-2:]] == ["static", "series"]


def test_epochs_for_a_gpu_are_of_one_and_of_several_seeds(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "WAYS", ("eager",))  # graphs take long to make: test_seeds has them
    gpu.main(["--device", "cpu", "--rows", "mimic", "--stays", "60", "--rounds", "1"])
    _, row, one, several, _ = capsys.readouterr().out.splitlines()[-1].split("|")
    assert row.strip() == "mimic" and "(1.00)" in one and "(" in several


def test_usual_loop_and_ours_see_the_same_examples(data):
    seen = []

    def counting_loss(log_prob, y):
        seen.append(y)
        return negative_log_likelihood(log_prob, y)

    config, train = bench.config_of("image"), bench.subset(data.splits["train"], 70)
    bench.Ours(config, bench.new_model(config), train, counting_loss).one_pass()
    _, outputs, labels = bench.usual_pass(
        config, bench.new_model(config), bench.usual_samples(train), 0
    )()
    assert outputs.shape == (70, 10)
    assert (
        torch.cat(seen).sort().values.tolist()
        == labels.sort().values.tolist()
        == sorted(train.y.tolist())
    )


def test_the_bare_loop_trains_the_model_it_is_given(data):
    config = bench.config_of("image")
    model, untouched = bench.new_model(config), bench.new_model(config)
    bench.bare_steps(config, model, data.splits["train"], steps=1)()
    assert all(
        not torch.equal(a, b)
        for a, b in zip(model.parameters(), untouched.parameters(), strict=True)
    )


def test_ratios_are_of_positive_times(data):
    assert all(seconds > 0 for seconds in bench.loop_ratio("image", data, steps=1, rounds=1))
    seconds = bench.usual_ratio("image", data, steps=1, rounds=1, workers=(0,))
    assert set(seconds) == {"ours", 0} and all(value > 0 for value in seconds.values())


def test_memory_of_a_training_in_this_process(folder):
    found = avmnist.memory_of_training(folder, steps=1, threads=torch.get_num_threads())
    assert found["first batch"] > 0 and found["peak"] > 0.05


def test_an_encoder_equals_pytorchs_modules_to_rounding():
    torch.manual_seed(0)
    found = encoder_row(
        LeNet(3, 3),
        torch.rand(8, 1, 28, 28),
        torch.get_num_threads(),
        rounds=1,
        repeats=1,
        compiled=False,
    )
    assert all(seconds > 0 for seconds, _, _ in found.values())
    assert all(max(differences) < 1e-3 for _, *differences in found.values())


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_all_implementations_of_the_update_agree(optimizer):
    found = update_row(torch.nn.Linear(7, 3), rounds=1, repeats=1, optimizer=optimizer)
    assert all(seconds > 0 and difference < 1e-5 for seconds, difference in found.values())


def test_command_prints_a_table_for_each_part_and_says_that_data_are_synthetic(folder, capsys):
    options = [
        "--rounds",
        "1",
        "--steps",
        "1",
        "--rows",
        "image",
        "--threads",
        str(torch.get_num_threads()),
    ]
    avmnist.main(["--data", str(folder), "--parts", "loop", *options])
    printed = capsys.readouterr().out
    assert "SYNTHETIC, 88 training rows" in printed
    assert "| image |" in printed and "<= 1.25" in printed
    with pytest.raises(SystemExit):
        avmnist.main(["--parts", "lop"])


@pytest.mark.parametrize("row", mimic_loops.ROWS)
def test_mimic_usual_loop_and_ours_make_the_same_update_from_the_same_weights(row, mimic_files):
    config = mimic_loops.config_of(row, mimic_files)
    train = bench.subset(load_mimic(config).splits["train"], config.optim.batch_size)
    model = mimic_loops.new_model(config)
    usual = mimic_loops.UsualProduct(model)
    mimic_loops.refuse_unequal_loss(model, usual, train, size=7)
    usual_loss, outputs, _ = usual_pass(config, usual, mimic_loops.usual_samples(train), 0)()
    assert outputs.shape == (40, 6)
    assert Ours(config, model, train).one_pass() == pytest.approx(usual_loss, rel=1e-5)
    mimic_loops.refuse_unequal_loss(model, usual, train, size=7)
    with pytest.raises(AssertionError):
        mimic_loops.refuse_unequal_loss(model, mimic_loops.new_model(config), train, size=7)


def test_parts_of_a_mimic_step_add_up_to_the_step(mimic_files):
    config = mimic_loops.config_of("intra", mimic_files)
    train = bench.subset(load_mimic(config).splits["train"], 80)
    for parts in split_of_step("intra", train, steps=2, rounds=1).values():
        assert parts["gathering the batch"] > 0 and parts["backward: series encoders"] > 0
        assert sum(parts.values()) == pytest.approx(2 * parts["the whole step"])


def test_mimic_command_prints_a_table_for_each_part(capsys):
    mimic.main(
        [
            "--stays",
            "120",
            "--steps",
            "2",
            "--rounds",
            "1",
            "--threads",
            "1",
            "--rows",
            "static,series",
        ]
    )
    printed = capsys.readouterr().out
    assert (
        "120 stays" in printed
        and "<= 1: " in printed
        and ">= 1.2: " in printed
        and "gathering the batch" in printed
    )
    assert "| series |" in printed and "nn.GRU, time first" in printed and "foreach" in printed


def test_rounds_alternate_and_the_first_does_not_count():
    calls = []
    alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == list("ababab")


class Neighbour:
    """In the place of a process: whether it is awake."""

    awake = False

    def send_signal(self, number):
        self.awake = number == signal.SIGCONT


def test_a_row_of_the_neighbours_is_measured_with_none_one_and_two_awake():
    busy = [Neighbour(), Neighbour()]

    class Setting:
        def __init__(self, alone, more):
            self.alone, self.more = alone, more

        def seconds(self, row, steps):
            return steps * (self.alone + self.more * sum(one.awake for one in busy))

    settings = {"ours": Setting(0.02, 0.01), "torch": Setting(0.01, 0.09)}
    steps, found = neighbours.measure(settings, busy, "mimic:static", seconds=0.1, rounds=3)
    assert steps == 10 and not any(one.awake for one in busy)
    cells = neighbours.cells("static", steps, found)
    ours, torch_as_it_is = ["1.50", "2.00", "0.75", "<= 1.15: met"], ["2.00", "10.00", "19.00"]
    assert cells == ["static", "20.0", *ours, *torch_as_it_is]


def test_tables_by_hand():
    assert beside(1.3, "<= 1.25") == ["1.30", "<= 1.25: missed"]
    assert beside(2.0, ">= 2") == ["2.00", ">= 2: met"]
    assert table("t", ["a", "b"], [["x", 1]]) == "\n### t\n\n| a | b |\n| --- | ---: |\n| x | 1 |"


def test_fastmri_reference_layout_is_the_published_one_and_gives_the_same_image(tmp_path):
    make_volumes(tmp_path / "raw", 1, slices=(2, 2), workers=1)
    paths = write_reference(tmp_path / "raw", tmp_path / "reference")
    assert [path.name for path in paths] == [
        f"knee_singlecoil_file9000000_{index}.h5" for index in (0, 1)
    ]
    with (
        h5py.File(tmp_path / "raw/singlecoil_train/file9000000.h5") as raw,
        h5py.File(paths[1]) as file,
    ):
        kspace = file["sc_kspace"][:]
        assert (
            kspace.shape == (640, 400)
            and kspace.dtype == np.complex128
            and kspace.nbytes == 4_096_000
        )
        np.testing.assert_array_equal(file["recon_rss"][:], raw["reconstruction_rss"][1])
        measured = raw["kspace"][1]
        left = 200 - measured.shape[1] // 2
        np.testing.assert_array_equal(kspace[:, left : left + measured.shape[1]], measured)
        assert np.count_nonzero(kspace) == np.count_nonzero(measured)


def test_a_fastmri_step_costs_what_is_known():
    assert flop_per_slice() == pytest.approx(
        3 * 3 * 2 * 55.42e9, rel=1e-3
    )  # experts, passes, multiply and add


def test_the_cost_of_combining_vqa_experts_is_of_a_study_of_what_is_written(tmp_path, capsys):
    for seed, name in enumerate(vqa_combination.EXPERTS):
        for split, questions in (("val", 300), ("test", 200)):
            vqa_combination.write_predictions(tmp_path / name, split, questions, 40, seed)
    vqa_combination.combine_files(tmp_path)
    found = json.loads(capsys.readouterr().out)
    # Three experts that know equally much, each by itself: the product knows most, with equal
    # weights.
    assert found["plain"]["scores"]["vqa_score"] > found["joint"]["scores"]["vqa_score"] + 0.1
    weights = list(found["fitted"]["weights"].values())
    assert (
        max(weights) < 1.2 * min(weights)
        and found["fitted"]["scores"]["nll"] < found["joint"]["scores"]["nll"]
    )
    vqa_combination.main(["--share", "0.001", "--answers", "30"])
    assert "| 33 | 164 | 30 |" in capsys.readouterr().out


def test_scores_over_cells_are_those_that_the_dial_knows_exactly():
    dial = Dial(3, (1, 0.5), 1, prior=(0.6, 0.3, 0.1))
    symbols, joint = dial.cells()
    exact, bayes = dial.exact(), exact_scores(dial.log_prob(symbols), joint)
    assert bayes["accuracy"] == pytest.approx(exact["bayes_accuracy"])
    assert bayes["nll"] == pytest.approx(exact["bayes_nll"])
    assert bayes["ece"] == pytest.approx(0, abs=1e-12)
    intra = exact_scores(dial.intra_log_prob(symbols), joint)
    assert intra["nll"] == pytest.approx(exact["intra_nll"])
    unsure = exact_scores(np.log(np.full_like(joint, 1 / 3)), joint)
    assert unsure["accuracy"] == pytest.approx(0.6)
    assert unsure["ece"] == pytest.approx(0.6 - 1 / 3)
