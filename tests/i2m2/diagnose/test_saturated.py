"""What products of columns know, beside exact values."""

from __future__ import annotations

import numpy as np
import pytest

from i2m2.diagnose.rows import Question
from i2m2.diagnose.saturated import pairwise_interaction
from i2m2.dial import Dial, render
from i2m2.estimator.families import Categorical, Gaussian
from i2m2.estimator.given.blocks import read_blocks


def question(dial: Dial, rows: int, seed: int = 0, groups: np.ndarray | None = None) -> Question:
    data = dial.sample(rows, seed)
    blocks = read_blocks(render(data.symbols, "onehot", dial.classes))
    return Question(blocks, data.y[:, None], groups, Categorical([dial.classes]))


def unknowing(asked: Question) -> np.ndarray:
    """The log-probabilities of experts that know nothing."""
    return np.full((len(asked.y), *asked.family.shape[1:]), -np.log(asked.family.shape[1]))


@pytest.mark.parametrize("classes, alpha, beta", [(3, 0, 0.5), (4, 1, 1), (3, 1, 0)])
def test_the_products_of_one_hot_columns_hold_the_exact_interaction(classes, alpha, beta):
    dial = Dial(classes, (alpha, alpha), beta)
    asked = question(dial, 5_000)
    found = pairwise_interaction(asked, unknowing(asked))
    assert found.nats == pytest.approx(dial.exact()["inter"], abs=0.012)
    assert found.high >= dial.exact()["inter"]
    assert found.symbols


def test_what_a_modality_knows_by_its_own_columns_together_is_no_interaction():
    """y = a xor b, both of one modality; the other one copies a, so that its product with b knows y
    too."""
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 2, (2, 2_000)).astype(float)
    blocks = read_blocks({"first": np.stack([a, b], axis=1), "second": a[:, None]})
    y = (a != b).astype(int)[:, None]
    asked = Question(blocks, y, None, Categorical([2]))
    found = pairwise_interaction(asked, unknowing(asked))
    assert found.symbols and abs(found.nats) < 0.005


def test_numbers_are_no_symbols():
    x = np.random.default_rng(0).normal(size=(2, 500, 3))
    blocks = read_blocks({"first": x[0], "second": x[1]})
    y = (x[0, :, 0] * x[1, :, 0] > 0).astype(int)[:, None]
    asked = Question(blocks, y, None, Categorical([2]))
    found = pairwise_interaction(asked, unknowing(asked))
    assert not found.symbols and found.nats > 0.02


def test_a_curve_of_one_modality_is_no_interaction():
    """log odds x1² - 1 and another modality that goes along with x1: to lines, x1 x2 is news."""
    generator = np.random.default_rng(0)
    first = generator.normal(size=4_000)
    second = first + 0.3 * generator.normal(size=4_000)
    logits = np.stack([np.zeros(4_000), first**2 - 1], axis=1)
    y = (generator.logistic(size=4_000) < logits[:, 1]).astype(int)[:, None]
    blocks = read_blocks({"first": first[:, None], "second": second[:, None]})
    asked = Question(blocks, y, None, Categorical([2]))
    assert pairwise_interaction(asked, unknowing(asked)).nats > 0.04
    found = pairwise_interaction(asked, logits - np.logaddexp(*logits.T)[:, None])
    assert abs(found.nats) < 0.002 and found.high < 0.004


def test_examples_that_come_in_groups_tell_less():
    dial = Dial(3, (1, 1), 1.0)
    once = question(dial, 2_000)
    twice = {
        name: block.take(np.repeat(np.arange(2_000), 2)) for name, block in once.blocks.items()
    }
    y, group = np.repeat(once.y, 2, axis=0), np.repeat(np.arange(2_000), 2)
    grouped, alone = (Question(twice, y, of, once.family) for of in (group, None))
    grouped, alone = (pairwise_interaction(one, unknowing(one)) for one in (grouped, alone))
    assert grouped.high - grouped.nats > 1.2 * (alone.high - alone.nats)


def test_nothing_is_said_where_the_examples_are_too_few_or_the_target_is_a_number():
    dial = Dial(4, (1, 1), 1.0)
    few = question(dial, 1_000)
    assert pairwise_interaction(few, unknowing(few)) is None
    of = question(dial, 5_000)
    numbers = Question(of.blocks, of.y * 1.0, None, Gaussian(1))
    assert pairwise_interaction(numbers, np.zeros((5_000, 2))) is None


def test_nothing_is_said_where_a_class_lies_in_one_group():
    """The models of the fold that holds it have never seen it."""
    dial = Dial(3, (1, 1), 1.0)
    asked = question(dial, 2_000)
    y = asked.y.copy()
    y[:300] = 0
    y[300:] = np.maximum(y[300:], 1)
    groups = np.repeat(np.arange(20), 100)
    groups[:300] = 0
    alone = Question(asked.blocks, y, groups, asked.family)
    assert pairwise_interaction(alone, unknowing(alone)) is None
    assert pairwise_interaction(Question(asked.blocks, y, None, asked.family), unknowing(alone))
