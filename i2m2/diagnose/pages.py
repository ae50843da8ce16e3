"""An answer as text, JSON, one HTML page and a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from i2m2.diagnose.answer import Answer, Conclusion, Information, Row
from i2m2.diagnose.predicted import BEST
from i2m2.diagnose.words import in_points, unit_of
from i2m2.errors import aligned
from i2m2.files import finite, write_json, write_text
from i2m2.metrics import METRICS
from i2m2.report.render import RenderedTable, Section, Strong, to_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "diagnosis"
TITLE = "Does this data need inter-modality modelling, intra-modality modelling, or both?"
ABOVE = "above 0: the first row is better"


def to_text(answer: Answer) -> str:
    """What is printed: information, rows, questions, ANSWER, CAUTION."""
    lines = [answer.about, ""]
    for heading, grid in _grids(answer).items():
        lines += [heading, aligned([["  " + row[0], *row[1:]] for row in grid], others="left"), ""]
    lines += [*(f"  {note}" for note in _notes(answer)), ""]
    lines += [f"ANSWER   {answer.answer}"]
    lines += [f"CAUTION  {caution}" for caution in answer.cautions]
    return "\n".join(lines)


def _grids(answer: Answer) -> dict[str, list[list[str]]]:
    """{heading: rows of cells}."""
    information = [["", "nats", "of H(y)", "95 % interval", "any?"]]
    for one in answer.information:
        share = "-" if one.share is None else f"{one.share:.1%}"
        span = _span(one.low, one.high)
        information.append([one.name, f"{one.nats:.4f}", share, span, one.answer])
    scale, digits = _scale(answer.metric)
    rows = [["", f"{answer.metric}", "95 % interval", "NLL (nats)"]]
    for row in answer.rows:
        span = _span(row.low, row.high, scale, digits)
        name = Strong(row.name) if row.name == _best(answer) else row.name
        rows.append([name, _number(row.value, scale, digits), span, f"{row.nll:.4f}"])
    found = {
        "Information (per example)": information,
        f"Rows, on examples they did not see ({_unit(answer.metric)})": rows,
        f"Questions ({_unit(answer.metric)}; {ABOVE})": _questions(answer),
    }
    if answer.further:
        found["Further (nats per example)"] = [one.split(": ") for one in answer.further]
    return found


def _questions(found: Conclusion, first: str = "") -> list[list[str]]:
    """A row per decision, the header first, which begins with `first`."""
    scale, digits = _scale(found.metric)
    grid = [[first, "rows", "difference", "95 % interval", "p (Holm)", "answer"]]
    for one in found.decisions:
        pair = f"{one.contrast.first} - {one.contrast.second}"
        difference = "-" if one.difference is None else f"{one.difference * scale:+.{digits}f}"
        span = _span(one.low, one.high, scale, digits)
        p = "-" if one.p_holm is None else f"{one.p_holm:.2g}"
        grid.append([one.contrast.name, pair, difference, span, p, one.text])
    return grid


def to_table(found: Conclusion) -> RenderedTable:
    """A conclusion under its one line, for a report of several."""
    return RenderedTable(
        title=f"{found.about}, {found.metric}: {found.answer}",
        grids={"": _questions(found, "question")},
        units=f"Differences in {_unit(found.metric)}; {ABOVE}.",
        notes=[*_notes(found), *(f"{one[:1].upper()}{one[1:]}." for one in found.remarks)],
    )


def _best(answer: Answer) -> str:
    known = [row for row in answer.rows if row.value is not None]
    lower = answer.metric in METRICS and METRICS[answer.metric].lower_is_better
    return (min if lower else max)(known, key=lambda row: row.value).name


def _notes(found: Conclusion) -> list[str]:
    scale, digits = _scale(found.metric)
    chosen = [
        f"{row}: {', '.join(f'{name} ({folds})' for name, folds in taken.items())}"
        for row, taken in found.chosen.items()
        if row != BEST
    ]
    notes = [
        f"yes: significant after Holm's correction over these {len(found.decisions)} questions; "
        f"no: less than the margin, {found.margin * scale:.{digits}f} ({_unit(found.metric)}).",
    ]
    if isinstance(found, Answer) and any(one.growth for one in found.information):
        notes.append(
            "Ends of information hold what a doubling of the examples added or took away, and may "
            "again, and the upper one of inter what products of columns hold."
        )
    if chosen:
        notes.append(
            "best-...: the row with the smallest NLL on held-out training examples, chosen anew "
            f"for each seed and fold (how often): {'; '.join(chosen)}."
        )
    return notes


def _scale(metric: str) -> tuple[float, int]:
    return (100.0, 1) if in_points(metric) else (1.0, 4)


def _unit(metric: str) -> str:
    return ", ".join(filter(None, (metric, unit_of(metric))))


def _number(value: float | None, scale: float = 1.0, digits: int = 4) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"


def _span(low: float | None, high: float | None, scale: float = 1.0, digits: int = 4) -> str:
    if low is None or high is None:
        return "-"
    return f"[{low * scale:.{digits}f}, {high * scale:.{digits}f}]"


def to_html(answer: Answer, figures: Sequence[Path]) -> str:
    """One page that needs no network."""
    notes = [f"ANSWER: {answer.answer}.", *(f"CAUTION: {one}." for one in answer.cautions)]
    table = RenderedTable(
        title=answer.answer[:1].upper() + answer.answer[1:],
        grids=_grids(answer),
        notes=[*notes, *_notes(answer)],
    )
    return to_page(TITLE, {"Answer": [Section(table, list(figures))]}, (answer.about,))


def draw(answer: Answer) -> Figure:
    """Rows with their intervals, and the information of each kind."""
    from i2m2.report.figures import new_figure

    rows = [row for row in answer.rows if row.value is not None and row.name != "prior"]
    size = (5.5, 0.8 + 0.3 * len(rows))
    figure, (left, right) = new_figure(2, 2, size, (0, 0.8))
    _draw_rows(left, rows, answer.metric)
    _draw_information(right, answer.information)
    figure.suptitle(textwrap.fill(answer.about, 110), fontsize=10)
    return figure


def _draw_rows(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    scale, _ = _scale(metric)
    for place, row in enumerate(rows):
        low, high = (row.value if end is None else end for end in (row.low, row.high))
        colour = "0.55" if row.reference else "C0"
        axes.plot([low * scale, high * scale], [place, place], color=colour, lw=2)
        axes.plot(row.value * scale, place, "o", color=colour)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"{_unit(metric)}, 95 % interval; grey: references")


def _draw_information(axes: Axes, information: Sequence[Information]) -> None:
    for place, one in enumerate(information):
        axes.barh(place, one.nats, color="C0", alpha=0.5)
        if one.low is not None:
            axes.plot([one.low, one.high], [place, place], color="0.2", lw=2)
    axes.axvline(0, color="0.2", lw=0.8)
    names = [one.name.replace(" (", "\n(") for one in information]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("information: nats per example, 95 % interval")


def write(answer: Answer, out: Path) -> list[Path]:
    """Text, JSON, figure and HTML page of an answer in a folder -> their paths."""
    from i2m2.report.figures import save_figure

    write_text(out / f"{NAME}.txt", to_text(answer) + "\n")
    write_json(out / f"{NAME}.json", finite(msgspec.to_builtins(answer)))
    figures = save_figure(draw(answer), out / NAME)
    write_text(out / f"{NAME}.html", to_html(answer, figures[:1]))
    return [out / f"{NAME}.{kind}" for kind in ("txt", "json", "html", "png")]
