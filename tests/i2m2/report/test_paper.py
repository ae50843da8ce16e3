"""The `paper.yaml` files of the data sets, and a wrong one."""

import math
import re
from pathlib import Path

import pytest
import yaml

from i2m2.errors import SettingsError
from i2m2.report.paper import read_paper, read_specs
from i2m2.report.render import slug
from i2m2.report.specs import FIRST, WRITTEN
from i2m2.report.study_tables import STUDIES
from i2m2.results import main
from i2m2.settings import flatten, settings_of
from tests.conftest import ROOT
from tests.i2m2.conftest import CONFIG, PAPER, make_run, make_three, save_predictions


def test_wrong_paper_file_is_named(out):
    make_three(out)
    Path("lab/paper.yaml").write_text("toy: [{name: x, titel: y, metrics: [accuracy], rows: []}]")
    with pytest.raises(SettingsError, match="lab/paper.yaml.*titel"):
        main([str(out)])


ONE = "name: x, title: y, metrics: [accuracy], rows: [{label: A, run: a}]"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("toy:", "lab/paper.yaml, toy: it is no list of tables"),
        ("toy: []", "lab/paper.yaml, toy: it is no list of tables"),
        ("1: []", "lab/paper.yaml, 1: the name of a results folder is a text"),
        ("toy: [null]", "lab/paper.yaml, toy: the table None has no fields"),
        (f"toy: [{{{ONE}, config: 5}}]", "lab/paper.yaml, toy: .*Expected `str`, got `int`"),
        (f"toy: [{{{ONE}, config: lab/list.yaml}}]", "lab/list.yaml: it holds no settings"),
        (f"toy: [{{{ONE.replace('accuracy', '')}}}]", "toy: metrics: a table needs one or more"),
        (f"toy: [{{{ONE}, drawn: [nll]}}]", "toy: drawn: nll is none of metrics, accuracy"),
        (
            f"toy: [{{{ONE.replace('run: a', 'run: a, paper: {nll: {value: 1}}')}}}]",
            "toy: rows, A, paper: nll is none of metrics, accuracy",
        ),
        (f"toy: [{{{ONE}, best: {{value: 9}}}}]", "toy: best: it needs rows"),
        (f"toy: [{{{ONE}, best: {{value: 9, rows: [b]}}}}]", "toy: best: rows: b is the run of no"),
    ],
)
def test_a_mistake_in_a_paper_file_is_one_line_with_its_entry(content, message, out):
    Path("lab/paper.yaml").write_text(content)
    Path("lab/list.yaml").write_text("- 1\n")
    with pytest.raises(SettingsError, match=message):
        read_specs()


def reported(metric, **value):
    """An entry with a number of the paper's."""
    row = {"label": "A", "run": "a", "paper": {metric: value}}
    return {"name": "x", "title": "y", "metrics": ["accuracy", "nll", "brier"], "rows": [row]}


@pytest.mark.parametrize(
    ("metric", "value", "message"),
    [
        (
            "accuracy",
            {"value": 72, "unit": "%"},
            "unit: % is none of accuracy; write unit: percent",
        ),
        ("accuracy", {"value": 72, "unit": "Percent"}, "unit: Percent is none of accuracy"),
        ("nll", {"value": 0.3}, "unit: percent is none of nll; write unit: nats"),
        ("brier", {"value": 0.3, "unit": "nats"}, "nats is none of brier; write unit: fraction"),
        ("accuracy", {"value": 72, "unit": "fraction"}, "72 is no accuracy in fraction; write"),
        ("accuracy", {"value": math.nan}, "value: nan is no accuracy in percent; write a number"),
        ("nll", {"value": math.inf, "unit": "nats"}, "value: inf is no nll in nats; .* from 0 up"),
        ("accuracy", {"value": 72, "std": math.nan}, "std: nan is no accuracy in percent"),
    ],
)
def test_a_number_of_the_paper_s_is_in_a_unit_of_its_metric(metric, value, message, out):
    text = yaml.safe_dump({"toy": [reported(metric, **value)]})
    Path("lab/paper.yaml").write_text(text)
    with pytest.raises(SettingsError, match=f"toy: x: rows, A, paper, {metric}: .*{message}"):
        read_specs()


def test_a_unit_says_what_a_value_of_ours_is_multiplied_by(out):
    units = {"accuracy": ("percent", 100), "nll": ("nats", 1), "brier": ("fraction", 1)}
    for metric, (unit, scale) in units.items():
        text = yaml.safe_dump({"toy": [reported(metric, value=0.3, unit=unit)]})
        Path("lab/paper.yaml").write_text(text)
        assert read_specs()["toy"][0].rows[0].paper[metric].scale == scale


TWO = "rows: [{label: A, run: a}, {label: B, run: a}]"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            f"[{{{ONE.replace('accuracy', 'nll, accuracy, nll')}}}]",
            "x: metrics: nll is listed twice",
        ),
        (
            f"[{{name: x, title: y, metrics: [nll], {TWO}}}]",
            "x: rows: A and B have the same run, a",
        ),
        (f"[{{{ONE}, tolerance: .nan}}]", "x: tolerance: nan is no number from 0 up"),
        (f"[{{{ONE}}}, {{{ONE}}}]", "name: the files of x would be written over those of x; give"),
        (f"[{{{ONE}}}, {{{ONE.replace('x', 'X!')}}}]", "the files of X! would .* over those of x"),
        (f"[{{{ONE}}}, {{{ONE.replace('x', 'Table C.7')}}}]", "over what is called table_c_7"),
        (f"[{{{ONE}}}, {{{ONE.replace('x', '表')}}}]", "name: 表 has no letter a-z and no digit"),
        (f"[{{{ONE.replace('x', 'answers')}}}]", "answers is the name of what is no table"),
    ],
)
def test_what_would_be_written_over_something_else_is_refused(tables, message, out):
    Path("lab/paper.yaml").write_text(f"toy: {tables}", encoding="utf-8")
    with pytest.raises(SettingsError, match=f"lab/paper.yaml, toy: .*{message}"):
        read_specs()


def test_the_files_that_no_table_may_have_are_those_written_beside_tables(out):
    for row in ("unimodal_image", "i2m2-concat"):
        run = make_run(out, f"toy/{row}/seed0", {"accuracy": 0.5}, CONFIG | {"optim": {"lr": 0.1}})
        save_predictions(run, [True, False] * 4)
    main([str(out)])
    written = {path.stem for path in (out / "toy").iterdir() if path.is_file()}
    assert {FIRST, *WRITTEN} >= written - {"statistics"} > {FIRST, "figure", "studies"}
    assert {slug(title) for title in STUDIES} <= set(WRITTEN)


@pytest.mark.parametrize(
    ("field", "named", "message"),
    [
        ("settings", "tests.i2m2.report.toy_settings.Nope", "no attribute 'Nope'"),
        ("settings", "tests.i2m2.report.toy_settings.ToyData", "it is no RunConfig"),
        ("settings", "Nope", "Empty module name"),
        ("analysis", "tests.i2m2.report.nope", "No module named 'tests.i2m2.report.nope'"),
        ("analysis", "tests.i2m2.report.toy_settings", "no attribute 'CUSTOM_METRICS'"),
    ],
)
def test_what_an_entry_names_and_is_not_there_is_one_line(field, named, message, out):
    save_predictions(make_run(out, "toy/intra/seed0", {"accuracy": 0.5}), [True, False] * 4)
    entry = PAPER + f"    {field}: {named}\n"
    if field == "settings":
        entry = PAPER.replace("tests.i2m2.report.toy_settings.ToySettings", named)
    Path("lab/paper.yaml").write_text(entry)
    with pytest.raises(SettingsError, match=f"paper.yaml, toy: {field}: {named}: .*{message}"):
        main([str(out)])


def test_an_unknown_metric_is_the_paper_file_s_mistake_and_not_the_runs(out):
    make_three(out)
    wrong = PAPER.replace("[accuracy, auroc]", "[aurocc]").replace("{accuracy:", "{aurocc:")
    Path("lab/paper.yaml").write_text(wrong)
    message = (
        "paper.yaml, toy: metrics: aurocc is no metric of these runs; they have accuracy, auroc"
    )
    with pytest.raises(SettingsError, match=message):
        main([str(out)])


def test_a_metric_that_no_run_can_have_is_not_the_runs_fault(out):
    make_run(out, "toy/unimodal_image/seed0", {"accuracy": 0.7, "mae": 3.2})
    for metric, message in {
        "nll_foo": "nll_foo is no metric of these runs; they have accuracy, mae",
        "mae": "mae is 3.2 in these runs, and a data set's own metric must be a share between",
    }.items():
        Path("lab/paper.yaml").write_text(PAPER.replace("auroc]", f"{metric}]"))
        with pytest.raises(SettingsError, match=f"paper.yaml, toy: metrics: {message}"):
            main([str(out)])


def test_an_empty_paper_file_is_said_to_hold_no_entries(out):
    Path("lab/paper.yaml").write_text("# not yet\n")
    with pytest.raises(SettingsError, match="lab/paper.yaml.*it holds no entries"):
        read_specs()


def test_avmnist_tables_have_the_papers_seven_rows_and_its_one_known_number():
    tables = read_paper(ROOT / "AVMNIST_and_MIMIC" / "paper.yaml")
    (real, products), (digits, _) = tables["avmnist"], tables["avmnist-digits"]
    inter, i2m2 = ["Inter-modality LF", "Inter-modality LRTF"], ["I2M2 LF", "I2M2 LRTF"]
    labels = ["Image", "Audio", "Intra-modality", *inter, *i2m2]
    assert list(real.labels.values()) == list(digits.labels.values()) == labels
    for row in real.rows:  # the folder's name is what the arguments make: <method>[-<fusion>]
        assert row.run == "-".join(word for word in row.args.split() if not word.startswith("--"))
    assert real.best.value == 72.38 and set(real.best.rows) <= {row.run for row in real.rows}
    assert not any(row.paper for row in real.rows)
    assert digits.synthetic and not real.synthetic
    trained = [row for row in products.rows if not row.command]
    assert all(row in real.rows for row in trained) and len(trained) == 3


def test_tables_of_generated_data_name_the_config_that_generates():
    """Whatever the YAML library makes of merged keys."""
    specs = [spec for listed in read_specs().values() for spec in listed]
    synthetic = [spec for spec in specs if spec.synthetic]
    assert len(synthetic) >= 8
    for spec in synthetic:
        assert re.search("synthetic|digits", spec.config) and not spec.source, spec.name
    assert not any("synthetic" in spec.config for spec in specs if not spec.synthetic)


def test_every_table_of_trained_runs_names_the_settings_that_its_runs_have():
    """From them come the settings that make a run another, and those that a command repeats."""
    for spec in (spec for specs in read_specs().values() for spec in specs if spec.train):
        settings = settings_of(spec.settings_class())
        assert "data.dir" in settings, spec.name
        parts = ("presets", "per_task", "per_method")
        given = {key: value for key, value in spec.defaults.items() if key not in parts}
        assert flatten(given).keys() <= settings.keys(), spec.name
