"""Corruptions of MIMIC against what they promise, and the robustness of finished runs."""

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.corruptions import mimic_corruptions
from AVMNIST_and_MIMIC.robustness import main as robustness
from i2m2.errors import SettingsError


@pytest.mark.parametrize("name", mimic_corruptions(0))
def test_level_zero_changes_nothing_and_level_one_leaves_nothing_or_only_noise(name):
    rng = np.random.default_rng(0)
    x = {
        "static": rng.normal(size=(200, 5)).astype(np.float32),
        "series": rng.normal(size=(200, 24, 12)).astype(np.float32),
    }
    for modality, corrupt in mimic_corruptions(0)[name].items():
        assert np.array_equal(corrupt(x[modality], 0.0), x[modality])
        one, half = corrupt(x[modality], 1.0), corrupt(x[modality], 0.5)
        if name == "series_noise":
            assert np.std(one - x[modality]) == pytest.approx(1, abs=0.01)
            assert np.std(half - x[modality]) == pytest.approx(0.5, abs=0.01)
        else:
            assert not one.any()
        assert np.array_equal(corrupt(x[modality][:50], 0.5), half[:50])
        assert not np.array_equal(mimic_corruptions(1)[name][modality](x[modality], 0.5), half), (
            "another seed, another corruption"
        )


def test_corruptions_drop_what_they_name():
    x = np.ones((300, 24, 24), np.float32)  # with masks
    by = mimic_corruptions(0)
    entries = by["series_entries"]["series"](x, 0.3)
    np.testing.assert_array_equal(entries[..., :12], entries[..., 12:])  # dropped: not observed
    assert entries.mean() == pytest.approx(0.7, abs=0.01)
    steps = by["series_steps"]["series"](x, 0.3)
    assert set(np.unique(steps.mean(axis=2))) == {0.0, 1.0}
    assert 0 < steps.mean(axis=(1, 2)).min() < 1
    stays = by["series_dropped"]["series"](x, 0.3)
    assert set(np.unique(stays.mean(axis=(1, 2)))) == {0.0, 1.0}
    noise = by["series_noise"]["series"](x, 0.3)
    assert np.array_equal(noise[..., 12:], x[..., 12:])
    assert len(np.unique(noise[0, :, 0])) == 24  # another for every step


def test_a_baseline_that_is_not_there_is_refused_before_anything_is_measured(tmp_path):
    run = tmp_path / "mimic-mortality/unimodal_static/seed0"
    run.mkdir(parents=True)
    (run / "result.json").write_text('{"test": {"accuracy": 0.5}}')
    (run / "DONE").touch()
    message = "--baseline foo: no finished run; choose one of unimodal_static"
    with pytest.raises(SettingsError, match=message):
        robustness([str(tmp_path / "mimic-mortality"), "--baseline", "foo"])


def test_robustness_of_finished_runs(train_mimic, tmp_path, capsys):
    train_mimic("--method", "inter")
    train_mimic("--method", "unimodal_series", "--data.masks", "true")
    robustness([str(tmp_path / "mimic-mortality"), "--levels", "0", "0.5", "1"])
    summary = (tmp_path / "mimic-mortality/robustness_summary.csv").read_text()
    for corruption in (*mimic_corruptions(0), "missing_static", "missing_series"):
        assert corruption in summary
    printed = capsys.readouterr().out
    assert "written:" in printed
    assert "The majority class of the training split alone: " in printed
