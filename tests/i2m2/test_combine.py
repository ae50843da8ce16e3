"""The product of separately trained runs against a hand calculation, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

from i2m2.combine import combine, main
from i2m2.errors import DataError, SettingsError


def save(folder: Path, probability: list, id=(1, 2, 3)) -> Path:
    folder.mkdir(parents=True)
    p = np.array(probability)
    log_prob = np.log(np.stack([1 - p, p], axis=1)).astype(np.float32)
    places, y = np.array(id), np.array([1, 0, 1])
    columns = {"id": places, "group": places, "y": y, "log_prob": log_prob}
    np.savez(folder / "predictions_test.npz", **columns)
    (folder / "env.json").write_text(json.dumps({"data": {"description": "made by hand"}}))
    return folder


def test_product_of_two_runs_equals_a_hand_calculation(tmp_path, capsys):
    runs = [
        save(tmp_path / "image/seed0", [0.8, 0.5, 0.4]),
        save(tmp_path / "audio/seed0", [0.5, 0.25, 0.9]),
    ]
    (runs[0] / "DONE").touch()
    main([str(run) for run in runs])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "product of 2 runs, test split, 3 examples, data: made by hand"
    assert lines[1] == f"NOT FINISHED, as DONE is missing: {runs[1]}"
    assert [line.split()[0] for line in lines[3:]] == ["product", *map(str, runs)]
    predictions = {run.parent.name: dict(np.load(run / "predictions_test.npz")) for run in runs}
    probability = np.exp(combine(predictions)["log_prob"][:, 1])
    # p q / (p q + (1 - p)(1 - q))
    np.testing.assert_allclose(probability, [0.8, 0.25, 0.36 / (0.36 + 0.06)], rtol=1e-6)


def test_other_examples_and_missing_predictions_are_refused(tmp_path):
    one = save(tmp_path / "image/seed0", [0.8, 0.5, 0.4])
    other = save(tmp_path / "audio/seed0", [0.8, 0.5, 0.4], id=(1, 2, 4))
    with pytest.raises(DataError, match="image/seed0 and .*audio/seed0 predicted other examples"):
        main([str(one), str(other)])
    with pytest.raises(SettingsError, match="image/seed0 and .*image/seed0 are the same run"):
        main([str(one), str(one)])
    with pytest.raises(SettingsError, match="no predictions of the val split"):
        main([str(one), "--split", "val"])


def test_runs_without_the_log_prob_of_all_classes_are_named_with_where_they_are_multiplied():
    places = np.arange(3)
    compact = {"id": places, "group": places, "product_log_prob": np.zeros((3, 2))}
    line = "image, text: no log_prob of all classes.*; python -m i2m2.results multiplies"
    with pytest.raises(DataError, match=line):
        combine({"image": compact, "text": compact})


def test_a_copy_of_a_run_is_no_second_factor(tmp_path):
    runs = [save(tmp_path / f"{name}/seed0", [0.8, 0.5, 0.4]) for name in ("image", "copy")]
    for run in runs:
        (run / "config.yaml").write_text("{method: unimodal_image, seed: 0}")
    with pytest.raises(SettingsError, match="image/seed0 and .*copy/seed0 are the same run"):
        main(list(map(str, runs)))


def test_a_run_without_its_modality_abstains_and_the_prior_answers_where_all_do():
    prior, sure, uniform = [0.75, 0.25], [0.4, 0.6], [0.5, 0.5]
    places = np.arange(3)
    columns = {"id": places, "group": places, "y": np.zeros(3, int)}

    def run(probability, of_expert):
        return columns | {"log_prob": np.log(probability), "expert_own": np.log(of_expert)}

    image = run([sure, sure, prior], [sure, sure, uniform])
    audio = run([sure, prior, prior], [sure, uniform, uniform])
    product = combine({"image": image, "audio": audio})
    both = [0.16 / 0.52, 0.36 / 0.52]
    np.testing.assert_allclose(np.exp(product["log_prob"]), [both, sure, prior])
    np.testing.assert_allclose(np.exp(product["expert_audio"]), [sure, uniform, uniform])


def test_a_run_is_scored_by_all_that_it_answers_its_class_prior_too(tmp_path, capsys):
    """The second run lacks its modality in the last two examples, of classes 0 and 1."""
    runs = [save(tmp_path / "image/seed0", [0.8, 0.5, 0.4])]
    runs += [save(tmp_path / "audio/seed0", [0.6, 0.9, 0.9])]
    path = runs[1] / "predictions_test.npz"
    columns = dict(np.load(path))
    own = columns["log_prob"].copy()
    own[1:] = np.log(0.5)
    np.savez(path, **columns, expert_audio=own)
    main([str(run) for run in runs])
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines()[2:])
    nll = float(rows[2][1 + header.index("nll")])
    assert nll == pytest.approx(-np.log([0.6, 0.1, 0.9]).mean(), abs=1e-4)


def test_a_product_of_a_product_is_that_of_all():
    rng, places = np.random.default_rng(0), np.arange(40)
    columns = {"id": places, "group": places, "y": np.zeros(40, int)}
    prior = np.log([0.7, 0.3])

    def run(absent):
        own = np.where(absent[:, None], np.log(0.5), np.log(rng.dirichlet([1, 1], 40)))
        return columns | {"log_prob": np.where(absent[:, None], prior, own), "expert_own": own}

    a, b, d = (run(rng.random(40) < 0.5) for _ in range(3))
    nested = combine({"ab": combine({"a": a, "b": b}), "d": d})
    np.testing.assert_allclose(
        nested["log_prob"], combine({"a": a, "b": b, "d": d})["log_prob"], atol=1e-12
    )
