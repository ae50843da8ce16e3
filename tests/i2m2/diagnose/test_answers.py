"""What `i2m2.results` begins with, for predictions whose answer is known, and where rows,
predictions or seeds are missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax

from i2m2.diagnose.finished import conclusions_of, diagnose_runs
from i2m2.metrics import score
from i2m2.report.paper import read_specs
from i2m2.results import TITLE, answers_of, main
from i2m2.runs import collect
from i2m2.stats.contrasts import ScoredRows
from i2m2.stats.resampling import mean_of
from tests.i2m2.conftest import ENV, FACTS, make_run

ROWS = ("unimodal_image", "unimodal_audio", "intra", "inter-concat", "i2m2-concat")


@pytest.fixture(autouse=True)
def _known_to_a_paper(out):
    paper()


def paper(rows=ROWS, metrics=("accuracy",), **more):
    """The data set `toy` has one table, of these rows and metrics."""
    table = {"name": "Table 9", "title": "t", "metrics": metrics, **more}
    table["rows"] = [{"label": row, "run": row} for row in rows]
    Path("lab/paper.yaml").write_text(json.dumps({"toy": [table]}))


def posteriors(image, audio, both, n=1000, rng_seed=0):
    """y [n] is the class of n examples, with log-odds {row: [n]}. Three measurements of it are
    normal about + and - these strengths: the image tells one, audio one, and neither alone a third
    (say, whether they agree). The experts are Bayes' own for what they know: the fused one the
    third."""
    rng = np.random.default_rng(rng_seed)
    y = rng.integers(0, 2, n)

    def log_odds(strength):
        return 2 * strength * (strength * (2 * y - 1) + rng.normal(size=n))

    image, audio, both = map(log_odds, (image, audio, both))
    odds = (image, audio, image + audio, both, image + audio + both)
    return y, dict(zip(ROWS, odds, strict=True))


def write(out, y, odds, seeds=(0, 1, 2), name="toy", env=ENV, labels=("acl", "cyst")):
    """Runs with these log-odds [n(, L)], which a little noise tells apart from seed to seed."""
    named = {} if y.ndim == 1 else {"labels": np.array(labels)}
    for row, of_row in odds.items():
        for seed in seeds:
            noise = 1e-3 * np.random.default_rng(seed).normal(size=y.shape)
            log_prob = log_softmax(np.stack([-of_row, of_row + noise], axis=-1) / 2, axis=-1)
            places = np.arange(len(y))
            columns = {"id": places, "group": places, "y": y, "log_prob": log_prob, **named}
            scores = score(y, log_prob, ["accuracy", "auroc", "nll"], labels)
            run = make_run(out, f"{name}/{row}/seed{seed}", scores, env=env)
            (run / "result.json").write_text(json.dumps({"val": scores, "test": scores}))
            np.savez(run / "predictions_test.npz", **columns)
    return out


def answers(out):
    """As tables, of the folder `toy`."""
    return answers_of(out / "toy", collect(out / "toy"), read_specs())


def answer(out):
    (table,) = answers(out)
    return table.title


# Strengths of image, audio, both -> the answer.
KNOWN = {
    "only together, as in an exclusive or": (
        (0.0, 0.0, 1.2),
        "inter-modality modelling: the modalities interact; "
        "unimodal experts add nothing to the fused one",
    ),
    "each by itself": (
        (1.0, 0.9, 0.0),
        "intra-modality modelling: more than one modality is needed, "
        "and their interaction adds nothing",
    ),
    "each by itself, and together": (
        (1.0, 0.9, 1.1),
        "both: the modalities interact, and unimodal experts add to the fused one",
    ),
    "the image alone": (
        (1.0, 0.0, 0.0),
        "neither: image alone is enough; other modalities add nothing, an interaction nothing",
    ),
}


@pytest.mark.parametrize("strengths, known", KNOWN.values(), ids=KNOWN)
def test_the_answer_is_the_one_that_the_predictions_were_made_for(out, strengths, known):
    write(out, *posteriors(*strengths))
    assert answer(out) == f"toy, variant v1, real data, 3 seeds, accuracy: {known}"


def test_few_examples_cannot_tell(out):
    write(out, *posteriors(0.6, 0.6, 0.6, n=30))
    assert ": cannot be told from these examples" in answer(out)


def test_the_page_and_the_terminal_begin_with_it_and_say_synthetic(out, capsys):
    write(out, *posteriors(*KNOWN["each by itself"][0]), env={"data": FACTS | {"synthetic": True}})
    main([str(out)])
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"# {TITLE}\n\n## toy, variant v1, SYNTHETIC data, 3 seeds, accuracy: "
    )
    page = (out / "report.html").read_text()
    order = [
        page.index(text) for text in ("<h1>", "SYNTHETIC data, 3 seeds, acc", "<nav>", "Table 9")
    ]
    assert order == sorted(order)
    first = "<td>more than one modality?</td><td>intra - unimodal_image</td>"
    assert page.index(first) < page.index("<nav>")


def test_its_numbers_are_those_of_diagnose(out):
    write(out, *posteriors(0.5, 0.5, 0.5, n=300))
    paper(metrics=["auroc"])
    (found,) = conclusions_of(out / "toy", collect(out / "toy"), read_specs()["toy"][0])
    other = diagnose_runs(out / "toy", "auroc", None)
    assert found.answer == other.answer
    for one, same in zip(found.decisions, other.decisions, strict=True):
        assert one.contrast.name == same.contrast.name and one.answer == same.answer
        for number in ("difference", "low", "high", "p", "p_holm"):
            assert getattr(one, number) == pytest.approx(getattr(same, number), abs=1e-6)


def rows_compared(out):
    (table,) = answers(out)
    return [row[1] for row in table.grids[""][1:]]


def test_of_two_fusions_each_seed_takes_the_better_on_validation(out):
    y, odds = posteriors(1.0, 0.9, 1.1)
    odds["i2m2-low_rank_tensor"] = odds["intra"]
    write(out, y, odds)
    paper(rows=odds)
    assert rows_compared(out)[2] == "i2m2-concat - inter-concat"
    run = out / "toy/i2m2-low_rank_tensor/seed1/result.json"
    scores = json.loads(run.read_text())
    run.write_text(json.dumps(scores | {"val": {"nll": 0.0}}))  # what is stored is of another
    assert rows_compared(out)[2] == "best-i2m2 - inter-concat"
    (table,) = answers(out)
    assert "best-i2m2: i2m2-concat (2), i2m2-low_rank_tensor (1)" in " ".join(table.notes)


def test_every_task_has_the_answer_that_its_label_has_alone(out):
    one, other = (posteriors(*KNOWN[which][0]) for which in list(KNOWN)[:2])
    y = np.stack([one[0], other[0]], axis=1)
    odds = {row: np.stack([one[1][row], other[1][row]], axis=1) for row in ROWS}
    write(out, y, odds)
    drawn = ["accuracy_acl", "accuracy_cyst"]
    paper(metrics=["accuracy", *drawn], drawn=drawn)
    known = [KNOWN[which][1] for which in list(KNOWN)[:2]]
    assert [table.title.split("seeds, ")[1] for table in answers(out)] == [
        f"{task}: {text}" for task, text in zip(drawn, known, strict=True)
    ]


def test_of_labels_whose_names_end_alike_each_chooses_by_its_own_nll(out):
    y, odds = posteriors(*KNOWN["each by itself"][0])
    twice = {row: np.stack([of_row, of_row], axis=1) for row, of_row in odds.items()}
    twice["i2m2-low_rank_tensor"] = twice["i2m2-concat"] * [0.1, 1.1]
    twice["i2m2-concat"] = twice["i2m2-concat"] * [1.1, 0.1]
    write(out, np.stack([y, y], axis=1), twice, labels=["tear", "acl_tear"])
    drawn = ["accuracy_tear", "accuracy_acl_tear"]
    paper(rows=twice, metrics=["accuracy", *drawn], drawn=drawn)
    chosen = [table.grids[""][2][1].partition(" ")[0] for table in answers(out)]
    assert chosen == ["i2m2-concat", "i2m2-low_rank_tensor"]


def test_what_is_missing_stands_in_the_place_of_the_answer(out):
    y, odds = posteriors(*KNOWN["each by itself"][0])
    odds.pop("inter-concat")
    write(out, y, odds)
    about = "toy, variant v1, real data, 3 seeds"
    assert answer(out) == (f"{about}: cannot be told yet: there is no finished run of inter")
    make_run(out, "toy/inter-concat/seed7", {"accuracy": 0.5})
    assert answer(out).endswith("no seed is finished of every row; train the same seeds of each")
    for done in out.rglob("DONE"):
        done.unlink()
    assert answer(out) == "toy: cannot be told yet: none of its runs is finished"


def test_seeds_that_not_all_rows_have_and_a_single_one_are_said(out):
    write(out, *posteriors(*KNOWN["each by itself"][0]))
    for seed in (1, 2):
        (out / f"toy/intra/seed{seed}/DONE").unlink()
    (table,) = answers(out)
    assert table.title.startswith("toy, variant v1, real data, 1 seed, accuracy: intra")
    by_seed, one_seed = table.notes[-2:]
    assert by_seed == "By seed 0 alone, which every row has."
    assert one_seed.startswith("One seed: intervals and p are of the test examples alone")


def test_a_second_call_reads_it_and_so_does_one_without_predictions(out, monkeypatch):
    write(out, *posteriors(*KNOWN["each by itself"][0]))
    before = answer(out)
    monkeypatch.delattr(ScoredRows, "of_predictions")  # nothing is computed again
    assert answer(out) == before
    for path in out.rglob("predictions_test.npz"):
        path.unlink()
    assert answer(out) == before
    stored = out / "toy/statistics.json"  # as it was before it said by what rows are chosen
    tables = json.loads(stored.read_text())
    assert tables["answers"].pop("by")
    stored.write_text(json.dumps(tables))
    assert answer(out) == before
    path = out / "toy/intra/seed0/result.json"
    path.write_text(json.dumps({"test": {"accuracy": 0.5}}))  # it is of another run
    assert "it needs the saved predictions of its runs" in answer(out)


def test_predictions_of_another_result_give_no_answer(out):
    write(out, *posteriors(*KNOWN["each by itself"][0]))
    path = out / "toy/intra/seed0/result.json"
    scores = json.loads(path.read_text())
    path.write_text(json.dumps(scores | {"test": {"accuracy": 0.5}}))
    assert "do not give the accuracy of its result.json; predict again" in answer(out)


def test_a_metric_of_the_data_sets_own_needs_no_probabilities(out, monkeypatch):
    """As of VQA, whose predictions hold scores of an answer instead."""

    def points(predictions, index, groups):
        return mean_of(predictions["points"], index, groups)

    module = SimpleNamespace(CUSTOM_METRICS={"points": points})
    monkeypatch.setitem(sys.modules, "toy_analysis", module)
    paper(metrics=["points"], analysis="toy_analysis")
    y, odds = posteriors(*KNOWN["each by itself, and together"][0])
    places = np.arange(len(y))
    for row, of_row in odds.items():
        right = ((of_row > 0) == y).astype(float)
        run = make_run(out, f"toy/{row}/seed0", {"points": right.mean()})
        scores = {"val": {"nll": 1 - right.mean()}, "test": {"points": right.mean()}}
        (run / "result.json").write_text(json.dumps(scores))
        np.savez(run / "predictions_test.npz", id=places, group=places, points=right)
    assert answer(out).endswith(f"1 seed, points: {KNOWN['each by itself, and together'][1]}")
    np.savez(run / "predictions_test.npz", id=places, group=places, points=right[:9])
    assert "cannot be told yet: a row's predictions_test.npz has no usual columns" in answer(out)
