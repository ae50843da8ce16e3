"""What the READMEs tell a reader to do works as written."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from functools import partialmethod

import numpy as np
import pytest

import AVMNIST_and_MIMIC.datasets
import fastMRI.settings
import VQA_and_NLVR2.datasets
from i2m2.estimator.models import trees
from i2m2.estimator.models.training import TrainingSettings
from i2m2.report.fill import tables_of
from i2m2.report.paper import read_specs
from i2m2.report.render import from_json, to_markdown
from i2m2.report.tables import rendered
from i2m2.results import answers_of
from i2m2.runs import collect, run_folders
from i2m2.training.commands import dataset_of
from i2m2.training.config import load_config
from tests.conftest import ROOT

READMES = [ROOT / "README.md", *ROOT.glob("*/README.md")]


def blocks(language):
    pattern = re.compile(rf"```{language}\n(.*?)```", re.S)
    return [block for path in READMES for block in pattern.findall(path.read_text())]


def commands():
    """Every command of the READMEs, once."""
    text = "\n".join(block.replace("\\\n", " ") for block in blocks("bash"))
    return sorted({line.strip() for line in text.splitlines() if line.strip()})


# Training program -> the data sets that its arguments are of; script of a table -> its program and
# its config.
PROGRAMS = {
    "AVMNIST_and_MIMIC.train": AVMNIST_and_MIMIC.datasets.DATASETS,
    "fastMRI.train": fastMRI.settings.DATASETS,
    "VQA_and_NLVR2.train": VQA_and_NLVR2.datasets.DATASETS,
    "VQA_and_NLVR2.extract_features": VQA_and_NLVR2.datasets.DATASETS,
}
SCRIPTS = {
    "scripts/avmnist.sh": ("AVMNIST_and_MIMIC.train", "AVMNIST_and_MIMIC/configs/avmnist.yaml"),
    "scripts/mimic.sh": ("AVMNIST_and_MIMIC.train", "AVMNIST_and_MIMIC/configs/mimic.yaml"),
    "scripts/fastmri.sh": ("fastMRI.train", "fastMRI/configs/fastmri.yaml"),
    "scripts/vqa_vs.sh": ("VQA_and_NLVR2.train", "VQA_and_NLVR2/configs/vqa_vs.yaml"),
    "scripts/nlvr2.sh": ("VQA_and_NLVR2.train", "VQA_and_NLVR2/configs/nlvr2.yaml"),
}


def check_settings(program, arguments):
    load_config(dataset_of(PROGRAMS[program], arguments).config, arguments, "train")


def test_the_example_of_ones_own_data_answers_and_predicts(monkeypatch, capsys):
    quick = partialmethod(TrainingSettings.__init__, epochs=1)  # it takes a minute as it stands
    monkeypatch.setattr(TrainingSettings, "__init__", quick)
    monkeypatch.setattr(trees, "MOST_ROUNDS", 2)
    names = {}
    exec(blocks("python")[0].replace("seeds=1", "seeds=1, jobs=1"), names)
    assert "ANSWER" in capsys.readouterr().out
    assert names["model"].predict_proba(names["X"]).shape == (178, 3)


def test_the_example_of_modules_trains_through_the_product():
    names = {}
    exec(blocks("python")[1], names)
    assert names["log_prob"].shape == (32, 2)
    assert all(parameter.grad is not None for parameter in names["model"].parameters())


@pytest.mark.parametrize("command", commands())
def test_commands_name_programs_and_settings_that_exist(command, capsys):
    words = shlex.split(command, comments=True)
    variables = {}
    while words and "=" in words[0]:  # VARIABLE=value in front of a script
        name, _, variables[name] = words.pop(0).partition("=")
    assert words[0] in ("bash", "python", "torchrun"), command
    if words[0] == "bash":
        check_script(words[1], words[2:], variables)
    elif "-m" in words:
        place = words.index("-m") + 1
        check_module(words[place], words[place + 1 :], command, capsys)
    else:
        assert (ROOT / words[1]).exists()


def check_script(script, arguments, variables):
    assert (ROOT / script).exists()
    if script in SCRIPTS:
        program, config = SCRIPTS[script]
        config = str(ROOT / variables.get("CONFIG", config))
        settings = [word for word in arguments if word != "--dry_run"]  # that is the sweep's
        check_settings(program, ["--config", config, *settings])


def check_module(module, arguments, command, capsys):
    path = ROOT / module.replace(".", "/")
    module = f"{module}.__main__" if path.is_dir() else module
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    if module in PROGRAMS and "results/" not in command:
        return check_settings(module, arguments)
    options = {word.split("=")[0] for word in arguments if word.startswith("--")} - {"--config"}
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(["--help"])
    help_text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(option in help_text for option in options), command


REPORTED = sorted(path.name for path in (ROOT / "reported").iterdir() if path.is_dir())


def test_the_readme_is_for_a_newcomer():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 200
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).stat().st_size > 10_000


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_the_readmes_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, target


@pytest.mark.parametrize("folder", REPORTED)
def test_tables_of_the_readmes_are_those_of_the_reported_runs(folder):
    """Every table that `i2m2.results` makes of the runs in reported/ stands in a README, number for
    number."""
    shown = tables_in("\n".join(path.read_text() for path in READMES))
    for table in reported_tables(folder):
        assert table in shown, table


def test_no_other_result_stands_in_a_readme():
    """A table of results, whose cells have an interval and a number of seeds, is one that the
    reported runs make."""
    made = {table for folder in REPORTED for table in reported_tables(folder)}
    for path in READMES:
        for table in tables_in(path.read_text()):
            assert not re.search(r"\] \(\d+\)", table) or table in made, f"{path}: {table}"


@pytest.mark.parametrize("folder", REPORTED)
def test_the_answers_of_the_reported_runs_stand_in_a_readme(folder):
    """Those that reported/ has statistics for."""
    told = " ".join(" ".join(path.read_text() for path in READMES).split())
    path = ROOT / "reported" / folder
    for answer in answers_of(path, collect(path), read_specs()):
        assert answer.title.partition(": ")[2] in told or "cannot be told yet" in answer.title


def tables_in(text):
    """The Markdown tables of a text that begin with a column `model`."""
    return re.findall(r"^\| model \|.*(?:\n\|.*)*", text, re.M)


def reported_tables(name):
    folder = ROOT / "reported" / name
    tables = [rendered(table) for table in tables_of(folder, collect(folder), read_specs())[0]]
    # Of other commands, such as fastMRI.noise.
    tables += [from_json(path) for path in sorted(folder.glob("*.sheet.json"))]
    return [tables_in(to_markdown(table))[0] for table in tables]


@pytest.mark.parametrize("folder", REPORTED)
def test_behind_every_reported_run_are_its_settings_environment_scores_and_statistics(folder):
    files = {"config.yaml", "env.json", "result.json", "DONE", "statistics.json"}
    for run in run_folders(ROOT / "reported" / folder):
        assert {path.name for path in run.iterdir()} == files, run
        stored = json.loads((run / "statistics.json").read_text())
        scores = json.loads((run / "result.json").read_text())["test"]
        assert stored["metrics"] and stored["calibration"]
        for metric, found in stored["metrics"].items():
            assert found["values"] == pytest.approx([scores[metric]], abs=1e-4), (run, metric)


def run_script(script, *arguments, **variables):
    """-> what the script prints, with this Python and two threads."""
    environment = {**os.environ, "JOBS": "2", "VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "2"}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    command = ["bash", script, *arguments]
    environment |= variables
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_trains_seven_rows_and_ends_with_a_labelled_table_and_a_figure(tmp_path):
    few = ("--optim.epochs", "1", "--data.train_size", "80")
    text = run_script("scripts/quickstart.sh", *few, OUT=str(tmp_path))
    assert text.index("SYNTHETIC data, 1 seed, accuracy: ") < text.index("| model |")
    row = r"^\| ([^|]+) \| \**[\d.]+ [^|]*\(1\)[* †]*\|$"
    assert re.findall(row, text, re.M) == [
        "Image",
        "Audio",
        "Intra-modality",
        "Inter-modality LF",
        "Inter-modality LRTF",
        "I2M2 LF",
        "I2M2 LRTF",
    ]
    assert re.findall(r"^\| (.*), separate \| [^|]+\(1\)", text, re.M) == [
        "Image x audio",
        "Image x audio x inter LF",
        "Image x audio x inter LRTF",
    ]
    image, audio, product = (
        np.exp(np.load(tmp_path / f"avmnist-digits/{run}/seed0/predictions_test.npz")["log_prob"])
        for run in ("unimodal_image", "unimodal_audio", "product-image-audio")
    )
    by_hand = image * audio / (image * audio).sum(-1, keepdims=True)
    np.testing.assert_allclose(product, by_hand, atol=1e-6)
    assert "SYNTHETIC" in text and "Missing" not in text
    assert (tmp_path / "avmnist-digits/figure.png").stat().st_size > 5000
    assert text.strip().endswith("avmnist-digits/figure.png")


def test_mimic_script_trains_six_rows_of_a_task_and_ends_with_its_table(mimic_files, tmp_path):
    few = ("--optim.epochs", "1", "--data.train_size", "40")
    variables = {"OUT": str(tmp_path), "TASKS": "icd9_7", "SEEDS": "0", "DATA": str(mimic_files)}
    text = run_script("scripts/mimic.sh", *few, **variables)
    table = text[: text.index("- In percent")]
    assert re.findall(r"^\| ([^|]+) \| \**[\d.]+ [^|]*\(1\)[* †]*\|", table, re.M) == [
        "Static",
        "Time series",
        "Intra-modality",
        "Inter-modality",
        "Inter-modality LRTF",
        "I2M2",
    ]
    assert "SYNTHETIC" in text and "| Majority class" in text and "Missing" not in text
