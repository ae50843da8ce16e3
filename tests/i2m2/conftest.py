"""What the tests of the core share: predictions of two classes, and a results folder with a paper."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import log_softmax


def two_class_runs(seeds, strength, labels=None, n=300, shift=0):
    """Predictions of one run per seed on the same `n` examples in groups of three; the larger
    `strength`, the better they are."""
    y = np.random.default_rng(0).integers(0, 2, (n, 2) if labels else n)
    runs = []
    for seed in seeds:
        noise = np.random.default_rng(100 + seed + shift).normal(size=(*y.shape, 2))
        log_prob = log_softmax(noise + strength * np.eye(2)[y], axis=-1).astype(np.float32)
        columns = {"id": np.arange(n), "group": np.arange(n) // 3, "y": y, "log_prob": log_prob}
        runs.append(columns | ({"labels": np.array(labels)} if labels else {}))
    return runs
