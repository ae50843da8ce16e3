"""fastMRI's loader: views of a complex image, lazy reading, class weights, bad input."""

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
import torch

from fastMRI.data import class_weights, load_fastmri, magnitude_of, phase_of
from fastMRI.settings import FastMRIData
from fastMRI.train import main
from i2m2.errors import DataError, SettingsError
from i2m2.losses import negative_log_likelihood
from i2m2.training.data import loader
from tests.fastMRI.tiny_fastmri import CONFIG, SMALL

RAW = FastMRIData(magnitude="raw")


def test_magnitude_is_in_units_of_the_volumes_scale_or_as_measured():
    image = torch.polar(torch.tensor([[[2.0, 1e-3]]]), torch.tensor([[[3.0, -2.0]]]))
    rss = torch.tensor([[[2.0, 1.0]]])
    scale = torch.tensor([5e-5])
    for given, settings, expected in (
        (image, FastMRIData(), [[[[2.0, 1e-3]]]]),
        (image, RAW, [[[[1e-4, 5e-8]]]]),
        (rss, FastMRIData(), [[[[2.0, 1.0]]]]),
        (rss, RAW, [[[[1e-4, 5e-5]]]]),
    ):
        view = magnitude_of(given, scale, settings)
        torch.testing.assert_close(view, torch.tensor(expected))


def test_phase_is_the_angle_or_its_cosine_and_sine():
    angle = torch.tensor([[[3.0, -2.0]]])
    image = torch.polar(torch.tensor([[[2.0, 1e-3]]]), angle)
    torch.testing.assert_close(phase_of(image, FastMRIData()), angle.unsqueeze(1))
    both = torch.stack([angle.cos(), angle.sin()], dim=1)
    torch.testing.assert_close(phase_of(image, FastMRIData(phase="cos_sin")), both)
    without_background = phase_of(image, FastMRIData(phase_background=0.1))
    torch.testing.assert_close(without_background, torch.tensor([[[[3.0, 0.0]]]]))


@pytest.mark.parametrize("mean", ["weighted", "unweighted"])
def test_subtracting_the_mean_phase_leaves_nothing_of_a_global_one(mean):
    image = torch.randn(3, 8, 8, dtype=torch.complex64)
    turned = image * torch.polar(torch.ones(3), torch.tensor([0.5, 2.0, -3.0])).view(3, 1, 1)
    settings = FastMRIData(phase_mean=mean, phase="cos_sin")
    view, expected = phase_of(turned, settings), phase_of(image, settings)
    torch.testing.assert_close(view, expected, rtol=1e-4, atol=1e-4)
    assert image.sum((1, 2)).angle().abs().min() > 0
    assert not torch.allclose(phase_of(image, FastMRIData()), expected[:, :1])


def test_workers_read_the_same_batches(fastmri_files):
    split = load_fastmri(FastMRIData(dir=str(fastmri_files))).splits["train"]
    split[[0]]  # opens a file before the workers are forked
    positions = [np.array([3, 17]), np.array([20, 1])]
    alone, with_workers = loader(split, positions), loader(split, positions, workers=2)
    for mine, theirs in zip(alone, with_workers, strict=True):
        assert torch.equal(mine["inputs"]["image"], theirs["inputs"]["image"])
        assert torch.equal(mine["y"], theirs["y"])


def test_a_table_that_is_not_the_one_described_is_refused(fastmri_files, tmp_path):
    folder = shutil.copytree(fastmri_files, tmp_path / "data")
    table, described = folder / "slices.csv", folder / "dataset.json"
    sha256 = hashlib.sha256(table.read_bytes()).hexdigest()
    recorded = json.loads(described.read_text()) | {"slices_csv_sha256": sha256}
    described.write_text(json.dumps(recorded))
    load_fastmri(FastMRIData(dir=str(folder)))
    table.write_text("\n".join(table.read_text().splitlines()[:-2]) + "\n")
    says = "slices.csv: its sha256 is not the one in dataset.json.*; prepare the data again"
    with pytest.raises(DataError, match=says):
        load_fastmri(FastMRIData(dir=str(folder)))


def test_only_what_is_needed_is_read(fastmri_files):
    split = load_fastmri(FastMRIData(dir=str(fastmri_files))).splits["val"]
    assert set(split.select(["rss"])[[0]]["inputs"]) == {"rss", "scale"}
    one = split.select(["phase"])
    assert set(one.prepare(one[[0]]["inputs"])) == {"phase"}


def test_more_training_slices_than_there_are_are_refused(fastmri_files):
    with pytest.raises(SettingsError, match="train_size=1000000 is above the"):
        load_fastmri(FastMRIData(dir=str(fastmri_files), train_size=1000000))


def test_class_weights_are_inverse_frequencies_and_give_both_classes_the_same_weight_in_all():
    y = np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    weights = class_weights(y)
    torch.testing.assert_close(weights, torch.tensor([[4 / 3, 4.0], [1.0, 1.0]]))
    log_prob = torch.full((4, 1, 2), 0.5).log()
    loss = negative_log_likelihood(log_prob, torch.from_numpy(y[:, :1]), weights[:1] / 2)
    assert loss[0].item() == pytest.approx(loss[1:].sum().item())
    # The mean weight over the training examples is 1.
    assert loss.mean().item() == pytest.approx(np.log(2))


def damage_volume(change):
    def damage(folder):
        with h5py.File(folder / "volumes/file9000002.h5", "a") as file:
            change(file)

    return damage


def with_nan(file):
    file["image"][2, 5, 5] = np.nan


def truncate(folder):
    path = folder / "volumes/file9000002.h5"
    path.write_bytes(path.read_bytes()[:3000])


def remove(name):
    return lambda folder: (folder / name).unlink()


def replace(name, old, new):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


def other_type(file):
    array = file["image"][()].astype(np.complex128)
    del file["image"]
    file["image"] = array


def other_scale(scale):
    return lambda file: file.attrs.modify("scale", scale)


@pytest.mark.parametrize(
    "damage, message",
    [
        (remove("dataset.json"), "dataset.json is missing; how to make it: fastMRI/README.md"),
        (remove("slices.csv"), "slices.csv is missing"),
        (
            remove("volumes/file9000002.h5"),
            "1 volumes that are not there, such as file9000002.h5",
        ),
        (truncate, "file9000002.h5: no HDF5 file, or a damaged one"),
        (damage_volume(with_nan), "file9000002.h5: slice 2 of image holds NaN"),
        (damage_volume(lambda file: file.pop("image")), "has no array image, only"),
        (replace("slices.csv", ",3,train,", ",9,train,"), "slice 9 of image cannot be read"),
        (replace("slices.csv", ",train,", ",training,"), "names parts .'training'."),
        (
            replace("slices.csv", "patient11", "patient0"),
            "test and train share 1 patients, such as patient0; delete .* with --split patient",
        ),
        (replace("slices.csv", "meniscus", "tear"), "slices.csv is missing or damaged"),
        (replace("slices.csv", ",3,train,", ",3.5,train,"), "slices.csv is missing or damaged"),
        (replace("slices.csv", ",3,train,", f",{10**30},train,"), "slices.csv is missing or dam"),
        (replace("slices.csv", ",3,train,", ",-1,train,"), "slices.csv is .* damaged .slice -1,"),
        (damage_volume(other_scale(0.0)), "file9000002.h5: its scale is 0.0, no positive number"),
        (damage_volume(other_scale(np.nan)), "file9000002.h5: its scale is nan, no positive"),
        (damage_volume(other_type), "image is complex128, not complex64; prepare the data again"),
    ],
)
def test_bad_data_are_named_with_file_and_remedy(damage, message, fastmri_files, tmp_path):
    folder = shutil.copytree(fastmri_files, tmp_path / "data")
    damage(folder)
    where = ["--data.dir", str(folder), "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=message) as error:
        main(["--config", CONFIG, "--method", "unimodal_magnitude", *where, *SMALL])
    assert "\n" not in str(error.value)
