"""Commands that make missing and unfinished runs."""

from pathlib import Path

import msgspec
import yaml

from i2m2.report.missing import command, missing
from i2m2.report.paper import read_specs
from i2m2.report.specs import RowSpec
from i2m2.results import main
from i2m2.runs import collect
from tests.i2m2.conftest import CONFIG, INTER, TRAIN, make_run, make_three, save_predictions


def test_missing_run_repeats_what_its_neighbour_overrides(out):
    data = {"dir": "my data", "train_size": 500, "source": "synthetic"}
    config = CONFIG | {"optim": {"epochs": 1}, "data": data}
    make_run(out, "toy/unimodal_image/seed4", {"accuracy": 0.7, "auroc": 0.8}, config=config)
    main([str(out)])
    repeated = "--optim.epochs 1 --data.dir 'my data' --data.source synthetic --data.train_size 500"
    line = f"- Inter_modality, seed 4: `{TRAIN} {INTER} --seed 4 --out results {repeated}`\n"
    assert line in (out / "toy/table.md").read_text()


def test_a_missing_run_repeats_settings_that_the_config_file_does_not_name(out):
    config = CONFIG | {"method": "unimodal_image", "model": {"rank": 40, "wide": True}}
    (out.parent / "lab/toy.yaml").write_text(yaml.safe_dump({"optim": {"epochs": 3}}))
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7}, config=config)
    spec, runs = read_specs()["toy"][0], collect(out / "toy")
    found = command(spec, spec.rows[1], 0, out / "toy", runs)
    assert "--model.wide true" in found and "--model.rank" not in found


def test_a_table_without_a_run_of_its_own_repeats_what_the_folder_s_other_runs_override(out):
    config = CONFIG | {"optim": {"epochs": 1}, "data": {"dir": "av0", "train_size": None}}
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7}, config=config)
    (table,), runs = read_specs()["toy"], collect(out / "toy")
    args = "--method i2m2 --init scratch"
    rows = [RowSpec(label="Scratch", run="i2m2-concat-scratch", args=args)]
    (text,) = missing(msgspec.structs.replace(table, rows=rows), runs, out / "toy")
    words = "--seed 0 --out results --optim.epochs 1 --data.dir av0"
    assert text == f"Scratch, seed 0: `{TRAIN} {args} {words}`"


def test_a_command_names_a_config_that_there_is_from_the_current_folder(out):
    specs = read_specs()
    words = command(specs["mimic"][0], specs["mimic"][0].rows[0], 0, out / "mimic", []).split()
    config = Path(words[words.index("--config") + 1])
    assert config.is_absolute() and config.is_file()
    assert specs["toy"][0].config == "lab/toy.yaml"


def test_what_is_made_of_predictions_has_a_command_where_there_are_any(out):
    run = make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7, "auroc": 0.8})
    (spec,) = read_specs()["toy"]
    row = RowSpec(label="Product", run="product", command="python -m toy.controls {folder}")
    runs = collect(out / "toy")
    assert command(spec, row, 0, out / "toy", runs) == ""
    save_predictions(run, [True, False])
    assert command(spec, row, 0, out / "toy", runs) == "python -m toy.controls results/toy"
    braces = msgspec.structs.replace(row, command="awk '{print}' {folder}")
    assert command(spec, braces, 0, out / "toy", runs) == "awk '{print}' results/toy"


def test_epochs_that_may_be_another_methods_own_are_not_repeated(out):
    seven = {"optim": {"epochs": 7}}
    per_method = CONFIG | {"per_method": {"unimodal": seven}}
    (out.parent / "lab/toy.yaml").write_text(yaml.safe_dump(per_method))
    test = {"accuracy": 0.7, "auroc": 0.8}
    make_run(out, "toy/unimodal_image/seed0", test, config=CONFIG | seven)
    main([str(out)])
    assert "--optim.epochs" not in (out / "toy/table.md").read_text()


def test_unfinished_runs_are_listed_and_not_counted(out):
    make_three(out)
    make_run(out, "toy/i2m2-concat/seed1", None)
    (out / "toy/inter-concat/seed0").mkdir(parents=True)  # interrupted before it had a config
    make_run(out, "toy/i2m2-concat-try/seed0", None)
    main([str(out)])
    text = (out / "toy/table.md").read_text()
    assert "| I2M2 | 75.0 (1) |" in text and "Further runs" not in text
    go_on = "python -m toy.train --config results/toy"
    assert text.endswith(f"""\
### Missing runs

- Inter_modality, seed 1: `{TRAIN} {INTER} --seed 1 --out results`

### Unfinished runs

- results/toy/i2m2-concat/seed1: `{go_on}/i2m2-concat/seed1/config.yaml --out results`
- results/toy/i2m2-concat-try/seed0: `{go_on}/i2m2-concat-try/seed0/config.yaml --out results`
- results/toy/inter-concat/seed0: `{TRAIN} {INTER} --seed 0 --out results`
""")


def test_a_missing_run_repeats_what_all_beside_it_were_given(out):
    file = CONFIG | {
        "model": {"rank": 40, "wide": False},
        "per_method": {"inter": {"optim": {"lr": 0.5}}},
    }
    (out.parent / "lab/toy.yaml").write_text(yaml.safe_dump(file))
    given = CONFIG | {"model": {"rank": 7, "wide": True}, "optim": {"epochs": 3, "lr": 0.1}}
    of_image = given | {"method": "unimodal_image"}
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7}, config=of_image)
    of_i2m2 = given | {"method": "i2m2", "model": {"rank": 7, "wide": False}}
    make_run(out, "toy/i2m2-concat/seed0", {"accuracy": 0.7}, config=of_i2m2)
    spec, runs = read_specs()["toy"][0], collect(out / "toy")
    image, inter, i2m2 = (command(spec, row, 1, out / "toy", runs) for row in spec.rows)
    assert inter.endswith("--out results --model.rank 7 --optim.lr 0.1"), inter
    assert "--model.rank 7" in image and "--model.wide true" in image
    assert "--model.wide" not in i2m2
