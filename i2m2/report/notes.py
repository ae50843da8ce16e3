"""What a reader must know of a table: data, budget, code; whether a row is as in the paper."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from i2m2.files import Plain
from i2m2.names import PRODUCT
from i2m2.report.paper import Runs, departures
from i2m2.report.specs import PaperValue, TableSpec
from i2m2.report.tables import NOT_JUDGED, ResultRow
from i2m2.runs import RunRecord, lookup
from i2m2.settings import flatten, with_role

UNKNOWN = "the paper's value is not known"
NOT_RECORDED = "not recorded"

# Why numbers may not stand beside the paper's: what a row's verdict and a note say.
SYNTHETIC = "synthetic data"
UNRECORDED = "origin of the data not recorded"
OTHER_VARIANT = "other variant of the data"
INCOMPARABLE = {
    SYNTHETIC: "The data are SYNTHETIC: these numbers say nothing about the paper's and are not "
    "compared with them",
    UNRECORDED: "Not every env.json says whether its data are real, so the paper's numbers are "
    "not shown",
    OTHER_VARIANT: "By the folder's name another variant of the data than the paper's ({}), so its "
    "numbers are not shown",
}


def data_kind(spec: TableSpec, finished: Runs) -> str:
    """real, synthetic (if any of the runs is) or not recorded (if any run does not say)."""
    recorded = {run.data.get("synthetic") for run in finished}
    generated = any(lookup(run.config, "data.source") == "synthetic" for run in finished)
    if spec.synthetic or True in recorded or generated:
        return "synthetic"
    return "real" if recorded == {False} else NOT_RECORDED


def why_incomparable(spec: TableSpec, data: str, folder: str) -> str:
    """A key of `INCOMPARABLE`; '' if the runs of the results folder are comparable."""
    if data != "real":
        return SYNTHETIC if data == "synthetic" else UNRECORDED
    return OTHER_VARIANT if folder != spec.folder else ""


def data_summary(folder: str, data: str, finished: Runs) -> str:
    """`avmnist, variant rebuilt, real data, 5 seeds`."""
    kind = {"real": "real data", "synthetic": "SYNTHETIC data"}.get(data, UNRECORDED)
    variants = [f"variant {variant}" for variant in sorted(_variants(finished))]
    seeds = len({run.seed for run in finished})
    return ", ".join([folder, *variants, kind, f"{seeds} seed" + "s" * (seeds != 1)])


def _variants(runs: Runs) -> set[str]:
    return {str(run.data["variant"]) for run in runs if run.data.get("variant")}


# ---- Verdicts: is a row as in the paper?


def verdict(spec: TableSpec, rows: Sequence[ResultRow], row: ResultRow, incomparable: str) -> str:
    """Whether a row comes out as in the paper, or why that cannot be judged: by every metric for
    which the paper's value is known of any row, each named where there are several."""
    main = spec.metrics[0]
    texts = {m: _verdict(spec, rows, row, m, incomparable) for m in spec.judged_metrics}
    unknown = NOT_JUDGED + UNKNOWN
    texts = {m: text for m, text in texts.items() if text != unknown} or {main: unknown}
    first, *others = set(texts.values())
    if not others and (main in texts or first.startswith(NOT_JUDGED)):
        return first
    return "; ".join(f"{metric}: {text}" for metric, text in texts.items())


def _verdict(
    spec: TableSpec, rows: Sequence[ResultRow], row: ResultRow, metric: str, incomparable: str
) -> str:
    known = row.paper.get(metric)
    is_main = metric == spec.metrics[0]
    among_best = known is None and is_main and spec.best and row.run in spec.best.rows
    if among_best:  # the paper's value is that of the best of several rows, and so are we judged
        known = spec.best
    if reason := _reason_not_to_judge(spec, row, metric, known, incomparable):
        return NOT_JUDGED + reason
    if among_best:
        values = {one.run: one.values[metric] for one in rows if one.run in spec.best.rows}
        means = {run: statistics.fmean(seeds) for run, seeds in values.items() if seeds}
        if len(means) < len(spec.best.rows) or max(means, key=means.get) != row.run:
            return f"{NOT_JUDGED}the paper's value is that of the best of several rows"
    suffix = ", as the best of its rows" if among_best else ""
    off = round(known.scale * statistics.fmean(row.values[metric]) - known.value, 6)
    within = spec.tolerance * known.scale / 100  # a hundredth for a metric that is no share
    if abs(off) <= within:
        return f"reproduced (within {within:g}){suffix}"
    return f"differs by {off:+.{1 if known.scale == 100 else 3}f}{suffix}"


def _reason_not_to_judge(
    spec: TableSpec, row: ResultRow, metric: str, known: PaperValue | None, incomparable: str
) -> str:
    """Why a row cannot be judged; '' if it can."""
    seeds, runs = len(row.values[metric]), row.runs
    if not any(row.values.values()):
        return "no finished run"
    if not seeds:
        return f"{metric} is not defined"
    if incomparable:
        return incomparable
    if spec.variants and not _variants(runs) <= set(spec.variants):
        return OTHER_VARIANT
    if not all(str(run.data.get("backbone", "")).startswith(spec.backbone) for run in runs):
        return "other backbone"
    if known is None:
        return UNKNOWN
    if departing := dict.fromkeys(key for run in runs for key in departures(spec, run, runs)):
        return f"other settings ({', '.join(departing)})"
    if len({json.dumps(run.data.get("fingerprint")) for run in runs}) > 1:
        return "its seeds read different data"
    return f"{seeds} of {spec.seeds} seeds" if seeds < spec.seeds else ""


def none_judged(rows: Sequence[ResultRow]) -> list[str]:
    """Why no row is judged, if none is: a note in the place of a column."""
    if any(row.is_judged for row in rows):
        return []
    labels: dict[str, list[str]] = {}
    for row in rows:
        labels.setdefault(row.verdict.replace(NOT_JUDGED, ""), []).append(row.label)
    if len(labels) == 1:
        return [f"No row is judged: {next(iter(labels))}."]
    reasons = [f"{reason} ({', '.join(of)})" for reason, of in labels.items()]
    return [f"No row is judged: {'; '.join(reasons)}."]


# ---- Settings and code


def notes(spec: TableSpec, finished: Runs, incomparable: str) -> list[str]:
    """Below the table: data, budget, other settings and code, the source of the paper's numbers."""
    described = dict.fromkeys(run.data.get("description") for run in finished)
    lines = [f"Data: {text}" for text in described if text]
    places = {run: place for place, run in enumerate(spec.labels)}
    finished = sorted(finished, key=lambda run: places.get(run.name, len(places)))
    lines += other_files(spec, finished)
    # Of other runs the name, by its tag, says that they are something else.
    rows = [run for run in finished if run.name in places]
    budgets = _by_value(spec, rows, lambda run: budget(run.config))
    differing = _differing("The rows were made with DIFFERENT budgets", budgets)
    lines += differing or [f"Budget: {text}." for text in budgets if text != NOT_RECORDED]
    lines += other_settings(spec, rows)
    commits = _by_value(spec, finished, lambda run: _short(run.commit))
    lines += _differing("The runs were made by DIFFERENT versions of the code", commits)
    lines += _trained_by(spec, finished)
    first = next(iter(commits), "")
    if len(commits) == 1 and first.endswith("+"):
        lines.append(f"The runs were made by code that had been CHANGED since its commit: {first}.")
    if not incomparable:
        return lines + _sources(spec)
    if incomparable == UNRECORDED and not _paper_values(spec):
        return lines
    return [*lines, f"{INCOMPARABLE[incomparable].format(spec.folder)}; no row can be judged."]


def other_files(spec: TableSpec, runs: Runs) -> list[str]:
    """A warning where runs read other data files than others."""
    prints = _by_value(spec, runs, lambda run: _short(run.data.get("fingerprint")))
    what = "did NOT all read the same data files, as the fingerprints in their env.json say"
    return _differing(f"The runs {what}", prints)


def undefined(spec: TableSpec, finished: Runs) -> list[str]:
    """The runs whose value of a metric is left out of the table."""
    lines = []
    for metric in spec.metrics:
        has = {run.dir: str(run.test.get(metric, "") is not None) for run in finished}
        if without := _by_value(spec, finished, lambda run, has=has: has[run.dir]).get("False"):
            lines.append(f"Left out, as {metric} is not defined, or infinite: {without}.")
    return lines


def _trained_by(spec: TableSpec, finished: Runs) -> list[str]:
    """Which runs several processes trained, and whose batch norm saw parts of an update."""
    several = [run for run in finished if max(run.processes, default=1) > 1]
    numbers = _by_value(spec, several, lambda run: " and ".join(map(str, run.processes)))
    lines = [f"Trained by {number} processes: {names}." for number, names in numbers.items()]
    parts = _by_value(spec, finished, lambda run: run.batch_norm or None)
    return lines + [f"Batch norm took its statistics {of}: {n}." for of, n in parts.items()]


def _sources(spec: TableSpec) -> list[str]:
    """Where the paper's values come from, and how certain they are."""
    lines = []
    for what, value in _paper_values(spec).items():
        trust = "; ".join(text for text in (value.source, value.certainty) if text)
        lines.append(f"Paper, {what}: {value}" + (f" ({trust})." if trust else "."))
    return lines + ([f"Paper: {spec.source}"] if spec.source else [])


def _paper_values(spec: TableSpec) -> dict[str, PaperValue]:
    """{what it is of: a value that the paper has}"""
    known = {f"{row.label}, {m}": value for row in spec.rows for m, value in row.paper.items()}
    return known | ({f"the best of {spec.names_of_best}": spec.best} if spec.best else {})


def budget(config: Plain) -> str:
    """`25 epochs, 2000 training examples, preset paper`, as far as the config says; that of a
    product holds what its parts have in common."""
    if not config:
        return NOT_RECORDED
    keys = ("optim.epochs", "data.train_size", "preset")
    epochs, size, preset = (lookup(config, key) for key in keys)
    parts = [] if epochs is None else [f"{epochs} epoch" + "s" * (epochs != 1)]
    several = config.get("method") == PRODUCT and "train_size" not in config.get("data", {})
    unset = "several numbers of" if several else "all"
    parts.append(f"{unset if size is None else size} training examples")
    return ", ".join(parts if preset is None else [*parts, f"preset {preset}"])


def other_settings(spec: TableSpec, runs: Runs) -> list[str]:
    """A warning for every setting, but for the budget's, in which some of the rows' runs depart
    from what their config file says for them, and others do not."""
    runs = [run for run in runs if run.config]
    departing = {run.dir: departures(spec, run, runs) for run in runs}
    in_budget = with_role(spec.settings_class(), "budget")
    keys = dict.fromkeys(key for given in departing.values() for key in given)
    lines = []
    for key in keys:
        if key in in_budget:
            continue

        def value_of(run: RunRecord, key: str = key) -> str | None:
            if key not in flatten(run.config):
                return None
            return str(departing[run.dir].get(key, "as configured"))

        groups = _by_value(spec, runs, value_of)
        lines += _differing(f"The runs were made with DIFFERENT settings: {key}", groups, " ")
    return lines


def _short(value: object) -> str:
    """A hash, shortened as far as a reader can distinguish it, with the mark after it."""
    if value is None:
        return NOT_RECORDED
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) < 16 else f"{text[:10]}{'+' * text.endswith('+')}"


def _differing(what: str, groups: Mapping[str, str], between: str = ": ") -> list[str]:
    """A warning if there is more than one group of `_by_value`."""
    listed = "; ".join(f"{value} ({names})" for value, names in groups.items())
    return [f"{what}{between}{listed}."] if len(groups) > 1 else []


def _by_value(
    spec: TableSpec, runs: Runs, value_of: Callable[[RunRecord], str | None]
) -> dict[str, str]:
    """{value: runs that have it, 'Image, Audio seed 1'}; seeds where those of a row differ. Runs
    whose value is None are left out."""
    seeds_of: dict[str, dict[str, list[str]]] = {}  # value -> run -> seeds
    for run in runs:
        if (value := value_of(run)) is not None:
            seeds_of.setdefault(value, {}).setdefault(run.name, []).append(str(run.seed))
    values_of_run = Counter(name for by_run in seeds_of.values() for name in by_run)
    groups = {}
    for value, by_run in seeds_of.items():
        labels = []
        for name, seeds in by_run.items():
            which = f" seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
            labels.append(spec.labels.get(name, name) + which * (values_of_run[name] > 1))
        groups[value] = ", ".join(labels)
    return groups
