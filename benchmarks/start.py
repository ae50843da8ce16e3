"""What starting costs: a command that only answers against `import numpy`, a run against `import
torch`.

python -m benchmarks.start [--rounds 5] [--parts answers,runs]

answers  every command's --help and its refusal of a setting that there is not
runs     from the command to the first batch, of data that are prepared
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from AVMNIST_and_MIMIC.avmnist.digits import make_digits
from benchmarks.measuring.process import ROOT
from benchmarks.measuring.timing import alternate, beside, choices, machine, table
from benchmarks.mimic import make_arrays

FOLDERS = ("i2m2", "AVMNIST_and_MIMIC", "fastMRI", "VQA_and_NLVR2")
CONFIGS = "AVMNIST_and_MIMIC/configs"
RUNS = {
    "AV-MNIST": ["--config", f"{CONFIGS}/avmnist.yaml", "--method", "unimodal_image"],
    "MIMIC-III": ["--config", f"{CONFIGS}/mimic.yaml", "--method", "unimodal_static"],
}
STAYS = 2000
# Ends where the first batch is about to be computed with.
FIRST_BATCH = """
import sys
from AVMNIST_and_MIMIC.train import main
from i2m2.training import data
data.to_device = lambda *_: sys.exit()
main(sys.argv[1:])
"""


def commands() -> list[str]:
    """Every module that is a command."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [path for path in paths if '__name__ == "__main__"' in path.read_text()]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]


def run(*words: str, code: int = 0) -> None:
    """A Python process in the root of the project, which ends with this code."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != code:
        raise RuntimeError(f"{words} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def answers_part(rounds: int) -> str:
    tasks = {"import numpy": partial(run, "-c", "import numpy")}
    for name in commands():
        tasks[f"{name} --help"] = partial(run, "-m", name, "--help")
        tasks[f"{name}, a mistake"] = partial(run, "-m", name, "--nonsense", code=2)
    with tempfile.TemporaryDirectory() as empty:
        tasks["i2m2.results, no runs"] = partial(run, "-m", "i2m2.results", empty, code=2)
        seconds = alternate(tasks, rounds)
    rows = []
    for name, value in seconds.items():
        ratio = value / seconds["import numpy"]
        rows.append([name, *beside(value, "<= 1"), f"{ratio:.1f}"])
    columns = ["command", "seconds", "target", "ratio to import numpy"]
    return table(f"Answers: {rounds} rounds", columns, rows)


def runs_part(rounds: int) -> str:
    tasks = {"import torch": partial(run, "-c", "import torch")}
    with tempfile.TemporaryDirectory() as scratch:
        data = {name: Path(scratch) / name for name in RUNS}
        make_digits(data["AV-MNIST"])
        data["MIMIC-III"].mkdir()
        make_arrays(data["MIMIC-III"], STAYS)
        for name, words in RUNS.items():
            tasks[name] = partial(first_batch, [*words, "--data.dir", str(data[name])])
        seconds = alternate(tasks, rounds)
    rows = [["import torch", f"{seconds['import torch']:.2f}", "", ""]]
    for name in RUNS:
        ratio = beside(seconds[name] / seconds["import torch"], "<= 1.3")
        rows.append([name, f"{seconds[name]:.2f}", *ratio])
    columns = ["run", "seconds", "ratio to import torch", "target"]
    return table(f"Runs: to the first batch, {rounds} rounds", columns, rows)


def first_batch(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as out:
        run("-c", FIRST_BATCH, *words, "--out", out)


PARTS = {"answers": answers_part, "runs": runs_part}


def main(argv: list[str] | None = None) -> None:
    """Print a table for each part: medians of alternating rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="that count; one goes before them")
    about = "separated by commas"
    parser.add_argument("--parts", type=choices(PARTS), default=",".join(PARTS), help=about)
    args = parser.parse_args(argv)
    print(machine(), flush=True)
    for name in args.parts:
        print(PARTS[name](args.rounds), flush=True)


if __name__ == "__main__":
    main()
