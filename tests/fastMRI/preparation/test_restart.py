"""A preparation that was interrupted, or is given again, with other files or settings."""

import errno
import json
import os
import shutil
from pathlib import Path

import h5py
import pytest

from fastMRI.data import _fingerprint
from fastMRI.preparation import cache, pipeline
from fastMRI.prepare import main
from i2m2.errors import BusyError, DataError, SettingsError
from tests.conftest import held_by_another
from tests.fastMRI.preparation.tiny_raw import (
    NO_ROWS,
    arguments,
    knee,
    rows_of,
    stored,
    write_raw,
)


def test_same_command_again_changes_nothing(raw, prepared, capsys):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*.*")}
    main(arguments(raw, prepared))
    assert "prepared already: 9 of 9" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*.*")} == before


def test_broken_off_preparation_goes_on(few, tmp_path, monkeypatch, capsys):
    whole, out = tmp_path / "whole", tmp_path / "out"
    main(arguments(few, whole))
    write, written = cache.write_volume, []

    def killed_at_the_third(path, *rest):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(cache, "write_volume", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(few, out))
    monkeypatch.undo()
    assert not (out / "dataset.json").exists()
    (out / "volumes/.99.tmp.file1000002.h5").write_bytes(b"half of a file")
    with pytest.raises(DataError, match="has not finished"):
        main(["--check", str(out)])
    capsys.readouterr()
    main(arguments(few, out))
    assert "prepared already: 2 of 5" in capsys.readouterr().out
    made, expected = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (out, whole)
    )
    assert made == expected


def test_a_second_start_leaves_what_the_first_is_writing(few, tmp_path):
    writing = tmp_path / "out/volumes/.host-1.tmp.file1000002.h5"
    with held_by_another(tmp_path / "out"):
        writing.parent.mkdir()
        writing.touch()
        with pytest.raises(BusyError, match="out: another process is at work"):
            main(arguments(few, tmp_path / "out"))
        assert writing.exists()


def contents(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("given", ["--raw", "--multicoil"])
@pytest.mark.parametrize("linked", [False, True])
def test_raw_files_are_never_overwritten(few, tmp_path, given, linked):
    out, own = tmp_path / "out", few / "volumes"
    (few / "singlecoil_train").rename(own)
    raw, others = own, tmp_path / "others"
    if given == "--multicoil":
        raw = shutil.copytree(own, others)
    if linked:
        out.mkdir()
        (out / "volumes").symlink_to(own)
    before = contents(tmp_path)
    coils = ["--multicoil", str(own)] if given == "--multicoil" else []
    command = ["--raw", str(raw), *arguments(few, out if linked else few, "--skip-bad")[2:], *coils]
    with pytest.raises(SettingsError, match="file1000000.h5: would be written over the raw file"):
        main(command)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["volumes/file1000000.h5", "volumes/mine.h5", "slices.csv"])
def test_files_of_others_are_refused_and_stay(few, tmp_path, place):
    theirs = tmp_path / "out" / place
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"of somebody else")
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"{place}: not written by this preparation"):
        main(arguments(few, tmp_path / "out", "--skip-bad"))
    assert contents(tmp_path) == before


def test_a_full_disk_is_one_error_that_names_the_volume(few, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device: .*file1000000.h5") as error:
        main(arguments(few, tmp_path / "out"))
    assert error.value.errno == errno.ENOSPC


def test_new_and_replaced_raw_files_are_prepared(few, tmp_path, capsys):
    moved = few / "singlecoil_train/file1000004.h5"
    later = moved.rename(tmp_path / "later.h5")
    main(arguments(few, tmp_path / "out", "--split", "volume"))
    later.rename(moved)
    write_raw(few / "singlecoil_train/file1000000.h5", knee(368, 1), "p0")
    capsys.readouterr()
    main(arguments(few, tmp_path / "out", "--split", "volume"))
    assert "prepared already: 3 of 5" in capsys.readouterr().out
    assert stored(tmp_path / "out", "file1000000")[1]["width"] == 368
    assert len(rows_of(tmp_path / "out")) == 5
    main(["--check", str(tmp_path / "out"), "--workers", "1"])
    moved.unlink()
    says = "1 volumes that are not among the raw ones, such as file1000004"
    with pytest.raises(SettingsError, match=says):
        main(arguments(few, tmp_path / "out", "--split", "volume"))


def exchange(path):
    """Another phase."""
    with h5py.File(path, "r+") as file:
        file["kspace"][()] = -file["kspace"][()]


def name_patient(path):
    with h5py.File(path, "r+") as file:
        file.attrs.modify("patient_id", "q2")


@pytest.mark.parametrize(
    "change, kind",
    [(exchange, "singlecoil"), (exchange, "multicoil"), (name_patient, "singlecoil")],
)
def test_an_exchanged_raw_file_is_noticed_though_its_size_is_the_same(
    few, tmp_path, change, kind, capsys
):
    shutil.copytree(few / "singlecoil_train", few / "multicoil_train")
    for path in (few / "multicoil_train").iterdir():
        with h5py.File(path, "r+") as file:
            coils = file["kspace"][()][:, None]
            del file["kspace"]
            file["kspace"] = coils
        with h5py.File(few / "singlecoil_train" / path.name, "r+") as file:
            file["reconstruction_rss"][()] = file["reconstruction_esc"][()]
    options = ["--multicoil", str(few), "--average", "16"]
    main(arguments(few, tmp_path / "out", *options))
    path = few / f"{kind}_train/file1000002.h5"
    size = path.stat().st_size
    change(path)
    assert path.stat().st_size == size
    capsys.readouterr()
    main(arguments(few, tmp_path / "out", *options))
    assert "prepared already: 4 of 5" in capsys.readouterr().out


def of_an_earlier_version(out):
    """Of the raw volumes' content dataset.json said nothing."""
    described = json.loads((out / "dataset.json").read_text())
    del described["sources"]
    (out / "dataset.json").write_text(json.dumps(described, indent=2) + "\n")


@pytest.mark.parametrize("earlier", [False, True])
def test_runs_know_volumes_of_other_content_as_other_data(few, tmp_path, earlier):
    out = tmp_path / "out"
    main(arguments(few, out, "--average", "16"))
    if earlier:
        of_an_earlier_version(out)
    before = _fingerprint(out)
    main(arguments(few, out, "--average", "16"))
    assert _fingerprint(out) == before
    exchange(few / "singlecoil_train/file1000002.h5")  # shape, labels and checks stay
    main(arguments(few, out, "--average", "16"))
    assert _fingerprint(out) != before
    main(["--check", str(out), "--workers", "1"])


def test_dataset_json_goes_before_a_volume_is_exchanged(few, tmp_path, monkeypatch):
    main(arguments(few, tmp_path / "out", "--average", "16"))
    of_an_earlier_version(tmp_path / "out")
    exchange(few / "singlecoil_train/file1000002.h5")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_finish", killed)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(few, tmp_path / "out", "--average", "16"))
    assert not (tmp_path / "out/dataset.json").exists()


def test_volumes_of_which_no_digest_is_recorded_are_prepared_anew(few, tmp_path, capsys):
    main(arguments(few, tmp_path / "out", "--average", "16"))
    of_an_earlier_version(tmp_path / "out")
    described = (tmp_path / "out/dataset.json").read_bytes()
    with h5py.File(tmp_path / "out/volumes/file1000002.h5", "r+") as file:
        del file.attrs["source_digest"]
    capsys.readouterr()
    main(arguments(few, tmp_path / "out", "--average", "16"))
    printed = capsys.readouterr().out
    assert "prepared already: 4 of 5" in printed and "prepared anew: 1 volumes" in printed
    assert (tmp_path / "out/dataset.json").read_bytes() == described  # runs on it can be resumed


@pytest.mark.parametrize(
    "more, says",
    [
        (["--scale", "max"], "scale percentile, now max;"),
        (
            ["--average", "2", "--geometry", "official_code"],
            "average 1, now 2, geometry native, now official_code;",
        ),
        (["--split", "volume"], "split auto, now volume;"),
    ],
)
def test_folder_of_other_settings_is_refused(raw, prepared, more, says):
    with pytest.raises(SettingsError, match=says):
        main(arguments(raw, prepared, *more))


def test_folder_of_other_annotations_is_refused_and_can_be_labelled_anew(few, tmp_path):
    out = tmp_path / "out"
    main(arguments(few, out))
    (few / "knee.csv").write_text(NO_ROWS + "file1000001,0,No,1,2,3,4,Meniscus Tear\n")
    says = "annotations knee.csv .*, now knee.csv .*delete dataset.json"
    with pytest.raises(SettingsError, match=says):
        main(arguments(few, out))
    (out / "dataset.json").unlink()
    main(arguments(few, out))
    assert [row["meniscus"] for row in rows_of(out)] == ["0", "1", "0", "0", "0"]


def test_lists_under_other_names_are_the_same_lists(few, tmp_path):
    main(arguments(few, tmp_path / "out", "--average", "16"))
    described = (tmp_path / "out/dataset.json").read_bytes()
    (few / "knee.csv").rename(few / "knee (1).csv")
    command = arguments(few, tmp_path / "out", "--average", "16")
    main([word.replace("knee.csv", "knee (1).csv") for word in command])
    assert (tmp_path / "out/dataset.json").read_bytes() == described
