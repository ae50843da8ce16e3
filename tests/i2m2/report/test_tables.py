"""Cells of a table, and the tables of further runs."""

import numpy as np
import pytest

from i2m2.report.figures import add_legend, draw_curve, new_figure, save_figure
from i2m2.report.tables import cell, number
from i2m2.results import main
from tests.i2m2.conftest import make_run, make_three


@pytest.mark.parametrize(
    "values, text",
    [
        ([], "missing"),
        ([0.724], "72.4 (1)"),
        ([0.71, 0.73], "72.0 ± 1.4 (2)"),
        ([0.5, 0.5, 0.5], "50.0 ± 0.0 (3)"),
        # Deviations 3 1 1 3: 20 / (4 - 1) = 6.67, root 2.58; over n it would be 2.2.
        ([0.70, 0.72, 0.74, 0.76], "73.0 ± 2.6 (4)"),
    ],
)
def test_cell_is_percent_with_the_sample_deviation(values, text):
    assert cell(values) == text


def test_a_curve_ends_where_its_values_are_not_defined():
    figure, (axes,) = new_figure(1, 1, (3, 3), (0, 0))
    draw_curve(axes, [0, 1, 2], [[0.5, 0.7], [0.6, 0.6], [np.nan, 0.4]], "row", 0)
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[0, 60], [1, 60]]


@pytest.mark.rendered
def test_dollars_in_a_figure_are_dollars(tmp_path):
    figure, (axes,) = new_figure(1, 1, (3, 3), (0, 0))
    draw_curve(axes, [0, 1], [[0.5], [0.6]], "a$_$", 0)
    axes.set_yticks([50, 60], ["b$_$", r"c$\alpha$"])
    axes.set_title("d$_$")
    figure.suptitle("avmnist-a$_$b")
    add_legend(figure, [axes], "outside lower center", 1)
    save_figure(figure, tmp_path / "figure")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_cell_of_one_label_is_shown_as_its_metric_is():
    assert cell([0.1], "nll_acl") == "0.100 (1)" and cell([0.1], "auroc_acl") == "10.0 (1)"
    assert cell([0.72], "accuracy", (0.7, 0.74)) == "72.0 [70.0, 74.0] (1)"
    # Halves are rounded up, and what has no number is a dash.
    assert [number(v) for v in (0.7225, 0.7235, None)] == ["72.3", "72.4", "-"]


def test_the_nll_of_a_run_that_diverged_is_shown_by_its_power_of_ten():
    assert cell([3.977e29, 3.977e29], "nll") == "3.977e+29 ± 0.000 (2)"
    assert [number(v, "nll") for v in (-1e25, 1e9, 123456.7891)] == [
        "-1.000e+25", "1.000e+09", "123456.789",
    ]  # fmt: skip


def test_runs_that_are_no_rows_of_the_paper_make_a_second_table(out):
    make_three(out)
    make_run(out, "toy/i2m2-concat-scratch/seed0", {"accuracy": 0.6, "auroc": 0.7})
    make_run(out, "toy/unimodal_image-small/seed0", {"accuracy": 0.5, "auroc": 0.6})
    main([str(out)])
    further = """
### Further runs

| run | accuracy | auroc |
|---|---:|---:|
| unimodal_image-small | 50.0 (1) | 60.0 (1) |
| i2m2-concat-scratch | 60.0 (1) | 70.0 (1) |
"""
    assert further in (out / "toy/table.md").read_text()
    assert r"i2m2-concat-scratch & 60.0 (1) & 70.0 (1) \\" in (out / "toy/table.tex").read_text()
    line = "i2m2-concat-scratch,i2m2-concat-scratch,accuracy,0.6,,,,1,,real,,\n"
    assert line in (out / "toy/table.csv").read_text()


@pytest.mark.rendered
def test_figure_shows_the_further_runs_where_no_row_has_any(out):
    make_run(out, "toy/i2m2-concat-try/seed0", {"accuracy": 0.75, "auroc": 0.9})
    main([str(out)])
    assert "| I2M2 | missing |" in (out / "toy/table.md").read_text()
    assert (out / "toy/figure.png").stat().st_size > 5_000
