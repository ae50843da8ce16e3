"""What is told of a results folder beside its tables: entropies (Table C.7), rescues (section 4.6), calibration, combinations.

Computed from saved predictions and kept in statistics.json, so that the tables stand where the predictions do not (reported/).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.calibration import CALIBRATION, post_hoc, reliability
from i2m2.combine import combine
from i2m2.errors import DataError
from i2m2.evaluate import EXPERT
from i2m2.experiment import Predictions
from i2m2.experts import entropies, expert_log_probs, rescues
from i2m2.metrics import score
from i2m2.model import INTER
from i2m2.records import Record
from i2m2.render import Sheet
from i2m2.run import finite
from i2m2.significance import read_stored, stamp, store
from i2m2.statistics import read_seed
from i2m2.tables import NOT_IN_PERCENT

KEY = "studies"
VERSION = 2  # counts up when the same predictions give other studies
PRODUCT = "product"
MEANS = ("entropy", "rescue", "calibration")  # over the seeds
WAYS = {
    "plain": "product as it is",
    "temperature": "one temperature",
    "prior_divided": "prior divided out",
    "fitted": "expert weights and prior exponent",
    "joint": "trained jointly (I2M2)",
}


Study = Callable[[Predictions], dict[str, Any]]  # predictions -> what `study` gives


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


def studies_of(folder: Path, finished: Sequence[Record], study: Study = study) -> dict[str, Any]:
    """{"entropy", "rescue", "calibration", "reliability", "expert_reliability", "combination": {run: ...}}: means over the seeds,
    diagrams of the first seed; {} without predictions."""
    there = [record for record in finished if (record.dir / "predictions_test.npz").exists()]
    stored = read_stored(folder)
    state = {"version": VERSION} | {str(record.dir.relative_to(folder)): stamp(record) for record in there}
    if not there or stored.get(KEY, {}).get("of") == state:
        return stored.get(KEY, {})
    by_run: dict[str, list[Record]] = {}
    for record in there:
        by_run.setdefault(record.name, []).append(record)
    made: dict[str, Any] = {"of": state, "seeds": {}} | {name: {} for name in (*MEANS, "reliability", "expert_reliability")}
    for run, records in by_run.items():
        predictions = [read_seed(record.dir, "test") for record in records]
        if records[0].config.get("method") == "product":  # its experts are the runs it was made of, which stand for themselves
            predictions = [{key: p[key] for key in ("id", "group", "y", "log_prob")} for p in predictions]
        try:
            seeds = [study(p) for p in predictions]
        except KeyError as error:
            raise DataError(
                f"{folder / run}: its predictions have no column {error}: they are of another version of this code; predict again "
                "by the data set's evaluate command with --again"
            ) from error
        if len({tuple(one["calibration"]) for one in seeds}) > 1:
            raise DataError(f"{folder / run}: its seeds have other experts than each other; give one of them a --tag")
        made["seeds"][run] = len(records)
        for name in MEANS:
            if name in seeds[0]:
                made[name][run] = _mean([one[name] for one in seeds])
        diagrams = seeds[0]["reliability"]
        made["reliability"][run] = diagrams.pop(PRODUCT)
        if len(diagrams) > 1:
            made["expert_reliability"][run] = diagrams
    joint = {run: records for run, records in by_run.items() if run.startswith("i2m2")}
    made["combination"] = {run: found for run, records in joint.items() if (found := _combinations(folder, records))}
    made = finite(made)
    store(folder, {KEY: made})
    return made


def _combinations(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Of a joint run whose parts have been trained alone: {way: {scores, weights, gamma, temperature}}, means over the seeds."""
    found = []
    for record in records:
        joint = read_seed(record.dir, "test")
        experts = list(expert_log_probs(joint)) if "log_prob" in joint else []
        parts = {expert: _part(folder, record, expert) for expert in experts}
        if len(parts) < 2 or not all((part / f"predictions_{s}.npz").exists() for part in parts.values() for s in ("val", "test")):
            continue
        by_split = {}
        for split in ("val", "test"):
            by_split[split] = combine({str(part): read_seed(part, split) for part in parts.values()})
            for expert, part in parts.items():
                by_split[split][f"{EXPERT}{expert}"] = by_split[split].pop(f"{EXPERT}{part}")
        ways = post_hoc(by_split["val"], by_split["test"], joint)
        kept = {way: {key: value for key, value in one.items() if key != "log_prob"} for way, one in ways.items()}
        for one in kept.values():
            one["scores"] = {metric: one["scores"][metric] for metric in CALIBRATION}
        found.append(kept)
    labels = {"labels": joint["labels"].tolist()} if found and "labels" in joint else {}
    return _mean(found) | {"seeds": len(found)} | labels if found else {}


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
    """Of equal nested structures; a number that is missing in any is missing."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, (list, np.ndarray)):
        return [_mean(list(items)) for items in zip(*values, strict=True)]
    return None if any(value is None for value in values) else statistics.fmean(values)


def diagrams_of(found: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """{label of a run: {"product", each of several experts: reliability diagram}}."""
    experts = found.get("expert_reliability", {})
    shown = {run: label for run, label in labels.items() if run in found.get("reliability", {})}
    return {label: {PRODUCT: found["reliability"][run]} | experts.get(run, {}) for run, label in shown.items()}


def diagrams_sheet(diagrams: Mapping[str, Mapping[str, Mapping[str, list]]]) -> Sheet:
    """The numbers behind the reliability diagrams, as `diagrams_of` gives them: a row per bin that holds examples."""
    columns = ("low", "high", "count", "confidence", "accuracy")
    grid = [["model", "of", *columns]]
    for label, by_expert in diagrams.items():
        for name, shown in by_expert.items():
            bins = [values for values in zip(*(shown[column] for column in columns), strict=True) if values[2]]
            grid += [[label, name, *(f"{value:.6g}" for value in values)] for values in bins]
    return Sheet(title="Reliability diagrams", grids={"": grid})


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
    first = next(iter(found["calibration"][run][PRODUCT] for run in labels), {})
    grid = [["model", "of", *first]]
    for run, label in labels.items():
        by_expert = found["calibration"][run]
        alone = len(by_expert) <= 2  # a product of one expert is that expert
        for name, values in by_expert.items():
            if not (alone and name != PRODUCT):
                grid.append([label, "itself" if alone else name, *_scores(values)])
    if len(grid) == 1:
        return None
    shares = " and ".join(metric for metric in first if metric not in NOT_IN_PERCENT)
    notes = [f"In percent: {shares} (15 bins of confidence); Brier score 0 to 2, NLL in nats; mean over the seeds and labels."]
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
            of = f" (in the order {', '.join(table['labels'])})" if "labels" in table else ""
            notes.append(
                f"{labels[run]}: fitted weights{of} {weights}; prior exponent {_plain(fitted['gamma'])}; seeds {table['seeds']}."
            )
    if not grids:
        return None
    notes.insert(0, "Experts that were trained separately, combined afterwards; what is fitted is fitted on validation.")
    return Sheet(title="Combination: separately trained experts against joint training", about=about, grids=grids, notes=notes)


def _scores(values: Mapping[str, float | None]) -> Iterable[str]:
    return [_number(value) if metric in NOT_IN_PERCENT else _percent(value) for metric, value in values.items()]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _plain(value: Any) -> str:
    """A number, or one per label."""
    return " / ".join(f"{v:.2f}" for v in value) if isinstance(value, list) else f"{value:.2f}"
