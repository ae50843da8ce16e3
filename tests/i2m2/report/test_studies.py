"""What is told of runs beside their tables, against numbers worked by hand, and the same through
the command."""

import json
import re

import numpy as np
import pytest

from i2m2.metrics import nll
from i2m2.report.studies import study
from i2m2.results import main
from i2m2.stats.calibration import reliability
from tests.i2m2.conftest import two_class_runs

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
    of_image, of_text = (found["calibration"][name] for name in ("image", "text"))
    assert found["calibration"]["product"]["accuracy"] == of_image["accuracy"] == 0.75
    assert of_image["ece"] == pytest.approx(0.05) and of_text["ece"] == pytest.approx(0.15)
    assert of_image["brier"] == pytest.approx((3 * 2 * 0.2**2 + 2 * 0.8**2) / 4)
    assert of_image["nll"] == pytest.approx(-(3 * np.log(0.8) + np.log(0.2)) / 4)
    assert found["entropy"]["y"] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert found["entropy"]["text"] == pytest.approx(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4)))
    # Nowhere is every expert wrong; every expert is right in examples 0 and 3, any in all four, and
    # the product misses example 1.
    rescue = found["rescue"]
    counts = [rescue[name] for name in ("all_wrong", "all_right", "spoilt", "lost")]
    assert counts == [0, 2, 0, 1] and rescue["rescued_of_all_wrong"] is None
    # 0.8 lies in the twelfth of 15 bins.
    shown = found["reliability"]["image"]
    assert shown.count == [0] * 11 + [4, 0, 0, 0] and shown.accuracy[11] == 0.75


def test_an_expert_is_told_of_by_the_examples_in_which_it_speaks(tmp_path):
    half = TEXT.copy()
    half[:2] = np.log(0.5)
    found = study(predictions(image=IMAGE, text=half, audio=half * 0 - np.log(2)))
    assert found["calibration"]["text"]["accuracy"] == 0.5
    assert sum(found["reliability"]["text"].count) == 2
    assert set(found["calibration"]["audio"].values()) == {None}
    assert "audio" not in found["reliability"] and found["abstaining"] == {"text": 2, "audio": 4}
    save(tmp_path / "own/intra/seed0", "intra", image=IMAGE, text=half)
    main([str(tmp_path)])
    studies = (tmp_path / "own/studies.md").read_text()
    assert studies.count("intra: text 2. It is neither right nor wrong there") == 3


def test_one_expert_has_no_rescues_and_its_diagram_is_the_products():
    found = study(predictions(image=IMAGE))
    assert set(found) == {"calibration", "reliability"}
    of_image, of_product = (found["reliability"][name] for name in ("image", "product"))
    assert of_image.count == of_product.count and of_image.accuracy == of_product.accuracy


def test_the_study_of_a_run_has_product_and_experts_over_all_labels():
    (p,) = two_class_runs((0,), 1.0, labels=["acl", "meniscus"], n=90)
    image = p["log_prob"][::-1]
    found = study(p | {"expert_image": image})
    assert list(found["calibration"]) == list(found["reliability"]) == ["product", "image"]
    by_label = [nll(p["y"][:, k], image[:, k]) for k in range(2)]
    assert found["calibration"]["image"]["nll"] == pytest.approx(np.mean(by_label))
    counts = [reliability(p["y"][:, k], p["log_prob"][:, k]).count for k in range(2)]
    assert found["reliability"]["product"].count == np.sum(counts, axis=0).tolist()


def test_labels_are_averaged_and_share_a_diagram():
    of_one = predictions(image=IMAGE, text=TEXT)
    columns = ("y", "log_prob", "expert_image", "expert_text")
    stacked = {name: np.stack([of_one[name], of_one[name][::-1]], axis=1) for name in columns}
    one, two = study(of_one), study(of_one | stacked | {"labels": np.array(["a", "b"])})
    assert two["entropy"] == pytest.approx(one["entropy"])
    for name, scores in one["calibration"].items():
        assert two["calibration"][name] == pytest.approx(scores)
    twice = [2 * n for n in one["reliability"]["text"].count]
    assert two["reliability"]["text"].count == twice


def save(folder, method, **experts):
    folder.mkdir(parents=True)
    optim = "optim: {epochs: 1, lr: 0.1, name: sgd}"
    (folder / "config.yaml").write_text(f"method: {method}\npreset: paper\n{optim}\n")
    data = {"synthetic": False, "description": "by hand", "fingerprint": "f"}
    (folder / "env.json").write_text(json.dumps({"data": data}))
    for split in ("val", "test"):
        np.savez(folder / f"predictions_{split}.npz", **predictions(**experts))
    (folder / "result.json").write_text(json.dumps({"test": {"accuracy": 0.75}}))
    (folder / "DONE").touch()


def three_runs(tmp_path):
    own = tmp_path / "own"
    save(own / "unimodal_image/seed0", "unimodal_image", image=IMAGE)
    save(own / "inter/seed0", "inter", inter=TEXT)
    save(own / "i2m2/seed0", "i2m2", image=IMAGE, inter=TEXT)
    return own


def test_the_command_writes_every_study(tmp_path, capsys):
    three_runs(tmp_path)
    main([str(tmp_path)])
    text = (tmp_path / "own/studies.md").read_text()
    assert "| i2m2 | 0.562 | " in text  # of y, as above
    assert "## Section 4.6" in text and "| i2m2 | image | 75.0 | 5.0 |" in text
    # Trained separately and multiplied, the parts are what the joint run is here.
    ways = ("| product as it is", "| trained jointly")
    plain, joint = (line for line in text.splitlines() if line.startswith(ways))
    assert plain.partition(" | ")[2] == joint.partition(" | ")[2]
    assert "fitted weights image" in text and "## Table B.6: settings in force" in text
    page = (tmp_path / "report.html").read_text()
    for name in ("Table C.7", "Section 4.6", "Calibration", "Combination", "Table B.6"):
        assert name in page
    # Each run has its own: the interval of its examples alone, its study, and of a joint run the
    # combination of its parts.
    stored = json.loads((tmp_path / "own/i2m2/seed0/statistics.json").read_text())
    studies = {"calibration", "reliability", "entropy", "rescue", "combination"}
    assert set(stored) == {"of", "metrics"} | studies
    of_accuracy = stored["metrics"]["accuracy"]
    assert of_accuracy["values"] == [0.75] and of_accuracy["low"] == 0.0
    assert set(stored["calibration"]) == set(stored["reliability"]) == {"product", "image", "inter"}
    of_inter = (tmp_path / "own/inter/seed0/statistics.json").read_text()
    assert "combination" not in json.loads(of_inter)
    for path in tmp_path.glob("own/*/seed0/predictions_*"):
        path.unlink()
    main([str(tmp_path)])  # as in reported/
    assert (tmp_path / "own/studies.md").read_text() == text


def test_statistics_are_computed_again_when_predictions_of_a_run_or_its_parts_change(tmp_path):
    three_runs(tmp_path)
    main([str(tmp_path)])
    path = tmp_path / "own/i2m2/seed0/statistics.json"
    before, text = path.stat().st_mtime_ns, json.loads(path.read_text())
    main([str(tmp_path)])
    assert path.stat().st_mtime_ns == before
    part = tmp_path / "own/inter/seed0/predictions_test.npz"
    np.savez(part, **predictions(inter=IMAGE))
    main([str(tmp_path)])
    again = json.loads(path.read_text())
    assert again["calibration"] == text["calibration"]
    assert again["combination"]["plain"] != text["combination"]["plain"]


def test_parts_that_cannot_be_combined_leave_the_other_studies(tmp_path):
    own = three_runs(tmp_path)
    other = predictions(inter=TEXT) | {"id": np.arange(4) + 7}
    np.savez(own / "inter/seed0/predictions_val.npz", **other)
    main([str(tmp_path)])
    text = (own / "studies.md").read_text()
    assert "| i2m2 | image | 75.0 | 5.0 |" in text and "trained jointly" not in text
    parts = f"{own}/unimodal_image/seed0, {own}/inter/seed0"
    assert f"not made from {parts}: image and inter predicted other examples" in text
    assert "trained jointly" not in (own / "section_4_6.csv").read_text()
    assert "not made" in (own / "combination.csv").read_text()


def test_parts_that_a_tagged_run_borrows_are_named(tmp_path):
    own = three_runs(tmp_path)
    save(own / "unimodal_image-wide/seed0", "unimodal_image", image=IMAGE)
    save(own / "i2m2-wide/seed0", "i2m2", image=IMAGE, inter=TEXT)
    for name in ("unimodal_image-wide", "i2m2-wide"):
        with (own / name / "seed0/config.yaml").open("a") as file:
            file.write("tag: wide\n")
    main([str(tmp_path)])
    lines = (own / "studies.md").read_text().splitlines()
    plain, wide = (line for line in lines if "fitted weights" in line)
    assert plain.endswith("seeds 1.")
    assert wide.startswith("- i2m2-wide") and wide.endswith("Not trained under its tag: inter.")


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
    disagrees = "its statistics.json does not give the accuracy of its result.json; predict again"
    assert f"| {own}/i2m2/seed0: {disagrees}" in text
    nothing = "has neither predictions of the test split nor a statistics.json that can be read"
    assert f"| {own}/inter/seed0: {nothing}" in text
    damaged = r"not in the studies: .*unimodal_image/seed0/predictions_test.npz is damaged"
    assert re.search(f"warning: {damaged}", capsys.readouterr().err)
    assert "| unimodal_rss | itself | 75.0 |" in text and "| i2m2 | image |" not in text
    assert not (own / "combination.csv").exists() and (own / "calibration.csv").exists()


def test_a_product_worse_than_no_answer_has_no_finite_temperature(tmp_path):
    own = three_runs(tmp_path)
    for run, log_prob in {"unimodal_image": IMAGE, "inter": TEXT}.items():
        wrong = predictions(image=log_prob) | {"y": 1 - Y}
        np.savez(own / f"{run}/seed0/predictions_val.npz", **wrong)
    main([str(tmp_path)])
    stored = json.loads((own / "i2m2/seed0/statistics.json").read_text())
    assert stored["combination"]["temperature"]["temperature"] is None
    assert "| one temperature |" in (own / "studies.md").read_text()


def test_experts_that_rule_out_what_the_others_leave_are_combined(tmp_path):
    own = three_runs(tmp_path)
    sure = np.array([[0.0, -np.inf]] * 4)  # the first class, and never the other
    of_image = predictions(image=IMAGE) | {"log_prob": sure}
    of_inter = predictions(inter=TEXT) | {"log_prob": sure[:, ::-1]}
    for split in ("val", "test"):
        np.savez(own / f"unimodal_image/seed0/predictions_{split}.npz", **of_image)
        np.savez(own / f"inter/seed0/predictions_{split}.npz", **of_inter)
    main([str(tmp_path)])
    assert "| product as it is |" in (own / "studies.md").read_text()
