"""NLVR2 as training reads it: pairs, augmentation, what is left out, bad files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from i2m2.errors import DataError, SettingsError
from tests.VQA_and_NLVR2.tiny_nlvr2 import settings, train
from VQA_and_NLVR2.nlvr2 import data as nlvr2_data
from VQA_and_NLVR2.nlvr2.experiment import load


def test_the_text_row_decodes_no_image_and_the_image_row_gets_no_text(nlvr2_files, monkeypatch):
    splits = load(settings(nlvr2_files, "--data.check_images", "false")).splits
    monkeypatch.setattr(nlvr2_data, "load_rgb", None)
    assert set(splits["train"].select(("text",))[np.array([0, 1])]["inputs"]) == {"text"}
    monkeypatch.undo()
    assert set(splits["train"].select(("image",))[np.array([0, 1])]["inputs"]) == {"image"}


def test_batches_hold_the_left_image_first_and_no_more_text_than_the_longest(nlvr2_files):
    split = load(settings(nlvr2_files)).splits["test"]
    batch = split[np.array([2, 7])]
    assert (
        batch["inputs"]["image"].shape == (2, 2, 3, 64, 64)
        and batch["inputs"]["image"].dtype == torch.uint8
    )
    text = batch["inputs"]["text"]
    assert text["ids"].shape[1] == text["mask"].sum(1).max() < split.text[0].shape[1]
    line = json.loads((nlvr2_files / "test1.json").read_text().splitlines()[7])
    stem = line["identifier"].rpartition("-")[0]
    right = nlvr2_data.load_rgb(nlvr2_files / f"images/test1/{stem}-img1.png")
    assert (
        batch["inputs"]["image"][1, 1] == torch.from_numpy(np.array(right)).permute(2, 0, 1)
    ).all()
    assert split.id[7] == line["identifier"] and split.y[7] == (line["label"] == "True")
    assert split.group[7] == "-".join(line["identifier"].split("-")[:2])
    expected = (batch["inputs"]["image"][0, 1, 2] / 255 - 0.406) / 0.225
    torch.testing.assert_close(split.prepare(batch["inputs"])["image"][0, 1, 2], expected)


def test_augmentation_depends_on_seed_and_epoch_alone_and_only_training_has_it(nlvr2_files):
    def images(split, epoch, positions=(0, 1)):
        split.set_epoch(epoch)
        return split[np.array(positions)]["inputs"]["image"]

    splits, plain = (
        load(settings(nlvr2_files, "--data.augment", value)).splits for value in ("true", "false")
    )
    train, unchanged = splits["train"], plain["train"][np.array([0, 1])]["inputs"]["image"]
    assert torch.equal(
        train[np.array([0, 1])]["inputs"]["image"], unchanged
    )  # before training, as in evaluation
    first = images(train, 0)
    assert torch.equal(first[1], images(train, 0, (5, 1))[1]) and not torch.equal(
        first, images(train, 1)
    )
    assert not torch.equal(first, unchanged) and torch.equal(images(plain["train"], 0), unchanged)
    assert torch.equal(images(splits["test"], 0), images(splits["test"], 1))
    other = load(settings(nlvr2_files, "--seed", "1")).splits["train"]
    assert not torch.equal(first, images(other, 0))


def test_whole_directories_are_held_out_for_validation(own_files):
    lines = [json.loads(line) for line in (own_files / "train.json").read_text().splitlines()]
    lines = [line | {"directory": int(line["identifier"].split("-")[1]) % 3} for line in lines]
    (own_files / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    all_of_it = ("--data.train_size", "null")
    whole = load(settings(own_files, *all_of_it))
    held = load(settings(own_files, *all_of_it, "--data.hold_out", "[0, 2]"))
    assert held.splits["val"].id.tolist() == [
        line["identifier"] for line in lines if line["directory"] != 1
    ]
    assert held.splits["train"].id.tolist() == [
        line["identifier"] for line in lines if line["directory"] == 1
    ]
    assert held.splits["test"].id.tolist() == whole.splits["test"].id.tolist()
    assert held.facts["fingerprint"] != whole.facts["fingerprint"]
    with pytest.raises(SettingsError, match="cannot be held out"):
        load(settings(own_files, "--data.hold_out", "[77]"))
    with pytest.raises(SettingsError, match="hold_out=x .*; it takes a list of integers or null"):
        settings(own_files, "--data.hold_out", "x")


def test_more_training_examples_than_there_are_are_refused(own_files):
    with pytest.raises(SettingsError, match="train_size=1000000 is above the"):
        load(settings(own_files, "--data.train_size", "1000000"))


def test_pairs_without_both_images_are_left_out_and_counted(own_files, capsys):
    pictures = sorted((own_files / "images/test1").glob("*-0-img0.png"))
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:300])
    data = load(settings(own_files))
    stems = {path.name.removesuffix("-img0.png") for path in pictures[:2]}
    lines = [json.loads(line) for line in (own_files / "test1.json").read_text().splitlines()]
    kept = [
        line["identifier"] for line in lines if line["identifier"].rpartition("-")[0] not in stems
    ]
    assert data.splits["test"].id.tolist() == kept and len(kept) < len(lines)
    assert data.facts["sizes"]["test"] == {
        "examples": len(kept),
        "left_out": len(lines) - len(kept),
        "cut": 0,
    }
    said = capsys.readouterr().out
    assert (
        f"test1: {len(kept)} of {len(lines)} examples" in said and "2 photographs missing" in said
    )
    assert (
        f"1 photographs cannot be read and count as missing, first {pictures[1]}: no readable image"
        in said
    )
    assert f"{len(lines) - len(kept)} examples LEFT OUT" in data.facts["description"]
    with pytest.raises(DataError, match="below .*own/images, or set data.incomplete to leave_out"):
        load(settings(own_files, "--data.incomplete", "refuse"))


def test_images_are_checked_once_and_broken_ones_again(own_files, monkeypatch):
    from VQA_and_NLVR2.inputs import checked_images

    picture = next((own_files / "images/dev").glob("*.png"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:300])
    assert load(settings(own_files)).facts["sizes"]["val"]["left_out"] > 0
    seen = []
    original = checked_images.load_rgb
    monkeypatch.setattr(
        checked_images, "load_rgb", lambda path: (seen.append(path), original(path))
    )
    picture.write_bytes(whole)
    assert load(settings(own_files)).facts["sizes"]["val"]["left_out"] == 0
    assert seen == [picture]


def test_an_image_that_was_cut_since_the_check_is_looked_at_again(own_files):
    load(settings(own_files))
    picture = next((own_files / "images/dev").glob("*.png"))
    picture.write_bytes(picture.read_bytes()[:300])
    assert load(settings(own_files)).facts["sizes"]["val"]["left_out"] > 0


def test_names_without_sizes_are_looked_at_again(own_files):
    pictures = sorted((own_files / "images/dev").glob("*.png"))
    pictures[0].write_bytes(pictures[0].read_bytes()[:300])
    names = [path.name for path in (own_files / "images").rglob("*.png")]
    (own_files / "checked_images.json").write_text(json.dumps({"readable": names}))
    assert load(settings(own_files)).facts["sizes"]["val"]["left_out"] > 0


def test_sentences_that_are_cut_are_counted(nlvr2_files, capsys):
    facts = load(settings(nlvr2_files, "--backbone.max_text_length", "8")).facts
    assert facts["sizes"]["test"]["cut"] > 0
    assert (
        f"test: {facts['sizes']['test']['cut']} sentences are longer than 8 tokens and cut"
        in capsys.readouterr().out
    )


def test_published_lists_of_the_subsets_win_over_the_rule(own_files):
    lines = (own_files / "test1.json").read_text().splitlines(keepends=True)
    (own_files / "balanced").mkdir()
    (own_files / "balanced/balanced_test1.json").write_text("".join(lines[:3]))
    test = load(settings(own_files)).splits["test"]
    assert test.columns["balanced"].tolist() == [True] * 3 + [False] * (len(lines) - 3)
    assert test.columns["unbalanced"].any()


def damage_label(folder):
    path = folder / "dev.json"
    path.write_text(path.read_text().replace('"label": "True"', '"label": "yes"', 1))


def damage_folder(folder):
    shutil.rmtree(folder / "images")


def damage_file(folder):
    (folder / "test1.json").unlink()


def damage_sentence(folder):
    path = folder / "train.json"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"sentence": " "}), *rest]))


def exchange_files(folder):
    dev = (folder / "dev.json").read_bytes()
    (folder / "test1.json").replace(folder / "dev.json")
    (folder / "test1.json").write_bytes(dev)


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_label, r"dev.json: line \d+ .*label 'yes' is neither 'True' nor 'False'"),
        (exchange_files, "dev.json: holds examples of test1, .* where those of dev belong"),
        (damage_folder, r"no photograph \*-img0.png"),
        (damage_file, "test1.json is missing; how to get it: .*--data.source synthetic"),
        (damage_sentence, r"train.json: line 1 \(identifier train-0-0-0\): its text is empty"),
    ],
)
def test_bad_files_are_one_line(damage, message, own_files):
    damage(own_files)
    with pytest.raises(DataError, match=message) as error:
        load(settings(own_files))
    assert "\n" not in str(error.value)


def test_an_image_that_breaks_after_the_check_stops_with_its_name(own_files, tmp_path):
    load(settings(own_files))
    for path in (own_files / "images/train").rglob("*.png"):
        path.write_bytes(b"x" * path.stat().st_size)  # of the size that was checked
    with pytest.raises(DataError, match=r"-img\d.png: no readable image"):
        train(own_files, tmp_path, "--method", "unimodal_image")
