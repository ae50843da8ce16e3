"""Every preset with every method of fastMRI, and the warm start."""

import json

import numpy as np
import pytest

from fastMRI.preparation.labels import LABELS
from i2m2.names import methods_of

METHODS = methods_of(("magnitude", "phase"), ("rss",))


@pytest.mark.parametrize("preset", ["paper", "official_code"])
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_takes_one_step(preset, method, train):
    run = train("--method", method, "--preset", preset, "--init", "scratch")
    result = json.loads((run / "result.json").read_text())["test"]
    for label in LABELS:
        assert 0 <= result[f"auroc_{label}"] <= 1
        assert {f"sensitivity_{label}", f"auroc_volume_{label}"} <= set(result)


def test_i2m2_starts_from_its_parts(train):
    for method in ("unimodal_magnitude", "unimodal_phase", "inter"):
        train("--method", method)
    run = train("--method", "i2m2")
    assert run.parts[-2] == "i2m2"
    sources = json.loads((run / "env.json").read_text())["warm_start"]
    assert set(sources) == {"magnitude", "phase", "inter"}
    predictions = np.load(run / "predictions_test.npz")
    assert predictions["labels"].tolist() == list(LABELS)
    assert predictions["expert_inter"].shape == (12, 4, 2)
    assert set(predictions["group"]) == {"file9000009", "file9000010", "file9000011"}
