"""What is told of a results folder beside its tables: entropies (Table C.7), rescues (section 4.6), calibration, combinations.

Computed from saved predictions and kept in statistics.json, so that the tables stand where the predictions do not (reported/).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.calibration import CALIBRATION, post_hoc, reliability
from i2m2.combine import combine, read_runs
from i2m2.experiment import Predictions
from i2m2.experts import entropies, expert_log_probs, rescues
from i2m2.metrics import score
from i2m2.model import INTER
from i2m2.records import Record
from i2m2.render import Sheet
from i2m2.run import finite
from i2m2.significance import read_stored, stamp, store
from i2m2.statistics import read_seed

KEY = "studies"
WAYS = {
    "plain": "product as it is",
    "temperature": "one temperature",
    "prior_divided": "prior divided out",
    "fitted": "expert weights and prior exponent",
    "joint": "trained jointly (I2M2)",
}


def studies_of(folder: Path, finished: Sequence[Record]) -> dict[str, Any]:
    """{"entropy", "rescue", "calibration", "reliability", "combination": {run: ...}}, means over the seeds; {} without predictions
    of every class."""
    there = [record for record in finished if (record.dir / "predictions_test.npz").exists()]
    stored = read_stored(folder)
    state = {str(record.dir.relative_to(folder)): stamp(record) for record in there}
    if not there or stored.get(KEY, {}).get("of") == state:
        return stored.get(KEY, {})
    by_run: dict[str, list[Record]] = {}
    for record in there:
        by_run.setdefault(record.name, []).append(record)
    made: dict[str, Any] = {"of": state, "seeds": {}, **{name: {} for name in ("entropy", "rescue", "calibration", "reliability")}}
    for run, records in by_run.items():
        predictions = [read_seed(record.dir, "test") for record in records]
        if any("log_prob" not in p for p in predictions):  # thousands of answers, of which only the best are kept
            continue
        if records[0].config.get("method") == "product":  # its experts are the runs it was made of, which stand for themselves
            predictions = [{key: p[key] for key in ("id", "group", "y", "log_prob")} for p in predictions]
        made["seeds"][run] = len(records)
        made["calibration"][run] = _mean([_calibration(p) for p in predictions])
        made["reliability"][run] = _mean([_flat_reliability(p) for p in predictions[:1]])
        if len(expert_log_probs(predictions[0])) > 1:
            made["entropy"][run] = _mean([_over_labels(entropies(p)) for p in predictions])
            made["rescue"][run] = _mean([_over_labels(rescues(p)) for p in predictions])
    made["combination"] = {run: found for run, records in by_run.items() if (found := _combinations(folder, run, records))}
    made = finite(made)
    store(folder, {KEY: made})
    return made


def _calibration(predictions: Predictions) -> dict[str, dict[str, float]]:
    """{"product", each expert: {accuracy, ece, brier, nll}}; the mean over labels where there are several."""
    log_probs = {"product": predictions["log_prob"], **expert_log_probs(predictions)}
    found = {name: score(predictions["y"], log_prob, CALIBRATION) for name, log_prob in log_probs.items()}
    return {name: {metric: values[metric] for metric in CALIBRATION} for name, values in found.items()}


def _flat_reliability(predictions: Predictions) -> dict[str, list]:
    """The product's diagram, over all labels together where there are several."""
    log_prob = predictions["log_prob"]
    return reliability(predictions["y"].reshape(-1), log_prob.reshape(-1, log_prob.shape[-1]))


def _combinations(folder: Path, run: str, records: Sequence[Record]) -> dict[str, Any]:
    """Of a joint run whose parts have been trained alone: {way: {scores, weights, gamma, temperature}}, means over the seeds."""
    if not run.startswith("i2m2"):
        return {}
    found = []
    for record in records:
        joint = read_seed(record.dir, "test")
        experts = list(expert_log_probs(joint)) if "log_prob" in joint else []
        suffix = run.removeprefix("i2m2")
        names = [INTER + suffix if name == INTER else f"unimodal_{name}" for name in experts]
        parts = {expert: folder / name / f"seed{record.seed}" for expert, name in zip(experts, names, strict=True)}
        if len(parts) < 2 or not all((part / f"predictions_{s}.npz").exists() for part in parts.values() for s in ("val", "test")):
            continue
        by_split = {}
        for split in ("val", "test"):
            read = read_runs(list(parts.values()), split)
            by_split[split] = combine(dict(zip(parts, read.values(), strict=True)))
        ways = post_hoc(by_split["val"], by_split["test"], joint)
        kept = {way: {key: value for key, value in one.items() if key != "log_prob"} for way, one in ways.items()}
        for one in kept.values():
            one["scores"] = {metric: one["scores"][metric] for metric in CALIBRATION}
        found.append(kept)
    return _mean(found) | {"seeds": len(found)} if found else {}


def _over_labels(by_label: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return _mean(list(by_label.values()))


def _mean(values: Sequence[Any]) -> Any:
    """Of equal nested structures; a number that is missing in any is missing."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, (list, np.ndarray)):
        return [_mean(list(items)) for items in zip(*values, strict=True)]
    return None if any(value is None for value in values) else statistics.fmean(values)


def sheets_of(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> list[Sheet]:
    """The studies as tables; `labels`: of the runs, in their order. Other runs are left out."""
    made = [_entropy_sheet, _rescue_sheet, _calibration_sheet, _combination_sheet]
    sheets = [
        make(found, {run: label for run, label in labels.items() if run in found.get("calibration", {})}, about) for make in made
    ]
    return [sheet for sheet in sheets if sheet is not None]


def _entropy_sheet(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> Sheet | None:
    rows = [(labels[run], table, found["seeds"][run]) for run, table in found.get("entropy", {}).items() if run in labels]
    if not rows:
        return None
    columns = list(dict.fromkeys(name for _, table, _ in rows for name in table))
    grid = [["model", *columns, "seeds"]]
    grid += [[label, *(_number(table.get(name)) for name in columns), str(round(n))] for label, table, n in rows]
    notes = [
        "In nats, mean over the seeds and labels. An expert that knows nothing but the class frequencies is as uncertain as y."
    ]
    return Sheet(
        title="Table C.7: entropy of y and of every expert after joint training", about=about, grids={"": grid}, notes=notes
    )


def _rescue_sheet(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> Sheet | None:
    rows = [(labels[run], table) for run, table in found.get("rescue", {}).items() if run in labels]
    if not rows:
        return None
    grid = [
        ["model", "every expert wrong", "of these rescued", "every expert right", "of these spoilt", "any right, product wrong"]
    ]
    for label, t in rows:
        shares = [t["all_wrong"] / t["examples"], t["rescued_of_all_wrong"], t["all_right"] / t["examples"]]
        grid.append([label, *(_percent(value) for value in (*shares, t["spoilt_of_all_right"], t["lost_share"]))])
    notes = [
        "In percent: columns 1, 3 and 5 of all examples, mean over the seeds and labels. The paper states over 30 % for VQA-VS."
    ]
    title = "Section 4.6: cases that the product rescues, and spoils"
    return Sheet(title=title, about=about, grids={"": grid}, notes=notes)


def _calibration_sheet(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> Sheet | None:
    grid = [["model", "of", *CALIBRATION]]
    for run, label in labels.items():
        by_expert = found["calibration"][run]
        alone = len(by_expert) <= 2  # a product of one expert is that expert
        for name, values in by_expert.items():
            if not (alone and name != "product"):
                grid.append([label, "itself" if alone else name, *_scores(values)])
    if len(grid) == 1:
        return None
    notes = ["Accuracy and ECE (15 bins) in percent, Brier score 0 to 2, NLL in nats; mean over the seeds and labels."]
    return Sheet(
        title="Calibration: every method and every expert after joint training", about=about, grids={"": grid}, notes=notes
    )


def _combination_sheet(found: Mapping[str, Any], labels: Mapping[str, str], about: str) -> Sheet | None:
    grids, notes = {}, []
    for run, table in found.get("combination", {}).items():
        if run in labels:
            rows = [[WAYS[way], *_scores(table[way]["scores"])] for way in WAYS if way in table]
            grids[labels[run] if grids else ""] = [[f"parts of {labels[run]}", *CALIBRATION], *rows]
            fitted = table["fitted"]
            weights = ", ".join(f"{name} {_plain(weight)}" for name, weight in fitted["weights"].items())
            notes.append(
                f"{labels[run]}: fitted weights {weights}; prior exponent {_plain(fitted['gamma'])}; seeds {table['seeds']}."
            )
    if not grids:
        return None
    notes.insert(0, "Experts that were trained separately, combined afterwards; what is fitted is fitted on validation.")
    return Sheet(title="Combination: separately trained experts against joint training", about=about, grids=grids, notes=notes)


def _scores(values: Mapping[str, float | None]) -> Iterable[str]:
    return [_percent(values[m]) if m in ("accuracy", "ece") else _number(values[m]) for m in CALIBRATION]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _plain(value: Any) -> str:
    """A number, or one per label."""
    return " / ".join(f"{v:.2f}" for v in value) if isinstance(value, list) else f"{value:.2f}"
