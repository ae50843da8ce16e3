"""A table as text, what Markdown, LaTeX, HTML and CSV make of it, and one page of all tables."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from i2m2.reading.records import read_record

Grid = Sequence[Sequence[str]]  # rows of cells, the header first; a Strong cell is set in bold


class Strong(str):
    """A cell in bold: the best of its column."""


@dataclass(frozen=True, kw_only=True)
class RenderedTable:
    """A table as text: `grids` by heading, the first under the title; notes; what is to be done."""

    title: str  # begins with the paper's name for it: `Table 1: ...`
    about: str = ""  # data set, variant, real or SYNTHETIC, number of seeds
    grids: Mapping[str, Grid]
    units: str = ""
    notes: Sequence[str] = ()
    todo: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.about})" if self.about else self.title

    @property
    def remarks(self) -> list[str]:
        return [note for note in (self.units, *self.notes) if note]


def slug(title: str) -> str:
    """The name of a table's files: `Fig. 3: ...` -> `fig_3`, `Table C.7: ...` -> `table_c_7`."""
    return re.sub(r"[^a-z0-9]+", "_", title.partition(":")[0].lower()).strip("_")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows of cells as CSV, a line feed after each row, quoted where a cell needs it."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def to_csv(table: RenderedTable) -> str:
    """The table as CSV: all grids, each after a line with its heading if it has one."""
    rows: list[Sequence[str]] = []
    for heading, grid in table.grids.items():
        rows += [[heading], *grid] if heading else grid
    return csv_text(rows)


def to_json(table: RenderedTable) -> str:
    """The table as JSON, for the report of another command."""
    return json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n"


def from_json(path: Path) -> RenderedTable:
    """Read a table that `to_json` wrote. DataError if the file holds none."""
    return read_record(path, RenderedTable, "delete it and give the command that made it again")


def _formatted(grid: Grid, escape: Callable[[str], str], bold: str) -> list[list[str]]:
    """Every cell escaped, the strong ones within the format `bold`."""

    def cell(text: str) -> str:
        return bold.format(escape(text)) if isinstance(text, Strong) else escape(text)

    return [list(map(cell, row)) for row in grid]


def to_markdown(table: RenderedTable) -> str:
    """The table as Markdown: the first grid, notes, further grids, what is still to be run."""
    grids = [
        f"### {heading}\n\n{_pipes(grid)}" if heading else _pipes(grid)
        for heading, grid in table.grids.items()
    ]
    todo = [f"### {heading}\n\n{_bullets(items)}" for heading, items in table.todo.items() if items]
    parts = [f"## {table.heading}", *grids[:1], _bullets(table.remarks), *grids[1:], *todo]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _pipes(grid: Grid) -> str:
    rows = _formatted(grid, lambda text: text.replace("|", "\\|"), "**{}**")
    header, *body = ("| " + " | ".join(row) + " |" for row in rows)
    rule = "|---" + "|---:" * (len(grid[0]) - 1) + "|"
    return "\n".join([header, rule, *body])


def to_latex(table: RenderedTable) -> str:
    """The table for booktabs, and graphicx where it is wide; notes are below the first grid."""
    todo = [f"{heading}: {item}" for heading, items in table.todo.items() for item in items]
    notes, texts = [*table.notes, *todo], []
    for heading, grid in table.grids.items():
        what = f"{heading} beside {table.heading}" if heading else table.heading
        caption = f"{what}. {table.units}".rstrip()
        texts.append(_tabular(grid, caption, [] if heading else notes))
    return "\n".join(texts)


WIDE = 100  # characters, above which a table is shrunk to the width of the text


def _tabular(grid: Grid, caption: str, notes: Sequence[str]) -> str:
    rows = [" & ".join(row) + r" \\" for row in _formatted(grid, escape, r"\textbf{{{}}}")]
    # After \midrule or \\ a bracket or a star would be taken for their argument.
    header, *body = ("{}" + row if row.startswith(("[", "*")) else row for row in rows)
    columns = "l" + "r" * (len(grid[0]) - 1)
    widths = [max(map(len, column)) + 2 for column in zip(*grid, strict=True)]
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    if sum(widths) > WIDE:
        begin, end = r"\resizebox{\linewidth}{!}{%" + "\n" + begin, end + "}"
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}", begin]
    lines += [r"\toprule", header, r"\midrule", *body, r"\bottomrule", end]
    if notes:
        lines.append(r"\par\medskip\raggedright\footnotesize")
        lines += [rf"{escape(note)}\par" for note in notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
LATEX |= {"±": r"$\pm$", "†": r"$\dagger$", "²": "$^2$", "`": ""}


def escape(text: str) -> str:
    """Plain text as LaTeX prints it."""
    return "".join(LATEX.get(c, c) for c in text).replace("--", "-{}-")


def to_html(table: RenderedTable) -> str:
    """The table as a section of HTML: heading, grids, notes and what is still to be run."""
    parts = [f'<h3 id="{anchor(table.heading)}">{html.escape(table.title)}</h3>']
    if table.about:
        parts.append(f'<p class="about">{html.escape(table.about)}</p>')
    for heading, grid in table.grids.items():
        parts += [f"<h4>{html.escape(heading)}</h4>"] if heading else []
        parts.append(_html_table(grid))
    for heading, items in {"": table.remarks, **table.todo}.items():
        if items:
            parts += [f"<h4>{html.escape(heading)}</h4>"] if heading else []
            parts += ["<ul>", *(f"<li>{code(item)}</li>" for item in items), "</ul>"]
    return "\n".join(parts)


def anchor(text: str) -> str:
    """A heading as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html_table(grid: Grid) -> str:
    header, *body = _formatted(grid, html.escape, "<b>{}</b>")
    names = "".join(f"<th>{text}</th>" for text in header)
    rows = ["".join(f"<td>{text}</td>" for text in row) for row in body]
    lines = ['<div class="wide"><table>', f"<thead><tr>{names}</tr></thead>", "<tbody>"]
    lines += [f"<tr>{row}</tr>" for row in rows]
    return "\n".join([*lines, "</tbody>", "</table></div>"])


def code(text: str) -> str:
    """Text as HTML, with what stands in backticks as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 68rem;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; } h2 { border-bottom: 2px solid #ccc; margin-top: 3rem; }
h3 { margin: 2.4rem 0 0.2rem; } h4 { margin: 1.2rem 0 0.3rem; }
nav > ul { columns: 2; padding-left: 1.2rem; } nav > ul > li { break-inside: avoid; }
.about { color: #555; margin: 0.1rem 0 0.8rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; } thead { border-bottom: 2px solid #333; }
th, td { padding: 0.25rem 0.7rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
tbody tr:nth-child(odd) { background: #f6f6f6; }
li { font-size: 0.92rem; overflow-wrap: anywhere; } code { font-size: 0.85rem; }
img { max-width: 100%; height: auto; margin: 0.8rem 0; } figure { margin: 0; }
.synthetic { background: #fff3c4; padding: 0.4rem 0.8rem; }
.answer { border-left: 4px solid #2a6fbb; padding-left: 1rem; margin: 1.6rem 0; }
.answer h3 { margin-top: 0; } .answer th, .answer td { text-align: left; }
"""
SYNTHETIC = (
    '<p class="synthetic">SYNTHETIC data: these numbers show that everything runs, '
    "nothing about the paper's.</p>"
)


class Section(NamedTuple):
    """A table of the report, with the figures that belong to it."""

    table: RenderedTable
    figures: Sequence[Path] = ()  # PNG
    synthetic: bool = False


def to_page(
    title: str,
    sections: Mapping[str, Sequence[Section]],
    introduction: Sequence[str],
    answers: Sequence[RenderedTable] = (),
) -> str:
    """`sections` by the results folder they are about, and above all the answers to the question
    that the title asks -> a whole HTML document."""
    contents, body = [], []
    for folder, of_folder in sections.items():
        tables = [section.table for section in of_folder]
        links = "".join(f"<li>{_link(table.heading, table.title)}</li>" for table in tables)
        contents.append(f"<li>{_link(folder, folder)}<ul>{links}</ul></li>")
        body.append(f'<h2 id="{anchor(folder)}">{html.escape(folder)}</h2>')
        body += [SYNTHETIC] if any(section.synthetic for section in of_folder) else []
        for table, figures, _ in of_folder:
            body += [to_html(table), *(_figure(path, table.heading) for path in figures)]
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{meta}<title>{html.escape(title)}</title><style>{STYLE}</style>"
    lines = ["<!doctype html>", f'<html lang="en"><head>{head}</head><body>']
    lines += [f"<h1>{html.escape(title)}</h1>"]
    lines += [f'<section class="answer">{to_html(answer)}</section>' for answer in answers]
    lines += [f"<p>{code(line)}</p>" for line in introduction]
    lines += ["<nav><ul>" + "\n".join(contents) + "</ul></nav>", *body, "</body></html>"]
    return "\n".join(lines) + "\n"


def _link(target: str, text: str) -> str:
    return f'<a href="#{anchor(target)}">{html.escape(text)}</a>'


def _figure(path: Path, alt: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></figure>'
