"""Separately trained experts of VQA-VS combined afterwards, against the rule for classes, known
weights and the product itself."""

import numpy as np
import pytest
import torch

from i2m2.errors import DataError
from i2m2.model import product_of_experts
from i2m2.stats.calibration import fit_pool, fit_temperature, log_frequencies
from VQA_and_NLVR2.vqa_vs.analysis import combination
from VQA_and_NLVR2.vqa_vs.answers import TRAINING
from VQA_and_NLVR2.vqa_vs.combination import Pool, fit, log_shares, scores_of
from VQA_and_NLVR2.vqa_vs.outputs import select_all_answers, select_top_answers
from VQA_and_NLVR2.vqa_vs.predictions import calibration

K = 12


def questions(n, rng, log_prob=None, people=None):
    """Predictions of n questions whose ten answers are drawn from `log_prob` [n, K], or all the
    same one."""
    answer, count = np.full((n, 10), -1, np.int16), np.zeros((n, 10), np.int8)
    for row in range(n):
        if people is None:
            given = rng.choice(K, 10, p=np.exp(log_prob[row]))
        else:
            given = np.full(10, people[row])
        names, times = np.unique(given, return_counts=True)
        answer[row, : len(names)], count[row, : len(names)] = names, times
    columns = {"answer": answer, "count": count, "answer_type": np.zeros(n, np.int8)}
    return {"id": np.arange(n), "group": np.arange(n) // 2, **columns}


def saved(base, log_prob, select_outputs=select_all_answers):
    """The columns that a run with one expert keeps of it."""
    answer = torch.from_numpy(base["answer"])
    columns = select_outputs(torch.from_numpy(log_prob), {}, {"answer": answer})
    return base | {name: value.numpy() for name, value in columns.items()}


def normal(rng, n, spread=1.5):
    return torch.from_numpy(rng.normal(0, spread, (n, K))).log_softmax(dim=1).numpy()


def test_where_all_people_agree_it_is_the_rule_for_classes():
    rng = np.random.default_rng(0)
    image, text = normal(rng, 400), normal(rng, 400)
    y = np.array([rng.choice(K, p=p / p.sum()) for p in np.exp(0.8 * image + 0.5 * text)])
    base = questions(400, rng, people=y)
    # Logits serve as well.
    val = {"image": saved(base, image + 3.0), "text": saved(base, text - 1.0)}
    prior = log_shares(val["image"])
    np.testing.assert_allclose(prior, log_frequencies(y, K), atol=1e-12)
    weights, gamma, temperature = fit(val, prior)
    by_class = fit_pool(y, {"image": image, "text": text})
    np.testing.assert_allclose([*weights, gamma], [*by_class.weights, by_class.gamma], atol=1e-5)
    product = product_of_experts([torch.from_numpy(image), torch.from_numpy(text)]).numpy()
    assert temperature == pytest.approx(fit_temperature(y, product), rel=1e-5)


def test_known_weights_are_recovered_from_soft_targets():
    rng = np.random.default_rng(1)
    n, weights, gamma = 4000, (0.7, 0.4), -0.6
    image, text = normal(rng, n), normal(rng, n)
    prior = np.log(np.arange(1, K + 1) / np.arange(1, K + 1).sum())
    logits = torch.from_numpy(weights[0] * image + weights[1] * text + gamma * prior)
    true = logits.log_softmax(dim=1).numpy()
    # The score of training rises with the number of people, and not linearly: ask one of them, and
    # it is who is asked.
    base = questions(n, rng, people=[rng.choice(K, p=np.exp(row)) for row in true])
    found, exponent, _ = fit({"image": saved(base, image), "text": saved(base, text)}, prior)
    np.testing.assert_allclose([*found, exponent], [*weights, gamma], atol=0.12)


def test_the_plain_way_is_the_product_and_every_score_is_that_of_all_probabilities():
    rng = np.random.default_rng(2)
    image, text = normal(rng, 300), normal(rng, 300)
    true = product_of_experts([torch.from_numpy(image), torch.from_numpy(text)]).numpy()
    base = questions(300, rng, log_prob=true)
    base["answer"][:7], base["count"][:7] = -1, 0  # none of their answers is in the vocabulary
    parts = {"image": saved(base, image), "text": saved(base, text)}
    found = combination(parts, parts, saved(base, true))
    assert found["plain"]["scores"] == pytest.approx(found["joint"]["scores"], rel=1e-12)
    prior = log_shares(parts["image"])
    for way in ("prior_divided", "fitted"):
        rule = found[way]
        weights = rule["weights"]
        logits = weights["image"] * image + weights["text"] * text + rule["gamma"] * prior
        p = torch.from_numpy(logits).softmax(dim=1).numpy()
        target = np.zeros((300, K))
        rows, places = np.nonzero(base["answer"] >= 0)
        target[rows, base["answer"][rows, places]] = TRAINING[base["count"][rows, places]]
        target = target[7:] / target[7:].sum(axis=1, keepdims=True)
        brier = ((p[7:] - target) ** 2).sum(axis=1).mean()
        nll = -(target * np.log(p[7:])).sum(axis=1).mean()
        people = (base["count"] * (base["answer"] == p.argmax(axis=1)[:, None])).sum(axis=1)
        assert rule["scores"]["brier"] == pytest.approx(brier, rel=1e-6)
        assert rule["scores"]["nll"] == pytest.approx(nll, rel=1e-6)
        assert rule["scores"]["vqa_score"] == pytest.approx(
            np.minimum(1, people / 3).mean(), abs=1e-6
        )
    # What is fitted to these very questions is at least as likely as anything else of its kind.
    assert found["fitted"]["scores"]["nll"] <= min(
        found[way]["scores"]["nll"] for way in ("plain", "temperature", "prior_divided")
    )
    one = {"image": Pool(np.array([1.0, 0.0]), 0.0), "text": Pool(np.array([0.0, 1.0]), 0.0)}
    alone = scores_of(parts, one, prior)
    for name in parts:
        assert alone[name] == pytest.approx(calibration(parts[name]).scores, abs=1e-6)


def test_other_questions_and_predictions_of_the_best_answers_alone_are_not_combined():
    rng = np.random.default_rng(3)
    image = normal(rng, 20)
    base = questions(20, rng, log_prob=image)
    whole = {"image": saved(base, image), "text": saved(base, image)}
    compact = saved(base, image, select_top_answers)
    found = combination(whole, whole | {"text": compact}, whole["image"])
    assert set(found) == {"why_not"} and "--save-all" in found["why_not"]
    other = whole | {"text": whole["text"] | {"count": whole["text"]["count"][::-1]}}
    with pytest.raises(
        DataError,
        match="the validation of image and the validation of text predicted other examples",
    ):
        combination(other, whole, whole["image"])
