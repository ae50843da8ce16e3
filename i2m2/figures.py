"""A filled table as a figure: a panel per metric, a bar per row, the paper's known values as markers."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from i2m2.tables import BASELINE, NOT_IN_PERCENT, Line, Table, cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^v<>Pp*"


def draw(table: Table) -> Figure:
    """The table's main metric, or those it says are drawn, with standard deviations over the seeds.

    Where no row of the paper has a run yet, the further runs are drawn.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state, and only loaded when something is drawn

    metrics = list(table.drawn) or [table.metrics[0]]
    lines = table.lines if any(line.values[metrics[0]] for line in table.lines) else table.further
    columns = min(len(metrics), 2)
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(7.5 + 4.5 * (columns - 1), 1.4 + rows * (0.4 + 0.38 * len(lines))), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_panel(axes, table, lines, metric)
        if len(metrics) > 1:
            axes.set_title(metric, fontsize=10)
    for axes in panels[len(metrics) :]:
        axes.remove()
    for axes, metric in zip(panels[-columns:] if len(metrics) % columns == 0 else panels[: len(metrics)], metrics, strict=False):
        unit = "" if metric in NOT_IN_PERCENT else " (%)"
        axes.set_xlabel(f"{metric if len(metrics) == 1 else 'score'}{unit}, mean ± sample standard deviation (seeds)")
    figure.suptitle(textwrap.fill(table.title, 70) + "\n" + textwrap.fill(table.about, 80), fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(unique.values(), unique.keys(), loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    return figure


def draw_reliability(diagrams: Mapping[str, Mapping[str, list]], title: str) -> Figure:
    """{label of a method: `calibration.reliability`}: accuracy against confidence, a line each; on the diagonal both agree."""
    from matplotlib.figure import Figure  # as above

    figure = Figure(figsize=(6.5, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color="#777777", lw=1, ls=":")
    for place, (label, diagram) in enumerate(diagrams.items()):
        points = [(100 * c, 100 * a) for c, a in zip(diagram["confidence"], diagram["accuracy"], strict=True) if c is not None]
        axes.plot(*zip(*points, strict=True), marker=MARKERS[place % len(MARKERS)], ms=4, lw=1.3, label=label)
    axes.set_xlabel("confidence in the predicted class (%)")
    axes.set_ylabel("accuracy (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    figure.suptitle(textwrap.fill(title, 70), fontsize=10)
    return figure


def _draw_panel(axes: Axes, table: Table, lines: list[Line], metric: str) -> None:
    factor = 1 if metric in NOT_IN_PERCENT else 100
    for place, line in enumerate(lines):
        ends = _draw_paper(axes, place, line, table, metric) if table.compared else []
        _draw_bar(axes, place, line.values[metric], metric, factor, ends)
    if (majority := table.baseline.get(metric)) is not None:
        axes.axvline(factor * majority, color="#555555", linestyle=":", linewidth=1.2, label=BASELINE)
    axes.set_yticks(range(len(lines)), [textwrap.fill(line.label, 32) for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)  # the first row on top
    axes.set_xlim(0, 1.3 * max(axes.dataLim.x1, factor / 100))  # room for the numbers
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= (100 if factor == 100 else math.inf)])
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bar(axes: Axes, place: int, values: list[float], metric: str, factor: int, ends: list[float]) -> None:
    """A row's bar, and its numbers to the right of the bar and of the marks that end at `ends`."""
    mean = factor * statistics.fmean(values) if values else 0.0
    std = factor * statistics.stdev(values) if len(values) > 1 else 0.0
    axes.barh(place, mean, height=0.66, color="#8fb3d9", xerr=std or None, error_kw={"capsize": 3, "elinewidth": 1.2, "zorder": 4})
    where = (max([mean + std, *ends]) if values else 0.0, place)
    style = {"color": "black"} if values else {"color": "#777777", "style": "italic"}
    axes.annotate(cell(values, metric), where, xytext=(9, 0), textcoords="offset points", va="center", fontsize=9, **style)


def _draw_paper(axes: Axes, place: int, line: Line, table: Table, metric: str) -> list[float]:
    """A diamond at the row's known value, a dashed line at the one it may have; where each mark ends."""
    ends = []
    known = line.paper.get(metric)
    if known is not None:
        axes.errorbar(
            known.value, place, xerr=known.std, fmt="D", markersize=5, capsize=2, color="#cc3311", zorder=5, label="paper"
        )
        ends.append(known.value + (known.std or 0.0))
    if table.best is not None and line.run in table.best.rows and metric == table.metrics[0]:
        label = "paper, best of the rows so marked"
        axes.vlines(table.best.value, place - 0.45, place + 0.45, linestyles="--", colors="#cc3311", zorder=3, label=label)
        ends.append(table.best.value)
    return ends
