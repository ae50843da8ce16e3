"""Accuracy on corrupted test data and without a modality, and what MultiBench's two robustness
scores make of it.

Models are trained on clean data and see a test split that is altered in one of two ways: a
corruption at rising levels, whose scores form a curve f_0..f_n, or a modality missing from every
example. What a corruption does is the data set's business.
"""

from __future__ import annotations

import copy
import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from i2m2.errors import SettingsError
from i2m2.report.figures import MARKERS
from i2m2.report.tables import cell
from i2m2.runs import RunRecord, collect
from i2m2.training.data import ArrayDataset, Batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = tuple(step / 10 for step in range(11))  # of MultiBench; 0 is the clean test split
MISSING = "missing_"  # prefix of a modality's name where it is the one that is missing

Key = tuple[str, int]  # a finished run: name of its folder, seed
Corrupt = Callable[
    [np.ndarray, float], np.ndarray
]  # (one modality's array, level) -> the altered array
Corruptions = Mapping[
    str, Mapping[str, Corrupt]
]  # name of a corruption -> what it does to which modality


class Answer(NamedTuple):
    """The metric of one model on one split, and how many examples it answered uniformly, having no
    expert that could speak."""

    value: float
    uniform: int


@dataclass(frozen=True)
class Point:
    """One run on one altered test split; `level` is None where a modality is missing. `value` is a
    fraction."""

    run: str
    seed: int
    corruption: str
    level: float | None
    value: float
    uniform: int


def relative_robustness(curve: Sequence[float], levels: Sequence[float] = LEVELS) -> float:
    """Area under the curve by trapezoids, sum of 0.1 (f_i + f_i+1) / 2: 1 for a model that is
    always right. Not rescaled."""
    return float(np.trapezoid(curve, levels))


def effective_robustness(curve: Sequence[float], baseline: Sequence[float]) -> float:
    """sum_i f_i - (b_i + f_0 - b_0): what is kept beyond a baseline shifted to the same clean
    score. Not rescaled."""
    f, b = np.asarray(curve, dtype=float), np.asarray(baseline, dtype=float)
    return float(np.sum((f - f[0]) - (b - b[0])))


class Without(Dataset):
    """A split in which `modality` is absent from every example: its own expert and the fusion
    expert say nothing."""

    def __init__(self, dataset: Any, modality: str) -> None:
        self.dataset = dataset
        self.modality = modality
        self.id, self.group, self.y, self.prepare = (
            dataset.id,
            dataset.group,
            dataset.y,
            dataset.prepare,
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        batch = self.dataset[positions]
        absent = torch.zeros(len(positions), dtype=torch.bool)
        return batch | {"present": {**batch.get("present", {}), self.modality: absent}}


def with_inputs(dataset: ArrayDataset, inputs: Mapping[str, np.ndarray]) -> ArrayDataset:
    """The same examples with other arrays, whose rows are the split's examples in its order."""
    altered = copy.copy(dataset)
    altered.inputs, altered.rows = dict(inputs), np.arange(len(dataset))
    return altered


def uniform_answers(log_prob: np.ndarray) -> int:
    """Number of examples whose log-probabilities [n, (L,) C] are the same for all classes, for
    every label."""
    return int((np.ptp(log_prob, axis=-1) == 0).reshape(len(log_prob), -1).all(axis=1).sum())


def modalities_of(model: nn.Module) -> frozenset[str]:
    """The modalities that any expert of the model reads."""
    return frozenset(
        modality for expert in model.experts.values() for modality in expert.modalities
    )


def measure(
    models: Mapping[Key, nn.Module],
    test: ArrayDataset,
    corruptions: Corruptions,
    evaluate: Callable[[nn.Module, Any], Answer],
    levels: Sequence[float] = LEVELS,
) -> list[Point]:
    """Every model on every altered test split.

    A function of `corruptions` is called once per modality and level, however many corruptions
    share it; no model is asked twice about the same inputs.
    """
    clean = {key: evaluate(model, test) for key, model in models.items()}
    stored = {modality: np.asarray(array[test.rows]) for modality, array in test.inputs.items()}
    points = []
    for level in tqdm(levels, desc="corruption levels", disable=None):
        uses = dict.fromkeys(
            use for touched in corruptions.values() for use in touched.items() if level
        )
        altered = {
            (modality, corrupt): corrupt(stored[modality], level) for modality, corrupt in uses
        }
        asked: dict[tuple[Key, frozenset], Answer] = {}
        for corruption, touched in corruptions.items():
            inputs = (
                {modality: altered[modality, corrupt] for modality, corrupt in touched.items()}
                if level
                else {}
            )
            split = with_inputs(test, stored | inputs)
            for key, model in models.items():
                seen = frozenset(
                    use for use in touched.items() if level and use[0] in modalities_of(model)
                )
                if (key, seen) not in asked:
                    asked[key, seen] = evaluate(model, split) if seen else clean[key]
                points.append(Point(*key, corruption, level, *asked[key, seen]))
    for modality in test.inputs:
        split = Without(test, modality)
        for key, model in models.items():
            answer = evaluate(model, split) if modality in modalities_of(model) else clean[key]
            points.append(Point(*key, MISSING + modality, None, *answer))
    return points


def summarise(
    points: Iterable[Point], baseline: str
) -> dict[str, dict[tuple[str, str], list[float]]]:
    """{run: {(corruption, measure): a value per seed}}; measures: clean, relative, effective, and
    accuracy of `missing_<modality>`.

    `baseline` names the run whose curve of the same seed and corruption `effective` is relative to;
    without it there is none.
    """
    curves: dict[tuple[str, int, str], dict[float | None, float]] = {}
    for point in points:
        curves.setdefault((point.run, point.seed, point.corruption), {})[point.level] = point.value
    summary: dict[str, dict[tuple[str, str], list[float]]] = {}
    for (run, seed, corruption), curve in curves.items():
        if None in curve:
            measures = {"accuracy": curve[None]}
        else:
            levels = sorted(curve)
            values = [curve[level] for level in levels]
            measures = {"clean": values[0], "relative": relative_robustness(values, levels)}
            if base := curves.get((baseline, seed, corruption)):
                measures["effective"] = effective_robustness(
                    values, [base[level] for level in levels]
                )
        for name, value in measures.items():
            summary.setdefault(run, {}).setdefault((corruption, name), []).append(value)
    return summary


def finished_runs(folder: Path) -> list[RunRecord]:
    """The finished runs of one results folder (`results/avmnist`). SettingsError if there are none."""
    if not folder.is_dir():
        raise SettingsError(
            f"{folder}: there is no such results folder; give the one that holds <run>/seed<k>"
        )
    runs = collect(folder)
    finished = [run for run in runs if run.test is not None]
    below = sorted(path.name for path in folder.iterdir() if path.is_dir() and collect(path))
    if not finished and below:
        raise SettingsError(
            f"{folder}: holds the folders of several data sets; give one of them: {', '.join(below)}"
        )
    if not finished:
        state = f"none of its {len(runs)} runs is finished" if runs else "no runs in it"
        raise SettingsError(
            f"{folder}: {state}; train first (robustness is measured on finished runs)"
        )
    return finished


def points_csv(points: Iterable[Point], rows: Mapping[str, str], metric: str = "accuracy") -> str:
    """A line per run and altered split; `rows` maps a run to its label, `level` is empty where a
    modality is missing."""
    lines = [
        [
            rows[p.run],
            p.run,
            p.seed,
            p.corruption,
            "" if p.level is None else p.level,
            f"{p.value:.10g}",
            p.uniform,
        ]
        for p in points
    ]
    return _csv(
        [["row", "run", "seed", "corruption", "level", metric, "answered_uniformly"], *lines]
    )


def summary_csv(
    summary: Mapping[str, Mapping[tuple[str, str], list[float]]], rows: Mapping[str, str]
) -> str:
    """A line per run, corruption and measure: mean and sample standard deviation over the seeds,
    raw values."""
    lines = [["row", "run", "corruption", "measure", "mean", "std", "seeds"]]
    for run, label in rows.items():
        for (corruption, name), values in summary[run].items():
            std = f"{statistics.stdev(values):.10g}" if len(values) > 1 else ""
            lines.append(
                [label, run, corruption, name, f"{statistics.fmean(values):.10g}", std, len(values)]
            )
    return _csv(lines)


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def summary_markdown(
    summary: Mapping[str, Mapping[tuple[str, str], list[float]]], rows: Mapping[str, str]
) -> str:
    """A line per run: clean score and score without each modality in percent, the robustness scores
    raw."""
    columns = list(dict.fromkeys(key for run in rows for key in summary[run]))
    clean, *_ = [key for key in columns if key[1] == "clean"]
    columns = [clean, *(key for key in columns if key[1] != "clean")]
    titles = [_title(*key) for key in columns]
    lines = [
        [label, *(_value(name, summary[run].get((c, name), [])) for c, name in columns)]
        for run, label in rows.items()
    ]
    return "\n".join(
        "| " + " | ".join(line) + " |"
        for line in [["model", *titles], ["---", *["---:"] * len(titles)], *lines]
    )


def _title(corruption: str, name: str) -> str:
    if name == "clean":
        return name
    return (
        f"no {corruption.removeprefix(MISSING)}"
        if corruption.startswith(MISSING)
        else f"{corruption}, {name}"
    )


def _value(name: str, values: list[float]) -> str:
    if name in ("clean", "accuracy") or not values:
        return cell(values) if values else "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def draw(
    points: Sequence[Point],
    rows: Mapping[str, str],
    corruptions: Mapping[str, Iterable[str]],
    title: str,
    metric: str = "accuracy",
) -> Figure:
    """A panel of curves per corruption, a line per row (mean over seeds, a band of one sample
    standard deviation), and one of bars for the missing modalities."""
    from matplotlib.figure import (
        Figure,
    )  # not pyplot: no window, no global state, and only loaded when something is drawn

    height = math.ceil((len(corruptions) + 1) / 2)
    figure = Figure(figsize=(10, 1.4 + 3.3 * height), dpi=150, layout="constrained")
    panels = figure.subplots(height, 2, squeeze=False).ravel()
    for axes, (corruption, touched) in zip(panels, corruptions.items(), strict=False):
        what = "" if corruption in touched else f"{corruption.replace('_', ' ')}: "
        axes.set_title(f"{what}{' and '.join(touched)} corrupted", fontsize=10)
        _draw_curves(axes, [point for point in points if point.corruption == corruption], rows)
    _draw_missing(
        panels[len(corruptions)], [point for point in points if point.level is None], rows
    )
    for axes in panels[: len(corruptions) + 1]:
        axes.set_ylim(0, 102)  # room for the marks of a model that is always right
        axes.set_ylabel(f"{metric} (%)")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(corruptions) + 1 :]:
        axes.remove()
    figure.suptitle(title, fontsize=11)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=9,
        frameon=False,
    )
    return figure


def _draw_curves(axes: Axes, points: Sequence[Point], rows: Mapping[str, str]) -> None:
    levels = sorted({point.level for point in points})
    for place, (run, label) in enumerate(rows.items()):
        values = [
            [100 * p.value for p in points if p.run == run and p.level == level] for level in levels
        ]
        mean, std = (
            np.mean(values, axis=1),
            np.std(values, axis=1, ddof=1) if len(values[0]) > 1 else 0.0,
        )
        axes.plot(
            levels,
            mean,
            color=f"C{place % 10}",
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            lw=1.3,
            label=label,
        )
        axes.fill_between(
            levels, mean - std, mean + std, color=f"C{place % 10}", alpha=0.15, linewidth=0
        )
    axes.set_xlabel("level of the corruption")


def _draw_missing(axes: Axes, points: Sequence[Point], rows: Mapping[str, str]) -> None:
    names = list(dict.fromkeys(point.corruption for point in points))
    width = 0.8 / len(rows)
    for place, run in enumerate(rows):
        for group, name in enumerate(names):
            found = [point for point in points if point.run == run and point.corruption == name]
            values = [100 * point.value for point in found]
            std = statistics.stdev(values) if len(values) > 1 else None
            hatch = "////" if any(point.uniform for point in found) else None
            x = group + (place - (len(rows) - 1) / 2) * width
            style = {
                "color": f"C{place % 10}",
                "hatch": hatch,
                "edgecolor": "white",
                "linewidth": 0.5,
            }
            axes.bar(
                x,
                statistics.fmean(values),
                width,
                yerr=std,
                error_kw={"capsize": 2, "elinewidth": 1},
                **style,
            )
    axes.set_xticks(range(len(names)), [f"without {name.removeprefix(MISSING)}" for name in names])
    axes.set_title("a modality missing (hatched: nothing left to answer from)", fontsize=10)
