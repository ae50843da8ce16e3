"""Features of a frozen backbone: the backbone's own vectors, refused where they are of something
else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from i2m2.errors import DataError
from i2m2.training.data import seed_everything
from tests.VQA_and_NLVR2.tiny_vqa import SCENES, SIZES, extracted, settings
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.fiber import FIBER, read_sizes
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.extract_features import extract_features
from VQA_and_NLVR2.features import source_files as feature_files
from VQA_and_NLVR2.features.frozen import Pictures
from VQA_and_NLVR2.features.plan import differences, read_facts
from VQA_and_NLVR2.inputs.images import evaluation_transform, load_rgb, normalise_images
from VQA_and_NLVR2.make_synthetic import make_synthetic
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


def test_features_are_the_backbones_own_vectors_of_each_example_alone(in_parts):
    config, folder = in_parts
    split = load(config).splits["test"]
    plan, paths = plan_of(config.data)
    seed_everything(0)
    backbone = build_backbone(config.backbone).eval()
    tokenizer = load_tokenizer(backbone.tokenizer)
    rows = np.arange(0, len(split), 29)
    batch = split[rows]["inputs"]
    for place, row in enumerate(rows):
        image_row, text_row = split.rows["image"][row, 0], split.rows["text"][row, 0]
        assert plan.images[image_row] == str(split.group[row])
        picture = normalise_images(
            evaluation_transform(load_rgb(paths[image_row]), backbone.image_size)[None]
        )
        ids, mask, _ = tokenize(tokenizer, [plan.texts[text_row]], backbone.max_text_length)
        with torch.no_grad():
            image, image_state = backbone.encode_image(picture)
            text, text_state = backbone.encode_text(
                torch.from_numpy(ids).long(), torch.from_numpy(mask)
            )
            fused = backbone.fuse(image_state, text_state)
        for kind, alone in {"image": image, "text": text, "fused": fused}.items():
            torch.testing.assert_close(batch[kind][place], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "more, named",
    [
        (["--backbone.image_size", "32"], "image_size"),
        (["--backbone.max_text_length", "5"], "max_text_length"),
        (["--features.dtype", "float16"], "dtype"),
        (["--features.views", "2"], "views"),
        (
            [
                "--backbone.kind",
                "fiber_random",
                "--backbone.checkpoint",
                "null",
                "--features.precision",
                "bf16",
            ],
            "precision",
        ),
    ],
)
def test_features_of_other_settings_are_refused_by_extraction_and_by_training(
    vqa_files, in_parts, more, named
):
    config = settings(vqa_files, in_parts[1], *more)
    with pytest.raises(DataError, match=f"holds features of something else.*{named} "):
        extract_features(config, again=True)
    with pytest.raises(DataError, match=f"made with other settings: .*{named} "):
        load(config)


def test_settings_that_mean_the_same_take_the_same_features(in_parts, tmp_path, capsys):
    data = in_parts[0].data.folder
    folder = shutil.copytree(in_parts[1], tmp_path / "f")
    sized = ["--backbone.image_size", "64"]
    load(settings(data, folder, *sized))  # what null was: the sizes' own
    longer = shutil.copy(SIZES, tmp_path / "copy.json")
    longer.write_text(longer.read_text() + "\n")
    other = [*sized, "--backbone.sizes", str(longer)]
    with pytest.raises(DataError, match=r"backbone.sizes .*; or extract with these once"):
        load(settings(data, folder, *other))
    before = read_facts(folder)
    for _ in range(2):
        extracted(data, folder, *other)
        assert "already complete" in capsys.readouterr().out
        facts = read_facts(folder)
        assert len(facts["others"]) == 1 and facts == before | {"others": facts["others"]}
    load(settings(data, folder))
    load(settings(data, folder, *other))


def test_a_difference_is_named_and_a_hash_cut_short():
    assert differences({"a": 1, "w": "0" * 64}, {"a": 1, "w": "1" * 64, "b": 2}) == (
        f"w ({'0' * 12} there, {'1' * 12} now), b (null there, 2 now)"
    )


def test_an_image_that_cannot_be_reached_has_the_size_of_a_missing_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg", None]
    assert feature_files.picture_bytes(paths).tolist() == [3, -1, -1]


def test_damaged_features_are_refused(in_parts, tmp_path):
    config, folder = in_parts
    for name, content, message in [
        ("fused.npy", b"nothing", "fused.npy is damaged"),
        ("index.npz", b"nothing", "index.npz is damaged"),
        ("features.json", b"{}", "features.json is damaged"),
    ]:
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(settings(config.data.folder, tmp_path / name))
    shutil.copytree(folder, tmp_path / "short")
    np.save(tmp_path / "short/text.npy", np.load(folder / "text.npy")[1:])
    with pytest.raises(DataError, match=r"text.npy is damaged .*expected floating-point numbers"):
        load(settings(config.data.folder, tmp_path / "short"))
    shutil.copytree(folder, tmp_path / "nan")
    np.save(tmp_path / "nan/text.npy", np.load(folder / "text.npy") * np.float16(np.nan))
    split = load(settings(config.data.folder, tmp_path / "nan")).splits["train"]
    with pytest.raises(DataError, match=r"text.npy is damaged .row \d+ holds NaN or infinity"):
        split[[0]]
    line = "no features of the backbone; make them with: python -m VQA_and_NLVR2.extract_features"
    with pytest.raises(DataError, match=line):
        load(settings(config.data.folder, tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shapes": None}, "shapes: expected object, got null"),
        ({"index": 3}, "index: expected str, got int"),
        ({"files": {"a": 1}}, "files.*: expected str, got int"),
        ({"shapes": {}}, "shapes: expected one of image.npy"),
        ({"left_out": "none"}, "left_out: expected object, got str"),
        ({"index": "0" * 64}, "index.npz is damaged .not the arrays that features.json names"),
        ({"pairs": 3}, "pairs: expected integers of shape"),
        ({"images": 1}, "pairs: expected rows of 1 images"),
    ],
)
def test_damaged_facts_are_named_by_their_field(change, message, in_parts, tmp_path):
    config, folder = in_parts
    copy = shutil.copytree(folder, tmp_path / "copy")
    facts = json.loads((copy / "features.json").read_text()) | change
    (copy / "features.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=message) as error:
        load(settings(config.data.folder, copy))
    assert "delete its folder and extract the features again" in str(error.value)


def test_training_refuses_features_of_other_files_and_says_what_it_cannot_compare(
    own_data, tmp_path, monkeypatch, capsys
):
    """Files of the same names, but of other content."""
    for name, seed in (("a", 0), ("b", 1)):
        torch.manual_seed(seed)
        (tmp_path / name).mkdir()
        state = FIBER(read_sizes(Path(SIZES))).state_dict()
        torch.save({"state_dict": state}, tmp_path / name / "weights.ckpt")

    def of(weights, *more):
        checkpoint = str(tmp_path / weights / "weights.ckpt")
        kind = ["--backbone.kind", "fiber", "--backbone.checkpoint", checkpoint]
        return settings(own_data, tmp_path / "f", *kind, *more)

    extract_features(of("a"))
    load(of("a"))
    assert "not at hand" not in capsys.readouterr().out
    with pytest.raises(DataError, match="made of other files than backbone.checkpoint"):
        load(of("b"))
    load(of("nowhere"))
    line = "not at hand, and so not compared with what the features were made of"
    assert f"{line}: backbone.checkpoint\n" in capsys.readouterr().out
    shutil.copytree(own_data / "tokenizer", tmp_path / "c/tokenizer")
    (tmp_path / "c/tokenizer/vocab.txt").write_text("another")
    line = (
        "made of other files than backbone.tokenizer .* if questions, weights or tokens have, give"
    )
    with pytest.raises(DataError, match=line):
        load(of("a", "--backbone.tokenizer", str(tmp_path / "c/tokenizer")))
    make_synthetic(tmp_path / "other", "vqa_vs", SCENES, seed=1)
    with pytest.raises(DataError, match="made of other files than Training/Training-Ques.json"):
        load(of("a", "--data.dir", str(tmp_path / "other")))


def test_a_large_files_identity_sees_all_of_it_in_spread_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "WHOLE", 1000)
    path = tmp_path / "weights"
    content = bytearray(np.random.default_rng(0).bytes(feature_files.BLOCK * 300))
    path.write_bytes(content)
    first = feature_files.identity(path)
    for place in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place : place + 70_000] = bytes(len(changed[place : place + 70_000]))
        path.write_bytes(changed)
        assert feature_files.identity(path) != first
    path.write_bytes(content)
    assert feature_files.identity(path) == first


def test_views_are_of_training_alone_and_drawn_anew_in_every_epoch(vqa_files, in_parts, tmp_path):
    config = extracted(vqa_files, tmp_path / "f", "--features.views", "3")
    plain, varied = arrays(in_parts[1]), arrays(tmp_path / "f")
    same(plain, {name: array for name, array in varied.items() if "views" not in name})
    splits = load(config).splits
    train = splits["train"]
    plan, paths = plan_of(config.data)
    assert varied["image_views.npy"].shape[:2] == (plan.varied_images, 2)
    assert varied["fused_views.npy"].shape[:2] == (plan.varied_pairs, 2)
    assert (
        np.abs(varied["image_views.npy"] - varied["image.npy"][: plan.varied_images, None]).max(
            axis=2
        )
        > 1e-4
    ).mean() > 0.9
    rows = np.arange(len(train))
    epochs = []
    for epoch in (0, 1, 0):
        train.set_epoch(epoch)
        epochs.append(train[rows]["inputs"]["fused"])
        part = train[rows[5:9]]["inputs"]
        assert torch.equal(part["fused"], epochs[-1][5:9])  # however it is cut into batches
        drawn = train.view[rows]
        stored = np.concatenate(
            [varied["fused.npy"][: plan.varied_pairs, None], varied["fused_views.npy"]], axis=1
        )
        np.testing.assert_array_equal(epochs[-1], stored[train.rows["fused"][:, 0], drawn])
        assert np.bincount(drawn, minlength=3).min() > len(rows) / 5
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])
    val = splits["val"]
    before = val[np.arange(len(val))]["inputs"]["fused"]
    val.set_epoch(4)
    assert torch.equal(val[np.arange(len(val))]["inputs"]["fused"], before)


def test_a_view_of_an_image_and_of_its_pairs_are_of_the_same_picture(vqa_files, in_parts):
    config, _ = in_parts
    _, paths = plan_of(config.data)
    pictures = Pictures(paths, 64)
    once, again = pictures[1, np.arange(4)]["images"], pictures[1, np.array([3, 2])]["images"]
    assert torch.equal(once[[3, 2]], again)
    assert not torch.equal(pictures[2, np.arange(4)]["images"], once)
