"""The studies of a results folder (`i2m2.report.studies`) as tables: Table C.7, section 4.6,
calibration, combinations, and the settings in force (Table B.6)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from i2m2.errors import DataError
from i2m2.names import PRODUCT
from i2m2.report.cache import run_statistics
from i2m2.report.paper import Analysis, Labels
from i2m2.report.render import Grid, RenderedTable
from i2m2.report.studies import NOT_MADE, Combination, Numbers, RunStatistics, mean_of_all
from i2m2.report.tables import in_percent, number
from i2m2.runs import RunRecord, lookup, stamp
from i2m2.stats.calibration import Diagram

# Their files bear these names.
STUDIES = ("Table C.7", "Section 4.6", "Calibration", "Combination", "Reliability")
WAYS = {
    "plain": "product as it is",
    "temperature": "one temperature",
    "prior_divided": "prior divided out",
    "fitted": "expert weights and prior exponent",
    "joint": "trained jointly (I2M2)",
}
SETTINGS = (
    "optim.name", "optim.lr", "optim.weight_decay", "optim.batch_size", "optim.epochs",
    "optim.select", "init", "preset",
)  # fmt: skip


class Studies(msgspec.Struct, kw_only=True):
    """{run: its statistics, means over the seeds} with the diagrams of the first seed, how many
    seeds these are and how many have a combination, and why runs are not among them."""

    runs: dict[str, RunStatistics] = {}
    seeds: dict[str, int] = {}
    combined_seeds: dict[str, int] = {}
    without: list[str] = []


def studies_of(
    folder: Path, finished: Sequence[RunRecord], metrics: Sequence[str], analysis: Analysis
) -> Studies:
    """The studies of the finished runs of a results folder."""
    made = Studies()
    by_run: dict[str, list[RunStatistics]] = {}
    for record in finished:
        try:
            found = run_statistics(folder, record, metrics, analysis)
            by_run.setdefault(record.name, []).append(found)
        except DataError as error:  # the other runs are shown all the same
            made.without.append(str(error))
            if stamp(record.dir) is not None:
                print(f"warning: not in the studies: {error}", file=sys.stderr)
    for run, seeds in by_run.items():
        if len({tuple(one.calibration) for one in seeds}) > 1:
            made.without.append(
                f"{folder / run}: its seeds have other experts than each other; "
                "give one of them a --tag"
            )
            continue
        combined = [one.combination for one in seeds if one.combination]
        whole = [one for one in combined if not one.why_not]
        made.seeds[run], made.combined_seeds[run] = len(seeds), len(whole)
        names = ("calibration", "entropy", "rescue")
        means = {name: mean_of_all([getattr(one, name) for one in seeds]) for name in names}
        means["combination"] = mean_of_all(whole or combined[:1] or [UNSET])
        made.runs[run] = msgspec.structs.replace(seeds[0], **means)
    return made


ByRun = Mapping[str, RunStatistics]  # name of the run -> its statistics


def diagrams_of(studies: Studies, labels: Labels) -> dict[str, dict[str, Diagram]]:
    """{label of a run: {"product", each of several experts: reliability diagram}}."""
    runs = {label: studies.runs[run] for run, label in labels.items() if run in studies.runs}
    return {label: _without_copy(one.reliability, PRODUCT) for label, one in runs.items()}


def _without_copy(by_expert: Mapping[str, Any], single: str) -> Mapping[str, Any]:
    """{product, each expert: value}; a single expert is the product standing once, as `single`."""
    return by_expert if len(by_expert) > 2 else {single: by_expert[PRODUCT]}


def diagrams_table(diagrams: Mapping[str, Mapping[str, Diagram]]) -> RenderedTable:
    """The numbers behind `diagrams_of`: a row per bin that holds examples."""
    grid = [["model", "of", "low", "high", "count", "confidence", "accuracy"]]
    for label, by_expert in diagrams.items():
        for name, diagram in by_expert.items():
            grid += [[label, name, *(f"{v:.6g}" for v in values)] for values in diagram.filled()]
    return RenderedTable(title="Reliability diagrams", grids={"": grid})


def study_tables(studies: Studies, labels: Labels, about: str) -> list[RenderedTable]:
    """The studies as tables, of the runs in `labels`."""
    labels = {run: label for run, label in labels.items() if run in studies.runs}
    runs = {run: one for run, one in studies.runs.items() if run in labels}
    without = [["why"], *([reason] for reason in studies.without)]
    tables = [
        _entropies(runs, labels, studies.seeds),
        _rescues(runs, labels),
        _calibrations(runs, labels),
        _combinations(runs, labels, studies.combined_seeds),
        RenderedTable(title="Runs that are not in these studies", grids={"": without}),
    ]
    filled = [table for table in tables if any(len(grid) > 1 for grid in table.grids.values())]
    return [replace(table, about=about) for table in filled]


def _entropies(runs: ByRun, labels: Labels, seeds: Mapping[str, int]) -> RenderedTable:
    rows = {run: one.entropy for run, one in runs.items() if one.entropy}
    columns = list(dict.fromkeys(name for entropy in rows.values() for name in entropy))
    grid = [["model", *columns, "seeds"]]
    for run, entropy in rows.items():
        nats = [number(entropy.get(name), "entropy") for name in columns]
        grid.append([labels[run], *nats, str(seeds[run])])
    note = (
        "In nats, mean over the seeds and labels. An expert that knows nothing but the class "
        "frequencies is as uncertain as y."
    )
    title = "Table C.7: entropy of y and of every expert after joint training"
    return RenderedTable(title=title, grids={"": grid}, notes=[note, *_abstaining(runs, labels)])


def _rescues(runs: ByRun, labels: Labels) -> RenderedTable:
    columns = {  # share of the one in the other
        "every expert wrong": ("all_wrong", "examples"),
        "of these rescued": ("rescued", "all_wrong"),
        "every expert right": ("all_right", "examples"),
        "of these spoilt": ("spoilt", "all_right"),
        "any right, product wrong": ("lost", "examples"),
    }
    grid = [["model", *columns]]
    for run, one in runs.items():
        if one.rescue:
            counts = [(one.rescue[part], one.rescue[whole]) for part, whole in columns.values()]
            shares = [part / whole if whole else None for part, whole in counts]
            grid.append([labels[run], *map(number, shares)])
    note = (
        "In percent: columns 1, 3 and 5 of all examples; seeds and labels counted together. "
        "The paper states over 30 % for VQA-VS."
    )
    title = "Section 4.6: cases that the product rescues, and spoils"
    return RenderedTable(title=title, grids={"": grid}, notes=[note, *_abstaining(runs, labels)])


def _calibrations(runs: ByRun, labels: Labels) -> RenderedTable:
    rows, metrics = [], []
    for run, label in labels.items():
        by_expert = _without_copy(runs[run].calibration, "itself")
        rows += [[label, name, *_scores(scores)] for name, scores in by_expert.items()]
        metrics = metrics or list(runs[run].calibration[PRODUCT])
    note = (
        f"In percent: {' and '.join(filter(in_percent, metrics))} (15 bins of confidence); "
        "Brier score 0 to 2, NLL in nats; mean over the seeds and labels."
    )
    title = "Calibration: every method and every expert after joint training"
    grid, notes = [["model", "of", *metrics], *rows], [note, *_abstaining(runs, labels)]
    return RenderedTable(title=title, grids={"": grid}, notes=notes)


def _abstaining(runs: ByRun, labels: Labels) -> list[str]:
    """In how many examples experts say nothing, and what becomes of these."""
    lines = [
        f"{labels[run]}: {', '.join(f'{name} {n:,}' for name, n in one.abstaining.items())}"
        for run, one in runs.items()
        if one.abstaining
    ]
    if not lines:
        return []
    return [
        f"Examples in which an expert abstains, as its modality is absent: {'; '.join(lines)}. "
        "It is neither right nor wrong there: what is said of an expert is of the examples in "
        "which it speaks, and examples in which none does are no cases."
    ]


def _combinations(runs: ByRun, labels: Labels, seeds: Mapping[str, int]) -> RenderedTable:
    grids: dict[str, Grid] = {}
    notes = [
        "Experts that were trained separately, combined afterwards; "
        "what is fitted is fitted on validation."
    ]
    for run, found in runs.items():
        if not (combination := found.combination):
            continue
        header = f"parts of {labels[run]}"
        if combination.why_not:
            grid = [[header, "scores"], ["combined afterwards", NOT_MADE]]
            note = f"{combination.why_not}."
        else:
            ways = {name: getattr(combination, way) for way, name in WAYS.items()}
            grid = [[header, *combination.plain.scores]]
            grid += [[name, *_scores(way.scores)] for name, way in ways.items() if way]
            note = f"{_fitted(combination)}; seeds {seeds[run]}."
            if combination.untagged:
                note += f" Not trained under its tag: {combination.untagged}."
        grids[labels[run] if grids else ""] = grid
        notes.append(f"{labels[run]}: {note}")
    title = "Combination: separately trained experts against joint training"
    return RenderedTable(title=title, grids=grids, notes=notes)


def _fitted(combination: Combination) -> str:
    order = f" (in the order {', '.join(combination.labels)})" if combination.labels else ""
    weights = [f"{name} {_plain(w)}" for name, w in combination.fitted.weights.items()]
    exponent = _plain(combination.fitted.gamma)
    return f"fitted weights{order} {', '.join(weights)}; prior exponent {exponent}"


def settings_table(
    finished: Sequence[RunRecord], labels: Labels, about: str
) -> RenderedTable | None:
    """The settings that every row was trained with (Table B.6 for fastMRI), of all its seeds."""
    grid = [["model", *(name.removeprefix("optim.") for name in SETTINGS)]]
    trained = [one for one in finished if lookup(one.config, "optim.lr") is not None]
    for run, label in labels.items():
        if configs := [record.config for record in trained if record.name == run]:
            values = [dict.fromkeys(str(lookup(c, name)) for c in configs) for name in SETTINGS]
            grid.append([label, *(" / ".join(value) for value in values)])
    table = RenderedTable(title="Table B.6: settings in force", about=about, grids={"": grid})
    return table if len(grid) > 1 else None


def _scores(values: Numbers) -> list[str]:
    return [number(value, metric) for metric, value in values.items()]


def _plain(value: float | list[float]) -> str:
    """A number, or one per label."""
    return " / ".join(f"{v:.2f}" for v in value) if isinstance(value, list) else f"{value:.2f}"
