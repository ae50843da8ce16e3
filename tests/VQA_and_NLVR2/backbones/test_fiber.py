"""FIBER: masks, sizes, gates, shared prefixes, and what differs in training."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import RobertaConfig, RobertaModel, SwinConfig, SwinModel

from i2m2.errors import SettingsError
from tests.VQA_and_NLVR2.tiny_fiber import ROBERTA, SWIN, TINY, examples, tiny_fiber, vectors
from VQA_and_NLVR2.backbones.base import trim_text
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes, read_sizes
from VQA_and_NLVR2.backbones.fiber_checkpoint import load_entries
from VQA_and_NLVR2.backbones.hub import swin_entries
from VQA_and_NLVR2.backbones.roberta import RobertaSizes
from VQA_and_NLVR2.backbones.swin import SwinSizes
from VQA_and_NLVR2.backbones.windows import relative_position_index, window_mask


def test_window_masks_equal_those_worked_by_hand():
    # 4 x 4 positions, windows of 2, rolled by 1: only the last row and column of windows holds
    # parts of both sides of the image.
    o, x = 0.0, -100.0
    columns = [[o, x, o, x], [x, o, x, o], [o, x, o, x], [x, o, x, o]]
    rows = [[o, o, x, x], [o, o, x, x], [x, x, o, o], [x, x, o, o]]
    both = [[o, x, x, x], [x, o, x, x], [x, x, o, x], [x, x, x, o]]
    assert window_mask(4, 2, 1).tolist() == [[[o] * 4] * 4, columns, rows, both]


def test_rows_of_the_bias_table_equal_those_worked_by_hand():
    assert relative_position_index(2).tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


def test_the_sizes_are_the_published_ones():
    def count(part):
        return sum(p.numel() for p in part.parameters())

    unused = (
        590_592 + 6 * 1536 + 6
    )  # pooler, norms of the cross-attentions, gates of the first six layers
    with torch.device("meta"):
        model = FIBER(FIBERSizes())
        larger = FIBER(FIBERSizes(swin=SwinSizes(image_size=576)))
    assert [count(model.vit_model), count(model.text_transformer)] == [
        99_486_078,
        138_042_636 - unused,
    ]
    assert count(model) - count(model.vit_model) - count(model.text_transformer) == 5_117_952
    assert count(larger.vit_model) == 99_747_774
    assert model.widths == {"image": 768, "text": 768, "fused": 1536}


def test_with_closed_gates_both_streams_are_the_separate_encoders():
    sizes, (images, ids, mask) = TINY, examples(tiny_fiber())
    torch.manual_seed(3)
    swin = SwinModel(
        SwinConfig(
            image_size=64,
            window_size=2,
            embed_dim=8,
            depths=[2, 2, 4, 2],
            num_heads=[1, 2, 4, 8],
            layer_norm_eps=1e-5,
        )
    ).eval()
    config = {name: getattr(ROBERTA, name) for name in ROBERTA.__dataclass_fields__}
    roberta = RobertaModel(RobertaConfig(**config), add_pooling_layer=False).eval()
    for module in (swin, roberta):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model = FIBER(sizes).eval()
    entries = {f"vit_model.{key}": value for key, value in swin_entries(swin.state_dict()).items()}
    for key, value in roberta.state_dict().items():
        entries[f"text_transformer.{key}"] = value
    load_entries(model, entries, "hub")
    with torch.no_grad():
        image_state, text_state = model.encode_image(images)[1], model.encode_text(ids, mask)[1]
        image = swin(images).last_hidden_state
        text = roberta(ids, attention_mask=mask.long()).last_hidden_state[mask]
        torch.testing.assert_close(model.image_tokens(image_state), image, rtol=0, atol=1e-4)
        torch.testing.assert_close(model.text_tokens(text_state)[mask], text, rtol=0, atol=1e-4)
        x, y = model.fused_tokens(image_state, text_state)  # both without their last norm
        last = model.text_transformer.layers[-1].output["LayerNorm"]
        torch.testing.assert_close(model.vit_model.norm(x), image, rtol=0, atol=1e-4)
        torch.testing.assert_close(last(y)[mask], text, rtol=0, atol=1e-4)
    assert image.std() > 0.1 and text.std() > 0.1


def test_open_gates_let_each_stream_see_the_other():
    model = tiny_fiber()
    images, ids, mask = examples(model)
    image, text = model.encode_image(images)[1], model.encode_text(ids, mask)[1]
    fused = model.fuse(image, text)
    turned = torch.tensor([1, 2, 0])
    assert (model.fuse(image, text[turned]) - fused)[
        :, 24:
    ].abs().max() > 1e-3  # the image's half, with another text
    assert (model.fuse(image[turned], text) - fused)[:, :24].abs().max() > 1e-3


def test_shared_prefixes_change_nothing():
    model = tiny_fiber()
    images, ids, mask = examples(model)
    shared_pass = vectors(model, images, ids, mask)
    alone = {"image": model.encode_image(images)[0], "text": model.encode_text(ids, mask)[0]}
    alone["fused"] = model.fuse(
        model.encode_image(images, vector=False)[1], model.encode_text(ids, mask, vector=False)[1]
    )
    assert all(torch.equal(shared_pass[name], alone[name]) for name in alone)


def test_what_is_not_wanted_is_not_computed():
    model = tiny_fiber()
    ran = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    images, ids, mask = examples(model)
    assert model.encode_image(images, vector=False)[0] is None
    assert model.encode_text(ids, mask, vector=False)[0] is None
    late = (
        "vit_model.norm",
        "vit_model.layers.2.blocks.2",
        "vit_model.layers.3",
        "text_transformer.encoder.layer.2",
        "cross_modal",
    )
    assert ran and not [name for name in ran if name.startswith(late)]
    ran.clear()
    model.encode_image(images), model.encode_text(ids, mask)
    assert not [name for name in ran if "i2t" in name or "t2i" in name]
    assert not [name for name in ran if name.startswith("cross_modal") and "_itc" not in name]


def test_rows_of_a_state_equal_the_encoded_rows():
    model = tiny_fiber()
    images, ids, mask = examples(model)
    image, text = model.encode_image(images)[1], model.encode_text(ids, mask)[1]
    # Two questions of one image, one of two images.
    rows, questions = torch.tensor([0, 0, 2, 1]), torch.tensor([2, 1, 0, 0])
    _, image_again = model.encode_image(images[rows])
    _, text_again = model.encode_text(ids[questions], mask[questions])
    again = model.fuse(image_again, text_again)
    torch.testing.assert_close(model.fuse(image[rows], text[questions]), again, rtol=0, atol=1e-6)


def test_trimming_padding_changes_nothing():
    model = tiny_fiber()
    images, ids, mask = examples(model)
    short = trim_text(ids, mask)
    assert [x.shape for x in short] == [(3, 8), (3, 8)] and torch.equal(short[0], ids[:, :8])
    whole, trimmed = vectors(model, images, ids, mask), vectors(model, images, *short)
    for name in whole:
        torch.testing.assert_close(trimmed[name], whole[name], rtol=0, atol=1e-6)
    alone = vectors(model, images[2:], ids[2:, :3], mask[2:, :3])
    torch.testing.assert_close(alone["fused"], whole["fused"][2:], rtol=0, atol=1e-6)


def test_a_text_without_tokens_gives_numbers_and_gradients():
    model = tiny_fiber()
    images, ids, mask = examples(model)
    ids[1], mask[1] = 0, False
    made = vectors(model, images, *trim_text(ids, mask))
    sum(vector.sum() for vector in made.values()).backward()
    assert all(torch.isfinite(vector).all() for vector in made.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_activation_checkpointing_gives_equal_gradients(training):
    gradients = []
    for recompute in (False, True):
        model = tiny_fiber(recompute=recompute).train(training)
        torch.manual_seed(5)
        made = vectors(model, *examples(model))
        sum(vector.square().sum() for vector in made.values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6)
    silent = [name for name, gradient in gradients[0].items() if gradient.abs().sum() == 0]
    assert all(".key.bias" in name for name in silent)


def test_at_the_start_only_the_gates_of_the_fusion_get_a_gradient():
    torch.manual_seed(0)
    model = FIBER(TINY).eval()
    vectors(model, *examples(model))["fused"].sum().backward()
    gates = {name: p.grad for name, p in model.named_parameters() if "alpha_" in name}
    fusion = {
        name: p.grad for name, p in model.named_parameters() if "i2t" in name or "t2i" in name
    }
    assert len(gates) == 8 and all(gradient.abs().item() > 0 for gradient in gates.values())
    assert all(torch.count_nonzero(fusion[name]) == 0 for name in fusion.keys() - gates.keys())


def test_models_of_different_sizes_live_side_by_side():
    first = tiny_fiber()
    before = vectors(first, *examples(first))
    wide = RobertaSizes(**{**ROBERTA.__dict__, "hidden_size": 32})
    swin = SwinSizes(**{**SWIN.__dict__, "image_size": 96})
    other = tiny_fiber(FIBERSizes(swin=swin, roberta=wide, hidden_size=40, fusion_steps=2))
    assert vectors(other, *examples(other))["fused"].shape == (3, 80)
    after = vectors(first, *examples(first))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_training_drops_anything():
    model = tiny_fiber()
    images, ids, mask = examples(model)
    once, again = (vectors(model, images, ids, mask) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    model.train()
    assert all(
        (vectors(model, images, ids, mask)[name] - once[name]).abs().max() > 1e-4
        for name in ("text", "fused")
    )
    rates = [block.rate for block in model.vit_model.blocks]
    assert rates == pytest.approx([0.1 * k / 9 for k in range(10)])


def test_half_precision_stays_close():
    model = tiny_fiber()
    batch = examples(model)
    exact = vectors(model, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = vectors(model, *batch)
    assert all((rough[name].float() - exact[name]).abs().max() < 0.1 for name in exact)


def test_images_of_another_size_are_refused():
    model = tiny_fiber()
    with pytest.raises(
        ValueError, match=r"images are \[3, 3, 96, 96\]; this backbone takes \[B, 3, 64, 64\]"
    ):
        model.encode_image(torch.zeros(3, 3, 96, 96))


@pytest.mark.parametrize(
    "section, changes, message",
    [
        ("swin", {"image_size": 100}, "image_size 100 must be a multiple of 32"),
        ("swin", {"depths": [2, 2, 4]}, "must be 4 positive numbers each"),
        ("swin", {"embed_dim": "16"}, "swin.embed_dim is '16'; it must be of the kind of 128"),
        ("swin", {"patch_size": 2}, "swin.patch_size is 2; only 4 is supported"),
        ("roberta", {"vocab_size": None}, "roberta.vocab_size is None"),
        ("roberta", {"num_attention_heads": 5}, "hidden_size 16 must be divisible by 5 heads"),
        ("fiber", {"num_fuse_block": 7}, "7 fusion steps must be 1 to 6"),
        (
            "fiber",
            {"input_text_embed_size": 768},
            "fiber.input_text_embed_size is 768, but the encoder's is 16",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(tmp_path, section, changes, message):
    config = {
        "swin": {**SWIN.__dict__, "window_size": 99},  # the window is not read
        "roberta": dict(ROBERTA.__dict__),
        "fiber": {"hidden_size": 24, "num_fuse_block": 4, "max_text_len": 12},
    }
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(config))
    assert read_sizes(path) == TINY
    config[section] |= changes
    path.write_text(json.dumps(config))
    with pytest.raises(SettingsError) as error:
        read_sizes(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
