"""Kills commands that write at random moments, gives them again, and compares what they end with.

python -m tests.kills --kills 20 --seed 0
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.conftest import MIMIC_CONFIG, ROOT

# Files that hold nothing of when and how they were written.
COMPARED = (".npz", ".npy", ".safetensors", "result.json", "table.md", "table.csv")
INPUTS = ("raw", "vqa")
MIMIC = f"--config {MIMIC_CONFIG} --data.dir data --out r --device cpu --threads 1"
FEATURES = f"""--config {ROOT}/VQA_and_NLVR2/configs/vqa_vs.yaml --data.dir vqa --features.dir f
    --backbone.kind fiber_random --backbone.checkpoint null --backbone.tokenizer vqa/tokenizer
    --backbone.sizes {ROOT}/VQA_and_NLVR2/configs/fiber_tiny.json --backbone.image_size null
    --backbone.max_text_length null --features.batch_size 8 --threads 1"""
TRAIN = "AVMNIST_and_MIMIC.train"
STAGES = {  # each begins where the one before has ended
    "preparation": "-m AVMNIST_and_MIMIC.prepare_mimic --raw raw --out data",
    "training": f"-m {TRAIN} {MIMIC} --method unimodal_static --optim.epochs 30",
    "seeds": f"-m {TRAIN} {MIMIC} --method unimodal_static --seeds 1..3 --optim.epochs 30",
    "sweep": f"-m i2m2.sweep --train {TRAIN} --rows unimodal_static,unimodal_series,intra "
    f"--seeds 0 {MIMIC} --optim.epochs 30",
    "results": "-m i2m2.results r",
    "extraction": f"-m VQA_and_NLVR2.extract_features {FEATURES}",
}


def main(argv: list[str] | None = None) -> None:
    """Print a line per kill; exits with 1 if any end differs."""
    parser = argparse.ArgumentParser("python -m tests.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        different = kill_all(Path(place), args.kills, np.random.default_rng(args.seed))
    sys.exit(different > 0)


def kill_all(place: Path, kills: int, rng: np.random.Generator) -> int:
    """Number of kills after which a command ended with something else."""
    whole = place / "whole"
    whole.mkdir()
    run(whole, "-m AVMNIST_and_MIMIC.make_synthetic_mimic --out raw --patients 300")
    run(whole, "-m VQA_and_NLVR2.make_synthetic --dataset vqa_vs --out vqa --scenes 200")
    seconds: dict[str, float] = {}
    for stage, words in STAGES.items():
        shutil.copytree(whole, place / stage, ignore=lambda folder, names: INPUTS)
        began = time.monotonic()
        run(whole, words)
        seconds[stage] = time.monotonic() - began
    different = 0
    for kill in range(kills):
        stage = list(STAGES)[kill % len(STAGES)]
        after = float(rng.uniform(0.1, 1.0) * seconds[stage])
        same = ends_alike(place / stage, whole, STAGES[stage], after)
        different += not same
        state = "the same end" if same else "ANOTHER END"
        print(f"{stage} killed after {after:.1f} of {seconds[stage]:.1f} s: {state}", flush=True)
    return different


def ends_alike(before: Path, whole: Path, words: str, after: float) -> bool:
    """Whether a command that is killed and given again ends as one that is not."""
    place = Path(shutil.copytree(before, before.with_name("again")))
    for name in INPUTS:
        os.symlink(whole / name, place / name)
    process = start(place, words)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(place, words)
    same = digests(place).items() <= digests(whole).items()
    shutil.rmtree(place)
    return same


def start(place: Path, words: str) -> subprocess.Popen:
    """Begin a command in a folder, in a group of processes of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    command = [sys.executable, *words.split()]
    return subprocess.Popen(command, cwd=place, env=environment, text=True, **options)


def run(place: Path, words: str) -> None:
    """Run a command in a folder to its end."""
    process = start(place, words)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{words}: exit code {process.returncode}: {errors[-500:]}")


def digests(folder: Path) -> dict[str, str]:
    """{file: the hash of its content}, without inputs and what is left of killed processes."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if path.name.endswith(COMPARED) and path.name[0] != "." and name.parts[0] not in INPUTS
    }


if __name__ == "__main__":
    main()
