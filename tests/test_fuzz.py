"""A short slice of scripts/fuzz.sh."""

from i2m2.report import figures
from tests.fuzz import RIGHT, fuzz
from tests.fuzz_targets import of_runs


def test_no_damage_to_files_of_runs_ends_in_a_traceback_or_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "save_figure", None)  # is exchanged, and here given back
    counts = fuzz(of_runs(tmp_path), cases=24, seed=1, seconds=6)
    assert set(counts) == {RIGHT}
