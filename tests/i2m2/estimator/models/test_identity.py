"""What a user's expert is, told apart from others and the same in another process."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer
from torch import nn

from i2m2.estimator.models.identity import identity_of


def head(width):
    return lambda shape, classes: nn.Sequential(nn.Linear(shape[0], width), nn.Linear(width, 2))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Tripled(nn.Linear):
    def forward(self, x):
        return 3 * super().forward(x)


Tripled.__name__ = Tripled.__qualname__ = "Doubled"


def pipeline(many):
    """Longer than what scikit-learn's repr shows."""
    parts = (QuantileTransformer(n_quantiles=n) for n in (10, 20, many))
    return make_pipeline(*parts, LogisticRegression(tol=0.123456, max_iter=12345, C=0.98765))


def module(kind, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(3, 2)


def logged(x, kind="natural"):
    return np.log2(x) if kind in {"two", "binary", "base 2"} else np.log(x)


def squared(x):
    return x**2


class Own(BaseEstimator):
    def fit(self, X, y):
        return self


class Other(BaseEstimator):
    def fit(self, X, y):
        self.mean = X.mean()
        return self


Other.__name__ = Other.__qualname__ = "Own"


OTHERS = {
    "code of an estimator": (Own(), Other()),
    "settings of a pipeline": (pipeline(90), pipeline(91)),
    "a function in a pipeline": (FunctionTransformer(logged), FunctionTransformer(squared)),
    "what a function holds on to": (head(3), head(4)),
    "arguments": (partial(logged, 1), partial(logged, 2)),
    "code of a module": (module(Doubled), module(Tripled)),
    "weights of a module": (module(nn.Linear), module(nn.Linear, seed=1)),
    "size of a module": (module(nn.Linear), nn.Linear(4, 2)),
}


@pytest.mark.parametrize("first, other", OTHERS.values(), ids=OTHERS)
def test_another_expert_has_another_identity(first, other):
    assert identity_of(first) == identity_of(first) != identity_of(other)


def test_the_next_process_finds_the_same():
    experts = "[pipeline(90), FunctionTransformer(logged), head(3), module(Doubled)]"
    code = f"from {__name__} import *\nprint([identity_of(one) for one in {experts}])"
    here = [identity_of(one) for one in eval(experts)]
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)
