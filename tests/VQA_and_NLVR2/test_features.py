"""Features of a frozen backbone: the backbone's own vectors, refused where they are of something
else, and never half made."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2m2.errors import DataError, SettingsError
from i2m2.training.data import seed_everything
from tests.conftest import ROOT
from tests.VQA_and_NLVR2.tiny_vqa import SCENES, SIZES, extracted, settings
from VQA_and_NLVR2.backbones.base import build_backbone
from VQA_and_NLVR2.backbones.fiber import FIBER, read_sizes
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.extract_features import extract_features
from VQA_and_NLVR2.features import extraction
from VQA_and_NLVR2.features import source_files as feature_files
from VQA_and_NLVR2.features.cache import differences, open_features, read_facts
from VQA_and_NLVR2.features.frozen import Pictures
from VQA_and_NLVR2.inputs.images import evaluation_transform, load_rgb, normalise_images
from VQA_and_NLVR2.make_synthetic import make_synthetic
from VQA_and_NLVR2.vqa_vs.data import plan_of
from VQA_and_NLVR2.vqa_vs.experiment import load


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("vqa") / "data"
    make_synthetic(out, "vqa_vs", SCENES)
    return out


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """Features in parts of 16 images -> (settings, folder)."""
    folder = tmp_path_factory.mktemp("features") / "f"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "VQA_and_NLVR2.extract_features.extract",
            lambda *a, **k: extraction.extract(*a, **k, shard=16),
        )
        config = extracted(data, folder)
    return config, folder


@pytest.fixture
def own_data(data, tmp_path):
    """A copy to damage."""
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(
        "VQA_and_NLVR2.extract_features.extract",
        lambda *a, **k: extraction.extract(*a, **k, shard=16),
    )


def arrays(folder):
    return {
        path.name: np.load(path) for path in folder.glob("*.npy") if path.name != "pictures.npy"
    }


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-6, err_msg=name)


def test_features_are_the_backbones_own_vectors_of_each_example_alone(made):
    config, folder = made
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


def test_parts_and_batches_change_nothing_and_each_distinct_thing_is_stored_once(
    data, made, tmp_path
):
    config = extracted(data, tmp_path / "one", "--features.batch_size", "7", "--workers", "2")
    same(arrays(made[1]), arrays(tmp_path / "one"))
    facts = read_facts(tmp_path / "one")
    questions = json.loads((data / "Training/Training-Ques.json").read_text())
    assert facts["images"] == SCENES == len(arrays(tmp_path / "one")["image.npy"])
    assert facts["texts"] < facts["pairs"] and {q["question"] for q in questions} <= set(
        plan_of(config.data)[0].texts
    )
    assert facts["key"] == read_facts(made[1])["key"]
    assert not (tmp_path / "one/parts").exists() and not list((tmp_path / "one").glob(".tmp*"))


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
    data, made, more, named
):
    config = settings(data, made[1], *more)
    with pytest.raises(DataError, match=f"holds features of something else.*{named} "):
        extract_features(config, again=True)
    with pytest.raises(DataError, match=f"made with other settings: .*{named} "):
        load(config)


def test_features_of_other_weights_tokens_or_data_are_refused(made, own_data, monkeypatch):
    config, folder = made
    monkeypatch.setattr(
        "VQA_and_NLVR2.extract_features.seed_everything", lambda *seed: seed_everything(1)
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


def test_a_difference_is_named_and_a_hash_cut_short():
    assert differences({"a": 1, "w": "0" * 64}, {"a": 1, "w": "1" * 64, "b": 2}) == (
        f"w ({'0' * 12} there, {'1' * 12} now), b (None there, 2 now)"
    )


def test_what_was_broken_off_goes_on_and_ends_the_same(
    data, made, tmp_path, monkeypatch, small_parts
):
    folder, computed = tmp_path / "f", []
    compute = extraction.compute_part

    def stopping(work, k):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(k)
        return compute(work, k)

    monkeypatch.setattr(extraction, "compute_part", stopping)
    config = settings(data, folder)
    with pytest.raises(KeyboardInterrupt):
        extract_features(config)
    (folder / "parts/.99.tmp.00002.npz").write_bytes(b"half of a part")
    with pytest.raises(DataError, match="not finished; the same command goes on"):
        open_features(folder, config.backbone, config.features)
    monkeypatch.setattr(
        extraction, "compute_part", lambda work, k: computed.append(k) or compute(work, k)
    )
    extract_features(config)
    assert computed == [0, 1, 2, 3]
    same(arrays(made[1]), arrays(folder))


def test_a_killed_process_leaves_its_part_to_the_next(data, made, tmp_path, small_parts):
    """It dies in the middle of part 0; before that, others leave the part alone."""
    folder = tmp_path / "f"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            extraction.compute_part = lambda work, k: (os.write(writing, b"%d" % k), time.sleep(60))
            extract_features(settings(data, folder))
        finally:
            os._exit(1)
    assert os.read(reading, 1) == b"0"
    with extraction._claim(extraction._lock(folder, 0)) as mine:
        assert not mine
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    extract_features(settings(data, folder))
    same(arrays(made[1]), arrays(folder))


def test_damaged_features_are_refused(made, tmp_path):
    config, folder = made
    for name, content, message in [
        ("fused.npy", b"nothing", "fused.npy is missing or damaged"),
        ("index.npz", b"nothing", "index.npz is missing or damaged"),
        ("features.json", b"{}", "features.json: cannot be used"),
    ]:
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(settings(config.data.folder, tmp_path / name))
    shutil.copytree(folder, tmp_path / "short")
    np.save(tmp_path / "short/text.npy", np.load(folder / "text.npy")[1:])
    with pytest.raises(DataError, match=r"text.npy is \(.*\), not \("):
        load(settings(config.data.folder, tmp_path / "short"))
    with pytest.raises(
        DataError,
        match=r"no features of the backbone; make them with: python -m VQA_and_NLVR2.extract_features",
    ):
        load(settings(config.data.folder, tmp_path / "nowhere"))


def images_of(data, *rows):
    """Files of some images, and how many questions are about them."""
    plan, paths = plan_of(settings(data, data).data)
    return [paths[row] for row in rows], int(np.isin(plan.pairs[:, 0], rows).sum())


def test_missing_images_are_refused_or_left_out_and_counted(own_data, tmp_path, capsys):
    paths, questions = images_of(own_data, 3, 30)
    pairs = len(plan_of(settings(own_data, own_data).data)[0].pairs)
    for path in paths:
        path.unlink()
    line = f"images: 2 of {SCENES} missing, which {questions} of {pairs} pairs need: {int(paths[0].stem[-12:])}, "
    with pytest.raises(DataError, match=f"{line}.*; get them, or set features.skip_missing"):
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
    with pytest.raises(
        DataError,
        match=f"made without 2 of {SCENES} images .*{questions} pairs; to do without them, set",
    ):
        load(settings(own_data, tmp_path / "f"))


def test_a_corrupt_image_is_named_and_once_mended_only_its_part_is_made_again(
    own_data, made, tmp_path, monkeypatch, small_parts
):
    (path,), questions = images_of(own_data, 20)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(
        DataError,
        match=f"1 of {SCENES} images cannot be used, which {questions} pairs need; first: .*{path.name}: no rea",
    ):
        extracted(own_data, tmp_path / "f")
    assert not read_facts(tmp_path / "f")["complete"]
    path.write_bytes(good)
    computed, compute = [], extraction.compute_part
    monkeypatch.setattr(
        extraction, "compute_part", lambda work, k: computed.append(k) or compute(work, k)
    )
    extracted(own_data, tmp_path / "f")
    assert computed == [1]
    same(arrays(made[1]), arrays(tmp_path / "f"))


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


def test_exchanged_images_alone_are_computed_again(
    own_data, made, tmp_path, monkeypatch, small_parts, capsys
):
    """First two images are black squares, later what they were in the features `made`."""
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
    same(arrays(made[1]), arrays(folder))
    extracted(own_data, folder)
    assert computed == [1] and "already complete" in capsys.readouterr().out


def test_images_that_come_later_are_added(own_data, made, tmp_path, small_parts):
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
    same(arrays(made[1]), arrays(folder))


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


def test_training_refuses_features_of_other_weights_tokenizer_or_data_and_says_what_it_cannot_compare(
    own_data, tmp_path, monkeypatch, capsys
):
    """Files of the same names, but of other content."""
    for name, seed in (("a", 0), ("b", 1)):
        torch.manual_seed(seed)
        (tmp_path / name).mkdir()
        torch.save(
            {"state_dict": FIBER(read_sizes(Path(SIZES))).state_dict()},
            tmp_path / name / "weights.ckpt",
        )

    def of(weights, *more):
        kind = [
            "--backbone.kind",
            "fiber",
            "--backbone.checkpoint",
            str(tmp_path / weights / "weights.ckpt"),
        ]
        return settings(own_data, tmp_path / "f", *kind, *more)

    extract_features(of("a"))
    load(of("a"))
    assert "not at hand" not in capsys.readouterr().out
    with pytest.raises(DataError, match="made of other files than backbone.checkpoint"):
        load(of("b"))
    load(of("nowhere"))
    assert (
        "not at hand, and so not compared with what the features were made of: backbone.checkpoint\n"
        in capsys.readouterr().out
    )
    shutil.copytree(own_data / "tokenizer", tmp_path / "c/tokenizer")
    (tmp_path / "c/tokenizer/vocab.txt").write_text("another")
    with pytest.raises(DataError, match="made of other files than backbone.tokenizer"):
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


def test_views_are_of_training_alone_and_drawn_anew_in_every_epoch(data, made, tmp_path):
    config = extracted(data, tmp_path / "f", "--features.views", "3")
    plain, varied = arrays(made[1]), arrays(tmp_path / "f")
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


def test_a_view_of_an_image_and_of_its_pairs_are_of_the_same_picture(data, made):
    config, _ = made
    _, paths = plan_of(config.data)
    pictures = Pictures(paths, 64)
    once, again = pictures[1, np.arange(4)]["images"], pictures[1, np.array([3, 2])]["images"]
    assert torch.equal(once[[3, 2]], again)
    assert not torch.equal(pictures[2, np.arange(4)]["images"], once)


def test_what_cannot_be_stored_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "VQA_and_NLVR2.backbones.fiber.FIBER.fuse",
        lambda self, image, text: torch.full((len(image.tokens), 128), 1e5),
    )
    with pytest.raises(
        DataError,
        match=r"NaN or infinite \(precision no, dtype float16\); try precision no and dtype float32",
    ):
        extracted(data, tmp_path / "f", "--features.dtype", "float16")


def test_a_tokenizer_of_other_weights_is_refused(data, tmp_path):
    sizes = json.loads((ROOT / "VQA_and_NLVR2/configs/fiber_tiny.json").read_text())
    sizes["roberta"]["vocab_size"] = 20
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    with pytest.raises(
        SettingsError,
        match="makes ids up to .* knows 34; set backbone.tokenizer|knows 20; set backbone.tokenizer",
    ):
        extracted(data, tmp_path / "f", "--backbone.sizes", str(tmp_path / "sizes.json"))
