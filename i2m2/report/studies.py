"""What is told of runs beside their tables: entropies (Table C.7), rescues (section 4.6),
calibration, and separately trained experts combined afterwards.

Computed from a run's saved predictions and kept in its statistics.json. `i2m2.report.study_tables`
shows them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from i2m2.errors import DataError
from i2m2.files import Plain, finite
from i2m2.names import EXPERT, PRODUCT
from i2m2.report.paper import Analysis
from i2m2.runs import Numbers, RunRecord, part_of, require_predictions, stamp, usual_columns
from i2m2.stats.calibration import (
    CALIBRATION,
    Diagram,
    Pooled,
    calibration,
    pool_experts,
    reliability,
)
from i2m2.stats.complementarity import entropies, rescues
from i2m2.stats.predictions import Predictions, expert_log_probs, speaks
from i2m2.stats.summary import Summary, resample_defined, summarise

NOT_MADE = "not made"


class Combination(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ways of `stats.calibration.pool_experts`, names of the labels where there are several,
    parts that were taken untagged since tagged ones are missing; or why it was not made."""

    plain: Pooled | UnsetType = UNSET
    temperature: Pooled | UnsetType = UNSET
    prior_divided: Pooled | UnsetType = UNSET
    fitted: Pooled | UnsetType = UNSET
    joint: Pooled | UnsetType = UNSET
    labels: list[str] | UnsetType = UNSET
    untagged: str = ""
    why_not: str = ""


class RunStatistics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is computed from one run's predictions: its metrics with the interval of its examples;
    calibration and reliability diagram of the product and each expert; with several experts
    entropies, rescues, and in how many examples each abstains; for a joint run the combination of
    its parts."""

    computed_from: Plain | None = msgspec.field(name="of", default=None)
    metrics: dict[str, Summary] = {}
    calibration: dict[str, Numbers]
    reliability: dict[str, Diagram]
    entropy: Numbers | UnsetType = UNSET
    rescue: Numbers | UnsetType = UNSET
    abstaining: dict[str, int] = {}
    combination: Combination | UnsetType = UNSET


def study(predictions: Predictions) -> Plain:
    """What `RunStatistics` says of predictions: means over the labels, diagrams of all together. An
    expert's are of the examples where it speaks."""
    y, experts = predictions["y"], expert_log_probs(predictions)
    there = {name: speaks(value).reshape(len(y), -1).any(1) for name, value in experts.items()}
    found: Plain = {"calibration": {}, "reliability": {}}
    for name, log_prob in {PRODUCT: predictions["log_prob"], **experts}.items():
        at = there.get(name, np.ones(len(y), bool))
        found["calibration"][name] = dict.fromkeys(CALIBRATION)
        if at.any():
            pairs = y[at].ravel(), log_prob[at].reshape(-1, log_prob.shape[-1])
            found["calibration"][name] = calibration(y[at], log_prob[at])
            found["reliability"][name] = reliability(*pairs)
    if len(experts) > 1:
        if silent := {name: int((~at).sum()) for name, at in there.items() if not at.all()}:
            found["abstaining"] = silent
        found["entropy"] = mean_of_all(list(entropies(predictions).values()))
        found["rescue"] = mean_of_all(list(rescues(predictions).values()))
    return found


def compute(
    folder: Path, record: RunRecord, metrics: Sequence[str], analysis: Analysis
) -> RunStatistics:
    """The statistics of a run. DataError for predictions that are damaged or of another version."""
    predictions = require_predictions(record.dir, "test")
    if record.config.get("method") == PRODUCT:
        # Its experts are the runs it was made of, which stand for themselves.
        names = [name for name in predictions if not name.startswith(EXPERT)]
        predictions = {name: predictions[name] for name in names}
    recorded = [name for name in metrics if name in record.test]
    with usual_columns(record.dir, "test"):
        found = (analysis.study or study)(predictions)
        groups = len(np.unique(predictions["group"]))
        resampled = resample_defined([predictions], recorded, analysis.metrics)
        intervals = {name: summarise(name, *both, groups) for name, both in resampled.items()}
    made = {"metrics": intervals, **found}
    if parts := parts_of(folder, record, found["calibration"]):
        made["combination"] = _combined(parts, predictions, analysis)
        # Their settings may be others.
        tag, names = record.config.get("tag"), [part.parent.name for part in parts.values()]
        borrowed = [name for name in names if tag and not name.endswith(f"-{tag}")]
        made["combination"] |= {"untagged": ", ".join(borrowed)}
    return msgspec.convert(finite(msgspec.to_builtins(made)), RunStatistics)


def _combined(parts: Mapping[str, Path], joint: Predictions, analysis: Analysis) -> Plain:
    """The runs in `parts` combined as in `Combination`, or {"why_not": reason}."""
    splits = ("val", "test")
    lacking = [str(part) for part in parts.values() if not all(stamp(part, s) for s in splits)]
    if lacking:
        where = f"no predictions of val and test in {', '.join(lacking)}"
        return {"why_not": f"{NOT_MADE}: {where}; train what is missing, or predict again"}
    names = ", ".join(map(str, parts.values()))
    try:
        val, test = (
            {name: require_predictions(part, split) for name, part in parts.items()}
            for split in splits
        )
        ways = dict((analysis.combination or pool_experts)(val, test, joint))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return {"why_not": f"{NOT_MADE}: no usual columns ({error}) in one of {names}"}
    except DataError as error:
        return {"why_not": f"{NOT_MADE} from {names}: {error}"}
    return ways | ({"labels": joint["labels"].tolist()} if "labels" in joint else {})


def parts_of(folder: Path, record: RunRecord, calibration: Plain) -> dict[str, Path]:
    """{expert: the run that trained it alone} for a run of i2m2, {} for another."""
    experts = [name for name in calibration if name != PRODUCT]
    if not record.name.startswith("i2m2") or len(experts) < 2:
        return {}
    seed = record.dir.name
    return {name: part_of(folder, record.config, name, seed) for name in experts}


def mean_of_all(values: Sequence[Any]) -> Any:
    """The mean of nested structures of the same shape, number by number; a number that any of them
    lacks is missing, and of texts the first one stands."""
    first = values[0]
    if isinstance(first, str):
        return first
    if isinstance(first, msgspec.Struct):
        return type(first)(**mean_of_all([msgspec.structs.asdict(value) for value in values]))
    if isinstance(first, dict):
        return {key: mean_of_all([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [mean_of_all(items) for items in zip(*values, strict=True)]
    for missing in (UNSET, None):
        if missing in values:
            return missing
    return statistics.fmean(values)
