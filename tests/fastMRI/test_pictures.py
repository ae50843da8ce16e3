"""python -m fastMRI.pictures: boxes lie where the findings are."""

import shutil
from pathlib import Path

import h5py
import matplotlib.image
import numpy as np
import pytest

from fastMRI import pictures
from fastMRI.make_synthetic import make_volumes
from fastMRI.preparation.cache import read_facts
from fastMRI.preparation.pipeline import prepare
from fastMRI.preparation.volumes import Rules
from fastMRI.synthetic.plan import Strengths
from i2m2.errors import DataError

HEAD = "file,slice,study_level,x,y,width,height,label\n"
BOX = "file9000001,2,No,10,20,30,40,Meniscus Tear\n"


def test_boxes_are_turned_the_right_way_up(tmp_path):
    path = tmp_path / "knee.csv"
    path.write_text(HEAD + BOX + "file9000001,0,Yes,,,,,artifact\n")
    box = pictures.Box("meniscus", 10, 260, 30, 40)  # 320 - 20 - 40 rows from the top
    assert pictures.read_boxes(path) == {("file9000001", 2): [box]}


def test_a_box_without_numbers_is_refused(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(HEAD + BOX.replace(",10,", ",ten,"))
    with pytest.raises(DataError, match="bad.csv: line 2: no box can be read"):
        pictures.read_boxes(path)


def prepared(folder: Path, magnitude: float) -> Path:
    """Four generated volumes whose findings show in the magnitude alone, prepared at 80 x 80
    pixels."""
    raw = folder / "raw"
    make_volumes(raw, 4, strengths=Strengths(magnitude, 0.0, 0.0), slices=(3, 3), workers=1)
    lists = raw / "knee.csv", raw / "knee_file_list.csv"
    prepare([raw], *lists, folder, Rules(average=4), workers=1)
    return folder


@pytest.fixture(scope="module")
def ill(tmp_path_factory) -> Path:
    return prepared(tmp_path_factory.mktemp("ill"), 2.0)


def in_boxes(boxes: list[pictures.Box], side: int = 80, scale: int = 4) -> np.ndarray:
    """Which pixels of the averaged image lie in a box."""
    inside = np.zeros((side, side), bool)
    for _, left, top, width, height in boxes:
        rows = slice(int(top / scale), int((top + height) / scale) + 1)
        columns = slice(int(left / scale), int((left + width) / scale) + 1)
        inside[rows, columns] = True
    return inside


def test_boxes_hold_what_differs_from_a_healthy_knee(ill, tmp_path):
    healthy = prepared(tmp_path / "healthy", 0.0)
    boxes = pictures.read_boxes(ill / "raw/knee.csv")
    inside, outside = [], []
    for volume in (ill / "volumes").glob("*.h5"):
        with h5py.File(volume) as file, h5py.File(healthy / "volumes" / volume.name) as other:
            # The 99.5th percentile, by which each is divided, differs.
            ratio = file.attrs["scale"] / other.attrs["scale"]
            difference = np.abs(file["image"][:]) * ratio - np.abs(other["image"][:])
        for index, image in enumerate(difference):
            held = in_boxes(boxes.get((volume.stem, index), []))
            inside.append(image[held])
            outside.append(image[~held])
    assert np.concatenate(inside).mean() > 10 * np.abs(np.concatenate(outside)).mean()


def test_slices_of_different_volumes_are_drawn(ill, capsys):
    pictures.main([str(ill), "--annotations", str(ill / "raw/knee.csv"), "--slices", "2"])
    assert matplotlib.image.imread(ill / "slices.png").shape[0] > 700
    chosen = capsys.readouterr().out.partition("(")[2].split(", ")
    assert len({text.split()[0] for text in chosen}) == 2


def test_other_annotations_than_the_folders_are_refused(ill, tmp_path):
    other = tmp_path / "knee.csv"
    other.write_text((ill / "raw/knee.csv").read_text() + BOX)
    with pytest.raises(DataError, match="is not the file .* was labelled with"):
        pictures.main([str(ill), "--annotations", str(other)])


def without_width(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["width"]


def without_image(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["image"]


def with_one_slice(path: Path) -> None:
    with h5py.File(path, "a") as file:
        image = file["image"][:1]
        del file["image"]
        file["image"] = image


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "a damaged one .*truncated"),
        (without_image, "has no array image, only rss"),
        (without_width, "a damaged one .*width"),
        (with_one_slice, "a damaged one .*out of range"),
    ],
)
def test_a_damaged_volume_is_named_with_what_to_do(damage, says, ill, tmp_path):
    folder = shutil.copytree(ill, tmp_path / "damaged")
    key = max(pictures.read_boxes(ill / "raw/knee.csv"), key=lambda key: key[1])
    damage(folder / "volumes" / f"{key[0]}.h5")
    with pytest.raises(DataError, match=f"{key[0]}.h5: .*{says}.*; delete it and give the command"):
        pictures.draw(folder, [key], {key: []}, read_facts(folder))
