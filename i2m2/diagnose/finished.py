"""The question answered from finished runs, such as those in `results/avmnist`, by their saved
predictions. There are no references then, and the prior is the labels' frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from i2m2.diagnose.answer import Answer, answer_of, nll_of
from i2m2.diagnose.predicted import KINDS, PRIOR, Predicted, choose, rows_of
from i2m2.errors import SettingsError
from i2m2.runs import by_seed, is_done, require_predictions, seed_folders
from i2m2.stats.predictions import Predictions, log_prob_of, refuse_other_examples

LEAST = -1e3  # log-probability, so that one certain, wrong answer leaves the mean finite


def diagnose_runs(folder: Path, metric: str, margin: float | None) -> Answer:
    """The answer from the test predictions of all finished runs in a results folder; their
    validation predictions choose. SettingsError where rows are missing, DataError for faulty
    predictions."""
    found = _finished(folder)
    if not found:
        raise SettingsError(f"{folder} has no finished runs; give one such as results/avmnist")
    most = max(map(len, found.values()))
    rows = {name: runs for name, runs in found.items() if len(runs) == most}
    seeds = next(iter(rows.values()))
    if any(runs.keys() != seeds.keys() for runs in rows.values()):
        raise SettingsError(f"{folder}: the rows have other seeds; train the same of each")
    rows = {name: [runs[seed] for seed in seeds] for name, runs in rows.items()}
    test = {name: [require_predictions(run, "test") for run in runs] for name, runs in rows.items()}
    refuse_other_examples(
        {f"{name}/seed{k}": one for name, of in test.items() for k, one in enumerate(of)}
    )
    predicted, choices = choose(_predicted(rows, test))
    n, groups = len(predicted.y), len(np.unique(predicted.group))
    about = f"{folder.name}: {n:,} test examples in {groups:,} groups; {most} seed"
    about += "s" * (most != 1)
    if left_out := sorted(found.keys() - rows.keys()):
        about += f"; left out for having fewer seeds: {', '.join(left_out)}"
    if copies := _copies(folder, found):
        about += f"; not counted, as copies by their config.yaml: {', '.join(copies)}"
    return answer_of(predicted, choices, about, metric, margin)


def _finished(folder: Path) -> dict[str, dict[str, Path]]:
    """{row of one of the kinds: its finished runs by their seeds}, a copy not counted."""
    names = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    rows = sum((rows_of(kind, names) for kind in KINDS), [])
    runs = {name: by_seed(filter(is_done, seed_folders(folder / name))) for name in rows}
    return {name: of for name, of in runs.items() if of}


def _copies(folder: Path, found: dict[str, dict[str, Path]]) -> list[str]:
    """Finished runs that are not counted, `intra/seed1` say."""
    all_of = [run for name in found for run in filter(is_done, seed_folders(folder / name))]
    counted = {run for runs in found.values() for run in runs.values()}
    return [f"{run.parent.name}/{run.name}" for run in all_of if run not in counted]


def _predicted(rows: dict[str, list[Path]], test: dict[str, list[Predictions]]) -> Predicted:
    first = next(iter(test.values()))[0]
    y = _labels(first)
    outputs = {name: np.stack([_outputs(one) for one in of]) for name, of in test.items()}
    shape = next(iter(outputs.values())).shape
    prior = np.stack([np.bincount(column, minlength=shape[-1]) for column in y.T]) / len(y)
    outputs[PRIOR] = np.broadcast_to(np.maximum(np.log(np.maximum(prior, 1e-300)), LEAST), shape)
    validation = {
        name: np.array([[_validation_nll(run)] for run in of]) for name, of in rows.items()
    }
    return Predicted(
        outputs=outputs,
        y=y,
        group=first["group"],
        fold=np.zeros(shape[:2], dtype=np.int64),
        validation=validation,
        classify=True,
    )


def _labels(predictions: Predictions) -> np.ndarray:
    """[n, L]"""
    return predictions["y"].reshape(len(predictions["y"]), -1)


def _outputs(predictions: Predictions) -> np.ndarray:
    """Log-probabilities [n, L, C]."""
    log_prob = np.maximum(log_prob_of(predictions).astype(np.float64), LEAST)
    return log_prob[:, None] if log_prob.ndim == 2 else log_prob


def _validation_nll(run: Path) -> float:
    held_out = require_predictions(run, "val")
    return float(nll_of(_outputs(held_out), _labels(held_out), classify=True).mean())
