"""`python -m i2m2.compare RUN_A RUN_B`: two finished runs on the same examples, or two methods over
the seeds they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from i2m2.errors import CommandParser, DataError, SettingsError, aligned, run_command
from i2m2.report.comparison import Comparison, PairedTests, comparison_of
from i2m2.report.paper import TableSpec, analysis_of, listed_under, read_specs
from i2m2.report.significance import share_members
from i2m2.runs import (
    is_done,
    predictions_file,
    read_environment,
    require_predictions,
    seed_folders,
)
from i2m2.stats.predictions import Predictions, log_prob_of
from i2m2.stats.summary import CustomMetrics, Summary, resample


def seeds_of(folder: Path, split: str) -> dict[str, Path]:
    """{seed folder's name: its path} of a run with predictions of the split, or of those in the
    folder above the seeds. SettingsError if there are none."""
    runs = seed_folders(folder) or [folder]
    found = {run.resolve().name: run for run in runs if predictions_file(run, split).exists()}
    if not found:
        raise SettingsError(
            f"{folder} has no predictions of the {split} split; "
            "give a finished run, or the folder above its seeds"
        )
    return found


def pairs_of(first: Path, second: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """{seed: (run of A, run of B)}: the seeds that both have; two single runs are a pair whatever
    their seeds."""
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
    """Of a data set with metrics of its own those of its first table, as far as the split has them;
    else the general ones."""
    if not custom:
        binary = log_prob_of(predictions).shape[-1] == 2
        return ["accuracy", "nll", *(["auroc"] if binary else [])]

    def is_defined(metric: str) -> bool:
        try:
            return bool(resample([predictions], [metric], custom, resamples=1))
        except (SettingsError, DataError):
            return False

    return [metric for metric in listed[0].metrics if is_defined(metric)]


def report(found: Comparison, seeds: Sequence[str]) -> str:
    """The text of a comparison: a line per metric, what the intervals account for, and the tests of
    each pair of runs."""
    basis = found.basis
    rows = [["", "A", "B", "A - B", "p"]]
    notes = []
    rules: dict[str, None] = {}
    for name, contrast in found.metrics.items():
        parts = (contrast.first, contrast.second, contrast.difference)
        first, second = (_with_interval(part) for part in parts[:2])
        difference, p = _with_interval(parts[2], "+"), _number(parts[2].p, ".2g")
        rows.append([name, first, second, difference, p])
        if left_out := contrast.difference.resamples_left_out:
            notes.append(f"resamples in which {name} is not defined, left out: {left_out:,}")
        rules |= dict.fromkeys(part.rule for part in parts)
    notes += [f"{basis.level:.0%} intervals: {rule}" for rule in rules]
    notes[-1] += f"; {basis.resamples:,} resamples of {basis.groups:,} groups"
    tests = [*_mcnemar(found, seeds), *_delong(found, seeds)]
    if tests and basis.groups < basis.examples:
        tests.append(
            "McNemar and DeLong take examples as independent, and these come in groups: "
            "believe the intervals above"
        )
    return "\n".join([aligned(rows, others="left"), "", *notes, *tests])


def _mcnemar(found: Comparison, seeds: Sequence[str]) -> list[str]:
    if not _is_compared(found, "accuracy"):
        return []
    rows = [["McNemar", "only A right", "only B right", "exact p", "mid-p"]]
    for name, tests in _tests(found, seeds, "accuracy"):
        test = tests.mcnemar
        p = [_number(value, ".2g") for value in (test.p, test.mid_p)]
        rows.append([name, f"{test.won:,}", f"{test.lost:,}", *p])
    return ["", aligned(rows, others="left")]


def _delong(found: Comparison, seeds: Sequence[str]) -> list[str]:
    rows = [["DeLong", "AUROC of A", "AUROC of B", "standard error of A - B", "p"]]
    for name, tests in _tests(found, seeds, "auroc"):
        if (test := tests.delong) is not None:
            numbers = [_number(value) for value in (test.first, test.second, test.error)]
            rows.append([name, *numbers, _number(test.p, ".2g")])
    return ["", aligned(rows, others="left")] if len(rows) > 1 else []


def _is_compared(found: Comparison, metric: str, label: str = "") -> bool:
    """Whether a metric is among those compared, for one label if it is given: by itself, or as the
    mean over all of them."""
    if metric in found.metrics:
        return True
    if label:
        return f"{metric}_{label}" in found.metrics
    return any(name.startswith(f"{metric}_") for name in found.metrics)


def _tests(
    found: Comparison, seeds: Sequence[str], metric: str
) -> Iterable[tuple[str, PairedTests]]:
    """(seed and label, tests) of every pair of runs and label for which the metric is compared."""
    for seed, by_label in zip(seeds, found.tests, strict=True):
        for label, tests in by_label.items():
            if _is_compared(found, metric, label):
                yield f"{seed} {label}".strip(), tests


def _with_interval(summary: Summary, sign: str = "") -> str:
    mean = _number(summary.mean, f"{sign}.4f")
    return f"{mean} [{_number(summary.low)}, {_number(summary.high)}]"


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None or value != value else format(value, form)


def described(folder: Path, runs: Sequence[Path]) -> str:
    """What a side of the comparison is, and which of its seeds are missing or unfinished."""
    others = ", ".join(run.name for run in seed_folders(folder) if run not in runs)
    unfinished = ", ".join(run.name for run in runs if not is_done(run))
    remarks = [f"without {others}: not finished, or not among the other's"] if others else []
    remarks += [f"NOT FINISHED, as DONE is missing: {unfinished}"] if unfinished else []
    return f"{folder}" + (f" ({'; '.join(remarks)})" if remarks else "")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison of two runs, or of two methods over the seeds that both have."""
    about = "Compare two runs, or two methods, on the same examples."
    parser = CommandParser(prog="python -m i2m2.compare", description=about)
    about = "a run such as results/avmnist/intra/seed0, or the folder above its seeds"
    for name in ("A", "B"):
        parser.add_argument(name, type=Path, help=about)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    about = "separated by commas; default: those of the data set's table, or accuracy, nll, auroc"
    parser.add_argument("--metric", help=about)
    args = parser.parse_args(argv)
    pairs = pairs_of(args.A, args.B, args.split)
    first, second = ([pair[k] for pair in pairs.values()] for k in (0, 1))
    listed = listed_under(first[0].resolve().parents[1].name, read_specs())
    custom = analysis_of(listed).metrics
    if args.metric:
        metrics = args.metric.split(",")
    else:
        metrics = usual_metrics(require_predictions(first[0], args.split), listed, custom)
    environments = {run: read_environment(run) for run in (*first, *second)}
    shared = tuple(_reuses_models(runs, environments) for runs in (first, second))
    found = comparison_of(first, second, metrics, args.split, custom, shared=shared)
    print(f"A  {described(args.A, first)}\nB  {described(args.B, second)}")
    data = [(env.get("data") or {}).get("description") for env in environments.values()]
    data = dict.fromkeys(str(text or "not described") for text in data)
    print(
        f"{', '.join(pairs)}; {args.split} split, {found.basis.examples:,} examples, "
        f"data: {'; '.join(data)}\n"
    )
    print(report(found, list(pairs)))


def _reuses_models(runs: Sequence[Path], environments: Mapping[Path, Mapping]) -> bool:
    return share_members([environments[run].get("product_of") or [] for run in runs])


if __name__ == "__main__":
    run_command(main)
