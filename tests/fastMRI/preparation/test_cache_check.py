"""python -m fastMRI.prepare --check names what is damaged."""

import shutil

import h5py
import numpy as np
import pytest

from fastMRI.prepare import main
from i2m2.errors import DataError
from tests.fastMRI.preparation.tiny_raw import NO_ROWS


def change(key, index, value):
    def spoil(out):
        with h5py.File(out / "volumes/file1000002.h5", "r+") as file:
            file[key][index] = value

    return spoil


def replace(name, old, new):
    def spoil(out):
        path = out / name
        path.write_text(path.read_text().replace(old, new, 1))

    return spoil


def remove(name):
    return lambda out: (out / name).unlink()


def add_volume(out):
    shutil.copy(out / "volumes/file1000002.h5", out / "volumes/file9.h5")


def truncate(out):
    path = out / "volumes/file1000002.h5"
    path.write_bytes(path.read_bytes()[:-5_000])


@pytest.mark.parametrize(
    "spoil, says",
    [
        (change("image", (0, 5, 5), np.nan), "file1000002.h5: image of slice 0 holds NaN"),
        (change("rss", 0, 0), "file1000002.h5: rss of slice 0 is empty: zero everywhere"),
        (change("rss", (0, 5, 5), 7), "file1000002.h5: differs from what was written"),
        (truncate, "file1000002.h5: is damaged"),
        (remove("volumes/file1000002.h5"), "1 volumes are missing, such as file1000002.h5"),
        (add_volume, "not in slices.csv, such as file9.h5"),
        (replace("slices.csv", "train", "val"), "slices.csv: its sha256 is not the one in "),
        (remove("slices.csv"), "slices.csv beside it is missing"),
        (replace("dataset.json", '"slices": 3,', '"slices": 4,'), "dataset.json: its counts"),
        (replace("dataset.json", '_hash": "', '_hash": "x'), "was made with other settings"),
        (replace("dataset.json", "{", "["), "dataset.json is damaged"),
        (replace("dataset.json", '"checks"', '"cheques"'), "no checks"),
        (replace("dataset.json", '"raw_volumes": 5', '"raw_volumes": null'), "raw_volumes"),
        (remove("dataset.json"), "dataset.json is missing, so the preparation has not finished"),
        (shutil.rmtree, "dataset.json is missing, as is the folder"),
    ],
)
def test_check_names_what_is_damaged(few_prepared, tmp_path, spoil, says):
    out = shutil.copytree(few_prepared[1], tmp_path / "copy")
    spoil(out)
    with pytest.raises(DataError, match=says):
        main(["--check", str(out), "--workers", "1"])


def test_check_compares_the_labels_with_the_annotations(few_prepared, tmp_path, capsys):
    few, out = few_prepared
    lists = ["--annotations", str(tmp_path / "knee.csv")]
    lists += ["--file-list", str(few / "knee_file_list.csv")]
    shutil.copy(few / "knee.csv", tmp_path)
    main(["--check", str(out), "--workers", "1", *lists])
    assert "labels: as in" in capsys.readouterr().out
    (tmp_path / "knee.csv").write_text(NO_ROWS + "file1000002,0,No,1,2,3,4,Meniscus Tear\n")
    with pytest.raises(DataError, match="the labels of volume file1000002 are not those of"):
        main(["--check", str(out), "--workers", "1", *lists])
