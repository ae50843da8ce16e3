"""Out-of-fold predictions as a folder of runs, which `i2m2.results` and `i2m2.compare` read: a row
per run, a seed per seed folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from i2m2.diagnose.predicted import HALF, Predicted
from i2m2.files import Plain, finite, write_atomic, write_json, write_text
from i2m2.metrics import score
from i2m2.names import EXPERT

WITH_EXPERTS = "i2m2-separate"  # the row whose run also has its experts' predictions


def write_runs(
    out: Path,
    predicted: Predicted,
    ids: np.ndarray,
    experts: Mapping[str, np.ndarray],
    settings: Plain,
    environment: Plain,
) -> None:
    """Write `out`/<row>/seed<k> for every row and seed. Of a regression there are no classes, and
    nothing is written."""
    if not predicted.classify:
        return
    for row, outputs in predicted.outputs.items():
        if row.startswith(HALF):
            continue
        for seed, log_prob in enumerate(outputs):
            own = {name: one[seed] for name, one in experts.items()} if row == WITH_EXPERTS else {}
            folder = out / row / f"seed{seed}"
            _write_run(folder, predicted, ids, log_prob, own)
            config = {"dataset": out.name, "method": row, "seed": seed, **settings}
            write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
            write_json(folder / "env.json", finite(environment))
            write_text(folder / "DONE", "")


def _write_run(
    folder: Path,
    predicted: Predicted,
    ids: np.ndarray,
    log_prob: np.ndarray,
    experts: Mapping[str, np.ndarray],
) -> None:
    several = predicted.y.shape[1] > 1
    arrays = {"log_prob": log_prob} | {f"{EXPERT}{name}": one for name, one in experts.items()}
    arrays = {name: _filled(one) for name, one in arrays.items()}
    y = predicted.y if several else predicted.y[:, 0]
    if not several:
        arrays = {name: one[:, 0] for name, one in arrays.items()}
    columns = {"id": ids, "group": predicted.group, "y": y}
    write_atomic(folder / "predictions_test.npz", partial(np.savez, **columns, **arrays))
    write_json(folder / "result.json", finite({"test": score(y, arrays["log_prob"])}))


def _filled(log_prob: np.ndarray) -> np.ndarray:
    """Uniform where an expert abstains (NaN)."""
    uniform = -np.log(log_prob.shape[-1])
    return np.where(np.isnan(log_prob), uniform, np.maximum(log_prob, -1e3)).astype(np.float32)
