"""What a reader must know to judge a table: data, budget, code, how sure the numbers are, and
whether a row is as in the paper."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from i2m2.errors import SettingsError
from i2m2.report.tables import ALPHA, Entry, Row
from i2m2.runs import RunRecord, lookup
from i2m2.settings import OptimConfig, RunConfig, flatten, merge_preset, to_dict
from i2m2.training.run import WITHOUT_INFLUENCE

Values = Mapping[str, Mapping[str, list[float]]]  # run -> metric -> one per seed
UNKNOWN = "not judged: the paper's value is not known"


def verdicts(
    entry: Entry, values: Values, data: str, finished: list[RunRecord], folder: Path
) -> dict[str, str]:
    """{run: whether the row comes out as in the paper, or why that cannot be judged}.

    A row is judged by every metric for which the paper's value is known of any row, each named
    where there are several.
    """
    judged = judged_metrics(entry)
    found = {}
    for row in entry.rows:
        by_metric = {
            metric: _verdict(entry, row, metric, values, data, finished, folder)
            for metric in judged
        }
        known = {metric: text for metric, text in by_metric.items() if text != UNKNOWN} or {
            judged[0]: UNKNOWN
        }
        alike = len(set(known.values())) == 1 and (
            judged[0] in known or next(iter(known.values())).startswith("not judged")
        )
        found[row.run] = (
            next(iter(known.values()))
            if alike
            else "; ".join(f"{metric}: {text}" for metric, text in known.items())
        )
    return found


def judged_metrics(entry: Entry) -> list[str]:
    """The main metric, and the others of which any of the paper's values is known."""
    main, *others = entry.metrics
    return [main, *(metric for metric in others if any(metric in row.paper for row in entry.rows))]


def _verdict(
    entry: Entry,
    row: Row,
    metric: str,
    values: Values,
    data: str,
    finished: list[RunRecord],
    folder: Path,
) -> str:
    seeds = values[row.run][metric]
    runs = [run for run in finished if run.name == row.run]
    variants = {str(run.data["variant"]) for run in runs if run.data.get("variant")}
    departures = dict.fromkeys(key for run in runs for key in departures_of(entry, run, runs))
    shared = (
        entry.best
        if entry.best and metric == entry.metrics[0] and row.run in entry.best.rows
        else None
    )
    known = row.paper.get(metric) or shared
    reasons = {
        "no finished run": not any(values[row.run].values()),
        f"{metric} is not defined": not seeds,
        f"{data} data" if data == "synthetic" else "origin of the data not recorded": data
        != "real",
        "other variant of the data": folder.name != entry.folder
        or not variants <= set(entry.variants or variants),
        "other backbone": any(
            not str(run.data.get("backbone", "")).startswith(entry.backbone) for run in runs
        ),
        UNKNOWN.removeprefix("not judged: "): known is None,
        f"other settings ({', '.join(departures)})": bool(departures),
        "its seeds read different data": len(
            {json.dumps(run.data.get("fingerprint")) for run in runs}
        )
        > 1,
        f"{len(seeds)} of {entry.seeds} seeds": len(seeds) < entry.seeds,
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        return f"not judged: {reason}"
    suffix = ""
    if (
        metric not in row.paper
    ):  # the value is that of the best of several rows, and so are we judged
        means = {
            run: statistics.fmean(values[run][metric])
            for run in shared.rows
            if values.get(run, {}).get(metric)
        }
        if set(means) != set(shared.rows) or max(means, key=means.get) != row.run:
            return "not judged: the paper's value is that of the best of several rows"
        suffix = ", as the best of its rows"
    off = round(known.scale * statistics.fmean(seeds) - known.value, 6)
    within = entry.tolerance * known.scale / 100  # of a metric that is no share, a hundredth
    decimals = 1 if known.scale == 100 else 3
    return (
        f"reproduced (within {within:g}){suffix}"
        if abs(off) <= within
        else f"differs by {off:+.{decimals}f}{suffix}"
    )


def data_kind(entry: Entry, finished: list[RunRecord]) -> str:
    """real, synthetic (if any of the runs is) or not recorded (if any run does not say)."""
    said = {run.data.get("synthetic") for run in finished}
    if (
        entry.synthetic
        or True in said
        or any(lookup(run.config, "data.source") == "synthetic" for run in finished)
    ):
        return "synthetic"
    return "real" if said == {False} else "not recorded"


def about(folder: str, data: str, finished: list[RunRecord]) -> str:
    """`avmnist, variant rebuilt, real data, 5 seeds`."""
    variants = sorted({str(run.data["variant"]) for run in finished if run.data.get("variant")})
    seeds = len({run.seed for run in finished})
    kind = {"real": "real data", "synthetic": "SYNTHETIC data"}.get(
        data, "origin of the data not recorded"
    )
    return ", ".join(
        [
            folder,
            *(f"variant {variant}" for variant in variants),
            kind,
            f"{seeds} seed" + "s" * (seeds != 1),
        ]
    )


def notes(entry: Entry, finished: list[RunRecord], data: str, folder: str) -> list[str]:
    """What a reader must know to judge the table: data, budget, and where the paper's numbers come
    from."""
    lines = [
        f"Data: {text}"
        for text in dict.fromkeys(run.data.get("description") for run in finished)
        if text
    ]
    order = [row.run for row in entry.rows]
    finished = sorted(
        finished, key=lambda run: order.index(run.name) if run.name in order else len(order)
    )
    lines += (
        other_data(entry, finished)
        + budgets(entry, finished)
        + other_settings(entry, finished)
        + versions(entry, finished)
    )
    if data == "synthetic":
        why = "The data are SYNTHETIC: these numbers say nothing about the paper's and are not compared with them"
        return [*lines, f"{why}; no row can be judged."]
    if data != "real":
        return [
            *lines,
            "Not every env.json says whether its data are real, so the paper's numbers are not shown; no row can be judged.",
        ]
    if folder != entry.folder:
        other = f"Another variant of the data than the paper's (that one is {entry.folder}), so its numbers are not shown"
        return [*lines, f"{other}; no row can be judged."]
    labels = {row.run: row.label for row in entry.rows}
    known = [
        (f"{row.label}, {metric}", value)
        for row in entry.rows
        for metric, value in row.paper.items()
    ]
    if entry.best:
        known.append(
            (
                "the best of " + " and ".join(labels.get(run, run) for run in entry.best.rows),
                entry.best,
            )
        )
    for what, value in known:
        trust = "; ".join(text for text in (value.source, value.certainty) if text)
        lines.append(f"Paper, {what}: {value}" + (f" ({trust})." if trust else "."))
    return lines + ([f"Paper: {entry.source}"] if entry.source else [])


def how_sure(judged: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """What intervals, bold numbers and marks rest on, and which rows have none; `labels`: of the
    table's runs."""
    lines = [f"{labels.get(run, run)}: {why}." for run, why in judged.get("without", {}).items()]
    rows = [metrics for metrics in judged.get("rows", {}).values() if metrics]
    if not rows:
        return lines
    rules = dict.fromkeys(
        summary["rule"] for metrics in rows for summary in list(metrics.values())[:1]
    )
    lines.append(
        f"Interval: {'; '.join(rules)}; {judged['resamples']:,} resamples of {judged['groups']:,} groups of examples."
    )
    best = judged.get("best", {})
    if best:
        lines.append(
            "Bold: the best of a column; †: not distinguishable from it (paired difference over the same resamples, p at least "
            f"{ALPHA} after Holm's correction within the table)."
        )
    untested: dict[str, list[str]] = {}
    for metric, first in best.items():
        others = [
            run
            for run, found in judged["rows"].items()
            if run != first and (metric in found or run in judged["without"])
        ]
        others += [run for run in judged["without"] if run not in judged["rows"] and run != first]
        alone = [run for run in others if run not in judged["p"].get(metric, {})]
        if first not in judged["rows"] or metric not in judged["rows"][first]:
            untested.setdefault("every row", []).append(metric)
        elif alone:
            untested.setdefault(", ".join(labels.get(run, run) for run in alone), []).append(metric)
    lines += [
        f"Not compared with the best in {', '.join(metrics)}: {rows}."
        for rows, metrics in untested.items()
    ]
    return lines + _too_few(judged, labels)


def _too_few(judged: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Of rows with a † although their interval and that of the best have nothing in common: why."""
    apart: dict[str, list[str]] = {}
    for metric, by_run in judged["p"].items():
        best = judged["rows"][judged["best"][metric]][metric]
        for run, p in by_run.items():
            found = judged["rows"][run][metric]
            ends = [one[end] for one in (found, best) for end in ("low", "high")]
            if p >= ALPHA and None not in ends and (ends[1] < ends[2] or ends[3] < ends[0]):
                apart.setdefault(metric, []).append(labels.get(run, run))
    if not apart:
        return []
    where = "; ".join(f"{metric} of {', '.join(runs)}" for metric, runs in apart.items())
    comparisons = sum(map(len, judged["p"].values()))
    return [
        f"† although the intervals lie apart ({where}): with so few seeds or groups these differences do not pass Holm's "
        f"correction of {comparisons} comparisons; it does not say that the rows are alike."
    ]


def other_data(entry: Entry, finished: list[RunRecord]) -> list[str]:
    """A warning if the runs did not all read the same data files."""
    groups = _grouped(entry, finished, lambda run: _short(run.data.get("fingerprint")))
    if len(groups) < 2:
        return []
    parts = [f"{key} ({names})" for key, names in groups.items()]
    return [
        "The runs did NOT all read the same data files, as the fingerprints in their env.json say: "
        + "; ".join(parts)
        + "."
    ]


def versions(entry: Entry, finished: list[RunRecord]) -> list[str]:
    """A warning if the runs were not all made by the same code, or by code that no commit holds."""
    groups = _grouped(entry, finished, lambda run: _short(run.commit))
    if len(groups) > 1:
        parts = [f"{commit} ({names})" for commit, names in groups.items()]
        return ["The runs were made by DIFFERENT versions of the code: " + "; ".join(parts) + "."]
    commit = next(iter(groups), "")
    return (
        [f"The runs were made by code that had been CHANGED since its commit: {commit}."]
        if commit.endswith("+")
        else []
    )


def _short(value: Any) -> str:
    """A hash, and the mark after it, as a reader can tell it from another."""
    text = (
        "not recorded"
        if value is None
        else value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True)
    )
    return text if len(text) < 16 else f"{text[:10]}{'+' * text.endswith('+')}"


def other_settings(entry: Entry, finished: list[RunRecord]) -> list[str]:
    """A warning for every setting in which some rows or seeds depart from what their config file
    says for them, and others do not.

    What a row's own arguments say, and what its name says already (preset, tag, a start from
    scratch), is no departure; nor is the budget, which `budgets` tells. Without a config file the
    seeds of a row are compared with its first.
    """
    listed = {
        row.run for row in entry.rows
    }  # of the others the name, by its tag, says that they are something else
    runs = [run for run in finished if run.config and run.name in listed]
    apart = {run.dir: departures_of(entry, run, runs) for run in runs}
    lines = []
    for key in dict.fromkeys(
        key for settings in apart.values() for key in settings if key not in BUDGET
    ):

        def value_of(run: RunRecord, key: str = key) -> str | None:
            return (
                str(apart[run.dir].get(key, AS_CONFIGURED)) if key in flatten(run.config) else None
            )

        groups = _grouped(entry, runs, value_of)
        if len(groups) > 1:
            parts = [f"{value} ({names})" for value, names in groups.items()]
            lines.append(f"The runs were made with DIFFERENT settings: {key} {'; '.join(parts)}.")
    return lines


AS_CONFIGURED = "as configured"
# What a run is, and what cannot change its result by more than rounding.
IDENTITY = {
    "method",
    "fusion",
    "seed",
    "preset",
    "tag",
    "init",
    "task",
    "device",
    "threads",
    "compile",
    "save_all",
}
IDENTITY |= {
    "optim.micro_batches",
    "backbone.activation_checkpointing",
    "backbone.checkpoint",
}  # the weights' name is in env.json
BUDGET = {"optim.epochs", "data.train_size"}  # which `budgets` tells


DEFAULTS = {f"optim.{name}": value for name, value in to_dict(OptimConfig()).items()} | {
    "precision": RunConfig.precision
}


def departures_of(entry: Entry, run: RunRecord, runs: list[RunRecord]) -> dict[str, Any]:
    """{dotted setting: value} where a run's settings are not those of its table's config file, for
    its preset, method and task.

    A setting that the file leaves to its default departs where it is not the core's, or that of the
    first of `runs`.
    """
    args = next((row.args for row in entry.rows if row.run == run.name), "")
    said = (
        {word[2:].partition("=")[0] for word in args.split() if word.startswith("--")}
        | IDENTITY
        | WITHOUT_INFLUENCE
    )
    usual = flatten(
        next(
            (other for other in runs if not entry.defaults and other.name == run.name), runs[0]
        ).config
    )
    method = run.config.get("method")
    if entry.defaults and method:
        usual |= DEFAULTS
        parts = {"per_task": str(run.config.get("task")), "per_method": method}
        try:
            usual |= merge_preset(
                copy.deepcopy(entry.defaults),
                entry.config,
                run.config.get("preset", "paper"),
                parts,
            )
        except SettingsError:  # a preset of another version of the config file: its name says so
            return {}
        if method == "product":  # of runs of other methods, whose own settings are theirs
            own = {
                key
                for by_method in (entry.defaults.get("per_method") or {}).values()
                for key in flatten(by_method)
            }
            usual = {key: value for key, value in usual.items() if key not in own}
    there = flatten(run.config)
    return {
        key: value
        for key, value in there.items()
        if key not in said and key in usual and value != usual[key]
    }


def _grouped(
    entry: Entry | None, finished: list[RunRecord], key_of: Callable[[RunRecord], str | None]
) -> dict[str, str]:
    """{key: the runs that have it, 'Image, Audio seed 1'}; seeds are named where those of a row
    differ. None stands for no key."""
    labels = {row.run: row.label for row in entry.rows} if entry else {}
    keys: dict[str, dict[str, list[RunRecord]]] = {}
    for run in finished:
        if (key := key_of(run)) is not None:
            keys.setdefault(key, {}).setdefault(run.name, []).append(run)
    split = {
        name
        for name in {run.name for run in finished}
        if sum(name in rows for rows in keys.values()) > 1
    }

    def named(name: str, runs: list[RunRecord]) -> str:
        seeds = (
            f" seed{'s' * (len(runs) > 1)} {', '.join(str(run.seed) for run in runs)}"
            if name in split
            else ""
        )
        return labels.get(name, name) + seeds

    return {
        key: ", ".join(named(name, runs) for name, runs in rows.items())
        for key, rows in keys.items()
    }


def budgets(entry: Entry, finished: list[RunRecord]) -> list[str]:
    """One line with the budget of the paper's rows; where they differ, which rows had which."""
    listed = {row.run for row in entry.rows}
    groups = _grouped(
        entry, [run for run in finished if run.name in listed], lambda run: budget(run.config)
    )
    if len(groups) < 2:
        return [f"Budget: {text}." for text in groups if text]
    parts = [f"{text or 'not recorded'} ({names})" for text, names in groups.items()]
    return ["The rows were made with DIFFERENT budgets: " + "; ".join(parts) + "."]


def budget(config: dict[str, Any]) -> str:
    """`25 epochs, 2000 training examples, preset paper`, as far as the config says."""
    epochs, preset = lookup(config, "optim.epochs"), lookup(config, "preset")
    size = lookup(config, "data.train_size") if isinstance(config.get("data"), dict) else None
    parts = [f"{epochs} epoch" + "s" * (epochs != 1)] if epochs is not None else []
    parts += (
        [f"{size} training examples" if size is not None else "all training examples"]
        if config
        else []
    )
    return ", ".join(parts + ([f"preset {preset}"] if preset is not None else []))
