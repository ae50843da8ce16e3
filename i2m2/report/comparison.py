"""Two methods compared on the same examples, from the saved predictions of their finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from i2m2.runs import require_predictions
from i2m2.stats.intervals import LEVEL
from i2m2.stats.paired_tests import DeLong, McNemar, delong, mcnemar
from i2m2.stats.predictions import AtLabel, Predictions, per_label, refuse_other_examples
from i2m2.stats.resampling import RESAMPLES
from i2m2.stats.summary import CustomMetrics, Summary, resample, summarise


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What numbers rest on."""

    runs: list[str]
    split: str
    examples: int
    groups: int
    resamples: int
    level: float = LEVEL


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of two methods, and the difference first - second with the p-value of its being
    0."""

    first: Summary
    second: Summary
    difference: Summary


class PairedTests(msgspec.Struct, frozen=True, kw_only=True):
    """Tests of two runs on the same examples; DeLong where there are two classes."""

    mcnemar: McNemar
    delong: DeLong | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two methods over the seeds given; `tests`: {label, or "" where there is one: tests} of each
    pair of runs."""

    basis: Basis
    metrics: dict[str, Contrast]
    tests: list[dict[str, PairedTests]]


def comparison_of(
    first: Sequence[Path],
    second: Sequence[Path],
    metrics: Iterable[str],
    split: str = "test",
    custom: CustomMetrics | None = None,
    resamples: int = RESAMPLES,
    shared: tuple[bool, bool] = (False, False),
) -> Comparison:
    """Of two methods' finished runs, as many of each, paired in the order given.

    Every resample draws the same examples for all; `shared`: of which of the two the seeds are not
    independent (reused models). `metrics`: of i2m2.metrics or `custom`; of several labels a name
    alone stands for their mean and every label, `auroc_acl` for one. DataError if the runs did not
    predict the same examples, SettingsError for a run without predictions or an unknown metric.
    """
    seeds = len(first)
    predictions, basis = _read_alike([*first, *second], split, resamples)
    groups = basis.groups
    contrasts = {}
    for name, (values, resampled) in resample(predictions, metrics, custom, resamples).items():
        a, b = values[:seeds], values[seeds:]
        a_resampled, b_resampled = resampled[:, :seeds], resampled[:, seeds:]
        differing, either = (a - b, a_resampled - b_resampled), any(shared)
        contrasts[name] = Contrast(
            first=summarise(name, a, a_resampled, groups, shared=shared[0]),
            second=summarise(name, b, b_resampled, groups, shared=shared[1]),
            difference=summarise(name, *differing, groups, difference=True, shared=either),
        )
    pairs = zip(predictions[:seeds], predictions[seeds:], strict=True)
    return Comparison(basis=basis, metrics=contrasts, tests=[paired_tests(a, b) for a, b in pairs])


def _read_alike(
    runs: Sequence[Path], split: str, resamples: int
) -> tuple[list[Predictions], Basis]:
    predictions = [require_predictions(run, split) for run in runs]
    refuse_other_examples(dict(zip(map(str, runs), predictions, strict=True)))
    basis = Basis(
        runs=[str(run) for run in runs],
        split=split,
        examples=len(predictions[0]["id"]),
        groups=len(np.unique(predictions[0]["group"])),
        resamples=resamples,
    )
    return predictions, basis


def paired_tests(first: Predictions, second: Predictions) -> dict[str, PairedTests]:
    """{label, or "" where there is one: tests} of two runs; {} where either holds no log_prob."""
    if "log_prob" not in first or "log_prob" not in second:
        return {}
    y, a, b = first["y"], first["log_prob"], second["log_prob"]

    def tests(at: AtLabel) -> PairedTests:
        y_, a_, b_ = at(y), at(a), at(b)
        ranked = None
        if a.shape[-1] == 2:
            # As i2m2.metrics.auroc ranks.
            log_odds = [np.nan_to_num(one[:, 1].astype(np.float64) - one[:, 0]) for one in (a_, b_)]
            ranked = delong(y_ == 1, *log_odds)
        return PairedTests(mcnemar=mcnemar(a_.argmax(-1) == y_, b_.argmax(-1) == y_), delong=ranked)

    return per_label(first, tests)
