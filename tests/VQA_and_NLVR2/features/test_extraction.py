"""Making features: in parts, gone on with after a kill, with images missing, broken or
exchanged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image

from i2m2.errors import DataError, SettingsError
from i2m2.training.data import seed_everything
from tests.conftest import ROOT
from tests.VQA_and_NLVR2.tiny_vqa import SCENES, extracted, settings
from VQA_and_NLVR2.extract_features import _without_share, extract_features
from VQA_and_NLVR2.features import extraction
from VQA_and_NLVR2.features.cache import open_features
from VQA_and_NLVR2.features.folder import claim, part_lock, refuse_foreign
from VQA_and_NLVR2.features.plan import read_facts
from VQA_and_NLVR2.vqa_vs.data import plan_of
from VQA_and_NLVR2.vqa_vs.experiment import load


def arrays(folder):
    return {
        path.name: np.load(path) for path in folder.glob("*.npy") if path.name != "pictures.npy"
    }


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-6, err_msg=name)


def images_of(data, *rows):
    """Files of some images, and how many questions are about them."""
    plan, paths = plan_of(settings(data, data).data)
    return [paths[row] for row in rows], int(np.isin(plan.pairs[:, 0], rows).sum())


def test_parts_and_batches_change_nothing_and_each_distinct_thing_is_stored_once(
    vqa_files, in_parts, tmp_path
):
    config = extracted(vqa_files, tmp_path / "one", "--features.batch_size", "7", "--workers", "2")
    same(arrays(in_parts[1]), arrays(tmp_path / "one"))
    facts = read_facts(tmp_path / "one")
    questions = json.loads((vqa_files / "Training/Training-Ques.json").read_text())
    assert facts["images"] == SCENES == len(arrays(tmp_path / "one")["image.npy"])
    assert facts["texts"] < facts["pairs"] and {q["question"] for q in questions} <= set(
        plan_of(config.data)[0].texts
    )
    assert facts["key"] == read_facts(in_parts[1])["key"]
    assert not (tmp_path / "one/parts").exists() and not list((tmp_path / "one").glob(".tmp*"))


def test_features_of_other_weights_tokens_or_data_are_refused(in_parts, own_data, monkeypatch):
    config, folder = in_parts
    monkeypatch.setattr(
        "VQA_and_NLVR2.features.extraction.seed_everything", lambda *seed: seed_everything(1)
    )
    with pytest.raises(
        DataError,
        match=r"something else: weights \([0-9a-f]{12} there, [0-9a-f]{12} now\); give another",
    ):
        extract_features(config, again=True)
    monkeypatch.undo()
    questions = own_data / "Val/Val-Ques.json"
    questions.write_text(questions.read_text().replace("color", "shape"))
    with pytest.raises(DataError, match="something else: tokens .*, data "):
        extract_features(settings(own_data, folder), again=True)


def test_what_was_broken_off_goes_on_and_ends_the_same(
    vqa_files, in_parts, tmp_path, monkeypatch, small_parts
):
    folder, computed = tmp_path / "f", []
    compute = extraction.compute_part

    def stopping(work, k):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(k)
        return compute(work, k)

    monkeypatch.setattr(extraction, "compute_part", stopping)
    config = settings(vqa_files, folder)
    with pytest.raises(KeyboardInterrupt):
        extract_features(config)
    (folder / "parts/.99.tmp.00002.npz").write_bytes(b"half of a part")
    with pytest.raises(DataError, match="not finished; the same command resumes it"):
        open_features(folder, config.backbone, config.features)
    monkeypatch.setattr(
        extraction, "compute_part", lambda work, k: computed.append(k) or compute(work, k)
    )
    extract_features(config)
    assert computed == [0, 1, 2, 3]
    same(arrays(in_parts[1]), arrays(folder))


def test_a_folder_of_other_files_is_refused_and_left_as_it_is(vqa_files, tmp_path):
    own = tmp_path / "own"
    (own / "parts").mkdir(parents=True)
    (own / "image.npy").write_text("mine")
    with pytest.raises(
        SettingsError, match="own exists and is neither .*give another --features.d"
    ):
        extracted(vqa_files, own)
    assert sorted(own.iterdir()) == [own / "image.npy", own / "parts"]
    assert (own / "image.npy").read_text() == "mine"


def test_an_extraction_that_was_killed_as_it_began_goes_on(tmp_path):
    for name in (".lock", "index.npz"):
        refuse_foreign(tmp_path)
        (tmp_path / name).touch()
    refuse_foreign(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingsError, match="is neither an empty folder nor one of features"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize("name", ["fused.npy", "readable.npy", "index.npz"])
def test_complete_features_without_one_of_their_files_are_refused(
    vqa_files, in_parts, tmp_path, name
):
    folder = tmp_path / "f"
    shutil.copytree(in_parts[1], folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:100])
    with pytest.raises(DataError, match=f"{name} is damaged .*; delete its folder and extract"):
        extracted(vqa_files, folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing; delete its folder and extract"):
        extracted(vqa_files, folder)


def test_missing_features_are_named_where_some_are_to_be_made_again(own_data, in_parts, tmp_path):
    folder, (paths, _) = tmp_path / "f", images_of(own_data, 20)
    shutil.copytree(in_parts[1], folder)
    Image.new("RGB", (65, 64)).save(paths[0])
    (folder / "text.npy").unlink()
    with pytest.raises(DataError, match="text.npy is missing; delete its folder and extract"):
        extracted(own_data, folder)


def test_a_killed_process_leaves_its_part_to_the_next(vqa_files, in_parts, tmp_path, small_parts):
    """It dies in the middle of part 0; before that, others leave the part alone."""
    folder = tmp_path / "f"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            extraction.compute_part = lambda work, k: (os.write(writing, b"%d" % k), time.sleep(60))
            extract_features(settings(vqa_files, folder))
        finally:
            os._exit(1)
    assert os.read(reading, 1) == b"0"
    with claim(part_lock(folder, 0)) as mine:
        assert not mine
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    extract_features(settings(vqa_files, folder))
    same(arrays(in_parts[1]), arrays(folder))


def test_shares_need_no_locks_and_are_put_together_by_a_process_without_one(
    vqa_files, in_parts, tmp_path, monkeypatch, small_parts
):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    folder, computed, compute = tmp_path / "f", [], extraction.compute_part
    monkeypatch.setattr(
        extraction, "compute_part", lambda work, k: computed.append(k) or compute(work, k)
    )
    config = settings(vqa_files, folder)
    for share in ((1, 3), (2, 3), (0, 3)):
        extract_features(config, share=share)
        assert not read_facts(folder)["complete"]
    assert computed == [1, 2, 0, 3]
    extract_features(config)
    assert computed == [1, 2, 0, 3] and read_facts(folder)["complete"]
    same(arrays(in_parts[1]), arrays(folder))


def test_a_share_is_given_as_a_fraction():
    assert _without_share(["--share", "2/8", "--workers", "1"]) == (["--workers", "1"], (1, 8))
    assert _without_share(["--workers", "1", "--share=8/8"]) == (["--workers", "1"], (7, 8))
    for wrong in ("0/2", "3/2", "1", "x/2", ""):
        with pytest.raises(SettingsError, match="it takes K/N"):
            _without_share(["--share", wrong])


def test_missing_images_are_refused_or_left_out_and_counted(own_data, tmp_path, capsys):
    paths, questions = images_of(own_data, 3, 30)
    pairs = len(plan_of(settings(own_data, own_data).data)[0].pairs)
    for path in paths:
        path.unlink()
    first = int(paths[0].stem[-12:])
    line = f"images: 2 of {SCENES} missing, which {questions} of {pairs} pairs need: {first}, "
    where = r"\(looked for as .*data/train2014/COCO_train2014_ID.jpg or .*, ID in 12 digits\)"
    with pytest.raises(DataError, match=f"{line}.* {where}; get them, or set features.skip_mis"):
        extracted(own_data, tmp_path / "f")
    config = extracted(own_data, tmp_path / "f", "--features.skip_missing", "true")
    assert line in capsys.readouterr().out
    loaded = load(config)
    assert sum(size["without_image"] for size in loaded.facts["sizes"].values()) == questions
    assert (
        len(loaded.splits["val"]) + loaded.facts["sizes"]["val"]["without_image"]
        == loaded.facts["sizes"]["val"]["of"]
    )
    assert not set(np.concatenate([split.group for split in loaded.splits.values()])) & {
        int(path.stem[-12:]) for path in paths
    }
    assert f"{questions} questions LEFT OUT" in loaded.facts["description"]
    line = f"made without 2 of {SCENES} images .*{questions} pairs; to do without them, set"
    with pytest.raises(DataError, match=line):
        load(settings(own_data, tmp_path / "f"))


def test_a_corrupt_image_is_named_and_once_mended_only_its_part_is_made_again(
    own_data, in_parts, tmp_path, monkeypatch, small_parts
):
    (path,), questions = images_of(own_data, 20)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    line = f"1 of {SCENES} images cannot be used, which {questions} pairs need; first: "
    with pytest.raises(DataError, match=f"{line}.*{path.name}: no rea"):
        extracted(own_data, tmp_path / "f")
    assert not read_facts(tmp_path / "f")["complete"]
    path.write_bytes(good)
    computed, compute = [], extraction.compute_part
    monkeypatch.setattr(
        extraction, "compute_part", lambda work, k: computed.append(k) or compute(work, k)
    )
    extracted(own_data, tmp_path / "f")
    assert computed == [1]
    same(arrays(in_parts[1]), arrays(tmp_path / "f"))


def test_all_images_that_cannot_be_used_are_listed(own_data, tmp_path):
    paths, _ = images_of(own_data, 3, 20, 40)
    for path in paths:
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"3 of {SCENES} images cannot be used"):
        extracted(own_data, tmp_path / "f")
    lines = (tmp_path / "f/unreadable.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(int(path.stem[-12:])) for path in paths
    ]


@pytest.mark.parametrize("edited", [b"a note\n\xff", None])
def test_the_report_of_unreadable_images_may_be_edited_or_gone(
    own_data, in_parts, tmp_path, small_parts, edited
):
    """The features say by themselves which images these are."""
    folder, (paths, _) = tmp_path / "f", images_of(own_data, 3, 20)
    shutil.copytree(in_parts[1], folder)
    skipping = ["--features.skip_missing", "true"]
    for path, content in zip(paths, (b"no picture", b"none either"), strict=True):
        path.write_bytes(content)
        extracted(own_data, folder, *skipping)
        report = folder / "unreadable.txt"
        report.write_bytes(edited) if edited else report.unlink()
    Image.new("RGB", (65, 64)).save(paths[1])
    extracted(own_data, folder, *skipping)
    name = int(paths[0].stem[-12:])
    assert report.read_text() == f"{name}: could not be used\n"
    assert read_facts(folder)["left_out"]["images"] == 1


def test_exchanged_images_alone_are_computed_again(
    own_data, in_parts, tmp_path, monkeypatch, small_parts, capsys
):
    """First two images are black squares, later what they were in the features `in_parts`."""
    folder, (paths, _) = tmp_path / "f", images_of(own_data, 20, 21)
    good = [path.read_bytes() for path in paths]
    for path in paths:
        Image.new("RGB", (64, 64)).save(path)
    extracted(own_data, folder)
    for path, content in zip(paths, good, strict=True):
        path.write_bytes(content)
    computed, compute = [], extraction.compute_part
    monkeypatch.setattr(
        extraction, "compute_part", lambda work, k: computed.append(k) or compute(work, k)
    )
    extracted(own_data, folder)
    assert "2 image files are others than before; 1 parts are made again" in capsys.readouterr().out
    assert computed == [1]
    same(arrays(in_parts[1]), arrays(folder))
    extracted(own_data, folder)
    assert computed == [1] and "already complete" in capsys.readouterr().out


def test_images_that_come_later_are_added(own_data, in_parts, tmp_path, small_parts):
    folder, (paths, _) = tmp_path / "f", images_of(own_data, 3, 30)
    good = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(good[1][:100])
    extracted(own_data, folder, "--features.skip_missing", "true")
    with pytest.raises(
        DataError, match="made without 2 of .*; or put good files there and extract again"
    ):
        load(settings(own_data, folder))
    paths[0].write_bytes(good[0])
    with pytest.raises(DataError, match=f"1 of {SCENES} images cannot be used"):
        extracted(own_data, folder)
    paths[1].write_bytes(good[1])
    extracted(own_data, folder)
    assert (
        read_facts(folder)["left_out"]["images"] == 0
        and (folder / "unreadable.txt").read_text() == ""
    )
    same(arrays(in_parts[1]), arrays(folder))


@pytest.mark.parametrize("earlier", [False, True])
def test_runs_know_other_images_as_other_data(own_data, in_parts, tmp_path, small_parts, earlier):
    folder, (paths, _) = tmp_path / "f", images_of(own_data, 3, 20)
    shutil.copytree(in_parts[1], folder)
    if earlier:  # of the images features.json said nothing
        described = json.loads((folder / "features.json").read_text())
        del described["pictures"]
        (folder / "features.json").write_text(json.dumps(described))
    skipping = ["--features.skip_missing", "true"]
    found = [load(extracted(own_data, folder, *skipping)).facts["fingerprint"] for _ in range(2)]
    for content in (paths[1].read_bytes() + b"1", b"none", b"nope"):  # as large, the last two
        paths[0].write_bytes(content)
        found.append(load(extracted(own_data, folder, *skipping)).facts["fingerprint"])
    assert found[0] == found[1] and found[3] == found[4] and len(set(found)) == 3


def test_other_answers_change_the_index_and_no_feature(
    own_data, tmp_path, monkeypatch, small_parts
):
    folder = tmp_path / "f"
    before = load(extracted(own_data, folder)).facts["fingerprint"]
    path = own_data / "Val/Val-Ans.json"
    content = json.loads(path.read_text())
    content[0]["answers"] = [
        {**answer, "answer": "something else"} for answer in content[0]["answers"]
    ]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="made of other files than Val/Val-Ans.json"):
        load(settings(own_data, folder))
    monkeypatch.setattr(extraction, "compute_part", None)  # called, it would raise
    assert load(extracted(own_data, folder)).facts["fingerprint"] != before


def test_what_cannot_be_stored_is_refused(vqa_files, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "VQA_and_NLVR2.backbones.fiber.FIBER.fuse",
        lambda self, image, text: torch.full((len(image.tokens), 128), 1e5),
    )
    line = r"NaN or infinite \(precision no, dtype float16\); try precision no and dtype float32"
    with pytest.raises(DataError, match=line):
        extracted(vqa_files, tmp_path / "f", "--features.dtype", "float16")


def test_a_tokenizer_of_other_weights_is_refused(vqa_files, tmp_path):
    sizes = json.loads((ROOT / "VQA_and_NLVR2/configs/fiber_tiny.json").read_text())
    sizes["roberta"]["vocab_size"] = 20
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    line = "makes ids up to .* knows 34; set backbone.tokenizer|knows 20; set backbone.tokenizer"
    with pytest.raises(SettingsError, match=line):
        extracted(vqa_files, tmp_path / "f", "--backbone.sizes", str(tmp_path / "sizes.json"))
