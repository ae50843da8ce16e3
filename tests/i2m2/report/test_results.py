"""Tables against tables worked by hand, missing and unfinished runs, synthetic data, bad input."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from i2m2.errors import DataError, SettingsError
from i2m2.report.render import Sheet, escape, to_latex
from i2m2.report.tables import cell, read_entries, read_paper
from i2m2.results import main
from i2m2.runs import collect, require_predictions

ROOT = Path(__file__).resolve().parents[3]

# A made-up data set with a made-up paper: one value known for a row, one known only as the best of
# two rows.
PAPER = """
toy:
  - name: Table 9
    title: Toys & co
    metrics: [accuracy, auroc]
    train: python -m toy.train
    config: lab/toy.yaml
    source: the rest is not known.
    rows:
      - {label: Image, run: unimodal_image, args: --method unimodal_image, paper: {accuracy: {value: 70, std: 0.5, source: page 3}}}
      - {label: Inter_modality, run: inter-concat, args: --method inter --fusion concat}
      - {label: I2M2, run: i2m2-concat, args: --method i2m2 --fusion concat}
    best: {value: 72.38, rows: [inter-concat, i2m2-concat], source: a leaderboard, certainty: second-hand}
"""
CONFIG = {
    "preset": "paper",
    "tag": None,
    "optim": {"epochs": 3},
    "data": {"dir": "data/toy", "train_size": None},
}
ENV = {
    "data": {
        "variant": "v1",
        "synthetic": False,
        "description": "Made by hand.",
        "fingerprint": "f",
    }
}


@pytest.fixture
def out(tmp_path, monkeypatch) -> Path:
    """The results folder of a current directory that knows the data set `toy`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "paper.yaml").write_text(PAPER)
    (tmp_path / "lab" / "toy.yaml").write_text(yaml.safe_dump(CONFIG))
    return Path("results")


def make_run(
    out: Path, name: str, test: dict | None, config: dict = CONFIG, env: dict | None = ENV
) -> Path:
    """A run's folder, `name` being `<dataset>/<run>/seed<k>`; `test` None leaves it unfinished."""
    path = out / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if env is not None:
        (path / "env.json").write_text(json.dumps(env))
    if test is not None:
        (path / "result.json").write_text(
            json.dumps({"val": {"accuracy": 0.99, "auroc": 0.99}, "test": test})
        )
        (path / "DONE").touch()
    return path


def make_three(out: Path, **kwargs) -> None:
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.71, "auroc": 0.8}, **kwargs)
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.73, "auroc": None}, **kwargs)
    make_run(out, "toy/i2m2-concat/seed0", {"accuracy": 0.75, "auroc": 0.9}, **kwargs)


# By hand: mean of 71 and 73 is 72, squared deviations 1 + 1, over n - 1 = 1, square root of 2 is
# 1.414.
MARKDOWN = """\
## Table 9: Toys & co (toy, variant v1, real data, 2 seeds)

| model | accuracy | auroc | accuracy, paper | verdict |
|---|---:|---:|---:|---:|
| Image | 72.0 ± 1.4 (2) | 80.0 (1) | 70.00 ± 0.50 | not judged: 2 of 5 seeds |
| Inter_modality | missing | missing | - | not judged: no finished run |
| I2M2 | 75.0 (1) | 90.0 (1) | - | not judged: 1 of 5 seeds |

- In percent: mean ± sample standard deviation over the seeds (number of seeds).
- Data: Made by hand.
- Budget: 3 epochs, all training examples, preset paper.
- Paper, Image, accuracy: 70.00 ± 0.50 (page 3).
- Paper, the best of Inter_modality and I2M2: 72.38 (a leaderboard; second-hand).
- Paper: the rest is not known.

### Missing runs

- Inter_modality, seed 0: `python -m toy.train --config lab/toy.yaml --method inter --fusion concat --seed 0 --out results`
- Inter_modality, seed 1: `python -m toy.train --config lab/toy.yaml --method inter --fusion concat --seed 1 --out results`
- I2M2, seed 1: `python -m toy.train --config lab/toy.yaml --method i2m2 --fusion concat --seed 1 --out results`
"""

LATEX = r"""\begin{table}
\centering
\caption{Table 9: Toys \& co (toy, variant v1, real data, 2 seeds). In percent: """ + (
    r"""mean $\pm$ sample standard deviation over the seeds (number of seeds).}
\begin{tabular}{lrrrr}
\toprule
model & accuracy & auroc & accuracy, paper & verdict \\
\midrule
Image & 72.0 $\pm$ 1.4 (2) & 80.0 (1) & 70.00 $\pm$ 0.50 & not judged: 2 of 5 seeds \\
Inter\_modality & missing & missing & - & not judged: no finished run \\
I2M2 & 75.0 (1) & 90.0 (1) & - & not judged: 1 of 5 seeds \\
\bottomrule
\end{tabular}
\par\medskip\raggedright\footnotesize
Data: Made by hand.\par
Budget: 3 epochs, all training examples, preset paper.\par
Paper, Image, accuracy: 70.00 $\pm$ 0.50 (page 3).\par
Paper, the best of Inter\_modality and I2M2: 72.38 (a leaderboard; second-hand).\par
Paper: the rest is not known.\par
Missing runs: Inter\_modality, seed 0: python -m toy.train -{}-config lab/toy.yaml -{}-method inter -{}-fusion concat -{}-seed 0 """
    + r"""-{}-out results\par
Missing runs: Inter\_modality, seed 1: python -m toy.train -{}-config lab/toy.yaml -{}-method inter -{}-fusion concat -{}-seed 1 """
    + r"""-{}-out results\par
Missing runs: I2M2, seed 1: python -m toy.train -{}-config lab/toy.yaml -{}-method i2m2 -{}-fusion concat -{}-seed 1 """
    + r"""-{}-out results\par
\end{table}
"""
)

CSV = """\
row,run,metric,mean,std,low,high,seeds,paper,data,verdict,missing
Image,unimodal_image,accuracy,0.72,0.01414213562,,,2,0.7,real,not judged: 2 of 5 seeds,
Image,unimodal_image,auroc,0.8,,,,1,,real,not judged: 2 of 5 seeds,
Inter_modality,inter-concat,accuracy,,,,,0,,real,not judged: no finished run,0 1
Inter_modality,inter-concat,auroc,,,,,0,,real,not judged: no finished run,0 1
I2M2,i2m2-concat,accuracy,0.75,,,,1,,real,not judged: 1 of 5 seeds,1
I2M2,i2m2-concat,auroc,0.9,,,,1,,real,not judged: 1 of 5 seeds,1
the best of Inter_modality and I2M2,,accuracy,,,,,0,0.7238,real,,
"""


def test_tables_of_three_runs_equal_the_ones_worked_by_hand(out, capsys):
    make_three(out)
    main([str(out)])
    assert (out / "toy/table.md").read_text(encoding="utf-8") == MARKDOWN
    assert (out / "toy/table.tex").read_text(encoding="utf-8") == LATEX
    assert (out / "toy/table.csv").read_text(encoding="utf-8") == CSV
    names = ["table.md", "table.tex", "table.csv", "figure.png", "figure.pdf"]
    assert capsys.readouterr().out == MARKDOWN + "\nwritten:\n" + "".join(
        f"  results/{name}\n" for name in (*(f"toy/{name}" for name in names), "report.html")
    )


def test_figure_files_are_images_with_something_on_them(out):
    make_three(out)
    main([str(out)])
    png, pdf = (out / "toy/figure.png").read_bytes(), (out / "toy/figure.pdf").read_bytes()
    assert png.startswith(b"\x89PNG\r\n") and len(png) > 10_000
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and len(pdf) > 5_000
    assert not list((out / "toy").glob(".*"))  # no temporary files left


@pytest.mark.parametrize(
    "values, text",
    [
        ([], "missing"),
        ([0.724], "72.4 (1)"),
        ([0.71, 0.73], "72.0 ± 1.4 (2)"),
        ([0.5, 0.5, 0.5], "50.0 ± 0.0 (3)"),
        (
            [0.70, 0.72, 0.74, 0.76],
            "73.0 ± 2.6 (4)",
        ),  # deviations 3 1 1 3: 20 / (4 - 1) = 6.67, root 2.58; over n it would be 2.2
    ],
)
def test_cell_is_percent_with_the_sample_deviation(values, text):
    assert cell(values) == text


def test_latex_escapes_what_latex_reads_as_commands():
    assert (
        escape(r"50 % of a_b & {c}~\d ±")
        == r"50 \% of a\_b \& \{c\}\textasciitilde{}\textbackslash{}d $\pm$"
    )


def test_a_label_in_brackets_is_no_argument_of_a_rule():
    sheet = Sheet(title="Table 9: toys", grids={"": [["model", "x"], ["[a]", "[1]"], ["*", "2"]]})
    assert "\\midrule\n{}[a] & [1] \\\\\n{}* & 2 \\\\\n" in to_latex(sheet)


def test_missing_run_repeats_what_its_neighbour_overrides(out):
    config = {
        **CONFIG,
        "optim": {"epochs": 1},
        "data": {"dir": "my data", "train_size": 500, "source": "synthetic"},
    }
    make_run(out, "toy/unimodal_image/seed4", {"accuracy": 0.7, "auroc": 0.8}, config=config)
    main([str(out)])
    command = (
        "python -m toy.train --config lab/toy.yaml --method inter --fusion concat --seed 4 --out results "
        "--optim.epochs 1 --data.dir 'my data' --data.source synthetic --data.train_size 500"
    )
    assert f"- Inter_modality, seed 4: `{command}`\n" in (out / "toy/table.md").read_text()


def test_epochs_that_may_be_another_methods_own_are_not_repeated(out):
    (out.parent / "lab" / "toy.yaml").write_text(
        yaml.safe_dump(CONFIG | {"per_method": {"unimodal": {"optim": {"epochs": 7}}}})
    )
    make_run(
        out,
        "toy/unimodal_image/seed0",
        {"accuracy": 0.7, "auroc": 0.8},
        config=CONFIG | {"optim": {"epochs": 7}},
    )
    main([str(out)])
    assert "--optim.epochs" not in (out / "toy/table.md").read_text()


def test_unfinished_runs_are_listed_and_not_counted(out):
    make_three(out)
    make_run(out, "toy/i2m2-concat/seed1", None)
    (out / "toy/inter-concat/seed0").mkdir(parents=True)  # broken off before its config was written
    make_run(out, "toy/i2m2-concat-try/seed0", None)
    main([str(out)])
    text = (out / "toy/table.md").read_text()
    assert "| I2M2 | 75.0 (1) |" in text and "Further runs" not in text
    assert text.endswith("""\
### Missing runs

- Inter_modality, seed 1: `python -m toy.train --config lab/toy.yaml --method inter --fusion concat --seed 1 --out results`

### Unfinished runs

- results/toy/i2m2-concat/seed1: `python -m toy.train --config results/toy/i2m2-concat/seed1/config.yaml`
- results/toy/i2m2-concat-try/seed0: `python -m toy.train --config results/toy/i2m2-concat-try/seed0/config.yaml`
- results/toy/inter-concat/seed0: `python -m toy.train --config lab/toy.yaml --method inter --fusion concat --seed 0 --out results`
""")


def test_runs_that_are_no_rows_of_the_paper_make_a_second_table(out):
    make_three(out)
    make_run(out, "toy/i2m2-concat-scratch/seed0", {"accuracy": 0.6, "auroc": 0.7})
    make_run(out, "toy/unimodal_image-small/seed0", {"accuracy": 0.5, "auroc": 0.6})
    main([str(out)])
    further = """
### Further runs

| run | accuracy | auroc |
|---|---:|---:|
| unimodal_image-small | 50.0 (1) | 60.0 (1) |
| i2m2-concat-scratch | 60.0 (1) | 70.0 (1) |
"""
    assert further in (out / "toy/table.md").read_text()
    assert r"i2m2-concat-scratch & 60.0 (1) & 70.0 (1) \\" in (out / "toy/table.tex").read_text()
    assert (
        "i2m2-concat-scratch,i2m2-concat-scratch,accuracy,0.6,,,,1,,real,,\n"
        in (out / "toy/table.csv").read_text()
    )


@pytest.mark.parametrize("mark", ["env", "config", "one run of three"])
def test_synthetic_data_are_labelled_and_stand_beside_no_number_of_the_paper(out, mark):
    synthetic = {"data": ENV["data"] | {"synthetic": True}}
    kwargs = {
        "env": {"env": synthetic},
        "config": {"config": CONFIG | {"data": {"source": "synthetic"}}},
    }
    make_three(out, **kwargs.get(mark, {}))
    if mark == "one run of three":
        (out / "toy/i2m2-concat/seed0/env.json").write_text(json.dumps(synthetic))
    main([str(out)])
    for kind in ("md", "tex", "csv"):
        text = (out / f"toy/table.{kind}").read_text()
        assert (
            "synthetic" in text.lower()
            and "72.38" not in text
            and "70.00" not in text
            and "0.7," not in text
        )
    lines = (out / "toy/table.md").read_text().splitlines()
    assert lines[0] == "## Table 9: Toys & co (toy, variant v1, SYNTHETIC data, 2 seeds)"
    assert lines[2] == "| model | accuracy | auroc | verdict |"
    assert sum(line.endswith("| not judged: synthetic data |") for line in lines) == 2


def test_data_of_unrecorded_origin_are_not_compared_with_the_paper(out):
    make_three(out, env=None)
    main([str(out)])
    text = (out / "toy/table.md").read_text()
    assert "(toy, origin of the data not recorded, 2 seeds)" in text and "72.38" not in text


def test_another_variant_of_the_data_stands_beside_no_number_of_the_paper(out):
    make_run(out, "toy-rebuilt/unimodal_image/seed0", {"accuracy": 0.71, "auroc": 0.8})
    main([str(out)])
    text = (out / "toy-rebuilt/table.md").read_text()
    assert (
        "70.00" not in text
        and "72.38" not in text
        and "Another variant of the data than the paper's" in text
    )


def test_the_class_frequencies_stand_above_and_what_is_no_share_is_not_in_percent(out):
    env = {"data": ENV["data"] | {"baseline": {"accuracy": 0.6, "nll": 0.5}}}
    paper = Path("lab/paper.yaml")
    paper.write_text(paper.read_text().replace("[accuracy, auroc]", "[accuracy, nll]"))
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.71, "nll": 1.25}, env=env)
    main([str(out)])
    lines = (out / "toy/table.md").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("| model"))
    assert lines[place + 2] == "| Majority class (class frequencies) | 60.0 | 0.500 | - | - |"
    assert lines[place + 3].startswith("| Image | 71.0 (1) | 1.250 (1) |")
    assert "In percent (not nll)" in (out / "toy/table.tex").read_text()
    assert (
        "Majority class (class frequencies),,nll,0.5,,,,0,,real"
        in (out / "toy/table.csv").read_text()
    )


def test_differing_budgets_and_data_files_are_said(out):
    make_three(out)
    config = CONFIG | {"optim": {"epochs": 1}, "data": {"train_size": 100}}
    env = {"data": ENV["data"] | {"fingerprint": "g"}}
    make_run(out, "toy/inter-concat/seed0", {"accuracy": 0.6, "auroc": 0.7}, config=config, env=env)
    main([str(out)])
    text = (out / "toy/table.md").read_text()
    assert (
        "- The rows were made with DIFFERENT budgets: 3 epochs, all training examples, preset paper (Image, I2M2); "
        "1 epoch, 100 training examples, preset paper (Inter_modality).\n"
    ) in text
    assert (
        "- The runs did NOT all read the same data files, as the fingerprints in their env.json say: f (Image, I2M2); "
        "g (Inter_modality).\n"
    ) in text


def test_a_seed_of_other_settings_than_its_config_file_is_named(out):
    """What the config file itself has per method, and what a row's arguments say, is no departure."""
    shipped = CONFIG | {
        "optim": {"epochs": 3, "lr": 0.1},
        "per_method": {"inter": {"optim": {"lr": 0.5}}},
    }
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
        "- The runs were made with DIFFERENT settings: optim.lr as configured (Image seed 0, Inter_modality); 0.2 (Image seed 1).\n"
    ) in (out / "toy/table.md").read_text()


def test_dataset_selects_its_variants_and_a_folder_no_paper_knows_is_a_plain_table(out, capsys):
    make_run(out, "toy-small/i2m2-concat/seed0", {"accuracy": 0.75, "auroc": 0.9})
    make_run(out, "own/inter/seed0", {"accuracy": 0.5, "nll": 1.2})
    main([str(out), "--dataset", "toy"])
    assert (
        "Table 9: Toys & co (toy-small, variant v1, real data, 1 seed)" in capsys.readouterr().out
    )
    assert not (out / "own/table.md").exists()
    main([str(out), "--dataset", "own"])
    table = "| model | accuracy | nll |\n|---|---:|---:|\n| inter | 50.0 (1) | 1.200 (1) |\n"
    assert (
        f"## own: all runs (own, variant v1, real data, 1 seed)\n\n{table}"
        in capsys.readouterr().out
    )


def test_figure_shows_the_further_runs_where_no_row_has_any(out):
    make_run(out, "toy/i2m2-concat-try/seed0", {"accuracy": 0.75, "auroc": 0.9})
    main([str(out)])
    assert "| I2M2 | missing |" in (out / "toy/table.md").read_text()
    assert (out / "toy/figure.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    "content, message",
    [
        ("{not json", "cannot be read"),
        ("[1]", "holds no mapping"),
        ('{"val": {}}', "has no 'test'"),
        ('{"test": {"auroc": 0.5}}', "test accuracy is absent"),
        ('{"test": {"accuracy": 72.4, "auroc": 0.5}}', "between 0 and 1"),
        ('{"test": {"accuracy": NaN, "auroc": 0.5}}', "between 0 and 1"),
        (None, "is missing although"),
    ],
)
def test_corrupt_result_is_a_data_error_that_names_the_file(out, content, message):
    make_three(out)
    path = out / "toy/i2m2-concat/seed0/result.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        main([str(out)])
    assert str(path) in str(error.value)
    assert not (out / "toy/table.md").exists()


def test_wrong_settings_say_what_there_is_and_what_to_do(out):
    command = (
        "python -m toy.train --config lab/toy.yaml --method unimodal_image --seed 0 --out results"
    )
    with pytest.raises(SettingsError, match="no such results folder"):
        main([str(out)])
    out.mkdir()
    with pytest.raises(SettingsError, match=f"no runs in it; make one with: {command}"):
        main([str(out), "--dataset", "toy"])
    make_run(out, "toy/unimodal_image/seed0", None)
    with pytest.raises(
        SettingsError, match=f"none of its 1 runs is finished; make one with: {command}"
    ):
        main([str(out), "--dataset", "toy"])
    with pytest.raises(SettingsError, match="no runs of data set 'toi'; found: toy$"):
        main([str(out), "--dataset", "toi"])
    with pytest.raises(
        SettingsError,
        match="is one data set's folder; give the one above it: results --dataset toy",
    ):
        main([str(out / "toy")])


def test_wrong_paper_file_is_named(out):
    make_three(out)
    Path("lab/paper.yaml").write_text("toy: [{name: x, titel: y, metrics: [accuracy], rows: []}]")
    with pytest.raises(SettingsError, match="lab/paper.yaml.*titel"):
        main([str(out)])


def test_collect_reads_only_seed_folders_in_order(out):
    for name in ("toy/b/seed10", "toy/b/seed9", "toy/a/seed0", "toy/a/seedling"):
        make_run(out, name, {"accuracy": 0.5})
    (out / "toy/table.md").touch()
    assert [(run.name, run.seed) for run in collect(out / "toy")] == [("a", 0), ("b", 9), ("b", 10)]


def test_avmnist_tables_have_the_papers_seven_rows_and_its_one_known_number():
    tables = read_paper(ROOT / "AVMNIST_and_MIMIC" / "paper.yaml")
    (real,), (digits,) = tables["avmnist"], tables["avmnist-digits"]
    labels = [
        "Image",
        "Audio",
        "Intra-modality",
        "Inter-modality LF",
        "Inter-modality LRTF",
        "I2M2 LF",
        "I2M2 LRTF",
    ]
    assert [row.label for row in real.rows] == [row.label for row in digits.rows] == labels
    for row in real.rows:  # the folder's name is what the arguments make: <method>[-<fusion>]
        assert row.run == "-".join(word for word in row.args.split() if not word.startswith("--"))
    assert real.best.value == 72.38 and set(real.best.rows) <= {row.run for row in real.rows}
    assert not any(row.paper for row in real.rows)
    assert digits.synthetic and not real.synthetic


def test_a_row_of_five_seeds_is_judged_against_the_paper(out, capsys):
    for seed, value in enumerate((0.69, 0.70, 0.71, 0.70, 0.71)):
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": value, "auroc": 0.8})
    main([str(out)])
    assert (
        "| 70.2 ± 0.8 (5) | 80.0 ± 0.0 (5) | 70.00 ± 0.50 | reproduced (within 1) |"
        in capsys.readouterr().out
    )
    (out / "toy/unimodal_image/seed4/result.json").write_text(
        json.dumps({"test": {"accuracy": 0.80, "auroc": 0.8}})
    )
    main([str(out)])
    assert (
        "| differs by +2.0 |" in capsys.readouterr().out
    )  # the mean of 69, 70, 71, 70 and 80 is 72


def save_predictions(run: Path, right: list[bool]) -> None:
    """Two classes, 3 to 1 for the one that is answered."""
    y = np.arange(len(right)) % 2
    answered = np.where(right, y, 1 - y)
    log_prob = np.log(np.where(np.arange(2) == answered[:, None], 0.75, 0.25)).astype(np.float32)
    np.savez(
        run / "predictions_test.npz",
        id=np.arange(len(y)),
        group=np.arange(len(y)),
        y=y,
        log_prob=log_prob,
    )


def test_best_row_is_bold_and_what_cannot_be_told_from_it_is_marked(out, capsys):
    """Of 200 examples 190 against 188 right, on the same but two, cannot be told apart; 100 can."""
    right = np.arange(200) < 190
    rows = {
        "unimodal_image": np.arange(200) < 100,
        "inter-concat": np.arange(200) < 188,
        "i2m2-concat": right,
    }
    for name, values in rows.items():
        run = make_run(out, f"toy/{name}/seed0", {"accuracy": float(values.mean()), "auroc": 0.5})
        save_predictions(run, values)
    main([str(out)])
    printed = capsys.readouterr().out
    lines = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1]
        for line in printed.splitlines()
        if line.startswith("| ")
    }
    assert re.fullmatch(r"\*\*95.0 \[9\d.\d, 9\d.\d\] \(1\)\*\*", lines["I2M2"]), lines
    assert lines["Inter_modality"].endswith("(1) †") and lines["Image"].endswith("(1)")
    assert "- Interval: " in printed and "2,000 resamples of 200 groups of examples" in printed
    stored = json.loads((out / "toy/statistics.json").read_text())["Table 9"]
    assert (
        stored["best"]["accuracy"] == "i2m2-concat"
        and stored["p"]["accuracy"]["unimodal_image"] < 0.01
    )
    for run in out.glob("toy/*/seed0"):
        (run / "predictions_test.npz").unlink()
    main([str(out)])  # as in reported/, where there are no predictions
    assert capsys.readouterr().out == printed


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
    path.write_text(
        path.read_text().replace(
            "accuracy: {value: 70, std: 0.5, source: page 3}", "auroc: {value: 90}"
        )
    )
    for seed in range(5):
        make_run(out, f"toy/unimodal_image/seed{seed}", {"accuracy": 0.71, "auroc": 0.8})
        make_run(out, f"toy/i2m2-concat/seed{seed}", {"accuracy": 0.75, "auroc": 0.9})
    main([str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert "| model | accuracy | auroc | accuracy, paper | auroc, paper | verdict |" in lines
    assert (
        "| Image | 71.0 ± 0.0 (5) | 80.0 ± 0.0 (5) | - | 90.00 | auroc: differs by -10.0 |" in lines
    )


def of_two_rows(out: Path) -> tuple[Path, Path]:
    """Runs of 200 examples with predictions; 190 and 100 are right."""
    runs = []
    for name, right in {"i2m2-concat": 190, "unimodal_image": 100}.items():
        runs.append(make_run(out, f"toy/{name}/seed0", {"accuracy": right / 200}))
        save_predictions(runs[-1], np.arange(200) < right)
    return tuple(runs)


def row_of(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {label} |"))


def test_a_row_whose_predictions_are_not_those_of_its_result_has_no_interval(out, capsys):
    best, other = of_two_rows(out)
    (best / "result.json").write_text(json.dumps({"test": {"accuracy": 0.96}}))
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | **96.0 (1)** |")
    assert (
        "- I2M2: no interval of accuracy, since its predictions do not give what its result.json has.\n"
        in printed
    )
    assert "- Not compared with the best in accuracy: every row.\n" in printed
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "Image").startswith("| Image | 50.0 ± 0.0 (2) |")
    assert "- Image: no interval, for want of predictions of seed 1.\n" in printed


def test_stored_statistics_of_other_values_are_not_shown(out, capsys):
    best, other = of_two_rows(out)
    main([str(out)])
    assert re.match(r"\| I2M2 \| \*\*95.0 \[", row_of(capsys.readouterr().out, "I2M2"))
    for run in (best, other):
        (run / "predictions_test.npz").unlink()
    (other / "result.json").write_text(json.dumps({"test": {"accuracy": 0.99}}))
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "Image").startswith("| Image | **99.0 (1)** |")
    assert "no interval of accuracy, which statistics.json was not computed from" in printed
    (other / "DONE").unlink()
    main([str(out)])
    assert row_of(capsys.readouterr().out, "Image").startswith("| Image | missing |")


def test_a_new_run_beside_those_whose_predictions_are_gone_leaves_them_their_intervals(out, capsys):
    best, other = of_two_rows(out)
    main([str(out)])
    before = row_of(capsys.readouterr().out, "I2M2")
    for run in (best, other):
        (run / "predictions_test.npz").unlink()
    right = np.arange(200) < 180
    save_predictions(
        make_run(out, "toy/inter-concat/seed0", {"accuracy": 0.9, "auroc": 0.5}), right
    )
    for _ in range(2):  # computed, and read back
        main([str(out)])
        printed = capsys.readouterr().out
        assert row_of(printed, "I2M2") == before and re.search(
            r"90.0 \[8\d.\d, 9\d.\d\] \(1\) \|", row_of(printed, "Inter_modality")
        )
        assert (
            "I2M2: its interval is from before its predictions went; without them it is not compared with the best."
            in printed
        )


def test_intervals_that_are_left_stand_although_no_row_has_all_its_predictions(out, capsys):
    best, other = of_two_rows(out)
    main([str(out)])
    before = row_of(capsys.readouterr().out, "I2M2")
    (best / "predictions_test.npz").unlink()
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2") == before
    assert (
        row_of(printed, "Image").startswith("| Image | 50.0 ± 0.0 (2) |")
        and "2,000 resamples of 200 groups" in printed
    )


def test_damaged_runs_of_one_data_set_leave_the_others_their_tables(out, capsys):
    of_two_rows(out)
    bad = make_run(out, "aaa/inter/seed0", {"accuracy": 0.5})
    (bad / "result.json").write_text("{")
    with pytest.raises(DataError, match="aaa/inter/seed0/result.json: cannot be read"):
        main([str(out)])
    assert (
        "## Table 9" in capsys.readouterr().out and "Table 9" in (out / "report.html").read_text()
    )
    main([str(out), "--dataset", "toy"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"y": None}, "needs integers y"),
        ({"y": np.full(200, 2)}, "has labels 2 to 2, but log_prob is of 2 classes"),
        ({"group": None}, "has no group"),
        ({"id": np.arange(150)}, "has 150 ids and 200 groups"),
        ({"log_prob": np.full((200, 2), np.nan)}, "log_prob holds NaN"),
        ({"expert_image": np.zeros((200, 3))}, r"expert_image has the shape \(200, 3\)"),
    ],
)
def test_predictions_that_are_none_are_a_data_error(change, message, tmp_path):
    run = tmp_path / "seed0"
    run.mkdir()
    save_predictions(run, np.ones(200, bool))
    columns = dict(np.load(run / "predictions_test.npz")) | change
    np.savez(
        run / "predictions_test.npz",
        **{name: value for name, value in columns.items() if value is not None},
    )
    with pytest.raises(DataError, match=f"seed0/predictions_test.npz: {message}"):
        require_predictions(run, "test")


def test_seeds_that_share_networks_have_no_interval(out, capsys):
    """Three products of two of three runs: their spread would say less than that of three runs."""
    for seed in range(3):
        members = {"product_of": [f"a/seed{seed}", f"a/seed{(seed + 1) % 3}"]}
        run = make_run(
            out,
            f"toy/unimodal_image/seed{seed}",
            {"accuracy": (100 + seed) / 200},
            env=ENV | members,
        )
        save_predictions(run, np.arange(200) < 100 + seed)
        run = make_run(out, f"toy/i2m2-concat/seed{seed}", {"accuracy": (110 + seed) / 200})
        save_predictions(run, np.arange(200) < 110 + seed)
    main([str(out)])
    printed = capsys.readouterr().out
    assert (
        row_of(printed, "Image").startswith("| Image | 50.5 ± 0.5 (3) |")
        and "no interval: its seeds share networks" in printed
    )
    assert re.match(r"\| I2M2 \| \*\*55.5 ± 0.5 \[", row_of(printed, "I2M2"))
    assert "- Not compared with the best in accuracy: Image.\n" in printed


def test_tables_of_generated_data_name_the_config_that_generates():
    """Whatever the YAML library makes of merged keys."""
    entries = [entry for listed in read_entries().values() for entry in listed]
    synthetic = [entry for entry in entries if entry.synthetic]
    assert len(synthetic) >= 8
    for entry in synthetic:
        assert re.search("synthetic|digits", entry.config) and not entry.source, entry.name
    assert not any("synthetic" in entry.config for entry in entries if not entry.synthetic)


def test_a_table_without_any_run_of_its_own_is_missing_beside_one_that_has(out, capsys):
    """As where only an ablation was run: the first table's rows are all missing."""
    second = "  - {name: Table 10, title: more, metrics: [accuracy], rows: [{label: Small, run: unimodal_image-small}]}\n"
    Path("lab/paper.yaml").write_text(PAPER + second)
    make_run(out, "toy/unimodal_image-small/seed0", {"accuracy": 0.5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | missing |") and row_of(
        printed, "Small"
    ).startswith("| Small | 50.0 (1) |")


def test_settings_that_the_config_file_leaves_to_their_defaults_are_compared_too(out, capsys):
    for seed in range(5):
        config = CONFIG | {"method": "unimodal_image", "optim": {"epochs": 3, "schedule": "cosine"}}
        make_run(
            out, f"toy/unimodal_image/seed{seed}", {"accuracy": 0.7, "auroc": 0.8}, config=config
        )
    main([str(out)])
    assert "| not judged: other settings (optim.schedule) |" in capsys.readouterr().out
