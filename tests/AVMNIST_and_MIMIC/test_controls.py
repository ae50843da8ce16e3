"""Products of AV-MNIST's separately trained networks, from predictions made by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import log_softmax

from AVMNIST_and_MIMIC.controls import main
from i2m2.errors import DataError, SettingsError
from i2m2.report.fill import tables_of
from i2m2.report.paper import read_specs
from i2m2.report.render import to_markdown
from i2m2.report.tables import rendered
from i2m2.runs import collect, read_environment

PARTS = ("unimodal_image", "unimodal_audio", "inter-concat", "inter-low_rank_tensor")
PRODUCTS = ("image-audio", "image-audio-inter-concat", "image-audio-inter-low_rank_tensor")


@pytest.fixture
def results(tmp_path) -> Path:
    """`avmnist` with seed 0 of every part, and seed 1 of the unimodal ones."""
    for name in PARTS:
        for seed in (0, 1) if name.startswith("unimodal") else (0,):
            make_run(tmp_path / "avmnist" / name / f"seed{seed}", seed)
    return tmp_path


def make_run(run: Path, seed: int, draw: int = 0, train_size: int | None = None) -> None:
    run.mkdir(parents=True, exist_ok=True)
    name = run.parent.name
    rng = np.random.default_rng([*name.encode(), seed, draw])
    for split in ("val", "test"):
        y, places = np.arange(30) % 10, np.arange(30)
        log_prob = log_softmax(rng.normal(size=(30, 10)), axis=1).astype(np.float32)
        columns = {"id": places, "group": places, "y": y, "log_prob": log_prob}
        np.savez(run / f"predictions_{split}.npz", **columns)
    config = {"dataset": "avmnist", "method": name.removesuffix("-concat"), "seed": seed}
    config |= {"data": {"train_size": train_size}}
    config["method"] = config["method"].removesuffix("-low_rank_tensor")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"variant": "calibrated", "synthetic": False, "description": "made by hand"}
    (run / "env.json").write_text(json.dumps({"data": facts}))
    (run / "result.json").write_text(json.dumps({"test": {"accuracy": 0.1, "nll": 3.0}}))
    (run / "DONE").touch()


def made(results: Path) -> list[str]:
    products = results.glob("*/product-*/*/DONE")
    return sorted(str(path.parent.relative_to(results)) for path in products)


def test_every_product_is_made_of_the_seeds_that_its_parts_share(results, capsys):
    moved = results / "avmnist/unimodal_audio/seed7"  # its config.yaml says seed 0
    (results / "avmnist/unimodal_audio/seed0").rename(moved)
    main([str(results)])
    folders = [f"avmnist/product-{name}/seed0" for name in PRODUCTS]
    assert made(results) == sorted([*folders, "avmnist/product-image-audio/seed1"])
    parts = read_environment(results / folders[0])["product_of"]
    assert parts == [str(results / "avmnist/unimodal_image/seed0"), str(moved)]
    assert "not made" not in capsys.readouterr().out


def test_beside_folders_without_finished_runs_and_what_cannot_be_read_all_others_are_made(results):
    (results / "avmnist-notes").mkdir()
    (results / "avmnist.txt").touch()
    make_run(results / "avmnist-easy/intra/seed0", 0)
    (results / "avmnist-easy/intra/seed0/DONE").unlink()
    (results / "avmnist/inter-concat/seed0/predictions_val.npz").write_text("damaged")
    with pytest.raises(DataError, match="inter-concat/seed0/predictions_val.npz is damaged"):
        main([str(results)])
    assert made(results) == [
        "avmnist/product-image-audio-inter-low_rank_tensor/seed0",
        "avmnist/product-image-audio/seed0",
        "avmnist/product-image-audio/seed1",
    ]


def test_a_part_whose_files_are_damaged_is_named(results):
    damaged = results / "avmnist/unimodal_image/seed1/result.json"
    damaged.write_text("{")
    with pytest.raises(DataError, match=f"{damaged} is damaged"):
        main([str(results)])
    assert "avmnist/product-image-audio/seed0" in made(results)
    (results / "avmnist/product-image-audio/seed0/result.json").write_text("{")
    damaged.write_text('{"test": {"accuracy": 0.1}}')
    main([str(results)])  # a product is made again
    assert "avmnist/product-image-audio/seed1" in made(results)


def test_where_nothing_is_finished_it_says_so(tmp_path):
    with pytest.raises(SettingsError, match="no runs in it; train first$"):
        main([str(tmp_path)])


def test_runs_of_another_data_set_are_refused_and_beside_its_own_left_alone(results):
    run = results / "mimic/inter-concat/seed0"
    make_run(run, 0)
    (run / "config.yaml").write_text(yaml.safe_dump({"dataset": "mimic", "seed": 0}))
    main([str(results)])
    shutil.rmtree(results / "avmnist")
    for folder in (results, results / "mimic"):
        with pytest.raises(SettingsError, match=f"^{folder}: holds no run of AV-MNIST"):
            main([str(folder)])


def test_a_product_of_what_has_been_trained_anew_is_in_no_table_until_it_is_made_again(results):
    main([str(results)])
    make_run(results / "avmnist/unimodal_image/seed0", 0, draw=1, train_size=50)
    text = separate_and_joint(results / "avmnist")
    assert "| Image x audio x inter LF, separate | missing" in text
    why = "unimodal_image/seed0 as that is now; give the `controls` command of this data set again"
    assert text.count(why) == 3
    main([str(results)])
    text = separate_and_joint(results / "avmnist")
    assert "separate | missing" not in text and why not in text
    # Its parts have seen different numbers of examples.
    assert "several numbers of training examples (Image x audio, separate seed 0" in text


def separate_and_joint(folder: Path) -> str:
    tables, _ = tables_of(folder, collect(folder), read_specs())
    return to_markdown(rendered(tables[1]))
