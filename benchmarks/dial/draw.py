"""What a draw of a dial measures: the answers beside the exact values, a model fitted on it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from i2m2 import I2M2Classifier, diagnose
from i2m2.diagnose.answer import INTERACTION, MORE
from i2m2.dial import Dial, DialData, render
from i2m2.metrics import confidence_bin, confidence_of


def draw(
    classes: int, alpha: float, beta: float, rows: int, seed: int, parts: Sequence[str]
) -> dict:
    """One draw of a cell -> exact and estimated values of these parts."""
    dial = Dial(classes, (alpha, alpha), beta)
    data = dial.sample(rows, seed)
    began = time.process_time()
    record = {"classes": classes, "alpha": alpha, "beta": beta, "rows": rows, "seed": seed}
    for part in parts:
        record[part] = PARTS[part](dial, data)
    return record | {"cpu_seconds": time.process_time() - began}


def _answers(dial: Dial, data: DialData) -> dict:
    """What `diagnose` estimates beside the exact values, and what it answers."""
    blocks = render(data.symbols, "onehot", dial.classes)
    answer = diagnose(blocks, data.y, seeds=1, jobs=1).answer
    exact = dial.exact()
    true = {"single": max(exact["modality"].values()), "intra": exact["intra"]}
    true["inter"] = exact["inter"]
    decisions = {one.contrast.name: one.answer for one in answer.decisions}
    found = {"interaction": decisions[INTERACTION], "more": decisions[MORE]}
    for (name, value), one in zip(true.items(), answer.information, strict=True):
        found[name] = {"exact": value, "nats": one.nats, "low": one.low, "high": one.high}
        found[name] |= {"answer": one.answer}
    return found


def _model(dial: Dial, data: DialData) -> dict:
    """Accuracy beside Bayes', nats above the least NLL, and calibration errors for every set of
    present modalities: of a model fitted on the draw, exact over all cells of the dial."""
    classes = dial.classes
    model = I2M2Classifier().fit(render(data.symbols, "onehot", classes), data.y)
    symbols, joint = dial.cells()
    blocks = render(symbols, "onehot", classes)
    found = {"bayes": dial.exact()["bayes_accuracy"]}
    for name, absent in {"x1": ("x2",), "x2": ("x1",), "all": ()}.items():
        given = {m: np.full_like(x, np.nan) if m in absent else x for m, x in blocks.items()}
        scores = exact_scores(model.predict_log_proba(given), joint)
        found[f"ece_{name}"] = scores["ece"]
    excess = scores["nll"] - dial.exact()["bayes_nll"]
    return found | {"accuracy": scores["accuracy"], "excess": excess}


def exact_scores(log_prob: np.ndarray, joint: np.ndarray) -> dict[str, float]:
    """Expected accuracy, NLL and ECE of log p(y | x) [n, K] in cells with p(x, y) [n, K]."""
    confidence = confidence_of(log_prob)
    right = joint[np.arange(len(joint)), log_prob.argmax(axis=1)]
    gap = np.bincount(confidence_bin(confidence), joint.sum(axis=1) * confidence - right)
    nll = -float((joint * log_prob).sum())
    return {"accuracy": float(right.sum()), "nll": nll, "ece": float(np.abs(gap).sum())}


PARTS = {"answers": _answers, "model": _model}
