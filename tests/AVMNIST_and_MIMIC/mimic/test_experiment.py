"""MIMIC: models, loader, every preset with every method and task, and bad input."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from AVMNIST_and_MIMIC.evaluate import main as evaluate
from AVMNIST_and_MIMIC.mimic.arrays import class_of, reference_split, standardise
from AVMNIST_and_MIMIC.mimic.experiment import build_model, load_mimic
from AVMNIST_and_MIMIC.mimic.settings import MIMICConfig, MIMICData
from AVMNIST_and_MIMIC.train import main
from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS
from i2m2.names import methods_of
from i2m2.training.config import load_config
from tests.conftest import MIMIC_CONFIG

METHODS = methods_of(("static", "series"))


def config(*arguments: str) -> MIMICConfig:
    return load_config(MIMICConfig, ["--config", MIMIC_CONFIG, *arguments], "train")


@pytest.mark.parametrize(
    "method, six, two",
    [
        ("unimodal_static", 856, 692),
        ("unimodal_series", 19_111, 18_947),
        ("inter", 33_616, 33_452),
        ("i2m2", 53_583, 53_091),
    ],
)
def test_models_have_the_published_numbers_of_parameters(method, six, two):
    for task, parameters in (("mortality", six), ("icd9_7", two)):
        model = build_model(config("--method", method, "--task", task))
        assert sum(p.numel() for p in model.parameters()) == parameters


def test_low_rank_tensor_fusion_has_the_published_size():
    fusion = build_model(config("--method", "inter", "--fusion", "lrtf")).experts["inter"].fusion
    factors = sum(p.numel() for p in fusion.parameters())
    # Factors of 10 and 720 features and a one, weights and bias of the ranks.
    assert factors == 40 * (11 + 721) * 100 + 40 + 100


@pytest.mark.parametrize("preset", ["paper", "official_code"])
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_takes_one_step(preset, method, train_mimic):
    run = train_mimic("--method", method, "--preset", preset, "--init", "scratch")
    result = json.loads((run / "result.json").read_text())["test"]
    assert set(result) == set(METRICS) and 0 <= result["accuracy"] <= 1


def test_masks_are_further_channels_of_the_series(train_mimic, mimic_files):
    masks = ["--data.masks", "true", "--tag", "masks"]
    run = train_mimic("--method", "inter", "--task", "icd9_3", *masks)
    assert run.parts[-3:-1] == ("mimic-icd9_3", "inter-concat-masks")
    data = load_mimic(MIMICConfig(method="inter", data=MIMICData(dir=str(mimic_files), masks=True)))
    series, stored = data.splits["test"].inputs["series"], np.load(mimic_files / "mimic.npz")
    np.testing.assert_array_equal(series[..., 12:], stored["series_mask"])
    assert not series[..., :12][stored["series_mask"] == 0].any()  # missing: the training mean


def test_more_training_examples_than_there_are_are_refused(mimic_files):
    data = MIMICData(dir=str(mimic_files), train_size=1000000)
    with pytest.raises(SettingsError, match="train_size=1000000 is above the"):
        load_mimic(MIMICConfig(method="inter", data=data))


def test_arrays_exchanged_under_their_description_are_refused(mimic_files, tmp_path):
    folder = shutil.copytree(mimic_files, tmp_path / "mimic")
    facts = json.loads((folder / "dataset.json").read_text())
    facts["sha256"] = hashlib.sha256((folder / "mimic.npz").read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps(facts))
    settings = MIMICConfig(method="inter", data=MIMICData(dir=str(folder)))
    load_mimic(settings)
    arrays = dict(np.load(folder / "mimic.npz"))
    arrays["mortality_labels"] = arrays["mortality_labels"][::-1]
    np.savez(folder / "mimic.npz", **arrays)
    with pytest.raises(DataError, match="mimic.npz: its sha256 is not the one in dataset.json"):
        load_mimic(settings)


def test_i2m2_starts_from_its_parts_and_evaluate_scores_every_expert(train_mimic, capsys):
    for method in ("unimodal_static", "unimodal_series", "inter"):
        train_mimic("--method", method, "--task", "icd9_1")
    run = train_mimic("--method", "i2m2", "--task", "icd9_1")
    sources = json.loads((run / "env.json").read_text())["warm_start"]
    assert set(sources) == {"static", "series", "inter"}
    evaluate([str(run), "--split", "val"])
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-4:]]
    assert rows == ["product", "static", "series", "inter"]


def test_presets_choose_what_selects_by_task_and_method():
    def select(*arguments):
        return config(*arguments).optim.select

    for task in ("mortality", "icd9_1"):
        assert {select("--method", m, "--task", task) for m in METHODS} == {"accuracy"}
    official = ("--preset", "official_code", "--task")
    assert {select("--method", m, *official, "mortality") for m in METHODS} == {"accuracy"}
    assert {m: select("--method", m, *official, "icd9_7") for m in METHODS} == {
        m: "accuracy" if m == "intra" else "auprc" for m in METHODS
    }
    assert config("--method", "intra", *official, "icd9_7").init == "scratch"
    stops = {m: config("--method", m, *official, "icd9_7").optim.patience for m in METHODS}
    assert stops == {m: None if m.startswith("unimodal") else 11 for m in METHODS}


def test_mortality_is_the_first_column_of_five_that_holds_and_leaves_the_labels_alone():
    labels = np.array(
        [
            [1, 0, 0, 0, 1, 1],
            [0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 0, 1],
            [1, 0, 1, 1, 1, 1],
        ]
    )
    before = labels.copy()
    assert class_of("mortality", {"mortality_labels": labels}).tolist() == [4, 0, 1, 5, 2]
    np.testing.assert_array_equal(labels, before)
    icd9 = np.eye(20, dtype=np.int64)
    assert class_of("icd9_7", {"icd9": icd9}).argmax() == 7


def test_reference_split_is_the_published_permutation():
    small = reference_split(10)
    assert [*small.val, *small.test, *small.train] == [5, 2, 7, 1, 8, 4, 3, 6, 0, 9]
    large = reference_split(32_620)
    assert large.val[:5].tolist() == [28912, 18467, 27677, 25830, 2348]
    assert large.test[:5].tolist() == [21404, 4841, 15616, 25299, 26336]
    assert len(large.val) == len(large.test) == 3262


def test_standardised_values_equal_a_hand_calculation():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [100.0, 7.0]])
    # Feature 0: mean 2, std 1 of two values; feature 1: constant in training.
    z, flat = standardise(x, np.array([0, 1, 2]), "train")
    np.testing.assert_allclose(z, [[-1, 0], [1, 0], [0, 0], [98, 2]])
    assert flat == [1]
    # Missing is 0, statistics over all rows.
    z, flat = standardise(x, np.array([0, 1, 2]), "reference")
    column = np.array([1.0, 3.0, 0.0, 100.0])
    np.testing.assert_allclose(z[:, 0], (column - column.mean()) / column.std(), rtol=1e-6)
    assert flat == [] and z.dtype == np.float32


def test_training_statistics_do_not_see_the_other_splits(mimic_files, tmp_path):
    before = load_mimic(MIMICConfig(method="intra", data=MIMICData(dir=str(mimic_files))))
    test = before.splits["test"].rows
    folder = shutil.copytree(mimic_files, tmp_path / "data")
    arrays = dict(np.load(folder / "mimic.npz"))
    arrays["static"][test] = 1e9
    np.savez(folder / "mimic.npz", **arrays)
    after = load_mimic(MIMICConfig(method="intra", data=MIMICData(dir=str(folder))))
    rows = before.splits["train"].rows
    np.testing.assert_array_equal(
        before.splits["train"].inputs["static"][rows], after.splits["train"].inputs["static"][rows]
    )


def test_facts_name_constant_features_and_score_the_class_frequencies(mimic_files):
    data = load_mimic(
        MIMICConfig(method="intra", task="icd9_1", data=MIMICData(dir=str(mimic_files)))
    )
    assert data.variant == "icd9_1" and data.facts["constant_features"] == ["AIDS"]
    assert data.facts["description"].endswith(
        "; no spread in AIDS; 120 stays prove the pipeline, not the method"
    )
    y = data.splits["test"].y
    majority = np.bincount(data.splits["train"].y).argmax()
    assert data.facts["baseline"]["accuracy"] == np.mean(y == majority)
    assert data.facts["baseline"]["auroc"] == 0.5


def test_a_group_that_no_test_row_has_trains_and_leaves_what_is_undefined_open(
    mimic_files, train_mimic, tmp_path
):
    folder = shutil.copytree(mimic_files, tmp_path / "data")
    save("icd9", lambda a: a * (np.arange(20) != 10))(folder)
    official = ["--preset", "official_code", "--data.dir", str(folder)]
    with pytest.warns(UserWarning, match=r"auprc is undefined .* \(accuracy, nll\)"):
        run = train_mimic("--method", "unimodal_static", "--task", "icd9_10", *official)
    baseline = json.loads((run / "env.json").read_text())["data"]["baseline"]
    result = json.loads((run / "result.json").read_text())["test"]
    assert baseline["accuracy"] == 1
    assert baseline["auroc"] is result["auroc"] is result["auprc"] is None


def test_tables_set_the_majority_class_above_every_number(train_mimic, tmp_path, capsys):
    from i2m2.results import main as results

    train_mimic("--method", "unimodal_static", "--task", "icd9_7")
    results([str(tmp_path), "--dataset", "mimic"])
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("| model"))
    columns = [cell.strip() for cell in header.split("|")[2:-1]]
    assert columns == ["accuracy", "auroc", "auprc", "balanced_accuracy", "nll", "ece"]
    assert lines[lines.index(header) + 2].startswith("| Majority class (class frequencies) |")
    series = next(line for line in lines if line.startswith("- Time series, seed 0"))
    assert "--task icd9_7" in series


def save(name, change):
    def damage(folder):
        arrays = dict(np.load(folder / "mimic.npz"))
        arrays[name] = change(arrays[name])
        np.savez(folder / "mimic.npz", **arrays)

    return damage


def truncate(folder):
    path = folder / "mimic.npz"
    path.write_bytes(path.read_bytes()[:5000])


def pickled(folder):
    np.savez(folder / "mimic.npz", series=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda folder: (folder / "mimic.npz").unlink(),
            "mimic.npz is missing; how to make it: .*README.md.* a --data.dir that is empty or not",
        ),
        (truncate, "mimic.npz is damaged"),
        (pickled, "mimic.npz is damaged"),
        (
            lambda folder: (folder / "dataset.json").unlink(),
            "dataset.json is missing",
        ),
        (
            lambda folder: (folder / "dataset.json").write_text("{}"),
            "dataset.json is damaged .*required field variant",
        ),
        (
            save("series", lambda a: a[:, :20]),
            r"series: expected .*\[120, 24, 12\], float32 .*20, 12\].*set --data.steps",
        ),
        (save("static", lambda a: a[:-1]), r"static: expected .* float32 of shape \[119, 5\]"),
        (
            save("static", lambda a: a.astype(str)),
            "static: expected floating-point numbers .*<U",
        ),
        (save("icd9", lambda a: a + 1), "icd9 holds values other than 0 and 1"),
        (save("hadm_id", lambda a: a * 0), "id 0 occurs [0-9]+ times; give"),
    ],
)
def test_bad_data_are_named_with_file_and_remedy(damage, message, mimic_files, tmp_path):
    folder = shutil.copytree(mimic_files, tmp_path / "data")
    damage(folder)
    places = ["--data.dir", str(folder), "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=message):
        main(["--config", MIMIC_CONFIG, "--method", "unimodal_static", *places])
    assert not list((tmp_path / "out").rglob("*"))


def test_unknown_task_and_data_set_are_refused():
    with pytest.raises(
        SettingsError, match="task=icd9_20 is not possible; it takes one of mortality, icd9_0"
    ):
        main(["--config", MIMIC_CONFIG, "--method", "intra", "--task", "icd9_20"])
    with pytest.raises(
        SettingsError, match="dataset='mnist' is unknown here; choose one of avmnist, mimic"
    ):
        main(["--dataset", "mnist", "--method", "intra"])


def test_a_constant_series_and_a_static_feature_nobody_has_still_train(mimic_files, tmp_path):
    folder = shutil.copytree(mimic_files, tmp_path / "data")
    save("series", lambda a: np.full_like(a, 3.7))(folder)
    save("static", lambda a: np.full_like(a, np.nan))(folder)
    data = load_mimic(MIMICConfig(method="i2m2", data=MIMICData(dir=str(folder))))
    assert len(data.facts["constant_features"]) == 17
    assert not data.splits["train"].inputs["series"].any()
    assert torch.isfinite(torch.from_numpy(data.splits["train"].inputs["static"])).all()
