"""What scripts/setup.sh makes of the variables that the scripts read."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

NAMES = ("DATA", "OUT", "RAW", "IMAGES", "FEATURES", "CLUSTER", "CONFIG", "PYTHON")


def sourced(folder, *arguments, **variables):
    """setup.sh in a process of a caller in that folder, which prints its variables then."""
    script = f"set -euo pipefail; source {ROOT}/scripts/setup.sh; env; echo PWD_IS=$PWD"
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    path = f"{os.path.dirname(sys.executable)}:{kept['PATH']}"
    environment = kept | {"VIRTUAL_ENV": sys.prefix, "PATH": path} | variables
    command = ["bash", "-c", script, "scripts/mimic.sh", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def variables_of(folder, **variables):
    """What the variables are after setup.sh, for a caller in that folder."""
    done = sourced(folder, **variables)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert lines["PWD_IS"] == str(ROOT)
    return {name: lines[name] for name in NAMES if name in lines}


def test_what_the_caller_names_lies_in_the_caller_s_folder(tmp_path):
    (tmp_path / "my own.yaml").touch()
    given = dict.fromkeys(("DATA", "OUT", "RAW", "IMAGES", "FEATURES", "CLUSTER"), "a b/../c")
    given |= {"CONFIG": "my own.yaml", "PYTHON": "bin/python"}
    found = variables_of(tmp_path, **given)
    assert found == {name: f"{tmp_path}/{value}" for name, value in given.items()}


@pytest.mark.parametrize("inside", [True, False])
def test_other_values_stay_as_they_are(tmp_path, inside):
    """Absolute ones, the repository's own configs, commands; and every one within its root."""
    given = {"OUT": "/x/results", "CONFIG": "fastMRI/configs/fastmri.yaml", "PYTHON": "python3"}
    given |= {"DATA": "data/fastmri"} if inside else {}
    assert variables_of(ROOT if inside else tmp_path, **given) == given


@pytest.mark.parametrize("words", [["--out", "/tmp/b"], ["--seed", "3", "--out=b"]])
def test_the_folder_of_results_is_given_by_environment_alone(tmp_path, words):
    """The tables are made from OUT, wherever the runs have gone."""
    done = sourced(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --out") and len(done.stderr.splitlines()) == 1
    assert "OUT=results bash scripts/mimic.sh" in done.stderr
