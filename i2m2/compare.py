"""`python -m i2m2.compare RUN_A RUN_B`: two finished runs on the same examples, or two methods over
the seeds they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.report.estimates import CustomMetric, comparison_of, resample
from i2m2.report.significance import share_members
from i2m2.report.tables import Entry, custom_statistics_of, listed_under, read_entries
from i2m2.runs import read_mapping, require_predictions
from i2m2.stats.predictions import Predictions, log_prob_of


def seeds_of(folder: Path, split: str) -> dict[str, Path]:
    """{seed folder's name: its path} of a run with predictions of the split, or of those in the
    folder above the seeds.

    SettingsError if there are none.
    """
    found = {
        run.resolve().name: run
        for run in _below(folder) or [folder]
        if (run / f"predictions_{split}.npz").exists()
    }
    if not found:
        raise SettingsError(
            f"{folder} has no predictions of the {split} split; give a finished run, or the folder above its seeds"
        )
    return found


def _below(folder: Path) -> list[Path]:
    runs = [path for path in folder.glob("seed*") if re.fullmatch(r"seed\d+", path.name)]
    return sorted(runs, key=lambda path: int(path.name.removeprefix("seed")))


def pairs_of(first: Path, second: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """{seed: (run of A, run of B)}: the seeds that both have; two single runs are a pair whatever
    their seeds."""
    if first.resolve() == second.resolve():
        raise SettingsError(f"{first} is given twice; give two runs to compare")
    a, b = seeds_of(first, split), seeds_of(second, split)
    if {path.resolve() for path in a.values()} & {path.resolve() for path in b.values()}:
        raise SettingsError(f"{first} and {second} have a run in common; give two runs to compare")
    if first in a.values() and second in b.values():
        return {
            a_name if a_name == b_name else f"{a_name} and {b_name}": (first, second)
            for a_name, b_name in zip(a, b, strict=True)
        }
    if not a.keys() & b.keys():
        raise SettingsError(
            f"{first} ({', '.join(a)}) and {second} ({', '.join(b)}) have no seed in common; train the same seeds of both"
        )
    return {seed: (run, b[seed]) for seed, run in a.items() if seed in b}


def environment_of(run: Path) -> dict[str, Any]:
    """env.json of a run; {} where it has none."""
    env = run / "env.json"
    return read_mapping(env) if env.exists() else {}


def usual_metrics(
    predictions: Predictions, listed: Sequence[Entry], own: Mapping[str, CustomMetric]
) -> list[str]:
    """Of a data set with metrics of its own those of its first table, as far as the split has them;
    else the general ones."""
    if not own:
        return ["accuracy", "nll", *(["auroc"] if log_prob_of(predictions).shape[-1] == 2 else [])]

    def is_there(metric: str) -> bool:
        try:
            return bool(resample([predictions], [metric], own, resamples=1))
        except (SettingsError, DataError):
            return False

    return list(filter(is_there, listed[0].metrics))


def report(found: Mapping[str, Any], seeds: Sequence[str]) -> str:
    """The text of a comparison: a line per metric, what the intervals account for, and the tests of
    each pair of runs."""
    lines = [["", "A", "B", "A - B", "p"]]
    for name, parts in found["metrics"].items():
        lines.append(
            [
                name,
                *(_with_interval(parts[part]) for part in ("first", "second")),
                _with_interval(parts["difference"], "+"),
            ]
        )
        lines[-1].append(_number(parts["difference"]["p"], ".2g"))
    left_out = {
        name: parts["difference"]["resamples_left_out"] for name, parts in found["metrics"].items()
    }
    notes = [
        f"resamples in which {name} is not defined, left out: {count:,}"
        for name, count in left_out.items()
        if count
    ]
    for rule in dict.fromkeys(
        part["rule"] for parts in found["metrics"].values() for part in parts.values()
    ):
        notes.append(f"{found['level']:.0%} intervals: {rule}")
    notes[-1] += f"; {found['resamples']:,} resamples of {found['groups']:,} groups"
    tests = [*_mcnemar(found, seeds), *_delong(found, seeds)]
    if tests and found["groups"] < found["examples"]:
        tests.append(
            "McNemar and DeLong take examples as independent, and these come in groups: believe the intervals above"
        )
    return "\n".join([_aligned(lines), "", *notes, *tests])


def _mcnemar(found: Mapping[str, Any], seeds: Sequence[str]) -> list[str]:
    if not _has(found, "accuracy"):
        return []
    lines = [["McNemar", "only A right", "only B right", "exact p", "mid-p"]]
    for name, test in _tests(found, seeds, "mcnemar"):
        lines.append(
            [
                name,
                f"{test['won']:,}",
                f"{test['lost']:,}",
                _number(test["p"], ".2g"),
                _number(test["mid_p"], ".2g"),
            ]
        )
    return ["", _aligned(lines)]


def _delong(found: Mapping[str, Any], seeds: Sequence[str]) -> list[str]:
    tests = list(_tests(found, seeds, "delong")) if _has(found, "auroc") else []
    lines = [["DeLong", "AUROC of A", "AUROC of B", "standard error of A - B", "p"]]
    for name, test in tests:
        error = None if test["variance"] is None else test["variance"] ** 0.5
        lines.append(
            [
                name,
                *(_number(value) for value in (test["first"], test["second"], error)),
                _number(test["p"], ".2g"),
            ]
        )
    return ["", _aligned(lines)] if tests else []


def _has(found: Mapping[str, Any], metric: str, label: str = "") -> bool:
    """Whether a metric is among those compared, for one label if it is given: by itself, or as the
    mean over all of them."""
    names = (metric, f"{metric}_{label}") if label else (metric,)
    return any(
        name in names or (not label and name.startswith(f"{metric}_")) for name in found["metrics"]
    )


def _tests(
    found: Mapping[str, Any], seeds: Sequence[str], kind: str
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    metric = {"mcnemar": "accuracy", "delong": "auroc"}[kind]
    for seed, by_label in zip(seeds, found["tests"], strict=True):
        for label, tests in by_label.items():
            if kind in tests and _has(found, metric, label):
                yield f"{seed} {label}".strip(), tests[kind]


def _with_interval(part: Mapping[str, Any], sign: str = "") -> str:
    return (
        f"{_number(part['mean'], f'{sign}.4f')} [{_number(part['low'])}, {_number(part['high'])}]"
    )


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison of two runs, or of two methods over the seeds that both have."""
    parser = CommandParser(
        prog="python -m i2m2.compare",
        description="Compare two runs, or two methods, on the same examples.",
    )
    for name in ("A", "B"):
        parser.add_argument(
            name,
            type=Path,
            help="a run such as results/avmnist/intra/seed0, or the folder above its seeds",
        )
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument(
        "--metric",
        help="separated by commas; default: those of the data set's table, or accuracy, nll, auroc",
    )
    args = parser.parse_args(argv)
    pairs = pairs_of(args.A, args.B, args.split)
    first, second = ([pair[k] for pair in pairs.values()] for k in (0, 1))
    listed = listed_under(first[0].resolve().parents[1].name, read_entries())
    own = custom_statistics_of(listed).metrics
    metrics = (
        args.metric.split(",")
        if args.metric
        else usual_metrics(require_predictions(first[0], args.split), listed, own)
    )
    shared = tuple(
        share_members([environment_of(run).get("product_of") or [] for run in runs])
        for runs in (first, second)
    )
    found = comparison_of(first, second, metrics, args.split, own, shared=shared)
    for name, folder, runs in (("A", args.A, first), ("B", args.B, second)):
        others = [run.name for run in _below(folder) if run not in runs]
        broken_off = [run.name for run in runs if not (run / "DONE").exists()]
        remarks = (
            [f"without {', '.join(others)}: not finished, or not among the other's"]
            if others
            else []
        )
        remarks += (
            [f"NOT FINISHED, as DONE is missing: {', '.join(broken_off)}"] if broken_off else []
        )
        print(f"{name}  {folder}" + (f" ({'; '.join(remarks)})" if remarks else ""))
    described = [
        (environment_of(run).get("data") or {}).get("description", "not described")
        for run in (*first, *second)
    ]
    data = "; ".join(dict.fromkeys(map(str, described)))
    print(f"{', '.join(pairs)}; {args.split} split, {found['examples']:,} examples, data: {data}\n")
    print(report(found, list(pairs)))


if __name__ == "__main__":
    run_command(main)
