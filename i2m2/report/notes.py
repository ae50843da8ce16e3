"""What a reader must know to judge a table: data, budget, code, how sure the numbers are, and
whether a row is as in the paper."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from i2m2.report.paper import PaperValue, RowSpec, TableSpec, departures
from i2m2.runs import RunRecord, lookup
from i2m2.settings import flatten, with_role

Values = Mapping[str, Mapping[str, Sequence[float]]]  # run -> metric -> one per seed
UNKNOWN = "the paper's value is not known"
NOT_JUDGED = "not judged: "


def data_kind(spec: TableSpec, finished: Sequence[RunRecord]) -> str:
    """real, synthetic (if any of the runs is) or not recorded (if any run does not say)."""
    recorded = {run.data.get("synthetic") for run in finished}
    generated = any(lookup(run.config, "data.source") == "synthetic" for run in finished)
    if spec.synthetic or True in recorded or generated:
        return "synthetic"
    return "real" if recorded == {False} else "not recorded"


def about(folder: str, data: str, finished: Sequence[RunRecord]) -> str:
    """`avmnist, variant rebuilt, real data, 5 seeds`."""
    kinds = {"real": "real data", "synthetic": "SYNTHETIC data"}
    seeds = len({run.seed for run in finished})
    return ", ".join(
        [
            folder,
            *(f"variant {variant}" for variant in sorted(_variants(finished))),
            kinds.get(data, "origin of the data not recorded"),
            f"{seeds} seed" + "s" * (seeds != 1),
        ]
    )


def _variants(runs: Sequence[RunRecord]) -> set[str]:
    return {str(run.data["variant"]) for run in runs if run.data.get("variant")}


# ---- Verdicts: is a row as in the paper?


def verdicts(
    spec: TableSpec, values: Values, data: str, finished: Sequence[RunRecord], folder: str
) -> dict[str, str]:
    """{run: whether the row comes out as in the paper, or why that cannot be judged}.

    A row is judged by every metric for which the paper's value is known of any row, each named
    where there are several.
    """
    metrics = spec.judged_metrics
    verdict_of = {}
    for row in spec.rows:
        texts = {m: _verdict(spec, row, m, values, data, finished, folder) for m in metrics}
        unknown = NOT_JUDGED + UNKNOWN
        known = {metric: text for metric, text in texts.items() if text != unknown}
        known = known or {metrics[0]: unknown}
        first = next(iter(known.values()))
        alike = len(set(known.values())) == 1
        if alike and (metrics[0] in known or first.startswith(NOT_JUDGED)):
            verdict_of[row.run] = first
        else:
            verdict_of[row.run] = "; ".join(f"{metric}: {text}" for metric, text in known.items())
    return verdict_of


def _verdict(
    spec: TableSpec,
    row: RowSpec,
    metric: str,
    values: Values,
    data: str,
    finished: Sequence[RunRecord],
    folder: str,
) -> str:
    known = row.paper.get(metric)
    as_best = False
    if known is None and spec.best and metric == spec.metrics[0] and row.run in spec.best.rows:
        known, as_best = spec.best, True
    runs = [run for run in finished if run.name == row.run]
    if reason := _reason_not_to_judge(spec, values[row.run], metric, data, runs, folder, known):
        return NOT_JUDGED + reason
    suffix = ""
    if as_best:  # the value is that of the best of several rows, and so are we judged
        if not _is_best_of(spec.best.rows, row.run, metric, values):
            return f"{NOT_JUDGED}the paper's value is that of the best of several rows"
        suffix = ", as the best of its rows"
    mean = statistics.fmean(values[row.run][metric])
    off = round(known.scale * mean - known.value, 6)
    within = spec.tolerance * known.scale / 100  # of a metric that is no share, a hundredth
    if abs(off) <= within:
        return f"reproduced (within {within:g}){suffix}"
    return f"differs by {off:+.{1 if known.scale == 100 else 3}f}{suffix}"


def _reason_not_to_judge(
    spec: TableSpec,
    values: Mapping[str, Sequence[float]],
    metric: str,
    data: str,
    runs: Sequence[RunRecord],
    folder: str,
    known: PaperValue | None,
) -> str:
    """'' if there is none."""
    seeds = len(values[metric])
    departing = dict.fromkeys(key for run in runs for key in departures(spec, run, runs))
    variants = _variants(runs)
    other_variant = folder != spec.folder or not variants <= set(spec.variants or variants)
    backbones = [str(run.data.get("backbone", "")) for run in runs]
    fingerprints = {json.dumps(run.data.get("fingerprint")) for run in runs}
    not_real = f"{data} data" if data == "synthetic" else "origin of the data not recorded"
    reasons = {
        "no finished run": not any(values.values()),
        f"{metric} is not defined": not seeds,
        not_real: data != "real",
        "other variant of the data": other_variant,
        "other backbone": any(not name.startswith(spec.backbone) for name in backbones),
        UNKNOWN: known is None,
        f"other settings ({', '.join(departing)})": bool(departing),
        "its seeds read different data": len(fingerprints) > 1,
        f"{seeds} of {spec.seeds} seeds": seeds < spec.seeds,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_best_of(rows: Sequence[str], run: str, metric: str, values: Values) -> bool:
    """Whether all of the rows are there and this one is their best."""
    seeds = {name: values.get(name, {}).get(metric) for name in rows}
    if not all(seeds.values()):
        return False
    means = {name: statistics.fmean(of) for name, of in seeds.items()}
    return max(means, key=means.get) == run


# ---- Settings, data and code


def notes(spec: TableSpec, finished: Sequence[RunRecord], data: str, folder: str) -> list[str]:
    """What a reader must know to judge the table: data, budget, and where the paper's numbers come
    from."""
    described = dict.fromkeys(run.data.get("description") for run in finished)
    lines = [f"Data: {text}" for text in described if text]
    order = spec.run_names
    places = {run: order.index(run) if run in order else len(order) for run in _names(finished)}
    finished = sorted(finished, key=lambda run: places[run.name])
    lines += other_data(spec, finished)
    lines += budgets(spec, finished)
    lines += other_settings(spec, finished)
    lines += versions(spec, finished)
    if data == "synthetic":
        not_comparable = (
            "The data are SYNTHETIC: these numbers say nothing about the paper's and are not "
            "compared with them"
        )
    elif data != "real":
        unknown = "Not every env.json says whether its data are real"
        not_comparable = f"{unknown}, so the paper's numbers are not shown"
    elif folder != spec.folder:
        not_comparable = (
            f"Another variant of the data than the paper's (that one is {spec.folder}), "
            "so its numbers are not shown"
        )
    else:
        return lines + _sources(spec)
    return [*lines, f"{not_comparable}; no row can be judged."]


def _names(runs: Sequence[RunRecord]) -> set[str]:
    return {run.name for run in runs}


def _sources(spec: TableSpec) -> list[str]:
    """Where the paper's values come from, and how far they can be trusted."""
    known = [
        (f"{row.label}, {metric}", value)
        for row in spec.rows
        for metric, value in row.paper.items()
    ]
    if spec.best:
        names = " and ".join(spec.labels.get(run, run) for run in spec.best.rows)
        known.append((f"the best of {names}", spec.best))
    lines = []
    for what, value in known:
        trust = "; ".join(text for text in (value.source, value.certainty) if text)
        lines.append(f"Paper, {what}: {value}" + (f" ({trust})." if trust else "."))
    return lines + ([f"Paper: {spec.source}"] if spec.source else [])


def other_data(spec: TableSpec, finished: Sequence[RunRecord]) -> list[str]:
    """A warning if the runs did not all read the same data files."""
    groups = _grouped(spec, finished, lambda run: _short(run.data.get("fingerprint")))
    if len(groups) < 2:
        return []
    return [
        "The runs did NOT all read the same data files, as the fingerprints in their env.json say: "
        f"{_listed(groups)}."
    ]


def versions(spec: TableSpec, finished: Sequence[RunRecord]) -> list[str]:
    """A warning if the runs were not all made by the same code, or by code that no commit holds."""
    groups = _grouped(spec, finished, lambda run: _short(run.commit))
    if len(groups) > 1:
        return [f"The runs were made by DIFFERENT versions of the code: {_listed(groups)}."]
    commit = next(iter(groups), "")
    if commit.endswith("+"):
        return [f"The runs were made by code that had been CHANGED since its commit: {commit}."]
    return []


def budgets(spec: TableSpec, finished: Sequence[RunRecord]) -> list[str]:
    """One line with the budget of the paper's rows; where they differ, which rows had which."""
    listed = [run for run in finished if run.name in spec.run_names]
    groups = _grouped(spec, listed, lambda run: budget(run.config))
    if len(groups) < 2:
        return [f"Budget: {text}." for text in groups if text]
    groups = {text or "not recorded": names for text, names in groups.items()}
    return [f"The rows were made with DIFFERENT budgets: {_listed(groups)}."]


def budget(config: Mapping[str, Any]) -> str:
    """`25 epochs, 2000 training examples, preset paper`, as far as the config says."""
    if not config:
        return ""
    epochs, preset = lookup(config, "optim.epochs"), lookup(config, "preset")
    size = lookup(config, "data.train_size")
    parts = [f"{epochs} epoch" + "s" * (epochs != 1)] if epochs is not None else []
    parts.append(f"{size if size is not None else 'all'} training examples")
    return ", ".join(parts + ([f"preset {preset}"] if preset is not None else []))


def other_settings(spec: TableSpec, finished: Sequence[RunRecord]) -> list[str]:
    """A warning for every setting in which some rows or seeds depart from what their config file
    says for them, and others do not.

    What a row's own arguments say, and what its name says already (preset, tag, a start from
    scratch), is no departure; nor is the budget, which `budgets` tells. Without a config file the
    seeds of a row are compared with its first.
    """
    # Of other runs the name, by its tag, says that they are something else.
    runs = [run for run in finished if run.config and run.name in spec.run_names]
    departing = {run.dir: departures(spec, run, runs) for run in runs}
    told_apart = with_role(spec.settings_class(), "budget")
    keys = dict.fromkeys(key for settings in departing.values() for key in settings)
    lines = []
    for key in keys:

        def value_of(run: RunRecord, key: str = key) -> str | None:
            if key not in flatten(run.config):
                return None
            return str(departing[run.dir].get(key, "as configured"))

        groups = _grouped(spec, runs, value_of) if key not in told_apart else {}
        if len(groups) > 1:
            parts = "; ".join(f"{value} ({names})" for value, names in groups.items())
            lines.append(f"The runs were made with DIFFERENT settings: {key} {parts}.")
    return lines


def _short(value: Any) -> str:
    """A hash, and the mark after it, as a reader can tell it from another."""
    if value is None:
        return "not recorded"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) < 16 else f"{text[:10]}{'+' * text.endswith('+')}"


def _listed(groups: Mapping[str, str]) -> str:
    return "; ".join(f"{key} ({names})" for key, names in groups.items())


def _grouped(
    spec: TableSpec, runs: Sequence[RunRecord], key_of: Callable[[RunRecord], str | None]
) -> dict[str, str]:
    """{key: the runs that have it, 'Image, Audio seed 1'}; seeds are named where those of a row
    differ. None stands for no key."""
    by_key: dict[str, dict[str, list[RunRecord]]] = {}
    for run in runs:
        if (key := key_of(run)) is not None:
            by_key.setdefault(key, {}).setdefault(run.name, []).append(run)

    def named(name: str, of_row: Sequence[RunRecord]) -> str:
        label = spec.labels.get(name, name)
        if sum(name in rows for rows in by_key.values()) < 2:
            return label
        seeds = ", ".join(str(run.seed) for run in of_row)
        return f"{label} seed{'s' * (len(of_row) > 1)} {seeds}"

    return {
        key: ", ".join(named(name, of_row) for name, of_row in rows.items())
        for key, rows in by_key.items()
    }
