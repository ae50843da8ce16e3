"""The command that fills tables, against tables worked by hand; and bad input."""

import re
import shutil
from pathlib import Path

import pytest

from i2m2.errors import DataError, SettingsError
from i2m2.report.render import RenderedTable, to_json
from i2m2.results import TITLE, main
from tests.i2m2.conftest import (
    CONFIG,
    ENV,
    FACTS,
    I2M2,
    INTER,
    PAPER,
    TRAIN,
    make_run,
    make_three,
    of_two_rows,
    row_of,
)

# By hand: mean of 71 and 73 is 72, squared deviations 1 + 1, over n - 1 = 1, square root of 2 is
# 1.414.
NOT_JUDGED = "2 of 5 seeds (Image); no finished run (Inter_modality); 1 of 5 seeds (I2M2)"
MARKDOWN = f"""\
## Table 9: Toys & co (toy, variant v1, real data, 2 seeds)

| model | accuracy | auroc | accuracy, paper |
|---|---:|---:|---:|
| Image | 72.0 ± 1.4 (2) | 80.0 (1) | 70.00 ± 0.50 |
| Inter_modality | missing | missing | - |
| I2M2 | 75.0 (1) | 90.0 (1) | - |

- In percent: mean ± sample standard deviation over the seeds (number of seeds).
- Left out, as auroc is not defined, or infinite: Image seed 1.
- Data: Made by hand.
- Budget: 3 epochs, all training examples, preset paper.
- Paper, Image, accuracy: 70.00 ± 0.50 (page 3).
- Paper, the best of Inter_modality and I2M2: 72.38 (a leaderboard; second-hand).
- Paper: the rest is not known.
- No row is judged: {NOT_JUDGED}.

### Missing runs

- Inter_modality, seed 0: `{TRAIN} {INTER} --seed 0 --out results`
- Inter_modality, seed 1: `{TRAIN} {INTER} --seed 1 --out results`
- I2M2, seed 1: `{TRAIN} {I2M2} --seed 1 --out results`
"""

LATEX = r"""\begin{table}
\centering
\caption{Table 9: Toys \& co (toy, variant v1, real data, 2 seeds). IN_PERCENT}
\begin{tabular}{lrrr}
\toprule
model & accuracy & auroc & accuracy, paper \\
\midrule
Image & 72.0 $\pm$ 1.4 (2) & 80.0 (1) & 70.00 $\pm$ 0.50 \\
Inter\_modality & missing & missing & - \\
I2M2 & 75.0 (1) & 90.0 (1) & - \\
\bottomrule
\end{tabular}
\par\medskip\raggedright\footnotesize
Left out, as auroc is not defined, or infinite: Image seed 1.\par
Data: Made by hand.\par
Budget: 3 epochs, all training examples, preset paper.\par
Paper, Image, accuracy: 70.00 $\pm$ 0.50 (page 3).\par
Paper, the best of Inter\_modality and I2M2: 72.38 (a leaderboard; second-hand).\par
Paper: the rest is not known.\par
No row is judged: NOT_JUDGED.\par
Missing runs: Inter\_modality, seed 0: TRAIN -{}-method inter -{}-fusion concat -{}-seed 0 OUT\par
Missing runs: Inter\_modality, seed 1: TRAIN -{}-method inter -{}-fusion concat -{}-seed 1 OUT\par
Missing runs: I2M2, seed 1: TRAIN -{}-method i2m2 -{}-fusion concat -{}-seed 1 OUT\par
\end{table}
"""
for short, text in {
    "IN_PERCENT": "In percent: mean $\\pm$ sample standard deviation over the seeds (number of "
    "seeds).",
    "TRAIN": "python -m toy.train -{}-config lab/toy.yaml",
    "OUT": "-{}-out results",
    "NOT_JUDGED": NOT_JUDGED.replace("_", r"\_"),
}.items():
    LATEX = LATEX.replace(short, text)

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
    names = ["toy/table.md", "toy/table.tex", "toy/table.csv", "toy/figure.png", "toy/figure.pdf"]
    written = [f"  results/{name}" for name in (*names, "report.html")]
    answer = "cannot be told yet: there is no finished run of intra and none of inter"
    first = f"# {TITLE}\n\n## toy, variant v1, real data, 2 seeds: {answer}\n"
    assert capsys.readouterr().out == "\n".join([first, MARKDOWN, "written:", *written, ""])


@pytest.mark.rendered
def test_figure_files_are_images_with_something_on_them(out):
    make_three(out)
    main([str(out)])
    png, pdf = (out / "toy/figure.png").read_bytes(), (out / "toy/figure.pdf").read_bytes()
    assert png.startswith(b"\x89PNG\r\n") and len(png) > 10_000
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and len(pdf) > 5_000
    assert not list((out / "toy").glob(".*"))  # no temporary files left


def test_dataset_selects_its_variants_and_a_folder_no_paper_knows_is_a_plain_table(out, capsys):
    make_run(out, "toy-small/i2m2-concat/seed0", {"accuracy": 0.75, "auroc": 0.9})
    make_run(out, "own/inter/seed0", {"accuracy": 0.5, "nll": 1.2})
    main([str(out), "--dataset", "toy"])
    title = "Table 9: Toys & co (toy-small, variant v1, real data, 1 seed)"
    assert title in capsys.readouterr().out
    assert not (out / "own/table.md").exists()
    main([str(out), "--dataset", "own"])
    table = "| model | accuracy | nll |\n|---|---:|---:|\n| inter | 50.0 (1) | 1.200 (1) |\n"
    title = "## own: all runs (own, variant v1, real data, 1 seed)"
    assert f"{title}\n\n{table}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("test", "message"),
    [({}, "test accuracy is absent"), ({"accuracy": 1.7, "nll": 0.1}, "test accuracy is 1.7")],
)
def test_a_result_that_cannot_be_costs_its_own_row_of_a_table_of_all_runs(
    out, capsys, test, message
):
    for seed in (0, 1):
        make_run(out, f"own/inter/seed{seed}", {"accuracy": 0.5, "nll": 1.2})
    make_run(out, "own/intra/seed0", test)
    make_run(out, "own/intra/seed1", {"accuracy": 0.5, "nll": None})
    with pytest.raises(DataError, match=f"own/intra/seed0/result.json: {message}"):
        main([str(out)])
    shown = capsys.readouterr().out
    assert row_of(shown, "inter") == "| inter | 50.0 ± 0.0 (2) | 1.200 ± 0.000 (2) |"
    assert row_of(shown, "intra") == "| intra | 50.0 (1) | - |"
    assert "- Left out, as nll is not defined, or infinite: intra." in shown


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("result.json", "{not json", "is damaged"),
        ("result.json", "[1]", "expected object, got array"),
        ("result.json", '{"val": {}}', "required field test"),
        ("result.json", '{"test": {"auroc": "high"}}', "expected float | null, got str"),
        ("result.json", '{"test": {"auroc": 0.5}}', "test accuracy is absent"),
        ("result.json", '{"test": {"accuracy": 72.4}}', "between 0 and 1"),
        ("result.json", '{"test": {"accuracy": NaN, "auroc": 0.5}}', "is damaged"),
        ("result.json", None, "is missing"),
        ("env.json", '{"data": {"synthetic": "no"}}', "data.synthetic: expected bool, got str"),
        ("env.json", "[" * 100_000, "is damaged"),
        ("env.json", '{"product_of": 3}', "product_of: expected array | null, got int"),
        ("config.yaml", "optim: 3", "optim: expected object, got int"),
        ("config.yaml", "seed: 1\nseed: 2", "seed occurs twice"),
        ("config.yaml", "method: intra", "method is intra, which is no run of i2m2-concat"),
    ],
)
def test_a_damaged_run_costs_its_own_row_and_is_named(out, capsys, name, content, message):
    make_three(out)
    path = out / "toy/i2m2-concat/seed0" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        main([str(out)])
    assert str(path) in str(error.value) and "delete" in str(error.value)
    table = (out / "toy/table.md").read_text()
    assert row_of(table, "Image").startswith("| Image | 72.0 ± 1.4 (2)")
    assert row_of(table, "I2M2").startswith("| I2M2 | missing")
    not_counted = table.partition("### Not counted")[2]
    assert str(path) in not_counted and "### Unfinished" not in table


def test_a_copied_or_renamed_seed_counts_once(out, capsys):
    make_run(out, "toy/unimodal_image/seed1", {"accuracy": 0.7}, config=CONFIG | {"seed": 1})
    for name in ("seed2", "seed01"):
        shutil.copytree(out / "toy/unimodal_image/seed1", out / "toy/unimodal_image" / name)
    make_run(out, "toy/i2m2-concat/seed0", {"accuracy": 0.8}, config=CONFIG | {"seed": 5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "Image").startswith("| Image | 70.0 (1) |")
    assert "Image: the folders seed01, seed1, seed2 all hold seed 1, as config.yaml" in printed
    assert "NOT counted twice" in printed
    assert "I2M2: the folder seed0 holds seed 5, as config.yaml says" in printed


def test_a_run_of_another_data_set_or_task_is_in_no_table_of_the_paper(out, capsys):
    make_run(out, "toy/i2m2-concat/seed0", {"accuracy": 0.8}, config=CONFIG | {"dataset": "toy"})
    of_other = CONFIG | {"dataset": "toy", "task": "other"}
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7}, config=of_other)
    with pytest.raises(DataError, match="config.yaml: a run of toy-other, which is none of toy"):
        main([str(out)])
    assert row_of(capsys.readouterr().out, "Image").startswith("| Image | missing")


def test_a_run_of_another_data_set_is_in_no_table_of_a_folder_without_a_paper(out, capsys):
    for name, dataset in {"own/inter": "own", "own/intra": "toy", "new/inter": "own"}.items():
        make_run(out, f"{name}/seed0", {"accuracy": 0.5}, config=CONFIG | {"dataset": dataset})
    message = "own/intra/seed0/config.yaml: a run of toy, which is none of own; move that folder"
    with pytest.raises(DataError, match=message):
        main([str(out)])
    printed = capsys.readouterr().out
    assert "| intra |" not in printed and printed.count("| inter | 50.0 (1) |") == 2


def test_a_misplaced_run_changes_neither_the_heading_nor_what_missing_runs_repeat(out, capsys):
    given = CONFIG | {"dataset": "toy", "optim": {"epochs": 2}}
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7}, config=given)
    main([str(out)])
    before = capsys.readouterr().out
    other, env = CONFIG | {"dataset": "blocks"}, {"data": FACTS | {"variant": "of blocks"}}
    make_run(out, "toy/i2m2-concat/seed7", {"accuracy": 0.8}, config=other, env=env)
    with pytest.raises(DataError, match="a run of blocks, which is none of toy"):
        main([str(out)])
    printed = capsys.readouterr().out
    assert "variant of blocks" not in printed and "seed 7" not in printed
    assert "of blocks" not in (out / "toy/studies.md").read_text()
    line = f"- Inter_modality, seed 0: `{TRAIN} {INTER} --seed 0 --out results --optim.epochs 2`\n"
    assert line in before and line in printed


def test_several_processes_and_batch_norm_over_parts_stand_below_the_table(out, capsys):
    parts = "over the 2 parts of an update"
    make_three(out, env=ENV | {"processes": [2], "batch_norm": parts})
    main([str(out)])
    printed = capsys.readouterr().out
    assert "Trained by 2 processes: Image, I2M2." in printed
    assert f"Batch norm took its statistics {parts}: Image, I2M2." in printed


def test_wrong_settings_say_what_there_is_and_what_to_do(out):
    command = f"{TRAIN} --method unimodal_image --seed 0 --out results"
    with pytest.raises(SettingsError, match="no such results folder"):
        main([str(out)])
    out.mkdir()
    with pytest.raises(SettingsError, match=f"no runs in it; make one with: {command}"):
        main([str(out), "--dataset", "toy"])
    make_run(out, "toy/unimodal_image/seed0", None)
    message = f"none of its 1 runs is finished; make one with: {command}"
    with pytest.raises(SettingsError, match=message):
        main([str(out), "--dataset", "toy"])
    make_run(out.parent / "others", "own/inter/seed0", None)
    with pytest.raises(SettingsError, match="its 1 runs is finished; the commands that began the"):
        main(["others"])
    with pytest.raises(SettingsError, match="no runs of data set 'toi'; found: toy$"):
        main([str(out), "--dataset", "toi"])
    message = "is one data set's folder; give the one above it: results --dataset toy"
    with pytest.raises(SettingsError, match=message):
        main([str(out / "toy")])


def test_a_run_s_folder_is_told_from_an_empty_results_folder(out, monkeypatch):
    seed = make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.5}).absolute()
    message = "is one run's folder; give the one above its data set's: results --dataset toy$"
    with pytest.raises(SettingsError, match=message):
        main([str(out / "toy/unimodal_image")])
    (out / "toy").rename(out / "my toy")
    with pytest.raises(SettingsError, match="the one above it: results --dataset 'my toy'$"):
        main([str(out / "my toy")])
    (out / "my toy").rename(out / "toy")
    with pytest.raises(SettingsError, match=r"is one seed's run; .*: results --dataset toy$"):
        main([str(out / "toy/unimodal_image/seed0")])
    with pytest.raises(SettingsError, match=f": {seed.parents[2]} --dataset toy$"):
        main([str(seed)])
    monkeypatch.chdir(seed.parent)
    with pytest.raises(SettingsError, match=r"is one run's folder; .*: ../.. --dataset toy$"):
        main(["."])


def test_damaged_runs_of_one_data_set_leave_the_others_their_tables(out, capsys):
    of_two_rows(out)
    bad = make_run(out, "aaa/inter/seed0", {"accuracy": 0.5})
    (bad / "result.json").write_text("{")
    with pytest.raises(DataError, match="aaa/inter/seed0/result.json is damaged"):
        main([str(out)])
    assert "## Table 9" in capsys.readouterr().out
    assert "Table 9" in (out / "report.html").read_text()
    main([str(out), "--dataset", "toy"])


def test_no_figure_is_left_of_runs_that_are_gone(out, capsys):
    second = """\
  - name: Fig. 8
    title: wider
    metrics: [accuracy]
    train: python -m toy.train
    config: lab/toy.yaml
    rows: [{label: Wide, run: inter-wide, args: --method inter --tag wide}]
"""
    Path("lab/paper.yaml").write_text(PAPER + second)
    of_two_rows(out)
    wide = make_run(out, "toy/inter-wide/seed0", {"accuracy": 0.5})
    main([str(out)])
    suffixes = {path.suffix for path in (out / "toy").glob("fig_8*")}
    assert suffixes == {".md", ".tex", ".csv", ".png", ".pdf"}
    (wide / "DONE").unlink()
    main([str(out)])
    assert not list((out / "toy").glob("fig_8*"))
    assert "Fig. 8: wider" in (out / "report.html").read_text()


def test_a_sheet_of_runs_that_are_gone_says_so(out):
    make_three(out)
    grid = [["model", "clean"], ["Image", "72.0"], ["I2M2", "75.0"]]
    sheet = RenderedTable(title="Robustness", grids={"": grid})
    (out / "toy/robustness.sheet.json").write_text(to_json(sheet))
    main([str(out)])
    assert "not here any more" not in (out / "report.html").read_text()
    shutil.rmtree(out / "toy/i2m2-concat")
    main([str(out)])
    page = (out / "report.html").read_text()
    assert "Of runs that are not here any more (I2M2): give its command again." in page


def test_a_table_without_any_run_of_its_own_is_missing_beside_one_that_has(out, capsys):
    """As where only an ablation was run: the first table's rows are all missing."""
    second = """\
  - name: Table 10
    title: more
    metrics: [accuracy]
    rows: [{label: Small, run: unimodal_image-small}]
"""
    Path("lab/paper.yaml").write_text(PAPER + second)
    make_run(out, "toy/unimodal_image-small/seed0", {"accuracy": 0.5})
    main([str(out)])
    printed = capsys.readouterr().out
    assert row_of(printed, "I2M2").startswith("| I2M2 | missing |")
    assert row_of(printed, "Small").startswith("| Small | 50.0 (1) |")
