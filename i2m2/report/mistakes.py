"""Mistakes in the tables of a `paper.yaml` that their types do not show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from i2m2.metrics import metric_of
from i2m2.report.render import slug

if TYPE_CHECKING:
    from i2m2.report.paper import PaperValue, TableSpec

ANSWERS = "answers"  # what stands in statistics.json beside the tables, by their names
FIRST = "table"  # the files of a folder's first table; those of the others bear their names
# What else `i2m2.results` writes beside the tables.
WRITTEN = ("figure", "studies", "reliability", "calibration", "combination")
WRITTEN += ("table_b_6", "table_c_7", "section_4_6")


def refuse_mistakes(spec: TableSpec) -> None:
    """ValueError for a metric or a row that is named, but is none of the table, or is named twice,
    and for a number of the paper's that its unit does not fit."""
    _refuse_unlisted(spec)
    if twice := _twice(spec.metrics):
        raise ValueError(f"{spec.name}: metrics: {twice} is listed twice; list it once")
    if twice := _twice(row.run for row in spec.rows):
        labels = [row.label for row in spec.rows if row.run == twice]
        raise ValueError(
            f"{spec.name}: rows: {' and '.join(labels)} have the same run, {twice}; "
            "give each row a run of its own"
        )
    if not (math.isfinite(spec.tolerance) and spec.tolerance >= 0):
        raise ValueError(f"{spec.name}: tolerance: {spec.tolerance:g} is no number from 0 up")
    for place, metric, value in _paper_values(spec):
        if fault := _fault_of(value, metric):
            raise ValueError(f"{spec.name}: {place}: {fault}")


def refuse_same_files(specs: Sequence[TableSpec]) -> None:
    """ValueError where two tables of a results folder would be written over each other, or one over
    something else."""
    if any(spec.name == ANSWERS for spec in specs):
        raise ValueError(f"name: {ANSWERS} is the name of what is no table; give it another")
    first, *others = specs
    owners = {name: f"what is called {name}.* there" for name in (FIRST, *WRITTEN)}
    owners[slug(first.heading)] = f"those of {first.name}"
    for spec in others:
        name = slug(spec.heading)
        if not name:
            raise ValueError(f"name: {spec.name} has no letter a-z and no digit to name files by")
        if name in owners:
            raise ValueError(
                f"name: the files of {spec.name} would be written over {owners[name]}; "
                "give it another name"
            )
        owners[name] = f"those of {spec.name}"


def _twice(names: Iterable[str]) -> str:
    """The first name that is not alone, '' if all are."""
    return next((name for name, times in Counter(names).items() if times > 1), "")


def _refuse_unlisted(spec: TableSpec) -> None:
    if not spec.metrics:
        raise ValueError("metrics: a table needs one or more")
    named = {"drawn": spec.drawn}
    named |= {f"rows, {row.label}, paper": row.paper for row in spec.rows}
    for field, metrics in named.items():
        if unknown := [metric for metric in metrics if metric not in spec.metrics]:
            raise ValueError(f"{field}: {unknown[0]} is none of metrics, {', '.join(spec.metrics)}")
    if spec.best is None:
        return
    if not spec.best.rows:
        raise ValueError("best: it needs rows, the runs of which it is the best")
    if unknown := [run for run in spec.best.rows if run not in spec.labels]:
        raise ValueError(f"best: rows: {unknown[0]} is the run of no row; {', '.join(spec.labels)}")


def _paper_values(spec: TableSpec) -> Iterator[tuple[str, str, PaperValue]]:
    """(where it stands, its metric, the number) of all that the paper reports."""
    for row in spec.rows:
        for metric, value in row.paper.items():
            yield f"rows, {row.label}, paper, {metric}", metric, value
    if spec.best is not None:
        yield f"best, {spec.metrics[0]}", spec.metrics[0], spec.best


def _fault_of(value: PaperValue, metric: str) -> str:
    """What is wrong with a number of the paper's, and what to write; '' if nothing is."""
    units = _units_of(metric)
    if value.unit not in units:
        return f"unit: {value.unit} is none of {metric}; write unit: {' or '.join(units)}"
    numbers = {"value": value.value} | ({} if value.std is None else {"std": value.std})
    low, high = (value.scale * bound for bound in metric_of(metric).bounds)
    for field, number in numbers.items():
        if not (math.isfinite(number) and low <= number <= high):
            upper = f"to {high:g}" if math.isfinite(high) else "up"
            return (
                f"{field}: {number:g} is no {metric} in {value.unit}; "
                f"write a number from {low:g} {upper}, or leave it out where it is not known"
            )
    return ""


def _units_of(metric: str) -> Sequence[str]:
    """The units in which a metric may be reported."""
    known = metric_of(metric)
    if known.percent:
        return ("percent", "fraction")
    return ("nats",) if math.isinf(known.bounds[1]) else ("fraction",)
