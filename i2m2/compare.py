"""`python -m i2m2.compare A B`: two runs, or two methods over the seeds that both have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from i2m2.errors import CommandParser, SettingsError, aligned, run_command
from i2m2.metrics import metric_of
from i2m2.report.paper import analysis_of, listed_under, read_specs
from i2m2.report.significance import share_members
from i2m2.report.specs import TableSpec
from i2m2.report.tables import LONG
from i2m2.runs import (
    by_seed,
    evaluate_command,
    is_done,
    predictions_file,
    read_environment,
    require_predictions,
    seed_folders,
)
from i2m2.stats.intervals import LEVEL
from i2m2.stats.paired_tests import DeLong, McNemar, delong, mcnemar
from i2m2.stats.predictions import (
    AtLabel,
    Predictions,
    log_prob_of,
    mark_of_answers,
    per_label,
    refuse_other_examples,
)
from i2m2.stats.resampling import RESAMPLES, group_index
from i2m2.stats.summary import (
    CustomMetrics,
    Summary,
    resample,
    resample_defined,
    summarise,
    unseen_difference,
)


class Contrast(NamedTuple):
    """A metric of two methods, and the difference first - second with its p-value."""

    first: Summary
    second: Summary
    difference: Summary


PairedTests = tuple[McNemar, DeLong | None]  # of two runs; DeLong where there are two classes


class Comparison(NamedTuple):
    """What is known of two methods over the seeds given."""

    examples: int
    groups: int
    metrics: dict[str, Contrast]
    tests: list[dict[str, PairedTests]]  # of each pair of runs, see `paired_tests`


def comparison_of(
    first: Sequence[Path],
    second: Sequence[Path],
    metrics: Iterable[str],
    split: str = "test",
    custom: CustomMetrics | None = None,
    shared: tuple[bool, bool] = (False, False),
) -> Comparison:
    """Compare two methods by their finished runs, as many of each, paired in the order given; every
    resample draws the same examples for all. `metrics`, `custom`: see `resample`; `shared`: whether
    a method's seeds are not independent. DataError if the runs did not predict the same examples,
    SettingsError for a run without predictions or an unknown metric."""
    predictions = [require_predictions(run, split) for run in (*first, *second)]
    refuse_other_examples(dict(zip(map(str, (*first, *second)), predictions, strict=True)))
    index, groups = group_index(predictions[0]["group"])
    pairs = list(zip(predictions[: len(first)], predictions[len(first) :], strict=True))
    contrasts = {}
    for name, (values, resampled) in resample(predictions, metrics, custom).items():
        (a, b), (a_resampled, b_resampled) = np.split(values, 2), np.split(resampled, 2, axis=1)
        differing, metric = (a - b, a_resampled - b_resampled), metric_of(name)
        averages = metric.averages and name not in (custom or {})
        same = all(mark_of_answers(a, name) == mark_of_answers(b, name) for a, b in pairs)
        unseen = unseen_difference(metric, averages, same)
        options = {"difference": True, "shared": any(shared), "unseen": unseen}
        contrasts[name] = Contrast(
            first=summarise(name, a, a_resampled, groups, shared=shared[0]),
            second=summarise(name, b, b_resampled, groups, shared=shared[1]),
            difference=summarise(name, *differing, groups, **options),
        )
    return Comparison(len(index), groups, contrasts, [paired_tests(a, b) for a, b in pairs])


def paired_tests(first: Predictions, second: Predictions) -> dict[str, PairedTests]:
    """{label, or "" where there is one: tests} of two runs; {} where either holds no log_prob."""
    if "log_prob" not in first or "log_prob" not in second:
        return {}

    def tests(at: AtLabel) -> PairedTests:
        y, a, b = at(first["y"]), at(first["log_prob"]), at(second["log_prob"])
        ranked = None
        if a.shape[-1] == 2:
            # i2m2.metrics.auroc ranks by them too.
            log_odds = [np.nan_to_num(one[:, 1].astype(np.float64) - one[:, 0]) for one in (a, b)]
            ranked = delong(y == 1, *log_odds)
        return mcnemar(a.argmax(-1) == y, b.argmax(-1) == y), ranked

    return per_label(first, tests)


def seeds_of(folder: Path, split: str) -> dict[str, Path]:
    """{`seed<k>`, by its config.yaml: its path} of a run with predictions of the split, or of those
    in the folder above the seeds, a copy not counted. SettingsError if there are none."""
    runs = seed_folders(folder) or [folder]
    found = by_seed(run for run in runs if predictions_file(run, split).exists())
    if not found:
        remedy = "give a finished run, or the folder above its seeds"
        if finished := next(filter(is_done, runs), None):
            remedy = f"make them by {evaluate_command(finished, split)}"
        raise SettingsError(f"{folder} has no predictions of the {split} split; {remedy}")
    return found


def pairs_of(first: Path, second: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """{seed that both have: (run of A, run of B)}; two single runs are a pair of any seeds."""
    if first.resolve() == second.resolve():
        raise SettingsError(f"{first} is given twice; give two runs to compare")
    a, b = seeds_of(first, split), seeds_of(second, split)
    if {path.resolve() for path in a.values()} & {path.resolve() for path in b.values()}:
        raise SettingsError(f"{first} and {second} have a run in common; give two runs to compare")
    if first in a.values() and second in b.values():
        names = dict.fromkeys([*a, *b])
        return {" and ".join(names): (first, second)}
    if not a.keys() & b.keys():
        raise SettingsError(
            f"{first} ({', '.join(a)}) and {second} ({', '.join(b)}) have no seed in common; "
            "train the same seeds of both"
        )
    return {seed: (run, b[seed]) for seed, run in a.items() if seed in b}


def usual_metrics(
    predictions: Predictions, listed: Sequence[TableSpec], custom: CustomMetrics
) -> list[str]:
    """The metrics that are compared if none is named: those of its first table, as far as the split
    has them, for a data set with metrics of its own; else the general ones."""
    if not custom:
        binary = log_prob_of(predictions).shape[-1] == 2
        return ["accuracy", "nll"] + ["auroc"] * binary
    return list(resample_defined([predictions], listed[0].metrics, custom, resamples=1))


def report(found: Comparison, seeds: Sequence[str]) -> str:
    """A line per metric, what the intervals account for, and the tests of each pair of runs."""
    rows = [["", "A", "B", "A - B", "p"]]
    notes = []
    for name, (first, second, difference) in found.metrics.items():
        cells = [_with_interval(first), _with_interval(second), _with_interval(difference, "+")]
        rows.append([name, *cells, _number(difference.p, ".2g")])
        if left_out := difference.resamples_left_out:
            notes.append(f"resamples in which {name} is not defined, left out: {left_out:,}")
    rules = dict.fromkeys(part.rule for parts in found.metrics.values() for part in parts)
    notes += [f"{LEVEL:.0%} intervals: {rule}" for rule in rules]
    notes[-1] += f"; {RESAMPLES:,} resamples of {found.groups:,} groups"
    tests = _tests(found, seeds)
    if tests and found.groups < found.examples:
        tests.append(
            "McNemar and DeLong take examples as independent, and these come in groups: "
            "believe the intervals above"
        )
    return "\n".join([aligned(rows, others="left"), "", *notes, *tests])


def _tests(found: Comparison, seeds: Sequence[str]) -> list[str]:
    """The tests as tables: McNemar where the accuracy is compared, DeLong where the AUROC is."""
    won_and_lost = [["McNemar", "only A right", "only B right", "exact p", "mid-p"]]
    ranked = [["DeLong", "AUROC of A", "AUROC of B", "standard error of A - B", "p"]]
    for seed, by_label in zip(seeds, found.tests, strict=True):
        for label, (m, d) in by_label.items():
            name = f"{seed} {label}".strip()
            if _is_compared(found, "accuracy", label):
                p = [_number(value, ".2g") for value in (m.p, m.mid_p)]
                won_and_lost.append([name, f"{m.won:,}", f"{m.lost:,}", *p])
            if d is not None and _is_compared(found, "auroc", label):
                numbers = [_number(value) for value in (d.first, d.second, d.error)]
                ranked.append([name, *numbers, _number(d.p, ".2g")])
    filled = [rows for rows in (won_and_lost, ranked) if len(rows) > 1]
    return [text for rows in filled for text in ("", aligned(rows, others="left"))]


def _is_compared(found: Comparison, metric: str, label: str) -> bool:
    """Whether a metric is among those compared, of a label by itself or by the mean of all."""
    if metric in found.metrics:
        return True
    if label:
        return f"{metric}_{label}" in found.metrics
    return any(name.startswith(f"{metric}_") for name in found.metrics)


def _with_interval(summary: Summary, sign: str = "") -> str:
    mean = _number(summary.mean, f"{sign}.4f")
    return f"{mean} [{_number(summary.low)}, {_number(summary.high)}]"


def _number(value: float | None, form: str = ".4f") -> str:
    if value is None or value != value:
        return "-"
    return format(value, form.replace("f", "e") if abs(value) >= LONG else form)


def described(folder: Path, runs: Sequence[Path]) -> str:
    """What a side of the comparison is, and which of its seeds are missing or unfinished."""
    others = ", ".join(run.name for run in seed_folders(folder) if run not in runs)
    unfinished = ", ".join(run.name for run in runs if not is_done(run))
    why = "not finished, or not among the other's, or a copy"
    remarks = [f"without {others}: {why}"] if others else []
    remarks += [f"NOT FINISHED, as DONE is missing: {unfinished}"] if unfinished else []
    return f"{folder}" + (f" ({'; '.join(remarks)})" if remarks else "")


def print_comparison(folders: Sequence[Path], split: str, metrics: Sequence[str]) -> None:
    """Compare the runs in two folders by `metrics`, or if there are none, by the usual ones."""
    pairs = pairs_of(*folders, split)
    sides = [[pair[k] for pair in pairs.values()] for k in (0, 1)]
    a_run = sides[0][0]
    listed = listed_under(a_run.resolve().parents[1].name, read_specs())
    custom = analysis_of(listed).metrics
    metrics = metrics or usual_metrics(require_predictions(a_run, split), listed, custom)
    environments = [[read_environment(run) for run in runs] for runs in sides]
    members = [[env.get("product_of") or [] for env in side] for side in environments]
    found = comparison_of(*sides, metrics, split, custom, tuple(map(share_members, members)))
    for name, folder, runs in zip("AB", folders, sides, strict=True):
        print(f"{name}  {described(folder, runs)}")
    data = [(env.get("data") or {}).get("description") for env in sum(environments, [])]
    data = dict.fromkeys(str(text or "not described") for text in data)
    examples = f"{split} split, {found.examples:,} examples"
    print(f"{', '.join(pairs)}; {examples}, data: {'; '.join(data)}\n")
    print(report(found, list(pairs)))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison of two runs, or of two methods over the seeds that both have."""
    parser = CommandParser(
        prog="python -m i2m2.compare",
        description="Compare two runs, or two methods over the seeds that both have.",
    )
    folder = "a run such as results/avmnist/intra/seed0, or the folder above its seeds"
    parser.add_argument("A", type=Path, help=folder)
    parser.add_argument("B", type=Path, help=folder)
    split = "split whose saved predictions are compared (default: test)"
    parser.add_argument("--split", choices=("val", "test"), default="test", help=split)
    usual = "those of the data set's table, or accuracy, nll, auroc"
    metric = f"metrics, separated by commas (default: {usual})"
    parser.add_argument("--metric", metavar="NAME[,NAME...]", help=metric)
    args = parser.parse_args(argv)
    print_comparison((args.A, args.B), args.split, args.metric.split(",") if args.metric else ())


if __name__ == "__main__":
    run_command(main)
