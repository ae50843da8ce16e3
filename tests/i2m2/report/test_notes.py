"""What a reader must know to judge a table, and whether a row is as in the paper."""

import json
from pathlib import Path

import pytest
import yaml

from i2m2.results import main
from tests.i2m2.conftest import CONFIG, ENV, FACTS, make_run, make_three, row_of


@pytest.mark.parametrize("mark", ["env", "config", "one run of three"])
def test_synthetic_data_are_labelled_and_stand_beside_no_number_of_the_paper(out, mark):
    synthetic = {"data": FACTS | {"synthetic": True}}
    config = CONFIG | {"data": {"source": "synthetic"}}
    marks = {"env": {"env": synthetic}, "config": {"config": config}}
    make_three(out, **marks.get(mark, {}))
    if mark == "one run of three":
        (out / "toy/i2m2-concat/seed0/env.json").write_text(json.dumps(synthetic))
    main([str(out)])
    for kind in ("md", "tex", "csv"):
        text = (out / f"toy/table.{kind}").read_text()
        assert "synthetic" in text.lower()
        assert not any(number in text for number in ("72.38", "70.00", "0.7,"))
    lines = (out / "toy/table.md").read_text().splitlines()
    assert lines[0] == "## Table 9: Toys & co (toy, variant v1, SYNTHETIC data, 2 seeds)"
    assert lines[2] == "| model | accuracy | auroc |"
    assert sum(line.endswith("no row can be judged.") for line in lines) == 1


def test_data_of_unrecorded_origin_are_not_compared_with_the_paper(out):
    make_three(out, env=None)
    main([str(out)])
    text = (out / "toy/table.md").read_text()
    assert "(toy, origin of the data not recorded, 2 seeds)" in text and "72.38" not in text


def test_where_there_is_no_paper_no_numbers_of_it_are_said_to_be_hidden(out, capsys):
    make_run(out, "own/inter/seed0", {"accuracy": 0.5}, env=None)
    main([str(out)])
    printed = capsys.readouterr().out
    assert "## own: all runs (own, origin of the data not recorded, 1 seed)" in printed
    assert "the paper's numbers" not in printed and "judged" not in printed


def test_another_variant_of_the_data_stands_beside_no_number_of_the_paper(out):
    make_run(out, "toy-rebuilt/unimodal_image/seed0", {"accuracy": 0.71, "auroc": 0.8})
    main([str(out)])
    text = (out / "toy-rebuilt/table.md").read_text()
    assert "70.00" not in text and "72.38" not in text
    assert "another variant of the data than the paper's" in text


def test_the_class_frequencies_stand_above_and_what_is_no_share_is_not_in_percent(out):
    env = {"data": FACTS | {"baseline": {"accuracy": 0.6, "nll": 0.5}}}
    paper = Path("lab/paper.yaml")
    paper.write_text(paper.read_text().replace("[accuracy, auroc]", "[accuracy, nll]"))
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.71, "nll": 1.25}, env=env)
    main([str(out)])
    lines = (out / "toy/table.md").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("| model"))
    assert lines[place + 2] == "| Majority class (class frequencies) | 60.0 | 0.500 | - |"
    assert lines[place + 3].startswith("| Image | 71.0 (1) | 1.250 (1) |")
    assert "In percent (not nll)" in (out / "toy/table.tex").read_text()
    line = "Majority class (class frequencies),,nll,0.5,,,,0,,real"
    assert line in (out / "toy/table.csv").read_text()


def test_differing_budgets_and_data_files_are_said(out):
    make_three(out)
    config = CONFIG | {"optim": {"epochs": 1}, "data": {"train_size": 100}}
    env = {"data": FACTS | {"fingerprint": "g"}}
    make_run(out, "toy/inter-concat/seed0", {"accuracy": 0.6, "auroc": 0.7}, config=config, env=env)
    main([str(out)])
    text = (out / "toy/table.md").read_text()
    assert (
        "- The rows were made with DIFFERENT budgets: 3 epochs, all training examples, preset "
        "paper (Image, I2M2); 1 epoch, 100 training examples, preset paper (Inter_modality).\n"
    ) in text
    assert (
        "- The runs did NOT all read the same data files, as the fingerprints in their env.json "
        "say: f (Image, I2M2); g (Inter_modality).\n"
    ) in text


def test_a_seed_of_other_settings_than_its_config_file_is_named(out):
    """What the config file has per method, and what a row's arguments say, is no departure."""
    per_method = {"inter": {"optim": {"lr": 0.5}}}
    shipped = CONFIG | {"optim": {"epochs": 3, "lr": 0.1}, "per_method": per_method}
    Path("lab/toy.yaml").write_text(yaml.safe_dump(shipped))

    def config(method: str, lr: float) -> dict:
        return CONFIG | {"method": method, "optim": {"epochs": 3, "lr": lr}}

    test = {"accuracy": 0.7, "auroc": 0.8}
    make_run(out, "toy/unimodal_image/seed0", test, config=config("unimodal_image", 0.1))
    make_run(out, "toy/inter-concat/seed0", test, config=config("inter", 0.5))
    main([str(out)])
    assert "DIFFERENT settings" not in (out / "toy/table.md").read_text()
    make_run(out, "toy/unimodal_image/seed1", test, config=config("unimodal_image", 0.2))
    main([str(out)])
    assert (
        "- The runs were made with DIFFERENT settings: optim.lr as configured (Image seed 0, "
        "Inter_modality); 0.2 (Image seed 1).\n"
    ) in (out / "toy/table.md").read_text()


def test_a_row_of_five_seeds_is_judged_against_the_paper(out, capsys):
    for seed, value in enumerate((0.69, 0.70, 0.71, 0.70, 0.71)):
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": value, "auroc": 0.8})
    main([str(out)])
    cells = "| 70.2 ± 0.8 (5) | 80.0 ± 0.0 (5) | 70.00 ± 0.50 | reproduced (within 1) |"
    assert cells in capsys.readouterr().out
    result = out / "toy/unimodal_image/seed4/result.json"
    result.write_text(json.dumps({"test": {"accuracy": 0.80, "auroc": 0.8}}))
    main([str(out)])
    # The mean of 69, 70, 71, 70 and 80 is 72.
    assert "| differs by +2.0 |" in capsys.readouterr().out


def test_the_best_of_two_rows_is_judged_by_the_value_that_is_known_of_the_best(out, capsys):
    for seed in range(5):
        make_run(out, f"toy/inter-concat/seed{seed}", {"accuracy": 0.71, "auroc": 0.8})
        make_run(out, f"toy/i2m2-concat/seed{seed}", {"accuracy": 0.72, "auroc": 0.8})
    main([str(out)])
    printed = capsys.readouterr().out
    assert "| - | reproduced (within 1), as the best of its rows |" in printed  # 72 against 72.38
    assert "| - | not judged: the paper's value is that of the best of several rows |" in printed


def test_a_row_is_judged_by_every_metric_that_the_paper_gives(out, capsys):
    path = Path("lab/paper.yaml")
    of_accuracy = "accuracy: {value: 70, std: 0.5, source: page 3}"
    path.write_text(path.read_text().replace(of_accuracy, "auroc: {value: 90}"))
    for seed in range(5):
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": 0.71, "auroc": 0.8})
        make_run(out, f"toy/i2m2-concat/seed{seed}", {"accuracy": 0.75, "auroc": 0.9})
    main([str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert "| model | accuracy | auroc | auroc, paper | verdict |" in lines
    cells = "71.0 ± 0.0 (5) | 80.0 ± 0.0 (5) | 90.00 | auroc: differs by -10.0"
    assert f"| Image | {cells} |" in lines


def test_settings_that_the_config_file_leaves_to_their_defaults_are_compared_too(out, capsys):
    config = CONFIG | {"method": "unimodal_image", "optim": {"epochs": 3, "schedule": "cosine"}}
    test = {"accuracy": 0.7, "auroc": 0.8}
    for seed in range(5):
        make_run(out, f"toy/unimodal_image/seed{seed}", test, config=config)
    main([str(out)])
    why = "other settings (optim.schedule) (Image); no finished run (Inter_modality, I2M2)"
    assert f"- No row is judged: {why}.\n" in capsys.readouterr().out


def test_seeds_of_different_data_are_not_judged(out, capsys):
    for seed in range(5):
        env = ENV | {"data": FACTS | {"fingerprint": "g" if seed == 3 else "f"}}
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": 0.702, "auroc": 0.5}, env=env)
    main([str(out)])
    assert "- No row is judged: its seeds read different data (Image)" in capsys.readouterr().out


def test_verdicts_are_a_column_where_a_row_is_judged_and_else_one_note(out):
    path = Path("lab/paper.yaml")
    text = path.read_text().replace("paper: {accuracy:", "paper: {auroc:")
    path.write_text(
        text.partition("    best:")[0].replace("auroc: {value: 70, std: 0.5", "auroc: {value: 80")
    )
    files = [out / "toy/table.md", out / "toy/table.tex", out / "report.html"]
    for seed in range(5):
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": 0.7, "auroc": 0.8})
        main([str(out)])
        for file in files:
            shown = file.read_text()
            assert ("verdict" in shown) == (seed == 4), file
            assert shown.count("No row is judged") == (seed < 4), file
    assert (
        "| Image | 70.0 ± 0.0 (5) | 80.0 ± 0.0 (5) | 80.00 | auroc: reproduced"
        in files[0].read_text()
    )
    for row in ("Inter_modality", "I2M2"):
        assert row_of(files[0].read_text(), row).endswith("not judged: no finished run |")
