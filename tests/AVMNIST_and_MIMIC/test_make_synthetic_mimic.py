"""Making the synthetic hospital: the same bytes every time, learnable labels, mistakes named."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from AVMNIST_and_MIMIC.make_synthetic_mimic import main, make_raw_tables
from AVMNIST_and_MIMIC.mimic.synthetic import tables
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import make_hospital
from AVMNIST_and_MIMIC.mimic.synthetic.tasks import LATENTS, TASKS, Task
from benchmarks import mimic_extract
from i2m2.errors import SettingsError
from tests.AVMNIST_and_MIMIC.tiny_mimic import NEEDED
from tests.conftest import ROOT

PATIENTS = 400


def test_same_arguments_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_raw_tables(tmp_path / name, 15, seed, chart_rows=3000)
    a, b, c = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"
    )
    assert a == b
    assert not [name for name in a if a[name] == c[name]]
    assert sorted(a) == sorted([*(f"{table}.csv.gz" for table in tables.TABLES), "SYNTHETIC.txt"])


def test_label_shares_lie_in_their_bands():
    hospital = make_hospital(8000, np.random.default_rng(5))
    adult = ~hospital.patients["child"]
    share = np.bincount(hospital.patients["class"][adult], minlength=6) / adult.sum()
    assert 0.70 < share[0] < 0.76 and 0.10 < share[4] < 0.18 and 0.05 < share[5] < 0.10
    assert (share[1:4] > 0.002).all() and (share[1:4] < 0.03).all()
    grown = adult[hospital.admissions["patient"]]
    cancer = (
        hospital.admissions["group_1"]
        | hospital.admissions["metastatic"]
        | hospital.admissions["haematological"]
    )
    assert 0.16 < cancer[grown].mean() < 0.21
    assert 0.45 < hospital.admissions["group_7"][grown].mean() < 0.50


def test_log_odds_are_three_parts_and_the_interaction_is_in_neither_alone():
    task = Task(0.5, (2.0, 3.0, 4.0), {"age": 3, "old": 4}, {"shock": 1}, ("old", "drive"))
    features = {"age": np.array([1.0, 0.0]), "old": np.array([1.0, -1.0])}
    latents = {"shock": np.array([1.0, 2.0]), "drive": np.array([0.5, 0.5])}
    assert np.allclose(
        task.log_odds(features, latents), [0.5 + 2 * 1.4 + 3 + 2, 0.5 - 2 * 0.8 + 6 - 2]
    )
    assert all(
        task.both[1] not in task.series and task.both[1] in LATENTS for task in TASKS.values()
    )


@pytest.mark.parametrize("rows", [200, 9001])
def test_chart_rows_are_honoured_exactly(rows, tmp_path, monkeypatch):
    several_blocks = ("AVMNIST_and_MIMIC.mimic.synthetic.writing.BLOCK_ROWS", 2000)
    monkeypatch.setattr(*several_blocks)
    make_raw_tables(tmp_path / "raw", 7, chart_rows=rows)
    frame = pd.read_csv(tmp_path / "raw/CHARTEVENTS.csv.gz", dtype=str)
    assert len(frame) == rows and frame["ROW_ID"].astype(int).tolist() == list(range(1, rows + 1))


def test_one_chart_row_in_seven_is_needed_at_the_density_of_the_release(tmp_path):
    make_raw_tables(tmp_path / "raw", 10, chart_rows=71_000)
    items = pd.read_csv(tmp_path / "raw/CHARTEVENTS.csv.gz", usecols=["ITEMID"])["ITEMID"]
    assert 1 / 10 < items.isin(NEEDED).mean() < 1 / 5


@pytest.mark.parametrize("patients", [1, 2])
def test_a_hospital_may_be_tiny(patients, tmp_path):
    make_raw_tables(tmp_path / "raw", patients, seed=3)
    assert len(pd.read_csv(tmp_path / "raw/PATIENTS.csv.gz")) == patients


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--patients", "0"], "--patients 0 must be 1..46520"),
        (["--seed", "-1"], "--seed -1 must be at least 0"),
        (["--chart-rows", "0"], "--chart-rows 0 must be at least 1"),
        (["--patients", "many"], "invalid int value"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path):
    with pytest.raises(SettingsError, match=re.escape(message)):
        main(["--out", str(tmp_path / "raw"), *arguments])
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_refused_in_one_line(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "PATIENTS.csv.gz").write_bytes(b"")
    command = [sys.executable, "-m", "AVMNIST_and_MIMIC.make_synthetic_mimic", "--out", str(raw)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "exists and is not an empty folder" in done.stderr


def test_nothing_is_left_of_a_failed_writing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("AVMNIST_and_MIMIC.mimic.synthetic.writing.write_table", fail)
    with pytest.raises(OSError):
        make_raw_tables(tmp_path / "raw", 3)
    assert not list(tmp_path.iterdir())


def test_benchmark_fits_a_line_through_seconds_and_says_what_is_projected():
    costs = [mimic_extract.Cost(2 + 0.5 * millions, 1 + millions, 1.0) for millions in (1, 5, 20)]
    text = "\n".join(mimic_extract.fit_lines([1, 5, 20], costs))
    assert "clock: 2.00 s + 0.500 s per million rows, R² 1.0000; " in text
    assert "; last step over first: 1.00 (target <= 1.2: met)" in text
    assert "PROJECTION" in text
    assert f"{2 + 0.5 * 330.712483:.0f} s" in text
    assert "peak 1.0 GB" in text


def test_benchmark_measures_the_child_and_not_itself():
    cost = mimic_extract.measure(["this"])
    assert 0 < cost.cpu < 5 and cost.peak < 0.1
