"""The MIMIC-III command: mistakes in one line, the same again, the audit."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from AVMNIST_and_MIMIC.mimic.arrays import fingerprint
from AVMNIST_and_MIMIC.mimic.extraction.check import Report
from AVMNIST_and_MIMIC.mimic.extraction.schema import DEMO, V1_4, release_of
from AVMNIST_and_MIMIC.mimic.extraction.scratch import Scratch
from AVMNIST_and_MIMIC.prepare_mimic import extract, main
from i2m2.errors import DataError, SettingsError
from tests.AVMNIST_and_MIMIC.tiny_mimic import HEART_RATE, Hospital


@pytest.fixture
def raw(tmp_path) -> Path:
    hospital = Hospital()
    for hadm in (3, 1, 2):
        hospital.patient(hadm)
        hospital.chart(hadm, HEART_RATE, hadm, 60 + hadm)
        hospital.lab(hadm, 50983, hadm, 140)
    return hospital.write(tmp_path / "raw")


def test_spelling_and_compression_of_the_files_do_not_matter(raw, tmp_path):
    extract(raw, tmp_path / "a")
    for path in list(raw.iterdir()):
        content = gzip.decompress(path.read_bytes()).decode()
        header, _, rows = content.partition("\n")
        (raw / path.name.lower().removesuffix(".gz")).write_text(
            header.lower().replace('"', "") + "\n" + rows
        )
        path.unlink()
    extract(raw, tmp_path / "b")
    assert (tmp_path / "a/mimic.npz").read_bytes() == (tmp_path / "b/mimic.npz").read_bytes()


def test_copied_and_unpacked_tables_give_the_same_data_set_to_runs(raw, tmp_path):
    main(["--raw", str(raw), "--out", str(tmp_path / "a")])
    for table in list(raw.iterdir()):
        os.utime(table, (0, 0))
    table.with_suffix("").write_bytes(gzip.decompress(table.read_bytes()))
    table.unlink()
    main(["--raw", str(raw), "--out", str(tmp_path / "b")])
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_a_folder_made_of_tables_with_other_times_is_kept_and_says_so(raw, tmp_path, capsys):
    main(["--raw", str(raw), "--out", str(tmp_path / "out")])
    before = (tmp_path / "out/dataset.json").read_bytes()
    for table in raw.iterdir():
        os.utime(table, (0, 0))
    main(["--raw", str(raw), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "other times, as copies have; if they were changed" in printed
    assert "nothing done" in printed and (tmp_path / "out/dataset.json").read_bytes() == before


def test_a_folder_of_an_earlier_version_keeps_its_fingerprint(raw, tmp_path):
    main(["--raw", str(raw), "--out", str(tmp_path / "out")])
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    del facts["known_by"]
    (tmp_path / "out/dataset.json").write_text(json.dumps(facts, indent=2))
    del facts["input_times"]
    written = json.dumps(facts) + f" {facts['bytes']}"
    assert fingerprint(tmp_path / "out") == hashlib.sha256(written.encode()).hexdigest()


def test_a_folder_of_the_older_form_is_known_again_and_keeps_its_fingerprint(raw, tmp_path, capsys):
    out = tmp_path / "out"
    main(["--raw", str(raw), "--out", str(out)])
    facts = json.loads((out / "dataset.json").read_text())
    times = facts.pop("input_times")
    facts["inputs"] = {name: [size, times[name]] for name, size in facts["inputs"].items()}
    (out / "dataset.json").write_text(json.dumps(facts))
    main(["--raw", str(raw), "--out", str(out)])
    assert "nothing done" in capsys.readouterr().out
    written = json.dumps(facts) + f" {(out / 'mimic.npz').stat().st_size}"
    assert fingerprint(out) == hashlib.sha256(written.encode()).hexdigest()


def test_the_same_command_again_does_nothing_and_another_is_refused(raw, tmp_path, capsys):
    out = tmp_path / "out"
    main(["--raw", str(raw), "--out", str(out)])
    before = (out / "mimic.npz").stat().st_mtime_ns
    main(["--raw", str(raw), "--out", str(out)])
    assert "nothing done" in capsys.readouterr().out
    with pytest.raises(SettingsError, match=r"prepared otherwise \(settings.mode differ\); give"):
        main(["--raw", str(raw), "--out", str(out), "--mode", "reference"])
    _append("PATIENTS", lambda text: text.splitlines()[1].replace("100", "400"))(raw)
    with pytest.raises(SettingsError, match=r"prepared otherwise \(inputs differ\)"):
        main(["--raw", str(raw), "--out", str(out)])
    assert (out / "mimic.npz").stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "mimic.npz"]


def test_a_set_that_is_missing_or_damaged_is_replaced(raw, tmp_path):
    arrays = tmp_path / "out/mimic.npz"
    extract(raw, tmp_path / "out")
    for mode, spoil in (("clean", _flip), ("reference", _flip), ("clean", Path.unlink)):
        spoil(arrays)
        assert extract(raw, tmp_path / "out", mode)["mode"] == mode


def test_the_scratch_database_lies_where_the_result_will(raw, tmp_path, monkeypatch):
    out, found = tmp_path / "out", []
    out.mkdir()

    def load(*_):
        found.extend(out.rglob("scratch.duckdb"))
        raise DataError("enough seen")

    monkeypatch.setattr(Scratch, "load", load)
    with pytest.raises(DataError, match="enough seen"):
        extract(raw, out)
    assert found and not list(out.iterdir())


def test_synthetic_tables_say_so(raw, tmp_path):
    (raw / "SYNTHETIC.txt").write_text("three patients that\nnever were\n")
    extract(raw, tmp_path / "out", "reference")
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    assert facts["variant"] == "synthetic-reference"
    assert facts["synthetic"] is True
    assert facts["release"] == "unknown"
    assert facts["description"] == "three patients that never were"


def _rewrite(path: Path, change) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode()))


def _replace(table: str, old: str, new: str):
    """-> what puts `new` for `old` everywhere in a table."""
    return lambda raw: _rewrite(raw / f"{table}.csv.gz", lambda text: text.replace(old, new))


def _append(table: str, line):
    """-> what adds `line(text)` to a table."""
    return lambda raw: _rewrite(raw / f"{table}.csv.gz", lambda text: text + line(text) + "\n")


def _foreign_ids(raw: Path) -> None:
    for name in ("CHARTEVENTS", "OUTPUTEVENTS"):
        _replace(name, "200", "900")(raw)


BAD_TABLES = {
    "a missing table": (
        lambda raw: (raw / "LABEVENTS.csv.gz").unlink(),
        "no LABEVENTS.csv.gz; give --raw .* PhysioNet",
    ),
    "a truncated gz": (
        lambda raw: _cut(raw / "CHARTEVENTS.csv.gz", 150),
        "CHARTEVENTS.csv.gz: .*cut short",
    ),
    "an empty file": (lambda raw: _cut(raw / "PATIENTS.csv.gz", 0), "PATIENTS.csv.gz: empty"),
    "no gz at all": (
        lambda raw: (raw / "PATIENTS.csv.gz").write_text("SUBJECT_ID"),
        "PATIENTS.csv.gz: .*damaged",
    ),
    "a missing column": (_replace("ADMISSIONS", "DEATHTIME", "DEATH"), "no column DEATHTIME"),
    "MIMIC-IV": (_replace("CHARTEVENTS", "ICUSTAY_ID", "stay_id"), "layout of MIMIC-IV"),
    "text for a number": (
        _replace("CHARTEVENTS", ',61,""', ',"many",""'),
        "CHARTEVENTS.*'many'",
    ),
    "a row too short": (_append("CHARTEVENTS", lambda _: "7,8"), "CHARTEVENTS.*Columns: 9"),
    "no wanted item": (_replace("CHARTEVENTS", ",211,", ",212,"), "CHARTEVENTS.*no row of use"),
    "foreign ids": (_foreign_ids, "no row's HADM_ID, ICUSTAY_ID is in ICUSTAYS"),
    "a patient twice": (
        _append("PATIENTS", lambda text: text.splitlines()[1]),
        "SUBJECT_ID is .*repeated",
    ),
    "text that is not UTF-8": (
        lambda raw: _put_bytes(raw / "ADMISSIONS.csv.gz", b"EMERGENCY", b"\xc9MERGENCY"),
        "ADMISSIONS.*Invalid unicode",
    ),
    "an open quotation mark": (
        _append("OUTPUTEVENTS", lambda text: text.splitlines()[1] + '\n1,"2' + "\n3" * 9),
        "OUTPUTEVENTS.*unterminated quote",
    ),
    "two kinds of line ends": (
        _append("OUTPUTEVENTS", lambda text: text.splitlines()[1] + "\r"),
        "OUTPUTEVENTS.csv.gz: some of its lines end in CRLF, others in LF; correct it",
    ),
    "two spellings of a table": (
        lambda raw: (raw / "admissions.CSV.gz").write_bytes(b""),
        "ADMISSIONS.csv.gz: admissions.CSV.gz is the same table; remove one",
    ),
    "nobody left": (_replace("PATIENTS", "2060", "2090"), "no admission passes.*older: 0"),
}


def _put_bytes(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("spoil, message", BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables_are_one_line_and_leave_what_was_there(raw, tmp_path, spoil, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mimic.npz").write_bytes(b"before")
    spoil(raw)
    with pytest.raises(DataError, match=message) as error:
        extract(raw, tmp_path / "out")
    assert "\n" not in str(error.value) and (tmp_path / "out/mimic.npz").read_bytes() == b"before"
    with pytest.raises(DataError, match=message):
        extract(raw, tmp_path / "new" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_table_that_does_not_fit_its_release_is_named():
    assert release_of(V1_4) == "MIMIC-III v1.4"
    assert release_of({**DEMO, "PATIENTS": 99}) == "unknown"
    with pytest.raises(DataError, match="CHARTEVENTS has 330,000,000 rows, but MIMIC-III v1.4"):
        release_of({**V1_4, "CHARTEVENTS": 330_000_000})
    with pytest.raises(DataError, match="a/SERVICES.csv has 1 rows, but MIMIC-III demo"):
        release_of({**DEMO, "SERVICES": 1}, {"SERVICES": "a/SERVICES.csv"})


def test_of_a_plain_file_and_its_gzip_it_is_said_which_is_read(raw, tmp_path, capsys):
    packed = raw / "PATIENTS.csv.gz"
    (raw / "PATIENTS.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.write_bytes(b"half of it")
    extract(raw, tmp_path / "out")
    assert f"{raw}/PATIENTS.csv is read, not PATIENTS.csv.gz beside it" in capsys.readouterr().out


def test_paths_that_duckdb_would_take_for_others_work_or_are_named(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw.rename("~raw")
    assert extract(Path("~raw"), tmp_path / "out")
    for name in ("what?", os.fsdecode(b"b\xff")):
        Path(name).mkdir()
        with pytest.raises(SettingsError, match=rf"{re.escape(name)}: DuckDB takes no path"):
            extract(Path("~raw"), Path(name))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--horizon-hours", "24", "--bin-hours", "5"], "no multiple of --bin-hours 5"),
        (["--bin-hours", "0"], "--bin-hours 0"),
        (["--horizon-hours", "nan"], "--horizon-hours nan"),
        (["--memory-gb", "0"], "--memory-gb 0"),
        (["--mode", "best"], "--mode"),
        (["--im-pk", "x.pk"], "either --raw DIR or --im-pk"),
    ],
)
def test_a_wrong_setting_is_one_line(raw, tmp_path, options, message):
    with pytest.raises(SettingsError, match=message) as error:
        main(["--raw", str(raw), "--out", str(tmp_path / "out"), *options])
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_command_exits_2_for_settings_and_3_for_data_without_a_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "AVMNIST_and_MIMIC.prepare_mimic",
        "--out",
        str(tmp_path / "out"),
    ]
    for code, options in ((2, []), (3, ["--raw", str(tmp_path / "nowhere")])):
        result = subprocess.run(
            [*command, *options], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert result.returncode == code
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("error: ")


def test_report_lines_are_pass_differs_or_not_judged(capsys):
    report = Report()
    report.equal("rows", 3, 3)
    report.within("share", 0.5, 0, 0.4)
    report.skip("counts", "synthetic data")
    assert capsys.readouterr().out.splitlines() == [
        "PASS rows: 3",
        "DIFFERS share: 0.5 (expected 0 to 0.4)",
        "NOT JUDGED counts: synthetic data",
    ]
    assert report.differing == ["share"]


def _save(out: Path, **changes) -> None:
    """Change arrays and put the checksum right, so that only the structure can tell."""
    from AVMNIST_and_MIMIC.mimic.extraction.layout import write

    with np.load(out / "mimic.npz") as file:
        arrays = {name: changes.get(name, lambda x: x)(array) for name, array in file.items()}
    write(out, arrays, json.loads((out / "dataset.json").read_text()))


def _put(value, *index):
    def change(array):
        array[index] = value
        return array

    return change


DAMAGE = {
    "a missing file": (lambda out: (out / "mimic.npz").unlink(), "mimic.npz is missing"),
    "another byte": (lambda out: _flip(out / "mimic.npz"), "sha256 differs"),
    "a damaged description": (
        lambda out: (out / "dataset.json").write_text("{"),
        "dataset.json is damaged",
    ),
    "another dtype": (
        lambda out: _save(out, static=lambda x: x.astype(np.float64)),
        "static is float64",
    ),
    "other ids": (lambda out: _save(out, hadm_id=lambda x: x[::-1]), "hadm_id is not ascending"),
    "a repeated patient": (lambda out: _save(out, subject_id=_put(1001, 1)), "subject_id repeats"),
    "observed but missing": (
        lambda out: _save(out, series=_put(np.nan, 0, 0, 5)),
        r"NaN at \[0, 0, 5\]",
    ),
    "labels that contradict": (
        lambda out: _save(out, mortality_labels=_put(1, 0, 1)),
        "contradict each other",
    ),
}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


def test_check_names_every_damage(raw, tmp_path):
    for name, (spoil, message) in DAMAGE.items():
        out = tmp_path / name
        if name == next(iter(DAMAGE)):
            extract(raw, tmp_path / "good")
        out.mkdir()
        for file in ("mimic.npz", "dataset.json"):
            (out / file).write_bytes((tmp_path / "good" / file).read_bytes())
        spoil(out)
        with pytest.raises(DataError, match=message) as error:
            main(["--check", str(out)])
        assert "\n" not in str(error.value)
