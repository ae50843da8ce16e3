"""What the start of every command costs: `python -m COMMAND --help` against `import numpy`.

python -m benchmarks.start [--rounds 5]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the file can be run as it is

from benchmarks.process import ROOT
from benchmarks.timing import alternate, machine, table

FOLDERS = ("i2m2", "AVMNIST_and_MIMIC", "fastMRI", "VQA_and_NLVR2")
HEAVY = ("torch", "accelerate", "transformers", "pandas", "sklearn", "scipy", "duckdb", "h5py")
# Ends as `--help` does, then says what was loaded.
PROBE = """
import importlib, io, sys, contextlib
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    importlib.import_module(sys.argv[1]).main(["--help"])
print(len(sys.modules), *(name for name in sys.argv[2:] if name in sys.modules))
"""


def commands() -> list[str]:
    """Every module that is a command."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [path for path in paths if '__name__ == "__main__"' in path.read_text()]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]


def run(*words: str) -> str:
    """A Python process in the root of the project -> what it prints."""
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def main(argv: list[str] | None = None) -> None:
    """Print a table: a row per command, medians of alternating rounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="that count; one goes before them")
    args = parser.parse_args(argv)
    tasks = {"import numpy": partial(run, "-c", "import numpy")}
    tasks |= {name: partial(run, "-m", name, "--help") for name in commands()}
    seconds = alternate(tasks, args.rounds)
    rows = []
    for name, value in seconds.items():
        modules, *heavy = "-" if name == "import numpy" else run("-c", PROBE, name, *HEAVY).split()
        ratio = value / seconds["import numpy"]
        loaded = ", ".join(heavy) or "none"
        rows.append([name, f"{value:.2f}", f"{ratio:.1f}", modules, loaded])
    columns = ["command", "seconds", "ratio to import numpy", "modules", "heavy ones loaded"]
    print(machine())
    print(table("Start: --help of every command", columns, rows))


if __name__ == "__main__":
    main()
