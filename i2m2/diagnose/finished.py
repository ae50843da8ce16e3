"""The question answered from finished runs, such as those in `results/avmnist`, by their saved
predictions. There are no references then, and the prior is the labels' frequencies.

`diagnose_runs` also says how much is known, in nats. `conclusions_of` decides the questions alone,
by the metrics that a table draws, of predictions of any form.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from i2m2.diagnose.answer import Answer, Conclusion, answer_of, conclude
from i2m2.diagnose.pages import NAME
from i2m2.diagnose.predicted import KINDS, PRIOR, Choice, Predicted, choose, rows_of
from i2m2.errors import DataError, SettingsError
from i2m2.metrics import METRICS, metric_of, score
from i2m2.reading.records import read_record
from i2m2.report.cache import remembered
from i2m2.report.fill import counted
from i2m2.report.notes import data_kind, data_summary, other_files
from i2m2.report.paper import analysis_of, read_specs
from i2m2.report.significance import Rows, agrees
from i2m2.report.specs import ANSWERS, TableSpec
from i2m2.runs import (
    Numbers,
    RunRecord,
    collect,
    evaluate_command,
    read_result,
    require_predictions,
)
from i2m2.stats.contrasts import ScoredRows, usual_margin
from i2m2.stats.intervals import summary_of
from i2m2.stats.predictions import Predictions, label_in, log_prob_of, refuse_other_examples
from i2m2.stats.summary import CustomMetrics

LEAST = -1e3  # log-probability, so that one certain, wrong answer leaves the mean finite
ONE_SEED = "one seed: intervals and p are of the test examples alone, another seed may differ"
OF_FOLDS = "give the diagnose command that made this folder again"


def diagnose_runs(folder: Path, metric: str, margin: float | None) -> Answer:
    """The answer from the test predictions of all finished runs in a results folder; their
    validation NLL chooses. SettingsError where rows are missing, DataError for faulty predictions
    and runs that do not belong there."""
    runs = collect(folder)
    if not any(run.test is not None for run in runs):
        if faults := [run.fault for run in runs if run.fault]:
            raise DataError("; ".join(faults))
        raise SettingsError(f"{folder} has no finished runs; give one such as results/avmnist")
    spec, runs = counted(folder, runs, read_specs())
    names = spec.labels.keys() if spec.published else {run.name for run in runs}
    if faults := [run.fault for run in runs if run.fault and run.name in names]:
        raise DataError("; ".join(faults))
    rows, remarks = alike(runs, names)
    used = [run for of_row in rows.values() for run in of_row]
    remarks += [f"{line[0].lower()}{line[1:-1]}" for line in other_files(spec, used)]
    test = _read(rows)
    _refuse_other_scores(rows, test, metric)
    predicted, choices = choose(_predicted(rows, test, metric))
    n, groups = len(predicted.y), len(np.unique(predicted.group))
    about = data_summary(folder.name, data_kind(spec, used), used)
    about = "; ".join([f"{about}: {n:,} test examples in {groups:,} groups", *remarks])
    return answer_of(predicted, choices, about, metric, margin)


def stored_answer(folder: Path, metric: str | None, margin: float | None) -> Answer | None:
    """The answer in a folder that a diagnosis of data wrote; None for any other folder. Its
    predictions are out of fold, so SettingsError for another metric or margin."""
    path, runs = folder / f"{NAME}.json", collect(folder)
    out_of_fold = all("folds" in run.config for run in runs)
    if not out_of_fold or not (runs or path.is_file()):
        return None
    answer = read_record(path, Answer, OF_FOLDS)
    if metric not in (None, answer.metric) or margin not in (None, answer.margin):
        raise SettingsError(
            f"{folder} was answered by {answer.metric} with the margin {answer.margin:g}; for "
            f"another, {OF_FOLDS} with it"
        )
    return answer


def conclusions_of(folder: Path, runs: Sequence[RunRecord], spec: TableSpec) -> list[Conclusion]:
    """The answer of a results folder by every metric that its table draws: of each task, where
    there are several. It is kept in statistics.json. SettingsError where rows or predictions are
    missing, DataError for faulty ones."""
    if any("folds" in run.config for run in runs):  # predictions out of fold, written with it
        return [read_record(folder / f"{NAME}.json", Conclusion, OF_FOLDS)]
    rows, remarks = alike(runs, spec.labels)
    metrics = [metric for metric in spec.drawn or spec.metrics[:1] if metric_of(metric).ranks]

    def make() -> list[Conclusion]:
        test, custom = _read(rows), analysis_of([spec]).metrics
        try:
            return [_conclusion(rows, test, metric, custom) for metric in metrics]
        except (KeyError, IndexError, TypeError, ValueError) as error:  # a data set's own columns
            raise DataError(
                f"a row's predictions_test.npz has no usual columns ({error})"
            ) from error

    by = {row: list(map(_validation_nlls, of_row)) for row, of_row in rows.items()}
    found = remembered(folder, ANSWERS, list[Conclusion], rows, metrics, by, make)
    if found is None:
        raise SettingsError("it needs the saved predictions of its runs, which are not all here")
    used = [run for of_row in rows.values() for run in of_row]
    about = data_summary(folder.name, data_kind(spec, used), used)
    if len(used) == len(rows):
        remarks = [*remarks, ONE_SEED]
    return [msgspec.structs.replace(one, about=about, remarks=remarks) for one in found]


def alike(runs: Sequence[RunRecord], names: Collection[str]) -> tuple[Rows, list[str]]:
    """{row of one of the kinds: its finished runs, of the seeds that all rows have}, and what was
    left out. Of the rows of a kind those with the most seeds count. SettingsError where a kind has
    none, or no seed is in all."""
    finished: dict[str, dict[int, RunRecord]] = {}
    copies = [f"{run.name}/{run.dir.name}" for run in runs if run.copy_of and run.name in names]
    for run in runs:
        if run.test is not None:
            finished.setdefault(run.name, {})[run.seed] = run
    there = [name for name in names if name in finished]
    kinds = {kind: rows_of(kind, sorted(there)) for kind in KINDS}
    if lacking := [kind for kind, rows in kinds.items() if not rows]:
        raise SettingsError(f"there is no finished run of {' and none of '.join(lacking)}")
    most = {kind: max(len(finished[row]) for row in rows) for kind, rows in kinds.items()}
    kept = [row for kind, rows in kinds.items() for row in rows if len(finished[row]) == most[kind]]
    seeds = sorted(set.intersection(*(set(finished[row]) for row in kept)))
    if not seeds:
        raise SettingsError("no seed is finished of every row; train the same seeds of each")
    remarks = []
    if left_out := sorted(set(sum(kinds.values(), [])) - set(kept)):
        remarks.append(f"left out for having fewer seeds: {', '.join(left_out)}")
    if copies:
        remarks.append(f"not counted, as copies by their config.yaml: {', '.join(copies)}")
    if any(len(finished[row]) > len(seeds) for row in kept):
        remarks.append(f"by seed {', '.join(map(str, seeds))} alone, which every row has")
    return {row: [finished[row][seed] for seed in seeds] for row in kept}, remarks


def _read(rows: Rows) -> dict[str, list[Predictions]]:
    """The test predictions of all runs, of the same examples."""
    test = {name: [require_predictions(run.dir, "test") for run in of] for name, of in rows.items()}
    refuse_other_examples(
        {f"{name}/seed{k}": one for name, of in test.items() for k, one in enumerate(of)}
    )
    return test


def _refuse_disagreeing(runs: Sequence[RunRecord], values: np.ndarray, metric: str) -> None:
    """DataError unless the values [S] of a row's predictions are those of its result.json."""
    if not agrees(summary_of(values, ""), runs, metric):
        raise DataError(
            f"{runs[0].dir.parent}: its predictions do not give the {metric} of its "
            f"result.json; predict again by {evaluate_command(runs[0].dir, 'test')}"
        )


def _validation_nlls(run: RunRecord) -> Numbers:
    """{`nll`, or `nll_<label>`: what result.json has of it}, by which rows are chosen."""
    recorded = read_result(run.dir).get("val", {})
    return {name: value for name, value in recorded.items() if f"{name}_".startswith("nll_")}


def _validation_nll(run: RunRecord, metric: str) -> float:
    """As result.json has it; the label's own, where the metric is that of a label."""
    recorded = _validation_nlls(run)
    label = label_in(metric, [name.removeprefix("nll_") for name in recorded])
    name = f"nll_{label}" if label else "nll"
    if name not in recorded:
        raise SettingsError(f"{run.dir}/result.json has no {name} of val, by which rows are chosen")
    return np.inf if recorded[name] is None else recorded[name]


def _validation(rows: Rows, metric: str) -> dict[str, np.ndarray]:
    """{row: [S, 1]}, a run being a fold."""
    return {
        name: np.array([[_validation_nll(run, metric)] for run in of]) for name, of in rows.items()
    }


# ---- In nats


def _refuse_other_scores(
    rows: Rows, test: Mapping[str, Sequence[Predictions]], metric: str
) -> None:
    """`_refuse_disagreeing` by the metric and the NLL, as far as they are recorded."""
    for row, runs in rows.items():
        pairs = [(log_prob_of(one), one["y"]) for one in test[row]]
        for name in dict.fromkeys((metric, "nll")):
            if name in METRICS and all(name in run.test for run in runs):
                scores = [score(y, log_prob, [name])[name] for log_prob, y in pairs]
                _refuse_disagreeing(runs, np.array(scores), name)


def _predicted(rows: Rows, test: Mapping[str, Sequence[Predictions]], metric: str) -> Predicted:
    first = next(iter(test.values()))[0]
    y = _labels(first)
    outputs = {name: np.stack([_outputs(one) for one in of]) for name, of in test.items()}
    shape = next(iter(outputs.values())).shape
    outputs[PRIOR] = np.broadcast_to(_log_frequencies(y, shape[-1]), shape)
    return Predicted(
        outputs=outputs,
        y=y,
        group=first["group"],
        fold=np.zeros(shape[:2], dtype=np.int64),
        validation=_validation(rows, metric),
        classify=True,
    )


def _labels(predictions: Predictions) -> np.ndarray:
    """[n, L]"""
    return predictions["y"].reshape(len(predictions["y"]), -1)


def _outputs(predictions: Predictions) -> np.ndarray:
    """Log-probabilities [n, L, C]."""
    log_prob = np.maximum(log_prob_of(predictions).astype(np.float64), LEAST)
    return log_prob[:, None] if log_prob.ndim == 2 else log_prob


def _log_frequencies(y: np.ndarray, classes: int) -> np.ndarray:
    """Of the labels [n, L]: [L, C]."""
    share = np.stack([np.bincount(column, minlength=classes) for column in y.T]) / len(y)
    return np.maximum(np.log(np.maximum(share, 1e-300)), LEAST)


# ---- By the metric of a table


def _conclusion(
    rows: Rows, test: Mapping[str, Sequence[Predictions]], metric: str, custom: CustomMetrics
) -> Conclusion:
    first = next(iter(test.values()))[0]
    prior = {} if metric in custom or "log_prob" not in first else {PRIOR: [_prior(first)]}
    scored = ScoredRows.of_predictions({**test, **prior}, metric, custom)
    for row, runs in rows.items():
        _refuse_disagreeing(runs, scored.values[row], metric)
    scored, choices = _with_chosen(scored, _validation(rows, metric))
    margin = usual_margin(metric, first.get("y"))
    return conclude(scored, choices, "", metric, margin, metric_of(metric))


def _prior(predictions: Predictions) -> Predictions:
    """The predictions of one that knows the labels' frequencies alone."""
    log_prob = predictions["log_prob"]
    known = _log_frequencies(_labels(predictions), log_prob.shape[-1])
    known = np.broadcast_to(known.reshape(log_prob.shape[1:]), log_prob.shape)
    kept = {
        name: predictions[name] for name in ("id", "group", "y", "labels") if name in predictions
    }
    return {**kept, "log_prob": known}


def _with_chosen(
    scored: ScoredRows, validation: Mapping[str, np.ndarray]
) -> tuple[ScoredRows, dict[str, Choice]]:
    """The scores with those of the rows that stand for several, of each seed one of its runs; a row
    that does so in all seeds keeps its name. What `choose` puts together of the rows' outputs are
    here the places of the runs."""
    seeds = len(next(iter(validation.values())))
    places = np.arange(seeds * len(validation)).reshape(-1, seeds, 1, 1, 1)
    one_example = np.zeros((1, 1), dtype=np.int64)
    runs = Predicted(
        outputs=dict(zip(validation, places, strict=True)),
        y=one_example,
        group=one_example[0],
        fold=np.zeros((seeds, 1), dtype=np.int64),
        validation=validation,
        classify=True,
    )
    chosen, choices = choose(runs)
    values = np.concatenate([scored.values[row] for row in validation])
    resampled = np.concatenate([scored.resampled[row] for row in validation], axis=1)
    marks = np.concatenate([scored.marks[row] for row in validation])
    at = {row: one.ravel() for row, one in chosen.outputs.items() if row not in validation}
    whole = ScoredRows(
        values={**scored.values, **{row: values[of] for row, of in at.items()}},
        resampled={**scored.resampled, **{row: resampled[:, of] for row, of in at.items()}},
        groups=scored.groups,
        averages=scored.averages,
        marks={**scored.marks, **{row: marks[of] for row, of in at.items()}},
    )
    named = {
        kind: replace(one, row=one.usual) if len(one.taken) == 1 else one
        for kind, one in choices.items()
    }
    return whole, named
