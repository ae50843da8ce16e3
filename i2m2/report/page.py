"""One page with every table and figure, that a browser opens without a network: images are inside,
scripts there are none."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from i2m2.report.render import RenderedTable, anchor, code, to_html

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; } h2 { border-bottom: 2px solid #ccc; margin-top: 3rem; } h3 { margin: 2.4rem 0 0.2rem; }
h4 { margin: 1.2rem 0 0.3rem; } nav > ul { columns: 2; padding-left: 1.2rem; } nav > ul > li { break-inside: avoid; }
.about { color: #555; margin: 0.1rem 0 0.8rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; } thead { border-bottom: 2px solid #333; }
th, td { padding: 0.25rem 0.7rem; text-align: right; vertical-align: top; } th:first-child, td:first-child { text-align: left; }
tbody tr:nth-child(odd) { background: #f6f6f6; } li { font-size: 0.92rem; overflow-wrap: anywhere; } code { font-size: 0.85rem; }
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
