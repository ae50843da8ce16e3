"""The dial's exact values against a table added up cell by cell, and its samples against both."""

import numpy as np
import pytest

from i2m2.dial import Dial, render

# (classes, alpha, beta, prior), then intra and inter nats, and the accuracies of x1, intra and all;
# computed cell by cell, with a projection by iterative scaling.
CHECK_VALUES = [
    ((4, (1, 1), 0, None), (0.224391, 0, 0.475367, 0.475367, 0.475367)),
    ((4, (0, 0), 2, None), (0, 0.468011, 0.25, 0.25, 0.711235)),
    ((4, (1, 2), 1.5, None), (0.539521, 0.153457, 0.475367, 0.711235, 0.743589)),
    ((3, (1, 0.5), 1, (0.6, 0.3, 0.1)), (0.119382, 0.083369, 0.64567, 0.655763, 0.70558)),
    ((3, (1, 1, 1), 2, None), (0.32282, 0.289762, 0.576117, 0.665051, 0.812734)),
    ((2, (1.3, 0), 1, (0.8, 0.2)), (0.113688, 0.054722, 0.8, 0.8, 0.86882)),
]


@pytest.mark.parametrize("settings, expected", CHECK_VALUES)
def test_exact_values_are_the_known_ones(settings, expected):
    exact = Dial(*settings).exact()
    keys = ("intra", "inter", "intra_accuracy", "bayes_accuracy")
    intra, inter, intra_accuracy, bayes_accuracy = (exact[key] for key in keys)
    found = intra, inter, exact["modality_accuracy"]["x1"], intra_accuracy, bayes_accuracy
    np.testing.assert_allclose(found, expected, atol=5.1e-7)


def test_one_hot_blocks_hold_the_symbols():
    data = Dial(3, (1, 1), 1).sample(200, seed=0)
    blocks = render(data.symbols, "onehot", classes=3)
    for name, symbols in data.symbols.items():
        assert blocks[name].shape == (200, 9) and (blocks[name].sum(axis=1) == 1).all()
        assert (blocks[name].argmax(axis=1) == symbols).all()


def test_bayes_log_prob_loses_what_the_exact_values_say():
    dial = Dial(4, (1, 2), 1.5)
    data = dial.sample(200_000, seed=0)
    for log_prob, key in [(dial.log_prob, "bayes_nll"), (dial.intra_log_prob, "intra_nll")]:
        loss = -log_prob(data.symbols)[np.arange(len(data.y)), data.y]
        error = loss.std() / np.sqrt(len(loss))
        assert abs(loss.mean() - dial.exact()[key]) < 4 * error
