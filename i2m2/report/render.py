"""A table as text, and what Markdown, LaTeX and HTML make of it."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from i2m2.errors import DataError

Grid = Sequence[Sequence[str]]  # rows of cells, the header first; a Strong cell is set in bold


class Strong(str):
    """A cell in bold: the best of its column."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
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


def slug(title: str) -> str:
    """The name of a table's files: `Fig. 3: ...` -> `fig_3`, `Table C.7: ...` -> `table_c_7`."""
    return re.sub(r"[^a-z0-9]+", "_", title.partition(":")[0].lower()).strip("_")


def sheet_to_csv(sheet: Sheet) -> str:
    """All grids as they are read, one below the other, each after a line with its heading if it has
    one."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for heading, grid in sheet.grids.items():
        writer.writerows([[heading]] if heading else [])
        writer.writerows(grid)
    return file.getvalue()


def to_json(sheet: Sheet) -> str:
    """A table that one command leaves for the report of another."""
    return json.dumps(asdict(sheet), indent=1, ensure_ascii=False) + "\n"


def from_json(path: Path) -> Sheet:
    """DataError if the file holds no table."""
    try:
        return Sheet(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); delete it and give the command that made it again"
        ) from error


def to_markdown(sheet: Sheet) -> str:
    """The first grid under a heading, then notes, the further grids, and what is still to be run."""
    notes = [note for note in (sheet.units, *sheet.notes) if note]
    parts = [f"## {sheet.heading}"]
    for place, (heading, grid) in enumerate(sheet.grids.items()):
        parts += (
            [_pipes(grid), "\n".join(f"- {note}" for note in notes)]
            if place == 0
            else [f"### {heading}", _pipes(grid)]
        )
    for heading, items in sheet.todo.items():
        if items:
            parts += [f"### {heading}", "\n".join(f"- {item}" for item in items)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipes(grid: Grid) -> str:
    def cell(text: str) -> str:
        escaped = text.replace("|", "\\|")
        return f"**{escaped}**" if isinstance(text, Strong) else escaped

    rule = "|---" + "|---:" * (len(grid[0]) - 1) + "|"
    header, *body = ["| " + " | ".join(map(cell, row)) + " |" for row in grid]
    return "\n".join([header, rule, *body])


def to_latex(sheet: Sheet) -> str:
    """The same for `\\usepackage{booktabs}`, and `graphicx` where a table is wide; notes and what
    is still to be run stand below the first grid."""
    (_, first), *further = sheet.grids.items()
    todo = [f"{heading}: {item}" for heading, items in sheet.todo.items() for item in items]
    text = _tabular(
        first, " ".join(filter(None, [f"{sheet.heading}.", sheet.units])), [*sheet.notes, *todo]
    )
    for heading, grid in further:
        text += "\n" + _tabular(
            grid, " ".join(filter(None, [f"{heading} beside {sheet.heading}.", sheet.units])), []
        )
    return text


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
    wide = sum(max(map(len, column)) + 2 for column in zip(*grid, strict=True)) > WIDE
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}"]
    lines += [r"\resizebox{\linewidth}{!}{%"] * wide + [rf"\begin{{tabular}}{{{columns}}}"]
    lines += [
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}" + "}" * wide,
    ]
    lines += [r"\par\medskip\raggedright\footnotesize"] * bool(notes) + [
        rf"{escape(note)}\par" for note in notes
    ]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def escape(text: str) -> str:
    """Plain text as LaTeX prints it."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "†": r"$\dagger$",
    }
    special |= {
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "²": "$^2$",
        "`": "",
    }
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text).replace(
        "--", "-{}-"
    )


def to_html(sheet: Sheet) -> str:
    """A section with heading, tables, notes and what is still to be run; commands in backticks
    become code."""
    name, _, title = sheet.title.partition(": ")
    parts = [
        f'<h3 id="{anchor(sheet.heading)}">{html.escape(name)}{": " * bool(title)}{html.escape(title)}</h3>'
    ]
    parts += [f'<p class="about">{html.escape(sheet.about)}</p>'] if sheet.about else []
    for heading, grid in sheet.grids.items():
        parts += [f"<h4>{html.escape(heading)}</h4>"] if heading else []
        parts.append(_table(grid))
    notes = [note for note in (sheet.units, *sheet.notes) if note]
    parts += [_items("", notes), *(_items(heading, items) for heading, items in sheet.todo.items())]
    return "\n".join(part for part in parts if part)


def anchor(text: str) -> str:
    """A heading as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _table(grid: Grid) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        texts = [
            f"<b>{html.escape(c)}</b>" if isinstance(c, Strong) else html.escape(c) for c in cells
        ]
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

    header, *body = grid
    lines = [
        f"<thead>{row(header, 'th')}</thead>",
        "<tbody>",
        *(row(cells, "td") for cells in body),
        "</tbody>",
    ]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _items(heading: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    lines = [f"<li>{code(item)}</li>" for item in items]
    return (
        (f"<h4>{html.escape(heading)}</h4>\n" if heading else "")
        + "<ul>\n"
        + "\n".join(lines)
        + "\n</ul>"
    )


def code(text: str) -> str:
    """Text as HTML, with what stands in backticks as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
