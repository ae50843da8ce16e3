"""Numbers and words of the answer, beside hand calculation and other libraries."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import msgspec
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn.metrics import r2_score, roc_auc_score

from i2m2.diagnose.answer import Bound, answer_of, nll_of, with_bound
from i2m2.diagnose.pages import to_text, write
from i2m2.diagnose.predicted import Predicted, choose
from i2m2.diagnose.words import (
    BESIDE,
    INTERACTION,
    MORE,
    QUESTIONS,
    REFERENCE,
    cautions_of,
    in_one_line,
)
from i2m2.errors import SettingsError
from i2m2.stats.contrasts import NONE_DETECTABLE, Contrast, Decision

N, SEEDS, FOLDS = 300, 2, 3
STRENGTH = {
    "lr-all": 8.0,
    "i2m2-joint": 2.0,
    "i2m2-separate": 1.9,
    "inter": 1.7,
    "intra-separate": 1.0,
    "intra-joint": 1.1,
    "unimodal_b": 0.5,
    "unimodal_a": 0.3,
    "prior": 0.0,
}


def predicted(strength=STRENGTH, labels=1, seed=0) -> Predicted:
    """Calibrated rows, which know the label the better, the larger their strength; folds by the
    example's number, validation NLL by the strength."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (N, labels))
    shared = rng.normal(size=(1, N, labels, 2))
    outputs = {}
    for row, size in strength.items():
        noise = np.sqrt(size) * (shared + 0.2 * rng.normal(size=(SEEDS, N, labels, 2)))
        outputs[row] = log_softmax(noise + size * np.eye(2)[y], axis=-1)
    known = [row for row in strength if row != "prior" and not row.startswith("lr")]
    return Predicted(
        outputs=outputs,
        y=y,
        group=np.arange(N) // 2,
        fold=np.tile(np.arange(N) % FOLDS, (SEEDS, 1)),
        validation={row: np.full((SEEDS, FOLDS), -strength[row]) for row in known},
        classify=True,
    )


def answer(metric="nll", margin=None, **options):
    rows, choices = choose(predicted(**options))
    return rows, answer_of(rows, choices, "made up", metric, margin)


def test_rows_come_in_the_order_of_the_question():
    rows, found = answer()
    names = [row.name for row in found.rows]
    assert names == list(rows.outputs)
    assert names == [
        *("prior", "unimodal_b", "unimodal_a"),
        *("intra-separate", "intra-joint", "best-intra", "inter"),
        *("i2m2-joint", "i2m2-separate", "best-i2m2", "best-fused", "best", "lr-all"),
    ]
    assert [row.name for row in found.rows if row.reference] == ["lr-all"]


def test_one_group_tells_nothing_of_the_information(tmp_path):
    rows, choices = choose(predicted())
    found = answer_of(replace(rows, group=np.zeros(N)), choices, "made up", "nll", None)
    assert {(one.low, one.high, one.answer) for one in found.information} == {
        (None, None, "cannot be told")
    }
    bound = with_bound(found, Bound(nats=0.5, high=9.0, symbols=True))
    assert bound.information[-1].high is None
    assert "[0" not in to_text(found).partition("Rows")[0]
    write(found, tmp_path)


def test_every_fold_takes_the_row_that_is_best_on_its_own_training_examples():
    given = predicted()
    given.validation["i2m2-separate"][1, 2] = -9.0  # in the second seed's third fold
    rows, choices = choose(given)
    expected = given.outputs["i2m2-joint"].copy()
    expected[1, 2::3] = given.outputs["i2m2-separate"][1, 2::3]
    assert np.array_equal(rows.outputs["best-i2m2"], expected)
    assert dict(choices["i2m2"].taken) == {"i2m2-joint": 5, "i2m2-separate": 1}
    assert choices["inter"].row == "inter"


def test_one_modality_stands_for_the_single_ones_in_all_folds():
    given = predicted()
    given.validation["unimodal_a"][1, 2] = -0.6  # better there, but not in the mean
    assert choose(given)[1]["unimodal"].row == "unimodal_b"
    given.validation["unimodal_a"][1, 2] = -9.0
    assert choose(given)[1]["unimodal"].row == "unimodal_a"


def test_a_choice_does_not_see_the_examples_that_it_predicts():
    given = predicted()
    before = choose(given)[0].outputs["best"]
    for row in given.outputs:
        given.outputs[row][:, :, :, 0] -= 1.0
    given.y[:] = 1 - given.y
    after = choose(given)[0].outputs["best"]
    assert np.allclose(after[..., 0], before[..., 0] - 1.0)
    assert np.array_equal(after[..., 1], before[..., 1])


@pytest.mark.parametrize("labels", [1, 2])
def test_information_is_the_difference_of_mean_nll(labels):
    rows, found = answer(labels=labels)
    p_of_y = {
        name: np.take_along_axis(np.exp(one), rows.y[None, :, :, None], axis=-1)
        for name, one in rows.outputs.items()
    }
    nll = {name: -np.log(one).mean() for name, one in p_of_y.items()}
    single, intra, inter = found.information
    assert single.name == "single modalities (b)"
    assert single.nats == pytest.approx(nll["prior"] - nll["unimodal_b"])
    assert intra.nats == pytest.approx(nll["prior"] - nll["best-intra"])
    assert inter.nats == pytest.approx(nll["best-intra"] - nll["best-i2m2"])
    assert intra.share == pytest.approx(intra.nats / np.log(2))
    assert found.prior_nll == pytest.approx(np.log(2))
    assert all(one.low < one.nats < one.high and one.answer == "yes" for one in found.information)


def test_of_one_seed_interval_and_p_are_those_of_the_paired_t_test():
    given = predicted()
    given = Predicted(
        outputs={name: one[:1] for name, one in given.outputs.items()},
        y=given.y,
        group=np.arange(N),
        fold=given.fold[:1],
        validation={name: one[:1] for name, one in given.validation.items()},
        classify=True,
    )
    rows, choices = choose(given)
    decisions = answer_of(rows, choices, "", "nll", None).decisions
    beside = next(one for one in decisions if one.contrast.name == BESIDE)
    gains = [nll_of(rows.outputs[name][0], rows.y, True) for name in ("inter", "best-i2m2")]
    test = stats.ttest_rel(*gains)
    low, high = test.confidence_interval()
    assert beside.difference == pytest.approx((gains[0] - gains[1]).mean())
    assert [beside.low, beside.high] == pytest.approx([low, high], abs=0.15 * (high - low))
    assert np.log(beside.p) == pytest.approx(np.log(test.pvalue), rel=0.3)


def test_holm_multiplies_the_smallest_p_by_the_number_of_questions():
    _, found = answer()
    p = np.array([one.p for one in found.decisions])
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    assert len(p) == len(QUESTIONS)
    assert [found.decisions[k].p_holm for k in order] == pytest.approx(np.minimum(steps, 1))


def test_auroc_is_scikit_learns_and_the_best_reference_is_named():
    rows, found = answer("auroc")
    for row in found.rows:
        scores = np.diff(rows.outputs[row.name][:, :, 0], axis=-1)[..., 0]
        each = [roc_auc_score(rows.y[:, 0], one) for one in scores]
        assert row.value == pytest.approx(np.mean(each))
    assert found.decisions[-1].contrast == Contrast(name=REFERENCE, first="lr-all", second="best")
    assert found.decisions[-1].answer == "yes"
    assert found.cautions[0].startswith("lr-all is better than the best row by ")


def test_the_margin_decides_between_no_and_cannot_be_told():
    alike = STRENGTH | {row: 1.0 for row in STRENGTH if row.startswith(("i2m2", "int"))}
    wide, narrow = (answer(margin=size, strength=alike)[1] for size in (0.5, 1e-6))
    texts = [
        next(one.text for one in found.decisions if one.contrast.name == INTERACTION)
        for found in (wide, narrow)
    ]
    assert texts[0].startswith("no (at most 0.")
    assert texts[1].startswith("cannot be told (smallest detectable 0.")
    assert answer()[1].margin == pytest.approx(0.01 * np.log(2), rel=0.01)
    assert answer("accuracy")[1].margin == 0.01


def test_a_regression_is_scored_as_by_scipy_and_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(N, 1))
    rows = {"unimodal_a": 0.3, "intra": 0.6, "inter": 0.7, "i2m2": 0.8, "prior": -0.2}
    outputs = {}
    for row, share in rows.items():
        mean = share * y[None] + 0.1 * rng.normal(size=(SEEDS, N, 1))
        outputs[row] = np.stack([mean, np.full_like(mean, np.log(0.5))], axis=-1)
    given = Predicted(
        outputs=outputs,
        y=y,
        group=np.arange(N),
        fold=np.zeros((SEEDS, N), dtype=int),
        validation={row: np.zeros((SEEDS, 1)) for row in rows if row != "prior"},
        classify=False,
    )
    chosen = choose(given)
    by_nll, by_r2 = (answer_of(*chosen, "", metric, None) for metric in ("nll", "r2"))
    for row, r2_row in zip(by_nll.rows, by_r2.rows, strict=True):
        mean = outputs[row.name][..., 0] if row.name in outputs else None
        if mean is not None:
            density = stats.norm.logpdf(y, mean, np.sqrt(0.5))
            assert row.nll == pytest.approx(-density.mean())
            assert r2_row.value == pytest.approx(np.mean([r2_score(y, one) for one in mean]))
    prior = by_r2.rows[0]
    assert prior.value < 0 and prior.low < prior.value < prior.high
    assert all(one.low < one.value < one.high for one in by_nll.rows)
    assert all(one.share is None for one in by_nll.information)
    with pytest.raises(SettingsError, match="choose nll, r2"):
        answer_of(*chosen, "", "auroc", None)


def decision(name: str, said: str) -> Decision:
    low, high = {"yes": (0.02, 0.04), "no": (-0.01, 0.003), "cannot be told": (-0.1, 0.1)}[said]
    return Decision(
        contrast=Contrast(name=name, first="lr-all", second="best"),
        difference=(low + high) / 2,
        low=low,
        high=high,
        p=0.5,
        p_holm=0.5,
        margin=0.01,
        smallest_detectable=0.07,
        answer=said,
        text=said,
    )


SAID = ("yes", "no", "cannot be told")
WORDS = {  # interaction, beside, more, predicts -> the beginning; None: whatever it is
    (None, None, None, "no"): "neither: by auroc nothing here predicts the target; the best row "
    "gains at most 0.3 points over the prior",
    ("yes", "yes", None, None): "both: the modalities interact, and unimodal experts add",
    ("yes", "no", None, None): "inter-modality modelling: the modalities interact; unimodal "
    "experts add at most 0.3 points to the fused one",
    ("yes", "cannot be told", None, None): "inter-modality modelling: the modalities interact; "
    "whether unimodal experts add to the fused one cannot be told (smallest detectable 7.0 points)",
    ("no", None, "yes", None): "intra-modality modelling: more than one modality is needed, and "
    "their interaction adds at most 0.3 points",
    ("no", None, "no", "yes"): "neither: static alone is enough; other modalities add at most 0.3 "
    "points, an interaction at most 0.3 points",
    ("no", None, "cannot be told", "yes"): "no inter-modality modelling: an interaction adds at "
    "most 0.3 points; whether more than static is needed cannot be told (smallest",
    ("cannot be told", None, "yes", None): "at least intra-modality modelling: more than one "
    "modality is needed; whether the modalities interact cannot be told",
    ("cannot be told", None, "no", "yes"): "no intra-modality modelling: beside static, other "
    "modalities add at most 0.3 points by themselves; whether the modalities interact cannot",
    ("cannot be told", None, "cannot be told", "yes"): "cannot be told from these examples: "
    "neither whether more than static is needed (smallest detectable 7.0 points), nor whether",
    (None, None, None, "cannot be told"): "cannot be told from these examples, not even whether "
    "anything predicts the target (smallest detectable 7.0 points)",
}


@pytest.mark.parametrize("said", list(product(SAID, repeat=4)))
def test_every_combination_of_decisions_has_its_sentence(said):
    def fits(pattern):
        return all(part in (None, one) for part, one in zip(pattern, said, strict=True))

    interaction, beside, more, predicts = (
        decision(name, one)
        for name, one in zip((INTERACTION, BESIDE, MORE, "anything?"), said, strict=True)
    )
    decisions = {one.contrast.name: one for one in (interaction, beside, more)}
    sentence = in_one_line(decisions, predicts, "static", "auroc")
    expected = next(words for pattern, words in WORDS.items() if fits(pattern))
    assert sentence.startswith(expected)
    assert "nats" in in_one_line(decisions, predicts, "static", "nll") or said[:2] == ("yes", "yes")


def test_where_no_difference_could_be_told_no_number_is_said_to_be_detectable():
    decisions = {
        name: msgspec.structs.replace(decision(name, "cannot be told"), smallest_detectable=None)
        for name in (INTERACTION, BESIDE, MORE)
    }
    sentence = in_one_line(decisions, decision("anything?", "yes"), "static", "auroc")
    assert sentence.endswith(f"whether the modalities interact ({NONE_DETECTABLE})")


def test_only_a_reference_that_is_better_is_a_caution():
    for said in SAID:
        found = cautions_of({REFERENCE: decision(REFERENCE, said)}, "auroc")
        assert bool(found) == (said == "yes")
    assert cautions_of({}, "auroc") == []


def test_products_of_columns_that_know_more_than_the_experts_raise_the_end_and_a_caution():
    _, found = answer(margin=5.0)  # so wide that no difference matters
    assert {one.contrast.name: one.answer for one in found.decisions}[INTERACTION] == "no"
    margin = 0.01 * found.prior_nll
    little, much = (
        with_bound(found, Bound(nats=nats, high=high, symbols=False))
        for nats, high in [(margin / 2, 0.0), (2 * margin, 9.0)]
    )
    assert little == found
    assert much.information[-1].nats == found.information[-1].nats
    assert much.information[-1].high == 9.0
    assert f"{2 * margin:.4f} nats of interaction (at most 9.0000)" in much.cautions[-1]
    assert much.information[:-1] == found.information[:-1]


def test_of_symbols_the_estimate_of_inter_is_the_larger_one():
    _, found = answer()
    *_, inter = found.information
    for nats in (inter.nats - 0.01, inter.nats + 0.01):
        *_, one = with_bound(found, Bound(nats=nats, high=0.0, symbols=True)).information
        assert one.nats == max(nats, inter.nats)
        assert one.share == pytest.approx(one.nats / found.prior_nll)
        assert (one.low, one.high, one.answer) == (inter.low, inter.high, inter.answer)


@pytest.mark.parametrize("shrinks", [True, False])
def test_an_interaction_is_claimed_unless_its_gain_shrinks_as_examples_double(shrinks):
    fused = {"i2m2-joint": 9.0, "i2m2-separate": 8.0, "inter": 7.0}
    rows, choices = choose(predicted(STRENGTH | fused))
    for row in ("i2m2-separate", "inter", "intra-separate"):
        rows.outputs[f"half:{row}"] = rows.outputs["inter"]
    if shrinks:  # with half of the examples the unimodal experts were wrong wherever they spoke
        rows.outputs["half:intra-separate"] = rows.outputs["inter"][..., ::-1]
    found = answer_of(rows, choices, "made up", "nll", None)
    decision = {one.contrast.name: one for one in found.decisions}[INTERACTION]
    assert decision.p_holm < 0.05
    assert decision.text == ("cannot be told (shrinks with more examples)" if shrinks else "yes")
    assert any("shrank" in caution for caution in found.cautions) == shrinks
    assert (found.information[-1].answer == "yes") != shrinks


def test_what_a_doubling_took_away_lowers_the_lower_end():
    rows, choices = choose(predicted())
    before = answer_of(rows, choices, "made up", "nll", None).information[-1]
    names = ("i2m2-separate", "intra-separate")
    for row, stands in zip(names, ("i2m2-joint", "prior"), strict=True):
        rows.outputs[f"half:{row}"] = rows.outputs[stands]
    after = answer_of(rows, choices, "made up", "nll", None).information[-1]
    nll = {row: nll_of(one, rows.y, True)[0].mean() for row, one in rows.outputs.items()}
    whole = nll["intra-separate"] - nll["i2m2-separate"]
    # All seeds of the first model stand for it where it was trained on half of the examples.
    half = nll_of(rows.outputs["prior"], rows.y, True).mean()
    half -= nll_of(rows.outputs["i2m2-joint"], rows.y, True).mean()
    assert after.low == pytest.approx(before.low - (half - whole))
    assert (after.high, after.growth) == (before.high, 0.0)
