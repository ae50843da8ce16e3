"""fastMRI beyond Fig. 2: products of separately trained networks (Fig. 3), noise at test time (Fig.
C.7), pictures of slices."""

import json

import h5py
import matplotlib.image
import numpy as np
import pytest
import torch
from scipy.stats import rice

from fastMRI import controls, noise, pictures
from fastMRI.data import FastMRIData, load_fastmri
from fastMRI.evaluate import main as evaluate
from fastMRI.make_synthetic import make_volumes
from fastMRI.preparation.volumes import Rules
from fastMRI.prepare import prepare
from fastMRI.synthetic.plan import Strengths
from fastMRI.train import main as train
from i2m2 import results
from i2m2.errors import DataError, SettingsError
from tests.conftest import FASTMRI_CONFIG


@pytest.fixture(scope="module")
def runs(fastmri_files, tmp_path_factory):
    """results/fastmri-...: three seeds of magnitude, one of phase and inter, one epoch each."""
    out = tmp_path_factory.mktemp("results")
    common = [
        "--config",
        FASTMRI_CONFIG,
        "--data.dir",
        str(fastmri_files),
        "--out",
        str(out),
        "--threads",
        "1",
    ]
    common += ["--optim.epochs", "1", "--model.width", "8", "--model.pool", "5"]
    for method, seed in [("unimodal_magnitude", s) for s in (0, 1, 2)] + [
        ("unimodal_phase", 0),
        ("inter", 0),
    ]:
        train([*common, "--method", method, "--seed", str(seed)])
    return next(out.iterdir())


def test_products_of_separate_networks_are_kept_beside_the_runs_and_fill_fig_3(runs, capsys):
    controls.main([str(runs)])
    printed = capsys.readouterr().out
    assert "product-3x_phase: not made, for want of finished seeds (unimodal_phase: 0)" in printed
    assert 'SEEDS="0 1 2" ROWS="unimodal_phase" bash scripts/fastmri.sh' in printed
    made = sorted(str(path.parent.relative_to(runs)) for path in runs.glob("product-*/*/DONE"))
    assert made == [
        "product-3x_magnitude/seed0",
        "product-magnitude-phase-inter/seed0",
        "product-magnitude-phase/seed0",
    ]
    parts = [
        np.load(runs / name / "seed0/predictions_test.npz")["log_prob"]
        for name in ("unimodal_magnitude", "unimodal_phase")
    ]
    product = np.load(runs / "product-magnitude-phase/seed0/predictions_test.npz")["log_prob"]
    by_hand = np.exp(parts[0].astype(float) + parts[1])
    np.testing.assert_allclose(np.exp(product), by_hand / by_hand.sum(-1, keepdims=True), atol=1e-6)
    env = json.loads((runs / "product-3x_magnitude/seed0/env.json").read_text())
    assert [path.split("/")[-1] for path in env["product_of"]] == ["seed0", "seed1", "seed2"]
    five = controls.members_of(("a", "a", "a"), {"a": [0, 1, 2, 3, 4]})
    assert len(five) == 5 and five[3] == [("a", 3), ("a", 4), ("a", 0)]
    results.main([str(runs.parent)])
    printed = capsys.readouterr().out
    fig3 = printed[printed.index("## Fig. 3") : printed.index("## Fig. 4")]
    assert (
        "| 3 x magnitude | " in fig3
        and "| 3 x phase | missing" in fig3
        and f"`python -m fastMRI.controls {runs}`" in fig3
    )
    assert "### Further runs" not in printed  # the products stand in their own table
    assert (
        "## Fig. 4: WideResNet-20-3" in printed
        and "### None of its own runs is finished" in printed
    )


def test_noise_of_complex_images_has_the_stated_size_and_that_of_rss_is_rician(fastmri_files):
    split = load_fastmri(FastMRIData(dir=str(fastmri_files))).splits["test"]
    noisy = noise.Noisy(split, 10.0)
    images = torch.full((1, 400, 400), 0.5, dtype=torch.complex64)
    images[0, 0, 0] = 2.0  # the largest magnitude: a standard deviation of 0.2
    added = noisy._add_noise(images, [3]) - images
    assert added.real.std().item() == pytest.approx(
        0.2, rel=0.01
    ) and added.imag.std().item() == pytest.approx(0.2, rel=0.01)
    rss = noisy._add_noise(images.abs(), [3])
    assert rss.mean().item() == pytest.approx(rice.mean(0.5 / 0.2, scale=0.2), rel=0.005)
    assert torch.equal(
        noise.Noisy(split, 0.0)[[2]]["inputs"]["image"], split[[2]]["inputs"]["image"]
    )
    together, alone = noisy[[4, 2]]["inputs"], noisy[[2]]["inputs"]
    assert torch.equal(together["image"][1], alone["image"][0]) and torch.equal(
        together["rss"][1], alone["rss"][0]
    )
    assert not torch.equal(
        together["image"][0] - split[[4]]["inputs"]["image"][0], together["image"][1]
    )


def test_without_noise_the_scores_are_those_of_the_run(runs, capsys):
    noise.main([str(runs), "--runs", "inter", "unimodal_phase", "--levels", "0", "25"])
    lines = [line.split(",") for line in (runs / "noise.csv").read_text().splitlines()]
    assert len(lines) == 1 + 2 * 2 and lines[0][3:5] == ["level_percent", "auroc"]
    for line in lines[1:]:
        own = json.loads((runs / line[1] / "seed0/result.json").read_text())["test"]
        assert (float(line[4]) == pytest.approx(own["auroc"], abs=1e-9)) == (line[3] == "0.0")
    assert (
        "| Inter-modality |" in capsys.readouterr().out
        and (runs / "noise.png").stat().st_size > 10_000
    )
    with pytest.raises(SettingsError, match="no finished run is named i2m2"):
        noise.main([str(runs), "--runs", "i2m2"])
    with pytest.raises(SettingsError, match="a level is a percentage"):
        noise.main([str(runs), "--levels", "-1"])


def test_evaluation_prints_every_label_with_an_interval_that_holds_the_estimate(runs, capsys):
    evaluate([str(runs / "inter/seed0")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    own = json.loads((runs / "inter/seed0/result.json").read_text())["test"]
    for label in ("others", "meniscus", "acl", "cartilage"):
        (line,) = [line for line in lines if line and line[0] == label]
        assert float(line[1]) == pytest.approx(own[f"auroc_{label}"], abs=1e-4)
        assert float(line[2]) <= float(line[1]) <= float(line[4])
        assert line[5] == "0" and float(line[7]) == pytest.approx(
            own[f"sensitivity_{label}"], abs=1e-4
        )


def test_boxes_are_turned_the_right_way_up(tmp_path):
    lines = ["file9000001,2,No,10,20,30,40,Meniscus Tear", "file9000001,0,Yes,,,,,artifact"]
    text = "\n".join(["file,slice,study_level,x,y,width,height,label", *lines]) + "\n"
    (tmp_path / "knee.csv").write_text(text)
    boxes = pictures.read_boxes(tmp_path / "knee.csv")
    assert boxes == {
        ("file9000001", 2): [pictures.Box("meniscus", 10, 260, 30, 40)]
    }  # 320 - 20 - 40 rows from the top
    (tmp_path / "bad.csv").write_text(text.replace(",10,", ",ten,"))
    with pytest.raises(DataError, match="bad.csv: line 2: no box can be read"):
        pictures.read_boxes(tmp_path / "bad.csv")


def prepared(folder, magnitude):
    """Four generated volumes whose findings show in the magnitude alone, prepared at 80 x 80
    pixels."""
    raw = folder / "raw"
    make_volumes(raw, 4, strengths=Strengths(magnitude, 0.0, 0.0), slices=(3, 3), workers=1)
    prepare(
        [raw], raw / "knee.csv", raw / "knee_file_list.csv", folder, Rules(average=4), workers=1
    )
    return folder


def test_boxes_hold_what_differs_from_a_healthy_knee(tmp_path, capsys):
    ill, healthy = prepared(tmp_path / "ill", 2.0), prepared(tmp_path / "healthy", 0.0)
    boxes = pictures.read_boxes(ill / "raw/knee.csv")
    inside, outside = [], []
    for volume in (ill / "volumes").glob("*.h5"):
        with h5py.File(volume) as file, h5py.File(healthy / "volumes" / volume.name) as other:
            # The 99.5th percentile, by which each is divided, differs.
            scales = file.attrs["scale"], other.attrs["scale"]
            difference = np.abs(file["image"][:]) * scales[0] / scales[1] - np.abs(
                other["image"][:]
            )
        held = np.zeros(difference.shape, bool)
        for (name, index), found in boxes.items():
            for _, left, top, width, height in (
                found if name == volume.stem and index < len(held) else ()
            ):
                held[
                    index,
                    int(top / 4) : int((top + height) / 4) + 1,
                    int(left / 4) : int((left + width) / 4) + 1,
                ] = True
        inside.append(difference[held])
        outside.append(difference[~held])
    assert np.concatenate(inside).mean() > 10 * np.abs(np.concatenate(outside)).mean()
    pictures.main([str(ill), "--annotations", str(ill / "raw/knee.csv"), "--slices", "2"])
    assert matplotlib.image.imread(ill / "slices.png").shape[0] > 700
    chosen = capsys.readouterr().out.partition("(")[2].split(", ")
    assert len({text.split()[0] for text in chosen}) == 2
    (tmp_path / "knee.csv").write_text(
        (ill / "raw/knee.csv").read_text() + "file9000001,1,No,10,20,30,40,Meniscus Tear\n"
    )
    with pytest.raises(DataError, match="is not the file .* was labelled with"):
        pictures.main([str(ill), "--annotations", str(tmp_path / "knee.csv")])
