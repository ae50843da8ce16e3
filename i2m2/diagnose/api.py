"""`diagnose`: the question answered for a user's blocks and labels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i2m2.diagnose.answer import Answer, answer_of, metric_for, with_bound
from i2m2.diagnose.folds import Folds, fingerprint, run_folds
from i2m2.diagnose.pages import to_html, to_text, write
from i2m2.diagnose.predicted import HALF, Predicted, choose
from i2m2.diagnose.rows import Question
from i2m2.diagnose.runs import write_runs
from i2m2.diagnose.saturated import pairwise_interaction
from i2m2.errors import SettingsError
from i2m2.estimator.experts import INTERACTIONS, expert_names, members_for
from i2m2.estimator.families import Categorical, Family, Gaussian
from i2m2.estimator.given.blocks import read_blocks, refuse_other_order
from i2m2.estimator.given.folds import as_groups, as_names
from i2m2.estimator.given.kinds import Block, warn_of_unique_texts
from i2m2.estimator.given.targets import (
    as_labels,
    as_targets,
    encode_labels,
    refuse_constant,
    refuse_target,
)
from i2m2.estimator.given.values import InputError, shown
from i2m2.estimator.models.training import TrainingSettings

FEW_VALUES = 20  # whole numbers with more are a regression
FEWEST = 8  # groups, and examples of the most frequent class
SURELY_ENOUGH = 100  # examples, or groups, to lie in several folds of any half
NUMBERS = '; if these are numbers to predict and no classes, give task="regress"'


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; printed, it is the answer. `predictions` {row: [S, n, L, K]} are
    out-of-fold log-probabilities, or means and log variances of a regression."""

    answer: Answer
    predictions: Mapping[str, np.ndarray]
    classes: list[np.ndarray] | None

    def __str__(self) -> str:
        return to_text(self.answer)

    def _repr_html_(self) -> str:
        return to_html(self.answer, ())


def diagnose(
    X: Any,
    y: Any,
    *,
    modalities: Mapping[str, Any] | None = None,
    kinds: Mapping[str, str] | None = None,
    groups: Any = None,
    ids: Any = None,
    experts: Mapping[str, Any] | None = None,
    interactions: str = "all",
    task: str | None = None,
    metric: str = "nll",
    margin: float | None = None,
    folds: int = 5,
    seeds: int = 3,
    network: Mapping[str, Any] | None = None,
    further: bool = False,
    jobs: int | None = None,
    out: str | Path | None = None,
    progress: bool = False,
    name: str = "data",
) -> Diagnosis:
    """The answer from every row's out-of-fold predictions. What the arguments are and which errors
    are raised: `help(i2m2.diagnose)`, the package that is called."""
    _check_settings(folds, seeds, jobs, margin)
    _check_types({"experts": experts, "network": network}, {"task": task, "metric": metric}, out)
    options = {"experts": dict(experts or {}), "interactions": interactions, "folds": folds}
    options |= {"network": dict(network or {}), "further": further}
    question, classes = _question(X, y, modalities, kinds, groups, ids, task, **options)
    metric_for(metric, classes is not None)  # before the training, not after it
    names = _names_of(ids, len(question.y))
    _check_together(question, seeds)
    folder = None if out is None else Path(out)
    found = run_folds(question, seeds, jobs, folder, progress)
    predicted, of_experts = gather(question, found, seeds)
    about = _about(name, question, classes, seeds, len(found) // seeds)
    predicted, answer = _answer(question, predicted, found, about, metric, margin)
    if folder is not None:
        write(answer, folder)
        settings = {"optim": {"select": metric}, "folds": folds}
        data = {"description": about, "variant": "", "fingerprint": fingerprint(question)}
        write_runs(folder, predicted, names, of_experts, settings, {"data": data})
    return Diagnosis(answer, predicted.outputs, classes)


def _question(
    X: Any,
    y: Any,
    modalities: Mapping[str, Any] | None,
    kinds: Mapping[str, str] | None,
    groups: Any,
    ids: Any,
    task: str | None,
    **options: Any,
) -> tuple[Question, list[np.ndarray] | None]:
    """What is asked, and the classes of each label; errors as of `diagnose`."""
    of_rows = {"y": y, "groups": groups, "ids": ids}
    refuse_other_order({**(X if isinstance(X, Mapping) else {"X": X}), **of_rows})
    target, blocks = _read(X, y, modalities, kinds)
    try:
        settings = TrainingSettings.of(options["network"])
        _check_experts(options["interactions"], options["experts"], list(blocks), settings)
    except InputError as error:  # which the estimators raise of settings, too
        raise SettingsError(str(error)) from error
    task = task or _task_of(target)
    if task not in ("classify", "regress"):
        raise SettingsError(f"task={task!r} is unknown; choose classify or regress")
    encoded, family, classes = _encoded(target, task)
    of_rows = None if groups is None else as_groups(groups, len(target))
    _check_size(encoded, of_rows, task, _hint_of_numbers(target))
    return Question(blocks, encoded, of_rows, family, **options), classes


def _answer(
    question: Question,
    predicted: Predicted,
    found: Folds,
    about: str,
    metric: str,
    margin: float | None,
) -> tuple[Predicted, Answer]:
    """-> the predictions, with rows that stand for several, and what they say."""
    predicted, choices = choose(predicted)
    answer = answer_of(predicted, choices, about, metric, margin)
    intra = predicted.outputs[choices["intra"].row].mean(axis=0)[:, 0]
    if bound := pairwise_interaction(question, intra):
        answer = with_bound(answer, bound)
    return predicted, _with_further(answer, question, found) if question.further else answer


def _read(
    X: Any, y: Any, modalities: Mapping[str, Any] | None, kinds: Mapping[str, str] | None
) -> tuple[np.ndarray, dict[str, Block]]:
    """-> target [n] or [n, L] as given, the modalities. InputError if they do not go together."""
    target = as_labels(y)
    blocks = read_blocks(X, modalities, kinds)
    n = len(next(iter(blocks.values())))
    if len(target) != n:
        raise InputError(f"X has {n} rows and y has {len(target)}; give one label a row")
    if len(blocks) < 2:
        raise InputError(
            f"there is one modality, {next(iter(blocks))}; the question needs two or more"
        )
    refuse_target(blocks, y)
    warn_of_unique_texts(blocks)
    return target, blocks


def _check_settings(folds: Any, seeds: Any, jobs: Any, margin: Any) -> None:
    numbers = {"folds": (folds, 2), "seeds": (seeds, 1)}
    numbers |= {} if jobs is None else {"jobs": (jobs, 1)}
    for name, (given, least) in numbers.items():
        if not isinstance(given, (int, np.integer)) or given < least:
            raise SettingsError(f"{name}={shown(given)}: give a whole number from {least}")
    number = isinstance(margin, (int, float, np.number))
    if margin is not None and not (number and 0 < margin < np.inf):
        least = "give a number above 0, the least that would matter"
        raise SettingsError(f"margin={shown(margin)}: {least}")


def _check_types(mappings: Mapping[str, Any], texts: Mapping[str, Any], out: Any) -> None:
    for name, given in mappings.items():
        if given is not None and not isinstance(given, Mapping):
            raise SettingsError(f"{name}={shown(given)}: give a mapping, {name}={{name: value}}")
    for name, given in (texts | {"out": out}).items():
        path = name == "out" and isinstance(given, Path)
        if given is not None and not isinstance(given, str) and not path:
            raise SettingsError(f"{name}={shown(given)}: give a text")


def _check_experts(
    interactions: str, experts: Mapping[str, Any], modalities: list[str], settings: TrainingSettings
) -> None:
    if not isinstance(interactions, str) or interactions not in INTERACTIONS:
        choices = f"choose one of {', '.join(INTERACTIONS)}"
        raise SettingsError(f"interactions={shown(interactions)} is unknown; {choices}")
    names = expert_names(modalities, interactions)
    if wrong := [name for name in modalities if name == "all" or "/" in name]:
        raise SettingsError(
            f"a modality cannot be called {wrong[0]!r}: its rows become folders, and lr-all reads "
            "all modalities; give it another name"
        )
    if unknown := [name for name in experts if name not in names]:
        raise SettingsError(
            f"experts: there is no expert {unknown[0]!r}; there are {', '.join(names)}"
        )
    for given in experts.values():
        members_for(given, settings)


def _hint_of_numbers(target: np.ndarray) -> str:
    """What to do where classes are numbers to predict."""
    texts = [str(item) for item in target.ravel().tolist()]
    if all(re.fullmatch(r"[-+]?\d+,\d+", text) for text in texts):
        return f"; {texts[0]!r} looks like a number with a decimal comma: give decimal points"
    return NUMBERS if target.dtype.kind in "fiu" else ""


def _check_size(y: np.ndarray, groups: np.ndarray | None, task: str, hint: str) -> None:
    """Folds are split again: into parts to train on and to choose on, and into halves."""
    sizes = {"rows of data": len(y)}
    if task == "classify":
        counts = [np.sort(np.bincount(column))[-2:] for column in y.T]
        second, first = np.min(counts, axis=0)
        sizes["examples of the most frequent class"] = int(first)
        sizes["examples of the second most frequent class"] = int(second)
    if groups is not None:
        sizes["groups"] = len(np.unique(groups))
    for what, size in sizes.items():
        if size < FEWEST:
            few = f"{size} {what}: too few; folds within folds need at least {FEWEST}"
            raise InputError(few + (hint if "class" in what else ""))


def _check_together(question: Question, seeds: int) -> None:
    """InputError where too few examples have what an expert reads: it is fitted on folds within
    those of the training examples, and on half of them. Few can lie in one by chance."""
    present = {name: block.present for name, block in question.blocks.items()}
    units = np.arange(len(question.y)) if question.groups is None else question.groups
    few = {}
    for modalities in expert_names(list(present), question.interactions).values():
        together = np.logical_and.reduce([present[name] for name in modalities])
        if len(np.unique(units[together])) < SURELY_ENOUGH:
            few[modalities] = together
    for rows, folds in _inner(question, seeds) if few else ():
        for modalities, together in few.items():
            if len(np.unique(folds[together[rows]])) < 2:
                have = f"{together.sum()} of {len(together)} examples have"
                raise InputError(
                    f"only {have} {' and '.join(modalities)}, too few for folds within folds; "
                    "leave a modality out, or give more examples"
                )


def _inner(question: Question, seeds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(training examples, the fold of each) of every set of experts that will be fitted."""
    for seed in range(seeds):
        outer = question.outer_folds(seed)
        for fold in np.unique(outer):
            training = np.flatnonzero(outer != fold)
            for rows in (training, question.half(training, seed)) if seed == 0 else (training,):
                yield rows, question.inner_folds(rows, seed)


def _names_of(ids: Any, n: int) -> np.ndarray:
    """The examples' names [n], their numbers where none are given."""
    if ids is None:
        return np.arange(n)
    names = as_names("ids", ids, n)
    found, counts = np.unique(names, return_counts=True)
    if counts.max() > 1:
        raise InputError(
            f"ids: {found[counts.argmax()]} stands for several rows; each needs its own"
        )
    return names


def _encoded(target: np.ndarray, task: str) -> tuple[np.ndarray, Family, list[np.ndarray] | None]:
    """-> target [n, L], what is predicted of it, the classes of each label."""
    if task == "classify":
        encoded, classes = encode_labels(target)
        return encoded, Categorical([len(one) for one in classes]), classes
    encoded = as_targets(target)
    refuse_constant(encoded)
    return encoded, Gaussian(encoded.shape[1]), None


def _task_of(y: np.ndarray) -> str:
    """Regress numbers that are not whole, or take many values."""
    if y.dtype.kind not in "fiu":
        return "classify"
    whole = y.dtype.kind != "f" or np.array_equal(y, np.round(y))
    most = max(len(np.unique(column)) for column in y.reshape(len(y), -1).T)
    return "classify" if whole and most <= FEW_VALUES else "regress"


def gather(question: Question, found: Folds, seeds: int) -> tuple[Predicted, dict[str, np.ndarray]]:
    """The folds' predictions in the order of the examples, and {expert: its own}."""
    n, shape = len(question.y), question.family.shape
    per_seed = len(found) // seeds
    fold = np.zeros((seeds, n), dtype=np.int64)
    outputs: dict[str, np.ndarray] = {}
    experts: dict[str, np.ndarray] = {}
    validation: dict[str, np.ndarray] = {}
    for place, (test, rows) in enumerate(found):
        seed, k = divmod(place, per_seed)
        fold[seed, test] = k
        for of, into in ((rows.outputs, outputs), (rows.experts, experts)):
            for name, one in of.items():
                whole = into.setdefault(name, np.full((seeds, n, *shape), np.nan))
                whole[seed, test] = one
        for name, loss in rows.validation.items():
            validation.setdefault(name, np.full((seeds, per_seed), np.nan))[seed, k] = loss
    outputs = {name: one[:1] if name.startswith(HALF) else one for name, one in outputs.items()}
    made = {name for name, one in outputs.items() if not np.isnan(one).any()}
    _tell_of_rows_left_out([name for name in validation if name not in made])
    predicted = Predicted(
        outputs={name: one for name, one in outputs.items() if name in made},
        y=question.y,
        group=np.arange(n) if question.groups is None else question.groups,
        fold=fold,
        validation={name: one for name, one in validation.items() if name in made},
        classify=isinstance(question.family, Categorical),
    )
    return predicted, experts


def _tell_of_rows_left_out(rows: list[str]) -> None:
    if rows:
        warnings.warn(
            f"{' and '.join(rows)} left out: in some folds too few training examples, or groups, "
            "have every modality",
            stacklevel=4,
        )


def _about(name: str, question: Question, classes: Any, seeds: int, folds: int) -> str:
    """`stays: 2,000 examples, static (table), series (series); 2 classes; 5 folds x 3 seeds`."""
    blocks = []
    for block in question.blocks.values():
        lacking = (~block.present).mean()
        blocks.append(f"{block.name} ({block.kind}{f', absent {lacking:.1%}' if lacking else ''})")
    target = "regression"
    if classes is not None:
        target = " and ".join(str(len(one)) for one in classes[:4]) + " classes"
    groups = "" if question.groups is None else f" in {len(np.unique(question.groups)):,} groups"
    examples = f"{len(question.y):,} examples{groups}"
    times = f"{folds} folds x {seeds} seed" + "s" * (seeds != 1)
    return f"{name}: {examples}; {', '.join(blocks)}; {target}; {times}"


def _with_further(answer: Answer, question: Question, found: Folds) -> Answer:
    """Means over all test examples of what was asked for further, as lines."""
    from msgspec.structs import replace

    each: dict[str, list[np.ndarray]] = {}
    for _, rows in found:
        for name, one in rows.further.items():
            each.setdefault(name, []).append(one)
    mean = {name: float(np.nanmean(np.concatenate(parts))) for name, parts in each.items()}
    lines = []
    for name in question.blocks:
        own, shuffled = (mean[f"{what}:{name}"] - mean["all"] for what in ("without", "shuffled"))
        lines.append(
            f"{name}'s own part (NLL without the experts that read it, less with): {own:+.4f}"
        )
        lines.append(f"{name} exchanged between examples raises the NLL by: {shuffled:+.4f}")
    gap = mean["additive"] - mean["inter"]
    lines.append(f"NLL of the fused expert's additive projection, less its own: {gap:+.4f}")
    return replace(answer, further=lines)
