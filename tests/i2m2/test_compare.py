"""Two runs or methods compared on the same examples: the numbers, what the command prints, and what
it refuses."""

import json
import re

import numpy as np
import pytest

from i2m2 import combine
from i2m2.compare import comparison_of, main, pairs_of
from i2m2.errors import DataError, SettingsError
from i2m2.stats.paired_tests import delong
from i2m2.stats.summary import resample, summarise
from tests.i2m2.conftest import of_two_rows, two_class_runs


def save(folder, right, first_id=0, each=1, **other):
    """A run that gives the label, always 1, 0.8 where it is right and 0.4 where not; half the
    labels are turned round."""
    folder.mkdir(parents=True)
    n = len(right)
    y = np.arange(n) % 2
    p = np.where(np.array(right, bool), 0.8, 0.4)[:, None]
    log_prob = np.log(np.where(np.arange(2) == y[:, None], p, 1 - p)).astype(np.float32)
    columns = {"id": np.arange(n) + first_id, "group": np.arange(n) // each, "y": y}
    columns |= {"log_prob": log_prob} | other
    columns = {name: value for name, value in columns.items() if value is not None}
    np.savez(folder / "predictions_test.npz", **columns)
    (folder / "env.json").write_text(json.dumps({"data": {"description": "made by hand"}}))
    (folder / "DONE").touch()
    return folder


def printed(capsys, *argv):
    main(list(map(str, argv)))
    return capsys.readouterr().out


A, B = [1] * 30 + [0] * 10, [1] * 22 + [0] * 16 + [1] * 2  # only A is right in 8, only B in 2


def test_two_runs_side_by_side(tmp_path, capsys):
    a, b = save(tmp_path / "a/seed0", A), save(tmp_path / "b/seed3", B)
    lines = printed(capsys, a, b).splitlines()
    assert lines[:3] == [
        f"A  {a}",
        f"B  {b}",
        "seed0 and seed3; test split, 40 examples, data: made by hand",
    ]
    row = next(line for line in lines if line.startswith("accuracy"))
    values = [float(text) for text in re.findall(r"[-+]?\d\.\d+", row)]
    assert values[0] == 0.75 and values[3] == 0.6 and values[6] == 0.15
    assert values[7] < 0.15 < values[8] and values[9] == pytest.approx(0.06, abs=0.05)
    assert [line.split()[0] for line in lines[4:8]] == ["A", "accuracy", "nll", "auroc"]
    assert any("one seed" in line and "2,000 resamples of 40 groups" in line for line in lines)
    # 2 of 10 by chance: 2 (1 + 10 + 45) / 1024, and without half of the 45
    assert any(re.fullmatch(r"seed0 and seed3\s+8\s+2\s+0.11\s+0.065", line) for line in lines)
    assert any(line.startswith("DeLong") for line in lines)
    assert not any("come in groups" in line for line in lines)
    (b / "DONE").unlink()
    second = printed(capsys, a, b).splitlines()[1]
    assert second == f"B  {b} (NOT FINISHED, as DONE is missing: seed3)"


def test_the_nll_of_a_run_that_diverged_is_shown_by_its_power_of_ten(tmp_path, capsys):
    sure = np.array([[0, -1e30], [-1e30, 0]] * 20, dtype=np.float32)
    a, b = save(tmp_path / "a/seed0", A), save(tmp_path / "b/seed0", B, log_prob=sure[::-1])
    line = next(line for line in printed(capsys, a, b).splitlines() if line.startswith("nll"))
    assert re.fullmatch(r"nll +0\.\d{4} \[.*\] +1\.0000e\+30 .* -1\.0000e\+30 \[.*", line)


def test_methods_are_compared_over_the_seeds_they_share(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for seed in range(3):
        save(tmp_path / f"a/seed{seed}", rng.random(60) < 0.8, each=3)
    for seed in range(1, 4):
        save(tmp_path / f"b/seed{seed}", rng.random(60) < 0.6, each=3)
    (tmp_path / "b/seed10").mkdir()  # begun
    out = printed(capsys, tmp_path / "a", tmp_path / "b", "--metric", "accuracy")
    assert "without seed0: not finished, or not among the other's" in out
    assert "without seed3, seed10: not finished" in out
    assert "seed1, seed2; test split" in out
    assert "t, seeds and examples" in out and "come in groups" in out
    assert not re.search("^(nll|DeLong)", out, re.MULTILINE)
    assert list(pairs_of(tmp_path / "a/seed2", tmp_path / "b", "test")) == ["seed2"]


def test_labels_each_and_their_mean(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (40, 2))
    for name in "ab":
        p = rng.random((40, 2))
        log_prob = np.log(np.stack([1 - p, p], axis=-1))
        labels = np.array(["acl", "meniscus"])
        save(tmp_path / name / "seed0", A, y=y, log_prob=log_prob, labels=labels)
    out = printed(capsys, tmp_path / "a", tmp_path / "b", "--metric", "auroc,nll_acl")
    lines = out.splitlines()
    metrics = ["auroc", "auroc_acl", "auroc_meniscus", "nll_acl"]
    assert [line.split()[0] for line in lines[4:9]] == ["A", *metrics]
    assert sum(line.startswith(("seed0 acl", "seed0 meniscus")) for line in lines) == 2
    one = printed(capsys, tmp_path / "a", tmp_path / "b", "--metric", "auroc_acl")
    assert re.findall(r"^seed0 (\w+)", one, re.MULTILINE) == ["acl"]


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path):
    a, b = save(tmp_path / "a/seed0", A), save(tmp_path / "b/seed1", B)
    other = save(tmp_path / "other/seed0", B, first_id=1)
    grouped = save(tmp_path / "grouped/seed0", B, each=2)
    compact = save(tmp_path / "compact/seed0", B, log_prob=None)
    for error, words, argv in (
        (DataError, "predicted other examples", [a, other]),
        (DataError, "predicted other examples", [a, grouped]),
        (DataError, "no log_prob.*evaluate", [compact, a]),
        (DataError, "no log_prob.*evaluate", [a, compact]),
        (SettingsError, "given twice", [a, a]),
        (SettingsError, "no seed in common", [tmp_path / "a", tmp_path / "b"]),
        (SettingsError, "no predictions of the val split", [a, b, "--split", "val"]),
        (SettingsError, "no predictions of the test split", [a, tmp_path / "nowhere"]),
        (SettingsError, "metric 'acc' is unknown", [a, b, "--metric", "acc"]),
    ):
        with pytest.raises(error, match=words) as raised:
            main(list(map(str, argv)))
        assert "\n" not in str(raised.value)


def test_runs_of_other_numbers_of_classes_are_neither_compared_nor_multiplied(tmp_path):
    two, three = save(tmp_path / "a/seed0", A), save(tmp_path / "b/seed0", A)
    held = dict(np.load(three / "predictions_test.npz"))
    held["log_prob"] = np.pad(held["log_prob"], ((0, 0), (0, 1)), constant_values=-30)
    np.savez(three / "predictions_test.npz", **held)
    for command in (main, combine.main):
        with pytest.raises(DataError, match=f"{two} tells 2 classes apart and {three} 3; take"):
            command([str(two), str(three)])


def test_a_run_is_not_compared_with_itself(out):
    best, _ = of_two_rows(out)
    with pytest.raises(SettingsError, match="have a run in common"):
        main([str(best), str(best.parent)])


def test_a_seed_folder_of_another_method_is_no_run_of_this_one(tmp_path):
    a, b = save(tmp_path / "intra/seed0", A), save(tmp_path / "inter/seed0", B)
    (a / "config.yaml").write_text("method: inter\nseed: 0\n")
    for side in (a, a.parent):
        with pytest.raises(DataError, match="intra/seed0/config.yaml: method is inter, which is"):
            main([str(side), str(b)])


def test_runs_without_an_environment_are_compared_wherever_one_stands(out, capsys, monkeypatch):
    best, other = of_two_rows(out)
    (best / "env.json").unlink()
    monkeypatch.chdir(best)
    lines = printed(capsys, ".", f"../../unimodal_image/{other.name}", "--metric", "accuracy")
    assert "\nseed0; test split, 200 examples, data: not described; Made by hand.\n" in lines


def save_runs(folder, predictions):
    """A folder per seed; -> the folders."""
    folders = [folder / f"seed{seed}" for seed in range(len(predictions))]
    for run, columns in zip(folders, predictions, strict=True):
        run.mkdir(parents=True)
        np.savez(run / "predictions_test.npz", **columns)
    return folders


def test_a_difference_is_paired_over_examples_and_seeds(tmp_path):
    a = two_class_runs((0, 1, 2), 1.5)
    b = two_class_runs((0, 1, 2), 1.0, shift=50)
    first, second = save_runs(tmp_path / "a", a), save_runs(tmp_path / "b", b)
    found = comparison_of(first, second, ["accuracy", "auroc"])
    assert (found.groups, found.examples) == (100, 300)
    accuracy = found.metrics["accuracy"]
    apart = np.subtract(accuracy.first.values, accuracy.second.values)
    assert accuracy.difference.values == pytest.approx(apart)
    assert accuracy.difference.low > 0 and accuracy.difference.p < 0.05
    by_itself = resample(a, ["accuracy"])["accuracy"]
    assert accuracy.first == summarise("accuracy", *by_itself, groups=100)


def test_every_pair_of_runs_has_its_tests(tmp_path):
    a, b = two_class_runs((0,), 1.5), two_class_runs((0,), 1.0, shift=50)
    first, second = save_runs(tmp_path / "a", a), save_runs(tmp_path / "b", b)
    by_answer, by_rank = comparison_of(first, second, ["accuracy"]).tests[0][""]
    log_odds = [p["log_prob"][:, 1].astype(float) - p["log_prob"][:, 0] for p in (a[0], b[0])]
    assert by_rank.p == delong(a[0]["y"] == 1, *log_odds).p
    right = [p["log_prob"].argmax(-1) == p["y"] for p in (a[0], b[0])]
    assert by_answer.won == (right[0] & ~right[1]).sum()


def test_the_same_predictions_differ_in_nothing(tmp_path):
    one = two_class_runs((0,), 1.5)
    first, second = save_runs(tmp_path / "a", one), save_runs(tmp_path / "b", one)
    difference = comparison_of(first, second, ["accuracy"]).metrics["accuracy"].difference
    assert (difference.low, difference.high, difference.p) == (0, 0, 1)


def test_runs_that_no_example_tells_apart_differ_by_what_so_few_may_hide(tmp_path, capsys):
    one, surer = save(tmp_path / "a/seed0", A), save(tmp_path / "b/seed0", A)
    held = dict(np.load(one / "predictions_test.npz"))
    odds = 2 * (held["log_prob"] - held["log_prob"][:, ::-1])
    held["log_prob"] = (-np.log1p(np.exp(-odds))).astype(np.float32)
    np.savez(surer / "predictions_test.npz", **held)
    limit = 1 - 0.025 ** (1 / len(A))
    assert f"+0.0000 [{-limit:.4f}, {limit:.4f}]" in printed(capsys, one, surer)
