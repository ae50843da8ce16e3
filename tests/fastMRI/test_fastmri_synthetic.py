"""Synthetic knees: fastMRI's format, fastMRI+'s lists, and a signal that is where it should be and
nowhere else."""

from __future__ import annotations

import csv
import dataclasses
import functools
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import ks_2samp

from fastMRI.make_synthetic import describe, main, make_volumes
from fastMRI.synthetic.files import FAULTS, annotations, write_faulty
from fastMRI.synthetic.images import crop, make_volume, to_image, to_kspace
from fastMRI.synthetic.plan import LABELS, PLACES, TASKS, WIDTHS, Strengths, plan_volumes
from i2m2.errors import SettingsError

NAMESPACE = {"m": "http://www.ismrm.org/ISMRMRD"}
VOLUMES, SLICES = 7, (2, 3)  # seven widths
ALONE = {
    "magnitude": Strengths(0.3, 0, 0),
    "phase": Strengths(0, 0.9, 0),
    "interaction": Strengths(0, 0, 1),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("knees") / "raw"
    make_volumes(out, VOLUMES, slices=SLICES, workers=1)
    return out


def files(out: Path) -> list[Path]:
    return sorted(out.glob("singlecoil_*/*.h5"), key=lambda path: path.name)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "knee.csv", newline="") as file:
        return list(csv.DictReader(file))


def plans(count: int, strengths: Strengths = Strengths(), slices: tuple[int, int] = (6, 12)):  # noqa: B008
    return plan_volumes(count, 0, strengths, slices)


@functools.cache
def sites(strengths: Strengths) -> list:
    return [site for plan in plans(200, strengths) for site in plan.sites]


def test_files_have_fastmri_keys_types_shapes_and_attributes(made):
    for path in files(made):
        with h5py.File(path) as file:
            assert set(file) == {
                "ismrmrd_header",
                "kspace",
                "reconstruction_esc",
                "reconstruction_rss",
            }
            slices, height, width = file["kspace"].shape
            assert height == 640 and width in WIDTHS and SLICES[0] <= slices <= SLICES[1]
            assert file["kspace"].dtype == np.complex64 and isinstance(
                file["ismrmrd_header"][()], bytes
            )
            for key in ("reconstruction_esc", "reconstruction_rss"):
                assert (
                    file[key].shape == (slices, 320, 320)
                    and file[key].dtype == np.float32
                    and np.isfinite(file[key]).all()
                )
            esc = file["reconstruction_esc"][:].astype(float)
            assert set(file.attrs) == {"acquisition", "max", "norm", "patient_id"}
            assert (
                file.attrs["acquisition"] in ("CORPD_FBK", "CORPDFS_FBK")
                and len(file.attrs["patient_id"]) == 64
            )
            assert file.attrs["max"] == esc.max() and file.attrs["norm"] == pytest.approx(
                np.linalg.norm(esc), rel=1e-9
            )
            assert 1e-5 < np.sqrt((esc**2).mean()) < 1.2e-4
    assert [path.parent.name for path in files(made)] == ["singlecoil_train"] * 5 + [
        "singlecoil_val",
        "singlecoil_train",
    ]


def test_header_gives_the_columns_that_are_not_zero(made):
    masked = 0
    for path in files(made):
        with h5py.File(path) as file:
            root, kspace = ElementTree.fromstring(file["ismrmrd_header"][()]), file["kspace"][:]

        def number(where: str, root=root) -> int:
            return int(
                root.findtext(
                    "/".join(f"m:{tag}" for tag in where.split("/")), namespaces=NAMESPACE
                )
            )

        encoded = [number(f"encoding/encodedSpace/matrixSize/{axis}") for axis in "xyz"]
        assert encoded == [640, kspace.shape[-1], 1]
        assert [number(f"encoding/reconSpace/matrixSize/{axis}") for axis in "xyz"] == [320, 320, 1]
        limits = "encoding/encodingLimits/kspace_encoding_step_1"
        left = encoded[1] // 2 - number(f"{limits}/center")
        right = left + number(f"{limits}/maximum") + 1
        measured = np.flatnonzero((kspace != 0).any((0, 1)))
        assert (measured[0], measured[-1] + 1) == (left, right) and len(measured) == right - left
        masked += left > 0
    assert masked == 2


def test_two_volumes_of_ten_share_a_patient(made):
    patients = Counter(h5py.File(path).attrs["patient_id"] for path in files(made))
    assert sorted(patients.values()) == [1] * 5 + [2]


def test_reconstruction_is_the_cropped_inverse_transform_at_every_width(made):
    widths = set()
    for path in files(made):
        with h5py.File(path) as file:
            kspace, esc = file["kspace"][:], file["reconstruction_esc"][:]
        # Another route: numpy, double precision, the transform's definition in fastMRI.
        image = np.fft.fftshift(
            np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)), norm="ortho"), axes=(1, 2)
        )
        left = (kspace.shape[2] - 320) // 2
        np.testing.assert_allclose(
            np.abs(image[:, 160:480, left : left + 320]), esc, rtol=0, atol=1e-4 * esc.max()
        )
        widths.add(kspace.shape[2])
    assert widths == set(WIDTHS)


@pytest.mark.parametrize("width", [320, 368, 369])
def test_transforms_leave_no_phase_ramp(width):
    point = np.zeros((640, width), np.complex64)
    point[320, width // 2] = 1
    np.testing.assert_allclose(to_kspace(point), 1 / np.sqrt(point.size), atol=1e-6)
    field = np.random.default_rng(0).standard_normal((640, width)).astype(np.complex64)
    assert to_kspace(field).dtype == np.complex64
    np.testing.assert_allclose(to_image(to_kspace(field)), field, atol=1e-5)


def test_phase_is_smooth_over_the_knee_at_an_odd_width():
    plan = dataclasses.replace(plans(4)[3], slices=1, sites=())
    assert plan.width == 369
    image = crop(to_image(make_volume(plan, 0).kspace))[0, 100:220, 100:220]
    pooled = image.reshape(30, 4, 30, 4).mean((1, 3))
    steps = np.angle(pooled[:, 1:] * pooled[:, :-1].conj())
    assert (
        np.abs(np.median(steps)) < 0.06
    )  # one column off would turn 2 pi over 369 columns: 0.068 at every step of 4, on top


def test_single_coil_file_is_the_same_with_and_without_the_coils_and_a_sum_of_them(tmp_path):
    plan = dataclasses.replace(plans(2)[1], slices=1)  # with columns of zeros
    alone, both = make_volume(plan, 0), make_volume(plan, 0, multicoil=True)
    assert plan.acquired < plan.width and both.coils.shape == (1, 8, 640, plan.width)
    np.testing.assert_array_equal(alone.kspace, both.kspace)
    np.testing.assert_array_equal(alone.rss, both.rss)
    rss = np.sqrt((np.abs(crop(to_image(both.coils))) ** 2).sum(1))
    np.testing.assert_allclose(rss, both.rss, atol=1e-5 * rss.max())
    coils = np.moveaxis(both.coils, 1, -1).reshape(-1, 8)
    weights = np.linalg.lstsq(coils, both.kspace.ravel(), rcond=None)[0]
    assert np.abs(coils @ weights - both.kspace.ravel()).max() < 1e-4 * np.abs(both.kspace).max()
    make_volumes(tmp_path / "raw", 2, slices=(1, 1), multicoil=True, workers=1)
    with h5py.File(tmp_path / "raw/multicoil_train/file9000000.h5") as file:
        assert set(file) == {"ismrmrd_header", "kspace", "reconstruction_rss"} and file[
            "kspace"
        ].shape == (1, 8, 640, 368)
        assert file.attrs["max"] == file["reconstruction_rss"][:].max()


def test_lists_have_the_quirks_of_the_real_ones(made):
    found, names = rows(made), [path.stem for path in files(made)]
    assert (made / "knee_file_list.csv").read_text() == "".join(
        f"{name}\n" for name in (*names, "Knee data")
    )
    assert (
        (made / "knee.csv")
        .read_text()
        .startswith("file,slice,study_level,x,y,width,height,label\n")
    )
    studies = [row for row in found if row["study_level"] == "Yes"]
    assert studies and all(
        row["slice"] == "0" and row["label"] == "artifact" and row["x"] == "" for row in studies
    )
    boxes = [row for row in found if row["study_level"] == "No"]
    assert {row["file"] for row in boxes} < set(names) and {row["file"] for row in studies} - {
        row["file"] for row in boxes
    }
    assert any(row["label"] == "Joint Effusion " and row["y"] == "-1" for row in boxes)
    assert any(row["height"] == "0" for row in boxes)
    repeated = [
        key for key, count in Counter(tuple(row.values()) for row in found).items() if count > 1
    ]
    assert repeated and len({key[0] for key in repeated}) == 1
    assert {row["label"] for row in boxes} <= {
        label for labels in LABELS.values() for label in labels
    }
    order = list(dict.fromkeys(row["file"] for row in found))
    assert order != sorted(order)


def test_lists_stay_within_image_and_volume(made):
    slices = {path.stem: len(h5py.File(path)["kspace"]) for path in files(made)}
    for row in (row for row in rows(made) if row["study_level"] == "No"):
        x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
        assert (
            x >= 0
            and x + width <= 320
            and y >= -1
            and y + height <= 320
            and 0 <= int(row["slice"]) < slices[row["file"]]
        )


def test_a_slice_beyond_the_volume_is_annotated_on_request(tmp_path):
    made = make_volumes(tmp_path / "raw", 2, slices=(1, 1), workers=1, row_beyond=True)
    slices = {plan.name: plan.slices for plan in made}
    assert [
        row for row in rows(tmp_path / "raw") if int(row["slice"]) >= slices[row["file"]]
    ] == rows(tmp_path / "raw")[-1:]


def test_boxes_are_where_the_image_changes():
    """In arrays, rows run against y: row = 320 - y - height."""
    made = plans(40, Strengths(1, 0, 0))
    plan, site = next(
        (p, s) for p in made for s in p.sites if s.task == "acl" and s.change > 0.5 and s.first == 0
    )
    plan = dataclasses.replace(plan, sites=(site,), slices=1, acquired=plan.width)
    change = (
        make_volume(plan, 0).esc[0] / make_volume(dataclasses.replace(plan, sites=()), 0).esc[0] - 1
    )
    box = annotations([plan])[0]
    rows, columns = np.nonzero(change > site.change / 3)
    assert (
        abs(rows.min() - (320 - box.y - box.height)) <= 2
        and abs(rows.max() + 1 - (320 - box.y)) <= 2
    )
    assert abs(columns.min() - box.x) <= 2 and abs(columns.max() + 1 - box.x - box.width) <= 2


def test_magnitude_and_phase_change_independently_of_each_other():
    """At native size the phase does not know the magnitude's part, nor the magnitude the phase's,
    noise included."""
    full = plans(9, Strengths(0.3, 0.9, 0), (2, 2))
    chosen = next(
        p.index
        for p in full
        if p.acquired == p.width and any(s.change * s.shift > 0 for s in p.sites)
    )
    images = {}
    for name, strengths in {"none": Strengths(0, 0, 0), **ALONE}.items():
        plan = plans(9, strengths, (2, 2))[chosen]
        volume = make_volume(plan, 0)
        images[name] = crop(to_image(volume.kspace)), volume.rss
    (plain, rss), (bright, bright_rss), (turned, turned_rss) = (
        images["none"],
        images["magnitude"],
        images["phase"],
    )
    scale = np.abs(plain).max()
    assert (
        np.abs(np.abs(bright) - np.abs(plain)).max() > 0.05 * scale
        and np.abs(turned - plain).max() > 0.05 * scale
    )
    np.testing.assert_allclose(np.abs(turned), np.abs(plain), atol=1e-5 * scale)
    np.testing.assert_allclose(
        np.abs(bright * plain.conj()), (bright * plain.conj()).real, atol=1e-5 * scale**2
    )
    np.testing.assert_allclose(turned_rss, rss, atol=1e-5 * scale)
    assert np.abs(bright_rss - rss).max() > 0.05 * scale


def test_strengths_change_nothing_but_the_changes():
    def rest(strengths):
        return [dataclasses.replace(site, change=0.0, shift=0.0) for site in sites(strengths)]

    assert (
        rest(ALONE["magnitude"])
        == rest(ALONE["phase"])
        == rest(ALONE["interaction"])
        == rest(Strengths(0, 0, 0))
    )


@pytest.mark.parametrize("task", TASKS)
def test_neither_margin_knows_the_label_in_the_interaction_alone(task):
    drawn = [site for site in sites(ALONE["interaction"]) if site.task == task]
    finding = np.array([site.finding for site in drawn])
    for of in (
        lambda site: site.change,
        lambda site: site.shift,
        lambda site: site.width,
        lambda site: site.height,
        lambda site: site.x,
        lambda site: site.y,
    ):
        values = np.array([of(site) for site in drawn])
        assert ks_2samp(values[finding], values[~finding]).pvalue > 0.001
    product = np.array([site.change * site.shift for site in drawn])
    assert (product[finding] >= 0).all() and (product[~finding] <= 0).all()
    assert (
        (product[finding] > 0).mean()
        == pytest.approx(0.6, abs=0.08)
        == (product[~finding] < 0).mean()
    )


def test_each_part_alone_shows_in_its_modality_alone():
    for name, of, other in (
        ("magnitude", lambda site: site.change, lambda site: site.shift),
        ("phase", lambda site: site.shift, lambda site: site.change),
    ):
        drawn = sites(ALONE[name])
        assert all(other(site) == 0 for site in drawn) and all(
            of(site) == 0 for site in drawn if not site.finding
        )
        assert 0.6 < np.mean([of(site) > 0 for site in drawn if site.finding]) < 0.9


def test_every_task_has_many_positives_and_findings_come_together():
    made = plans(200)
    positive = np.array(
        [[any(s.finding for s in plan.sites if s.task == task) for task in TASKS] for plan in made]
    )
    share = positive.mean(0)
    assert ((share > 0.4) & (share < 0.8)).all()
    assert (~positive.any(1)).mean() == pytest.approx(1 / 6, abs=0.05)
    assert np.corrcoef(positive.T)[np.triu_indices(4, 1)].min() > 0.05
    for plan in made:
        runs = sorted((s.task, s.first, s.last) for s in plan.sites)
        for task in TASKS:  # one site of every task in every slice
            assert [
                i for t, first, last in runs if t == task for i in range(first, last + 1)
            ] == list(range(plan.slices))
    assert set(PLACES) == set(LABELS) == set(TASKS)
    grades = [{s.label for s in plan.sites if s.task == "acl"} for plan in made]
    assert all(len(labels) == 1 for labels in grades) and len(set.union(*grades)) == 2


def test_same_bytes_whatever_the_number_of_workers_and_made_again_after_a_kill(made, tmp_path):
    again = tmp_path / "raw"
    make_volumes(again, VOLUMES, slices=SLICES, workers=2)
    relative = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert relative == sorted(
        path.relative_to(again) for path in again.rglob("*") if path.is_file()
    )
    assert all((made / path).read_bytes() == (again / path).read_bytes() for path in relative)
    gone, kept = files(again)[0], files(again)[1]
    before, content = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    (gone.parent / f".1.tmp.{gone.name}").write_bytes(content[:100])
    make_volumes(again, VOLUMES, slices=SLICES)
    assert (
        gone.read_bytes() == content
        and kept.stat().st_mtime_ns == before
        and not list(again.glob("*/.*"))
    )


def test_command_says_what_it_wrote(tmp_path, capsys):
    settings = [
        "--volumes",
        "1",
        "--slices",
        "1",
        "1",
        "--seed",
        "3",
        "--interaction",
        "0.5",
        "--row-beyond",
    ]
    main(["--out", str(tmp_path / "raw"), *settings])
    line = describe(1, 3, Strengths(interaction=0.5), (1, 1), row_beyond=True)
    assert "SYNTHETIC" in line and (tmp_path / "raw/SYNTHETIC.txt").read_text() == line + "\n"
    assert capsys.readouterr().out.startswith(line)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--volumes", "0"], "--volumes 0 must be 1"),
        (["--volumes", "2", "--seed", "-1"], "--seed -1"),
        (["--volumes", "2", "--slices", "4", "2"], "--slices 4 2"),
        (["--volumes", "2", "--magnitude", "nan"], "--magnitude nan must be 0..2"),
        (["--volumes", "2", "--interaction", "-1"], "--interaction -1.0"),
        (["--volumes", "2", "--workers", "0"], "--workers 0"),
        ([], "required: --volumes"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(arguments, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        main(["--out", str(tmp_path / "raw"), *arguments])
    assert not (tmp_path / "raw").exists()


def test_a_folder_of_anything_else_is_refused(made, tmp_path):
    with pytest.raises(SettingsError, match=r"\(seed 0, not seed 1; phase 1.4, not phase 0.2\)"):
        make_volumes(made, VOLUMES, 1, Strengths(phase=0.2), slices=SLICES)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not an empty folder"):
        make_volumes(tmp_path, 1)


def test_faulty_files_have_their_fault(tmp_path):
    plan = dataclasses.replace(plans(1)[0], slices=1)
    with pytest.raises(SettingsError, match="fault='late' is unknown"):
        write_faulty(tmp_path / "file.h5", plan, 0, "late")
    for fault in FAULTS:
        path = tmp_path / f"{fault}.h5"
        write_faulty(path, plan, 0, fault)
        if fault == "truncated":
            with pytest.raises(OSError):
                h5py.File(path)
            continue
        with h5py.File(path) as file:
            kind, _, what = fault.partition(" ")
            if kind == "no":
                assert what not in file and what not in file.attrs
            elif kind == "nan":
                assert np.isnan(file[what.removeprefix("in ")][:]).sum() == 1
            elif kind == "height":
                assert file["kspace"].shape[1] == 512
            else:
                error = np.abs(
                    np.abs(crop(to_image(file["kspace"][:]))) - file["reconstruction_esc"][:]
                )
                assert error.max() > 0.5
