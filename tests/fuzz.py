"""Damages the files that the project writes in many ways, and counts what readers make of them.

    python -m tests.fuzz --cases 3000 --seed 0 --seconds 7200

Right is: the same numbers as without the damage; or other ones, and the output names the file; or
one line that does so, and the exit code of settings or data. Wrong is a traceback, a hang (20 s),
another exit code, or other numbers without a word (silence).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2m2.errors import run_command
from i2m2.reading.yaml12 import dump_yaml, load_yaml

PATIENCE = 20  # seconds until a command hangs
RIGHT = "right"


def without_folders(text: str) -> str:
    """A text without the names of folders, which differ from one damage to the next."""
    return re.sub(r"\S*/copy\S*", "", text)


class Target(NamedTuple):
    """A folder, the files in it that are damaged, and the command that reads them."""

    name: str
    folder: Path
    files: list[str]
    command: Callable[[Path], None]  # of a copy of the folder
    numbers: Callable[[str], object] = without_folders  # of what it prints


class Outcome(NamedTuple):
    """What became of a command; `code` None: it hung."""

    code: int | None
    out: str
    err: str


def fuzz(targets: list[Target], cases: int, seed: int, seconds: float) -> Counter[str]:
    """Damage a file of one target after the other -> {verdict: how often}; what is not right is
    printed."""
    counts: Counter[str] = Counter()
    usual = {target.name: run(target, None, np.random.default_rng(seed)) for target in targets}
    for target in targets:
        outcome = usual[target.name][0]
        assert outcome.code == 0, (target.name, outcome)
    end = time.monotonic() + seconds
    for case in range(cases):
        if time.monotonic() > end:
            break
        target, rng = targets[case % len(targets)], np.random.default_rng([seed, case])
        name = target.files[rng.integers(len(target.files))]
        outcome, what = run(target, name, rng)
        verdict = judge(target, name, outcome, usual[target.name][0])
        counts[verdict] += 1
        if verdict != RIGHT:
            last = (outcome.err.strip().splitlines() or [""])[-1][:200]
            print(f"{verdict}: case {case}, {target.name}, {name}, {what}: {last}", flush=True)
    return counts


def judge(target: Target, name: str, outcome: Outcome, usual: Outcome) -> str:
    """`right`, or what is wrong."""
    said = outcome.out + outcome.err
    names_it = Path(name).name in said or Path(name).parent.name in outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    if outcome.code is None:
        return "hang"
    if "Traceback" in outcome.err:
        return "traceback"
    if outcome.code in (2, 3):
        return RIGHT if len(errors) == 1 and names_it else "unnamed"
    if outcome.code:
        return f"exit code {outcome.code}"
    same = target.numbers(outcome.out) == target.numbers(usual.out)
    return RIGHT if same or names_it else "silence"


def run(target: Target, name: str | None, rng: np.random.Generator) -> tuple[Outcome, str]:
    """The command on a copy of the folder whose file `name` is damaged -> outcome, what was done
    to it."""
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(target.folder, Path(place) / "copy", symlinks=True)
        what = damage(copy / name, rng) if name else ""
        return in_child(lambda: target.command(copy), Path(place)), what


def in_child(command: Callable[[], None], place: Path) -> Outcome:
    """Run in a fork, which has all libraries loaded already, within `PATIENCE`."""
    child = os.fork()
    if not child:
        code = 1
        for number, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(place / stream, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.chdir(place)
        try:
            run_command(lambda _: command())
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    end = time.monotonic() + PATIENCE
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return Outcome(None, "", "")
        time.sleep(0.005)
    texts = [(place / stream).read_text(errors="replace") for stream in ("out", "err")]
    return Outcome(os.waitstatus_to_exitcode(done[1]), *texts)


def main(argv: list[str] | None = None) -> None:
    """Print the counts; exits with 1 if more than 0.5 % are not right."""
    from tests import fuzz_targets

    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=3000, help="files to damage (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damages (default: 0)")
    limit = "when to end, at the latest (default: two hours)"
    parser.add_argument("--seconds", type=float, default=7200, help=limit)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as world:
        makers = ("of_runs", "of_avmnist", "of_fastmri", "of_vqa")
        made = [getattr(fuzz_targets, maker)(Path(world)) for maker in makers]
        counts = fuzz(sum(made, []), args.cases, args.seed, args.seconds)
    total = sum(counts.values())
    print(f"{total} cases, seed {args.seed}:", dict(counts))
    sys.exit(total - counts[RIGHT] > 0.005 * total)


# ---- Damage


def damage(path: Path, rng: np.random.Generator) -> str:
    """Damage a file -> how."""
    ways = [flip, cut, empty, pipe]
    of_kind = {".json": exchange, ".yaml": exchange, ".npz": other_array}
    ways += [of_kind[path.suffix]] * 6 if path.suffix in of_kind else []
    way = ways[rng.integers(len(ways))]
    return f"{way.__name__} {way(path, rng) or ''}"


def flip(path: Path, rng: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    places = rng.integers(len(content), size=rng.integers(1, 9))
    for place in places:
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return f"at {places.tolist()}"


def cut(path: Path, rng: np.random.Generator) -> str:
    left = int(rng.integers(path.stat().st_size))
    os.truncate(path, left)
    return f"to {left}"


def empty(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(b"")


def pipe(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    os.mkfifo(path)


def exchange(path: Path, rng: np.random.Generator) -> str:
    """A value of a JSON or YAML file for one of another type, or for none."""
    is_json = path.suffix == ".json"
    content = json.loads(path.read_text()) if is_json else load_yaml(path.read_text())
    places = list(places_in(content))
    inside, key = places[rng.integers(len(places))]
    others = [None, [], [1, "x"], {}, {"x": 1}, 3, -1.5, 10**30, "text", "", True, ...]
    other = others[rng.integers(len(others))]
    if other is ...:
        del inside[key]
    else:
        inside[key] = other
    path.write_text(json.dumps(content) if is_json else dump_yaml(content))
    return f"{key} for {other!r}"


def places_in(content):
    """(container, key) of every value, however deep."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from places_in(content[key])


def other_array(path: Path, rng: np.random.Generator) -> str:
    """An array of a .npz of another type, shape or name, or none."""
    with np.load(path) as file:
        arrays = dict(file)
    names = list(arrays)
    name, second = names[rng.integers(len(names))], names[rng.integers(len(names))]
    array = arrays[name]
    ways = {
        "is text": lambda: array.astype(str),
        "is complex": lambda: np.zeros(array.shape, complex),
        "holds objects": lambda: np.full(array.shape, None, object),
        "is shorter": lambda: array[: len(array) // 2] if array.ndim else array,
        "has an axis more": lambda: array[None],
        "is flat": lambda: array.reshape(-1),
        "is empty": lambda: array[:0] if array.ndim else array,
        f"is {second}": lambda: arrays[second],
        "is gone": lambda: None,
    }
    way = list(ways)[rng.integers(len(ways))]
    other = ways[way]()
    arrays = {key: value for key, value in (arrays | {name: other}).items() if value is not None}
    np.savez(path, **arrays)
    return f"{name} {way}"


if __name__ == "__main__":
    main()
