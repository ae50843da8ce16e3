"""A table as LaTeX reads it, and as one command leaves it for the report of another."""

import pytest

from i2m2.errors import DataError
from i2m2.report.render import (
    RenderedTable,
    Strong,
    escape,
    from_json,
    to_json,
    to_latex,
    to_markdown,
)


def test_latex_escapes_what_latex_reads_as_commands():
    escaped = r"50 \% of a\_b \& \{c\}\textasciitilde{}\textbackslash{}d $\pm$"
    assert escape(r"50 % of a_b & {c}~\d ±") == escaped


def test_a_label_in_brackets_is_no_argument_of_a_rule():
    grid = [["model", "x"], ["[a]", "[1]"], ["*", "2"]]
    table = RenderedTable(title="Table 9: toys", grids={"": grid})
    assert "\\midrule\n{}[a] & [1] \\\\\n{}* & 2 \\\\\n" in to_latex(table)


def test_the_best_of_a_column_is_bold():
    table = RenderedTable(title="t", grids={"": [["model", "x"], ["a", Strong("2")], ["b", "1"]]})
    assert "| a | **2** |\n| b | 1 |" in to_markdown(table)
    assert r"a & \textbf{2} \\" in to_latex(table)


def test_a_table_that_another_command_left_reads_back_as_it_was(tmp_path):
    grids = {"": [["model", "x"], ["a ±", "2"]], "Further": [["y"], ["1"]]}
    todo = {"Missing runs": ["`do this`"]}
    table = RenderedTable(title="Table 1: t", about="d", grids=grids, notes=["n"], todo=todo)
    path = tmp_path / "one.sheet.json"
    path.write_text(to_json(table), encoding="utf-8")
    assert to_markdown(from_json(path)) == to_markdown(table)
    path.write_text('{"title": 3}')
    with pytest.raises(DataError, match="one.sheet.json is damaged .*; delete it"):
        from_json(path)
