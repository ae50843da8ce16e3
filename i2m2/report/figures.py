"""A filled table as a figure: a panel per metric, a bar per row, the paper's known values as
markers."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from i2m2.report.tables import BASELINE, Line, Table, cell, in_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^v<>Pp*"


def draw(table: Table) -> Figure:
    """The table's main metric, or those it says are drawn, with standard deviations over the seeds.

    Where no row of the paper has a run yet, the further runs are drawn.
    """
    from matplotlib.figure import (
        Figure,
    )  # not pyplot: no window, no global state, and only loaded when something is drawn

    metrics = list(table.drawn) or [table.metrics[0]]
    lines = table.lines if any(line.values[metrics[0]] for line in table.lines) else table.further
    columns = min(len(metrics), 2)
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(
        figsize=(7.5 + 4.5 * (columns - 1), 1.4 + rows * (0.4 + 0.38 * len(lines))),
        dpi=150,
        layout="constrained",
    )
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_panel(axes, table, lines, metric)
        if len(metrics) > 1:
            axes.set_title(metric, fontsize=10)
    for axes in panels[len(metrics) :]:
        axes.remove()
    for axes, metric in zip(
        panels[-columns:] if len(metrics) % columns == 0 else panels[: len(metrics)],
        metrics,
        strict=False,
    ):
        unit = " (%)" if in_percent(metric) else ""
        axes.set_xlabel(
            f"{metric if len(metrics) == 1 else 'score'}{unit}, mean ± sample standard deviation (seeds)"
        )
    figure.suptitle(f"{_plain(table.title, 70)}\n{_plain(table.about, 80)}", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(
            unique.values(),
            unique.keys(),
            loc="outside lower right",
            ncols=2,
            fontsize=9,
            frameon=False,
        )
    return figure


def draw_reliability(
    diagrams: Mapping[str, Mapping[str, Mapping[str, list]]], title: str
) -> Figure:
    """{label of a method: {"product", each expert: `calibration.diagram`}}: a panel per method with
    accuracy against confidence, on whose diagonal both agree; the larger a mark, the more examples
    are in its bin."""
    from matplotlib.figure import Figure  # as above

    columns = min(3, len(diagrams))
    rows = math.ceil(len(diagrams) / columns)
    figure = Figure(figsize=(1 + 3.2 * columns, 1.1 + 3.1 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    place = {
        name: k
        for k, name in enumerate(
            dict.fromkeys(name for by_expert in diagrams.values() for name in by_expert)
        )
    }
    for axes, (label, by_expert) in zip(panels, diagrams.items(), strict=False):
        axes.plot([0, 100], [0, 100], color="#777777", lw=1, ls=":")
        for name, shown in by_expert.items():
            _draw_diagram(axes, shown, name, place[name])
        axes.set_title(_plain(label, 30), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelbottom=True, labelleft=True)
    for axes in panels[len(diagrams) :]:
        axes.remove()
    figure.supxlabel("confidence in the predicted class (%)", fontsize=10)
    figure.supylabel("accuracy, or score (%)", fontsize=10)
    if len(place) > 1:
        handles = {
            name: handle
            for axes in panels
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower right",
            ncols=len(handles),
            fontsize=8,
            frameon=False,
        )
    figure.suptitle(
        "\n".join(_plain(line, 28 * columns + 16) for line in title.splitlines()), fontsize=10
    )
    return figure


def _plain(text: str, width: int) -> str:
    """Wrapped; between two dollars matplotlib would read a formula."""
    return textwrap.fill(text, width).replace("$", r"\$")


def _draw_diagram(axes: Axes, shown: Mapping[str, list], name: str, place: int) -> None:
    bins = zip(shown["confidence"], shown["accuracy"], shown["count"], strict=True)
    confidence, accuracy, count = zip(
        *[(100 * c, 100 * a, n) for c, a, n in bins if n], strict=True
    )
    color, width = ("black", 1.6) if place == 0 else (f"C{place - 1}", 1.0)
    axes.plot(confidence, accuracy, label=name, color=color, lw=width, zorder=5 - place)
    sizes = [4 + 60 * n / sum(count) for n in count]
    axes.scatter(
        confidence,
        accuracy,
        s=sizes,
        marker=MARKERS[place % len(MARKERS)],
        color=color,
        zorder=5 - place,
    )


def _draw_panel(axes: Axes, table: Table, lines: list[Line], metric: str) -> None:
    factor = 100 if in_percent(metric) else 1
    for place, line in enumerate(lines):
        ends = _draw_paper(axes, place, line, table, metric) if table.compared else []
        _draw_bar(axes, place, line.values[metric], metric, factor, ends)
    if (majority := table.baseline.get(metric)) is not None:
        axes.axvline(
            factor * majority, color="#555555", linestyle=":", linewidth=1.2, label=BASELINE
        )
    axes.set_yticks(range(len(lines)), [_plain(line.label, 32) for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)  # the first row on top
    axes.set_xlim(0, 1.3 * max(axes.dataLim.x1, factor / 100))  # room for the numbers
    axes.set_xticks(
        [tick for tick in axes.get_xticks() if 0 <= tick <= (100 if factor == 100 else math.inf)]
    )
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bar(
    axes: Axes, place: int, values: list[float], metric: str, factor: int, ends: list[float]
) -> None:
    """A row's bar, and its numbers to the right of the bar and of the marks that end at `ends`."""
    mean = factor * statistics.fmean(values) if values else 0.0
    std = factor * statistics.stdev(values) if len(values) > 1 else 0.0
    axes.barh(
        place,
        mean,
        height=0.66,
        color="#8fb3d9",
        xerr=std or None,
        error_kw={"capsize": 3, "elinewidth": 1.2, "zorder": 4},
    )
    where = (max([mean + std, *ends]) if values else 0.0, place)
    style = {"color": "black"} if values else {"color": "#777777", "style": "italic"}
    axes.annotate(
        cell(values, metric),
        where,
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        **style,
    )


def _draw_paper(axes: Axes, place: int, line: Line, table: Table, metric: str) -> list[float]:
    """A diamond at the row's known value, a dashed line at the one it may have; where each mark
    ends."""
    ends = []
    known = line.paper.get(metric)
    if known is not None:
        axes.errorbar(
            known.value,
            place,
            xerr=known.std,
            fmt="D",
            markersize=5,
            capsize=2,
            color="#cc3311",
            zorder=5,
            label="paper",
        )
        ends.append(known.value + (known.std or 0.0))
    if table.best is not None and line.run in table.best.rows and metric == table.metrics[0]:
        label = "paper, best of the rows so marked"
        axes.vlines(
            table.best.value,
            place - 0.45,
            place + 0.45,
            linestyles="--",
            colors="#cc3311",
            zorder=3,
            label=label,
        )
        ends.append(table.best.value)
    return ends
