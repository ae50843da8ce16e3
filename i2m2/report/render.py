"""A table as text, what Markdown, LaTeX, HTML and CSV make of it, and one page of all tables."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from i2m2.errors import DataError

Grid = Sequence[Sequence[str]]  # rows of cells, the header first; a Strong cell is set in bold


class Strong(str):
    """A cell in bold: the best of its column."""


@dataclass(frozen=True, kw_only=True)
class RenderedTable:
    """A table as it is read: `grids` by heading, the first under the title itself, notes, and lists
    of what is still to be done."""

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
    """Rows as the text of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def to_csv(table: RenderedTable) -> str:
    """All grids as they are read, one below the other, each after a line with its heading if it has
    one."""
    rows: list[Sequence[str]] = []
    for heading, grid in table.grids.items():
        rows += [[heading]] if heading else []
        rows += grid
    return csv_text(rows)


def to_json(table: RenderedTable) -> str:
    """A table that one command leaves for the report of another."""
    return json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n"


def from_json(path: Path) -> RenderedTable:
    """DataError if the file holds no table."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RenderedTable)
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path} is damaged ({error}); delete it and give the command that made it again"
        ) from error


def to_markdown(table: RenderedTable) -> str:
    """The first grid under a heading, then notes, the further grids, what is still to be run."""
    parts = [f"## {table.heading}"]
    for place, (heading, grid) in enumerate(table.grids.items()):
        if place == 0:
            parts += [_pipes(grid), _bullets(table.remarks)]
        else:
            parts += [f"### {heading}", _pipes(grid)]
    for heading, items in table.todo.items():
        if items:
            parts += [f"### {heading}", _bullets(items)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _pipes(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        texts = [text.replace("|", "\\|") for text in cells]
        bold = [isinstance(text, Strong) for text in cells]
        texts = [
            f"**{text}**" if strong else text for text, strong in zip(texts, bold, strict=True)
        ]
        return "| " + " | ".join(texts) + " |"

    header, *body = map(line, grid)
    rule = "|---" + "|---:" * (len(grid[0]) - 1) + "|"
    return "\n".join([header, rule, *body])


def to_latex(table: RenderedTable) -> str:
    """The same for `\\usepackage{booktabs}`, and `graphicx` where a table is wide; notes and what
    is still to be run stand below the first grid."""
    (_, first), *further = table.grids.items()
    todo = [f"{heading}: {item}" for heading, items in table.todo.items() for item in items]
    caption = " ".join(part for part in (f"{table.heading}.", table.units) if part)
    texts = [_tabular(first, caption, [*table.notes, *todo])]
    for heading, grid in further:
        caption = f"{heading} beside {table.heading}."
        texts.append(_tabular(grid, " ".join(p for p in (caption, table.units) if p), []))
    return "\n".join(texts)


WIDE = 100  # characters, above which a table is shrunk to the width of the text


def _tabular(grid: Grid, caption: str, notes: Sequence[str]) -> str:
    def cell(text: str) -> str:
        return rf"\textbf{{{escape(text)}}}" if isinstance(text, Strong) else escape(text)

    def line(cells: Sequence[str]) -> str:
        text = " & ".join(map(cell, cells))
        # After \midrule or \\ a bracket or a star would be taken for their argument.
        return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"

    header, *body = map(line, grid)
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
    """A section with heading, tables, notes and what is still to be run; commands in backticks
    become code."""
    name, colon, title = table.title.partition(": ")
    heading = html.escape(name) + colon + html.escape(title)
    parts = [f'<h3 id="{anchor(table.heading)}">{heading}</h3>']
    if table.about:
        parts.append(f'<p class="about">{html.escape(table.about)}</p>')
    for heading, grid in table.grids.items():
        parts += [f"<h4>{html.escape(heading)}</h4>"] if heading else []
        parts.append(_html_table(grid))
    parts += [_html_list("", table.remarks)]
    parts += [_html_list(heading, items) for heading, items in table.todo.items()]
    return "\n".join(part for part in parts if part)


def anchor(text: str) -> str:
    """A heading as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html_table(grid: Grid) -> str:
    def cell(text: str, tag: str) -> str:
        escaped = html.escape(text)
        return f"<{tag}>{f'<b>{escaped}</b>' if isinstance(text, Strong) else escaped}</{tag}>"

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(cell(text, tag) for text in cells) + "</tr>"

    header, *body = grid
    lines = [f"<thead>{row(header, 'th')}</thead>", "<tbody>"]
    lines += [row(cells, "td") for cells in body]
    return '<div class="wide"><table>\n' + "\n".join([*lines, "</tbody>\n</table></div>"])


def _html_list(heading: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    title = f"<h4>{html.escape(heading)}</h4>\n" if heading else ""
    lines = [f"<li>{code(item)}</li>" for item in items]
    return title + "<ul>\n" + "\n".join(lines) + "\n</ul>"


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
    title: str, sections: Mapping[str, Sequence[Section]], introduction: Sequence[str]
) -> str:
    """`sections` by the results folder they are about -> a whole HTML document."""
    body = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{code(line)}</p>" for line in introduction)]
    body.append(_contents(sections))
    for folder, of_folder in sections.items():
        body.append(f'<h2 id="{anchor(folder)}">{html.escape(folder)}</h2>')
        if any(section.synthetic for section in of_folder):
            body.append(SYNTHETIC)
        for section in of_folder:
            body.append(to_html(section.table))
            body += [_figure(path, section.table.heading) for path in section.figures]
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{meta}<title>{html.escape(title)}</title><style>{STYLE}</style>"
    lines = ["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body]
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _contents(sections: Mapping[str, Sequence[Section]]) -> str:
    lines = []
    for folder, of_folder in sections.items():
        tables = [section.table for section in of_folder]
        inner = "".join(f"<li>{_link(table.heading, table.title)}</li>" for table in tables)
        lines.append(f"<li>{_link(folder, folder)}<ul>{inner}</ul></li>")
    return "<nav><ul>" + "\n".join(lines) + "</ul></nav>"


def _link(target: str, text: str) -> str:
    return f'<a href="#{anchor(target)}">{html.escape(text)}</a>'


def _figure(path: Path, alt: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    alt = html.escape(alt, quote=True)
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'
