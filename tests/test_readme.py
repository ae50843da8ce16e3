"""What the READMEs tell a reader to do works as written."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from AVMNIST_and_MIMIC.datasets import dataset_of
from fastMRI.models import FastMRIConfig
from i2m2.report.render import from_json, to_markdown
from i2m2.report.tables import read_entries, sheet_of
from i2m2.results import tables_of
from i2m2.runs import collect, run_folders
from i2m2.training.config import load_config
from tests.conftest import ROOT
from VQA_and_NLVR2.datasets import dataset_of as vqa_nlvr2

READMES = [ROOT / "README.md", *ROOT.glob("*/README.md")]


def blocks(language):
    return [
        (path.parent.name, block)
        for path in READMES
        for block in re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.S)
    ]


COMMANDS = sorted(
    {
        line.strip()
        for _, block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    }
)


# Training program -> the settings that its arguments are of; script of a table -> its program and
# its config
PROGRAMS = {
    "AVMNIST_and_MIMIC.train": lambda arguments: dataset_of(arguments).config,
    "fastMRI.train": lambda _: FastMRIConfig,
    "VQA_and_NLVR2.train": lambda arguments: vqa_nlvr2(arguments).config,
    "VQA_and_NLVR2.extract_features": lambda arguments: vqa_nlvr2(arguments).config,
}
SCRIPTS = {
    "scripts/avmnist.sh": ("AVMNIST_and_MIMIC.train", "AVMNIST_and_MIMIC/configs/avmnist.yaml"),
    "scripts/mimic.sh": ("AVMNIST_and_MIMIC.train", "AVMNIST_and_MIMIC/configs/mimic.yaml"),
    "scripts/fastmri.sh": ("fastMRI.train", "fastMRI/configs/fastmri.yaml"),
    "scripts/vqa_vs.sh": ("VQA_and_NLVR2.train", "VQA_and_NLVR2/configs/vqa_vs.yaml"),
    "scripts/nlvr2.sh": ("VQA_and_NLVR2.train", "VQA_and_NLVR2/configs/nlvr2.yaml"),
}


def check_settings(program, arguments):
    load_config(PROGRAMS[program](arguments), arguments, "train")


@pytest.mark.parametrize("code", [block for _, block in blocks("python")])
def test_python_examples_run(code):
    names = {}
    exec(code, names)
    assert names["log_prob"].shape == (32, 2)
    assert all(parameter.grad is not None for parameter in names["model"].parameters())


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_programs_and_settings_that_exist(command, capsys):
    words = shlex.split(command, comments=True)
    variables = {}
    while words and "=" in words[0]:  # VARIABLE=value in front of a script
        variables[words[0].partition("=")[0]] = words[0].partition("=")[2]
        words = words[1:]
    assert words[0] in ("bash", "python", "torchrun"), command
    if words[0] == "bash":
        assert (ROOT / words[1]).exists()
        if words[1] in SCRIPTS:
            program, config = SCRIPTS[words[1]]
            check_settings(
                program, ["--config", str(ROOT / variables.get("CONFIG", config)), *words[2:]]
            )
    elif "-m" in words:
        module, arguments = words[words.index("-m") + 1], words[words.index("-m") + 2 :]
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()
        if module in PROGRAMS and "results/" not in command:
            check_settings(module, arguments)
        else:
            options = [
                word.split("=")[0]
                for word in arguments
                if word.startswith("--") and not word.startswith("--config")
            ]
            with pytest.raises(SystemExit) as ended:
                importlib.import_module(module).main(["--help"])
            help_text = capsys.readouterr().out
            assert ended.value.code == 0 and all(option in help_text for option in options), command
    else:
        assert (ROOT / words[1]).exists()


REPORTED = sorted(path.name for path in (ROOT / "reported").iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", REPORTED)
def test_tables_of_the_readmes_are_those_of_the_reported_runs(folder):
    """Every table that `i2m2.results` makes of the runs in reported/ stands in a README, number for
    number."""
    shown = tables_in("\n".join(path.read_text() for path in READMES))
    for table in reported_tables(folder):
        assert table in shown, table


def test_no_other_result_stands_in_a_readme():
    """A table of results, which has a verdict for every row, is one that the reported runs make."""
    made = {table for folder in REPORTED for table in reported_tables(folder)}
    for path in READMES:
        for table in tables_in(path.read_text()):
            assert "verdict" not in table.splitlines()[0] or table in made, f"{path}: {table}"


def tables_in(text):
    """The Markdown tables of a text that begin with a column `model`."""
    return re.findall(r"^\| model \|.*(?:\n\|.*)*", text, re.M)


def reported_tables(name):
    folder = ROOT / "reported" / name
    sheets = [sheet_of(table) for table in tables_of(folder, collect(folder), read_entries())[0]]
    sheets += [
        from_json(path) for path in sorted(folder.glob("*.sheet.json"))
    ]  # of other commands, such as fastMRI.noise
    return [tables_in(to_markdown(sheet))[0] for sheet in sheets]


@pytest.mark.parametrize("folder", REPORTED)
def test_behind_every_reported_run_are_its_settings_environment_scores_and_statistics(folder):
    for run in run_folders(ROOT / "reported" / folder):
        there = {path.name for path in run.iterdir()}
        assert there == {"config.yaml", "env.json", "result.json", "DONE", "statistics.json"}, run
        told, scores = (
            json.loads((run / name).read_text()) for name in ("statistics.json", "result.json")
        )
        assert told["metrics"] and told["calibration"]
        for metric, found in told["metrics"].items():
            assert found["values"] == pytest.approx([scores["test"][metric]], abs=1e-4), (
                run,
                metric,
            )


def test_quickstart_trains_seven_rows_and_ends_with_a_labelled_table_and_a_figure(tmp_path):
    environment = {
        **os.environ,
        "OUT": str(tmp_path),
        "JOBS": "2",
        "VIRTUAL_ENV": sys.prefix,
        "OMP_NUM_THREADS": "2",
    }
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    command = ["bash", "scripts/quickstart.sh", "--optim.epochs", "1", "--data.train_size", "80"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^\| ([^|]+) \| \**[\d.]+ [^|]*\(1\)[* †]*\| not judged: synthetic data \|$",
        done.stdout,
        re.M,
    )
    assert rows == [
        "Image",
        "Audio",
        "Intra-modality",
        "Inter-modality LF",
        "Inter-modality LRTF",
        "I2M2 LF",
        "I2M2 LRTF",
    ]
    assert "SYNTHETIC" in done.stdout and "Missing" not in done.stdout
    assert (tmp_path / "avmnist-digits/figure.png").stat().st_size > 5000
    assert done.stdout.strip().endswith("avmnist-digits/figure.png")


def test_mimic_script_trains_six_rows_of_a_task_and_ends_with_its_table(mimic_files, tmp_path):
    environment = {
        **os.environ,
        "OUT": str(tmp_path),
        "JOBS": "2",
        "TASKS": "icd9_7",
        "SEEDS": "0",
        "DATA": str(mimic_files),
    }
    environment |= {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "2"}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    command = ["bash", "scripts/mimic.sh", "--optim.epochs", "1", "--data.train_size", "40"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = done.stdout[: done.stdout.index("- In percent")]
    rows = re.findall(r"^\| ([^|]+) \| \**[\d.]+ [^|]*\(1\)[* †]*\|", table, re.M)
    assert rows == [
        "Static",
        "Time series",
        "Intra-modality",
        "Inter-modality",
        "Inter-modality LRTF",
        "I2M2",
    ]
    assert (
        "SYNTHETIC" in done.stdout
        and "| Majority class" in done.stdout
        and "Missing" not in done.stdout
    )
