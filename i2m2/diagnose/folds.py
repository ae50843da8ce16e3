"""All folds of all seeds: in parallel, with a progress bar, resumed after a kill.

Every fold is computed with one thread, so that its numbers do not depend on how many run at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from i2m2.diagnose.rows import FoldRows, Question, predict_rows, predict_rows_by_half
from i2m2.errors import SettingsError
from i2m2.estimator.models.identity import identity_of
from i2m2.files import write_atomic, write_json
from i2m2.reading.arrays import UNREADABLE
from i2m2.reading.records import read_record
from i2m2.runs import run_folders

PARTS = ".folds"  # in the folder of results: one file per seed and fold, until all are done
VERSION = 11  # counts up when the same data give other predictions

Folds = list[tuple[np.ndarray, FoldRows]]  # test examples [n] bool, and their rows
Unit = tuple[int, int, bool]  # seed, fold, whether by half of the training examples


def run_folds(
    question: Question, seeds: int, jobs: int | None, out: Path | None, progress: bool
) -> Folds:
    """Every fold of every seed, in order; the first seed's also by half of the training examples.
    SettingsError where `out` holds folds of other data or settings."""
    folds = [question.outer_folds(seed) for seed in range(seeds)]
    whole = [(seed, k, False) for seed in range(seeds) for k in range(folds[seed].max() + 1)]
    # What takes least time comes last, so that no job waits long for the others.
    units = whole + [(seed, k, True) for seed, k, _ in whole if seed == 0]
    parts = None if out is None else _open(out / PARTS, question, seeds)
    found: dict[Unit, FoldRows] = {}
    for unit in units if parts else ():
        if (rows := _read(parts / _name(*unit))) is not None:
            found[unit] = rows
    waiting = [unit for unit in units if unit not in found]
    tests = {unit: folds[unit[0]] == unit[1] for unit in units}
    for unit, rows in _bar(_compute(question, waiting, tests, jobs), len(units), found, progress):
        found[unit] = rows
        if parts:
            _write(parts / _name(*unit), rows)
    for seed, k, half in units:
        if half:
            found[seed, k, False].outputs |= found[seed, k, True].outputs
    return [(tests[unit], found[unit]) for unit in whole]


def _compute(question: Question, units: list, tests: dict, jobs: int | None) -> Iterator:
    """(unit, its rows) as they are done."""
    jobs = min(jobs or len(os.sched_getaffinity(0)), max(len(units), 1))
    if jobs == 1:
        yield from (_one(question, unit, tests[unit]) for unit in units)
        return
    from joblib import Parallel, delayed

    work = (delayed(_one)(question, unit, tests[unit]) for unit in units)
    yield from Parallel(n_jobs=jobs, return_as="generator_unordered", max_nbytes=None)(work)


def _one(question: Question, unit: Unit, test: np.ndarray) -> tuple[Unit, FoldRows]:
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            predict = predict_rows_by_half if unit[2] else predict_rows
            return unit, predict(question, test, seed=unit[0])
    finally:
        torch.set_num_threads(before)


def _bar(done: Iterator, total: int, before: dict, progress: bool) -> Iterator:
    from tqdm import tqdm

    options = {"total": total, "initial": len(before), "unit": "fold", "leave": False}
    yield from tqdm(done, desc="diagnose", disable=not progress, **options)


def _open(folder: Path, question: Question, seeds: int) -> Path:
    """The folder of finished folds, which must be of this question."""
    out, known = folder.parent, folder / "of.json"
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file; give --out a folder")
    wanted = described(question) | {"seeds": str(seeds)}
    if known.exists():
        remedy = f"give another --out, or delete {out}"
        _refuse_others(out, read_record(known, dict[str, str], remedy), wanted)
    elif run_folders(out):
        if (out / "diagnosis.json").exists():
            raise SettingsError(
                f"{out} holds a diagnosis whose {PARTS} is gone; "
                "give another --out, or delete that folder"
            )
        raise SettingsError(f"{out} holds runs that are not of a diagnosis; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.tmp.*"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    if not known.exists():
        write_json(known, wanted)
    return folder


def _refuse_others(out: Path, known: dict[str, str], wanted: dict[str, str]) -> None:
    names = [name for name in known | wanted if known.get(name) != wanted.get(name)]
    if not names:
        return
    raise SettingsError(
        f"{out} holds a diagnosis with other {', '.join(names)}; "
        "give another --out, or delete that folder"
    )


def fingerprint(question: Question) -> str:
    """A hash of the data and of every setting that has influence on a fold."""
    return _hash(json.dumps(described(question)).encode())


def described(question: Question) -> dict[str, str]:
    """{what has influence on a fold: its value, or a hash of it}."""
    given = {name: identity_of(expert) for name, expert in sorted(question.experts.items())}
    found = {
        "version": str(VERSION),
        "folds": str(question.folds),
        "modalities": ", ".join(question.blocks),
        "interactions": question.interactions,
        "experts": repr(given),
        "network": repr(sorted(question.network.items())),
        "further": str(question.further),
        "target": _hash(_bytes_of_array(question.y)),
        "groups": "none",
    }
    if question.groups is not None:
        found["groups"] = _hash(_bytes_of_array(question.groups))
    for name, block in question.blocks.items():
        found[f"modality {name}"] = f"{block.kind} {_hash(_bytes_of(block))}"
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes_of(block) -> bytes:
    if block.kind == "table":
        import pandas as pd

        hashes = pd.util.hash_pandas_object(block.values, index=False)
        return repr(list(block.values.columns)).encode() + hashes.to_numpy().tobytes()
    if block.kind == "text":
        return repr(block.values.tolist()).encode()
    return _bytes_of_array(block.values)


def _bytes_of_array(array: np.ndarray) -> bytes:
    return f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()


def _name(seed: int, fold: int, half: bool) -> str:
    return f"seed{seed}_fold{fold}{'_half' * half}.npz"


def _write(path: Path, rows: FoldRows) -> None:
    groups = {
        "output": rows.outputs,
        "validation": rows.validation,
        "expert": rows.experts,
        "further": rows.further,
    }
    arrays = {
        f"{group}/{name}": np.asarray(one)
        for group, of in groups.items()
        for name, one in of.items()
    }
    write_atomic(path, lambda temporary: np.savez(temporary, **arrays))


def _read(path: Path) -> FoldRows | None:
    """A finished fold; None where there is none, or a damaged one, which is then computed again."""
    groups: dict[str, dict] = {"output": {}, "validation": {}, "expert": {}, "further": {}}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                group, _, name = key.partition("/")
                groups[group][name] = file[key] if group != "validation" else float(file[key])
    except UNREADABLE:
        return None
    return FoldRows(*groups.values())
