"""The tiny tokenizer and the tiny FIBER's pre-training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from i2m2.errors import DataError, SettingsError
from tests.VQA_and_NLVR2.tiny_scenes import hashes
from VQA_and_NLVR2 import pretrain_tiny
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.settings import BackboneSettings
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, make_tiny_tokenizer, tokenize
from VQA_and_NLVR2.synthetic import nlvr2_files as synthetic_nlvr2
from VQA_and_NLVR2.synthetic import pretraining
from VQA_and_NLVR2.synthetic.questions import (
    FAMILY,
    all_texts,
    true_answers,
)
from VQA_and_NLVR2.synthetic.statements import statements


def test_tiny_tokenizer_is_laid_out_like_robertas_and_survives_its_folder(tmp_path):
    make_tiny_tokenizer(["Is there a ring?", "a red ring"]).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    # By hand: <s> <pad> </s> <unk>, then ? a is red ring there, then <mask>.
    assert tokenizer("is THERE a blue ring?")["input_ids"] == [0, 6, 9, 5, 3, 8, 4, 2]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, len(tokenizer)) == (1, 10, 11)


def test_tokenize_pads_masks_counts_what_it_cuts_and_keeps_the_end(tmp_path):
    tokenizer = make_tiny_tokenizer(["a red ring"])  # a 4, red 5, ring 6
    ids, mask, cut = tokenize(tokenizer, ["a ring", "a red ring", "a ring"], 4)
    assert ids.tolist() == [[0, 4, 6, 2], [0, 4, 5, 2], [0, 4, 6, 2]] and cut == 1
    ids, mask, cut = tokenize(tokenizer, ["a ring", "a red ring"], 6)
    assert ids.tolist() == [[0, 4, 6, 2, 1, 1], [0, 4, 5, 6, 2, 1]] and cut == 0
    assert ids.dtype == np.int32 and mask.dtype == bool and (mask == (ids != 1)).all()
    with pytest.raises(DataError, match="text 1 of 2 is empty"):
        tokenize(tokenizer, ["a ring", " "], 6)


def test_tokenizer_that_is_not_there_is_one_line(tmp_path):
    for name, kind, line in (
        (tmp_path, DataError, "no tokenizer that can be loaded"),
        (tmp_path / "nothing", SettingsError, "tokenizer .*no such folder"),
    ):
        with pytest.raises(kind, match=line) as error:
            load_tokenizer(str(name))
        assert "\n" not in str(error.value)


def test_tokenizer_of_the_data_knows_every_word_and_fits_the_tiny_sizes(vqa, nlvr2):
    tokenizer = load_tokenizer(str(vqa / "tokenizer"))
    assert hashes(vqa / "tokenizer") == hashes(nlvr2 / "tokenizer")
    texts = [*all_texts(), *statements(), *synthetic_nlvr2.sentences()[0]]
    sizes = json.loads(pretrain_tiny.SIZES.read_text())
    ids, mask, cut = tokenize(tokenizer, texts, sizes["fiber"]["max_text_len"])
    assert cut == 0 and not (ids == tokenizer.unk_token_id).any()
    assert len(tokenizer) <= sizes["roberta"]["vocab_size"]


def test_pretraining_writes_a_file_of_the_published_layout_that_loads_whole(
    vqa, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretraining, "SCENES", 64)
    monkeypatch.setattr(pretraining, "TESTED", 16)
    arguments = ["--data", str(vqa), "--steps", "2", "--threads", "1", "--out"]
    for name in ("a.ckpt", "b.ckpt"):
        pretrain_tiny.main([*arguments, str(tmp_path / name)])
    a, b = (
        torch.load(tmp_path / name, weights_only=True)["state_dict"]
        for name in ("a.ckpt", "b.ckpt")
    )
    assert a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) for key in a
    )  # the same settings, the same weights
    settings = BackboneSettings(
        checkpoint=str(tmp_path / "a.ckpt"),
        sizes=str(pretrain_tiny.SIZES),
        tokenizer=str(vqa / "tokenizer"),
    )
    backbone = build_backbone(settings)
    assert set(backbone.state_dict()) == set(a) and "missing" not in backbone.name
    assert all(
        (value != 0).all() for key, value in a.items() if "alpha" in key
    )  # the fusion is open
    with pytest.raises(SettingsError, match="exists; remove it"):
        pretrain_tiny.main([*arguments, str(tmp_path / "a.ckpt")])
    with pytest.raises(DataError, match="tokenizer is missing"):
        pretrain_tiny.main(["--data", str(tmp_path), "--out", str(tmp_path / "c.ckpt")])


def test_pretraining_scenes_have_no_habits_and_half_of_the_statements_are_true(vqa):
    tokenizer = load_tokenizer(str(vqa / "tokenizer"))
    rng = np.random.default_rng(0)
    corpus = pretraining.Corpus(tokenizer, 24, rng, scenes=500)
    texts, owner, answer, true = corpus.batch(np.arange(400), rng)
    stated = answer < 0
    assert abs(true[stated].mean() - 0.5) < 0.05
    truths = torch.from_numpy(corpus.truth)[owner[stated], texts[stated] - 2 * len(FAMILY)]
    assert (truths == true[stated].bool()).all()
    assert (
        answer[~stated]
        == torch.from_numpy(true_answers(corpus.scenes))[
            owner[~stated], texts[~stated] % len(FAMILY)
        ]
    ).all()
