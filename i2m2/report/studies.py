"""What is told of runs beside their tables: entropies (Table C.7), rescues (section 4.6),
calibration, combinations.

Computed from a run's saved predictions and kept in its statistics.json, so that the tables stand
where the predictions do not (reported/). `i2m2.report.study_tables` shows them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.combine import combine
from i2m2.errors import DamagedError, DataError, SettingsError
from i2m2.files import finite, write_json
from i2m2.metrics import score
from i2m2.names import EXPERT, INTER
from i2m2.report.estimates import resample, summary
from i2m2.report.significance import FILE, read_stored, same
from i2m2.report.tables import CustomStatistics
from i2m2.runs import RunRecord, require_predictions, stamp
from i2m2.stats.calibration import CALIBRATION, FLOOR, post_hoc, reliability
from i2m2.stats.complementarity import entropies, rescues
from i2m2.stats.predictions import Predictions, expert_log_probs

VERSION = 5  # counts up when the same predictions give other studies
PRODUCT = "product"
MEANS = ("entropy", "rescue", "calibration")  # over the seeds


def study(predictions: Predictions) -> dict[str, Any]:
    """Of one run: "calibration" {"product", each expert: {metric: value}} and "reliability" {the
    same: diagram}; of several experts also "entropy" {"y", "product", each expert: nats} and
    "rescue" (`rescue_rate`).

    Means over the labels, where there are several; diagrams are of all labels together.
    """
    log_probs = {PRODUCT: predictions["log_prob"], **expert_log_probs(predictions)}
    scores = {
        name: score(predictions["y"], log_prob, CALIBRATION) for name, log_prob in log_probs.items()
    }
    y = predictions["y"].reshape(-1)
    found = {
        "calibration": {
            name: {metric: values[metric] for metric in CALIBRATION}
            for name, values in scores.items()
        },
        "reliability": {
            name: reliability(y, log_prob.reshape(len(y), -1))
            for name, log_prob in log_probs.items()
        },
    }
    if len(log_probs) > 2:
        found |= {
            "entropy": _over_labels(entropies(predictions)),
            "rescue": _over_labels(rescues(predictions)),
        }
    return found


def combination(
    val: Mapping[str, Predictions], test: Mapping[str, Predictions], joint: Predictions
) -> dict[str, Any]:
    """Experts that were trained alone, {name: predictions} of both splits, and the joint run's
    predictions of the test split -> {way to combine them: {"scores", and what was fitted}} of
    `calibration.post_hoc`."""
    # Experts that each rule out what the others leave would have no product.
    val, test = (
        {name: {**p, "log_prob": np.maximum(p["log_prob"], FLOOR)} for name, p in part.items()}
        for part in (val, test)
    )
    ways = post_hoc(combine(val), combine(test), joint)
    kept = {
        way: {key: value for key, value in one.items() if key != "log_prob"}
        for way, one in ways.items()
    }
    for one in kept.values():
        one["scores"] = {metric: one["scores"][metric] for metric in CALIBRATION}
    return kept | ({"labels": joint["labels"].tolist()} if "labels" in joint else {})


def studies_of(
    folder: Path, finished: Sequence[RunRecord], metrics: Sequence[str], own: CustomStatistics
) -> dict[str, Any]:
    """{"seeds": {run: how many}, "entropy", "rescue", "calibration", "combination": {run: mean over
    the seeds}, "reliability", "expert_reliability": {run: diagrams of the first seed}, "without":
    reasons why runs are not among them}."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    made: dict[str, Any] = {"without": []}
    for record in finished:
        try:
            by_run.setdefault(record.name, []).append(
                statistics_of_run(folder, record, metrics, own)
            )
        except DataError as error:  # the other runs are told of all the same
            made["without"].append(str(error))
            if stamp(record.dir) is not None:
                print(f"warning: not in the studies: {error}", file=sys.stderr)
    made |= {"seeds": {}} | {
        name: {} for name in (*MEANS, "combination", "reliability", "expert_reliability")
    }
    for run, seeds in by_run.items():
        if not seeds:
            continue
        if len({tuple(one["calibration"]) for one in seeds}) > 1:
            made["without"].append(
                f"{folder / run}: its seeds have other experts than each other; give one of them a --tag"
            )
            continue
        made["seeds"][run] = len(seeds)
        for name in MEANS:
            if all(name in one for one in seeds):
                made[name][run] = _mean([one[name] for one in seeds])
        if combined := [one["combination"] for one in seeds if "combination" in one]:
            whole = [one for one in combined if "why_not" not in one]
            made["combination"][run] = _mean(whole or combined[:1]) | {"seeds": len(whole)}
        diagrams = dict(seeds[0]["reliability"])
        made["reliability"][run] = diagrams.pop(PRODUCT)
        if len(diagrams) > 1:
            made["expert_reliability"][run] = diagrams
    return made


def statistics_of_run(
    folder: Path, record: RunRecord, metrics: Sequence[str], own: CustomStatistics
) -> dict[str, Any]:
    """Of one run {"metrics": {metric: `statistics.summary`, of the examples alone}}, its `study`,
    and of a joint one "combination": from its predictions, and kept in its statistics.json; or from
    there, where they are gone or have not changed.

    DataError if neither is there, or what is there is damaged or does not give what the run's
    result.json has.
    """
    stored, there = _stored(record.dir), stamp(record.dir) is not None
    if there and (not stored or stored.get("of") != _state(folder, record, metrics, stored)):
        stored = _computed(folder, record, metrics, own)
        with suppress(OSError):  # a folder that is only to be read: computed again the next time
            write_json(record.dir / FILE, stored)
    if not stored:
        raise DataError(
            f"{record.dir}: has neither predictions of the test split nor a {FILE} that can be read; predict again (evaluate)"
        )
    for metric, found in stored["metrics"].items():
        if not same(found["values"], [record], metric):
            source = "predictions do" if there else f"{FILE} does"
            raise DataError(
                f"{record.dir}: its {source} not give the {metric} of its result.json; predict again (evaluate --again)"
            )
    return stored


def _stored(run: Path) -> dict[str, Any]:
    """What statistics.json of a run holds; {} if there is none, or none of ours."""
    try:
        found = read_stored(run)
    except DataError:
        return {}
    parts = (found.get(name) for name in ("metrics", "calibration", "reliability"))
    return (
        found
        if all(isinstance(part, dict) for part in parts) and PRODUCT in found["reliability"]
        else {}
    )


def _computed(
    folder: Path, record: RunRecord, metrics: Sequence[str], own: CustomStatistics
) -> dict[str, Any]:
    predictions = require_predictions(record.dir, "test")
    if (
        record.config.get("method") == "product"
    ):  # its experts are the runs it was made of, which stand for themselves
        predictions = {
            key: value for key, value in predictions.items() if not key.startswith(EXPERT)
        }
    try:
        made = {
            "metrics": _intervals(
                predictions, [name for name in metrics if name in record.test], own
            )
        }
        made |= (own.study or study)(predictions)
    except KeyError as error:
        raise DataError(
            f"{record.dir}: its predictions have no column {error}: they are of another version of this code; predict again by the "
            "data set's evaluate command with --again"
        ) from error
    if parts := _parts(folder, record, made):
        made["combination"] = _combined(parts, predictions, own) | {
            "untagged": _untagged(parts, record)
        }
    return finite({"of": _state(folder, record, metrics, made), **made})


def _combined(
    parts: Mapping[str, Path], joint: Predictions, own: CustomStatistics
) -> dict[str, Any]:
    """`combination` of the runs in `parts`, or {"why_not": reason}."""
    splits = ("val", "test")
    if lacking := [
        str(part) for part in parts.values() if not all(stamp(part, split) for split in splits)
    ]:
        return {
            "why_not": f"not made: no predictions of val and test in {', '.join(lacking)}; train what is missing, or predict again"
        }
    try:
        val, test = (
            {name: require_predictions(part, split) for name, part in parts.items()}
            for split in splits
        )
        return (own.combination or combination)(val, test, joint)
    except KeyError as error:
        return {
            "why_not": f"not made: predictions without a column {error} in one of {', '.join(map(str, parts.values()))}"
        }
    except DataError as error:
        return {"why_not": f"not made from {', '.join(map(str, parts.values()))}: {error}"}


def _untagged(parts: Mapping[str, Path], record: RunRecord) -> str:
    """Of a tagged run the parts that were taken for want of tagged ones: their settings may be
    others."""
    tag = record.config.get("tag")
    return ", ".join(
        part.parent.name
        for part in parts.values()
        if tag and not part.parent.name.endswith(f"-{tag}")
    )


def _intervals(
    predictions: Predictions, metrics: Sequence[str], own: CustomStatistics
) -> dict[str, Any]:
    """{metric: `statistics.summary`}; one that neither `i2m2.metrics` nor the data set's own have
    is left out."""
    found, groups = {}, len(np.unique(predictions["group"]))
    for metric in metrics:
        try:
            values, drawn = resample([predictions], [metric], own.metrics)[metric]
        except DamagedError:
            raise
        except (SettingsError, DataError):
            continue
        found[metric] = summary(metric, values, drawn, groups)
    return found


def _state(
    folder: Path, record: RunRecord, metrics: Sequence[str], found: Mapping[str, Any]
) -> dict[str, Any]:
    """What the statistics of a run follow from; where any of it is another, they are computed
    again."""
    parts = {
        name: [stamp(part, split) for split in ("val", "test")]
        for name, part in _parts(folder, record, found).items()
    }
    return {
        "version": VERSION,
        "metrics": list(metrics),
        "predictions": stamp(record.dir),
        "parts": parts,
    }


def _parts(folder: Path, record: RunRecord, found: Mapping[str, Any]) -> dict[str, Path]:
    """Of a run of i2m2 {expert: the run that trained it alone}."""
    experts = [name for name in found.get("calibration", {}) if name != PRODUCT]
    return (
        {name: _part(folder, record, name) for name in experts}
        if record.name.startswith("i2m2") and len(experts) > 1
        else {}
    )


def _part(folder: Path, record: RunRecord, expert: str) -> Path:
    """The run that trained an expert of a joint one alone: of the same seed and tag, else of the
    same seed without a tag."""
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
    """Of equal nested structures; a number that is missing in any is missing, and of words the
    first are taken."""
    first = values[0]
    if isinstance(first, str):
        return first
    if isinstance(first, Mapping):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, (list, np.ndarray)):
        return [_mean(list(items)) for items in zip(*values, strict=True)]
    return None if any(value is None for value in values) else statistics.fmean(values)
