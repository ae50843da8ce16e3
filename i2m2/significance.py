"""How sure a table's numbers are: an interval for every row, and which rows cannot be told from the best of a column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.comparison import holm
from i2m2.errors import DataError, SettingsError
from i2m2.files import write_json
from i2m2.metrics import LOWER_IS_BETTER
from i2m2.records import Record
from i2m2.resampling import RESAMPLES
from i2m2.run import finite
from i2m2.statistics import Own, read_seed, refuse_other_examples, resample, summary

FILE = "statistics.json"

Rows = Mapping[str, Sequence[Record]]  # run name -> its finished seeds


def statistics_for(folder: Path, name: str, rows: Rows, metrics: Sequence[str], own: str = "") -> dict[str, Any]:
    """Statistics of the table `name` of a results folder: from the runs' predictions, and kept in statistics.json; or from there,
    where the predictions are gone (as in reported/) or have not changed. `own`: see `tables.Entry`.

    -> {"rows": {run: {metric: `statistics.summary`}}, "best": {metric: run}, "p": {metric: {run: corrected p}}}; {} without any.
    """
    stored = read_stored(folder)
    there = {run: [record for record in records if (record.dir / "predictions_test.npz").exists()] for run, records in rows.items()}
    there = {run: records for run, records in there.items() if records}
    if not there:
        return stored.get(name, {})
    state = {run: [stamp(record) for record in records] for run, records in there.items()} | {"metrics": list(metrics)}
    if stored.get(name, {}).get("of") == state:
        return stored[name]
    try:
        made = {"of": state, **judge(there, metrics, import_module(own).OWN if own else None)}
    except DataError as error:  # runs on other examples: each stands, but none can be compared
        made = {"of": state, "rows": {}, "best": {}, "p": {}, "why_not": str(error)}
    store(folder, {name: made})
    return made


def judge(rows: Rows, metrics: Sequence[str], own: Mapping[str, Own] | None = None) -> dict[str, Any]:
    """The same, computed. Metrics that neither `i2m2.metrics` nor `own` has are left out."""
    predictions = {(run, r.seed): read_seed(r.dir, "test") for run, records in rows.items() for r in records}
    refuse_other_examples({f"{run}/seed{seed}": p for (run, seed), p in predictions.items()})
    keys = list(predictions)
    groups = len(np.unique(predictions[keys[0]]["group"]))
    found: dict[str, Any] = {"rows": {run: {} for run in rows}, "best": {}, "p": {}, "groups": groups, "resamples": RESAMPLES}
    for metric in metrics:
        try:
            values, drawn = resample(list(predictions.values()), [metric], own)[metric]
        except (SettingsError, DataError):
            continue
        place = {run: [k for k, key in enumerate(keys) if key[0] == run] for run in rows}
        for run, at in place.items():
            found["rows"][run][metric] = summary(metric, values[at], drawn[:, at], groups)
        best, p = _best(metric, {run: {keys[k][1]: k for k in at} for run, at in place.items()}, values, drawn, groups)
        found["best"][metric], found["p"][metric] = best, p
    return found


def _best(
    metric: str, places: Mapping[str, Mapping[int, int]], values: np.ndarray, drawn: np.ndarray, groups: int
) -> tuple[str | None, dict[str, float | None]]:
    """The row with the best mean, and for every other the Holm-corrected p of the difference over the seeds that both have."""
    means = {run: float(values[list(at.values())].mean()) for run, at in places.items()}
    known = {run: -mean if metric in LOWER_IS_BETTER else mean for run, mean in means.items() if np.isfinite(mean)}
    if len(known) < 2:
        return None, {}
    best = max(known, key=known.get)
    p: dict[str, float] = {}
    for run in known:
        if run != best and (seeds := sorted(set(places[run]) & set(places[best]))):
            a, b = ([places[name][seed] for seed in seeds] for name in (best, run))
            found = summary(metric, values[a] - values[b], drawn[:, a] - drawn[:, b], groups, difference=True)["p"]
            p[run] = np.nan if found is None else found
    corrected = holm(list(p.values())) if p else []
    return best, {run: float(value) if np.isfinite(value) else None for run, value in zip(p, corrected, strict=True)}


def read_stored(folder: Path) -> dict[str, Any]:
    """statistics.json of a results folder; {} if there is none."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete it, it is computed again") from error


def store(folder: Path, made: Mapping[str, Any]) -> None:
    """Add to statistics.json."""
    write_json(folder / FILE, read_stored(folder) | finite(made))


def stamp(record: Record) -> str:
    """Seed, size and time of a run's predictions."""
    status = (record.dir / "predictions_test.npz").stat()
    return f"seed{record.seed} {status.st_size} {status.st_mtime_ns}"
