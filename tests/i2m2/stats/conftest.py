"""What the tests of `i2m2.stats` share: random predictions, and experts that are exact."""

import numpy as np
from scipy.special import log_softmax


def random_predictions(rng, n, classes, labels=None):
    shape = (n,) if labels is None else (n, labels)
    y = rng.integers(0, classes, shape)
    return y, log_softmax(rng.normal(size=(*shape, classes)) + 1.2 * np.eye(classes)[y], axis=-1)


PRIOR = np.array([0.45, 0.25, 0.15, 0.1, 0.05])


def exact_experts(n, seed):
    """Labels by PRIOR, two normal modalities, independent given the label, and the exact p(y |
    x_1), p(y | x_2) and p(y | both)."""
    rng = np.random.default_rng(seed)
    y = rng.choice(5, n, p=PRIOR)
    means = np.random.default_rng(99).normal(size=(2, 5, 3))
    x = means[:, y] + rng.normal(size=(2, n, 3))
    likelihood = -0.5 * ((x[:, :, None] - means[:, None]) ** 2).sum(-1)  # [2, n, C]
    image, audio = log_softmax(likelihood + np.log(PRIOR), axis=-1)
    inter = log_softmax(likelihood.sum(0) + np.log(PRIOR), axis=-1)
    return y, {"image": image, "audio": audio, "inter": inter}


def as_predictions(y, experts):
    """What a run of these experts would have saved."""
    places = np.arange(len(y))
    product = log_softmax(sum(experts.values()), axis=-1)
    columns = {f"expert_{name}": value for name, value in experts.items()}
    return {"id": places, "group": places, "y": y, "log_prob": product, **columns}
