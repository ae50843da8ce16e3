"""python -m fastMRI.noise (Fig. C.7)"""

import json

import pytest

from i2m2.errors import SettingsError


@pytest.mark.rendered
def test_without_noise_the_scores_are_those_of_the_run(runs, capsys):
    from fastMRI import noise

    noise.main([str(runs), "--runs", "inter", "unimodal_phase", "--levels", "0", "25"])
    lines = [line.split(",") for line in (runs / "noise.csv").read_text().splitlines()]
    assert len(lines) == 1 + 2 * 2 and lines[0][3:5] == ["level_percent", "auroc"]
    for _, run, _, level, auroc, *_ in lines[1:]:
        result = json.loads((runs / run / "seed0/result.json").read_text())["test"]
        assert (float(auroc) == pytest.approx(result["auroc"], abs=1e-9)) == (level == "0.0")
    assert "| Inter-modality |" in capsys.readouterr().out
    assert (runs / "noise.png").stat().st_size > 10_000
    with pytest.raises(SettingsError, match="a level is a percentage"):
        noise.main([str(runs), "--levels", "-1"])


def test_a_name_that_no_run_has_is_refused_and_not_left_out(runs):
    from fastMRI import noise

    says = "no finished run is named i2m2; --runs takes any of: inter, unimodal_magnitude, uni"
    with pytest.raises(SettingsError, match=says):
        noise.main([str(runs), "--runs", "inter", "i2m2"])
