"""What is told of runs beside their tables: entropies (Table C.7), rescues (section 4.6), calibration, combinations.

Computed from a run's saved predictions and kept in its statistics.json, so that the tables stand where the predictions do not
(reported/). `i2m2.study_sheets` shows them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.calibration import CALIBRATION, post_hoc, reliability
from i2m2.combine import combine
from i2m2.errors import DataError, SettingsError
from i2m2.evaluate import EXPERT
from i2m2.experiment import Predictions
from i2m2.experts import entropies, expert_log_probs, rescues
from i2m2.metrics import score
from i2m2.model import INTER
from i2m2.records import Record
from i2m2.run import finite
from i2m2.significance import read_stored, stamp, store
from i2m2.statistics import read_seed, resample, summary
from i2m2.tables import OwnStatistics

VERSION = 3  # counts up when the same predictions give other studies
PRODUCT = "product"
MEANS = ("entropy", "rescue", "calibration")  # over the seeds


def study(predictions: Predictions) -> dict[str, Any]:
    """Of one run: "calibration" {"product", each expert: {metric: value}} and "reliability" {the same: diagram}; of several
    experts also "entropy" {"y", "product", each expert: nats} and "rescue" (`rescue_rate`).

    Means over the labels, where there are several; diagrams are of all labels together.
    """
    log_probs = {PRODUCT: predictions["log_prob"], **expert_log_probs(predictions)}
    scores = {name: score(predictions["y"], log_prob, CALIBRATION) for name, log_prob in log_probs.items()}
    y = predictions["y"].reshape(-1)
    found = {
        "calibration": {name: {metric: values[metric] for metric in CALIBRATION} for name, values in scores.items()},
        "reliability": {name: reliability(y, log_prob.reshape(len(y), -1)) for name, log_prob in log_probs.items()},
    }
    if len(log_probs) > 2:
        found |= {"entropy": _over_labels(entropies(predictions)), "rescue": _over_labels(rescues(predictions))}
    return found


def combination(val: Mapping[str, Predictions], test: Mapping[str, Predictions], joint: Predictions) -> dict[str, Any]:
    """Experts that were trained alone, {name: predictions} of both splits, and the joint run's predictions of the test split ->
    {way to combine them: {"scores", and what was fitted}} of `calibration.post_hoc`."""
    ways = post_hoc(combine(val), combine(test), joint)
    kept = {way: {key: value for key, value in one.items() if key != "log_prob"} for way, one in ways.items()}
    for one in kept.values():
        one["scores"] = {metric: one["scores"][metric] for metric in CALIBRATION}
    return kept | ({"labels": joint["labels"].tolist()} if "labels" in joint else {})


def studies_of(folder: Path, finished: Sequence[Record], metrics: Sequence[str], own: OwnStatistics) -> dict[str, Any]:
    """{"seeds": {run: how many}, "entropy", "rescue", "calibration", "combination": {run: mean over the seeds}, "reliability",
    "expert_reliability": {run: diagrams of the first seed}}, without runs that have neither predictions nor statistics.json."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for record in finished:
        if found := statistics_of_run(folder, record, metrics, own):
            by_run.setdefault(record.name, []).append(found)
    made: dict[str, Any] = {"seeds": {}} | {name: {} for name in (*MEANS, "combination", "reliability", "expert_reliability")}
    for run, seeds in by_run.items():
        if len({tuple(one["calibration"]) for one in seeds}) > 1:
            raise DataError(f"{folder / run}: its seeds have other experts than each other; give one of them a --tag")
        made["seeds"][run] = len(seeds)
        for name in MEANS:
            if name in seeds[0]:
                made[name][run] = _mean([one[name] for one in seeds])
        if combined := [one["combination"] for one in seeds if "combination" in one]:
            whole = [one for one in combined if "why_not" not in one]
            made["combination"][run] = _mean(whole or combined) | {"seeds": len(whole)}
        diagrams = dict(seeds[0]["reliability"])
        made["reliability"][run] = diagrams.pop(PRODUCT)
        if len(diagrams) > 1:
            made["expert_reliability"][run] = diagrams
    return made


def statistics_of_run(folder: Path, record: Record, metrics: Sequence[str], own: OwnStatistics) -> dict[str, Any]:
    """Of one run {"metrics": {metric: `statistics.summary`, of the examples alone}}, its `study`, and of a joint one "combination":
    from its predictions, and kept in its statistics.json; or from there, where they are gone or have not changed; {} without."""
    stored = read_stored(record.dir)
    if not (record.dir / "predictions_test.npz").exists():
        return stored
    if stored and stored.get("of") == _state(folder, record, metrics, stored):
        return stored
    predictions = read_seed(record.dir, "test")
    if record.config.get("method") == "product":  # its experts are the runs it was made of, which stand for themselves
        predictions = {key: value for key, value in predictions.items() if not key.startswith(EXPERT)}
    try:
        made = {"metrics": _intervals(predictions, [name for name in metrics if name in record.test], own)}
        made |= (own.study or study)(predictions)
        parts = _parts(folder, record, made)
        if len(parts) > 1 and all(stamp(part, split) for part in parts.values() for split in ("val", "test")):
            val, test = ({name: read_seed(part, split) for name, part in parts.items()} for split in ("val", "test"))
            made["combination"] = (own.combination or combination)(val, test, predictions)
    except KeyError as error:
        raise DataError(
            f"{record.dir} or the runs it starts from: predictions without a column {error}: they are of another version of this "
            "code; predict again by the data set's evaluate command with --again"
        ) from error
    made = finite({"of": _state(folder, record, metrics, made), **made})
    store(record.dir, made)
    return made


def _intervals(predictions: Predictions, metrics: Sequence[str], own: OwnStatistics) -> dict[str, Any]:
    """{metric: `statistics.summary`}; one that neither `i2m2.metrics` nor the data set's own have is left out."""
    found, groups = {}, len(np.unique(predictions["group"]))
    for metric in metrics:
        try:
            values, drawn = resample([predictions], [metric], own.metrics)[metric]
        except (SettingsError, DataError):
            continue
        found[metric] = summary(metric, values, drawn, groups)
    return found


def _state(folder: Path, record: Record, metrics: Sequence[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """What the statistics of a run follow from; where any of it is another, they are computed again."""
    parts = {name: [stamp(part, split) for split in ("val", "test")] for name, part in _parts(folder, record, found).items()}
    return {"version": VERSION, "metrics": list(metrics), "predictions": stamp(record.dir), "parts": parts}


def _parts(folder: Path, record: Record, found: Mapping[str, Any]) -> dict[str, Path]:
    """Of a run of i2m2 {expert: the run that trained it alone}."""
    experts = [name for name in found.get("calibration", {}) if name != PRODUCT]
    return {name: _part(folder, record, name) for name in experts} if record.name.startswith("i2m2") else {}


def _part(folder: Path, record: Record, expert: str) -> Path:
    """The run that trained an expert of a joint one alone: of the same seed and tag, else of the same seed without a tag."""
    method = INTER if expert == INTER else f"unimodal_{expert}"
    fusion = record.config.get("fusion") if expert == INTER else None
    preset = record.config.get("preset", "paper")
    parts = [method, fusion, preset if preset != "paper" else None]
    names = ["-".join(filter(None, [*parts, tag])) for tag in (record.config.get("tag"), None)]
    paths = [folder / name / f"seed{record.seed}" for name in names]
    return next((path for path in paths if path.exists()), paths[0])


def _over_labels(by_label: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return _mean(list(by_label.values()))


def _mean(values: Sequence[Any]) -> Any:
    """Of equal nested structures; a number that is missing in any is missing, and of words the first are taken."""
    first = values[0]
    if isinstance(first, str):
        return first
    if isinstance(first, Mapping):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, (list, np.ndarray)):
        return [_mean(list(items)) for items in zip(*values, strict=True)]
    return None if any(value is None for value in values) else statistics.fmean(values)
