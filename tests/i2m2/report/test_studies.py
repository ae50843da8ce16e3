"""What is told of runs beside their tables, against numbers worked by hand, and the same through
the command."""

import json
import re

import numpy as np
import pytest

from i2m2.metrics import ece
from i2m2.report.studies import study
from i2m2.results import main
from i2m2.stats.calibration import diagram, ece_of

# Four examples of two classes. Image says 0.8 for class 0, 0, 1, 1, text 0.6 for class 0, 1, 0, 1;
# the label is 0, 1, 1, 1.
Y = np.array([0, 1, 1, 1])
IMAGE = np.log([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]])
TEXT = np.log([[0.6, 0.4], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6]])


def product(*log_probs):
    total = sum(log_probs)
    return total - np.logaddexp(total[:, :1], total[:, 1:])


def predictions(**experts):
    log_prob = product(*experts.values())
    columns = {f"expert_{name}": value for name, value in experts.items()}
    return {"id": np.arange(4), "group": np.arange(4), "y": Y, "log_prob": log_prob, **columns}


def test_a_study_by_hand():
    found = study(predictions(image=IMAGE, text=TEXT))
    # The image decides: product right in examples 0, 2 and 3, as the image is; text is wrong in
    # example 2 alone.
    assert (
        found["calibration"]["product"]["accuracy"]
        == found["calibration"]["image"]["accuracy"]
        == 0.75
    )
    assert found["calibration"]["image"]["ece"] == pytest.approx(0.05)
    assert found["calibration"]["text"]["ece"] == pytest.approx(0.15)
    brier = (3 * 2 * 0.2**2 + 2 * 0.8**2) / 4
    assert found["calibration"]["image"]["brier"] == pytest.approx(brier)
    assert found["calibration"]["image"]["nll"] == pytest.approx(
        -(3 * np.log(0.8) + np.log(0.2)) / 4
    )
    assert found["entropy"]["y"] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert found["entropy"]["text"] == pytest.approx(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4)))
    # Nowhere is every expert wrong; every expert is right in examples 0 and 3, any in all four, and
    # the product misses example 1.
    rescue = found["rescue"]
    assert (rescue["all_wrong"], rescue["all_right"], rescue["spoilt"], rescue["lost"]) == (
        0,
        2,
        0,
        1,
    )
    assert rescue["rescued_of_all_wrong"] is None
    # 0.8 lies in the twelfth of 15 bins.
    assert found["reliability"]["image"]["count"] == [0] * 11 + [4, 0, 0, 0]
    assert found["reliability"]["image"]["accuracy"][11] == 0.75


def test_one_expert_has_no_rescues_and_its_diagram_is_the_products():
    found = study(predictions(image=IMAGE))
    assert set(found) == {"calibration", "reliability"}
    for name in ("count", "accuracy"):
        assert found["reliability"]["image"][name] == found["reliability"]["product"][name]


def test_the_ece_of_a_diagram_is_that_of_its_predictions():
    rng = np.random.default_rng(0)
    log_prob = product(rng.normal(0, 2, (500, 2)))
    y = rng.integers(0, 2, 500)
    shown = diagram(np.exp(log_prob.max(-1)), log_prob.argmax(-1) == y)
    assert ece_of(shown) == pytest.approx(ece(y, log_prob), abs=1e-12)


def test_labels_are_averaged_and_share_a_diagram():
    stacked = {
        name: np.stack([value, value[::-1]], axis=1)
        for name, value in {"image": IMAGE, "text": TEXT}.items()
    }
    p = predictions(image=IMAGE, text=TEXT) | {
        "y": np.stack([Y, Y[::-1]], axis=1),
        "labels": np.array(["a", "b"]),
    }
    p |= {f"expert_{name}": value for name, value in stacked.items()}
    p["log_prob"] = np.stack(
        [product(*(value[:, k] for value in stacked.values())) for k in (0, 1)], axis=1
    )
    one, two = study(predictions(image=IMAGE, text=TEXT)), study(p)
    for name in ("calibration", "entropy"):
        flat = {key: value for key, value in one[name].items()}
        assert two[name] == {key: pytest.approx(value) for key, value in flat.items()}
    assert two["reliability"]["text"]["count"] == [
        2 * n for n in one["reliability"]["text"]["count"]
    ]


def save(folder, method, **experts):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"method: {method}\npreset: paper\noptim: {{epochs: 1, lr: 0.1, name: sgd}}\n"
    )
    (folder / "env.json").write_text(
        json.dumps({"data": {"synthetic": False, "description": "by hand", "fingerprint": "f"}})
    )
    for split in ("val", "test"):
        np.savez(folder / f"predictions_{split}.npz", **predictions(**experts))
    (folder / "result.json").write_text(json.dumps({"test": {"accuracy": 0.75}}))
    (folder / "DONE").touch()


def test_the_command_writes_every_study(tmp_path, capsys):
    save(tmp_path / "own/unimodal_image/seed0", "unimodal_image", image=IMAGE)
    save(tmp_path / "own/inter/seed0", "inter", inter=TEXT)
    save(tmp_path / "own/i2m2/seed0", "i2m2", image=IMAGE, inter=TEXT)
    main([str(tmp_path)])
    text = (tmp_path / "own/studies.md").read_text()
    assert "| i2m2 | 0.562 | " in text  # of y, as above
    assert "## Section 4.6" in text and "| i2m2 | image | 75.0 | 5.0 |" in text
    # Trained separately and multiplied, the parts are what the joint run is here.
    rows = [
        line
        for line in text.splitlines()
        if line.startswith(("| product as it is", "| trained jointly"))
    ]
    assert len(rows) == 2 and rows[0].partition(" | ")[2] == rows[1].partition(" | ")[2]
    assert "fitted weights image" in text and "## Table B.6: settings in force" in text
    page = (tmp_path / "report.html").read_text()
    assert all(
        name in page
        for name in ("Table C.7", "Section 4.6", "Calibration", "Combination", "Table B.6")
    )
    # Each run has its own: the interval of its examples alone, its study, and of a joint run the
    # combination of its parts.
    stored = json.loads((tmp_path / "own/i2m2/seed0/statistics.json").read_text())
    assert set(stored) == {
        "of",
        "metrics",
        "calibration",
        "reliability",
        "entropy",
        "rescue",
        "combination",
    }
    assert (
        stored["metrics"]["accuracy"]["values"] == [0.75]
        and stored["metrics"]["accuracy"]["low"] == 0.0
    )
    assert set(stored["calibration"]) == set(stored["reliability"]) == {"product", "image", "inter"}
    assert "combination" not in json.loads(
        (tmp_path / "own/inter/seed0/statistics.json").read_text()
    )
    for path in tmp_path.glob("own/*/seed0/predictions_*"):
        path.unlink()
    main([str(tmp_path)])  # as in reported/
    assert (tmp_path / "own/studies.md").read_text() == text


def test_statistics_of_a_run_are_computed_again_when_its_predictions_or_those_of_its_parts_change(
    tmp_path,
):
    save(tmp_path / "own/unimodal_image/seed0", "unimodal_image", image=IMAGE)
    save(tmp_path / "own/inter/seed0", "inter", inter=TEXT)
    save(tmp_path / "own/i2m2/seed0", "i2m2", image=IMAGE, inter=TEXT)
    main([str(tmp_path)])
    path = tmp_path / "own/i2m2/seed0/statistics.json"
    before, text = path.stat().st_mtime_ns, json.loads(path.read_text())
    main([str(tmp_path)])
    assert path.stat().st_mtime_ns == before
    part = tmp_path / "own/inter/seed0/predictions_test.npz"
    np.savez(part, **predictions(inter=IMAGE))
    main([str(tmp_path)])
    again = json.loads(path.read_text())
    assert (
        again["calibration"] == text["calibration"]
        and again["combination"]["plain"] != text["combination"]["plain"]
    )


def three_runs(tmp_path):
    save(tmp_path / "own/unimodal_image/seed0", "unimodal_image", image=IMAGE)
    save(tmp_path / "own/inter/seed0", "inter", inter=TEXT)
    save(tmp_path / "own/i2m2/seed0", "i2m2", image=IMAGE, inter=TEXT)
    return tmp_path / "own"


def test_parts_that_cannot_be_combined_leave_the_other_studies(tmp_path):
    own = three_runs(tmp_path)
    other = predictions(inter=TEXT) | {"id": np.arange(4) + 7}
    np.savez(own / "inter/seed0/predictions_val.npz", **other)
    main([str(tmp_path)])
    text = (own / "studies.md").read_text()
    assert "| i2m2 | image | 75.0 | 5.0 |" in text and "trained jointly" not in text
    assert (
        f"not made from {own}/unimodal_image/seed0, {own}/inter/seed0: image and inter predicted other examples"
        in text
    )
    assert (
        not (own / "section_4_6.csv").read_text().count("trained jointly")
        and "not made" in (own / "combination.csv").read_text()
    )


def test_parts_that_a_tagged_run_borrows_are_named(tmp_path):
    own = three_runs(tmp_path)
    save(own / "unimodal_image-wide/seed0", "unimodal_image", image=IMAGE)
    save(own / "i2m2-wide/seed0", "i2m2", image=IMAGE, inter=TEXT)
    for name in ("unimodal_image-wide", "i2m2-wide"):
        with (own / name / "seed0/config.yaml").open("a") as file:
            file.write("tag: wide\n")
    main([str(tmp_path)])
    notes = [
        line for line in (own / "studies.md").read_text().splitlines() if "fitted weights" in line
    ]
    assert len(notes) == 2 and notes[0].endswith("seeds 1.")
    assert notes[1].startswith("- i2m2-wide") and notes[1].endswith(
        "Not trained under its tag: inter."
    )


def test_a_run_whose_result_is_another_than_its_statistics_is_left_out_and_named(tmp_path, capsys):
    own = three_runs(tmp_path)
    main([str(tmp_path)])
    for path in own.glob("*/seed0/predictions_*"):
        path.unlink()
    assert capsys.readouterr().err == ""
    (own / "unimodal_image/seed0/predictions_test.npz").write_bytes(b"PK")
    (own / "i2m2/seed0/result.json").write_text(json.dumps({"test": {"accuracy": 0.5}}))
    (own / "inter/seed0/statistics.json").write_text('{"of": 1}')
    save(own / "unimodal_rss/seed0", "unimodal_rss", rss=IMAGE)
    main([str(tmp_path)])
    text = (own / "studies.md").read_text()
    assert (
        f"| {own}/i2m2/seed0: its statistics.json does not give the accuracy of its result.json; predict again"
        in text
    )
    assert (
        f"| {own}/inter/seed0: has neither predictions of the test split nor a statistics.json that can be read"
        in text
    )
    assert re.search(
        r"warning: not in the studies: .*unimodal_image/seed0/predictions_test.npz is damaged",
        capsys.readouterr().err,
    )
    assert "| unimodal_rss | itself | 75.0 |" in text and "| i2m2 | image |" not in text
    assert not (own / "combination.csv").exists() and (own / "calibration.csv").exists()


def test_experts_that_rule_out_what_the_others_leave_are_combined(tmp_path):
    own = three_runs(tmp_path)
    sure = np.log(
        np.array([[1.0, 0.0]] * 4),
        where=np.array([[True, False]] * 4),
        out=np.full((4, 2), -np.inf),
    )
    for split in ("val", "test"):
        np.savez(
            own / f"unimodal_image/seed0/predictions_{split}.npz",
            **predictions(image=IMAGE) | {"log_prob": sure},
        )
        np.savez(
            own / f"inter/seed0/predictions_{split}.npz",
            **predictions(inter=TEXT) | {"log_prob": sure[:, ::-1]},
        )
    main([str(tmp_path)])
    assert "| product as it is |" in (own / "studies.md").read_text()
