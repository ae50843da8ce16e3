"""python -m fastMRI.prepare: what is written, for every width, and by every option."""

import json
import shutil

import h5py
import numpy as np
import pytest

from fastMRI.preparation.fourier import image_of
from fastMRI.preparation.labels import LABELS
from fastMRI.preparation.pipeline import find_volumes
from fastMRI.preparation.split import split
from fastMRI.preparation.volumes import Rules, read_volume
from fastMRI.prepare import main
from i2m2.errors import DataError, SettingsError
from tests.fastMRI.preparation.tiny_raw import (
    WIDTHS,
    arguments,
    centre,
    knee,
    kspace_of,
    rows_of,
    stored,
    write_lists,
    write_raw,
)


@pytest.mark.parametrize("index, width", list(enumerate(WIDTHS)))
def test_prepared_volume_is_the_scaled_image(prepared, index, width):
    image, facts = stored(prepared, f"file10000{index:02}")
    rss, _ = stored(prepared, f"file10000{index:02}", "rss")
    expected = centre(knee(width))
    scale = np.percentile(np.abs(expected), 99.5)
    assert image.dtype == np.complex64 and rss.dtype == np.float32
    assert image.shape == rss.shape == (2, 320, 320)
    assert facts["scale"] == pytest.approx(scale, rel=1e-5)
    assert facts["width"] == facts["header_width"] == width
    assert np.abs(image - expected / scale).max() < 1e-5
    assert np.abs(rss - 1.1 * np.abs(expected) / scale).max() < 1e-5
    assert facts["esc_deviation"] < 2e-6
    assert (facts["acquisition"], facts["patient_id"]) == ("CORPD_FBK", f"p{min(index, 7)}")
    assert list(facts["acquired"]) == [0, width]
    with h5py.File(prepared / f"volumes/file10000{index:02}.h5") as file:
        assert file["image"].chunks == (1, 320, 320) and file["image"].compression is None


def test_table_lists_every_slice_with_its_labels(prepared):
    rows = rows_of(prepared)
    assert list(rows[0]) == ["volume", "slice", "part", "patient", *LABELS]
    keys = [(row["volume"], row["slice"]) for row in rows]
    assert keys == [(f"file10000{i:02}", str(s)) for i in range(9) for s in range(2)]
    labels = {
        key: [int(row[label]) for label in LABELS] for key, row in zip(keys, rows, strict=True)
    }
    assert labels.pop(("file1000001", "1")) == [1, 0, 1, 0]
    assert labels.pop(("file1000003", "0")) == [1, 1, 0, 0]
    # Nor slice 0 of file1000000, whose row is about the study.
    assert not any(map(any, labels.values()))


def test_description_holds_counts_and_audit(prepared, capsys):
    facts = json.loads((prepared / "dataset.json").read_text())
    assert facts["dataset"] == "fastmri" and facts["variant"] == "native"
    assert facts["synthetic"] is False and facts["labels"] == list(LABELS)
    assert sum(part["slices"] for part in facts["counts"].values()) == 18
    assert sum(part["others"]["slices"] for part in facts["counts"].values()) == 2
    assert facts["class_counts"]["train"]["acl"][1] == facts["counts"]["train"]["acl"]["slices"]
    audit = facts["audit"]
    assert audit["raw_volumes"] == audit["prepared_volumes"] == 9
    assert audit["listed_volumes_without_raw_file"] == 1
    assert audit["widths"] == {str(width): 1 for width in sorted(WIDTHS)}
    assert audit["annotations"]["unknown_labels"] == {"Baker's thing": 1}
    assert audit["annotations"]["duplicates"] == 1
    assert audit["annotations"]["trailing_blanks"] == 2
    assert facts["split"]["by"] == "patient"
    assert facts["split"]["patients_with_several_volumes"] == 1
    assert len({row["part"] for row in rows_of(prepared) if row["patient"] == "p7"}) == 1
    main(["--check", str(prepared), "--workers", "1"])
    printed = capsys.readouterr().out
    for says in ("checked, all well", "5,658 / 663", "widths: 300 (1), 301 (1), 320 (1)"):
        assert says in printed


def test_a_few_volumes_are_prepared_for_looking_at_them_and_are_all_train(few, tmp_path, capsys):
    for index in (3, 4):
        (few / f"singlecoil_train/file100000{index}.h5").unlink()
    rows = "file1000001,0,No,1,2,3,4,Meniscus Tear\n"
    write_lists(few, [f"file100000{index}" for index in range(3)], rows)
    main(arguments(few, tmp_path / "out"))
    assert "no volume in val and test: too few to train with" in capsys.readouterr().out
    assert {row["part"] for row in rows_of(tmp_path / "out")} == {"train"}
    main(["--check", str(tmp_path / "out"), "--workers", "1"])


def name_patients(raw, patients):
    for path, patient in zip(sorted(raw.glob("*/*.h5")), patients, strict=True):
        with h5py.File(path, "r+") as file:
            file.attrs["patient_id"] = patient


@pytest.mark.parametrize("split", ["auto", "patient", "volume"])
def test_ids_of_too_few_patients_are_refused_until_they_are_their_own(few, tmp_path, split):
    command = arguments(few, tmp_path / "out", "--average", "16", "--split", split)
    name_patients(few, ["anon"] * 5)
    says = "patient_id of all 5 raw volumes is anon, but .* need at least 4 patients"
    with pytest.raises(DataError, match=says):
        main(command)
    assert not (tmp_path / "out/dataset.json").exists()
    name_patients(few, ["a", "b", "c", "d", "e"])
    main(command)
    assert {row["part"] for row in rows_of(tmp_path / "out")} == {"train", "val", "test"}


def test_a_split_by_volume_that_training_refuses_is_refused_before(few, tmp_path, capsys):
    part_of = split(f"file100000{index}" for index in range(5))
    names = {part: name for name, part in part_of.items()}
    twice = names["train"], names["test"]
    name_patients(few, ["p" if name in twice else name for name in sorted(part_of)])
    command = arguments(few, tmp_path / "out", "--average", "16", "--split")
    with pytest.raises(SettingsError, match="1 patients, such as p, have volumes in train and in"):
        main([*command, "volume"])
    main([*command, "patient"])
    assert "prepared already: 5 of 5" in capsys.readouterr().out


def test_processes_do_not_matter(few, tmp_path):
    main(arguments(few, tmp_path / "one"))
    main(arguments(few, tmp_path / "two", "--workers", "2"))
    for path in sorted((tmp_path / "one").rglob("*.*")):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


def test_options_change_what_they_say(few, tmp_path):
    main(arguments(few, tmp_path / "plain"))
    main(arguments(few, tmp_path / "four", "--average", "4", "--scale", "max"))
    plain, facts = stored(tmp_path / "plain", "file1000003")
    small, of_max = stored(tmp_path / "four", "file1000003")
    assert of_max["scale"] == pytest.approx(np.abs(plain).max() * facts["scale"], rel=1e-5)
    means = (plain * facts["scale"]).reshape(1, 80, 4, 80, 4).mean(axis=(2, 4))
    assert small.shape == (1, 80, 80) and np.allclose(small * of_max["scale"], means, atol=1e-9)
    assert json.loads((tmp_path / "four/dataset.json").read_text())["variant"] == "native-avg4-max"
    main(["--check", str(tmp_path / "four"), "--workers", "1"])


def test_official_code_is_stored_and_refuses_wide_volumes(raw, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"file1000006.h5: 404 columns .* 400 at most"):
        main(arguments(raw, out, "--geometry", "official_code"))
    main(arguments(raw, out, "--geometry", "official_code", "--skip-bad"))
    image, facts = stored(out, "file1000002")
    assert "esc_deviation" not in facts
    expected = image_of(kspace_of(knee(369)), "official_code")
    assert np.allclose(image * facts["scale"], expected, atol=1e-9)
    described = json.loads((out / "dataset.json").read_text())
    assert described["variant"] == "official_code"
    assert list(described["audit"]["dropped"]) == ["file1000006"]


def test_rss_is_computed_from_the_coils(few, tmp_path):
    images = [knee(320, 1, seed) * factor for seed, factor in ((7, 1), (8, 0.5j), (9, 2))]
    coils = np.stack(images, axis=1)  # [S, coils, H, W]
    expected = np.sqrt((np.abs(centre(coils)) ** 2).sum(axis=1))
    for index in range(5):
        name = f"file10000{index:02}.h5"
        write_raw(few / "multicoil_train" / name, knee(320, 1), kspace=kspace_of(coils))
        with h5py.File(few / "singlecoil_train" / name, "r+") as file:
            file["reconstruction_rss"][()] = expected
    main(arguments(few, tmp_path / "out", "--multicoil", str(few)))
    rss, facts = stored(tmp_path / "out", "file1000000", "rss")
    assert np.allclose(rss * facts["scale"], expected, atol=1e-9)
    assert facts["rss_deviation"] < 1e-6
    (few / "multicoil_train/file1000002.h5").unlink()
    with pytest.raises(DataError, match="file1000002.h5: the multi-coil folders have no volume"):
        main(arguments(few, tmp_path / "again", "--multicoil", str(few)))


def test_note_makes_it_synthetic(few, tmp_path, capsys):
    (few / "SYNTHETIC.txt").write_text("made\nup\n")
    folder_itself = ["--raw", str(few / "singlecoil_train")]
    main([*folder_itself, *arguments(few, tmp_path / "out")[2:]])
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    assert facts["variant"] == "synthetic-native" and facts["synthetic"] is True
    assert facts["description"] == "made up"
    assert "paper" not in capsys.readouterr().out


def test_bad_volumes_stop_or_are_listed(few, tmp_path, capsys):
    folder = few / "singlecoil_train"
    esc = np.ones((1, 320, 320), np.float32)
    write_raw(folder / "file1000001.h5", knee(320, 1), "p1", reconstruction_esc=esc)
    write_raw(folder / "file1000050.h5", knee(320, 1), "p1")
    write_raw(folder / "file1000051.h5", knee(320, 1), "p5")
    names = [f"file10000{index:02}" for index in (*range(5), 51)]
    write_lists(few, names, "file1000051,1,No,1,2,3,4,Meniscus Tear\n")
    with pytest.raises(DataError, match="file1000050.h5: not in .*knee_file_list.csv"):
        main(arguments(few, tmp_path / "out"))
    (folder / "file1000050.h5").rename(tmp_path / "file1000050.h5")
    says = "file1000001.h5: the inverse FFT .* deviates from reconstruction_esc .*--skip-bad"
    with pytest.raises(DataError, match=says):
        main(arguments(few, tmp_path / "out"))
    (tmp_path / "file1000050.h5").rename(folder / "file1000050.h5")
    main(arguments(few, tmp_path / "out", "--skip-bad"))
    dropped = json.loads((tmp_path / "out/dataset.json").read_text())["audit"]["dropped"]
    assert list(dropped) == ["file1000050", "file1000001", "file1000051"]
    assert dropped["file1000050"] == "not in the file list" and "deviates" in dropped["file1000001"]
    says = "file1000051.h5: slice 1 is annotated, but there are only 0 to 0"
    assert says in dropped["file1000051"]
    assert "dropped file1000051: " in capsys.readouterr().out
    prepared = sorted(path.stem for path in (tmp_path / "out/volumes").iterdir())
    assert prepared == [f"file10000{index:02}" for index in (0, 2, 3, 4)]
    main(["--check", str(tmp_path / "out"), "--workers", "1"])


@pytest.mark.parametrize(
    "rows, says",
    [
        ("", "knee.csv: no slice is annotated"),
        ("file1000004,0,Yes,,,,,artifact\n", "knee.csv: no slice is annotated"),
        ("knee4,0,No,1,2,3,4,Meniscus Tear\n", "none of its 1 annotated volumes, such as knee4"),
    ],
)
def test_annotations_of_no_listed_volume_are_no_negatives(few, tmp_path, rows, says):
    write_lists(few, [f"file100000{index}" for index in range(5)], rows)
    with pytest.raises(DataError, match=says):
        main(arguments(few, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_suffix_of_a_volume_may_be_in_capitals(few):
    (few / "singlecoil_train/file1000002.h5").rename(few / "singlecoil_train/file1000002.H5")
    assert list(find_volumes([few])) == [f"file100000{index}" for index in range(5)]


def test_folders_without_volumes_and_with_repeated_ones_are_refused(few, tmp_path):
    remedy = "give the folder that holds singlecoil_train and singlecoil_val"
    for folder, says in ((tmp_path / "none", "no such folder"), (few.parent, "no .h5 files there")):
        with pytest.raises(DataError, match=f"{says}; {remedy}"):
            find_volumes([folder])
    shutil.copytree(few / "singlecoil_train", few / "singlecoil_val")
    with pytest.raises(DataError, match="has the same name"):
        find_volumes([few])


def test_test_data_are_refused_with_a_reason(raw, tmp_path):
    with pytest.raises(DataError, match=r"file1000077.h5: not in|mask"):
        main(["--raw", str(raw / "singlecoil_test"), *arguments(raw, tmp_path / "out")[2:]])
    with pytest.raises(DataError, match="mask"):
        read_volume(raw / "singlecoil_test/file1000077.h5", Rules())


@pytest.mark.parametrize(
    "more, says",
    [
        (["--average", "3"], "--average 3 does not divide 320"),
        (["--average", "0"], "--average 0 does not divide 320"),
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--geometry", "other"], "invalid choice: 'other'"),
    ],
)
def test_bad_settings_are_refused(raw, tmp_path, more, says):
    with pytest.raises(SettingsError, match=says):
        main(arguments(raw, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given",
    [[], ["--raw", "x"], ["--annotations", "x"], ["--annotations", "x", "--file-list", "y"]],
)
def test_missing_options_are_named(given):
    with pytest.raises(SettingsError, match="--(annotations|raw)"):
        main(given)
