"""Figures: a filled table as bars, reliability diagrams, curves against a corruption's level."""

from __future__ import annotations

import io
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from i2m2.files import write_atomic
from i2m2.metrics import metric_of
from i2m2.report.tables import BASELINE, ResultRow, ResultTable, cell, in_percent
from i2m2.stats.calibration import Diagram
from i2m2.stats.intervals import sample_std

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^v<>Pp*"
RED, BLUE, GREY = "#cc3311", "#8fb3d9", "#777777"


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as `path`.png and `path`.pdf -> their paths."""
    _without_formulas(figure)
    figure.get_layout_engine().execute(figure)  # once for both files
    figure.set_layout_engine(None)
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    for to in paths:
        write_figure(figure, to, to.suffix[1:])
    return paths


def write_figure(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as a `png`, or as another kind of picture."""
    _without_formulas(figure)
    # Through memory: matplotlib makes an error of its own of a full disk.
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def _without_formulas(figure: Figure) -> None:
    """Show every text as it is: between two dollars of a name matplotlib would read a formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)


def new_figure(
    panels: int,
    columns: int,
    size: tuple[float, float],
    margin: tuple[float, float],
    **options: bool,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels of `size` (inches) in rows of `columns`, and the panels."""
    # Not pyplot: no window, no global state, and loaded only when something is drawn.
    from matplotlib.figure import Figure

    columns = min(columns, panels)
    rows = math.ceil(panels / columns)
    whole = (margin[0] + columns * size[0], margin[1] + rows * size[1])
    figure = Figure(figsize=whole, dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for unused in axes[panels:]:
        unused.remove()
    for used in axes[:panels]:
        used.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[:panels])


def add_legend(figure: Figure, panels: Sequence[Axes], where: str, columns: int) -> None:
    """Add a legend of everything that has a label in these panels, once."""
    named = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if named:
        style = {"ncols": columns, "fontsize": 9, "frameon": False}
        figure.legend(named.values(), named.keys(), loc=where, **style)


def draw_table(table: ResultTable) -> Figure:
    """Draw the table's main metric, or its `drawn` ones, with standard deviations over the seeds;
    the further runs, where no row of the paper has a run yet."""
    metrics = list(table.spec.drawn) or table.spec.metrics[:1]
    rows = table.rows if any(row.values[metrics[0]] for row in table.rows) else table.further
    single = len(metrics) == 1
    size = (7.5 if single else 6.0, 0.4 + 0.38 * len(rows))
    figure, panels = new_figure(len(metrics), 2, size, (0, 1.4), sharey=True)
    for axes, metric in zip(panels, metrics, strict=True):
        _draw_panel(axes, table, rows, metric)
        axes.set_title("" if single else metric, fontsize=10)
    lowest = panels[-2:] if len(panels) % 2 == 0 else panels
    for axes, metric in zip(lowest, metrics, strict=False):
        what = f"{metric if single else 'score'}{' (%)' * in_percent(metric)}"
        axes.set_xlabel(f"{what}, mean ± sample standard deviation (seeds)")
    heading = textwrap.fill(table.spec.heading, 70)
    figure.suptitle(f"{heading}\n{textwrap.fill(table.about, 80)}", fontsize=11)
    add_legend(figure, panels[:1], "outside lower right", columns=2)
    return figure


def _draw_panel(axes: Axes, table: ResultTable, rows: Sequence[ResultRow], metric: str) -> None:
    factor = metric_of(metric).scale
    for place, row in enumerate(rows):
        values = row.values[metric]
        mean = factor * statistics.fmean(values) if values else 0.0
        std = factor * (sample_std(values) or 0.0)
        error = {"capsize": 3, "elinewidth": 1.2, "zorder": 4}
        axes.barh(place, mean, height=0.66, color=BLUE, xerr=std or None, error_kw=error)
        ends = _draw_paper(axes, place, row, table, metric) if table.compared else []
        # The numbers stand to the right of the bar and of the paper's marks.
        end = max([mean + std, *ends]) if values else 0.0
        style = {"color": "black"} if values else {"color": GREY, "style": "italic"}
        offset = {"xytext": (9, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(cell(values, metric), (end, place), **offset, **style)
    if (majority := table.baseline.get(metric)) is not None:
        style = {"color": "#555555", "linestyle": ":", "linewidth": 1.2, "label": BASELINE}
        axes.axvline(factor * majority, **style)
    axes.set_yticks(range(len(rows)), [textwrap.fill(row.label, 32) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    axes.set_xlim(0, 1.3 * max(axes.dataLim.x1, factor / 100))  # room for the numbers
    most = 100 if factor == 100 else math.inf
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= most])


def _draw_paper(
    axes: Axes, place: int, row: ResultRow, table: ResultTable, metric: str
) -> list[float]:
    """Draw a diamond at the known value, a dashed line at the possible one -> where each ends."""
    ends = []
    known, best = row.paper.get(metric), table.best
    if known is not None:
        style = {"fmt": "D", "markersize": 5, "capsize": 2, "color": RED, "zorder": 5}
        axes.errorbar(known.value, place, xerr=known.std, label="paper", **style)
        ends.append(known.value + (known.std or 0.0))
    if best is not None and row.run in best.rows and metric == table.spec.metrics[0]:
        style = {"linestyles": "--", "colors": RED, "zorder": 3}
        style["label"] = "paper, best of the rows so marked"
        axes.vlines(best.value, place - 0.45, place + 0.45, **style)
        ends.append(best.value)
    return ends


def draw_reliability(diagrams: Mapping[str, Mapping[str, Diagram]], title: str) -> Figure:
    """Draw {label of a method: {"product", each expert: diagram}}: a panel per method with accuracy
    against confidence; the larger a mark, the more examples are in its bin."""
    columns = min(3, len(diagrams))
    figure, panels = new_figure(len(diagrams), 3, (3.2, 3.1), (1, 1.1), sharex=True, sharey=True)
    names = list(dict.fromkeys(name for by_expert in diagrams.values() for name in by_expert))
    for axes, (label, by_expert) in zip(panels, diagrams.items(), strict=True):
        axes.plot([0, 100], [0, 100], color=GREY, lw=1, ls=":")
        for name, diagram in by_expert.items():
            _, _, count, sure, right = map(np.array, zip(*diagram.filled(), strict=True))
            place = names.index(name)
            style = {"color": f"C{place - 1}" if place else "black", "zorder": 5 - place}
            axes.plot(100 * sure, 100 * right, label=name, lw=1.0 if place else 1.6, **style)
            style |= {"s": 4 + 60 * count / count.sum(), "marker": MARKERS[place % len(MARKERS)]}
            axes.scatter(100 * sure, 100 * right, **style)
        axes.set_title(textwrap.fill(label, 30), fontsize=10)
        axes.tick_params(labelbottom=True, labelleft=True)
    figure.supxlabel("confidence in the predicted class (%)", fontsize=10)
    figure.supylabel("accuracy, or score (%)", fontsize=10)
    if len(names) > 1:
        add_legend(figure, panels, "outside lower right", columns=len(names))
    lines = [textwrap.fill(line, 28 * columns + 16) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize=10)
    return figure


def draw_curve(
    axes: Axes, levels: Sequence[float], values: Sequence[Sequence[float]], label: str, place: int
) -> None:
    """Draw fractions, one per seed at each level, in percent: mean and a band of a sample std.
    Where one is not defined (NaN) there is nothing."""
    known = [k for k, of_level in enumerate(values) if np.isfinite(of_level).all()]
    levels = [levels[k] for k in known]
    mean = 100 * np.array([statistics.fmean(values[k]) for k in known])
    std = 100 * np.array([sample_std(values[k]) or 0.0 for k in known])
    color, marker = f"C{place % 10}", MARKERS[place % len(MARKERS)]
    axes.plot(levels, mean, color=color, marker=marker, markersize=4, lw=1.3, label=label)
    axes.fill_between(levels, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
