"""What a reader must know to judge a table: data, budget, code, how sure the numbers are, and whether a row is as in the paper."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from i2m2.records import Record, lookup
from i2m2.tables import ALPHA, Entry, Row


def verdict(entry: Entry, row: Row, values: dict[str, list[float]], data: str, finished: list[Record], folder: Path) -> str:
    """Whether a row comes out as in the paper, or why that cannot be judged."""
    main, found = entry.metrics[0], values[entry.metrics[0]]
    backbones = {str(run.data.get("backbone", "")) for run in finished if run.name == row.run}
    reasons = {
        "no finished run": not found,
        f"{data} data" if data == "synthetic" else "origin of the data not recorded": data != "real",
        "other variant of the data": folder.name != entry.folder,
        "other backbone": any(not backbone.startswith(entry.backbone) for backbone in backbones),
        "the paper's value is not known": main not in row.paper,
        f"{len(found)} of {entry.seeds} seeds": len(found) < entry.seeds,
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        return f"not judged: {reason}"
    off = 100 * statistics.fmean(found) - row.paper[main].value
    return f"reproduced (within {entry.tolerance:g})" if abs(off) <= entry.tolerance else f"differs by {off:+.1f}"


def data_kind(entry: Entry, finished: list[Record]) -> str:
    """real, synthetic (if any of the runs is) or not recorded (if any run does not say)."""
    said = {run.data.get("synthetic") for run in finished}
    if entry.synthetic or True in said or any(lookup(run.config, "data.source") == "synthetic" for run in finished):
        return "synthetic"
    return "real" if said == {False} else "not recorded"


def about(folder: str, data: str, finished: list[Record]) -> str:
    """`avmnist, variant rebuilt, real data, 5 seeds`."""
    variants = sorted({str(run.data["variant"]) for run in finished if run.data.get("variant")})
    seeds = len({run.seed for run in finished})
    kind = {"real": "real data", "synthetic": "SYNTHETIC data"}.get(data, "origin of the data not recorded")
    return ", ".join([folder, *(f"variant {variant}" for variant in variants), kind, f"{seeds} seed" + "s" * (seeds != 1)])


def notes(entry: Entry, finished: list[Record], data: str, folder: str) -> list[str]:
    """What a reader must know to judge the table: data, budget, and where the paper's numbers come from."""
    lines = [f"Data: {text}" for text in dict.fromkeys(run.data.get("description") for run in finished) if text]
    if len({json.dumps(run.data.get("fingerprint"), sort_keys=True) for run in finished if run.data.get("fingerprint")}) > 1:
        lines.append("The runs did not all read the same data files: their env.json record different fingerprints.")
    lines += budgets(entry, finished) + versions(finished)
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
    known = [(f"{row.label}, {metric}", value) for row in entry.rows for metric, value in row.paper.items()]
    if entry.best:
        known.append(("the best of " + " and ".join(labels.get(run, run) for run in entry.best.rows), entry.best))
    for what, value in known:
        trust = "; ".join(text for text in (value.source, value.certainty) if text)
        lines.append(f"Paper, {what}: {value}" + (f" ({trust})." if trust else "."))
    return lines + ([f"Paper: {entry.source}"] if entry.source else [])


def how_sure(judged: dict[str, Any]) -> list[str]:
    """What intervals, bold numbers and marks rest on."""
    if "why_not" in judged:
        return [f"No intervals: {judged['why_not']}."]
    rows = [metrics for metrics in judged.get("rows", {}).values() if metrics]
    if not rows:
        return []
    rules = dict.fromkeys(summary["rule"] for metrics in rows for summary in list(metrics.values())[:1])
    lines = [f"Interval: {'; '.join(rules)}; {judged['resamples']:,} resamples of {judged['groups']:,} groups of examples."]
    if any(judged["p"].values()):
        lines.append(
            "Bold: the best of a column; †: not distinguishable from it (paired difference over the same resamples, p at least "
            f"{ALPHA} after Holm's correction within the column)."
        )
    return lines


def versions(finished: list[Record]) -> list[str]:
    """A warning if the runs were not all made by the same code."""
    made: dict[str, list[str]] = {}
    for run in finished:
        made.setdefault(run.commit or "not recorded", []).append(run.name)
    if len(made) < 2:
        return []
    parts = [f"{commit[:10]}{'+' * commit.endswith('+')} ({', '.join(dict.fromkeys(names))})" for commit, names in made.items()]
    return ["The runs were made by DIFFERENT versions of the code: " + "; ".join(parts) + "."]


def budgets(entry: Entry, finished: list[Record]) -> list[str]:
    """One line with the budget of the paper's rows; where they differ, which rows had which."""
    labels = {row.run: row.label for row in entry.rows}
    rows: dict[str, list[str]] = {}
    for run in sorted((run for run in finished if run.name in labels), key=lambda run: list(labels).index(run.name)):
        rows.setdefault(budget(run.config), []).append(labels[run.name])
    if len(rows) < 2:
        return [f"Budget: {text}." for text in rows if text]
    parts = [f"{text or 'not recorded'} ({', '.join(dict.fromkeys(names))})" for text, names in rows.items()]
    return ["The rows were made with DIFFERENT budgets: " + "; ".join(parts) + "."]


def budget(config: dict[str, Any]) -> str:
    """`25 epochs, 2000 training examples, preset paper`, as far as the config says."""
    epochs, preset = lookup(config, "optim.epochs"), lookup(config, "preset")
    size = lookup(config, "data.train_size") if isinstance(config.get("data"), dict) else None
    parts = [f"{epochs} epoch" + "s" * (epochs != 1)] if epochs is not None else []
    parts += [f"{size} training examples" if size is not None else "all training examples"] if config else []
    return ", ".join(parts + ([f"preset {preset}"] if preset is not None else []))
