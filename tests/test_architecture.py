"""The arrows between the parts: who may import whom, what stays without torch, and how large a
folder is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from i2m2.report.paper import read_specs
from tests.conftest import AVMNIST_CONFIG, ROOT

FOLDERS = ("i2m2", "AVMNIST_and_MIMIC", "fastMRI", "VQA_and_NLVR2")
DATASETS = FOLDERS[1:]
COMMANDS = {f"i2m2.{name}" for name in ("results", "compare", "combine", "sweep", "dial")}
METHOD = {
    *(f"i2m2.{name}" for name in ("model", "fusion", "losses", "metrics")),
    *(f"i2m2.{name}" for name in ("names", "errors", "files", "settings")),
    *(f"i2m2.encoders.{name}" for name in ("dense", "series", "cpu_kernels")),
    "i2m2.stats.resampling",
}
MOST_MODULES = 14  # of one folder, __init__.py among them unless it is empty
HEAVY = ("torch", "accelerate", "transformers", "pandas")
# What `--help` needs none of either; each takes a noticeable part of a second.
HEAVY_FOR_HELP = (*HEAVY, "sklearn", "scipy", "h5py", "duckdb", "matplotlib")


@cache
def modules() -> dict[str, Path]:
    """{dotted name: file} of the four code folders."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement that is run, in functions too; what stands under `if TYPE_CHECKING:` is
    not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


@cache
def imports_of(module: str) -> frozenset[str]:
    """Modules of ours, and top-level names of others, that a module imports anywhere."""
    found = set()
    for node in statements(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = names & modules().keys()
            found |= submodules if submodules == names else submodules | {node.module}
    return frozenset(name if name in modules() else name.partition(".")[0] for name in found)


def reached_from(module: str) -> set[str]:
    """Everything that a module imports, directly or through others."""
    reached, waiting = set(), [module]
    while waiting:
        new = imports_of(waiting.pop()) - reached
        reached |= new
        waiting += new & modules().keys()
    return reached


def within(package: str) -> set[str]:
    return {name for name in modules() if name == package or name.startswith(f"{package}.")}


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imports_of(name) & modules().keys() for name in modules()}
    circle = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, " <- ".join(circle)


TRAINING, REPORT, STATS, ESTIMATOR, DIAGNOSE = (
    f"i2m2.{name}" for name in ("training", "report", "stats", "estimator", "diagnose")
)
ANSWER = within(ESTIMATOR) | within(DIAGNOSE)


@pytest.mark.parametrize(
    "of, forbidden",
    [
        (METHOD, within(TRAINING) | within(REPORT) | ANSWER | COMMANDS),
        (
            within(STATS),
            within(TRAINING) | within(REPORT) | ANSWER | COMMANDS | {"i2m2.runs", "torch"},
        ),
        (within(REPORT), within(TRAINING) | ANSWER | COMMANDS | {"torch"}),
        (within(TRAINING), within(REPORT) | ANSWER | COMMANDS),
        (within(ESTIMATOR), within(TRAINING) | within(REPORT) | within(DIAGNOSE) | COMMANDS),
        (within(DIAGNOSE), within(TRAINING) | COMMANDS),
        (within("i2m2"), set().union(*map(within, DATASETS))),
        *((within(a), within(b)) for a in DATASETS for b in DATASETS if a != b),
    ],
    ids=["method", "stats", "report", "training", "estimator", "diagnose", "core"]
    + [f"{a} without {b}" for a in DATASETS for b in DATASETS if a != b],
)
def test_arrows_go_one_way(of, forbidden):
    assert of <= modules().keys()
    wrong = {name: sorted(reached_from(name) & forbidden) for name in sorted(of)}
    assert not {name: others for name, others in wrong.items() if others}


def test_no_folder_holds_more_modules_than_a_reader_overlooks():
    held = (ROOT / top for top in (*FOLDERS, "benchmarks", "tests"))
    filled = [path.parent for top in held for path in top.rglob("*.py") if path.stat().st_size]
    too_many = {folder: n for folder, n in Counter(filled).items() if n > MOST_MODULES}
    assert not too_many


# What is loaded is seen from outside, since the tests themselves load torch.


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


IMPORT_EACH = """
import importlib, sys
*names, heavy = sys.argv[1:]
for name in names:
    importlib.import_module(name)
    if loaded := [module for module in heavy.split(",") if module in sys.modules]:
        sys.exit(f"{name} loads {', '.join(loaded)}")
"""


def light_modules() -> list[str]:
    """Reports, statistics and what is needed before a run begins."""
    settings = {n for n in modules() if n.endswith((".settings", ".datasets"))}
    analyses = {spec.analysis for specs in read_specs().values() for spec in specs}
    return sorted(within(STATS) | within(REPORT) | COMMANDS | settings | analyses - {""})


def test_reports_statistics_and_settings_load_no_torch():
    done = python(IMPORT_EACH, *light_modules(), ",".join(HEAVY))
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_loaded_when_asked_for():
    done = python(IMPORT_EACH, "i2m2", "torch,numpy")
    assert done.returncode == 0, done.stderr
    done = python(
        "from i2m2 import FUSIONS, FusionExpert, ProductOfExperts, UnimodalExpert\n"
        "import i2m2\n"
        "assert all(getattr(i2m2, name) for name in i2m2.__all__)\n"
        "assert 'concat' in FUSIONS and not hasattr(i2m2, 'nothing')\n"
        "print(ProductOfExperts.__module__, FusionExpert.__module__, UnimodalExpert.__module__)"
    )
    assert done.stdout.split() == ["i2m2.model"] * 3, done.stderr


ANSWERS = """
import contextlib, importlib, io, sys
from i2m2.errors import SettingsError
heavy, *lines = sys.argv[1:]
for line in lines:
    name, *arguments = line.split()
    printed = io.StringIO()
    main = importlib.import_module(name).main
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit, SettingsError):
        main(arguments)
        sys.exit(f"{line}: does what it was not asked for")
    assert arguments != ["--help"] or "usage:" in printed.getvalue(), line
    if loaded := [module for module in heavy.split(",") if module in sys.modules]:
        sys.exit(f"{line}: loads {', '.join(loaded)}")
"""
# Beside a setting that there is not, which every command is given.
MISTAKES = (
    "i2m2.results nowhere",
    "i2m2.compare nowhere/a nowhere/b",
    "i2m2.combine nowhere/a nowhere/b",
    "i2m2.diagnose.__main__ nowhere.csv --target y --modality a=b",
    "AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/avmnist.yaml --optim.lr fast",
    "AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/mimic.yaml --task icd9_20",
    "AVMNIST_and_MIMIC.train --config AVMNIST_and_MIMIC/configs/mimic.yaml --print_config",
    "AVMNIST_and_MIMIC.evaluate nowhere",
    "AVMNIST_and_MIMIC.robustness nowhere",
    "fastMRI.train --config fastMRI/configs/fastmri.yaml --optim.epochs 0",
    "fastMRI.noise nowhere",
    "VQA_and_NLVR2.train --config VQA_and_NLVR2/configs/nlvr2.yaml --method late",
)


def commands() -> list[str]:
    """The modules that can be run with `python -m`."""
    return [name for name, path in modules().items() if "\nif __name__ ==" in path.read_text()]


def test_every_command_that_a_readme_names_is_one():
    texts = [path.read_text() for path in (ROOT / "README.md", *ROOT.glob("*/README.md"))]
    words = " ".join(texts).replace("`", " ").split()
    named = {word for before, word in zip(words, words[1:], strict=False) if before == "-m"}
    ours = {name for name in named if name.partition(".")[0] in FOLDERS}
    known = {command.removesuffix(".__main__") for command in commands()}
    assert len(ours) > 15 and ours <= known


def test_help_and_mistakes_need_nothing_that_is_slow_to_load():
    answers = [f"{command} {what}" for command in commands() for what in ("--help", "--nonsense")]
    done = python(ANSWERS, ",".join(HEAVY_FOR_HELP), *answers, *MISTAKES)
    assert done.returncode == 0, done.stderr


TRAIN = """
import sys
from AVMNIST_and_MIMIC.train import main
main(sys.argv[2:])
print("loaded:", *(module for module in sys.argv[1].split(",") if module in sys.modules))
"""


def test_a_run_loads_torch_and_little_else(avmnist_files, tmp_path):
    words = ["--config", AVMNIST_CONFIG, "--method", "i2m2", "--init", "scratch"]
    words += ["--optim.epochs", "1", "--data.dir", str(avmnist_files), "--out", str(tmp_path)]
    slow = ("torch._dynamo", "sympy", "sklearn", "scipy", "pandas", "transformers", "torchvision")
    done = python(TRAIN, ",".join(slow), *words)
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout + done.stderr
